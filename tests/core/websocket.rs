//! WebSocket bytes in and out, as tables. Rows cite the API specification (C-) and the section of RFC 6455 or
//! RFC 7692.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use socketify::websocket::{Inflate, OpCode, Received, Receiver, Violation};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const RSV1: u8 = 0x40;

/// A client's frame. `first` is its first byte on the wire.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut wire = vec![first];
    match payload.len() {
        short @ 0..=125 => wire.push(0x80 | u8::try_from(short).unwrap()),
        medium @ 126..=0xffff => {
            wire.push(0xfe);
            wire.extend(u16::try_from(medium).unwrap().to_be_bytes());
        }
        long => {
            wire.push(0xff);
            wire.extend((long as u64).to_be_bytes());
        }
    }
    wire.extend(MASK);
    wire.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    wire
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes(), reason].concat())
}

fn text(text: &str) -> Received {
    Received::Text(text.into())
}

fn binary(bytes: &[u8]) -> Received {
    Received::Binary(bytes.into())
}

mod frames {
    use proptest::prelude::*;
    use socketify::websocket::frame::{
        Header, OpCode, close_payload, encode_header, is_valid_close_code, parse_header, unmask_into,
    };
    use socketify::websocket::{Receiver, Violation};

    #[test]
    fn sizes_stay_small() {
        assert!(size_of::<Violation>() <= 32, "{}", size_of::<Violation>());
        assert!(size_of::<Receiver>() <= 96, "{}", size_of::<Receiver>());
        assert!(size_of::<Header>() <= 32, "{}", size_of::<Header>());
    }

    /// RFC 6455 section 11.8.
    #[test]
    fn opcodes() {
        for bits in 0..=u8::MAX {
            let opcode = OpCode::from_bits(bits);
            assert_eq!(opcode.is_some(), matches!(bits, 0..=2 | 8..=10), "{bits}");
            if let Some(opcode) = opcode {
                assert_eq!((opcode as u8, opcode.is_control()), (bits, bits >= 8));
            }
        }
    }

    /// Every valid header, and no shorter piece of it.
    #[test]
    fn headers() {
        use OpCode::{Binary, Close, Continuation, Ping, Pong, Text};
        let cases: [(&[u8], bool, bool, OpCode, u64); 14] = [
            (b"\x81\x80", true, false, Text, 0),
            (b"\x01\x85", false, false, Text, 5),
            (b"\x82\xfd", true, false, Binary, 125),
            (b"\xc1\x81", true, true, Text, 1),
            (b"\x42\x81", false, true, Binary, 1),
            (b"\x00\x80", false, false, Continuation, 0),
            (b"\x80\x81", true, false, Continuation, 1),
            (b"\x88\x80", true, false, Close, 0),
            (b"\x89\xfd", true, false, Ping, 125),
            (b"\x8a\x81", true, false, Pong, 1),
            (b"\x82\xfe\x00\x7e", true, false, Binary, 126),
            (b"\x82\xfe\xff\xff", true, false, Binary, 0xffff),
            (b"\x82\xff\0\0\0\0\0\x01\0\0", true, false, Binary, 0x1_0000),
            (b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff", true, false, Binary, u64::MAX >> 1),
        ];
        for (start, fin, compressed, opcode, length) in cases {
            let mask = [1, 2, 3, 4];
            let wire = [start, &mask, b"payload"].concat();
            let size = start.len() + 4;
            let header = Header { fin, compressed, opcode, mask, length, size };
            assert_eq!(parse_header(&wire), Ok(Some(header)), "{start:x?}");
            for end in 0..size {
                assert_eq!(parse_header(&wire[..end]), Ok(None), "{start:x?} up to {end}");
            }
        }
    }

    /// C-F-02, C-F-04. The given bytes are the fewest that decide it, and later bytes change nothing.
    #[test]
    fn refusals_come_with_the_first_byte_that_settles_them() {
        let cases: [(&[u8], Violation); 22] = [
            (b"\xa1", Violation::ReservedBits),
            (b"\x91", Violation::ReservedBits),
            (b"\xf8", Violation::ReservedBits),
            (b"\x83", Violation::UnknownOpCode { bits: 3 }),
            (b"\x87", Violation::UnknownOpCode { bits: 7 }),
            (b"\x8b", Violation::UnknownOpCode { bits: 11 }),
            (b"\x0f", Violation::UnknownOpCode { bits: 15 }),
            (b"\x08", Violation::FragmentedControl),
            (b"\x09", Violation::FragmentedControl),
            (b"\x0a", Violation::FragmentedControl),
            (b"\xc0", Violation::MisplacedCompression),
            (b"\x40", Violation::MisplacedCompression),
            (b"\xc8", Violation::MisplacedCompression),
            (b"\xc9", Violation::MisplacedCompression),
            (b"\x81\x05", Violation::Unmasked),
            (b"\x88\x00", Violation::Unmasked),
            (b"\x88\xfe", Violation::ControlTooLong),
            (b"\x89\xff", Violation::ControlTooLong),
            (b"\x81\xfe\x00\x7d", Violation::LengthNotMinimal),
            (b"\x81\xff\0\0\0\0\0\0", Violation::LengthNotMinimal),
            (b"\x81\xff\x80", Violation::LengthOverflow),
            (b"\x81\xff\xff", Violation::LengthOverflow),
        ];
        for (wire, violation) in cases {
            assert_eq!(parse_header(wire), Err(violation), "{wire:x?}");
            assert_eq!(parse_header(&wire[..wire.len() - 1]), Ok(None), "{wire:x?} was settled earlier");
            for next in [0, 0x7f, 0xff] {
                assert_eq!(parse_header(&[wire, &[next; 16]].concat()), Err(violation), "{wire:x?}");
            }
        }
    }

    #[test]
    fn encoded_headers() {
        let cases: [(bool, bool, OpCode, usize, &[u8]); 9] = [
            (true, false, OpCode::Text, 0, b"\x81\x00"),
            (false, false, OpCode::Binary, 1, b"\x02\x01"),
            (true, true, OpCode::Text, 125, b"\xc1\x7d"),
            (false, false, OpCode::Continuation, 126, b"\x00\x7e\x00\x7e"),
            (true, false, OpCode::Binary, 255, b"\x82\x7e\x00\xff"),
            (true, false, OpCode::Binary, 256, b"\x82\x7e\x01\x00"),
            (true, false, OpCode::Binary, 0xffff, b"\x82\x7e\xff\xff"),
            (true, false, OpCode::Binary, 0x1_0000, b"\x82\x7f\0\0\0\0\0\x01\0\0"),
            (true, false, OpCode::Pong, 3, b"\x8a\x03"),
        ];
        for (fin, compressed, opcode, length, wire) in cases {
            let mut out = b"before".to_vec();
            encode_header(&mut out, fin, compressed, opcode, length);
            assert_eq!(out, [b"before", wire].concat());
        }
    }

    /// RFC 6455 section 5.7.
    #[test]
    fn masks_of_any_length_at_any_offset() {
        let payload: Vec<u8> = (0..64).collect();
        for len in 0..payload.len() {
            for offset in 0..9 {
                let mut out = vec![0xee];
                unmask_into(&mut out, &payload[..len], super::MASK, offset);
                let expected = (0..len).map(|at| payload[at] ^ super::MASK[(at + offset) % 4]);
                assert_eq!(out, [0xee].into_iter().chain(expected).collect::<Vec<_>>(), "{len} {offset}");
            }
        }
        let mut out = Vec::new();
        unmask_into(&mut out, b"a", super::MASK, usize::MAX);
        assert_eq!(out, [b'a' ^ super::MASK[3]]);
    }

    /// C-C-05; RFC 6455 section 5.5.1.
    #[test]
    fn close_payloads() {
        let cut = [&[b'x'; 122][..], "ü".as_bytes()].concat();
        let fits = [&[b'x'; 121][..], "ü".as_bytes()].concat();
        let cases: [(u16, &[u8], &[u8]); 10] = [
            (0, b"reason", b""),
            (1005, b"reason", b""),
            (1006, b"", b""),
            (1015, b"tls", b""),
            (1000, b"", b"\x03\xe8"),
            (1001, "tschüß".as_bytes(), b"\x03\xe9tsch\xc3\xbc\xc3\x9f"),
            (4999, b"ok\xff then", b"\x13\x87ok"),
            (1000, &[b'x'; 200], &[&b"\x03\xe8"[..], &[b'x'; 123]].concat()),
            (1000, &cut, &[&b"\x03\xe8"[..], &[b'x'; 122]].concat()),
            (1000, &fits, &[&b"\x03\xe8"[..], &fits].concat()),
        ];
        for (code, reason, payload) in cases {
            assert_eq!(close_payload(code, reason), payload, "{code} {reason:?}");
        }
    }

    /// C-C-03; RFC 6455 section 7.4.
    #[test]
    fn close_codes() {
        let valid =
            [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
        let invalid = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 0x7fff, 0xffff];
        assert!(valid.into_iter().all(is_valid_close_code));
        assert!(!invalid.into_iter().any(is_valid_close_code));
    }

    proptest! {
        #[test]
        fn headers_of_random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(Some(header)) = parse_header(&bytes) {
                prop_assert!(header.size <= bytes.len() && header.size <= 14);
                prop_assert!(header.length <= u64::MAX >> 1);
            }
        }

        #[test]
        fn close_reasons_are_always_text(
            code in any::<u16>(),
            reason in proptest::collection::vec(any::<u8>(), 0..140),
        ) {
            let payload = close_payload(code, &reason);
            prop_assert!(payload.len() <= 125 && payload.len() != 1);
            prop_assert!(std::str::from_utf8(payload.get(2..).unwrap_or_default()).is_ok());
        }
    }
}

mod utf8 {
    use proptest::prelude::*;
    use socketify::websocket::utf8::Validator;

    /// The number of accepted bytes before one is refused, one at a time.
    fn taken(bytes: &[u8]) -> usize {
        let mut validator = Validator::default();
        bytes.iter().take_while(|&&byte| validator.push(&[byte])).count()
    }

    /// RFC 3629 section 4.
    #[test]
    fn the_first_impossible_byte_is_refused() {
        let cases: [(&[u8], usize); 18] = [
            (b"\x80", 0),
            (b"\xc0", 0),
            (b"\xc1\x81", 0),
            (b"\xf5", 0),
            (b"\xff", 0),
            (b"\xc3\xc3", 1),
            (b"\xc3a", 1),
            (b"\xe0\x9f", 1),     // overlong
            (b"\xed\xa0\x80", 1), // surrogate
            (b"\xf0\x8f\x80", 1), // overlong
            (b"\xf4\x90\x80", 1), // beyond U+10FFFF
            (b"\xe2\x82a", 2),
            (b"\xf0\x9f\x98a", 3),
            (b"abc\xc3\xa4\xffd", 5),
            (b"\xed\x9f\xbf", 3),
            (b"\xee\x80\x80", 3),
            (b"\xf4\x8f\xbf\xbf", 4),
            (b"a\0\xc2\x80\xe0\xa0\x80\xf0\x90\x80\x80", 11),
        ];
        for (bytes, count) in cases {
            assert_eq!(taken(bytes), count, "{bytes:x?}");
            assert_eq!(Validator::default().push(bytes), count == bytes.len(), "{bytes:x?}");
        }
    }

    #[test]
    fn a_begun_character_is_not_complete() {
        for (bytes, complete) in [
            (&b""[..], true),
            (b"a", true),
            (b"\xc3", false),
            (b"\xe2\x82", false),
            (b"\xf0\x9f\x98", false),
            (b"\xf0\x9f\x98\x80", true),
        ] {
            let mut validator = Validator::default();
            assert!(validator.push(bytes) && validator.push(b""));
            assert_eq!(validator.is_complete(), complete, "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_are_judged_as_the_whole(
            text in "[a-zäß€😀\u{7ff}\u{800}\u{ffff}\u{10ffff}]{0,24}",
            flip in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
            sizes in proptest::collection::vec(0_usize..5, 1..8),
        ) {
            let mut bytes = text.into_bytes();
            if let Some((at, byte)) = flip && !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let mut validator = Validator::default();
            let (mut rest, mut valid) = (&bytes[..], true);
            for size in sizes.iter().chain([&usize::MAX]) {
                let (piece, after) = rest.split_at(*size.min(&rest.len()));
                valid &= validator.push(piece);
                rest = after;
                if !valid {
                    break;
                }
            }
            prop_assert_eq!(valid && validator.is_complete(), std::str::from_utf8(&bytes).is_ok());
        }
    }
}

/// A substitute for a codec: each byte of a message, with its top bit flipped, becomes three copies of
/// itself, and `!` is malformed. So compressed text is not text itself.
struct Triple;

impl Inflate for Triple {
    fn inflate(&mut self, message: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), Violation> {
        if message.contains(&b'!') {
            return Err(Violation::Inflate);
        }
        if message.len() * 3 > limit {
            return Err(Violation::InflatedTooBig { limit });
        }
        out.extend(message.iter().flat_map(|&byte| [byte ^ 0x80; 3]));
        Ok(())
    }
}

/// Inflates everything to so many bytes, with any limit.
struct Fixed(usize);

impl Inflate for Fixed {
    fn inflate(&mut self, _: &[u8], _: usize, out: &mut Vec<u8>) -> Result<(), Violation> {
        out.resize(self.0, b'x');
        Ok(())
    }
}

/// The result of a stream of frames.
#[derive(Debug, PartialEq)]
struct Outcome {
    received: Vec<Received>,
    violation: Option<Violation>,
    /// Bytes used before the violation, if there was none after them.
    used: Option<usize>,
}

/// Feeds `wire` as a session does: in pieces, with the rest of the piece before. `stop` stops after each
/// message.
fn receive(wire: &[u8], cuts: &[usize], limit: usize, compress: bool, stop: bool) -> Outcome {
    let (mut receiver, mut codec) = (Receiver::default(), Triple);
    let mut outcome = Outcome { received: Vec::new(), violation: None, used: None };
    let (mut buffer, mut used) = (Vec::new(), 0);
    let mut begin = 0;
    for &end in cuts.iter().chain([&wire.len()]) {
        buffer.extend_from_slice(&wire[begin..end]);
        begin = end;
        loop {
            let before = outcome.received.len();
            let inflate = compress.then_some(&mut codec as &mut dyn Inflate);
            let mut emit = |what| {
                outcome.received.push(what);
                !stop
            };
            match receiver.feed(&buffer, limit, inflate, &mut emit) {
                Ok(count) => {
                    assert!(count <= buffer.len());
                    buffer.drain(..count);
                    used += count;
                }
                Err(violation) => {
                    outcome.violation = Some(violation);
                    let ended = receiver.feed(b"\x81\x80abcd", limit, None, &mut |_| unreachable!());
                    assert_eq!(ended, Ok(0));
                    return outcome;
                }
            }
            if outcome.received.len() == before {
                break;
            }
            assert!(!stop || outcome.received.len() == before + 1);
        }
    }
    outcome.used = Some(used);
    outcome
}

/// The outcome, for any pieces.
fn settled(wire: &[u8], limit: usize, compress: bool) -> Outcome {
    let whole = receive(wire, &[], limit, compress, false);
    for cut in 0..=wire.len() {
        assert_eq!(receive(wire, &[cut], limit, compress, false), whole, "{wire:x?} cut at {cut}");
    }
    let bytes: Vec<usize> = (0..wire.len()).collect();
    assert_eq!(receive(wire, &bytes, limit, compress, false), whole, "{wire:x?} in bytes");
    assert_eq!(receive(wire, &bytes, limit, compress, true), whole, "{wire:x?} in bytes, stopping");
    assert_eq!(receive(wire, &[], limit, compress, true), whole, "{wire:x?} stopping");
    whole
}

fn broken(parts: &[Vec<u8>], limit: usize, compress: bool) -> Violation {
    settled(&parts.concat(), limit, compress).violation.unwrap()
}

mod messages {
    use super::*;

    /// C-F-01; RFC 6455 sections 5.4 and 5.7.
    #[test]
    fn streams() {
        let cases: Vec<(Vec<Vec<u8>>, Vec<Received>)> = vec![
            (vec![], vec![]),
            (vec![frame(0x81, b"Hello")], vec![text("Hello")]),
            (vec![frame(0x81, b""), frame(0x82, b"")], vec![text(""), binary(b"")]),
            (vec![frame(0x82, b"\xff\0")], vec![binary(b"\xff\0")]),
            (vec![frame(0x01, b"Hel"), frame(0x80, b"lo")], vec![text("Hello")]),
            (vec![frame(0x02, b"\xc3"), frame(0x00, b"("), frame(0x80, b"\xff")], vec![binary(b"\xc3(\xff")]),
            (vec![frame(0x01, b""), frame(0x00, b""), frame(0x80, b"")], vec![text("")]),
            (vec![frame(0x01, b"a"), frame(0x00, b""), frame(0x80, b"")], vec![text("a")]),
            (vec![frame(0x01, b"\xf0\x9f"), frame(0x00, b"\x98"), frame(0x80, b"\x80")], vec![text("😀")]),
            (
                vec![frame(0x01, b"a\xc3"), frame(0x89, b"\xff"), frame(0x8a, b""), frame(0x80, b"\xa4")],
                vec![Received::Ping(vec![0xff]), Received::Pong(vec![]), text("aä")],
            ),
            (
                vec![frame(0x89, &[7; 125]), frame(0x81, &[b'x'; 126]), frame(0x8a, b"p")],
                vec![Received::Ping(vec![7; 125]), text(&"x".repeat(126)), Received::Pong(vec![b'p'])],
            ),
        ];
        for (frames, received) in cases {
            let wire = frames.concat();
            let used = Some(wire.len());
            assert_eq!(settled(&wire, 200, false), Outcome { received, violation: None, used });
        }
    }

    #[test]
    fn long_lengths() {
        for len in [125, 126, 127, 0xffff, 0x1_0000, 0x1_0001] {
            let payload: Vec<u8> = (0..len).map(|at: u32| at.to_le_bytes()[0]).collect();
            let wire = [frame(0x82, &payload), frame(0x81, b"next")].concat();
            let expected = [Received::Binary(payload), text("next")];
            for cuts in [&[][..], &[3], &[5, 9, 17, 100], &[64]] {
                assert_eq!(
                    receive(&wire, cuts, usize::MAX, false, false).received,
                    expected,
                    "{len} {cuts:?}"
                );
            }
        }
    }

    /// C-F-02, C-F-04; RFC 6455 sections 5.1 to 5.5.
    #[test]
    fn broken_streams() {
        let mut unmasked = b"\x81\x05Hello".to_vec();
        unmasked.extend([0; 16]);
        let cases = [
            (vec![frame(0x80, b"a")], Violation::UnexpectedContinuation),
            (vec![frame(0x00, b"")], Violation::UnexpectedContinuation),
            (vec![frame(0x81, b"a"), frame(0x80, b"b")], Violation::UnexpectedContinuation),
            (vec![frame(0x01, b"a"), frame(0x81, b"b")], Violation::Interleaved),
            (vec![frame(0x02, b"a"), frame(0x89, b""), frame(0x02, b"b")], Violation::Interleaved),
            (vec![frame(0x81, b"a"), unmasked], Violation::Unmasked),
            (vec![frame(0xc1, b"a")], Violation::CompressedNotNegotiated),
            (vec![frame(0x42, b"a")], Violation::CompressedNotNegotiated),
            (vec![frame(0xc9, b"a")], Violation::MisplacedCompression),
            (vec![frame(0x01, b"a"), frame(0xc0, b"b")], Violation::MisplacedCompression),
            (vec![frame(0x91, b"")], Violation::ReservedBits),
            (vec![frame(0x83, b"")], Violation::UnknownOpCode { bits: 3 }),
            (vec![frame(0x09, b"")], Violation::FragmentedControl),
        ];
        for (frames, violation) in cases {
            assert_eq!(broken(&frames, 100, false), violation, "{frames:x?}");
        }
    }

    /// C-F-03; RFC 6455 section 8.1.
    #[test]
    fn text_that_is_not_utf8() {
        for frames in [
            vec![frame(0x81, b"\xff")],
            vec![frame(0x81, b"a\xc3")],
            vec![frame(0x01, b"a\xc3"), frame(0x80, b"")],
            vec![frame(0x01, b"a\xc3"), frame(0x80, b"a")],
            vec![frame(0x01, b"\xed"), frame(0x00, b"\xa0\x80")],
            vec![frame(0x01, b"ok"), frame(0x89, b""), frame(0x00, b"\xf4\x90")],
        ] {
            assert_eq!(broken(&frames, 100, false), Violation::InvalidUtf8, "{frames:x?}");
        }
    }

    /// The frame announces more bytes than arrive.
    #[test]
    fn an_impossible_byte_is_not_waited_behind() {
        let wire = frame(0x81, b"a\xed\xa0 and a kilobyte more");
        let mut receiver = Receiver::default();
        let mut feed = |bytes| receiver.feed(bytes, 1024, None, &mut |_| unreachable!());
        assert_eq!(feed(&wire[..8]), Ok(8));
        assert_eq!(feed(&wire[8..9]), Err(Violation::InvalidUtf8));
        assert_eq!(feed(&wire[9..]), Ok(0));
    }

    /// C-K-01; the header alone decides it.
    #[test]
    fn too_big() {
        let limit = 10;
        let violation = Violation::TooBig { limit };
        for frames in [
            vec![frame(0x82, &[0; 11])[..6].to_vec()],
            vec![b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xffmask".to_vec()],
            vec![frame(0x02, &[0; 10]), frame(0x80, b"x")[..6].to_vec()],
            vec![frame(0x02, &[0; 5]), frame(0x89, &[0; 20]), frame(0x00, &[0; 6])[..6].to_vec()],
        ] {
            assert_eq!(broken(&frames, limit, false), violation, "{frames:x?}");
        }
        let fits = [frame(0x82, &[0; 10]), frame(0x02, &[0; 9]), frame(0x80, &[0])].concat();
        assert_eq!(settled(&fits, limit, false).received, [binary(&[0; 10]), binary(&[0; 10])]);
        let empty = [frame(0x81, b""), frame(0x01, b""), frame(0x80, b""), frame(0x89, b"p")].concat();
        let received = [text(""), text(""), Received::Ping(b"p".to_vec())];
        assert_eq!(settled(&empty, 0, false).received, received);
        assert_eq!(broken(&[frame(0x81, b"x")], 0, false), Violation::TooBig { limit: 0 });
    }

    /// C-C-01 to C-C-03; RFC 6455 sections 5.5.1 and 7.4.
    #[test]
    fn closes() {
        let accepted: [(Vec<u8>, Option<u16>, &[u8]); 5] = [
            (frame(0x88, b""), None, b""),
            (close(1000, b""), Some(1000), b""),
            (close(4999, "tschüß".as_bytes()), Some(4999), "tschüß".as_bytes()),
            (close(1014, &[b'x'; 123]), Some(1014), &[b'x'; 123]),
            ([frame(0x01, b"half"), close(3000, b"x")].concat(), Some(3000), b"x"),
        ];
        for (wire, code, reason) in accepted {
            let used = Some(wire.len());
            let received = vec![Received::Close { code, reason: reason.into() }];
            // Nothing after it is read, not even garbage.
            let wire = [wire, vec![0xff; 9]].concat();
            assert_eq!(settled(&wire, 100, false), Outcome { received, violation: None, used });
        }
        for (wire, violation) in [
            (frame(0x88, b"\x03"), Violation::ClosePayload),
            (close(1005, b""), Violation::CloseCode { code: 1005 }),
            (close(999, b"x"), Violation::CloseCode { code: 999 }),
            (close(1000, b"\xff"), Violation::CloseReason),
            (close(1000, b"a\xc3"), Violation::CloseReason),
        ] {
            assert_eq!(broken(&[wire], 100, false), violation);
        }
    }

    /// RFC 7692 sections 6 and 7.2.2.
    #[test]
    fn compressed_messages() {
        let cases: Vec<(Vec<Vec<u8>>, Vec<Received>)> = vec![
            (vec![frame(0x81 | RSV1, b"\xe1\xe2")], vec![text("aaabbb")]),
            (vec![frame(0x82 | RSV1, b"\x7f")], vec![binary(b"\xff\xff\xff")]),
            (vec![frame(0x82 | RSV1, b"")], vec![binary(b"")]),
            (vec![frame(0x81 | RSV1, b"\xe1"), frame(0x81, b"b")], vec![text("aaa"), text("b")]),
            (
                vec![frame(0x01 | RSV1, b"\xe1"), frame(0x89, b"p"), frame(0x00, b""), frame(0x80, b"\xe2")],
                vec![Received::Ping(b"p".to_vec()), text("aaabbb")],
            ),
        ];
        for (frames, received) in cases {
            let wire = frames.concat();
            let used = Some(wire.len());
            assert_eq!(settled(&wire, 6, true), Outcome { received, violation: None, used });
        }
        let limit = 6;
        for (frames, violation) in [
            (vec![frame(0x81 | RSV1, b"abc")], Violation::InflatedTooBig { limit }),
            (vec![frame(0x81 | RSV1, b"!")], Violation::Inflate),
            (vec![frame(0x81 | RSV1, b"\x7f")], Violation::InvalidUtf8),
            (vec![frame(0x81 | RSV1, &[b'a'; 71])[..6].to_vec()], Violation::TooBig { limit }),
            (vec![frame(0x01, b"a"), frame(0x80 | RSV1, b"b")], Violation::MisplacedCompression),
        ] {
            assert_eq!(broken(&frames, limit, true), violation, "{frames:x?}");
        }
    }

    #[test]
    fn what_a_codec_gives_is_bounded_too() {
        let mut receiver = Receiver::default();
        let wire = frame(0x81 | RSV1, b"x");
        let fed = receiver.feed(&wire, 999, Some(&mut Fixed(1000)), &mut |_| unreachable!());
        assert_eq!(fed, Err(Violation::InflatedTooBig { limit: 999 }));
    }

    /// RFC 7692 section 7.2.3.6: an empty message takes a byte; incompressible data takes a few more bytes
    /// than it has.
    #[test]
    fn compression_may_lengthen() {
        for (length, limit) in [(1, 0), (1011, 1000), (70_000, 65_536)] {
            let mut got = None;
            let mut emit = |what| {
                got = Some(what);
                true
            };
            let wire = frame(0x82 | RSV1, &vec![0; length]);
            let fed = Receiver::default().feed(&wire, limit, Some(&mut Fixed(limit)), &mut emit);
            assert_eq!((fed, got), (Ok(wire.len()), Some(Received::Binary(vec![b'x'; limit]))));
        }
    }

    /// One allocation of the size of the message; announced bytes are not reserved.
    #[test]
    fn memory() {
        let wire = frame(0x82, &[7; 5000]);
        let mut capacity = 0;
        let mut emit = |what| {
            let Received::Binary(message) = what else { unreachable!() };
            capacity = message.capacity();
            true
        };
        Receiver::default().feed(&wire, usize::MAX, None, &mut emit).unwrap();
        assert_eq!(capacity, 5000);
        // Petabytes, of which three bytes arrive: a reservation would end the process.
        let mut receiver = Receiver::default();
        let announced = b"\x82\xff\x7f\0\0\0\0\0\0\0maskabc";
        let fed = receiver.feed(announced, usize::MAX, None, &mut |_| unreachable!());
        assert_eq!(fed, Ok(announced.len()));
    }

    /// C-K-01, C-F-02, C-F-03, C-C-07.
    #[test]
    fn what_a_violation_leads_to() {
        let big = Some("Received too big message");
        let inflation = Some("Received too big message, or other inflation error");
        for (violation, code, reason) in [
            (Violation::Unmasked, 1002, None),
            (Violation::CompressedNotNegotiated, 1002, None),
            (Violation::CloseCode { code: 1 }, 1002, None),
            (Violation::CloseReason, 1007, None),
            (Violation::InvalidUtf8, 1007, Some("Received invalid UTF-8")),
            (Violation::TooBig { limit: 1 }, 1009, big),
            (Violation::InflatedTooBig { limit: 1 }, 1009, inflation),
            (Violation::Inflate, 1007, inflation),
        ] {
            assert_eq!((violation.close_code(), violation.reason()), (code, reason), "{violation}");
        }
    }
}

/// Frames of one stream: messages, whole or in fragments, with pings between them.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let message = (
        prop_oneof![
            "[a-zäß€😀]{0,20}".prop_map(|text| (1_u8, text.into_bytes())),
            proptest::collection::vec(any::<u8>(), 0..150).prop_map(|bytes| (2_u8, bytes)),
        ],
        proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9)),
        any::<bool>(),
    );
    proptest::collection::vec(message, 0..5).prop_map(|messages| {
        let mut wire = Vec::new();
        for ((opcode, payload), cuts, ping, compress) in messages {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
            cuts.extend([0, payload.len()]);
            cuts.sort_unstable();
            let last = cuts.len() - 2;
            for (at, ends) in cuts.windows(2).enumerate() {
                let first = if at == 0 { opcode | if compress { RSV1 } else { 0 } } else { 0 };
                let fin = if at == last { 0x80 } else { 0 };
                wire.extend(frame(first | fin, &payload[ends[0]..ends[1]]));
                if let Some(ping) = &ping {
                    wire.extend(frame(0x89, ping));
                }
            }
        }
        wire
    })
}

fn cut(wire: &[u8], cuts: &[prop::sample::Index]) -> Vec<usize> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
    cuts.sort_unstable();
    cuts
}

proptest! {
    #[test]
    fn pieces_give_what_the_whole_gives(
        mut wire in stream(),
        flip in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        limit in prop_oneof![Just(usize::MAX), 0_usize..200],
        compress in any::<bool>(),
        stop in any::<bool>(),
    ) {
        if let Some((at, byte)) = flip && !wire.is_empty() {
            let at = at.index(wire.len());
            wire[at] = byte;
        }
        let whole = receive(&wire, &[], limit, compress, false);
        prop_assert_eq!(receive(&wire, &cut(&wire, &cuts), limit, compress, stop), whole);
    }

    #[test]
    fn random_bytes_never_panic(
        wire in proptest::collection::vec(any::<u8>(), 0..80),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let whole = receive(&wire, &[], 50, true, false);
        prop_assert_eq!(receive(&wire, &cut(&wire, &cuts), 50, true, true), whole);
    }
}

/// Another implementation's frames here, and our frames there.
mod against_tungstenite {
    use std::io::Cursor;

    use proptest::prelude::*;
    use socketify::websocket::frame::encode_header;
    use tungstenite::protocol::frame::coding::{Data, OpCode as TheirOpCode};
    use tungstenite::protocol::frame::{Frame, FrameHeader};

    use super::*;

    proptest! {
        #[test]
        fn their_frames_are_read(
            payload in proptest::collection::vec(any::<u8>(), 0..70_000),
            at in any::<prop::sample::Index>(),
            mask in any::<[u8; 4]>(),
            ping in proptest::collection::vec(any::<u8>(), 0..126),
        ) {
            let (head, tail) = payload.split_at(at.index(payload.len() + 1));
            let frames = [
                Frame::message(head.to_vec(), TheirOpCode::Data(Data::Binary), false),
                Frame::ping(ping.clone()),
                Frame::message(tail.to_vec(), TheirOpCode::Data(Data::Continue), true),
            ];
            let mut wire = Vec::new();
            for mut frame in frames {
                frame.header_mut().mask = Some(mask);
                frame.format(&mut wire).unwrap();
            }
            let outcome = receive(&wire, &[at.index(wire.len())], usize::MAX, false, false);
            prop_assert_eq!(outcome.received, [Received::Ping(ping), Received::Binary(payload)]);
            prop_assert_eq!(outcome.used, Some(wire.len()));
        }

        #[test]
        fn our_headers_are_read(
            length in prop_oneof![0_usize..300, 65_000_usize..66_000, Just(usize::MAX >> 1)],
            (fin, compressed) in any::<(bool, bool)>(),
        ) {
            let mut wire = Vec::new();
            encode_header(&mut wire, fin, compressed, OpCode::Text, length);
            let (header, read) = FrameHeader::parse(&mut Cursor::new(&wire)).unwrap().unwrap();
            prop_assert_eq!(read, length as u64);
            prop_assert_eq!((header.is_final, header.rsv1, header.rsv2, header.rsv3), (fin, compressed, false, false));
            prop_assert_eq!((header.opcode, header.mask), (TheirOpCode::Data(Data::Text), None));
        }
    }
}

mod handshake {
    use proptest::prelude::*;
    use socketify::http::head::{HeadLimits, parse};
    use socketify::websocket::handshake::{
        Handshake, accept, breaks_compression, examine, first_protocol, is_valid_key,
    };

    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
    const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";

    fn examined(line: &str, headers: &[&str]) -> Handshake {
        let wire = format!("{line}\r\nHost: h\r\n{}\r\n", headers.concat());
        let head = parse(wire.as_bytes(), &HeadLimits::default()).unwrap().unwrap();
        examine(&head, wire.as_bytes())
    }

    /// RFC 6455 section 1.3, and one from an independent SHA-1.
    #[test]
    fn accepts() {
        assert_eq!(&accept(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(&accept(b"x3JJHMbDL1EzLkh9GBhXDw=="), b"HSmrc0sMlYUkAGmm5OPpG2HaGWk=");
    }

    #[test]
    fn keys() {
        for (key, valid) in [
            ("dGhlIHNhbXBsZSBub25jZQ==", true),
            ("AAAAAAAAAAAAAAAAAAAAAA==", true),
            ("+/+/+/+/+/+/+/+/+/+/+w==", true),
            ("AQIDBAUGBwgJCgsMDQ4PEC==", true), // RFC 6455 section 4.1
            ("", false),
            ("dGhlIHNhbXBsZSBub25jZQ=", false),
            ("dGhlIHNhbXBsZSBub25jZQ===", false),
            ("dGhlIHNhbXBsZSBub25jZQA=", false), // 17 bytes
            ("dGhlIHNhbXBsZSBub25jZQAA", false), // 18 bytes
            ("dGhlIHNhbXBsZSBub25=ZQ==", false),
            ("dGhlIHNhbXBsZSBub25-_Q==", false),
            ("dGhlIHNhbXBsZSBub25 ZQ==", false),
            ("========================", false),
        ] {
            assert_eq!(is_valid_key(key.as_bytes()), valid, "{key:?}");
        }
    }

    /// C-H-04.
    #[test]
    fn protocols() {
        for (offers, first) in [
            ("chat", Some("chat")),
            (" chat\t, superchat", Some("chat")),
            ("graphql-ws,chat", Some("graphql-ws")),
            (", chat", Some("chat")), // RFC 9110 section 5.6.1.2: empty members are ignored
            ("", None),
            (" , ", None),
            ("two words", None),
            ("a/b", None),
            ("ü, chat", None),
        ] {
            assert_eq!(first_protocol(offers.as_bytes()), first.map(str::as_bytes), "{offers:?}");
        }
    }

    /// C-H-01, C-H-02; RFC 6455 sections 4.2.1 and 4.4.
    #[test]
    fn requests() {
        use Handshake::{Absent, Refused, Valid};
        let get = "GET / HTTP/1.1";
        let cases: [(&str, &[&str], Handshake); 24] = [
            (get, &[UPGRADE, VERSION, KEY], Valid),
            (get, &[KEY, VERSION, "UPGRADE: WebSocket\r\nConnection: keep-alive, UPGRADE\r\n"], Valid),
            (get, &["Connection: upgrade\r\nUpgrade: h2c, websocket\r\n", VERSION, KEY], Valid),
            (get, &["Connection: upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n", VERSION, KEY], Valid),
            (get, &[UPGRADE, VERSION, KEY, "Content-Length: 0\r\n"], Valid),
            (get, &[UPGRADE, VERSION, "sec-websocket-key:dGhlIHNhbXBsZSBub25jZQ== \r\n"], Valid),
            (get, &[], Absent),
            (get, &[VERSION, KEY], Absent),
            (get, &["Upgrade: websocket\r\n", VERSION, KEY], Absent),
            (get, &["Connection: Upgrade\r\n", VERSION, KEY], Absent),
            (get, &["Connection: upgrade\r\nUpgrade: h2c\r\n", VERSION, KEY], Absent),
            (get, &["Connection: upgrade\r\nUpgrade: websocket/13\r\n", VERSION, KEY], Absent),
            ("GET / HTTP/1.0", &[UPGRADE, VERSION, KEY], Absent),
            ("POST / HTTP/1.1", &[UPGRADE, VERSION, KEY], Refused(400)),
            ("get / HTTP/1.1", &[UPGRADE, VERSION, KEY], Refused(400)),
            (get, &[UPGRADE, VERSION, KEY, "Content-Length: 2\r\n"], Refused(400)),
            (get, &[UPGRADE, VERSION, KEY, "Transfer-Encoding: chunked\r\n"], Refused(400)),
            (get, &[UPGRADE, VERSION], Refused(400)),
            (get, &[UPGRADE, VERSION, KEY, KEY], Refused(400)),
            (get, &[UPGRADE, VERSION, "Sec-WebSocket-Key: short\r\n"], Refused(400)),
            (get, &[UPGRADE, KEY], Refused(426)),
            (get, &[UPGRADE, KEY, "Sec-WebSocket-Version: 8\r\n"], Refused(426)),
            (get, &[UPGRADE, KEY, "Sec-WebSocket-Version: 13, 8\r\n"], Refused(426)),
            (get, &[UPGRADE, KEY, VERSION, VERSION], Refused(426)),
        ];
        for (line, headers, expected) in cases {
            assert_eq!(examined(line, headers), expected, "{line} {headers:?}");
        }
    }

    /// C-H-09.
    #[test]
    fn safaris() {
        let mac = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)";
        for (products, broken) in [
            ("Version/15.0 Safari/605.1.15", true),
            ("Version/15.3 Safari/605.1.15", true),
            ("Version/15.2.1 Safari/605.1.15", true),
            ("Version/15.2 Mobile/15E148 Safari/604.1", true),
            ("Version/15.4 Safari/605.1.15", false),
            ("Version/15.30 Safari/605.1.15", false),
            ("Version/14.1 Safari/605.1.15", false),
            ("Version/115.1 Safari/605.1.15", false),
            ("Version/15 Safari/605.1.15", false),
            ("Version/15.1", false),
            ("Chrome/115.0.0.0 Safari/537.36", false),
        ] {
            assert_eq!(breaks_compression(format!("{mac} {products}").as_bytes()), broken, "{products}");
        }
        assert!(!breaks_compression(b""));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            accept(&bytes);
            is_valid_key(&bytes);
            breaks_compression(&bytes);
            if let Some(first) = first_protocol(&bytes) {
                prop_assert!(!first.is_empty() && first.len() <= bytes.len());
            }
        }
    }
}
