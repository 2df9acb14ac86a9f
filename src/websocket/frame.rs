//! Frames on the wire (RFC 6455 section 5.2): headers read and written, masks, the payload of a close frame.
//!
//! [`parse_header`] checks everything that one header alone decides. The
//! [`Receiver`](super::receive::Receiver) checks the rest: earlier frames, limits and extensions. Writing is
//! for servers only: no mask.

use super::receive::Violation;

/// The bit of the last frame of a message.
const FIN: u8 = 0x80;
/// The bit with which permessage-deflate marks compressed messages (RFC 7692 section 6).
const RSV1: u8 = 0x40;
/// The bits without a meaning in any known extension.
const RSV2_AND_3: u8 = 0x30;
/// The bit of a masked frame, in the second byte.
const MASKED: u8 = 0x80;
/// In place of a length: the next two bytes have it.
const LENGTH_16: u8 = 126;
/// In place of a length: the next eight bytes have it.
const LENGTH_64: u8 = 127;
/// The longest payload of a control frame (RFC 6455 section 5.5).
pub const MAX_CONTROL: usize = 125;
/// The longest reason of a close frame: the code takes two bytes.
const MAX_REASON: usize = MAX_CONTROL - 2;

/// The type of a frame (RFC 6455 section 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OpCode {
    /// A further frame of a fragmented message.
    Continuation = 0,
    /// A text message, or its first frame.
    Text = 1,
    /// A binary message, or its first frame.
    Binary = 2,
    /// The last frame a peer sends.
    Close = 8,
    /// Requires a pong.
    Ping = 9,
    /// The response to a ping, or an unsolicited heartbeat.
    Pong = 10,
}

impl OpCode {
    /// Whether frames of this kind are control frames: short, whole, and free to stand between fragments
    /// (RFC 6455 section 5.5).
    pub const fn is_control(self) -> bool {
        self as u8 & 8 != 0
    }

    /// The meaning of four bits of a header; `None` for those that RFC 6455 reserves.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::Continuation),
            1 => Some(Self::Text),
            2 => Some(Self::Binary),
            8 => Some(Self::Close),
            9 => Some(Self::Ping),
            10 => Some(Self::Pong),
            _ => None,
        }
    }
}

/// The header of a client's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// No further frame belongs to the message.
    pub fin: bool,
    /// RSV1: this frame begins a compressed message.
    pub compressed: bool,
    /// The type of the frame.
    pub opcode: OpCode,
    /// The mask of the payload.
    pub mask: [u8; 4],
    /// Bytes of payload, below 2^63.
    pub length: u64,
    /// Bytes of the header itself; the payload starts after them.
    pub size: usize,
}

/// Parses the frame header at the start of `bytes`; `Ok(None)` asks for more of them. An error that no
/// further byte can fix is reported at once, so the result does not depend on the pieces.
///
/// ```
/// use socketify::websocket::frame::{OpCode, parse_header};
///
/// let frame = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
/// let header = parse_header(frame)?.expect("it is complete");
/// assert_eq!((header.fin, header.opcode, header.length, header.size), (true, OpCode::Text, 5, 6));
/// assert_eq!(parse_header(&frame[..5])?, None);
/// # Ok::<(), socketify::websocket::Violation>(())
/// ```
pub fn parse_header(bytes: &[u8]) -> Result<Option<Header>, Violation> {
    let [first, rest @ ..] = bytes else { return Ok(None) };
    // RFC 6455 section 5.2: RSV bits without a negotiated meaning fail the connection.
    if first & RSV2_AND_3 != 0 {
        return Err(Violation::ReservedBits);
    }
    let bits = first & 0x0f;
    let opcode = OpCode::from_bits(bits).ok_or(Violation::UnknownOpCode { bits })?;
    let fin = first & FIN != 0;
    let compressed = first & RSV1 != 0;
    // RFC 6455 section 5.5: control frames "MUST NOT be fragmented".
    if opcode.is_control() && !fin {
        return Err(Violation::FragmentedControl);
    }
    // RFC 7692 section 6.1: the bit is for the first frame of a message, and never for control frames.
    if compressed && !matches!(opcode, OpCode::Text | OpCode::Binary) {
        return Err(Violation::MisplacedCompression);
    }
    let [second, rest @ ..] = rest else { return Ok(None) };
    // RFC 6455 section 5.1: "The server MUST close the connection upon receiving a frame that is not masked."
    if second & MASKED == 0 {
        return Err(Violation::Unmasked);
    }
    let short = second & !MASKED;
    if opcode.is_control() && usize::from(short) > MAX_CONTROL {
        return Err(Violation::ControlTooLong);
    }
    let Some((length, rest)) = parse_length(short, rest)? else { return Ok(None) };
    let Some((&mask, payload)) = rest.split_first_chunk() else { return Ok(None) };
    Ok(Some(Header { fin, compressed, opcode, mask, length, size: bytes.len() - payload.len() }))
}

/// The payload length and the bytes after it; `short` is the length in the second byte.
fn parse_length(short: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, Violation> {
    match (short, rest) {
        // RFC 6455 section 5.2: "the minimal number of bytes MUST be used to encode the length".
        (LENGTH_16, [0, 0..LENGTH_16, ..]) | (LENGTH_64, [0, 0, 0, 0, 0, 0, ..]) => {
            Err(Violation::LengthNotMinimal)
        }
        (LENGTH_16, _) => {
            Ok(rest.split_first_chunk().map(|(length, rest)| (u16::from_be_bytes(*length).into(), rest)))
        }
        // The same section: "the most significant bit MUST be 0".
        (LENGTH_64, [0x80..=0xff, ..]) => Err(Violation::LengthOverflow),
        (LENGTH_64, _) => {
            Ok(rest.split_first_chunk().map(|(length, rest)| (u64::from_be_bytes(*length), rest)))
        }
        _ => Ok(Some((short.into(), rest))),
    }
}

/// Appends the header of an unmasked frame, which is a server's (RFC 6455 section 5.1); `length` bytes of payload
/// follow it.
///
/// ```
/// use socketify::websocket::frame::{OpCode, encode_header};
///
/// let mut out = Vec::new();
/// encode_header(&mut out, true, false, OpCode::Text, 5);
/// out.extend_from_slice(b"Hello");
/// assert_eq!(out, b"\x81\x05Hello");
/// ```
pub fn encode_header(out: &mut Vec<u8>, fin: bool, compressed: bool, opcode: OpCode, length: usize) {
    let mut first = opcode as u8;
    if fin {
        first |= FIN;
    }
    if compressed {
        first |= RSV1;
    }
    if let Ok(length) = u16::try_from(length) {
        match u8::try_from(length) {
            Ok(short) if short < LENGTH_16 => out.extend_from_slice(&[first, short]),
            _ => {
                let [high, low] = length.to_be_bytes();
                out.extend_from_slice(&[first, LENGTH_16, high, low]);
            }
        }
    } else {
        out.extend_from_slice(&[first, LENGTH_64]);
        out.extend_from_slice(&(length as u64).to_be_bytes());
    }
}

/// Appends `payload` unmasked; `offset` bytes of the frame's payload came before it (RFC 6455 section 5.3).
///
/// ```
/// use socketify::websocket::frame::unmask_into;
///
/// let mut out = Vec::new();
/// unmask_into(&mut out, b"\x7f\x9f\x4d", *b"\x37\xfa\x21\x3d", 0);
/// unmask_into(&mut out, b"\x51\x58", *b"\x37\xfa\x21\x3d", 3);
/// assert_eq!(out, b"Hello");
/// ```
pub fn unmask_into(out: &mut Vec<u8>, payload: &[u8], mut mask: [u8; 4], offset: usize) {
    mask.rotate_left(offset % 4);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = payload.as_chunks();
    out.reserve(payload.len());
    // An iterator of exactly known length is written without a check at each step, in one pass and with
    // vector instructions: several times faster than a copy that is unmasked in place.
    out.extend(words.iter().flat_map(|&word| (u64::from_ne_bytes(word) ^ wide).to_ne_bytes()));
    out.extend(tail.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
}

/// The payload of a close frame (RFC 6455 section 5.5.1). Codes 0, 1005, 1006 and 1015, which no frame
/// carries, give an empty payload. `reason` is cut to valid UTF-8 within the available 123 bytes, between
/// characters: a client must fail a connection that is closed with anything else.
///
/// ```
/// use socketify::websocket::frame::close_payload;
///
/// assert_eq!(close_payload(1000, b"bye"), b"\x03\xe8bye");
/// assert_eq!(close_payload(1005, b"bye"), b"");
/// ```
pub fn close_payload(code: u16, reason: &[u8]) -> Vec<u8> {
    // RFC 6455 section 7.4.1: all but 0 "MUST NOT be set as a status code in a Close control frame".
    if matches!(code, 0 | 1005 | 1006 | 1015) {
        return Vec::new();
    }
    let reason = &reason[..reason.len().min(MAX_REASON)];
    let whole = std::str::from_utf8(reason).map_or_else(|error| error.valid_up_to(), str::len);
    let mut payload = Vec::with_capacity(2 + whole);
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(&reason[..whole]);
    payload
}

/// Whether a peer may send this code in a close frame: RFC 6455 section 7.4 and its registry define some for
/// the wire, and leave others to libraries and applications.
pub fn is_valid_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
