//! The HTTP/1.1 bytes in and out, as tables. Rows cite the API specification (B-HT-, A-RES-, A-REQ-, DEC-)
//! and the section of the RFC.
#![allow(clippy::unwrap_used)]

mod chunks;
mod queries;
mod request_head;
mod response_head;
mod streams;

use proptest::prelude::*;
use socketify::http::chunked::{ChunkError, ChunkedDecoder, LAST_CHUNK, encode_chunk_header};
use socketify::http::head::{
    Framing, Head, HeadLimits, HeaderLines, Refusal, find, joined, parse, parse_from,
};
use socketify::http::response::{BodyKind, HeadError, Known, LineBreaker, RequestInfo, ResponseHead};
use socketify::http::{date, query, status};

const LIMITS: HeadLimits = HeadLimits { max_header_bytes: 16 * 1024, max_headers: 100 };

fn accepted(input: &str) -> Head {
    match parse(input.as_bytes(), &LIMITS) {
        Ok(Some(head)) => head,
        other => panic!("{input:?} gave {other:?}"),
    }
}

fn refused(input: &str) -> Refusal {
    match parse(input.as_bytes(), &LIMITS) {
        Err(refusal) => refusal,
        other => panic!("{input:?} gave {other:?}"),
    }
}

proptest! {
    #[test]
    fn head_in_two_pieces_is_the_same_head(
        path in "/[a-z/]{0,12}(\\?[a-z=&]{0,12})?",
        lines in proptest::collection::vec("[A-Za-z-]{1,10}x: ?[!-~]{0,16}\r\n", 0..8),
        empty in 0_usize..4,
        body in "[a-z\r\n]{0,16}",
    ) {
        let (empty, lines) = ("\r\n".repeat(empty), lines.concat());
        let head = format!("{empty}POST {path} HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        let wire = format!("{head}{body}");
        let whole = parse(wire.as_bytes(), &LIMITS).unwrap().unwrap();
        prop_assert_eq!(whole.len, head.len());
        for cut in 0..head.len() {
            prop_assert_eq!(parse(&wire.as_bytes()[..cut], &LIMITS), Ok(None), "cut at {}", cut);
            let resumed = parse_from(wire.as_bytes(), &LIMITS, cut);
            prop_assert_eq!(resumed, Ok(Some(whole.clone())), "cut at {}", cut);
        }
        let mut searched = 0;
        for len in 1..head.len() {
            prop_assert_eq!(parse_from(&wire.as_bytes()[..len], &LIMITS, searched), Ok(None));
            searched = len;
        }
        prop_assert_eq!(parse_from(head.as_bytes(), &LIMITS, searched), Ok(Some(whole)));
    }

    #[test]
    fn any_bytes_parse_without_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200), searched in 0_usize..300,
    ) {
        let _ = parse_from(&bytes, &LIMITS, searched);
    }

    #[test]
    fn mangled_heads_parse_without_panic(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), searched in 0_usize..100,
    ) {
        let mut wire = b"GET http://h/a?b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\
            Expect: 100-continue\r\n\r\n".to_vec();
        let at = at.index(wire.len());
        wire[at] = byte;
        let _ = parse_from(&wire, &LIMITS, searched);
        // An accepted head has no line feed that is not a line ending.
        if let Ok(Some(head)) = parse(&wire, &LIMITS) {
            let text = &wire[..head.len];
            prop_assert!((0..text.len()).all(|i| text[i] != b'\n' || i > 0 && text[i - 1] == b'\r'));
        }
    }
}

/// B-HT-24; RFC 9110 section 5.6.7.
#[test]
fn dates() {
    assert_eq!(&date::imf_fixdate(0), b"Thu, 01 Jan 1970 00:00:00 GMT");
    assert_eq!(&date::imf_fixdate(951_827_696), b"Tue, 29 Feb 2000 12:34:56 GMT");
    assert_eq!(&date::imf_fixdate(u64::MAX), b"Fri, 31 Dec 9999 23:59:59 GMT");
    let before = std::time::SystemTime::now();
    let shown = std::str::from_utf8(&date::now()).unwrap().to_owned();
    let shown = httpdate::parse_http_date(&shown).unwrap();
    let late = before.duration_since(shown).unwrap_or_default();
    assert!(late.as_secs() < 2, "{late:?}");
    assert_eq!(date::now().len(), 29);
}
