//! The PROXY protocol, version 2 (binary): the address of a client as a proxy in front of us saw it.
//!
//! Pure: bytes in, address out. Version 1 (text) is not understood, as in the original.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The twelve bytes that no HTTP request can begin with (PROXY protocol 2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED: usize = 16;
/// Addresses and TLVs of an honest proxy stay far below; a larger preface is refused rather than buffered.
const MAX_BLOCK: usize = 4096;

/// What the start of a connection holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Preface {
    /// Not a PROXY preface: an ordinary request begins here.
    Absent,
    /// It may still become one: more bytes are needed.
    Partial,
    /// A whole preface of so many bytes. The address is none for LOCAL and for families that have no IP.
    Present(usize, Option<IpAddr>),
    /// It has the signature but not the form.
    Invalid,
}

/// Looks for a preface at the start of `input`.
pub fn parse(input: &[u8]) -> Preface {
    let shared = input.len().min(SIGNATURE.len());
    if input.is_empty() || input[..shared] != SIGNATURE[..shared] {
        return Preface::Absent;
    }
    // Up to here a client that sends blank lines before its request looks the same; "\r\n\r\n\0" does not.
    if input.len() <= 4 {
        return Preface::Absent;
    }
    if input.len() < FIXED {
        return Preface::Partial;
    }
    let (version, command) = (input[12] >> 4, input[12] & 0x0F);
    let block = usize::from(u16::from_be_bytes([input[14], input[15]]));
    if version != 2 || command > 1 || block > MAX_BLOCK {
        return Preface::Invalid;
    }
    let Some(data) = input.get(FIXED..FIXED + block) else { return Preface::Partial };
    let address = match (command, input[13] >> 4) {
        (1, 1) => data.first_chunk::<4>().map(|octets| IpAddr::V4(Ipv4Addr::from(*octets))),
        (1, 2) => data.first_chunk::<16>().map(|octets| IpAddr::V6(Ipv6Addr::from(*octets))),
        _ => return Preface::Present(FIXED + block, None),
    };
    address.map_or(Preface::Invalid, |address| Preface::Present(FIXED + block, Some(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preface(command: u8, family: u8, data: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn addresses_are_read_and_the_rest_is_left() {
        let v4 = preface(1, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 0, 80, 1, 187]);
        let mut with_request = v4.clone();
        with_request.extend(b"GET / HTTP/1.1\r\n");
        assert_eq!(parse(&with_request), Preface::Present(28, Some("192.0.2.7".parse().unwrap())));
        let mut v6 = [0_u8; 36];
        v6[15] = 1;
        assert_eq!(parse(&preface(1, 0x21, &v6)), Preface::Present(52, Some("::1".parse().unwrap())));
        assert_eq!(parse(&preface(0, 0, &[])), Preface::Present(16, None));
    }

    #[test]
    fn every_prefix_asks_for_more_and_none_is_invalid() {
        let whole = preface(1, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 0, 80, 1, 187]);
        for cut in 5..whole.len() {
            assert_eq!(parse(&whole[..cut]), Preface::Partial, "{cut} bytes");
        }
        assert_eq!(parse(b"GET / HTTP/1.1\r\n"), Preface::Absent);
        assert_eq!(parse(b"\r\nGET /"), Preface::Absent);
    }

    #[test]
    fn wrong_versions_and_short_blocks_are_invalid() {
        let mut wrong = preface(1, 0x11, &[0; 12]);
        wrong[12] = 0x11;
        assert_eq!(parse(&wrong), Preface::Invalid);
        assert_eq!(parse(&preface(1, 0x11, &[1, 2])), Preface::Invalid);
    }
}
