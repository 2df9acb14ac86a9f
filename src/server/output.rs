//! Bytes on their way to a socket that the kernel has not taken yet.
//!
//! Small pieces are copied together, so that one system call takes them all; a large frame that many sockets share is
//! queued as a reference. A queue that empties gives its buffer to its thread, which lends it to the next that fills:
//! ten thousand idle connections hold none, and busy ones find a warm one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Buffers larger than this are given back to the allocator: one large answer must not leave its size behind.
const KEEP: usize = 4096;
/// Buffers a thread keeps.
const SPARE: usize = 256;
/// Room of a new buffer.
const FIRST: usize = 512;
/// Pieces given to the kernel in one call.
pub(crate) const SLICES: usize = 16;

thread_local! {
    static SPARES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// What follows the first buffer.
#[derive(Debug)]
enum Piece {
    Own(Vec<u8>),
    Shared(Bytes),
}

impl Piece {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// A byte queue: pushed at the end, taken from the front.
#[derive(Debug, Default)]
pub(crate) struct Output {
    bytes: Vec<u8>,
    sent: usize,
    behind: VecDeque<Piece>,
    /// Bytes of `behind`.
    more: usize,
}

impl Output {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.sent + self.more
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The end of the queue, to append to.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        // Whoever builds an answer in place never shares frames; were there any, they would be copied.
        for piece in std::mem::take(&mut self.behind) {
            self.bytes.extend_from_slice(piece.as_bytes());
        }
        self.more = 0;
        self.borrow_buffer();
        &mut self.bytes
    }

    /// Copies `bytes` to the end.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.append_with(|out| out.extend_from_slice(bytes));
    }

    /// Has `write` append to the end.
    pub(crate) fn append_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.behind.is_empty() {
            self.borrow_buffer();
            write(&mut self.bytes);
            return;
        }
        if !matches!(self.behind.back(), Some(Piece::Own(_))) {
            self.behind.push_back(Piece::Own(Vec::new()));
        }
        if let Some(Piece::Own(last)) = self.behind.back_mut() {
            let before = last.len();
            write(last);
            self.more += last.len() - before;
        }
    }

    /// Puts `bytes` at the end without copying them.
    pub(crate) fn share(&mut self, bytes: Bytes) {
        self.more += bytes.len();
        self.behind.push_back(Piece::Shared(bytes));
    }

    /// What to send next, in order, as many pieces as fit; says how many there are.
    pub(crate) fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        let first = &self.bytes[self.sent..];
        if !first.is_empty() {
            slices[0] = IoSlice::new(first);
            count = 1;
        }
        for piece in self.behind.iter().take(slices.len() - count) {
            slices[count] = IoSlice::new(piece.as_bytes());
            count += 1;
        }
        count
    }

    /// The bytes to send next, when they lie in one piece.
    pub(crate) fn as_slice(&self) -> Option<&[u8]> {
        self.behind.is_empty().then(|| &self.bytes[self.sent..])
    }

    /// Forgets the first `count` bytes, which the kernel has taken.
    pub(crate) fn advance(&mut self, count: usize) {
        let first = (self.bytes.len() - self.sent).min(count);
        self.sent += first;
        let mut count = count - first;
        if self.sent >= self.bytes.len() {
            self.sent = 0;
            self.bytes.clear();
            if self.behind.is_empty() {
                self.return_buffer();
            }
        } else if self.sent > 64 * 1024 && self.sent > self.bytes.len() / 2 {
            // A reader that always lags would otherwise make the queue grow by everything it ever took.
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        self.more -= count.min(self.more);
        while count > 0 {
            let Some(front) = self.behind.front_mut() else { return };
            let length = front.as_bytes().len();
            if count >= length {
                count -= length;
                self.behind.pop_front();
                continue;
            }
            match front {
                // Nothing precedes it, so it takes the first place: to move its rest each time would be quadratic.
                Piece::Own(bytes) => {
                    self.more -= length - count;
                    self.bytes = std::mem::take(bytes);
                    self.sent = count;
                    self.behind.pop_front();
                }
                Piece::Shared(bytes) => bytes.advance(count),
            }
            return;
        }
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Puts `earlier`, which was taken out to be written, back before what was queued meanwhile.
    pub(crate) fn put_back(&mut self, mut earlier: Self) {
        if earlier.is_empty() {
            earlier.return_buffer();
            return;
        }
        if !self.is_empty() {
            earlier.append(&self.bytes[self.sent..]);
            earlier.behind.append(&mut self.behind);
            earlier.more += self.more;
        }
        *self = earlier;
    }

    fn borrow_buffer(&mut self) {
        if self.bytes.capacity() == 0 {
            self.bytes = SPARES.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(FIRST));
        }
    }

    fn return_buffer(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        if (1..=KEEP).contains(&bytes.capacity()) {
            SPARES.with_borrow_mut(|spares| {
                if spares.len() < SPARE {
                    bytes.clear();
                    spares.push(bytes);
                }
            });
        }
    }
}
