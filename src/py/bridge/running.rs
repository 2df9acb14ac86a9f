//! Posted jobs run here: on the loop's thread, which polls before it blocks, and in the turn. The output of
//! user code is held back meanwhile, and flushed before the delay matters.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::app::{Job, Lane};
use crate::py::asgi;
use crate::py::bridge::PyApp;
use crate::py::calling::{call, report};
use crate::py::listeners::Listeners;
use crate::py::wsgi;
use crate::server::{Batch, Exchange, flush_batch, is_batch_pending, open_batch, set_batch_prompt};

/// Requests and events that run in one iteration of the loop before its other sources.
const BATCH: usize = 64;
/// How long output may wait for later jobs.
const LATE: Duration = Duration::from_millis(1);

/// The application whose user code a thread runs, by address.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    app: usize,
    lane: Lane,
}

thread_local! {
    /// The place of the user code on this thread; on a loop's thread also between two of our calls.
    static PLACE: Cell<Option<Place>> = const { Cell::new(None) };
    /// The output of this thread's loop in its iteration.
    static LOOP_BATCH: RefCell<Option<Batch>> = const { RefCell::new(None) };
}

impl PyApp {
    pub(super) fn queue(&self, job: Job) {
        if self.is_abandoned() {
            std::mem::forget(job);
            return;
        }
        self.queue.lock().push(job);
        self.wake();
    }

    pub(super) fn wake(&self) {
        if !self.is_abandoned() && self.sleeping.swap(false, Ordering::SeqCst) {
            // A full pipe means that a wake-up is already on its way.
            let _ = (&self.wake_write).write(&[1]);
        }
    }

    /// The I/O threads that have not ended, as Python numbers them.
    pub(crate) fn threads(&self) -> Vec<u64> {
        self.threads.lock().clone()
    }

    /// The descriptor to watch for wake-ups.
    pub(crate) fn wake_descriptor(&self) -> i32 {
        self.wake_read.as_raw_fd()
    }

    /// Empties the wake-up pipe.
    pub(crate) fn clear_wake(&self) {
        if self.is_abandoned() {
            return;
        }
        let mut bytes = [0; 64];
        while matches!((&self.wake_read).read(&mut bytes), Ok(count) if count == bytes.len()) {}
    }

    fn here(&self, lane: Lane) -> Place {
        Place { app: std::ptr::from_ref(self).addr(), lane }
    }

    /// The lane whose user code runs on this thread, if it is this application's: its jobs may run now.
    pub(crate) fn current_lane(&self) -> Option<Lane> {
        PLACE.get().filter(|place| *place == self.here(place.lane)).map(|place| place.lane)
    }

    /// Runs the posted jobs; true if there were any.
    pub(crate) fn poll(&self, py: Python<'_>) -> bool {
        if self.is_abandoned() {
            return true;
        }
        PLACE.set(Some(self.here(Lane::Loop)));
        self.turn.fetch_add(1, Ordering::Relaxed);
        self.send_kept_heads(false);
        self.flush_sent(py);
        LOOP_BATCH.with_borrow_mut(|batch| {
            batch.get_or_insert_with(open_batch);
        });
        set_batch_prompt(false);
        let mut ran = false;
        let mut since = Instant::now();
        for _ in 0..BATCH {
            let next = self.queue.lock().pop();
            let Some(job) = next else {
                if self.drained.swap(false, Ordering::SeqCst) {
                    ran = true;
                    if let Err(error) = call(self.hooks.drained.bind(py), []) {
                        report(py, error, Some(self.application.bind(py)));
                    }
                }
                break;
            };
            if ran {
                flush_if_late(py, &mut since);
            }
            ran = true;
            self.run_job(py, job, Lane::Loop);
            if self.is_abandoned() {
                return true;
            }
        }
        self.flush_sent(py);
        // A loop that does not poll before it sleeps would not be woken for held-back output.
        set_batch_prompt(self.has_flusher.load(Ordering::Relaxed));
        ran
    }

    /// Announces that the loop will block. False if there is work, and it must not block.
    pub(crate) fn arm(&self, py: Python<'_>) -> bool {
        if self.is_abandoned() {
            return false;
        }
        self.send_kept_heads(true);
        self.flush_sent(py);
        self.sleeping.store(true, Ordering::SeqCst);
        if self.queue.lock().is_empty() && !self.drained.load(Ordering::SeqCst) {
            return true;
        }
        self.sleeping.store(false, Ordering::SeqCst);
        false
    }

    /// The loop is awake.
    pub(crate) fn disarm(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }

    /// On the loop's thread: holds the output until this iteration of the loop ends, so that it leaves in one
    /// piece.
    pub(crate) fn cork(&self, py: Python<'_>, exchange: &Arc<Exchange>) {
        if self.current_lane() == Some(Lane::Loop) && exchange.cork() {
            self.corked.lock().push(Arc::clone(exchange));
            self.flush_soon(py);
        }
    }

    /// The number of the loop's turn.
    pub(crate) fn turn_of_loop(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }

    /// A response has been begun whose head waits for the first piece of its body: until the loop is about to sleep.
    pub(crate) fn keep_head(&self, py: Python<'_>, exchange: &Arc<Exchange>) {
        self.kept.lock().push(Arc::clone(exchange));
        if self.current_lane() == Some(Lane::Loop) {
            self.flush_soon(py);
        } else {
            // Another application's code runs here, or another thread: this one's loop may sleep already.
            self.wake();
        }
    }

    /// Sends the heads that wait: all of them, or those that have waited for long.
    pub(crate) fn send_kept_heads(&self, all: bool) {
        if self.is_abandoned() {
            return;
        }
        let mut kept = std::mem::take(&mut *self.kept.lock());
        if kept.is_empty() {
            return;
        }
        kept.retain(|exchange| !asgi::send_kept_head(exchange, all));
        if !kept.is_empty() {
            self.kept.lock().append(&mut kept);
        }
    }

    /// Schedules a flush on a loop that does not poll before it sleeps. Call it after output was held back.
    pub(crate) fn flush_soon(&self, py: Python<'_>) {
        match self.current_lane() {
            Some(Lane::Loop) if self.has_flusher.load(Ordering::Relaxed) => {
                let flusher = self.flusher.read().as_ref().map(|flusher| flusher.clone_ref(py));
                if let Some(flusher) = flusher
                    && let Err(error) = call(flusher.bind(py), [])
                {
                    report(py, error, Some(flusher.bind(py)));
                }
            }
            // This is the thread of another application's loop, which may not flush the output that ours
            // holds back.
            None if LOOP_BATCH.with_borrow(Option::is_some) && is_batch_pending() => py.detach(flush_batch),
            _ => {}
        }
    }

    /// Sends the output that this iteration of the loop has held back.
    pub(crate) fn flush_sent(&self, py: Python<'_>) {
        if self.is_abandoned() {
            return;
        }
        let corked = std::mem::take(&mut *self.corked.lock());
        for exchange in corked {
            exchange.uncork();
        }
        if is_batch_pending() {
            py.detach(flush_batch);
        }
    }

    /// The loop has stopped: later output of its thread is not held back.
    pub(crate) fn leave_loop(&self, py: Python<'_>) {
        self.flush_sent(py);
        if self.is_abandoned() {
            std::mem::forget(LOOP_BATCH.take());
        }
        drop(LOOP_BATCH.take());
        set_batch_prompt(false);
        PLACE.set(None);
    }

    /// Runs the remaining jobs after the threads have ended, so that nothing waits for ever. `more` returns
    /// the jobs that they queue for the turn.
    pub(crate) fn finish(&self, py: Python<'_>, mut jobs: Vec<Job>, more: impl Fn() -> Vec<Job>) {
        loop {
            self.run_jobs(py, &mut jobs.into_iter());
            let mut ran = false;
            // A process forked in here has nothing more to run.
            while !self.is_abandoned() && self.poll(py) {
                ran = true;
            }
            jobs = more();
            if jobs.is_empty() && !ran {
                break;
            }
        }
        self.leave_loop(py);
    }

    pub(super) fn run_jobs(&self, py: Python<'_>, jobs: &mut dyn Iterator<Item = Job>) {
        let before = PLACE.replace(Some(self.here(Lane::Turn)));
        let mut since = Instant::now();
        for job in jobs {
            self.run_job(py, job, Lane::Turn);
            // Most forks have been noticed at their call; a call on the loop ends with it.
            self.end_child(py, None);
            flush_if_late(py, &mut since);
        }
        PLACE.set(before);
    }

    fn run_job(&self, py: Python<'_>, job: Job, lane: Lane) {
        self.sweep_handlers();
        match job {
            Job::Request(exchange) => {
                guarded(&exchange, || self.serve(py, &exchange));
                if lane == Lane::Turn {
                    exchange.uncork();
                }
            }
            Job::Signal(exchange, signal) => {
                guarded(&exchange, || {
                    if let Some(waits) = asgi::Waits::of(&exchange) {
                        waits.deliver(py, &exchange, signal);
                    } else if wsgi::Waits::existing(&exchange).is_some() {
                        self.gather_wsgi(py, &exchange);
                    } else {
                        Listeners::deliver(py, self, &exchange, signal, lane);
                    }
                });
                exchange.end_work();
            }
            // Dropped with the job; then the handshake goes on.
            Job::ServerName(asked) => self.ask_server_name(py, &asked),
            Job::Note(note) => {
                let text = PyString::new(py, note.text());
                let told = self.scope(py).and_then(|_scope| call(self.hooks.note.bind(py), [text.as_any()]));
                match told.and_then(|reads| reads.extract()) {
                    Ok(reads) => self.readers.are_there(reads),
                    Err(error) => report(py, error, Some(self.application.bind(py))),
                }
            }
            Job::Socket(socket) => {
                if let Some(accepted) = asgi::Accepted::of(&socket) {
                    accepted.hear(py, &socket);
                    return;
                }
                // The hook has reported it; the client gets the code for a fault of the server (RFC 6455
                // 7.4.1).
                let converse = || self.converse(py, &socket, lane);
                if catch_unwind(AssertUnwindSafe(converse)).is_err() {
                    socket.end(1011, None);
                    // The call that did not return would have delivered the rest.
                    let _ = catch_unwind(AssertUnwindSafe(converse));
                }
            }
        }
    }
}

/// Sends the older output of a batch of fast callbacks; a burst still leaves in one piece.
fn flush_if_late(py: Python<'_>, since: &mut Instant) {
    if since.elapsed() > LATE {
        if is_batch_pending() {
            py.detach(flush_batch);
        }
        *since = Instant::now();
    }
}

/// Keeps a panic from Python and from the thread: the hook has reported it, and the client gets a 500.
pub(crate) fn guarded(exchange: &Exchange, act: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(act)).is_err() && !exchange.abort_if_started() {
        exchange.reset_head();
        let _ = exchange.set_status(500);
        exchange.end(b"Internal Error", false);
    }
}
