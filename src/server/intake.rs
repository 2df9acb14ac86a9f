//! The body of the request in progress: decoded, counted, and kept until somebody asks for it.
//!
//! A body is framed once, when its request begins and before anybody has decided who answers it: where it ends does not depend
//! on that. Only how much of it is taken does. There is no way to make a body that is over, so nobody can forget one that is not
//! and read its bytes as the next request.

use crate::http::chunked::{ChunkError, ChunkedDecoder};
use crate::http::head::Framing;

/// Why a body cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    #[error("the request body is larger than {0} bytes")]
    TooLarge(u64),
    #[error(transparent)]
    Chunk(#[from] ChunkError),
}

/// Who waits for the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Reader {
    /// Nobody yet: bytes are kept up to the bound, then the socket is left alone.
    #[default]
    None,
    /// Somebody who takes pieces as they come.
    Pieces,
    /// Somebody who wants it whole.
    Whole,
    /// Nobody any more: the answer is complete, the rest is thrown away.
    Discard,
}

#[derive(Debug)]
enum Rest {
    Done,
    Length(u64),
    Chunked(Box<ChunkedDecoder>),
    /// Until the stream ends: [`Intake::end`].
    Stream,
}

/// State of one request body.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Intake {
    rest: Rest,
    /// Received and not yet taken.
    buffer: Vec<u8>,
    /// Bytes received so far, after decoding.
    received: u64,
    /// The length that the client has given.
    declared: Option<u64>,
    /// The most that what answers takes.
    limit: u64,
    /// That is not looked at yet: the request may go on to somebody who takes more.
    deferred: bool,
    pub(crate) reader: Reader,
    /// The user asked to stop reading from the client.
    pub(crate) paused: bool,
    /// A Readable signal is on its way and its receiver has not asked for the next.
    pub(crate) signalled: bool,
    /// The end has been handed over.
    end_taken: bool,
}

impl Intake {
    /// The body of no request.
    pub(super) const NONE: Self = Self {
        rest: Rest::Done,
        buffer: Vec::new(),
        received: 0,
        declared: None,
        limit: 0,
        deferred: false,
        reader: Reader::None,
        paused: false,
        signalled: false,
        end_taken: false,
    };

    /// A body that begins. `limit` is the most that is taken of it if nobody says otherwise.
    pub(super) fn new(framing: Framing, limit: u64) -> Self {
        let (rest, declared) = match framing {
            Framing::None | Framing::Length(0) => (Rest::Done, None),
            Framing::Length(length) => (Rest::Length(length), Some(length)),
            Framing::Chunked => (Rest::Chunked(Box::default()), None),
            Framing::Stream(length) => (Rest::Stream, length),
        };
        Self { rest, declared, limit, ..Self::NONE }
    }

    /// What answers takes `limit` bytes of it.
    pub(crate) fn admit(&mut self, limit: u64) -> Result<(), IntakeError> {
        (self.limit, self.deferred) = (limit, false);
        let known = self.declared.unwrap_or_default().max(self.received);
        if known > limit { Err(IntakeError::TooLarge(limit)) } else { Ok(()) }
    }

    /// The present route takes `limit` bytes of it, and one behind it takes more: who reads first decides. Until then no more
    /// than what may wait for a reader is taken.
    pub(crate) fn defer(&mut self, limit: u64) {
        (self.limit, self.deferred) = (limit, true);
    }

    /// What is decided now if it was not: somebody reads.
    pub(crate) fn decide(&mut self) -> Result<(), IntakeError> {
        if self.deferred { self.admit(self.limit) } else { Ok(()) }
    }

    /// How much a route has to take, as far as that is known: it says nothing more if it takes less than that.
    /// None when all that may still come is within `limit`.
    pub(crate) fn beyond(&self, limit: u64) -> Option<u64> {
        match self.declared {
            _ if self.is_complete() => (self.received > limit).then_some(self.received),
            Some(declared) => (declared > limit).then_some(declared),
            None => Some(limit.saturating_add(1).max(self.received)),
        }
    }

    /// Whether it has not been decided how much is taken.
    pub(crate) fn is_deferred(&self) -> bool {
        self.deferred
    }

    /// Takes what belongs to the body from the front of `input`; says how many bytes that was.
    pub(crate) fn feed(&mut self, input: &[u8]) -> Result<usize, IntakeError> {
        let keep = self.reader != Reader::Discard;
        match &mut self.rest {
            Rest::Done => Ok(0),
            Rest::Stream => {
                self.received += input.len() as u64;
                if self.received > self.limit && !self.deferred {
                    return Err(IntakeError::TooLarge(self.limit));
                }
                if keep {
                    self.buffer.extend_from_slice(input);
                }
                Ok(input.len())
            }
            Rest::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= count as u64;
                self.received += count as u64;
                // It has been looked at before, unless that was put off and nobody has read it.
                if self.received > self.limit && !self.deferred {
                    return Err(IntakeError::TooLarge(self.limit));
                }
                if keep {
                    self.buffer.extend_from_slice(&input[..count]);
                }
                if *left == 0 {
                    self.rest = Rest::Done;
                }
                Ok(count)
            }
            Rest::Chunked(decoder) => {
                let (received, buffer) = (&mut self.received, &mut self.buffer);
                let limit = if self.deferred { u64::MAX } else { self.limit };
                let (count, done) = decoder.decode(input, &mut |piece: &[u8]| {
                    *received += piece.len() as u64;
                    if keep && *received <= limit {
                        buffer.extend_from_slice(piece);
                    }
                })?;
                if self.received > limit {
                    return Err(IntakeError::TooLarge(self.limit));
                }
                if done {
                    self.rest = Rest::Done;
                }
                Ok(count)
            }
        }
    }

    /// The stream has ended, and the body with it.
    pub(crate) fn end(&mut self) {
        self.rest = Rest::Done;
    }

    /// Whether the last byte has arrived.
    pub(crate) fn is_complete(&self) -> bool {
        matches!(self.rest, Rest::Done)
    }

    /// Whether more should be read from the socket, `bound` being what may wait for its reader.
    pub(crate) fn wants_more(&self, bound: usize) -> bool {
        match self.reader {
            Reader::Discard => true,
            // A reader of the whole body is bounded by the body limit, which `feed` enforces.
            Reader::Whole => !self.paused,
            Reader::None | Reader::Pieces => !self.paused && self.buffer.len() < bound,
        }
    }

    /// Whether somebody waits for bytes that only the client can send.
    pub(crate) fn is_waited_for(&self) -> bool {
        !self.is_complete() && self.reader != Reader::None && !self.paused && !self.signalled
    }

    /// Whether the reader should be told now.
    pub(crate) fn wants_signal(&self) -> bool {
        let due = match self.reader {
            Reader::Pieces if self.paused => false,
            Reader::Pieces => !self.buffer.is_empty() || (self.is_complete() && !self.end_taken),
            Reader::Whole => self.is_complete(),
            Reader::None | Reader::Discard => false,
        };
        due && !self.signalled
    }

    /// Hands over what has arrived, and whether that was the last of it.
    pub(crate) fn take(&mut self) -> (Vec<u8>, bool) {
        self.end_taken = self.is_complete();
        (std::mem::take(&mut self.buffer), self.end_taken)
    }

    /// Hands over what has arrived as the whole body; a reader of pieces is still owed the end.
    pub(crate) fn take_all(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Hands over what has arrived to a reader that says each time when it is ready for more, and whether that was the last
    /// of it. None when nothing has: then it waits.
    pub(crate) fn pull(&mut self) -> Option<(Vec<u8>, bool)> {
        if !self.is_readable() {
            return None;
        }
        self.stop_pieces();
        Some(self.take())
    }

    /// Whether there is something to pull: bytes, or the end.
    pub(crate) fn is_readable(&self) -> bool {
        !self.paused && (!self.buffer.is_empty() || self.is_complete())
    }

    /// Nobody waits for pieces at the moment.
    pub(crate) fn stop_pieces(&mut self) {
        if self.reader == Reader::Pieces {
            self.reader = Reader::None;
        }
    }

    /// Whether the reader has asked for pieces and then for none at the moment.
    pub(crate) fn is_held_back(&self) -> bool {
        self.paused && self.reader == Reader::Pieces
    }

    /// Nobody will read it any more.
    pub(crate) fn discard(&mut self) {
        self.deferred = false;
        self.reader = Reader::Discard;
        self.paused = false;
        self.buffer = Vec::new();
    }
}
