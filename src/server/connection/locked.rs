//! A locked connection, and what comes with the lock: code that queues output under it has to say who sends that.
//!
//! All that changes a connection is a method of [`Locked`], each in the file of its subject. A method queues
//! and never sends, unless it consumes the lock, as [`Locked::flush`], [`Locked::send`] and the others do that are
//! named for the sender, or says that it releases the lock meanwhile. In debug builds a lock that is released with output without a sender panics: no
//! client hangs because of a forgotten flush.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::MutexGuard;

use crate::server::connection::{Connection, State};

/// A connection whose state this thread has locked.
///
/// No system call that may block is made under the lock, and no drop may run user code: see [`Locked::unlocked`].
#[must_use = "what was queued has to be sent: flush it, or name who does"]
pub(crate) struct Locked<'a> {
    pub(in crate::server) connection: &'a Arc<Connection>,
    state: MutexGuard<'a, State>,
    /// Another thread has released the lock with output that it is about to send.
    #[cfg(debug_assertions)]
    owed_before: bool,
}

impl Connection {
    /// Locks the connection.
    pub(crate) fn lock(self: &Arc<Self>) -> Locked<'_> {
        let state = self.state.lock();
        Locked {
            connection: self,
            #[cfg(debug_assertions)]
            owed_before: state.is_neglected(),
            state,
        }
    }
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Locked<'_> {
    /// Releases the lock while `act` runs, which may be a system call. The state may be different afterwards.
    pub(super) fn unlocked<T>(&mut self, act: impl FnOnce() -> T) -> T {
        MutexGuard::unlocked(&mut self.state, act)
    }

    /// Leaves the queue to the end of this thread's open batch, and sends it now if there is none. False if
    /// the kernel has no room.
    pub(in crate::server) fn flush_with_batch(mut self) -> bool {
        self.join_batch() || self.flush()
    }

    /// Leaves the queue to the handler that has corked it, and sends it now if there is none.
    pub(in crate::server) fn flush_unless_corked(self) {
        if !self.out.is_corked() {
            self.flush();
        }
    }

    /// Another call sends the queue, since this thread holds a lock under which nothing may be sent.
    pub(in crate::server) fn owe(self) -> Owed {
        let owed = Owed(Arc::clone(self.connection));
        #[cfg(debug_assertions)]
        {
            let mut this = self;
            this.owed_before = true;
        }
        owed
    }
}

/// A connection whose output waits to be sent by the holder of this.
#[must_use = "nobody else sends it"]
pub(crate) struct Owed(Arc<Connection>);

impl Owed {
    /// Sends it.
    pub(in crate::server) fn flush(self) {
        self.0.lock().flush();
    }

    /// Ends the socket instead: too much output is buffered.
    pub(in crate::server) fn abort(self) {
        self.0.abort_for_backpressure();
    }
}

#[cfg(debug_assertions)]
impl Drop for Locked<'_> {
    fn drop(&mut self) {
        assert!(
            self.owed_before || std::thread::panicking() || !self.state.is_neglected(),
            "a connection was unlocked with output that nobody sends: flush it, or name who does"
        );
    }
}
