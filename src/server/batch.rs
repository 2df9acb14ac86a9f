//! Corking: what is sent to sockets while a batch is open on this thread leaves when it closes, each socket's share in one
//! system call.
//!
//! The turn opens one around the user code it runs, the event loop one around each of its turns. A batch delays a socket,
//! never another: whoever sends to the same socket from elsewhere flushes it at once, or at the end of a batch of its own.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::server::connection::{Connection, State};

/// No batch holds the connection.
pub(crate) const NONE: u32 = 0;

struct Marks {
    /// Names the thread in the connections that it has marked.
    token: u32,
    depth: u32,
    marked: Vec<Arc<Connection>>,
}

thread_local! {
    static BATCH: RefCell<Marks> = {
        static TOKENS: AtomicU32 = AtomicU32::new(NONE + 1);
        RefCell::new(Marks { token: TOKENS.fetch_add(1, Ordering::Relaxed), depth: 0, marked: Vec::new() })
    };
}

/// Opens a batch on this thread until the guard is dropped. They nest; the outermost flushes.
pub fn open() -> Batch {
    BATCH.with_borrow_mut(|batch| batch.depth += 1);
    Batch(PhantomData)
}

/// An open batch; see [`open`]. It belongs to the thread that opened it.
#[derive(Debug)]
pub struct Batch(PhantomData<*const ()>);

impl Drop for Batch {
    fn drop(&mut self) {
        let outermost = BATCH.with_borrow_mut(|batch| {
            batch.depth -= 1;
            batch.depth == 0
        });
        if outermost {
            flush();
        }
    }
}

/// Whether something waits for the batch of this thread to end.
pub fn is_pending() -> bool {
    BATCH.with_borrow(|batch| !batch.marked.is_empty())
}

/// Sends what was held back on this thread; a batch that is open stays open.
pub fn flush() {
    loop {
        let (token, mut marked) =
            BATCH.with_borrow_mut(|batch| (batch.token, std::mem::take(&mut batch.marked)));
        let done = marked.is_empty();
        for connection in marked.drain(..) {
            connection.leave_batch(token);
        }
        BATCH.with_borrow_mut(|batch| {
            // What was sent meanwhile is for the next round; else the room is kept for the next batch.
            if batch.marked.is_empty() {
                batch.marked = marked;
            }
        });
        if done {
            return;
        }
    }
}

/// Has `connection` flushed at the end of this thread's batch. False when there is none: flush it now.
pub(crate) fn mark(connection: &Arc<Connection>, state: &mut State) -> bool {
    BATCH.with_borrow_mut(|batch| {
        if batch.depth == 0 {
            return false;
        }
        if state.batch != batch.token {
            state.batch = batch.token;
            batch.marked.push(Arc::clone(connection));
        }
        true
    })
}
