//! The server's half of the opening handshake (RFC 6455 section 4.2).
//!
//! [`examine`] tells whether a request to a WebSocket route is a handshake. The session responds, with
//! [`accept`] as the proof that this server knows the protocol. The compression is not negotiated here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::http::head::{Framing, Head, HeaderLines};
use crate::http::{is_token_byte, list_members};

/// The text that both sides append to the key (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455 section 4.2.2).
///
/// ```
/// use socketify::websocket::handshake::accept;
///
/// assert_eq!(&accept(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
pub fn accept(key: &[u8]) -> [u8; 28] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut text = [0; 28];
    let written = STANDARD.encode_slice(digest, &mut text);
    debug_assert!(matches!(written, Ok(28)), "20 bytes are 28 characters");
    text
}

/// Whether `key` is 16 bytes in base64 (RFC 6455 section 4.1). The four unused bits of the last digit may be
/// anything (RFC 4648 section 3.5 lets a decoder choose): the example in RFC 6455 itself does not clear them.
pub fn is_valid_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    matches!(key, [digits @ .., b'=', b'='] if digits.len() == 22 && digits.iter().all(is_digit))
}

/// The first of the subprotocols in `offers`, a comma-separated list, without the whitespace around it;
/// `None` if there is none or it is no token, as RFC 6455 section 4.1 requires.
///
/// ```
/// use socketify::websocket::handshake::first_protocol;
///
/// assert_eq!(first_protocol(b" chat , superchat"), Some(&b"chat"[..]));
/// assert_eq!(first_protocol(b"two words"), None);
/// ```
pub fn first_protocol(offers: &[u8]) -> Option<&[u8]> {
    list_members(offers).next().filter(|offer| offer.iter().all(|&byte| is_token_byte(byte)))
}

/// The kind of a request to a WebSocket route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// An ordinary request: no `Upgrade: websocket`, or not with its connection option.
    Absent,
    /// A handshake that cannot be accepted, with the status of the response: 400, or 426 with
    /// `Sec-WebSocket-Version: 13` (RFC 6455 section 4.4).
    Refused(u16),
    /// A handshake.
    Valid,
}

/// Examines a request; `bytes` is the buffer `head` was parsed from.
///
/// ```
/// use socketify::http::head::{HeadLimits, parse};
/// use socketify::websocket::handshake::{Handshake, examine};
///
/// let bytes = b"GET /chat HTTP/1.1\r\nHost: example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
///     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// let head = parse(bytes, &HeadLimits::default())?.expect("it is complete");
/// assert_eq!(examine(&head, bytes), Handshake::Valid);
/// # Ok::<(), socketify::http::head::Refusal>(())
/// ```
pub fn examine(head: &Head, bytes: &[u8]) -> Handshake {
    if !head.upgrade {
        return Handshake::Absent;
    }
    let mut websocket = false;
    let (mut key, mut version) = (Field::Missing, Field::Missing);
    for (name, value) in HeaderLines::new(head.header_block(bytes)) {
        match name.len() {
            // RFC 9110 section 7.8: a list, compared without regard to case.
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                websocket |= list_members(value).any(|member| member.eq_ignore_ascii_case(b"websocket"));
            }
            17 if name.eq_ignore_ascii_case(b"sec-websocket-key") => key.add(is_valid_key(value)),
            21 if name.eq_ignore_ascii_case(b"sec-websocket-version") => version.add(value == b"13"),
            _ => {}
        }
    }
    if head.http2 {
        // RFC 8441 section 5: an extended CONNECT, whose frames are the data of its stream. It has no key.
        return if matches!(version, Field::Valid) { Handshake::Valid } else { Handshake::Refused(426) };
    }
    if !websocket {
        return Handshake::Absent;
    }
    // RFC 6455 section 4.2.1 item 1: a GET. Bytes of a body would be read as frames.
    if head.method(bytes) != b"GET" || !matches!(head.framing, Framing::None | Framing::Length(0)) {
        return Handshake::Refused(400);
    }
    // The version comes first, because it defines the key.
    match (version, key) {
        (Field::Valid, Field::Valid) => Handshake::Valid,
        (Field::Valid, _) => Handshake::Refused(400),
        _ => Handshake::Refused(426),
    }
}

/// A header that must occur exactly once (RFC 6455 sections 11.3.1 and 11.3.5).
#[derive(Clone, Copy)]
enum Field {
    Missing,
    Valid,
    Invalid,
}

impl Field {
    fn add(&mut self, is_valid: bool) {
        *self = if is_valid && matches!(self, Self::Missing) { Self::Valid } else { Self::Invalid };
    }
}

/// Whether this is Safari 15.0 to 15.3, which cannot read the compression that it agreed to (C-H-09 of the
/// API specification): agree on none with this `User-Agent`.
///
/// ```
/// use socketify::websocket::handshake::breaks_compression;
///
/// let safari = b"Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/15.2 Safari/605.1.15";
/// assert!(breaks_compression(safari));
/// ```
pub fn breaks_compression(user_agent: &[u8]) -> bool {
    let mut products = user_agent.split(|&byte| byte == b' ');
    let is_broken = |product: &[u8]| match product.strip_prefix(b"Version/15.") {
        Some([b'0'..=b'3', rest @ ..]) => !matches!(rest, [b'0'..=b'9', ..]),
        _ => false,
    };
    products.any(is_broken) && products.any(|product| product.starts_with(b"Safari/"))
}
