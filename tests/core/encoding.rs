//! Content codings: the choice by `Accept-Encoding`, the resulting heads, and bodies that decode to the
//! original.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};

use proptest::prelude::*;
use socketify::http::encoding::{Accepted, Coding, CodingLevel, Compression, Encoder, TypePattern, encode};
use socketify::http::response::ResponseHead;

fn offer(coding: Coding) -> CodingLevel {
    let level = match coding {
        Coding::Zstd => 3,
        Coding::Brotli | Coding::Gzip => 4,
    };
    CodingLevel { coding, level }
}

fn offers() -> [CodingLevel; 3] {
    [Coding::Zstd, Coding::Brotli, Coding::Gzip].map(offer)
}

fn chosen(value: &str) -> Option<&'static str> {
    Accepted::parse(Some(value.as_bytes())).choose(&offers()).map(|offer| offer.coding.name())
}

fn settings(types: &[&str]) -> Compression {
    Compression {
        offers: offers().to_vec(),
        minimum_size: 10,
        types: types.iter().map(|text| TypePattern::parse(text).unwrap()).collect(),
    }
}

// ---- Accept-Encoding ------------------------------------------------------------------------------------------------

#[test]
fn the_client_gets_what_it_weighs_most() {
    for (value, expected) in [
        ("gzip", Some("gzip")),
        ("GZip", Some("gzip")),
        ("x-gzip", Some("gzip")),
        ("br", Some("br")),
        ("zstd", Some("zstd")),
        ("gzip, deflate, br, zstd", Some("zstd")),
        ("gzip, deflate, br", Some("br")),
        ("gzip;q=1.0, zstd;q=0.9", Some("gzip")),
        ("gzip;q=0.5,br;q=0.501", Some("br")),
        ("gzip ; q=0.5", Some("gzip")),
        ("gzip;Q=0.5", Some("gzip")),
        ("*", Some("zstd")),
        ("*;q=0.1", Some("zstd")),
        ("zstd;q=0, *", Some("br")),
        ("*;q=0, gzip", Some("gzip")),
        ("gzip;q=1.", Some("gzip")),
        (",, gzip ,", Some("gzip")),
        // A coding that is not offered is no reason to refuse the rest.
        ("deflate, gzip", Some("gzip")),
        // Equal weights: compression is preferred.
        ("identity, gzip", Some("gzip")),
        ("identity;q=0, gzip;q=0.1", Some("gzip")),
    ] {
        assert_eq!(chosen(value), expected, "{value}");
    }
}

#[test]
fn the_client_gets_no_coding_that_it_has_not_asked_for() {
    for value in [
        "",
        "identity",
        "deflate",
        "gzip;q=0",
        "gzip;q=0.000",
        "*;q=0",
        "gzip;q=0.5, identity;q=0.8",
        "identity;q=0",
        // Malformed: uncompressed is safe.
        "gzip;q=2",
        "gzip;q=1.001",
        "gzip;q=0.1234",
        "gzip;q=-1",
        "gzip;q=a",
        "gzip;q",
        "gzip;q=",
        "gzip;level=5",
        "gzip;q=1;q=0",
        ";q=1",
        "gzip br",
        "gzip, \u{e9}",
        "gzip\u{0}",
    ] {
        assert_eq!(chosen(value), None, "{value:?}");
    }
    assert_eq!(Accepted::parse(None).choose(&offers()), None);
}

#[test]
fn a_client_may_refuse_what_has_no_coding() {
    let refuses = |value: &str| Accepted::parse(Some(value.as_bytes())).refuses_identity();
    assert!(refuses("identity;q=0, gzip"));
    assert!(refuses("gzip, *;q=0"));
    assert!(!refuses("identity;q=0.001, *;q=0"));
    assert!(!refuses("gzip"));
}

// ---- which bodies are compressed ------------------------------------------------------------------------------------

#[test]
fn patterns_have_one_star_at_most() {
    for text in ["", "*/*", "a b", "text/html; charset=utf-8", "text/\u{e9}"] {
        assert_eq!(TypePattern::parse(text), None, "{text}");
    }
    let json = settings(&["application/JSON", "text/*", "*+xml"]);
    for (value, expected) in [
        ("application/json", true),
        ("Application/Json ; charset=utf-8", true),
        ("application/jsonp", false),
        ("text/html;charset=utf-8", true),
        ("image/svg+xml", true),
        ("image/png", false),
        ("", false),
        ("text/event-stream", false),
        ("text/event-stream; charset=utf-8", false),
    ] {
        assert_eq!(json.admits(Some(value.as_bytes()), b""), expected, "{value}");
    }
    assert!(settings(&["text/event-stream"]).admits(Some(b"text/event-stream"), b""));
    assert!(!settings(&["*"]).admits(Some(b"text/event-stream"), b""));
}

#[test]
fn a_body_without_a_type_is_judged_by_its_bytes() {
    let text = settings(&["text/*"]);
    assert!(text.admits(None, "<p>gr\u{fc}n\r\n\t\u{1b}[0m\u{c}".as_bytes()));
    assert!(!text.admits(None, b"\x89PNG\r\n\x1a\n"));
    assert!(!text.admits(None, b"\xff\xd8\xff\xe0\x00\x10JFIF"));
    assert!(!text.admits(None, b"\x1f\x8b\x08"));
    assert!(!settings(&["application/json"]).admits(None, b"text"));
}

// ---- heads ----------------------------------------------------------------------------------------------------------

fn head(fields: &[(&str, &str)]) -> ResponseHead {
    let mut head = ResponseHead::default();
    for (name, value) in fields {
        head.header(name.as_bytes(), value.as_bytes()).unwrap();
    }
    head
}

fn value(head: &ResponseHead, name: &str) -> Option<String> {
    head.field(name.as_bytes()).map(|value| String::from_utf8(value.to_vec()).unwrap())
}

#[test]
fn some_answers_are_left_alone() {
    let all = settings(&["*"]);
    let text = ("Content-Type", "text/plain");
    assert!(head(&[text]).may_encode(&all, b""));
    assert!(head(&[text, ("Cache-Control", "max-age=3, private")]).may_encode(&all, b""));
    for field in [
        ("Content-Encoding", "br"),
        ("content-encoding", ""),
        ("Cache-Control", "private, No-Transform"),
        ("Content-Range", "bytes 0-1/2"),
        ("Content-Digest", "sha-256=:AA==:"),
        ("Repr-Digest", "sha-256=:AA==:"),
        ("Content-MD5", "AA=="),
    ] {
        assert!(!head(&[text, field]).may_encode(&all, b""), "{field:?}");
    }
    for status in [204, 205, 206] {
        let mut head = head(&[text]);
        head.set_status(status).unwrap();
        assert!(!head.may_encode(&all, b""), "{status}");
    }
}

#[test]
fn vary_is_merged() {
    for (before, after) in [
        (&[][..], "Accept-Encoding"),
        (&["Origin"], "Origin, Accept-Encoding"),
        (&["Origin", "Cookie"], "Origin, Cookie, Accept-Encoding"),
        (&["Origin", "accept-encoding"], "Origin"),
        (&["*"], "*"),
    ] {
        let fields: Vec<_> = before.iter().map(|value| ("vary", *value)).collect();
        let mut head = head(&fields);
        head.vary_on_encoding();
        assert_eq!(value(&head, "Vary").as_deref(), Some(after), "{before:?}");
    }
}

#[test]
fn an_encoded_body_has_a_head_of_its_own() {
    let mut head =
        head(&[("ETag", "\"a\""), ("Accept-Ranges", "bytes"), ("Content-Length", "5"), ("Etags", "other")]);
    head.encoded("gzip");
    assert_eq!(value(&head, "etag").as_deref(), Some("W/\"a\""));
    assert_eq!(value(&head, "etags").as_deref(), Some("other"));
    assert_eq!(value(&head, "accept-ranges"), None);
    assert_eq!(value(&head, "content-encoding").as_deref(), Some("gzip"));
    assert_eq!(head.declared_length(), None);
    // A weak one stays.
    let mut weak = self::head(&[("ETag", "W/\"a\"")]);
    weak.encoded("br");
    assert_eq!(value(&weak, "etag").as_deref(), Some("W/\"a\""));
}

#[test]
fn identity_is_a_wish_and_no_header() {
    let mut wished = head(&[("Content-Encoding", "Identity"), ("X", "y")]);
    assert!(wished.take_identity());
    assert_eq!(value(&wished, "content-encoding"), None);
    assert_eq!(value(&wished, "x").as_deref(), Some("y"));
    let mut other = head(&[("Content-Encoding", "br")]);
    assert!(!other.take_identity());
    assert_eq!(value(&other, "content-encoding").as_deref(), Some("br"));
}

// ---- encoders -------------------------------------------------------------------------------------------------------

fn decode(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).map(drop).unwrap(),
        Coding::Brotli => brotli::BrotliDecompress(&mut &bytes[..], &mut out).unwrap(),
        Coding::Zstd => zstd::stream::copy_decode(bytes, &mut out).unwrap(),
    }
    out
}

/// The readable part of a body without its end.
fn decode_part(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    match coding {
        Coding::Gzip => {
            let mut decoder = flate2::write::GzDecoder::new(Vec::new());
            decoder.write_all(bytes).unwrap();
            decoder.flush().unwrap();
            std::mem::take(decoder.get_mut())
        }
        Coding::Brotli => {
            let (mut out, mut decoder) = (Vec::new(), brotli::Decompressor::new(bytes, 4096));
            // It needs more than one call, and reports the missing end at last.
            let _ = decoder.read_to_end(&mut out);
            out
        }
        Coding::Zstd => {
            let mut decoder = zstd::stream::write::Decoder::new(Vec::new()).unwrap();
            decoder.write_all(bytes).unwrap();
            decoder.flush().unwrap();
            std::mem::take(decoder.get_mut())
        }
    }
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..5000),
        // Repetitions, in all sizes.
        (proptest::collection::vec(any::<u8>(), 1..50), 1..4000_usize)
            .prop_map(|(unit, count)| unit.repeat(count)),
    ]
}

proptest! {
    #[test]
    fn whole_bodies_read_back(body in body(), level in 0..20_u32) {
        for coding in Coding::ALL {
            let levels = coding.levels();
            // The slowest would take minutes.
            let level = level.clamp(*levels.start(), (*levels.end()).min(9));
            let coded = encode(CodingLevel { coding, level }, &body).unwrap();
            prop_assert!(decode(coding, &coded) == body, "{:?} at level {}", coding, level);
        }
    }

    #[test]
    fn pieces_read_back_as_they_come(pieces in proptest::collection::vec(body(), 1..5)) {
        for coding in Coding::ALL {
            let mut encoder = Encoder::new(offer(coding)).unwrap();
            let (last, first) = pieces.split_last().unwrap();
            let (mut coded, mut plain) = (Vec::new(), Vec::new());
            for piece in first {
                coded.extend(encoder.write(piece).unwrap());
                plain.extend_from_slice(piece);
                prop_assert!(decode_part(coding, &coded) == plain, "{:?}", coding);
            }
            coded.extend(encoder.finish(last).unwrap());
            plain.extend_from_slice(last);
            prop_assert!(decode(coding, &coded) == plain, "{:?}", coding);
        }
    }

    #[test]
    fn no_header_is_too_odd(value in proptest::collection::vec(any::<u8>(), 0..60)) {
        let accepted = Accepted::parse(Some(&value));
        let _ = (accepted.choose(&offers()), accepted.refuses_identity());
    }

    #[test]
    fn an_offer_is_made_only_to_who_names_it(value in "(gzip|br|zstd|identity|deflate|\\*)(;q=(0|0\\.[0-9]{0,3}|1))?") {
        let got = chosen(&value);
        let refused = value.ends_with("q=0") || value.trim_end_matches('0').ends_with("q=0.");
        let name = value.split(';').next().unwrap();
        let expected = match name {
            _ if refused => None,
            "*" => Some("zstd"),
            "gzip" | "br" | "zstd" => Some(name),
            _ => None,
        };
        prop_assert_eq!(got, expected, "{}", value);
    }
}

#[test]
fn a_context_is_clean_for_the_next_body() {
    let (first, second) = (b"first ".repeat(500), b"second ".repeat(500));
    for coding in Coding::ALL {
        let fresh = std::thread::spawn({
            let second = second.clone();
            move || encode(offer(coding), &second).unwrap()
        });
        encode(offer(coding), &first).unwrap();
        assert_eq!(encode(offer(coding), &second).unwrap(), fresh.join().unwrap(), "{coding:?}");
    }
}
