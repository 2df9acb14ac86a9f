//! The stack size of the threads that run user code.
//!
//! Python counts calls and does not check the stack: its recursion limits suit the 8 MiB of a main thread,
//! and Rust gives a thread 2. A handler that recurses too deeply has to get a `RecursionError`, and must not
//! end the process.

use rustix::process::{Resource, getrlimit};

/// Bytes of stack. Measured with the limits as they are by default: up to Python 3.12 what recurses through C (`sorted` with a key
/// that sorts) takes between 2 and 4 MiB, in Python 3.13 between 4 and 8, and the calls that lead there are not in that. Only the
/// pages that are used become memory.
const LEAST: u64 = 16 << 20;
/// A larger limit was not chosen for threads.
const MOST: u64 = 1 << 30;

/// Bytes of stack for a thread that may run user code. A user who has raised `ulimit -s` has raised Python's
/// own limits too: Python gives its threads that much, and so do we.
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
