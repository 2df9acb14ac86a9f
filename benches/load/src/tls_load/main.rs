//! `tls-load`: the load generator for connections over TLS, and not for the traffic on them.
//!
//! `handshake` connects, shakes hands, sends one request and closes, so many times; `idle` does the first
//! three and keeps the connections. One thread of tokio. Each connection has a request because a client of
//! TLS 1.3 finishes before the server, and because a real client wants a response.
//!
//! Prints `MEASURING` when the figures begin to count and one line of JSON when they no longer do, as `ws-load` does.

mod connection;
mod handshake;
mod idle;
mod options;

use std::io::{self, Write as _};
use std::process::ExitCode;

use options::{Mode, Options};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::Builder;

type Outcome<T> = Result<T, String>;

/// Prints a line at once.
fn say(line: impl std::fmt::Display) {
    println!("{line}");
    // If nobody reads any more, only the figures are lost.
    let _ = io::stdout().flush();
}

fn run() -> Outcome<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // If it is too low, opening a socket reports the error.
    let _ = setrlimit(Resource::Nofile, limit);
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        match options.mode {
            Mode::Handshake => handshake::run(options).await,
            Mode::Idle => idle::run(options).await,
        }
    })
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tls-load: {error}");
            ExitCode::FAILURE
        }
    }
}
