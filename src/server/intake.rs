//! The body of the request in progress: decoded, counted, and kept until a reader asks for it.
//!
//! A body is framed once, when its request begins and before its route is chosen: its end does not depend on
//! the route. Only its limit does. A body cannot be constructed as finished, so no code can forget an
//! unfinished one and read its bytes as the next request.

use crate::http::chunked::{ChunkError, ChunkedDecoder};
use crate::http::head::Framing;

/// The reason why a body is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    #[error("the request body is larger than {0} bytes")]
    TooLarge(u64),
    #[error(transparent)]
    Chunk(#[from] ChunkError),
}

/// The reader of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Reader {
    /// None yet: bytes are kept up to the bound, then the server stops reading the socket.
    #[default]
    None,
    /// A reader that takes pieces as they come.
    Pieces,
    /// A reader that wants it whole.
    Whole,
    /// None any more: the response is complete, the rest is discarded.
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
    /// The length that the client has declared.
    declared: Option<u64>,
    /// The most that what answers takes.
    limit: u64,
    /// The limit is not checked yet: the request may go on to a route that allows more.
    deferred: bool,
    pub(crate) reader: Reader,
    /// User code has paused reading from the client.
    pub(crate) paused: bool,
    /// A Readable signal is on its way and its receiver has not asked for the next.
    pub(crate) signalled: bool,
    /// The end has been delivered.
    end_taken: bool,
}

impl Intake {
    /// Without a request.
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

    /// A body that begins. `limit` is its default limit.
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

    /// The present route allows `limit` bytes of it, and a later one allows more: the first reader decides.
    /// Until then only the bytes that may wait for a reader are accepted.
    pub(crate) fn defer(&mut self, limit: u64) {
        (self.limit, self.deferred) = (limit, true);
    }

    /// A reader has come: decides now if that is still open.
    pub(crate) fn decide(&mut self) -> Result<(), IntakeError> {
        if self.deferred { self.admit(self.limit) } else { Ok(()) }
    }

    /// The number of bytes that a route has to allow, as far as known. `None` if everything that may still
    /// come is within `limit`.
    pub(crate) fn beyond(&self, limit: u64) -> Option<u64> {
        match self.declared {
            _ if self.is_complete() => (self.received > limit).then_some(self.received),
            Some(declared) => (declared > limit).then_some(declared),
            None => Some(limit.saturating_add(1).max(self.received)),
        }
    }

    /// Whether the limit is still undecided.
    pub(crate) fn is_deferred(&self) -> bool {
        self.deferred
    }

    /// Takes the body's bytes from the front of `input`; returns their number.
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
                // It was checked before, unless the check was deferred and there is no reader.
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

    /// Whether more should be read from the socket; `bound` is the number of bytes that may wait for a
    /// reader.
    pub(crate) fn wants_more(&self, bound: usize) -> bool {
        match self.reader {
            Reader::Discard => true,
            // A reader of the whole body is bounded by the body limit, which `feed` enforces.
            Reader::Whole => !self.paused,
            Reader::None | Reader::Pieces => !self.paused && self.buffer.len() < bound,
        }
    }

    /// Whether a reader waits for bytes that only the client can send.
    pub(crate) fn is_waited_for(&self) -> bool {
        !self.is_complete() && self.reader != Reader::None && !self.paused && !self.signalled
    }

    /// Whether the reader should be signalled now.
    pub(crate) fn wants_signal(&self) -> bool {
        let due = match self.reader {
            Reader::Pieces if self.paused => false,
            Reader::Pieces => !self.buffer.is_empty() || (self.is_complete() && !self.end_taken),
            Reader::Whole => self.is_complete(),
            Reader::None | Reader::Discard => false,
        };
        due && !self.signalled
    }

    /// Returns the received bytes, and whether they were the last.
    pub(crate) fn take(&mut self) -> (Vec<u8>, bool) {
        self.end_taken = self.is_complete();
        (std::mem::take(&mut self.buffer), self.end_taken)
    }

    /// Hands over what has arrived as the whole body; a reader of pieces is still owed the end.
    pub(crate) fn take_all(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Returns the received bytes to a reader that pulls, and whether they were the last. `None` if there are
    /// none: then it waits.
    pub(crate) fn pull(&mut self) -> Option<(Vec<u8>, bool)> {
        if !self.is_readable() {
            return None;
        }
        self.stop_pieces();
        Some(self.take())
    }

    /// Whether there are bytes to pull, or the end.
    pub(crate) fn is_readable(&self) -> bool {
        !self.paused && (!self.buffer.is_empty() || self.is_complete())
    }

    /// No reader waits for pieces at the moment.
    pub(crate) fn stop_pieces(&mut self) {
        if self.reader == Reader::Pieces {
            self.reader = Reader::None;
        }
    }

    /// Whether the reader has asked for pieces and then for none at the moment.
    pub(crate) fn is_held_back(&self) -> bool {
        self.paused && self.reader == Reader::Pieces
    }

    /// There is no reader any more.
    pub(crate) fn discard(&mut self) {
        self.deferred = false;
        self.reader = Reader::Discard;
        self.paused = false;
        self.buffer = Vec::new();
    }
}
