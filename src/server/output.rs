//! What is on its way to the client: the bytes that wait, who writes them, and what holds them back.
//!
//! Bytes are queued under the connection's lock and written without it, by one thread at a time: [`Output::begin_flush`] makes that
//! thread the writer, [`Output::take`] gives it what is queued, and [`Output::put_back`] takes what the kernel had no room for.

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
    /// The head of an answer over HTTP/2, which goes to the stream as fields and before the bytes.
    head: Option<Box<Response<()>>>,
    /// A thread is writing what it took.
    flushing: bool,
    /// How much it took.
    leaving: usize,
    /// How much a TLS session had encrypted when the kernel had no room for it.
    sealed: usize,
    /// The kernel's buffer is full; the task waits for room.
    blocked: bool,
    /// A handler is running: what it writes leaves together when it returns.
    corked: bool,
    /// The task goes on when less is queued: another thread is writing that.
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

    /// Whether something is queued, be it only a head.
    pub(crate) fn has_any(&self) -> bool {
        !self.queue.is_empty() || self.head.is_some()
    }

    /// Bytes that the kernel had no room for; what a cork holds, or leaves for the first time, is not among them.
    pub(crate) fn waiting(&self) -> usize {
        if self.blocked { self.queue.len() + self.leaving + self.sealed } else { 0 }
    }

    /// Whether there is output that the kernel has not taken.
    pub(crate) fn is_sending(&self) -> bool {
        self.flushing || self.blocked || !self.queue.is_empty()
    }

    /// Whether the kernel has taken all that was given to it, and all that was queued.
    pub(crate) fn has_left(&self) -> bool {
        self.queue.is_empty() && self.sealed == 0
    }

    /// Whether something is queued that nobody is going to send.
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

    /// Has `write` append to the end.
    pub(crate) fn append_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.queue.append_with(write);
    }

    /// Puts `bytes` at the end without copying them.
    pub(crate) fn share(&mut self, bytes: Bytes) {
        self.queue.share(bytes);
    }

    /// Queues the head of an answer over HTTP/2.
    pub(crate) fn set_head(&mut self, head: Box<Response<()>>) {
        self.head = Some(head);
    }

    /// Takes the head of an answer over HTTP/2, for the stream.
    pub(crate) fn take_head(&mut self) -> Option<Box<Response<()>>> {
        self.head.take()
    }

    /// Drops what is queued: the connection is over.
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.head = None;
    }

    // ---- who sends it -------------------------------------------------------------------------------------------

    /// Whether this thread may write: nobody else does, and the kernel is not known to be full.
    pub(crate) fn may_flush(&self) -> bool {
        !self.flushing && !self.blocked
    }

    /// Whether a thread is writing.
    pub(crate) fn is_flushing(&self) -> bool {
        self.flushing
    }

    /// This thread writes from now on, and sends what others queue meanwhile.
    pub(crate) fn begin_flush(&mut self) {
        self.flushing = true;
    }

    /// Gives the writer what is queued.
    pub(crate) fn take(&mut self) -> ByteQueue {
        let queue = std::mem::take(&mut self.queue);
        self.leaving = queue.len();
        queue
    }

    /// Takes back what the kernel had no room for, which goes before what was queued meanwhile. `sealed` bytes wait in a TLS
    /// session; says how many of those that waited there before have left.
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

    /// Whether a handler that runs holds the output together.
    pub(crate) fn is_corked(&self) -> bool {
        self.corked
    }

    /// A handler runs, and sends at its end. True when that is new.
    pub(crate) fn cork(&mut self) -> bool {
        !std::mem::replace(&mut self.corked, true)
    }

    /// The handler has ended.
    pub(crate) fn uncork(&mut self) {
        self.corked = false;
    }

    /// The batch `token` sends at its end. True when that is new to it.
    pub(crate) fn join_batch(&mut self, token: u32) -> bool {
        std::mem::replace(&mut self.batch, token) != token
    }

    /// The batch `token` is over.
    pub(crate) fn leave_batch(&mut self, token: u32) {
        if self.batch == token {
            self.batch = NO_BATCH;
        }
    }

    /// Notes whether the task waits for less to be queued.
    pub(crate) fn set_held_up(&mut self, held_up: bool) {
        self.held_up = held_up;
    }

    /// Whether the task waits for less to be queued.
    pub(crate) fn is_held_up(&self) -> bool {
        self.held_up
    }
}
