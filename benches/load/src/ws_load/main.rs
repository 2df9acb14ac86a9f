//! `ws-load`: the load generator of the WebSocket works.
//!
//! One thread on epoll. Its messages are encoded before it begins, and received bytes are compared with the
//! expected ones, without parsing or copying: it should cost less than any server that it measures. The
//! messages of a connection differ, so that it notices a lost, doubled or reordered one.
//!
//! Prints `MEASURING` when the measurement begins and one line of JSON when it ends. Then it keeps its
//! connections until its standard input ends (it does not wait for a terminal), so that its parent can
//! examine the server before the connections close. Exits with 1 as soon as any received byte is wrong.

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
    // If it is too low, opening a socket reports the error.
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
    // Kept until the input ends.
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
