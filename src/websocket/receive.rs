//! Reassembly of one peer's frames into messages (RFC 6455 sections 5.4, 5.5 and 6.2).
//!
//! A [`Receiver`] takes the bytes of a socket, checks each as early as possible, and gives out complete
//! messages. It sends nothing: the session handles pongs, close frames and each [`Violation`].
//!
//! Memory grows with the received bytes, never with an announced length, and no further than the limit;
//! between messages there is none.

use std::mem::take;

use super::frame::{Header, OpCode, is_valid_close_code, parse_header, unmask_into};
use super::utf8::Validator;

mod violation;

pub use self::violation::Violation;

/// Inflates one whole compressed message (RFC 7692 section 7.2.2).
pub trait Inflate {
    /// Appends the inflated `message` to `out`, `limit` bytes at most: [`Violation::InflatedTooBig`] for
    /// more, and [`Violation::Inflate`] for invalid DEFLATE.
    fn inflate(&mut self, message: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), Violation>;
}

/// A message or control frame of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A text message: UTF-8.
    Text(Vec<u8>),
    /// A binary message.
    Binary(Vec<u8>),
    /// Requires a pong of the same payload (RFC 6455 section 5.5.2).
    Ping(Vec<u8>),
    /// The response to a ping, or unsolicited.
    Pong(Vec<u8>),
    /// The last thing a peer sends (RFC 6455 section 5.5.1).
    Close {
        /// Why it closes; `None` if the frame had no payload, which RFC 6455 section 7.1.5 calls 1005.
        code: Option<u16>,
        /// More on it, in UTF-8; may be empty.
        reason: Vec<u8>,
    },
}

/// Reassembles the frames of one peer. Between messages it owns no heap memory.
///
/// ```
/// use socketify::websocket::{Received, Receiver};
///
/// let mut receiver = Receiver::default();
/// let mut received = Vec::new();
/// let mut emit = |what| {
///     received.push(what);
///     true
/// };
/// let wire = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58\x88\x80";
/// let used = receiver.feed(wire, 1024, None, &mut emit)?;
/// assert_eq!(used, 11); // the header of the second frame wants its mask
/// receiver.feed(b"\x88\x80\0\0\0\0", 1024, None, &mut emit)?;
/// let close = Received::Close { code: None, reason: Vec::new() };
/// assert_eq!(received, [Received::Text(b"Hello".to_vec()), close]);
/// # Ok::<(), socketify::websocket::Violation>(())
/// ```
#[derive(Debug, Default)]
pub struct Receiver {
    /// The message so far, over all its frames; compressed if the message is.
    message: Vec<u8>,
    /// The payload so far of a control frame, which may stand between the frames of a message.
    control: Vec<u8>,
    /// The frame whose payload is being read.
    frame: Option<Frame>,
    /// The text so far; not used for compressed messages, which are text only once they are inflated.
    text: Validator,
    /// The type of the message: between its first frame and the end of its last.
    kind: Option<Kind>,
    /// The message is compressed.
    compressed: bool,
    /// A close frame came, or a rule was broken: nothing is read any more.
    ended: bool,
}

/// A frame whose header has been read.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// Bytes of payload that have not arrived.
    left: u64,
    /// Rotated so that it begins with the mask of the next byte.
    mask: [u8; 4],
    opcode: OpCode,
    fin: bool,
}

/// The two kinds of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Binary,
}

impl Receiver {
    /// Whether it is in its initial state, so that it need not be kept.
    pub fn is_idle(&self) -> bool {
        self.frame.is_none() && self.kind.is_none() && !self.ended
    }

    /// Takes as much of `bytes` as it can use and gives complete messages to `emit`, in order. It stops after
    /// an `emit` that returned false, and after a close frame for good. Returns the number of used bytes. The
    /// others, part of a header or all after a stop, are for the next call, together with later bytes.
    ///
    /// No message is longer than `limit`, neither in its frames nor inflated: 0 allows empty messages only,
    /// and `usize::MAX` allows all. `inflate` is `None` without negotiated compression. Both stay the same
    /// during the life of a connection. An error is final: later bytes are left unused.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        limit: usize,
        inflate: Option<&mut dyn Inflate>,
        emit: &mut dyn FnMut(Received) -> bool,
    ) -> Result<usize, Violation> {
        let used = self.advance(bytes, limit, inflate, emit);
        if used.is_err() {
            self.end();
        }
        used
    }

    /// Nothing more is read, so nothing is kept.
    fn end(&mut self) {
        *self = Self { ended: true, ..Self::default() };
    }

    fn advance(
        &mut self,
        bytes: &[u8],
        limit: usize,
        mut inflate: Option<&mut dyn Inflate>,
        emit: &mut dyn FnMut(Received) -> bool,
    ) -> Result<usize, Violation> {
        let mut rest = bytes;
        while !self.ended {
            let mut frame = if let Some(frame) = self.frame.take() {
                frame
            } else {
                let Some(header) = parse_header(rest)? else { break };
                rest = &rest[header.size..];
                self.begin(&header, limit, inflate.is_some())?
            };
            rest = self.payload(&mut frame, rest)?;
            if frame.left > 0 {
                self.frame = Some(frame);
                break;
            }
            let received = match frame.opcode {
                OpCode::Ping => Received::Ping(take(&mut self.control)),
                OpCode::Pong => Received::Pong(take(&mut self.control)),
                OpCode::Close => {
                    let payload = take(&mut self.control);
                    self.end();
                    close(payload)?
                }
                _ if !frame.fin => continue,
                _ => self.finish(limit, &mut inflate)?,
            };
            if !emit(received) {
                break;
            }
        }
        Ok(bytes.len() - rest.len())
    }

    /// Checks a header against the earlier frames.
    fn begin(&mut self, header: &Header, limit: usize, may_compress: bool) -> Result<Frame, Violation> {
        if header.compressed && !may_compress {
            return Err(Violation::CompressedNotNegotiated);
        }
        if !header.opcode.is_control() {
            // RFC 6455 section 5.4: a message is one frame, or one without FIN and continuations up to one with it.
            match (header.opcode, self.kind) {
                (OpCode::Continuation, None) => return Err(Violation::UnexpectedContinuation),
                (OpCode::Continuation, Some(_)) => {}
                (_, Some(_)) => return Err(Violation::Interleaved),
                (opcode, None) => {
                    self.kind = Some(if opcode == OpCode::Text { Kind::Text } else { Kind::Binary });
                    self.compressed = header.compressed;
                }
            }
            let most = if self.compressed { compressed_limit(limit) } else { limit };
            if header.length.saturating_add(self.message.len() as u64) > most as u64 {
                return Err(Violation::TooBig { limit });
            }
        }
        Ok(Frame { left: header.length, mask: header.mask, opcode: header.opcode, fin: header.fin })
    }

    /// Takes the part of the payload of `frame` that is in `bytes`, and returns the rest.
    fn payload<'a>(&mut self, frame: &mut Frame, bytes: &'a [u8]) -> Result<&'a [u8], Violation> {
        // A frame larger than the address space is certainly larger than `bytes`.
        let wanted = usize::try_from(frame.left).unwrap_or(usize::MAX);
        let (payload, rest) = bytes.split_at(wanted.min(bytes.len()));
        frame.left -= payload.len() as u64;
        if frame.opcode.is_control() {
            unmask_into(&mut self.control, payload, frame.mask, 0);
        } else {
            let start = self.message.len();
            // Once an eighth of a frame is here, the rest is expected, and gets its room at once.
            self.message.reserve(wanted.min(payload.len().saturating_add(start).saturating_mul(8)));
            unmask_into(&mut self.message, payload, frame.mask, 0);
            // Checked on arrival, so that the server does not wait for the rest of invalid text.
            if self.is_plain_text() && !self.text.push(&self.message[start..]) {
                return Err(Violation::InvalidUtf8);
            }
        }
        frame.mask.rotate_left(payload.len() % 4);
        Ok(rest)
    }

    fn is_plain_text(&self) -> bool {
        self.kind == Some(Kind::Text) && !self.compressed
    }

    /// The message is whole.
    fn finish(
        &mut self,
        limit: usize,
        inflate: &mut Option<&mut dyn Inflate>,
    ) -> Result<Received, Violation> {
        let mut message = take(&mut self.message);
        if self.is_plain_text() && !self.text.is_complete() {
            return Err(Violation::InvalidUtf8);
        }
        let kind = self.kind.take();
        if self.compressed {
            let inflate = inflate.as_mut().ok_or(Violation::CompressedNotNegotiated)?;
            let mut inflated = Vec::new();
            inflate.inflate(&message, limit, &mut inflated)?;
            // Only a codec that breaks its promise gets here.
            if inflated.len() > limit {
                return Err(Violation::InflatedTooBig { limit });
            }
            if kind == Some(Kind::Text) && std::str::from_utf8(&inflated).is_err() {
                return Err(Violation::InvalidUtf8);
            }
            message = inflated;
        }
        Ok(if kind == Some(Kind::Text) { Received::Text(message) } else { Received::Binary(message) })
    }
}

/// The longest compressed message whose inflated length is at most `limit`. Incompressible data grows: by
/// five bytes a block if it is stored, by an eighth if a simple compressor still codes it.
const fn compressed_limit(limit: usize) -> usize {
    limit.saturating_add(limit / 8).saturating_add(limit / 64).saturating_add(64)
}

/// The meaning of a close frame's payload (RFC 6455 section 5.5.1).
fn close(mut payload: Vec<u8>) -> Result<Received, Violation> {
    match *payload {
        [] => Ok(Received::Close { code: None, reason: payload }),
        [_] => Err(Violation::ClosePayload),
        [high, low, ref reason @ ..] => {
            let code = u16::from_be_bytes([high, low]);
            if !is_valid_close_code(code) {
                return Err(Violation::CloseCode { code });
            }
            if std::str::from_utf8(reason).is_err() {
                return Err(Violation::CloseReason);
            }
            payload.drain(..2);
            Ok(Received::Close { code: Some(code), reason: payload })
        }
    }
}
