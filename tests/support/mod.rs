//! Shared code of the tests over real sockets: waiting for a condition, and no longer.

use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use socketify::config::Config;

/// Longer than any wait of a test, on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A flag to wait for.
#[derive(Default)]
pub(crate) struct Flag {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Flag {
    pub(crate) fn set(&self) {
        *self.set.lock() = true;
        self.changed.notify_all();
    }

    pub(crate) fn wait(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut set = self.set.lock();
        while !*set {
            assert!(!self.changed.wait_until(&mut set, deadline).timed_out(), "the flag was not set");
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.set.lock()
    }
}

/// Waits for `condition` to hold.
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The duration of `act`.
pub(crate) fn timed(act: impl FnOnce()) -> Duration {
    let began = Instant::now();
    act();
    began.elapsed()
}

pub(crate) fn with_threads(io_threads: usize) -> Config {
    Config { io_threads, ..Config::default() }
}
