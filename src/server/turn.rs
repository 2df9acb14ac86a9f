//! The turn: the right to run user code on an I/O thread, held by one thread at a time.
//!
//! Its holder runs what any thread has queued, so the others never wait for the interpreter; they go on with
//! sockets.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::app::{App, Job};
use crate::server::backlog::Backlog;
use crate::server::batch::{self, Withheld};
use crate::server::leading::Leaders;
use crate::sync::{AtomicBool, Mutex, Ordering};

/// Jobs that run before the holder looks at its sockets again.
const BATCH: usize = 64;

#[derive(Default)]
pub(crate) struct Turn {
    queue: Mutex<Backlog>,
    held: AtomicBool,
    /// The output of user code in the present run.
    sent: Mutex<Option<Arc<Withheld>>>,
}

impl Turn {
    /// Queues a job, and wakes one of `leaders` to run it unless somebody does so already.
    pub(crate) fn push(&self, job: Job, leaders: &Leaders) {
        self.queue.lock().push(job);
        if !self.held.load(Ordering::SeqCst) {
            leaders.wake();
        }
    }

    /// Whether there is work and the turn is free.
    pub(crate) fn is_due(&self) -> bool {
        !self.held.load(Ordering::SeqCst) && !self.queue.lock().is_empty()
    }

    /// Whether nothing is queued and nothing runs.
    pub(crate) fn is_idle(&self) -> bool {
        !self.held.load(Ordering::SeqCst) && self.queue.lock().is_empty()
    }

    /// Runs one batch if no other thread holds the turn.
    pub(crate) fn run(&self, app: &dyn App) {
        if self.held.swap(true, Ordering::SeqCst) {
            return;
        }
        // Flushed after the turn's release: sending needs no user code.
        let _batch = batch::open();
        *self.sent.lock() = Some(batch::held());
        let _release = Release(self);
        let mut jobs = std::iter::from_fn(|| self.queue.lock().pop()).take(BATCH);
        // A panic is forbidden, but possible: the hook has reported it, and this thread with its sockets must
        // go on.
        let _ = catch_unwind(AssertUnwindSafe(|| app.run(&mut jobs)));
        // Messages published in the next run come after these, on any thread.
        batch::fan_out();
    }

    /// Sends what the present run holds back, if there is one: it takes long.
    pub(crate) fn hurry(&self) {
        let sent = self.sent.lock().clone();
        if let Some(sent) = sent {
            sent.hurry();
        }
    }

    /// Takes the queued jobs.
    pub(crate) fn take_all(&self) -> Vec<Job> {
        self.queue.lock().take()
    }
}

/// Releases the turn in every case.
struct Release<'a>(&'a Turn);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        *self.0.sent.lock() = None;
        self.0.held.store(false, Ordering::SeqCst);
    }
}
