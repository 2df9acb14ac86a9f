//! The client's bytes that are not used yet.

/// Received bytes: part of a head, pipelined requests, or frames.
#[derive(Default)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    /// The number of bytes that are known to be useless without more.
    searched: usize,
    /// The client has shut its sending side, and all its bytes have been read.
    ended: bool,
    /// The client has shut its sending side. The kernel has the rest of its bytes.
    shut: bool,
}

impl Input {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends `bytes`.
    pub(crate) fn keep(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the bytes, so that they can be parsed while the state changes.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Puts unused bytes back. An idle connection keeps no extra memory.
    pub(crate) fn put_back(&mut self, bytes: Vec<u8>) {
        self.bytes = if bytes.is_empty() { Vec::new() } else { bytes };
    }

    /// Drops the bytes: nothing more is read.
    pub(crate) fn clear(&mut self) {
        self.bytes = Vec::new();
    }

    /// Sets the number of bytes that are useless without more.
    pub(crate) fn set_searched(&mut self, searched: usize) {
        self.searched = searched;
    }

    /// Takes that number, and resets it.
    pub(crate) fn take_searched(&mut self) -> usize {
        std::mem::take(&mut self.searched)
    }

    /// Whether there are unexamined bytes.
    pub(crate) fn has_unsearched(&self) -> bool {
        self.searched < self.bytes.len()
    }

    /// The client sends no more, and all its bytes have been read.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// The client sends no more, and the kernel has the rest.
    pub(crate) fn shut(&mut self) {
        self.shut = true;
    }

    /// Whether the client sends no more, although bytes of it may be unread.
    pub(crate) fn is_shut(&self) -> bool {
        self.ended || self.shut
    }

    /// Whether the client sends no more, and all its bytes have been read.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }
}
