//! Corking: messages to sockets while a batch is open on this thread leave when it closes, each socket's
//! share in one system call.
//!
//! The turn opens one around the user code that it runs, the event loop one around each of its iterations. A
//! batch delays a socket, never another: a thread that sends to the same socket flushes it at once, or at the
//! end of a batch of its own. Messages published in a batch wait with it ([`publish`](super::publish)).
//!
//! HTTP/2 tasks that have to write are also woken when the batch closes: once for all its output, and without
//! a system call if the same thread goes on to drive them.
//!
//! And it delays it by little: between two jobs output that is a millisecond old is sent, and another thread
//! flushes the batch of a longer job.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::task::Waker;

use crate::server::connection::{Connection, Locked};
use crate::server::output::NO_BATCH;
use crate::server::publish::Pending;
use crate::sync::{Mutex, Ordering, thread_local};

/// The output that the batch of one thread holds back.
pub(crate) struct Withheld {
    /// Identifies the thread in the connections that it has marked.
    token: u32,
    marked: Mutex<Vec<Arc<Connection>>>,
    published: Pending,
    /// Tasks to be woken.
    wakers: Mutex<Vec<Waker>>,
}

impl Withheld {
    /// Sends it. For the thread of the batch.
    pub(crate) fn flush(&self) {
        self.published.fan_out();
        self.flush_marked();
        self.wake();
    }

    /// Sends it, from another thread.
    pub(crate) fn hurry(&self) {
        self.published.queue();
        self.flush_marked();
        self.wake();
    }

    fn wake(&self) {
        let wakers = std::mem::take(&mut *self.wakers.lock());
        wakers.into_iter().for_each(Waker::wake);
    }

    fn flush_marked(&self) {
        let mut marked = std::mem::take(&mut *self.marked.lock());
        for connection in marked.drain(..) {
            connection.leave_batch(self.token);
        }
        let mut next = self.marked.lock();
        if next.is_empty() {
            // The memory is kept for the next batch.
            *next = marked;
        }
    }

    fn is_empty(&self) -> bool {
        self.published.is_empty() && self.marked.lock().is_empty() && self.wakers.lock().is_empty()
    }
}

struct Batches {
    held: Arc<Withheld>,
    /// The number of nested open ones.
    depth: Cell<u32>,
    /// This thread drives sockets after its batch, and wakes their tasks then.
    leads: Cell<bool>,
    /// Nothing reports the end of the batch: see [`set_prompt`].
    prompt: Cell<bool>,
}

thread_local! {
    static BATCHES: Batches = {
        static TOKENS: AtomicU32 = AtomicU32::new(NO_BATCH + 1);
        let held = Withheld {
            token: TOKENS.fetch_add(1, Ordering::Relaxed),
            marked: Mutex::default(),
            published: Pending::default(),
            wakers: Mutex::default(),
        };
        Batches { held: Arc::new(held), depth: Cell::new(0), leads: Cell::new(false), prompt: Cell::new(false) }
    };
}

/// Opens a batch on this thread until the guard is dropped. They nest; the outermost flushes.
pub fn open() -> Batch {
    BATCHES.with(|batches| batches.depth.set(batches.depth.get() + 1));
    Batch(PhantomData)
}

/// An open batch; see [`open`]. It belongs to the thread that opened it.
#[derive(Debug)]
pub struct Batch(PhantomData<*const ()>);

impl Drop for Batch {
    fn drop(&mut self) {
        BATCHES.with(|batches| {
            batches.depth.set(batches.depth.get() - 1);
            if batches.depth.get() == 0 {
                batches.held.published.fan_out();
                batches.held.flush_marked();
                if !batches.leads.get() {
                    batches.held.wake();
                }
            }
        });
    }
}

/// The output held back by this thread's batch, for others to flush.
pub(crate) fn held() -> Arc<Withheld> {
    BATCHES.with(|batches| Arc::clone(&batches.held))
}

/// Schedules a task to be woken at the end of this thread's batch. False if there is none: wake it now.
pub(crate) fn wake_later(waker: &Waker) -> bool {
    BATCHES.with(|batches| {
        let later = batches.depth.get() > 0 && !batches.prompt.get();
        if later {
            batches.held.wakers.lock().push(waker.clone());
        }
        later
    })
}

/// Whether tasks are woken at once on this thread, although a batch is open. For the thread of a loop that
/// does not poll before it sleeps: it is notified of messages to sockets, but not of each response that wakes
/// a task.
pub fn set_prompt(prompt: bool) {
    BATCHES.with(|batches| batches.prompt.set(prompt));
}

/// This thread drives sockets from now on, or no more: [`wake_left`] wakes the tasks that a batch has
/// scheduled.
pub(crate) fn set_leading(leads: bool) {
    BATCHES.with(|batches| batches.leads.set(leads));
    wake_left();
}

/// Wakes the tasks that the last batch of this thread has scheduled.
pub(crate) fn wake_left() {
    BATCHES.with(|batches| batches.held.wake());
}

/// Whether output waits for the end of this thread's batch.
pub fn is_pending() -> bool {
    BATCHES.with(|batches| !batches.held.is_empty())
}

/// Sends the output held back on this thread; an open batch stays open.
pub fn flush() {
    BATCHES.with(|batches| batches.held.flush());
}

/// Delivers the messages published in this thread's batch, and writes them.
pub(crate) fn fan_out() {
    BATCHES.with(|batches| batches.held.published.fan_out());
}

/// Calls `act` with the messages published in this thread's batch.
pub(crate) fn with_pending<T>(act: impl FnOnce(&Pending) -> T) -> T {
    BATCHES.with(|batches| act(&batches.held.published))
}

/// The same if a batch is open on this thread.
pub(crate) fn with_open<T>(act: impl FnOnce(&Pending) -> T) -> Option<T> {
    BATCHES.with(|batches| (batches.depth.get() > 0).then(|| act(&batches.held.published)))
}

impl Locked<'_> {
    /// Schedules a flush of the connection at the end of this thread's batch. False if there is none: flush
    /// it now.
    pub(crate) fn join_batch(&mut self) -> bool {
        BATCHES.with(|batches| {
            if batches.depth.get() == 0 {
                return false;
            }
            if self.out.join_batch(batches.held.token) {
                batches.held.marked.lock().push(Arc::clone(self.connection));
            }
            true
        })
    }
}
