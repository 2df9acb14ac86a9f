//! How much stack the threads have that run user code.
//!
//! Python counts calls and does not look at the stack: its limits on recursion are made for the 8 MiB that a main thread has, and
//! Rust gives a thread 2. A handler that goes too deep is to get a `RecursionError`, and not to end the process.

use rustix::process::{Resource, getrlimit};

/// Bytes of stack. Measured with the limits as they are by default: up to Python 3.12 what recurses through C (`sorted` with a key
/// that sorts) takes between 2 and 4 MiB, in Python 3.13 between 4 and 8, and the calls that lead there are not in that. Only the
/// pages that are used become memory.
const LEAST: u64 = 16 << 20;
/// A limit beyond this is none that somebody chose for threads.
const MOST: u64 = 1 << 30;

/// Bytes of stack for a thread that may run user code. Who has raised `ulimit -s` has raised Python's own limits too: Python gives
/// that much to the threads that it makes, and so do we.
pub fn stack_size() -> usize {
    let chosen = getrlimit(Resource::Stack).current.filter(|&limit| limit <= MOST);
    usize::try_from(chosen.unwrap_or_default().max(LEAST)).unwrap_or(2 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_never_has_less_than_python_needs() {
        assert!(stack_size() >= 16 << 20);
    }
}
