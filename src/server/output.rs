//! The output of a connection: the waiting bytes, their writer, and the reasons to hold them back.
//!
//! Bytes are queued under the connection's lock and written without it, by one thread at a time:
//! [`Output::begin_flush`] makes that thread the writer, [`Output::take`] gives it the queue, and
//! [`Output::put_back`] takes the rest that the kernel had no room for.

mod queue;

use ::http::Response;
use bytes::Bytes;

pub(crate) use self::queue::{ByteQueue, SLICES};

/// No batch holds the connection.
pub(crate) const NO_BATCH: u32 = 0;

/// Bytes for one client.
#[derive(Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own; together they are no state machine"
)]
pub(crate) struct Output {
    queue: ByteQueue,
    /// The head of a response over HTTP/2, which goes to the stream as fields and before the bytes.
    head: Option<Box<Response<()>>>,
    /// A thread is writing the bytes that it took.
    flushing: bool,
    /// The number of these bytes.
    leaving: usize,
    /// The bytes that a TLS session had encrypted when the kernel had no room for them.
    sealed: usize,
    /// The kernel's buffer is full; the task waits for room.
    blocked: bool,
    /// A handler is running: its output leaves together when it returns.
    corked: bool,
    /// The task goes on when the queue is shorter: another thread is writing it.
    held_up: bool,
    /// The batch that will flush, if one has marked this connection.
    batch: u32,
}

impl Output {
    // ---- what waits ---------------------------------------------------------------------------------------------

    /// Bytes that are queued.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no bytes are queued.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether anything is queued, even only a head.
    pub(crate) fn has_any(&self) -> bool {
        !self.queue.is_empty() || self.head.is_some()
    }

    /// Bytes that the kernel had no room for, without those that a cork holds or that are being written for
    /// the first time.
    pub(crate) fn waiting(&self) -> usize {
        if self.blocked { self.queue.len() + self.leaving + self.sealed } else { 0 }
    }

    /// Whether there is output that the kernel has not taken.
    pub(crate) fn is_sending(&self) -> bool {
        self.flushing || self.blocked || !self.queue.is_empty()
    }

    /// Whether the kernel has taken everything that was written or queued.
    pub(crate) fn has_left(&self) -> bool {
        self.queue.is_empty() && self.sealed == 0
    }

    /// Whether there is queued output without a sender.
    #[cfg(debug_assertions)]
    pub(crate) fn is_neglected(&self) -> bool {
        let attended = self.flushing || self.blocked || self.corked || self.batch != NO_BATCH;
        self.has_any() && !attended
    }

    // ---- queueing -----------------------------------------------------------------------------------------------

    /// The end of the queue, to append to.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        self.queue.tail()
    }

    /// Copies `bytes` to the end.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.queue.append(bytes);
    }

    /// Lets `write` append to the end.
    pub(crate) fn append_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.queue.append_with(write);
    }

    /// Appends `bytes` without copying them.
    pub(crate) fn share(&mut self, bytes: Bytes) {
        self.queue.share(bytes);
    }

    /// Queues the head of a response over HTTP/2.
    pub(crate) fn set_head(&mut self, head: Box<Response<()>>) {
        self.head = Some(head);
    }

    /// Takes the head of a response over HTTP/2, for the stream.
    pub(crate) fn take_head(&mut self) -> Option<Box<Response<()>>> {
        self.head.take()
    }

    /// Drops the queue: the connection is over.
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.head = None;
    }

    // ---- who sends it -------------------------------------------------------------------------------------------

    /// Whether this thread may write: no other does, and the kernel is not known to be full.
    pub(crate) fn may_flush(&self) -> bool {
        !self.flushing && !self.blocked
    }

    /// Whether a thread is writing.
    pub(crate) fn is_flushing(&self) -> bool {
        self.flushing
    }

    /// This thread writes from now on, and also sends the output that others queue meanwhile.
    pub(crate) fn begin_flush(&mut self) {
        self.flushing = true;
    }

    /// Gives the queue to the writer.
    pub(crate) fn take(&mut self) -> ByteQueue {
        let queue = std::mem::take(&mut self.queue);
        self.leaving = queue.len();
        queue
    }

    /// Takes back the bytes that the kernel had no room for; they go before those queued meanwhile. `sealed`
    /// bytes wait in a TLS session; returns how many of those that waited there before have been sent.
    pub(crate) fn put_back(&mut self, queue: ByteQueue, sealed: usize) -> usize {
        self.queue.put_back(queue);
        self.leaving = 0;
        std::mem::replace(&mut self.sealed, sealed).saturating_sub(sealed)
    }

    /// This thread writes no more.
    pub(crate) fn end_flush(&mut self) {
        self.flushing = false;
    }

    /// Whether the kernel had no room.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// The kernel has no room: the task waits for some.
    pub(crate) fn block(&mut self) {
        self.blocked = true;
    }

    /// The kernel has room again.
    pub(crate) fn unblock(&mut self) {
        self.blocked = false;
    }

    // ---- what holds it back -------------------------------------------------------------------------------------

    /// Whether a running handler holds the output back.
    pub(crate) fn is_corked(&self) -> bool {
        self.corked
    }

    /// A handler runs, and sends at its end. True if that is new.
    pub(crate) fn cork(&mut self) -> bool {
        !std::mem::replace(&mut self.corked, true)
    }

    /// The handler has ended.
    pub(crate) fn uncork(&mut self) {
        self.corked = false;
    }

    /// The batch `token` sends at its end. True if that is new to it.
    pub(crate) fn join_batch(&mut self, token: u32) -> bool {
        std::mem::replace(&mut self.batch, token) != token
    }

    /// The batch `token` is over.
    pub(crate) fn leave_batch(&mut self, token: u32) {
        if self.batch == token {
            self.batch = NO_BATCH;
        }
    }

    /// Records whether the task waits for a shorter queue.
    pub(crate) fn set_held_up(&mut self, held_up: bool) {
        self.held_up = held_up;
    }

    /// Whether the task waits for a shorter queue.
    pub(crate) fn is_held_up(&self) -> bool {
        self.held_up
    }
}
