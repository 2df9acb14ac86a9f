//! permessage-deflate: negotiation as tables, payloads as literal bytes, and both directions against other
//! implementations of deflate. Rows cite the API specification (A-EN-, C-N-) and RFC 7692.
#![allow(clippy::unwrap_used)]
#![allow(
    clippy::decimal_bitwise_operands,
    reason = "the numbers are those of CompressOptions, in its notation"
)]

use miniz_oxide::MZFlush;
use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use proptest::prelude::*;
use socketify::websocket::deflate::{
    Agreed, Codec, Compression, CompressionError, InflateError, deflate_shared, negotiate,
};

#[path = "deflate/reference.rs"]
mod reference;

/// `CompressOptions` with a window, and its bits.
const COMPRESSORS: [(u32, u8); 8] =
    [(145, 9), (146, 9), (163, 10), (180, 11), (197, 12), (214, 13), (231, 14), (248, 15)];
const DECOMPRESSORS: [(u32, u8); 7] =
    [(2304, 9), (2560, 10), (2816, 11), (3072, 12), (3328, 13), (3584, 14), (3840, 15)];

fn wanted(option: u32) -> Compression {
    Compression::from_options(option).unwrap().unwrap()
}

fn agreed(option: u32, offers: &str) -> Agreed {
    negotiate(&wanted(option), offers.as_bytes()).unwrap()
}

/// The response; without the name of the extension.
fn answer(option: u32, offers: &str) -> Option<String> {
    let mut out = Vec::new();
    negotiate(&wanted(option), offers.as_bytes())?.write_to(&mut out);
    let text = String::from_utf8(out).unwrap();
    Some(text.strip_prefix("permessage-deflate").unwrap().to_owned())
}

fn codec(option: u32) -> Codec {
    Codec::new(agreed(option, "permessage-deflate; client_max_window_bits"))
}

fn deflated(codec: &mut Codec, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    codec.deflate(message, &mut out);
    out
}

fn inflated(codec: &mut Codec, payload: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
    let mut out = b"before".to_vec();
    let result = codec.inflate(payload, limit, &mut out);
    assert!(out.starts_with(b"before"));
    result.map(|()| out.split_off(6))
}

/// Bytes that compress a little: runs of earlier bytes and noise.
fn mixed(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 32).unwrap()
    };
    let mut bytes = Vec::new();
    while bytes.len() < len {
        let (kind, count) = (random() % 3, random() % 40 + 4);
        if kind > 0 && !bytes.is_empty() {
            let from = random() % bytes.len();
            let to = (from + count).min(bytes.len());
            bytes.extend_from_within(from..to);
        } else {
            bytes.extend((0..count).map(|_| random().to_le_bytes()[3]));
        }
    }
    bytes.truncate(len);
    bytes
}

mod options {
    use super::*;

    /// A-EN-03.
    #[test]
    fn every_pair_of_constants_is_valid() {
        assert_eq!(Compression::from_options(0), Ok(None));
        let compressors = COMPRESSORS.iter().map(|&(option, _)| option).chain([0, 1]);
        for compressor in compressors {
            for decompressor in DECOMPRESSORS.iter().map(|&(option, _)| option).chain([0, 256]) {
                let option = compressor | decompressor;
                assert_eq!(Compression::from_options(option).unwrap().is_none(), option == 0, "{option}");
            }
        }
    }

    /// C-N-06, at registration.
    #[test]
    fn others_are_refused_by_name() {
        let compressors = [2, 15, 16, 17, 129, 128, 144, 145 | 0x0f, 249, 255, 113, 256 | 2];
        for value in compressors {
            let expected = Err(CompressionError::Compressor { value });
            assert_eq!(Compression::from_options(value), expected, "{value}");
        }
        for value in [512, 1792, 2048, 4096, 1 | 4096, 1 | 65536, 3840 | 4096, 1 << 31] {
            let expected = Err(CompressionError::Decompressor { value });
            assert_eq!(Compression::from_options(value), expected, "{value}");
        }
        let text = CompressionError::Compressor { value: 249 }.to_string();
        assert!(text.contains("compression 249"), "{text}");
        assert!(size_of::<CompressionError>() <= 32 && size_of::<InflateError>() <= 32);
    }
}

mod negotiation {
    use super::*;

    const BOTH: &str = "; server_no_context_takeover; client_no_context_takeover";

    /// C-N-02, C-N-04: everything shared. The numbers are the parameter values of RFC 7692 section 7.1.
    #[test]
    fn offers_to_a_shared_context() {
        let server = |bits: u8| Some(format!("{BOTH}; server_max_window_bits={bits}"));
        let plain = || Some(BOTH.to_owned());
        let cases: [(&str, Option<String>); 52] = [
            ("permessage-deflate", plain()),
            (" permessage-deflate\t", plain()),
            ("permessage-deflate; client_max_window_bits", plain()),
            ("permessage-deflate; client_max_window_bits=10", plain()),
            ("permessage-deflate;client_max_window_bits=\"15\"", plain()),
            ("permessage-deflate ; client_max_window_bits = 8", plain()),
            ("permessage-deflate; server_no_context_takeover; client_no_context_takeover", plain()),
            ("permessage-deflate; server_max_window_bits=9", server(9)),
            ("permessage-deflate; server_max_window_bits=10", server(10)),
            ("permessage-deflate; server_max_window_bits=15", server(15)),
            ("permessage-deflate; server_max_window_bits=\"12\"", server(12)),
            ("permessage-deflate; server_max_window_bits=\"1\\2\"", server(12)),
            ("permessage-deflate; server_max_window_bits=\"\\1\\2\"", server(12)),
            // The next one is tried.
            ("permessage-deflate; server_max_window_bits=8, permessage-deflate", plain()),
            ("permessage-deflate; unknown, permessage-deflate; server_max_window_bits=11", server(11)),
            ("permessage-deflate; x=\"a, permessage-deflate\", permessage-deflate", plain()),
            ("permessage-deflate; x=\"\\\", permessage-deflate\", permessage-deflate", plain()),
            ("permessage-deflate; server_max_window_bits=10, permessage-deflate", server(10)),
            ("x-webkit-deflate-frame, permessage-deflate", plain()),
            (", ,foo; bar=baz; q=\";,\" , permessage-deflate,", plain()),
            ("permessage-bzip2; level=9, permessage-deflate; client_max_window_bits, bogus", plain()),
            // No offer is left.
            ("", None),
            (",", None),
            ("x-webkit-deflate-frame", None),
            ("permessage-deflat", None),
            ("permessage-deflate2", None),
            ("permessage-deflate=1", None),
            ("\"permessage-deflate\"", None),
            ("permessage-deflate;", None),
            ("permessage-deflate; ; client_max_window_bits", None),
            ("permessage-deflate; server_max_window_bits", None),
            ("permessage-deflate; server_max_window_bits=", None),
            ("permessage-deflate; server_max_window_bits=\"\"", None),
            ("permessage-deflate; server_max_window_bits=\"", None),
            ("permessage-deflate; server_max_window_bits=\"1\\\"", None),
            ("permessage-deflate; server_max_window_bits=1\\2", None),
            ("permessage-deflate; server_max_window_bits=8", None),
            ("permessage-deflate; server_max_window_bits=7", None),
            ("permessage-deflate; server_max_window_bits=16", None),
            ("permessage-deflate; server_max_window_bits=09", None),
            ("permessage-deflate; server_max_window_bits=+9", None),
            ("permessage-deflate; server_max_window_bits=1 2", None),
            ("permessage-deflate; server_max_window_bits=271", None),
            ("permessage-deflate; server_max_window_bits=10=10", None),
            ("permessage-deflate; client_max_window_bits=0", None),
            ("permessage-deflate; client_max_window_bits=99999999999999999999", None),
            ("permessage-deflate; client_max_window_bits; client_max_window_bits", None),
            ("permessage-deflate; client_max_window_bits=9; client_max_window_bits=9", None),
            ("permessage-deflate; server_max_window_bits=9; server_max_window_bits=9", None),
            ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
            ("permessage-deflate; client_no_context_takeover=true", None),
            ("permessage-deflate; server_no_context_takeover=\"\"", None),
        ];
        for option in [1, 256, 257] {
            for (offers, expected) in &cases {
                assert_eq!(&answer(option, offers), expected, "{offers}");
            }
        }
    }

    /// C-N-03.
    #[test]
    fn windows_of_our_own() {
        let client = "; client_no_context_takeover";
        for (option, bits) in COMPRESSORS {
            let named = if bits < 15 { format!("; server_max_window_bits={bits}") } else { String::new() };
            assert_eq!(answer(option, "permessage-deflate"), Some(format!("{client}{named}")));
            for asked in 9..=15 {
                let offer = format!("permessage-deflate; server_max_window_bits={asked}");
                let expected = format!("{client}; server_max_window_bits={}", bits.min(asked));
                assert_eq!(answer(option, &offer), Some(expected), "{bits} {asked}");
            }
            assert_eq!(answer(option, "permessage-deflate; server_max_window_bits=8"), None);
            // Without takeover, the window costs the connection nothing: it is the largest.
            let offer = "permessage-deflate; server_no_context_takeover";
            assert_eq!(answer(option, offer), Some(BOTH.to_owned()));
        }
    }

    /// C-N-04, C-N-05.
    #[test]
    fn windows_of_the_client() {
        let server = "; server_no_context_takeover";
        let none = Some(BOTH.to_owned());
        for (option, bits) in DECOMPRESSORS {
            let option = option | 1;
            let named = |bits: u8| match bits {
                15 => Some(server.to_owned()),
                bits => Some(format!("{server}; client_max_window_bits={bits}")),
            };
            // A client that was not told a smaller window uses the largest.
            let untold = if bits == 15 { Some(server.to_owned()) } else { none.clone() };
            assert_eq!(answer(option, "permessage-deflate"), untold);
            assert_eq!(answer(option, "permessage-deflate; client_max_window_bits"), named(bits));
            for offered in 8..=15 {
                let offer = format!("permessage-deflate; client_max_window_bits={offered}");
                assert_eq!(answer(option, &offer), named(bits.min(offered)), "{bits} {offered}");
            }
            let offer = "permessage-deflate; client_no_context_takeover; client_max_window_bits=10";
            assert_eq!(answer(option, offer), none);
        }
    }

    #[test]
    fn who_may_share_a_compressed_message() {
        assert_eq!(agreed(1, "permessage-deflate").shared_key(), Some(15));
        assert_eq!(agreed(1, "permessage-deflate; server_max_window_bits=10").shared_key(), Some(10));
        assert_eq!(agreed(248, "permessage-deflate").shared_key(), None);
        assert_eq!(agreed(248, "permessage-deflate; server_no_context_takeover").shared_key(), Some(15));
    }

    proptest! {
        #[test]
        fn any_offer_is_answered_or_declined(
            offers in proptest::collection::vec(any::<u8>(), 0..80),
            parts in proptest::collection::vec(prop::sample::select(vec![
                "permessage-deflate", ";", ",", "=", "\"", "\\", " ", "server_max_window_bits", "1", "0", "9",
                "client_max_window_bits", "server_no_context_takeover", "client_no_context_takeover",
            ]), 0..20),
            option in prop::sample::select(vec![1_u32, 248 | 3840, 145 | 2304]),
        ) {
            let _ = negotiate(&wanted(option), &offers);
            let text = format!("permessage-deflate{}", parts.concat());
            // A response, without its additions, is an offer that we would accept.
            if let Some(answer) = answer(option, &text) {
                let answer = format!("permessage-deflate{answer}");
                prop_assert!(negotiate(&wanted(option), answer.as_bytes()).is_some(), "{}", answer);
            }
        }
    }
}

mod examples_of_the_rfc {
    use super::*;

    /// RFC 7692 sections 7.2.3.1 to 7.2.3.6.
    #[test]
    fn payloads() {
        let cases: [(&str, &[u8], &[u8]); 11] = [
            ("one block", b"\xf2\x48\xcd\xc9\xc9\x07\x00", b"Hello"),
            ("no compression", b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", b"Hello"),
            ("BFINAL", b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", b"Hello"),
            ("BFINAL without the last byte", b"\xf3\x48\xcd\xc9\xc9\x07\x00", b"Hello"),
            ("two blocks", b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", b"Hello"),
            ("the tail left on", b"\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff", b"Hello"),
            (
                "two with BFINAL",
                b"\xf3\x48\xcd\xc9\xc9\x07\x00\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
                b"HelloHello",
            ),
            ("BFINAL in the empty block", b"\x01", b""),
            ("empty", b"\x00", b""),
            ("empty, the tail left on", b"\x00\x00\x00\xff\xff", b""),
            ("nothing", b"", b""),
        ];
        for option in [1, 3840 | 1] {
            for (name, payload, message) in cases {
                let mut codec = codec(option);
                assert_eq!(inflated(&mut codec, payload, 10).as_deref(), Ok(message), "{name}");
                // And the context still works.
                let next = inflated(&mut codec, b"\xf2\x48\xcd\xc9\xc9\x07\x00", 10);
                assert_eq!(next.as_deref(), Ok(&b"Hello"[..]), "after {name}");
            }
        }
    }

    /// RFC 7692 section 7.2.3.2.
    #[test]
    fn the_second_message_refers_to_the_first() {
        let mut taking_over = codec(1 | 3840);
        let mut anew = codec(1 | 256);
        for codec in [&mut taking_over, &mut anew] {
            assert_eq!(inflated(codec, b"\xf2\x48\xcd\xc9\xc9\x07\x00", 5).unwrap(), b"Hello");
        }
        let second = b"\xf2\x00\x11\x00\x00";
        assert_eq!(inflated(&mut taking_over, second, 5).unwrap(), b"Hello");
        assert_eq!(inflated(&mut anew, second, 5), Err(InflateError::Corrupt));
        // A stream that BFINAL ended takes the window along.
        let mut codec = codec(1 | 3840);
        assert_eq!(inflated(&mut codec, b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 5).unwrap(), b"Hello");
        assert_eq!(inflated(&mut codec, second, 5).unwrap(), b"Hello");
        let twice = b"\xf3\x48\xcd\xc9\xc9\x07\x00\xf2\x00\x11\x00\x00";
        assert_eq!(inflated(&mut codec, twice, 10).unwrap(), b"HelloHello");
    }

    #[test]
    fn compressed() {
        for option in [1, 145, 248] {
            let mut codec = codec(option);
            assert_eq!(deflated(&mut codec, b"Hello"), b"\xf2\x48\xcd\xc9\xc9\x07\x00");
            assert_eq!(deflated(&mut codec, b""), b"\x00");
            let second = deflated(&mut codec, b"Hello");
            // RFC 7692 section 7.2.3.2.
            let expected =
                if option == 1 { &b"\xf2\x48\xcd\xc9\xc9\x07\x00"[..] } else { b"\xf2\x00\x11\x00\x00" };
            assert_eq!(second, expected, "{option}");
        }
    }
}

mod compressing {
    use super::*;

    /// A client with context takeover, over messages of all sizes; and no match reaches behind the negotiated
    /// window.
    #[test]
    fn every_compressor_against_the_reference() {
        for (option, bits) in COMPRESSORS.into_iter().chain([(1, 15)]) {
            let mut codec = codec(option);
            let mut client = reference::Inflater::default();
            for (round, len) in
                [10, 1, 0, 300, 5000, 700, 100_000, 40, 33_000, 200, 0, 9].into_iter().enumerate()
            {
                // The same again, so that there are distant matches.
                let message = mixed(round as u64 / 2, len);
                let payload = deflated(&mut codec, &message);
                if option == 1 {
                    client = reference::Inflater::default();
                }
                assert_eq!(client.message(&payload).unwrap(), message, "{option}, message {round}");
            }
            assert!(client.farthest <= 1 << bits, "{option}: {}", client.farthest);
        }
    }

    /// Each asks for a smaller window than ours.
    #[test]
    fn a_window_the_client_asked_for() {
        for bits in 9..15 {
            for option in [1, 248] {
                let agreed = agreed(option, &format!("permessage-deflate; server_max_window_bits={bits}"));
                let mut codec = Codec::new(agreed);
                let mut client = reference::Inflater::default();
                for round in 0..6 {
                    let message = mixed(round / 2, 20_000);
                    let payload = deflated(&mut codec, &message);
                    assert_eq!(client.message(&payload).unwrap(), message);
                }
                assert!(client.farthest <= 1 << bits, "{bits}: {}", client.farthest);
                // It is used, too.
                assert!(client.farthest > 1 << (bits - 2), "{bits}: {}", client.farthest);
            }
        }
    }

    #[test]
    fn takeover_pays() {
        let message = mixed(7, 400);
        let sizes = |option| {
            let mut codec = codec(option);
            [deflated(&mut codec, &message).len(), deflated(&mut codec, &message).len()]
        };
        assert_eq!(sizes(1)[0], sizes(1)[1]);
        for option in [163, 180, 197, 214, 231, 248] {
            assert!(sizes(option)[1] < 20, "{option}: {:?}", sizes(option));
        }
    }

    #[test]
    fn shared_bytes_are_those_of_the_codec() {
        for offers in ["permessage-deflate", "permessage-deflate; server_max_window_bits=9"] {
            let agreed = agreed(1, offers);
            let (mut shared, message) = (b"frame".to_vec(), mixed(3, 3000));
            deflate_shared(&agreed, &message, &mut shared);
            assert_eq!(&shared[5..], deflated(&mut Codec::new(agreed), &message));
        }
    }

    /// The table in the documentation.
    #[test]
    fn memory_of_a_connection() {
        assert!(size_of::<Codec>() <= 64, "{}", size_of::<Codec>());
        let pairs = COMPRESSORS.into_iter().zip(DECOMPRESSORS.into_iter().chain([(256, 0)]));
        for ((compressor, sent), (decompressor, received)) in pairs.chain([((1, 0), (3840, 15))]) {
            let mut codec = codec(compressor | decompressor);
            assert_eq!(codec.heap_bytes(), 0);
            let expected = [sent, received].map(|bits| if bits == 0 { 0 } else { 1_usize << bits });
            let mut client = Codec::new(agreed(1, "permessage-deflate"));
            for (seed, len) in [(1, 700), (2, 90), (3, 60_000), (4, 5000)] {
                let message = mixed(seed, len);
                let _ = deflated(&mut codec, &message);
                let payload = deflated(&mut client, &message);
                assert_eq!(inflated(&mut codec, &payload, len).unwrap(), message);
                assert!(codec.heap_bytes() <= expected[0] + expected[1]);
            }
            assert_eq!(codec.heap_bytes(), expected[0] + expected[1]);
        }
    }
}

mod inflating {
    use super::*;

    /// Another implementation's stream, flushed after each message.
    struct Client(Box<CompressorOxide>);

    impl Client {
        fn new(level: i32) -> Self {
            Self(Box::new(CompressorOxide::new(create_comp_flags_from_zip_params(level, -15, 0))))
        }

        fn message(&mut self, message: &[u8]) -> Vec<u8> {
            let mut out = vec![0; message.len() * 2 + 1000];
            let result = miniz_oxide::deflate::stream::deflate(&mut self.0, message, &mut out, MZFlush::Sync);
            assert_eq!(result.bytes_consumed, message.len());
            out.truncate(result.bytes_written);
            assert_eq!(out.split_off(out.len() - 4), b"\x00\x00\xff\xff");
            out
        }
    }

    #[test]
    fn a_client_that_remembers() {
        for level in [0, 1, 6, 9] {
            let (mut client, mut codec) = (Client::new(level), codec(1 | 3840));
            for (round, len) in [10, 1, 300, 5000, 700, 100_000, 40, 33_000, 200, 9].into_iter().enumerate() {
                let message = mixed(round as u64 / 2, len);
                let payload = client.message(&message);
                assert_eq!(inflated(&mut codec, &payload, len).unwrap(), message, "level {level}, {round}");
            }
        }
    }

    #[test]
    fn a_client_that_forgets() {
        for option in [1, 1 | 256] {
            let mut codec = codec(option);
            for (seed, len) in [(1, 10), (2, 5000), (1, 10), (3, 100_000)] {
                let message = mixed(seed, len);
                let payload = Client::new(6).message(&message);
                assert_eq!(inflated(&mut codec, &payload, len).unwrap(), message);
            }
        }
    }

    /// C-N-05: a client that respects its window.
    #[test]
    fn every_decompressor() {
        for (decompressor, bits) in DECOMPRESSORS {
            let (client, _) = COMPRESSORS.into_iter().find(|&(_, window)| window == bits).unwrap();
            let (mut client, mut codec) = (codec(client), codec(1 | decompressor));
            for round in 0..12 {
                let message = mixed(round / 3, if round % 2 == 0 { 300 } else { 40_000 });
                let payload = deflated(&mut client, &message);
                assert_eq!(inflated(&mut codec, &payload, 40_000).unwrap(), message, "{bits} bits, {round}");
            }
        }
    }

    /// A client that does not: an error, and no wrong bytes.
    #[test]
    fn a_client_that_uses_a_larger_window() {
        let (first, second) = (mixed(1, 600), mixed(2, 600));
        for (decompressor, bits) in [(2304, 9), (2560, 10)] {
            let (mut client, mut codec) = (Client::new(9), codec(1 | decompressor));
            for message in [&first, &second] {
                let payload = client.message(message);
                assert_eq!(&inflated(&mut codec, &payload, 600).unwrap(), message);
            }
            // 1200 bytes back.
            let payload = client.message(&first);
            assert_eq!(inflated(&mut codec, &payload, 600), Err(InflateError::Corrupt), "{bits}");
        }
    }

    #[test]
    fn limits_are_exact() {
        let message = mixed(5, 5000);
        let payload = Client::new(6).message(&message);
        for limit in [0, 1, 511, 512, 513, 4999] {
            assert_eq!(inflated(&mut codec(1), &payload, limit), Err(InflateError::TooBig { limit }));
        }
        for limit in [5000, 5001, 1 << 20, usize::MAX] {
            assert_eq!(inflated(&mut codec(1), &payload, limit).unwrap(), message);
        }
        assert_eq!(inflated(&mut codec(1), b"\x00", 0).unwrap(), b"");
    }

    /// C-N-09.
    #[test]
    fn a_bomb_takes_neither_memory_nor_time() {
        let bomb = Client::new(9).message(&vec![0; 10_000_000]);
        assert!(bomb.len() < 50_000);
        let started = std::time::Instant::now();
        for _ in 0..100 {
            let mut out = Vec::new();
            let result = codec(1).inflate(&bomb, 1000, &mut out);
            assert_eq!(result, Err(InflateError::TooBig { limit: 1000 }));
            assert!(out.is_empty() && out.capacity() <= 1001, "{}", out.capacity());
        }
        // 10 MB a time would be a gigabyte.
        assert!(started.elapsed().as_millis() < 500, "{:?}", started.elapsed());
    }

    /// Empty streams, two bytes each: each would make us fill the window again.
    #[test]
    fn a_payload_of_many_streams() {
        assert_eq!(inflated(&mut codec(1), &b"\x03\x00".repeat(200), 10).unwrap(), b"");
        assert_eq!(inflated(&mut codec(1), &b"\x03\x00".repeat(500), 10), Err(InflateError::Corrupt));
    }

    #[test]
    fn corrupt_payloads() {
        let cases: [(&str, &[u8]); 9] = [
            ("a block type that is none", b"\x06\x00"),
            ("a length that does not match", b"\x00\x05\x00\xfa\xfe\x48\x65\x6c\x6c\x6f\x00"),
            ("a distance before the beginning", b"\xf2\x00\x11\x00\x00"),
            ("cut off in a symbol", b"\xf2\x48\xcd"),
            ("cut off before the empty block", b"\xf2\x48\xcd\xc9\xc9"),
            ("cut off in stored bytes", b"\x00\x05\x00\xfa\xff\x48\x65"),
            ("cut off in a header", b"\x00\x05"),
            ("cut off in the codes", b"\x04\xc0"),
            ("text", b"Hello, this is not compressed"),
        ];
        for option in [1, 1 | 3840] {
            for (name, payload) in cases {
                assert_eq!(inflated(&mut codec(option), payload, 1000), Err(InflateError::Corrupt), "{name}");
            }
            // The thread's context still works.
            assert_eq!(inflated(&mut codec(option), b"\xf2\x48\xcd\xc9\xc9\x07\x00", 5).unwrap(), b"Hello");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_inflated_or_refused(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..4),
            limit in 0_usize..3000, option in prop::sample::select(vec![1_u32, 1 | 2304, 1 | 3840]),
        ) {
            let mut codec = codec(option);
            for payload in payloads {
                if let Ok(message) = inflated(&mut codec, &payload, limit) {
                    prop_assert!(message.len() <= limit);
                } else {
                    break;
                }
            }
        }

        #[test]
        fn a_mangled_payload_never_panics(
            seed in any::<u64>(), len in 1_usize..2000, at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let mut payload = Client::new(6).message(&mixed(seed, len));
            let at = at.index(payload.len());
            payload[at] = byte;
            let _ = inflated(&mut codec(1 | 2560), &payload, 10_000);
        }

        #[test]
        fn both_directions_agree(
            lens in proptest::collection::vec(0_usize..3000, 1..6), seed in any::<u64>(),
            (compressor, _) in prop::sample::select(COMPRESSORS.to_vec()),
        ) {
            let (mut server, mut client) = (codec(compressor), reference::Inflater::default());
            let mut other = codec(1 | 3840);
            for (round, len) in lens.into_iter().enumerate() {
                let message = mixed(seed.wrapping_add(round as u64 / 2), len);
                let payload = deflated(&mut server, &message);
                prop_assert_eq!(&client.message(&payload).unwrap(), &message);
                prop_assert_eq!(&inflated(&mut other, &payload, len).unwrap(), &message);
            }
        }
    }
}
