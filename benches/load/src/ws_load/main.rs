//! `ws-load`: the load generator of the WebSocket works.
//!
//! One thread on epoll. What it sends is encoded before it begins, and what it receives is compared with what is due, byte
//! for byte, without being parsed or copied: it should cost less than any server it measures. The messages of a
//! connection are not all alike, so that one that is lost, doubled or out of order does not go unnoticed.
//!
//! Prints `MEASURING` when the figures begin to count and one line of JSON when they no longer do. Then it keeps its
//! connections until its standard input ends (a terminal is not waited for), so that whoever has started it can look
//! at the server before the server sees them go. Ends with 1 as soon as anything received is not what it should be.

mod churn;
mod echo;
mod fan_out;
mod idle;
mod options;
mod report;
mod socket;
mod traffic;

use std::io::{self, IsTerminal as _, Read as _};
use std::process::ExitCode;

use options::{Mode, Options};
use rustix::process::{Resource, getrlimit, setrlimit};

type Outcome<T> = Result<T, String>;

/// Allows as many open files as the system lets a process have.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Whoever needs more is told so when a socket cannot be opened.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Waits for the end of the standard input.
fn wait_for_end_of_input() {
    let mut ignored = [0; 1024];
    while io::stdin().read(&mut ignored).is_ok_and(|count| count > 0) {}
}

fn run() -> Outcome<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    raise_file_limit();
    // What is kept until the input ends.
    let _sockets = match options.mode {
        Mode::Echo => echo::run(&options)?,
        Mode::FanOut => fan_out::run(&options)?,
        Mode::Idle => return idle::run(&options),
        Mode::Churn => return churn::run(&options),
    };
    if !io::stdin().is_terminal() {
        wait_for_end_of_input();
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ws-load: {error}");
            ExitCode::FAILURE
        }
    }
}
