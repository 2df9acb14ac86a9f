//! The response in progress: the bytes of each call of the response API, and their legal order.
//!
//! Pure: it appends to a buffer and knows nothing of sockets. A payload itself is never copied here; callers
//! place it between the prefix this writes and the suffix it returns, so a large one can go to the kernel in
//! place.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::http::chunked::encode_chunk_header;
use crate::http::date;
use crate::http::encoding::Encoder;
use crate::http::response::{BodyKind, Lasting, RequestInfo, ResponseHead};
use crate::server::output::Output;

/// The encoder of a body in pieces; `None` once that has ended.
pub(crate) type Coder = Arc<Mutex<Option<Encoder>>>;

/// The stage of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Stage {
    /// Nothing has been written; status and headers may still change.
    #[default]
    Open,
    /// The head is out, the body goes in chunks.
    Chunked,
    /// The head is out, the body has a declared length.
    Sized,
    /// The head is out, the body ends with the connection (HTTP/1.0) or the stream (HTTP/2).
    UntilClose,
    /// Complete.
    Done,
}

/// The facts about the request that [`Reply`] needs.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Asked {
    pub(crate) head_request: bool,
    pub(crate) http10: bool,
    pub(crate) keep_alive: bool,
    /// The response goes over a stream of HTTP/2.
    pub(crate) stream: bool,
    /// The client waits for `100 Continue`.
    pub(crate) waits: bool,
    /// The server is not to add `Date`.
    pub(crate) undated: bool,
}

/// The placement of a call's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Framed {
    /// The number of bytes of the payload to send.
    pub(crate) take: usize,
    /// The bytes after them.
    pub(crate) suffix: &'static [u8],
}

const NOTHING: Framed = Framed { take: 0, suffix: b"" };

/// State of one response.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) head: ResponseHead,
    /// Headers for every kind of response, also if the head is reset.
    pub(crate) lasting: Lasting,
    stage: Stage,
    asked: Asked,
    /// Body bytes accepted so far: the result of `get_write_offset`.
    pub(crate) offset: u64,
    /// Body bytes given to the socket, in their content coding.
    pub(crate) sent: u64,
    /// Length that the head declared, in the stage `Sized`.
    declared: u64,
    /// The body is not sent at all (HEAD, 204, 304).
    mute: bool,
    /// The connection ends after this response.
    pub(crate) close: bool,
    /// The encoder of the body's pieces.
    pub(crate) coder: Option<Coder>,
}

impl Reply {
    pub(crate) fn new(asked: Asked) -> Self {
        Self { asked, close: !asked.keep_alive, ..Self::default() }
    }

    /// Whether the client waits for `100 Continue`.
    pub(crate) fn waits_for_invitation(&self) -> bool {
        self.asked.waits
    }

    /// Whether the client needs `100 Continue`, which is sent once.
    pub(crate) fn take_expectation(&mut self) -> bool {
        std::mem::take(&mut self.asked.waits)
    }

    /// Whether the head has gone out.
    pub(crate) fn is_started(&self) -> bool {
        self.stage != Stage::Open
    }

    pub(crate) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// The response is too short: less than the promised length was written, so that only closing shows it.
    pub(crate) fn is_short(&self) -> bool {
        self.stage == Stage::Done && !self.mute && self.declared > self.offset
    }

    fn begin(&mut self, out: &mut Output, body: BodyKind, server: &[u8]) {
        self.lasting.complete(&mut self.head);
        let request = RequestInfo { head_request: self.asked.head_request, http10: self.asked.http10 };
        self.mute = !self.head.body_allowed(request.head_request);
        // A client without its `100 Continue` need not send the body, and some go on with the next request
        // (RFC 9110 10.1.1).
        // Its `100 Continue` would be read as part of the response from now on.
        self.close |= std::mem::take(&mut self.asked.waits) | self.head.wants_close();
        self.stage = match body {
            BodyKind::Chunked => Stage::Chunked,
            BodyKind::UntilClose => Stage::UntilClose,
            BodyKind::Sized(length) => {
                self.declared = length;
                Stage::Sized
            }
            BodyKind::Empty => Stage::Sized,
        };
        if body == BodyKind::UntilClose && !self.mute {
            self.close = true;
        }
        let now = if self.asked.undated { None } else { Some(date::now()) };
        let date = now.as_ref().map_or(&b""[..], |now| now);
        if self.asked.stream {
            out.set_head(Box::new(self.head.to_stream(request.head_request, body, date, server)));
            return;
        }
        self.head.write_to(out.tail(), request, body, date, server, !self.close);
    }

    /// `end`: the whole body, or the last of it.
    pub(crate) fn end(&mut self, out: &mut Output, length: usize, server: &[u8]) -> Framed {
        if self.stage == Stage::Open {
            // Regardless of the declared length: this is the body, or would be that of GET.
            self.begin(out, BodyKind::Sized(length as u64), server);
        }
        let place = self.put(out, length);
        let suffix: &'static [u8] = match (self.stage, self.mute, place.take) {
            (Stage::Chunked, false, 0) => b"0\r\n\r\n",
            (Stage::Chunked, false, _) => b"\r\n0\r\n\r\n",
            _ => b"",
        };
        self.stage = Stage::Done;
        // It is large, and the connection may be idle for long.
        self.coder = None;
        Framed { take: place.take, suffix }
    }

    /// The end of a body in chunks, with trailers: lines, each with its CRLF. False if the body has no place for them.
    pub(crate) fn end_with_trailers(&mut self, out: &mut Output, lines: &[u8]) -> bool {
        if self.stage != Stage::Chunked || self.mute {
            return false;
        }
        let tail = out.tail();
        tail.extend_from_slice(b"0\r\n");
        tail.extend_from_slice(lines);
        tail.extend_from_slice(b"\r\n");
        self.stage = Stage::Done;
        self.coder = None;
        true
    }

    /// `end_without_body`: nothing more, and no length that was not given.
    pub(crate) fn end_empty(&mut self, out: &mut Output, server: &[u8]) -> Framed {
        if self.stage == Stage::Open {
            self.begin(out, BodyKind::Empty, server);
            self.stage = Stage::Done;
            return NOTHING;
        }
        self.end(out, 0, server)
    }

    /// The response to a HEAD request whose length only GET would show: its head alone. `pieces`: GET would
    /// have the body in pieces.
    pub(crate) fn end_unseen(&mut self, out: &mut Output, pieces: bool, server: &[u8]) -> Framed {
        if self.stage == Stage::Open {
            let body = if pieces { self.kind_of_pieces() } else { BodyKind::UntilClose };
            self.begin(out, body, server);
        }
        self.end(out, 0, server)
    }

    /// `write`: a piece of the body.
    pub(crate) fn write(&mut self, out: &mut Output, length: usize, server: &[u8]) -> Framed {
        if length == 0 || self.is_done() {
            return NOTHING;
        }
        if self.stage == Stage::Open {
            self.begin(out, self.kind_of_pieces(), server);
        }
        self.put(out, length)
    }

    /// The head of a response in pieces, without a piece.
    pub(crate) fn begin_pieces(&mut self, out: &mut Output, server: &[u8]) {
        if self.stage == Stage::Open {
            self.begin(out, self.kind_of_pieces(), server);
        }
    }

    fn kind_of_pieces(&self) -> BodyKind {
        match self.head.declared_length() {
            Some(declared) => BodyKind::Sized(declared),
            None if self.asked.http10 || self.asked.stream => BodyKind::UntilClose,
            None => BodyKind::Chunked,
        }
    }

    /// `try_end` and `send_chunk`: the head of a response of `total` bytes.
    pub(crate) fn begin_sized(&mut self, out: &mut Output, total: u64, server: &[u8]) {
        if self.stage == Stage::Open {
            self.begin(out, BodyKind::Sized(total), server);
        }
    }

    /// Room that the declared length leaves, for `try_end` and `send_chunk`.
    pub(crate) fn room(&self) -> u64 {
        self.declared.saturating_sub(self.offset)
    }

    /// Whether `length` more bytes complete a response of known length.
    pub(crate) fn ends_with(&self, length: u64) -> bool {
        self.stage == Stage::Sized && !self.mute && self.room() == length
    }

    /// Counts `length` bytes of a sized body as taken; true if that completes the response.
    pub(crate) fn took(&mut self, length: u64) -> bool {
        self.count(length);
        if self.stage == Stage::Sized && self.offset >= self.declared {
            self.stage = Stage::Done;
        }
        self.is_done()
    }

    /// Counts `length` bytes of the body as accepted.
    pub(crate) fn count(&mut self, length: u64) {
        self.offset += length;
        self.sent += if self.mute { 0 } else { length };
    }

    /// Whether body bytes are swallowed (HEAD, 204, 304).
    pub(crate) fn is_mute(&self) -> bool {
        self.mute
    }

    fn put(&mut self, out: &mut Output, length: usize) -> Framed {
        let take = match self.stage {
            // More than the declared length would be read as the next response.
            Stage::Sized => usize::try_from(self.room()).unwrap_or(usize::MAX).min(length),
            _ => length,
        };
        self.count(take as u64);
        if self.mute || take == 0 {
            return NOTHING;
        }
        if self.stage == Stage::Chunked {
            encode_chunk_header(take, out.tail());
            return Framed { take, suffix: b"\r\n" };
        }
        Framed { take, suffix: b"" }
    }
}
