//! The end of one direction's bytes, of which the next message may repeat parts (RFC 7692 section 7.2.3.2).

use std::fmt;

/// At most one window of bytes, the newest last.
#[derive(Default)]
pub(super) struct History(Vec<u8>);

impl History {
    /// The newest `count` bytes, or as many as there are.
    pub(super) fn last(&self, count: usize) -> &[u8] {
        tail(&self.0, count)
    }

    /// Bytes of memory.
    pub(super) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Appends `bytes` and forgets all but the newest `window` bytes.
    pub(super) fn push(&mut self, bytes: &[u8], window: usize) {
        let bytes = tail(bytes, window);
        let excess = (self.0.len() + bytes.len()).saturating_sub(window);
        self.0.drain(..excess);
        let len = self.0.len() + bytes.len();
        if len > self.0.capacity() {
            // Doubles like a vector, but never past the window: the user chose that memory.
            self.0.reserve_exact((self.0.capacity() * 2).clamp(len, window) - self.0.len());
        }
        self.0.extend_from_slice(bytes);
    }
}

/// Messages must not reach a log.
impl fmt::Debug for History {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "History({} bytes)", self.0.len())
    }
}

/// The last `count` bytes, or all.
pub(super) fn tail(bytes: &[u8], count: usize) -> &[u8] {
    &bytes[bytes.len().saturating_sub(count)..]
}
