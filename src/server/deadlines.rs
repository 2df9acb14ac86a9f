//! Timeouts of connections: one atomic a connection and one sweeper a server.
//!
//! Setting a deadline is a store, so a request pays nothing for its timers. The sweeper sleeps until the earliest
//! deadline it knows, and is woken only when an earlier one is set; a server without connections has none.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// No deadline.
pub(crate) const NEVER: u64 = u64::MAX;
/// How long a client that was just accepted, or got its response, may take for its next request when the
/// server closes: it does not know of that yet. The response then has `Connection: close`.
pub(crate) const PARTING: Duration = Duration::from_millis(500);
/// Deadlines closer together than this are met in one sweep.
const GRAIN: u64 = 100;

/// The clock and the alarm of one server.
#[derive(Debug)]
pub(crate) struct Deadlines {
    start: Instant,
    /// The time of the sweeper's next look.
    planned: AtomicU64,
    earlier: Notify,
}

impl Deadlines {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), planned: AtomicU64::new(NEVER), earlier: Notify::new() }
    }

    /// Milliseconds since the server began.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(NEVER)
    }

    /// Sets `deadline` to `after` from now.
    pub(crate) fn arm(&self, deadline: &AtomicU64, after: Duration) {
        let due = self.now().saturating_add(u64::try_from(after.as_millis()).unwrap_or(NEVER)).min(NEVER - 1);
        self.set(deadline, due);
    }

    /// Sets `deadline` to `due`, in milliseconds since the server began.
    pub(crate) fn set(&self, deadline: &AtomicU64, due: u64) {
        deadline.store(due, Ordering::SeqCst);
        // SeqCst pairs with the sweeper, which plans and then reads the deadlines: one of the two sees the other.
        if due.saturating_add(GRAIN) < self.planned.load(Ordering::SeqCst) {
            self.earlier.notify_one();
        }
    }

    pub(crate) fn is_due(&self, deadline: &AtomicU64) -> bool {
        deadline.load(Ordering::Relaxed) <= self.now()
    }

    /// Sleeps until `next` or until an earlier deadline is set.
    pub(crate) async fn wait(&self, next: u64) {
        self.planned.store(next, Ordering::SeqCst);
        if next == NEVER {
            self.earlier.notified().await;
            return;
        }
        let pause = Duration::from_millis(next.saturating_sub(self.now()).max(GRAIN));
        let _ = tokio::time::timeout(pause, self.earlier.notified()).await;
    }

    /// The sweeper is about to look: deadlines set from now on are for its next plan.
    pub(crate) fn begin_sweep(&self) {
        self.planned.store(NEVER, Ordering::SeqCst);
    }
}
