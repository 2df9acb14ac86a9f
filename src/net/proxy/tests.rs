use proptest::prelude::*;

use super::*;

fn preface(command: u8, family: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([0x20 | command, family]);
    bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend(data);
    bytes
}

fn told(source: &str, destination: &str) -> Addresses {
    Addresses { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

const V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 1, 187];
const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 443\r\n";

/// IPv4 with TLVs, one of which is the checksum over all of them.
fn summed(before: &[u8], after: &[u8]) -> Vec<u8> {
    let data = [&V4[..], before, &[CHECKSUM, 0, 4, 0, 0, 0, 0], after].concat();
    let mut bytes = preface(1, 0x11, &data);
    let sum = crc32c([&bytes, &[], &[]]);
    let at = FIXED + V4.len() + before.len() + 3;
    bytes[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

#[test]
fn addresses_are_read_and_the_rest_is_left() {
    let v4 = Some(told("192.0.2.7:4660", "10.0.0.1:443"));
    let mut with_request = preface(1, 0x11, &V4);
    with_request.extend(b"GET / HTTP/1.1\r\n");
    assert_eq!(parse(&with_request), Preface::Present(28, v4));
    let mut v6 = [0_u8; 36];
    (v6[15], v6[31], v6[33]) = (1, 2, 80);
    assert_eq!(parse(&preface(1, 0x21, &v6)), Preface::Present(52, Some(told("[::1]:80", "[::2]:0"))));
    assert_eq!(parse(&preface(1, 0x31, &[7; 216])), Preface::Present(232, None));
    assert_eq!(parse(&preface(1, 0x00, b"anything")), Preface::Present(24, None));
    for family in [0, 0x11, 0xFF] {
        assert_eq!(parse(&preface(0, family, b"anything")), Preface::Present(24, None), "LOCAL, {family}");
    }
}

#[test]
fn lines_are_read() {
    let mut with_request = LINE.to_vec();
    with_request.extend(b"GET / HTTP/1.1\r\n");
    assert_eq!(
        parse(&with_request),
        Preface::Present(LINE.len(), Some(told("192.0.2.7:4660", "10.0.0.1:443")))
    );
    let v6 = b"PROXY TCP6 2001:db8::7 ::1 0 65535\r\n";
    assert_eq!(parse(v6), Preface::Present(v6.len(), Some(told("[2001:db8::7]:0", "[::1]:65535"))));
    for unknown in
        [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", b"PROXY UNKNOWN \r\n"]
    {
        assert_eq!(parse(unknown), Preface::Present(unknown.len(), None));
    }
    let longest = [b"PROXY UNKNOWN ", &[b'x'; 91][..], b"\r\n"].concat();
    assert_eq!(longest.len(), MAX_LINE);
    assert_eq!(parse(&longest), Preface::Present(MAX_LINE, None));
}

#[test]
fn every_prefix_asks_for_more_and_none_is_invalid() {
    for whole in [&preface(1, 0x11, &V4)[..], &summed(b"", b""), LINE, b"PROXY UNKNOWN\r\n"] {
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut]), Preface::Partial, "{cut} bytes of {whole:?}");
        }
    }
}

#[test]
fn what_is_a_request_is_left_to_whoever_reads_requests() {
    let others: [&[u8]; 10] = [
        b"GET / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PROPFIND / HTTP/1.1\r\n",
        b"PROXY / HTTP/1.1\r\n",
        b"PROXY * HTTP/1.1\r\n",
        b"\r\nGET / HTTP/1.1\r\n",
        b"\r\n\r\nGET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"\n",
    ];
    for bytes in others {
        assert_eq!(parse(bytes), Preface::Absent, "{bytes:?}");
    }
}

#[test]
fn what_has_not_the_form_is_invalid() {
    let mut version = preface(1, 0x11, &V4);
    version[12] = 0x11;
    let mut long = preface(1, 0x11, &V4);
    long[14] = 0xFF;
    let mut signature = preface(1, 0x11, &V4);
    signature[11] = b'X';
    let with = |tlvs: &[u8]| preface(1, 0x11, &[&V4[..], tlvs].concat());
    let binary = [
        version,
        long,
        signature,
        preface(2, 0x11, &V4),
        preface(1, 0x41, &V4),
        preface(1, 0x13, &V4),
        preface(1, 0x11, &V4[..11]),
        preface(1, 0x21, &[0; 35]),
        preface(1, 0x31, &[0; 215]),
        with(&[1]),
        with(&[1, 0]),
        with(&[1, 0, 3, 0, 0]),
        with(&[CHECKSUM, 0, 4, 1, 2, 3, 4]),
        with(&[CHECKSUM, 0, 3, 0, 0, 0]),
    ];
    for bytes in &binary {
        assert_eq!(parse(bytes), Preface::Invalid, "{bytes:?}");
    }
    for line in [
        "PROXY TCP5 192.0.2.7 10.0.0.1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 1 2 3\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 1 2 \r\n",
        "PROXY TCP4  192.0.2.7 10.0.0.1 1 2\r\n",
        "PROXY TCP4\t192.0.2.7 10.0.0.1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 1 2\rx",
        "PROXY TCP4\r192.0.2.7 10.0.0.1 1 2\r\n",
        "PROXY TCP4 192.0.2.07 10.0.0.1 1 2\r\n",
        "PROXY TCP4 192.0.2.256 10.0.0.1 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.7 10.0.0.1 1 2\r\n",
        "PROXY TCP6 [::1] [::1] 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 65536 2\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 01 2\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 +1 2\r\n",
        "PROXY TCP4 192.0.2.7 10.0.0.1 -1 2\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY \r\n",
        "PROXY  TCP4",
        "PROXY http://x/ HTTP/1.1\r\n",
    ] {
        assert_eq!(parse(line.as_bytes()), Preface::Invalid, "{line:?}");
    }
    let too_long = [b"PROXY UNKNOWN ", &[b'x'; 92][..], b"\r\n"].concat();
    assert_eq!(parse(&too_long), Preface::Invalid);
    assert_eq!(parse(&too_long[..MAX_LINE]), Preface::Invalid, "no end can come in time");
    assert_eq!(parse(&too_long[..MAX_LINE - 1]), Preface::Partial);
}

#[test]
fn a_checksum_is_of_everything_else() {
    // The check value of CRC-32C, from catalogues of such sums.
    assert_eq!(crc32c([b"1234", b"", b"56789"]), 0xE306_9283);
    let tlv = [0xEA, 0, 2, 1, 2];
    for good in [summed(b"", b""), summed(&tlv, b""), summed(b"", &tlv), summed(&tlv, &[4, 0, 0])] {
        assert!(matches!(parse(&good), Preface::Present(length, Some(_)) if length == good.len()));
        for at in 16..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(!matches!(parse(&bad), Preface::Present(..)) || checksum_is_gone(&bad), "byte {at}");
        }
    }
    let twice = summed(&[CHECKSUM, 0, 4, 0, 0, 0, 0], b"");
    assert_eq!(parse(&twice), Preface::Invalid);
}

/// A changed byte may have turned the checksum into another TLV; then it is not checked.
fn checksum_is_gone(bytes: &[u8]) -> bool {
    let mut rest = &bytes[FIXED + V4.len()..];
    while let Some((&[kind, high, low], after)) = rest.split_first_chunk::<3>() {
        if kind == CHECKSUM {
            return false;
        }
        rest = &after[usize::from(u16::from_be_bytes([high, low]))..];
    }
    true
}

proptest! {
    /// For any pieces: the verdict on the whole is that on the first piece that has one, and its length is
    /// right.
    #[test]
    fn more_bytes_change_no_verdict(
        start in prop_oneof![
            Just(preface(1, 0x11, &V4)),
            Just(LINE.to_vec()),
            Just(b"PROXY UNKNOWN x\r\n".to_vec()),
            Just(b"\r\n\r\nGET /".to_vec()),
            Just(Vec::new()),
        ],
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        tail in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = start;
        bytes.extend(tail);
        for (at, byte) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        let mut verdict = Preface::Partial;
        for cut in 0..=bytes.len() {
            let next = parse(&bytes[..cut]);
            if verdict != Preface::Partial {
                prop_assert_eq!(&next, &verdict);
            }
            if let Preface::Present(length, _) = next {
                prop_assert!(length <= cut);
            }
            verdict = next;
        }
    }
}
