//! Which offer of a client is accepted, and the response to it (RFC 7692 sections 5 and 7.1).

use std::mem::replace;

use super::{Compression, MAX_BITS, MIN_BITS};
use crate::http::trim_blanks;

/// The result of the negotiation with one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// Our messages may repeat parts of those before them.
    server_takeover: bool,
    /// Our window, 9 to 15 bits.
    server_bits: u8,
    /// The response names our window: the client asked for it, or it is not the largest.
    server_bits_named: bool,
    /// The client's messages may repeat parts of those before them.
    client_takeover: bool,
    /// With takeover, the client's window, 8 to 15 bits. The response names it if it is not the largest.
    client_bits: u8,
}

impl Agreed {
    /// Appends the value of the `Sec-WebSocket-Extensions` line of the response.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"permessage-deflate");
        if !self.server_takeover {
            out.extend_from_slice(b"; server_no_context_takeover");
        }
        if !self.client_takeover {
            out.extend_from_slice(b"; client_no_context_takeover");
        }
        if self.server_bits_named {
            write_bits(b"; server_max_window_bits=", self.server_bits, out);
        }
        if self.client_takeover && self.client_bits < MAX_BITS {
            write_bits(b"; client_max_window_bits=", self.client_bits, out);
        }
    }

    /// Sockets with equal keys may share the bytes of one compressed message. `None` if each message depends
    /// on the earlier ones. See [`deflate_shared`](super::deflate_shared).
    pub fn shared_key(&self) -> Option<u8> {
        (!self.server_takeover).then_some(self.server_bits)
    }

    pub(super) fn server_takeover(self) -> bool {
        self.server_takeover
    }

    pub(super) fn server_bits(self) -> u8 {
        self.server_bits
    }

    pub(super) fn client_takeover(self) -> bool {
        self.client_takeover
    }

    pub(super) fn client_bits(self) -> u8 {
        self.client_bits
    }
}

fn write_bits(name: &[u8], bits: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    if bits >= 10 {
        out.push(b'0' + bits / 10);
    }
    out.push(b'0' + bits % 10);
}

/// Accepts the first acceptable of the offered extensions: `offers` is the value of
/// `Sec-WebSocket-Extensions`, several lines joined by a comma. `None`: the connection is not compressed, and
/// the response has no extension.
///
/// Offers stand in the client's order of preference (RFC 7692 section 5.1). An offer with an unknown,
/// repeated or meaningless parameter is declined (section 7.1), and the next one is tried.
///
/// ```
/// use socketify::websocket::deflate::{Compression, negotiate};
///
/// let dedicated = Compression::from_options(145 | 2304)?.ok_or("no compression")?;
/// let offers = b"permessage-deflate; server_max_window_bits=8, permessage-deflate; client_max_window_bits";
/// let mut answer = Vec::new();
/// negotiate(&dedicated, offers).ok_or("declined")?.write_to(&mut answer);
/// assert_eq!(answer, b"permessage-deflate; server_max_window_bits=9; client_max_window_bits=9");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn negotiate(wanted: &Compression, offers: &[u8]) -> Option<Agreed> {
    split_outside_quotes(offers, b',').find_map(|offer| accept(*wanted, &Offer::parse(offer)?))
}

/// One offer of permessage-deflate.
#[derive(Default)]
struct Offer {
    server_no_takeover: bool,
    client_no_takeover: bool,
    server_bits: Option<u8>,
    /// The client can be told a window,
    client_bits_offered: bool,
    /// of at most so many bits.
    client_bits: Option<u8>,
}

impl Offer {
    /// `None` for another extension, and for an offer to be declined.
    fn parse(text: &[u8]) -> Option<Self> {
        let mut parts = split_outside_quotes(text, b';');
        if trim_blanks(parts.next()?) != b"permessage-deflate" {
            return None;
        }
        let mut offer = Self::default();
        for part in parts {
            let mut halves = part.splitn(2, |&byte| byte == b'=');
            let name = trim_blanks(halves.next()?);
            let value = halves.next().map(trim_blanks);
            let first = match (name, value) {
                (b"server_no_context_takeover", None) => !replace(&mut offer.server_no_takeover, true),
                (b"client_no_context_takeover", None) => !replace(&mut offer.client_no_takeover, true),
                // RFC 7692 section 7.1.2.1: this one has a value.
                (b"server_max_window_bits", Some(value)) => offer.server_bits.replace(bits(value)?).is_none(),
                // RFC 7692 section 7.1.2.2: this one may have.
                (b"client_max_window_bits", value) => {
                    if let Some(value) = value {
                        offer.client_bits = Some(bits(value)?);
                    }
                    !replace(&mut offer.client_bits_offered, true)
                }
                _ => false,
            };
            if !first {
                return None;
            }
        }
        Some(offer)
    }
}

fn accept(wanted: Compression, offer: &Offer) -> Option<Agreed> {
    // RFC 7692 section 7.1.1.1: the client's server_no_context_takeover is met, or the offer declined.
    let server_window = wanted.compressor.filter(|_| !offer.server_no_takeover);
    let server_bits = server_window.unwrap_or(MAX_BITS).min(offer.server_bits.unwrap_or(MAX_BITS));
    // RFC 7692 section 7.1.2.1: the response must not exceed the request, and no compressor supports 8.
    if server_bits < MIN_BITS {
        return None;
    }
    let client_window = wanted.decompressor.filter(|_| !offer.client_no_takeover);
    let limit = offer.client_bits.unwrap_or(MAX_BITS);
    let client_bits = client_window.unwrap_or(MAX_BITS).min(limit);
    Some(Agreed {
        server_takeover: server_window.is_some(),
        server_bits,
        server_bits_named: offer.server_bits.is_some() || server_bits < MAX_BITS,
        // RFC 7692 section 7.1.2.2: a client that did not offer it cannot be told a window. Then it uses the
        // largest, of which we would forget a part: it has to start anew with each message.
        client_takeover: client_window.is_some() && (client_bits == MAX_BITS || offer.client_bits_offered),
        client_bits,
    })
}

/// A window of 8 to 15 bits: decimal, no leading zero (RFC 7692 section 7.1.2), as a token or a quoted string
/// (RFC 6455 section 9.1).
fn bits(value: &[u8]) -> Option<u8> {
    let (text, quoted) = match value {
        [b'"', inner @ .., b'"'] => (inner, true),
        value => (value, false),
    };
    let mut number = 0;
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        // A quoted pair is the byte after the backslash (RFC 9110 section 5.6.4).
        let digit = if quoted && byte == b'\\' { *bytes.next()? } else { byte };
        let leading_zero = number == 0 && digit == b'0';
        if !digit.is_ascii_digit() || leading_zero || number > MAX_BITS {
            return None;
        }
        number = number * 10 + (digit - b'0');
    }
    (8..=MAX_BITS).contains(&number).then_some(number)
}

/// The parts of `text` between separators that stand in no quoted string (RFC 9110 section 5.6.4).
fn split_outside_quotes(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |&byte| {
        let literal = escaped;
        escaped = quoted && !literal && byte == b'\\';
        quoted ^= byte == b'"' && !literal;
        byte == separator && !quoted
    })
}
