//! PROXY prefaces: a decision on a part holds for the whole, and a proxy's preface is read correctly.
#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use socketify::net::proxy::{Addresses, Preface, parse};

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Bytes(&'a [u8]),
    /// Two ends, in the text of version 1 or the bytes of version 2, with TLVs after them there, and the
    /// client's bytes.
    Written {
        binary: bool,
        ends: Ends,
        tlvs: Vec<(u8, &'a [u8])>,
        rest: &'a [u8],
    },
}

#[derive(Arbitrary, Debug)]
enum Ends {
    V4([(u32, u16); 2]),
    V6([(u128, u16); 2]),
}

/// The longest accepted line of version 1, and the longest block of version 2 with its header.
const LONGEST: (usize, usize) = (107, 16 + 4096);

fn addresses(ends: &Ends) -> Addresses {
    let [source, destination] = match *ends {
        Ends::V4(ends) => ends.map(|(bits, port)| SocketAddr::from((Ipv4Addr::from(bits), port))),
        Ends::V6(ends) => ends.map(|(bits, port)| SocketAddr::from((Ipv6Addr::from(bits), port))),
    };
    Addresses { source, destination }
}

fn text(ends: &Ends) -> Vec<u8> {
    let Addresses { source, destination } = addresses(ends);
    let family = if source.is_ipv4() { 4 } else { 6 };
    let (from, to) = (source.ip(), destination.ip());
    format!("PROXY TCP{family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

fn binary(ends: &Ends, tlvs: &[(u8, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    let family: u8 = match ends {
        Ends::V4(ends) => {
            block.extend(ends.iter().flat_map(|(bits, _)| bits.to_be_bytes()));
            block.extend(ends.iter().flat_map(|(_, port)| port.to_be_bytes()));
            0x11
        }
        Ends::V6(ends) => {
            block.extend(ends.iter().flat_map(|(bits, _)| bits.to_be_bytes()));
            block.extend(ends.iter().flat_map(|(_, port)| port.to_be_bytes()));
            0x21
        }
    };
    for (kind, value) in tlvs {
        // A checksum would have to be correct.
        let Ok(length) = u16::try_from(value.len()) else { continue };
        if *kind != 0x03 && block.len() + value.len() + 3 <= 4096 {
            block.push(*kind);
            block.extend(length.to_be_bytes());
            block.extend_from_slice(value);
        }
    }
    let length = u16::try_from(block.len()).expect("it is bounded");
    [&b"\r\n\r\n\0\r\nQUIT\n\x21"[..], &[family], &length.to_be_bytes(), &block].concat()
}

/// A decision on the first bytes is the decision on all of them.
fn check(bytes: &[u8]) {
    let whole = parse(bytes);
    if let Preface::Present(length, _) = whole {
        assert!(length <= bytes.len());
        let longest = if bytes[0] == b'P' { LONGEST.0 } else { LONGEST.1 };
        assert!(length <= longest, "{length} bytes");
        assert_eq!(parse(&bytes[..length]), whole, "what is behind it counts");
    }
    for end in 0..bytes.len().min(LONGEST.1 + 16) {
        match parse(&bytes[..end]) {
            Preface::Partial => {}
            decided => {
                assert_eq!(decided, whole, "after {end} bytes");
                break;
            }
        }
    }
    if bytes.len() > LONGEST.1 {
        assert_ne!(whole, Preface::Partial, "it goes on without end");
    }
}

fuzz_target!(|input: Input<'_>| match input {
    Input::Bytes(bytes) => check(bytes),
    Input::Written { binary: in_bytes, ends, tlvs, rest } => {
        let preface = if in_bytes { binary(&ends, &tlvs) } else { text(&ends) };
        let wire = [&preface, rest].concat();
        assert_eq!(parse(&wire), Preface::Present(preface.len(), Some(addresses(&ends))));
        check(&wire);
    }
});
