//! The PROXY protocol, versions 1 (text) and 2 (binary): the client's address, from a proxy in front of us.
//!
//! Pure: bytes in, addresses out. Whether a peer is trusted is not decided here.
//!
//! The parser is our own and not the crate `ppp` (2.3): that one accepts a CR for a space in version 1,
//! leaves the checksum and the form of TLVs to its caller, and buffers blocks of 64 KiB. This parser may only
//! err on the strict side, since a peer whose preface passes chooses its address.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// The twelve bytes that neither an HTTP request nor a TLS record can begin with (PROXY protocol 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2 up to the length of its block.
const FIXED: usize = 16;
/// Addresses and TLVs of an honest proxy stay far below; a larger preface is refused rather than buffered.
const MAX_BLOCK: usize = 4096;
/// Bytes of the longest line of version 1, its end included (PROXY protocol 2.1).
const MAX_LINE: usize = 107;
/// Bytes of the two paths of a Unix socket in version 2.
const UNIX_BLOCK: usize = 216;
/// The TLV that holds a CRC-32C of the whole preface.
const CHECKSUM: u8 = 0x03;

/// Both ends of a connection as the proxy saw them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// The address that the client connected to.
    pub destination: SocketAddr,
}

/// The start of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Preface {
    /// Not a PROXY preface: an ordinary request begins here.
    Absent,
    /// It may still become one: more bytes are needed.
    Partial,
    /// A whole preface with its number of bytes. The addresses are `None` for LOCAL and UNKNOWN, and for
    /// families without IP.
    Present(usize, Option<Addresses>),
    /// It begins like one, and is malformed.
    Invalid,
}

/// Looks for a preface at the start of `input`.
pub fn parse(input: &[u8]) -> Preface {
    match input.first() {
        None => Preface::Partial,
        Some(b'\r') => binary(input),
        Some(b'P') => text(input),
        Some(_) => Preface::Absent,
    }
}

/// Whether one of the two is a prefix of the other.
fn agree(input: &[u8], expected: &[u8]) -> bool {
    input.iter().zip(expected).all(|(one, other)| one == other)
}

// ---- version 1 ------------------------------------------------------------------------------------------------------

fn text(input: &[u8]) -> Preface {
    const PREFIX: &[u8] = b"PROXY ";
    // `PROXY` would be a valid method, of a target that begins with a slash.
    if !agree(input, PREFIX) || matches!(input.get(PREFIX.len()), Some(b'/' | b'*')) {
        return Preface::Absent;
    }
    if input.get(PREFIX.len()).is_some_and(|byte| !b"TU".contains(byte)) {
        return Preface::Invalid;
    }
    let window = &input[..input.len().min(MAX_LINE)];
    let Some(end) = memchr::memchr2(b'\r', b'\n', window) else {
        return if input.len() < MAX_LINE { Preface::Partial } else { Preface::Invalid };
    };
    match &window[end..] {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if input.len() < MAX_LINE => return Preface::Partial,
        _ => return Preface::Invalid,
    }
    let Some(line) = std::str::from_utf8(&window[PREFIX.len()..end]).ok() else { return Preface::Invalid };
    // "The receiver must ignore anything presented before the CRLF" (PROXY protocol 2.1).
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Preface::Present(end + 2, None);
    }
    match words(line) {
        Some(addresses) => Preface::Present(end + 2, Some(addresses)),
        None => Preface::Invalid,
    }
}

/// The addresses in the words of version 1, after the first.
fn words(line: &str) -> Option<Addresses> {
    let mut words = line.split(' ');
    let family = words.next()?;
    let (source, destination) = (words.next()?, words.next()?);
    let (source_port, destination_port) = (port(words.next()?)?, port(words.next()?)?);
    if words.next().is_some() {
        return None;
    }
    let address = |text: &str, port| {
        Some(match family {
            "TCP4" => SocketAddr::from((text.parse::<Ipv4Addr>().ok()?, port)),
            "TCP6" => SocketAddr::from((text.parse::<Ipv6Addr>().ok()?, port)),
            _ => return None,
        })
    };
    Some(Addresses {
        source: address(source, source_port)?,
        destination: address(destination, destination_port)?,
    })
}

/// A port in its shortest form.
fn port(text: &str) -> Option<u16> {
    let canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    text.parse().ok().filter(|_| canonical)
}

// ---- version 2 ------------------------------------------------------------------------------------------------------

fn binary(input: &[u8]) -> Preface {
    if !agree(input, SIGNATURE) {
        // A client that sends blank lines before its request begins like this; with the NUL only a preface
        // does.
        return if agree(input, &SIGNATURE[..5]) { Preface::Invalid } else { Preface::Absent };
    }
    if input.len() < FIXED {
        return Preface::Partial;
    }
    let (version, command) = (input[12] >> 4, input[12] & 0x0F);
    let (family, transport) = (input[13] >> 4, input[13] & 0x0F);
    let block = usize::from(u16::from_be_bytes([input[14], input[15]]));
    if version != 2 || command > 1 || block > MAX_BLOCK {
        return Preface::Invalid;
    }
    // LOCAL is a connection of the proxy itself: its addresses are to be discarded (PROXY protocol 2.2).
    if command == 1 && (family > 3 || transport > 2) {
        return Preface::Invalid;
    }
    let Some(preface) = input.get(..FIXED + block) else { return Preface::Partial };
    let data = &preface[FIXED..];
    let (addresses, rest) = match (command, family) {
        (1, 1) => match data.split_first_chunk::<12>() {
            Some((bytes, rest)) => (Some(ipv4(bytes)), rest),
            None => return Preface::Invalid,
        },
        (1, 2) => match data.split_first_chunk::<36>() {
            Some((bytes, rest)) => (Some(ipv6(bytes)), rest),
            None => return Preface::Invalid,
        },
        (1, 3) => match data.get(UNIX_BLOCK..) {
            Some(rest) => (None, rest),
            None => return Preface::Invalid,
        },
        _ => return Preface::Present(preface.len(), None),
    };
    if are_valid_tlvs(preface, preface.len() - rest.len()) {
        Preface::Present(preface.len(), addresses)
    } else {
        Preface::Invalid
    }
}

fn ipv4(bytes: &[u8; 12]) -> Addresses {
    let address = |from: usize| Ipv4Addr::new(bytes[from], bytes[from + 1], bytes[from + 2], bytes[from + 3]);
    let (source_port, destination_port) = both_ports([bytes[8], bytes[9], bytes[10], bytes[11]]);
    Addresses { source: (address(0), source_port).into(), destination: (address(4), destination_port).into() }
}

fn ipv6(bytes: &[u8; 36]) -> Addresses {
    let address = |from: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&bytes[from..from + 16]);
        Ipv6Addr::from(octets)
    };
    let (source_port, destination_port) = both_ports([bytes[32], bytes[33], bytes[34], bytes[35]]);
    Addresses {
        source: (address(0), source_port).into(),
        destination: (address(16), destination_port).into(),
    }
}

fn both_ports([a, b, c, d]: [u8; 4]) -> (u16, u16) {
    (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

/// Whether TLVs fill `preface` from `at` to its end, and a checksum among them is right. Their contents are
/// not used.
fn are_valid_tlvs(preface: &[u8], mut at: usize) -> bool {
    let mut checked = false;
    while at < preface.len() {
        let Some((&[kind, high, low], rest)) = preface[at..].split_first_chunk::<3>() else { return false };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some(value) = rest.get(..length) else { return false };
        if kind == CHECKSUM {
            let Ok(told) = <[u8; 4]>::try_from(value) else { return false };
            // The sum is of the preface with zeros in its place. There can be only one, since two could not
            // both be right.
            let (before, after) = (&preface[..at + 3], &preface[at + 7..]);
            if checked || u32::from_be_bytes(told) != crc32c([before, &[0; 4], after]) {
                return false;
            }
            checked = true;
        }
        at += 3 + length;
    }
    true
}

/// CRC-32C (RFC 9260 appendix A), bit by bit: it is computed at most once a connection, over a few hundred
/// bytes.
fn crc32c(parts: [&[u8]; 3]) -> u32 {
    let mut sum = u32::MAX;
    for byte in parts.into_iter().flatten() {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (0x82F6_3B78 & (sum & 1).wrapping_neg());
        }
    }
    !sum
}

#[cfg(test)]
mod tests;
