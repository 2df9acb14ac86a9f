//! Bytes that the kernel has not taken yet.
//!
//! Small pieces are copied together, so that one system call takes them all; a large frame that many sockets
//! share is queued as a reference. An empty queue gives its buffer to its thread, which lends it to the next
//! queue that fills: ten thousand idle connections hold none, and busy ones find a warm one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Larger buffers are freed: one large response must not keep its memory.
const KEEP: usize = 4096;
/// Buffers a thread keeps.
const SPARE: usize = 1024;
/// Size of a new buffer.
const FIRST: usize = 512;
/// Pieces given to the kernel in one call.
pub(crate) const SLICES: usize = 16;

thread_local! {
    static SPARES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// The pieces after the first buffer.
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
pub(crate) struct ByteQueue {
    bytes: Vec<u8>,
    sent: usize,
    behind: VecDeque<Piece>,
    /// Bytes of `behind`.
    more: usize,
}

impl ByteQueue {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.sent + self.more
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The end of the queue, to append to.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        // A response that is built in place has no shared frames before it; if there were any, they would be
        // copied.
        if !self.behind.is_empty() {
            for piece in std::mem::take(&mut self.behind) {
                self.bytes.extend_from_slice(piece.as_bytes());
            }
            self.more = 0;
        }
        self.borrow_buffer();
        &mut self.bytes
    }

    /// Copies `bytes` to the end.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.append_with(|out| out.extend_from_slice(bytes));
    }

    /// Lets `write` append to the end.
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

    /// Appends `bytes` without copying them.
    pub(crate) fn share(&mut self, bytes: Bytes) {
        self.more += bytes.len();
        self.behind.push_back(Piece::Shared(bytes));
    }

    /// The next pieces to send, in order, as many as fit; returns their number.
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

    /// The next bytes to send, if they are in one piece.
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
            // Otherwise a reader that always lags would make the queue grow by all its bytes.
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
                // Nothing precedes it, so it takes the first place: moving its rest each time would be
                // quadratic.
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

    /// Puts `earlier`, which was taken out to be written, back before the bytes queued meanwhile.
    pub(crate) fn put_back(&mut self, mut earlier: Self) {
        if earlier.is_empty() {
            earlier.return_buffer();
            if self.is_empty() {
                self.return_buffer();
            }
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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Long enough to make room for, and to be taken in many parts.
    const LONGEST: usize = 150_000;

    /// What one does to a queue.
    #[derive(Clone, Debug)]
    enum Act {
        Tail(usize),
        Append(usize),
        AppendWith(usize),
        Share(usize),
        /// Takes this many hundredths of what is there.
        Advance(usize),
        /// Takes it out to be written, of which so many hundredths succeed, while others queue.
        Write(usize, Vec<Act>),
        Clear,
    }

    fn act() -> impl Strategy<Value = Act> {
        let length = || prop_oneof![4 => 0..40_usize, 2 => 0..6_000_usize, 1 => 0..LONGEST];
        let part = || prop_oneof![1 => Just(0), 3 => 0..100_usize, 1 => Just(100)];
        let queue = move || {
            prop_oneof![
                1 => length().prop_map(Act::Tail),
                3 => length().prop_map(|length| Act::Append(length + 1)),
                3 => length().prop_map(|length| Act::AppendWith(length + 1)),
                3 => length().prop_map(|length| Act::Share(length + 1)),
            ]
        };
        prop_oneof![
            6 => queue(),
            4 => part().prop_map(Act::Advance),
            3 => (part(), vec(queue(), 0..4)).prop_map(|(part, acts)| Act::Write(part, acts)),
            1 => Just(Act::Clear),
        ]
    }

    /// The queue, and what it stands for.
    struct Both {
        queue: ByteQueue,
        model: Vec<u8>,
        /// All that is ever written, as far as it does not repeat itself.
        pattern: Vec<u8>,
        written: usize,
    }

    impl Both {
        /// Bytes that were not there before.
        fn fresh(&mut self, length: usize) -> Vec<u8> {
            let start = self.written % 251;
            let bytes = self.pattern[start..start + length].to_vec();
            self.written += length;
            self.model.extend_from_slice(&bytes);
            bytes
        }

        fn act(&mut self, act: &Act) {
            match act {
                Act::Tail(length) => {
                    let bytes = self.fresh(*length);
                    self.queue.tail().extend_from_slice(&bytes);
                }
                Act::Append(length) => {
                    let bytes = self.fresh(*length);
                    self.queue.append(&bytes);
                }
                Act::AppendWith(length) => {
                    let bytes = self.fresh(*length);
                    self.queue.append_with(|out| {
                        let (first, second) = bytes.split_at(bytes.len() / 2);
                        out.extend_from_slice(first);
                        out.extend_from_slice(second);
                    });
                }
                Act::Share(length) => {
                    let bytes = self.fresh(*length);
                    self.queue.share(bytes.into());
                }
                Act::Advance(part) => {
                    let count = self.model.len() * part / 100;
                    self.queue.advance(count);
                    self.model.drain(..count);
                }
                Act::Write(part, acts) => {
                    let mut taken = std::mem::take(&mut self.queue);
                    let count = self.model.len() * part / 100;
                    taken.advance(count);
                    for act in acts {
                        self.act(act);
                    }
                    self.model.drain(..count);
                    self.queue.put_back(taken);
                    if self.model.is_empty() {
                        assert_eq!(self.queue.bytes.capacity(), 0, "an empty queue keeps a buffer");
                    }
                }
                Act::Clear => {
                    self.queue.clear();
                    self.model.clear();
                }
            }
        }

        fn check(&self) {
            assert_eq!(self.queue.len(), self.model.len());
            assert_eq!(self.queue.is_empty(), self.model.is_empty());
            if let Some(bytes) = self.queue.as_slice() {
                assert!(bytes == self.model, "what lies in one piece differs");
            }
            for room in [1, 2, 3, SLICES, self.queue.behind.len() + 1] {
                let mut slices = vec![IoSlice::new(b""); room];
                let count = self.queue.fill(&mut slices);
                let mut filled = Vec::new();
                for slice in &slices[..count] {
                    filled.extend_from_slice(slice);
                }
                assert!(self.model.starts_with(&filled), "what {room} pieces hold differs");
                assert!(!filled.is_empty() || self.model.is_empty(), "{room} pieces hold nothing");
                if count < room {
                    assert_eq!(filled.len(), self.model.len(), "{room} pieces have room for more");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        #[test]
        fn it_is_a_queue_of_bytes(acts in vec(act(), 1..40)) {
            let pattern = (0..=250).cycle().take(LONGEST + 251).collect();
            let mut both = Both { queue: ByteQueue::default(), model: Vec::new(), pattern, written: 0 };
            for act in &acts {
                both.act(act);
                both.check();
            }
        }
    }
}
