//! `tls-load`: the load generator of the works that are about connections over TLS, not about what goes through them.
//!
//! `handshake` connects, shakes hands, has one request answered and closes, so many times; `idle` does the first three
//! and keeps the connections. One thread of tokio. A request belongs to each because a client of TLS 1.3 is done before
//! the server is, and because somebody who connects wants something.
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
    // Nobody may be reading any more; the figures are lost, and nothing else.
    let _ = io::stdout().flush();
}

fn run() -> Outcome<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Whoever needs more is told so when a socket cannot be opened.
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
