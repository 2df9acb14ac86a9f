//! Corking: what is sent to sockets while a batch is open on this thread leaves when it closes, each socket's share in one
//! system call.
//!
//! The turn opens one around the user code it runs, the event loop one around each of its turns. A batch delays a socket,
//! never another: whoever sends to the same socket from elsewhere flushes it at once, or at the end of a batch of its own.
//! And it delays it by little: between two jobs what has been held for a millisecond is sent, and a job that takes longer
//! has its batch flushed from outside.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

use crate::server::connection::{Connection, State};

/// No batch holds the connection.
pub(crate) const NONE: u32 = 0;

/// What the batch of one thread holds back.
pub(crate) struct Held {
    /// Names the thread in the connections that it has marked.
    token: u32,
    marked: Mutex<Vec<Arc<Connection>>>,
}

impl Held {
    /// Sends it.
    pub(crate) fn flush(&self) {
        let mut marked = std::mem::take(&mut *self.marked.lock());
        for connection in marked.drain(..) {
            connection.leave_batch(self.token);
        }
        let mut next = self.marked.lock();
        if next.is_empty() {
            // The room is kept for the next batch.
            *next = marked;
        }
    }

    fn is_empty(&self) -> bool {
        self.marked.lock().is_empty()
    }
}

struct Batches {
    held: Arc<Held>,
    /// How many are open, one within the other.
    depth: Cell<u32>,
}

thread_local! {
    static BATCHES: Batches = {
        static TOKENS: AtomicU32 = AtomicU32::new(NONE + 1);
        let held = Held { token: TOKENS.fetch_add(1, Ordering::Relaxed), marked: Mutex::default() };
        Batches { held: Arc::new(held), depth: Cell::new(0) }
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
                batches.held.flush();
            }
        });
    }
}

/// What the batch of this thread holds back, for others to flush.
pub(crate) fn held() -> Arc<Held> {
    BATCHES.with(|batches| Arc::clone(&batches.held))
}

/// Whether something waits for the batch of this thread to end.
pub fn is_pending() -> bool {
    BATCHES.with(|batches| !batches.held.is_empty())
}

/// Sends what was held back on this thread; a batch that is open stays open.
pub fn flush() {
    BATCHES.with(|batches| batches.held.flush());
}

/// Has `connection` flushed at the end of this thread's batch. False when there is none: flush it now.
pub(crate) fn mark(connection: &Arc<Connection>, state: &mut State) -> bool {
    BATCHES.with(|batches| {
        if batches.depth.get() == 0 {
            return false;
        }
        if state.batch != batches.held.token {
            state.batch = batches.held.token;
            batches.held.marked.lock().push(Arc::clone(connection));
        }
        true
    })
}
