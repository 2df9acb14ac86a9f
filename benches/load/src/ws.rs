//! The part of the WebSocket protocol that a floor and a load generator need: the handshake and the framing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
/// The bit of a frame's first byte that ends a message.
pub const FIN: u8 = 0x80;
/// The bit of a frame's first byte that says its message is compressed.
pub const RSV1: u8 = 0x40;
const MASKED: u8 = 0x80;

/// The `Sec-WebSocket-Accept` for this `Sec-WebSocket-Key`.
#[must_use]
pub fn accept_key(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finalize())
}

/// A `Sec-WebSocket-Key`, not random: there is no cache to protect.
#[must_use]
pub fn key(number: u64) -> String {
    let mut bytes = [0x5a; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    STANDARD.encode(bytes)
}

/// A complete request or response head.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    text: &'a str,
    /// Its length with the empty line after it.
    pub length: usize,
}

impl<'a> Head<'a> {
    /// Finds the head at the start of the received bytes; `None` if it is incomplete or malformed.
    #[must_use]
    pub fn find(input: &'a [u8]) -> Option<Self> {
        let end = input.windows(4).position(|four| four == b"\r\n\r\n")?;
        let text = std::str::from_utf8(&input[..end]).ok()?;
        Some(Self { text, length: end + 4 })
    }

    /// The first line.
    #[must_use]
    pub fn first_line(self) -> &'a str {
        self.text.lines().next().unwrap_or_default()
    }

    /// The second word of the first line: the path of a request, the status of a response.
    #[must_use]
    pub fn second_word(self) -> &'a str {
        self.first_line().split(' ').nth(1).unwrap_or_default()
    }

    /// The first header of this name.
    #[must_use]
    pub fn header(self, wanted: &str) -> Option<&'a str> {
        self.text.lines().skip(1).find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    }
}

/// A received frame.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    /// FIN, the reserved bits and the opcode.
    pub first: u8,
    pub mask: Option<[u8; 4]>,
    /// Still masked, if the frame is.
    pub payload: &'a [u8],
    /// Of the whole frame.
    pub length: usize,
}

impl<'a> Frame<'a> {
    /// Reads the frame at the start of the received bytes; `None` if it is incomplete.
    #[inline]
    #[must_use]
    pub fn find(input: &'a [u8]) -> Option<Self> {
        let [first, second, ..] = *input else { return None };
        let (size, mut start) = match second & !MASKED {
            126 => (usize::from(u16::from_be_bytes(*input.get(2..)?.first_chunk()?)), 4),
            127 => (usize::try_from(u64::from_be_bytes(*input.get(2..)?.first_chunk()?)).ok()?, 10),
            size => (usize::from(size), 2),
        };
        let mask = if second & MASKED == 0 {
            None
        } else {
            let mask = *input.get(start..)?.first_chunk()?;
            start += 4;
            Some(mask)
        };
        let length = start.checked_add(size)?;
        Some(Self { first, mask, payload: input.get(start..length)?, length })
    }

    #[must_use]
    pub fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    /// Appends the payload, unmasked.
    #[inline]
    pub fn append_payload(&self, output: &mut Vec<u8>) {
        let start = output.len();
        output.extend_from_slice(self.payload);
        if let Some(mask) = self.mask {
            apply(mask, &mut output[start..]);
        }
    }
}

/// Masks or unmasks in place.
#[inline]
fn apply(mask: [u8; 4], bytes: &mut [u8]) {
    let wide = u64::from(u32::from_ne_bytes(mask));
    let wide = wide | wide << 32;
    let (eights, rest) = bytes.as_chunks_mut::<8>();
    for eight in eights {
        *eight = (u64::from_ne_bytes(*eight) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// Appends the header of a frame that is not masked.
#[inline]
pub fn append_header(output: &mut Vec<u8>, first: u8, size: usize) {
    append_first_bytes(output, first, size, 0);
}

#[expect(clippy::cast_possible_truncation, reason = "each arm has looked at the size")]
fn append_first_bytes(output: &mut Vec<u8>, first: u8, size: usize, masked: u8) {
    match size {
        0..126 => output.extend_from_slice(&[first, masked | size as u8]),
        126..0x1_0000 => {
            output.extend_from_slice(&[first, masked | 0x7e]);
            output.extend_from_slice(&(size as u16).to_be_bytes());
        }
        _ => {
            output.extend_from_slice(&[first, masked | 0x7f]);
            output.extend_from_slice(&(size as u64).to_be_bytes());
        }
    }
}

/// A frame as a server sends it.
#[must_use]
pub fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    append_header(&mut frame, first, payload.len());
    frame.extend_from_slice(payload);
    frame
}

/// A frame as a client sends it.
#[must_use]
pub fn client_frame(first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 14);
    append_first_bytes(&mut frame, first, payload.len(), MASKED);
    frame.extend_from_slice(&mask);
    let start = frame.len();
    frame.extend_from_slice(payload);
    apply(mask, &mut frame[start..]);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_standard() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn frames_of_all_lengths_come_back_whole_and_only_whole() {
        for size in [0, 1, 7, 8, 125, 126, 127, 65_535, 65_536, 100_000] {
            let payload: Vec<u8> = (0..=250).cycle().take(size).collect();
            let sent = client_frame(FIN | BINARY, [1, 2, 3, 250], &payload);
            for end in [1, 2, 5, 6, sent.len() - 1] {
                assert!(Frame::find(&sent[..end.min(sent.len() - 1)]).is_none());
            }
            let frame = Frame::find(&sent).expect("the frame is whole");
            let mut echo = Vec::new();
            append_header(&mut echo, frame.first, frame.payload.len());
            frame.append_payload(&mut echo);
            assert_eq!(frame.length, sent.len());
            assert_eq!(echo, server_frame(FIN | BINARY, &payload));
        }
    }
}
