//! What the client has sent and nobody has used yet.

/// Received bytes: part of a head, pipelined requests, or frames.
#[derive(Default)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    /// How much of them is known to hold nothing that can be used without more.
    searched: usize,
    /// The client has shut its sending side.
    ended: bool,
}

impl Input {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Keeps `bytes` behind what is there.
    pub(crate) fn keep(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes what is there, so that it can be parsed while the state changes.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Keeps what was taken and not used. An idle connection keeps no room for more.
    pub(crate) fn put_back(&mut self, bytes: Vec<u8>) {
        self.bytes = if bytes.is_empty() { Vec::new() } else { bytes };
    }

    /// Drops what is there: nothing more is read.
    pub(crate) fn clear(&mut self) {
        self.bytes = Vec::new();
    }

    /// So much of it holds nothing that can be used without more.
    pub(crate) fn set_searched(&mut self, searched: usize) {
        self.searched = searched;
    }

    /// What was searched before, which is forgotten.
    pub(crate) fn take_searched(&mut self) -> usize {
        std::mem::take(&mut self.searched)
    }

    /// Whether there is something that has not been looked at.
    pub(crate) fn has_unsearched(&self) -> bool {
        self.searched < self.bytes.len()
    }

    /// The client sends no more.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// Whether the client sends no more.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }
}
