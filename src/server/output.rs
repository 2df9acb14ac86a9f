//! Bytes on their way to a socket that the kernel has not taken yet.

/// Room kept by an idle connection's buffer; a larger one is given back, so that ten thousand idle connections
/// do not each keep what one large answer needed.
const KEEP: usize = 4096;

/// A byte queue: pushed at the end, taken from the front.
#[derive(Debug, Default)]
pub(crate) struct Output {
    bytes: Vec<u8>,
    sent: usize,
}

impl Output {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The end of the queue, to append to.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The bytes to send next.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Forgets the first `count` bytes, which the kernel has taken.
    pub(crate) fn advance(&mut self, count: usize) {
        self.sent += count;
        if self.sent >= self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(KEEP);
            self.sent = 0;
        } else if self.sent > 64 * 1024 && self.sent > self.bytes.len() / 2 {
            // A reader that always lags would otherwise make the queue grow by everything it ever took.
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Puts `earlier`, which was taken out to be written, back before what was queued meanwhile.
    pub(crate) fn put_back(&mut self, mut earlier: Self) {
        if !self.is_empty() {
            earlier.bytes.extend_from_slice(self.pending());
        }
        // Whichever vector is larger keeps its room for the next answer.
        if earlier.is_empty() && earlier.bytes.capacity() < self.bytes.capacity() {
            self.bytes.clear();
            self.sent = 0;
        } else {
            *self = earlier;
        }
    }
}
