//! The HTTP/1.1 bytes in and out, as tables. Rows cite the API specification (B-HT-, A-RES-, A-REQ-, DEC-)
//! and the section of the RFC.
#![allow(clippy::unwrap_used)]

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

mod request_head {
    use super::*;

    #[test]
    fn offsets_point_into_the_buffer() {
        let buf = b"\r\nPOST /a/b?x=1&y HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1";
        let head = parse(buf, &LIMITS).unwrap().unwrap();
        assert_eq!(&buf[head.len..], b"abcGET / HTTP/1.1");
        assert_eq!(head.method(buf), b"POST");
        assert_eq!(head.target(buf), b"/a/b?x=1&y");
        assert_eq!(head.path(buf), b"/a/b");
        assert_eq!(head.query(buf), Some(&b"x=1&y"[..]));
        assert_eq!(head.header_block(buf), b"Host: h\r\nContent-Length: 3\r\n");
        assert_eq!(head.framing, Framing::Length(3));
        assert_eq!(head.version_minor, 1);
        assert!(head.keep_alive && !head.expect_continue && !head.upgrade);
    }

    #[test]
    fn head_without_headers_has_an_empty_block() {
        let buf = b"GET / HTTP/1.0\r\n\r\n";
        let head = parse(buf, &LIMITS).unwrap().unwrap();
        assert_eq!((head.len, head.header_block(buf)), (buf.len(), &b""[..]));
    }

    #[test]
    fn another_buffer_gives_empty_slices_and_no_panic() {
        let head = accepted("GET /long/path?q HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(head.path(b"GET"), b"");
        assert_eq!(head.query(b"GET"), Some(&b""[..]));
    }

    #[test]
    fn sizes_stay_small() {
        assert!(size_of::<Head>() <= 80, "{}", size_of::<Head>());
        assert!(size_of::<Refusal>() <= 32);
        assert!(size_of::<HeadError>() <= 32);
        assert!(size_of::<ChunkedDecoder>() <= 16);
    }

    /// B-HT-03; RFC 9112 section 3.2.
    #[test]
    fn target_forms() {
        let cases: [(&str, &str, &str, Option<&str>); 13] = [
            ("GET", "/", "/", None),
            ("GET", "/?", "/", Some("")),
            ("GET", "/a?b?c", "/a", Some("b?c")),
            ("GET", "//a", "//a", None),
            ("GET", "/%2e/ü|", "/%2e/ü|", None),
            ("OPTIONS", "*", "*", None),
            ("OPTIONS", "/x", "/x", None),
            ("GET", "http://h/a?b", "/a", Some("b")),
            ("GET", "HTTPS://h:443/a", "/a", None),
            ("GET", "http://h", "/", None),
            ("GET", "http://h?q=/", "/", Some("q=/")),
            ("CONNECT", "h:443", "h:443", None),
            ("CONNECT", "[::1]:443", "[::1]:443", None),
        ];
        for (method, target, path, query) in cases {
            let input = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n");
            let head = accepted(&input);
            assert_eq!(head.path(input.as_bytes()), path.as_bytes(), "{input:?}");
            assert_eq!(head.query(input.as_bytes()), query.map(str::as_bytes), "{input:?}");
            assert_eq!(head.target(input.as_bytes()), target.as_bytes());
        }
    }

    #[test]
    fn targets_of_no_form() {
        let cases = [
            ("GET", "*"),
            ("GET", "a"),
            ("GET", "h:443"),
            ("GET", "?x"),
            ("GET", "/a#b"),
            ("GET", "ftp://h/"),
            ("GET", "http:///a"),
            ("GET", "http://"),
            ("GET", "http://:80/"),
            ("GET", "http://user@h/"),
            ("GET", "http:/h"),
            ("OPTIONS", "**"),
            ("CONNECT", "/"),
            ("CONNECT", "h"),
            ("CONNECT", "h:"),
            ("CONNECT", ":443"),
            ("CONNECT", "h:x"),
            ("CONNECT", "http://h/"),
        ];
        for (method, target) in cases {
            let input = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n\r\n");
            assert_eq!(refused(&input), Refusal::Target, "{input:?}");
        }
    }

    /// B-HT-16 and B-HT-04; RFC 9112 section 9.3.
    #[test]
    fn persistence() {
        let cases = [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: CLOSE\r\n", false),
            ("1.1", "connection: keep-alive , Close\r\n", false),
            ("1.1", "Connection: x\r\nConnection: close\r\n", false),
            ("1.1", "Connection: closed\r\n", true),
            ("1.1", "Connection: hello\r\n", true), // five letters, yet not `close`
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
        ];
        for (version, line, keep_alive) in cases {
            let input = format!("GET / HTTP/{version}\r\nHost: h\r\n{line}\r\n");
            assert_eq!(accepted(&input).keep_alive, keep_alive, "{input:?}");
        }
    }

    /// B-HT-13; RFC 9110 section 10.1.1.
    #[test]
    fn expectations() {
        let cases = [
            ("1.1", "Expect: 100-continue\r\nContent-Length: 1\r\n", Ok(true)),
            ("1.1", "expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n", Ok(true)),
            ("1.1", "Expect: 100-continue\r\n", Ok(false)),
            ("1.1", "Expect: 100-continue\r\nContent-Length: 0\r\n", Ok(false)),
            ("1.0", "Expect: 100-continue\r\nContent-Length: 1\r\n", Ok(false)),
            ("1.0", "Expect: tea\r\n", Ok(false)),
            ("1.1", "Expect: tea\r\n", Err(417)),
            ("1.1", "Expect: 100-continue, tea\r\n", Err(417)),
        ];
        for (version, lines, expected) in cases {
            let input = format!("PUT / HTTP/{version}\r\nHost: h\r\n{lines}\r\n");
            let got = parse(input.as_bytes(), &LIMITS);
            let got = got.map(|head| head.unwrap().expect_continue).map_err(|refusal| refusal.status());
            assert_eq!(got, expected, "{input:?}");
        }
    }

    /// RFC 9110 section 7.8.
    #[test]
    fn upgrades() {
        let cases = [
            ("1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n", true),
            ("1.1", "Upgrade: websocket\r\nConnection: keep-alive, upgrade\r\n", true),
            ("1.1", "Upgrade: websocket\r\n", false),
            ("1.1", "Connection: upgrade\r\n", false),
            ("1.1", "Connection: upgrade\r\nUpgrade:\r\n", false),
            ("1.0", "Connection: upgrade\r\nUpgrade: websocket\r\n", false),
        ];
        for (version, lines, upgrade) in cases {
            let input = format!("GET / HTTP/{version}\r\nHost: h\r\n{lines}\r\n");
            assert_eq!(accepted(&input).upgrade, upgrade, "{input:?}");
        }
    }

    /// B-HT-10, B-HT-11; RFC 9112 section 6.3, RFC 9110 section 8.6.
    #[test]
    fn framing() {
        let cases = [
            ("", Framing::None),
            ("Content-Length: 0\r\n", Framing::Length(0)),
            ("content-length:007\r\n", Framing::Length(7)),
            ("Content-Length: 18446744073709551615\r\n", Framing::Length(u64::MAX)),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", Framing::Length(5)),
            ("Content-Length: 5, 5\r\n", Framing::Length(5)),
            ("Transfer-Encoding: chunked\r\n", Framing::Chunked),
            ("TRANSFER-ENCODING: \t Chunked \r\n", Framing::Chunked),
        ];
        for (lines, framing) in cases {
            let input = format!("POST / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
            assert_eq!(accepted(&input).framing, framing, "{input:?}");
        }
    }

    /// B-HT-05, B-HT-07, B-HT-08.
    #[test]
    fn tolerated() {
        for input in [
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "GET http://h/ HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nX_y.z!#$%&'*+-^`|~9: \u{fc} \t x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nEmpty:\r\n\r\n",
            "get / HTTP/1.1\r\nHost: h\r\n\r\n",
            "\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        ] {
            accepted(input);
        }
    }

    /// Bytes that two parsers could read as two different messages (B-HT-10; RFC 9112 section 11.2).
    #[test]
    fn smuggling() {
        let cases = [
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Refusal::LengthAndEncoding),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Refusal::LengthAndEncoding),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Refusal::ConflictingLengths),
            ("Content-Length: 5, 6\r\n", Refusal::ConflictingLengths),
            ("Content-Length:\r\n", Refusal::InvalidLength),
            ("Content-Length: 5,\r\n", Refusal::InvalidLength),
            ("Content-Length: +5\r\n", Refusal::InvalidLength),
            ("Content-Length: -5\r\n", Refusal::InvalidLength),
            ("Content-Length: 0x5\r\n", Refusal::InvalidLength),
            ("Content-Length: 5 5\r\n", Refusal::InvalidLength),
            ("Content-Length: 5.0\r\n", Refusal::InvalidLength),
            ("Content-Length: 18446744073709551616\r\n", Refusal::InvalidLength),
            ("Transfer-Encoding: identity\r\n", Refusal::TransferEncoding),
            ("Transfer-Encoding:\r\n", Refusal::TransferEncoding),
            ("Transfer-Encoding: gzip, chunked\r\n", Refusal::UnknownCoding),
            ("Transfer-Encoding: gzip;level=1 ,Chunked\r\n", Refusal::UnknownCoding),
            ("Transfer-Encoding: gzip\r\nX: y\r\nTransfer-Encoding: chunked\r\n", Refusal::UnknownCoding),
            ("Transfer-Encoding: identity, chunked\r\n", Refusal::UnknownCoding),
            ("Transfer-Encoding: gzip\r\n", Refusal::TransferEncoding),
            ("Transfer-Encoding: chunked, gzip\r\n", Refusal::TransferEncoding),
            ("Transfer-Encoding: chunked, gzip, chunked\r\n", Refusal::TransferEncoding),
            ("Transfer-Encoding: , chunked\r\n", Refusal::TransferEncoding),
            ("Transfer-Encoding: chunked,\r\n", Refusal::TransferEncoding),
            ("Transfer-Encoding: gzip,, chunked\r\n", Refusal::TransferEncoding),
            ("Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n", Refusal::TransferEncoding),
            ("Transfer-Encoding: g(z, chunked\r\n", Refusal::TransferEncoding),
            ("Transfer-Encoding: gzip\r\nContent-Length: 5\r\n", Refusal::LengthAndEncoding),
            ("Content-Length: 5\r\nTransfer-Encoding: gzip, chunked\r\n", Refusal::LengthAndEncoding),
            ("Transfer-Encoding: chunked, identity\r\n", Refusal::TransferEncoding),
            ("Transfer-Encoding: xchunked\r\n", Refusal::TransferEncoding),
            ("Transfer-Encoding: chunked;q=1\r\n", Refusal::TransferEncoding),
            ("Transfer-Encoding: \"chunked\"\r\n", Refusal::TransferEncoding),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Refusal::TransferEncoding),
            ("Transfer-Encoding : chunked\r\n", Refusal::BlankBeforeColon),
            ("Content-Length\t: 5\r\n", Refusal::BlankBeforeColon),
            (" Content-Length: 5\r\n", Refusal::FoldedLine),
            ("X: a\r\n\tb\r\n", Refusal::FoldedLine),
            ("X: a\r\n Transfer-Encoding: chunked\r\n", Refusal::FoldedLine),
            ("X: a\nTransfer-Encoding: chunked\r\n", Refusal::BareLineFeed),
            ("X: a\n\nGET /x HTTP/1.1\r\n", Refusal::BareLineFeed),
            ("X: a\rTransfer-Encoding: chunked\r\n", Refusal::HeaderValue),
            ("X: a\0b\r\n", Refusal::HeaderValue),
            ("X: a\u{b}b\r\n", Refusal::HeaderValue),
            ("X: a\u{7f}b\r\n", Refusal::HeaderValue),
            ("X\0: a\r\n", Refusal::HeaderName),
            ("X(y): a\r\n", Refusal::HeaderName),
            ("\u{fc}: a\r\n", Refusal::HeaderName),
            (": a\r\n", Refusal::HeaderName),
            ("X\r\n", Refusal::HeaderName),
            ("Host: other\r\n", Refusal::DuplicateHost),
            ("Host: h\r\n", Refusal::DuplicateHost),
        ];
        for (lines, refusal) in cases {
            let input = format!("POST / HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
            assert_eq!(refused(&input), refusal, "{input:?}");
            assert_eq!(refusal.status(), if refusal == Refusal::UnknownCoding { 501 } else { 400 });
        }
    }

    /// RFC 9112 section 3.2, RFC 3986 section 3.2: a host and a port, in every place.
    #[test]
    fn hosts() {
        let good = [
            "example.org",
            "example.org:8080",
            "example.org:",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:80",
            "[::ffff:1.2.3.4]:",
            "a%41b",
            "a_b~c",
            "xn--bcher-kva.example",
            "a!$&'()*+,;=b",
            "[v1.a:b]",
            "%c3%bc",
        ];
        let bad = [
            "a:b:c",
            "a:port",
            "a:80x",
            "a:-1",
            "a:+1",
            "a: 80",
            "[::1",
            "[::1]x",
            "[::1]80",
            "[]",
            "[a]",
            "[::1%25eth0]",
            "[1.2.3.4]",
            "[v.a]",
            "[v1.]",
            "[vx.a]",
            "::1",
            "::",
            "a%zz",
            "a%4",
            "a%",
            "a]",
            "a[b]",
            "a/b",
            "a?b",
            "a#b",
            "u@a",
            "a b",
            "a\\b",
            "\u{fc}",
        ];
        for (host, valid) in good.map(|host| (host, true)).into_iter().chain(bad.map(|host| (host, false))) {
            let read = |input: String| parse(input.as_bytes(), &LIMITS);
            let own = read(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            assert_eq!(own.map(|_| ()), if valid { Ok(()) } else { Err(Refusal::InvalidHost) }, "{host}");
            let absolute = read(format!("GET http://{host}/ HTTP/1.1\r\nHost: a\r\n\r\n"));
            // In the target some of them have another meaning.
            if !host.contains(['/', '?', ' ']) {
                assert_eq!(absolute.is_ok(), valid, "{host}");
            }
            let tunnel = read(format!("CONNECT {host}:443 HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(
                tunnel.is_ok(),
                valid && !host.rsplit(']').next().unwrap_or_default().contains(':'),
                "{host}"
            );
        }
    }

    /// B-HT-04, B-HT-05, B-HT-09; RFC 9112 section 3.
    #[test]
    fn refusals() {
        let long = format!("{} / HTTP/1.1\r\nHost: h\r\n\r\n", "M".repeat(65));
        let cases = [
            ("GET / HTTP/1.1\r\n\r\n", Refusal::MissingHost, 400),
            ("GET / HTTP/1.1\r\nX: y\r\n\r\n", Refusal::MissingHost, 400),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Refusal::InvalidHost, 400),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Refusal::InvalidHost, 400),
            ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Refusal::InvalidHost, 400),
            ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", Refusal::DuplicateHost, 400),
            ("GET http://h/ HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", Refusal::DuplicateHost, 400),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::EncodingInOldVersion, 400),
            ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", Refusal::Version, 505),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refusal::Version, 505),
            ("GET / HTTP/1.2\r\n\r\n", Refusal::Version, 505),
            ("GET / HTTP/0.9\r\n\r\n", Refusal::Version, 505),
            ("GET / HTTP/11\r\n\r\n", Refusal::RequestLine, 400),
            ("GET / http/1.1\r\n\r\n", Refusal::RequestLine, 400),
            ("GET / JUNK/1.1\r\n\r\n", Refusal::RequestLine, 400),
            ("GET /\r\n\r\n", Refusal::RequestLine, 400),
            ("GET  / HTTP/1.1\r\n\r\n", Refusal::RequestLine, 400),
            ("GET /  HTTP/1.1\r\n\r\n", Refusal::RequestLine, 400),
            ("GET / HTTP/1.1 \r\n\r\n", Refusal::RequestLine, 400),
            ("GET /a b HTTP/1.1\r\n\r\n", Refusal::RequestLine, 400),
            ("GET /\t HTTP/1.1\r\n\r\n", Refusal::RequestLine, 400),
            ("GET /\0 HTTP/1.1\r\n\r\n", Refusal::RequestLine, 400),
            (" GET / HTTP/1.1\r\n\r\n", Refusal::RequestLine, 400),
            ("G(T / HTTP/1.1\r\n\r\n", Refusal::RequestLine, 400),
            ("GET / HTTP/1.1\nHost: h\n\n", Refusal::BareLineFeed, 400),
            ("\n\r\nGET / HTTP/1.1\r\n\r\n", Refusal::BareLineFeed, 400),
            ("\r\n\r\n\r\n\r\n\r\n\r\n", Refusal::RequestLine, 400),
            (&long, Refusal::MethodTooLong, 501),
        ];
        for (input, refusal, status) in cases {
            assert_eq!(refused(input), refusal, "{input:?}");
            assert_eq!(refusal.status(), status, "{input:?}");
        }
    }

    /// Bytes that cannot become a request get the response before the rest arrives.
    #[test]
    fn garbage_is_refused_at_once() {
        let cases: [(&[u8], Refusal); 10] = [
            (b"\x16\x03\x01\x02\x00", Refusal::RequestLine), // TLS hello on a plain port
            (b"\0", Refusal::RequestLine),
            (b" ", Refusal::RequestLine),
            (b"\rX", Refusal::RequestLine),
            (b"\r\n\r\n\r\n\r\n\r", Refusal::RequestLine), // a fifth empty line
            (b"GET\t", Refusal::RequestLine),
            (b"GET / HTTP/3.0\r\n", Refusal::Version),
            (b"GET /\r\n", Refusal::RequestLine),
            (b"GET / HTTP/1.1\r\nHost: h\n", Refusal::BareLineFeed),
            (&[b'A'; 65], Refusal::MethodTooLong),
        ];
        for (input, refusal) in cases {
            assert_eq!(parse(input, &LIMITS), Err(refusal), "{input:?}");
        }
        for input in
            ["", "\r", "\r\n", "\r\n\r", "G", "GET", "GET ", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\n\r"]
        {
            assert_eq!(parse(input.as_bytes(), &LIMITS), Ok(None), "{input:?}");
        }
    }

    /// B-HT-09; RFC 6585 section 5.
    #[test]
    fn limits() {
        let input = b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n";
        let limits = |max_header_bytes, max_headers| HeadLimits { max_header_bytes, max_headers };
        assert!(parse(input, &limits(input.len(), 2)).unwrap().is_some());
        let max = input.len() - 1;
        assert_eq!(parse(input, &limits(max, 2)), Err(Refusal::TooManyBytes { max }));
        assert_eq!(parse(&input[..max], &limits(max, 2)), Err(Refusal::TooManyBytes { max }));
        assert_eq!(parse(&input[..max - 1], &limits(max, 2)), Ok(None));
        assert_eq!(parse(input, &limits(1024, 1)), Err(Refusal::TooManyHeaders { max: 1 }));
        assert_eq!(parse(input, &limits(1024, 0)), Err(Refusal::TooManyHeaders { max: 0 }));
        assert_eq!(Refusal::TooManyHeaders { max: 1 }.status(), 431);
        assert_eq!(Refusal::TooManyBytes { max }.status(), 431);
        let with =
            |count: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(count - 1));
        accepted(&with(100));
        assert_eq!(refused(&with(101)), Refusal::TooManyHeaders { max: 100 });
        let most = limits(usize::MAX, usize::MAX);
        assert!(parse(with(256).as_bytes(), &most).unwrap().is_some());
        assert_eq!(parse(with(257).as_bytes(), &most), Err(Refusal::TooManyHeaders { max: 256 }));
    }

    /// B-HT-07; RFC 9110 section 5.6.2: both sides agree on the characters of a header name.
    #[test]
    fn token_bytes() {
        for byte in 0..=u8::MAX {
            let token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert_eq!(ResponseHead::default().header(&[byte], b"").is_ok(), token, "{byte:#x}");
            let head = [b"GET / HTTP/1.1\r\nHost: h\r\nX", &[byte][..], b"Y: z\r\n\r\n"].concat();
            // A colon ends the name, and is no part of it.
            assert_eq!(parse(&head, &LIMITS).is_ok(), token || byte == b':', "{byte:#x}");
            assert_eq!(parse(&[byte], &LIMITS).is_ok(), token || byte == b'\r', "{byte:#x}");
        }
    }

    /// DEC-12; RFC 9110 section 5.3.
    /// RFC 9112 section 3.3: the place of the host of a request.
    #[test]
    fn the_authority_is_that_of_the_target_before_that_of_the_header() {
        let cases: &[(&str, Option<&str>)] = &[
            ("GET / HTTP/1.1\r\nHost: a.com:80\r\n\r\n", Some("a.com:80")),
            ("GET / HTTP/1.1\r\nX: y\r\nhOST:\t a.com \r\n\r\n", Some("a.com")),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Some("")),
            ("GET / HTTP/1.0\r\n\r\n", None),
            ("OPTIONS * HTTP/1.1\r\nHost: a.com\r\n\r\n", Some("a.com")),
            ("GET http://b.com/x HTTP/1.1\r\nHost: a.com\r\n\r\n", Some("b.com")),
            ("GET HTTPS://b.com:443?x=http://c/ HTTP/1.1\r\nHost: a.com\r\n\r\n", Some("b.com:443")),
            ("GET http://b.com HTTP/1.1\r\n\r\n", Some("b.com")),
            ("GET http://[::1]:1/ HTTP/1.1\r\n\r\n", Some("[::1]:1")),
            ("GET /http://b.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n", Some("a.com")),
            ("CONNECT b.com:443 HTTP/1.1\r\nHost: a.com\r\n\r\n", Some("b.com:443")),
        ];
        for (text, expected) in cases {
            let head = parse(text.as_bytes(), &LIMITS).unwrap().unwrap();
            assert_eq!(head.authority(text.as_bytes()), expected.map(str::as_bytes), "{text:?}");
            // A wrong buffer causes no panic.
            let _ = head.authority(b"GET");
        }
    }

    #[test]
    fn header_lines() {
        let block = b"Host: h\r\nX-A:\t one \r\nCookie: a=1\r\nx-a: two\r\nEmpty:\r\nCOOKIE: b=2\r\n\
            Url: http://x\r\n";
        let lines: Vec<_> = HeaderLines::new(block).collect();
        assert_eq!(lines.len(), 7);
        assert_eq!(lines[1], (&b"X-A"[..], &b"one"[..]));
        assert_eq!(lines[6], (&b"Url"[..], &b"http://x"[..]));
        assert_eq!(find(block, b"x-a"), Some(&b"one"[..]));
        assert_eq!(find(block, b"empty"), Some(&b""[..]));
        assert_eq!(find(block, b"x"), None);
        assert_eq!(find(block, b""), None);
        assert_eq!(joined(block, b"x-a").as_deref(), Some(&b"one, two"[..]));
        assert_eq!(joined(block, b"cookie").as_deref(), Some(&b"a=1; b=2"[..]));
        assert!(matches!(joined(block, b"host"), Some(std::borrow::Cow::Borrowed(b"h"))));
        assert_eq!(joined(block, b"missing"), None);
        for odd in [&b""[..], b"\n", b"no colon\r\n", b"cut"] {
            HeaderLines::new(odd).for_each(drop);
            assert_eq!(find(odd, b"no colon"), None);
        }
    }
}

mod response_head {
    use super::*;

    const PLAIN: RequestInfo = RequestInfo { head_request: false, http10: false };
    const HEAD: RequestInfo = RequestInfo { head_request: true, http10: false };
    const OLD: RequestInfo = RequestInfo { head_request: false, http10: true };

    type Headers<'a> = &'a [(&'a str, &'a str)];

    fn written(head: &ResponseHead, request: RequestInfo, body: BodyKind, keep_alive: bool) -> String {
        let mut out = Vec::new();
        head.write_to(&mut out, request, body, b"DATE", b"srv", keep_alive);
        String::from_utf8(out).unwrap()
    }

    fn with(status: u16, headers: Headers<'_>) -> ResponseHead {
        let mut head = ResponseHead::default();
        head.set_status(status).unwrap();
        for (name, value) in headers {
            head.header(name.as_bytes(), value.as_bytes()).unwrap();
        }
        head
    }

    /// B-HT-23, DEC-10.
    #[test]
    fn order_on_the_wire() {
        let head = with(404, &[("B", "1"), ("A", "2"), ("B", "3"), ("Content-Type", "x/y")]);
        assert_eq!(
            written(&head, PLAIN, BodyKind::Sized(5), false),
            "HTTP/1.1 404 Not Found\r\nB: 1\r\nA: 2\r\nB: 3\r\nContent-Type: x/y\r\nDate: DATE\r\n\
             Server: srv\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"
        );
        assert!(head.wrote(Known::ContentType) && !head.wrote(Known::Date));
    }

    #[test]
    fn default_head_is_200() {
        let head = ResponseHead::default();
        let expected = "HTTP/1.1 200 OK\r\nDate: DATE\r\nServer: srv\r\nContent-Length: 13\r\n\r\n";
        assert_eq!(written(&head, PLAIN, BodyKind::Sized(13), true), expected);
        assert_eq!(written(&with(200, &[]), PLAIN, BodyKind::Sized(13), true), expected);
    }

    #[test]
    fn users_date_and_server_replace_ours() {
        let head = with(200, &[("date", "D"), ("SERVER", "S")]);
        let expected = "HTTP/1.1 200 OK\r\ndate: D\r\nSERVER: S\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(written(&head, PLAIN, BodyKind::Empty, true), expected);
        let mut out = Vec::new();
        ResponseHead::default().write_to(&mut out, PLAIN, BodyKind::Empty, b"", b"", true);
        assert_eq!(out, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }

    /// A-RES-15, A-RES-21, A-RES-25, B-HT-01; RFC 9112 section 6, RFC 9110 section 8.6.
    #[test]
    fn framing() {
        let own = &[("Content-Length", "9")][..];
        let foreign = &[("Transfer-Encoding", "gzip")][..];
        let cases: [(u16, Headers<'_>, RequestInfo, BodyKind, &str); 25] = [
            (200, &[], PLAIN, BodyKind::Empty, "Content-Length: 0\r\n"),
            (200, &[], PLAIN, BodyKind::Sized(0), "Content-Length: 0\r\n"),
            (200, &[], PLAIN, BodyKind::Sized(u64::MAX), "Content-Length: 18446744073709551615\r\n"),
            (200, &[], PLAIN, BodyKind::Chunked, "Transfer-Encoding: chunked\r\n"),
            (200, foreign, PLAIN, BodyKind::Chunked, "Transfer-Encoding: chunked\r\n"),
            (200, foreign, PLAIN, BodyKind::Sized(5), "Content-Length: 5\r\n"),
            (200, &[], PLAIN, BodyKind::UntilClose, "Connection: close\r\n"),
            (200, &[], OLD, BodyKind::Chunked, "Connection: close\r\n"),
            (200, &[], OLD, BodyKind::Sized(5), "Content-Length: 5\r\nConnection: keep-alive\r\n"),
            (200, own, PLAIN, BodyKind::Sized(5), "Content-Length: 5\r\n"),
            (200, own, PLAIN, BodyKind::Empty, "Content-Length: 0\r\n"),
            (200, own, HEAD, BodyKind::Empty, "Content-Length: 9\r\n"),
            (200, own, HEAD, BodyKind::Sized(0), "Content-Length: 0\r\n"),
            (200, own, HEAD, BodyKind::Sized(5), "Content-Length: 5\r\n"),
            (200, &[], HEAD, BodyKind::Empty, "Content-Length: 0\r\n"),
            (200, &[], HEAD, BodyKind::Sized(5), "Content-Length: 5\r\n"),
            (200, &[], HEAD, BodyKind::UntilClose, ""),
            (204, own, PLAIN, BodyKind::Sized(5), ""),
            (204, &[], PLAIN, BodyKind::Chunked, ""),
            (205, own, PLAIN, BodyKind::Sized(5), "Content-Length: 0\r\n"),
            (304, &[], PLAIN, BodyKind::Sized(5), ""),
            (304, own, PLAIN, BodyKind::Empty, "Content-Length: 9\r\n"),
            (304, &[], PLAIN, BodyKind::Chunked, ""),
            (101, own, PLAIN, BodyKind::Empty, ""),
            (103, &[], PLAIN, BodyKind::Empty, ""),
        ];
        for (code, headers, request, body, lines) in cases {
            let head = with(code, headers);
            let expected = format!(
                "HTTP/1.1 {code} {}\r\nDate: DATE\r\nServer: srv\r\n{lines}\r\n",
                status::reason(code).unwrap()
            );
            assert_eq!(
                written(&head, request, body, true),
                expected,
                "{code} {headers:?} {request:?} {body:?}"
            );
        }
    }

    #[test]
    fn bodies_allowed_and_streams() {
        for (code, allowed) in
            [(100, false), (101, false), (200, true), (204, false), (205, false), (304, false)]
        {
            assert_eq!(with(code, &[]).body_allowed(false), allowed, "{code}");
            assert!(!with(code, &[]).body_allowed(true), "{code}");
        }
        assert!(!{
            let mut head = ResponseHead::default();
            head.set_status_text(b"204 Nothing").unwrap();
            head.body_allowed(false)
        });
        assert_eq!(with(200, &[]).stream_kind(PLAIN), BodyKind::Chunked);
        assert_eq!(with(200, &[]).stream_kind(OLD), BodyKind::UntilClose);
        assert_eq!(with(200, &[("content-length", " 7")]).stream_kind(OLD), BodyKind::Sized(7));
    }

    /// A-RES-15, B-HT-21; RFC 9112 section 9.6.
    #[test]
    fn connection() {
        let cases = [
            ("close", true, "", "Connection: close\r\n"),
            ("Close", true, "", "Connection: close\r\n"),
            ("keep-alive", true, "", ""),
            ("keep-alive", false, "", "Connection: close\r\n"),
            ("Upgrade", true, "Connection: Upgrade\r\n", ""),
            ("x, close ,y", true, "Connection: x, y\r\n", "Connection: close\r\n"),
        ];
        for (value, keep_alive, user, ours) in cases {
            let head = with(200, &[("Connection", value)]);
            assert_eq!(
                written(&head, PLAIN, BodyKind::Empty, keep_alive),
                format!(
                    "HTTP/1.1 200 OK\r\n{user}Date: DATE\r\nServer: srv\r\nContent-Length: 0\r\n{ours}\r\n"
                )
            );
        }
        assert!(with(200, &[("Connection", "close")]).wants_close());
        assert_eq!(
            written(
                &with(101, &[("Connection", "Upgrade"), ("Upgrade", "websocket")]),
                PLAIN,
                BodyKind::Empty,
                false
            ),
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nDate: DATE\r\n\
             Server: srv\r\n\r\n"
        );
    }

    /// A-RES-20, A-RES-39: any order, first explicit status wins.
    #[test]
    fn status() {
        let mut head = ResponseHead::default();
        assert_eq!(head.status(), 200);
        head.header(b"A", b"b").unwrap();
        head.set_status_text(b"299 Custom \xfc").unwrap();
        head.set_status(500).unwrap();
        head.set_status_text(b"404 Not Found").unwrap();
        assert_eq!(head.status(), 299);
        let mut out = Vec::new();
        head.write_to(&mut out, PLAIN, BodyKind::Empty, b"", b"", true);
        assert_eq!(out, b"HTTP/1.1 299 Custom \xfc\r\nA: b\r\nContent-Length: 0\r\n\r\n");

        head.clear();
        assert!(written(&head, PLAIN, BodyKind::Empty, true).starts_with("HTTP/1.1 200 OK\r\nDate"));
        assert!(written(&with(999, &[]), PLAIN, BodyKind::Empty, true).starts_with("HTTP/1.1 999 \r\n"));
        head.set_status_text(b"404").unwrap();
        assert!(written(&head, PLAIN, BodyKind::Empty, true).starts_with("HTTP/1.1 404 Not Found\r\n"));
    }

    #[test]
    fn bad_statuses_say_so() {
        let mut head = ResponseHead::default();
        for code in [0, 99, 1000, u16::MAX] {
            assert_eq!(head.set_status(code), Err(HeadError::StatusCode { code }));
        }
        for text in ["", "20", "2000", "OK", "099 X", "20x OK", "200\tOK", " 200 OK"] {
            assert_eq!(
                head.set_status_text(text.as_bytes()),
                Err(HeadError::StatusText { text: text.into() })
            );
        }
        let found = LineBreaker::LineFeed;
        assert_eq!(head.set_status_text(b"200 OK\nX: y"), Err(HeadError::StatusBreaksLine { found }));
        assert_eq!(HeadError::StatusCode { code: 99 }.to_string(), "status code 99 is not in 100..=999");
        assert_eq!(head.status(), 200, "a refused status is not chosen");
    }

    /// A-RES-21; RFC 9110 sections 5.1 and 5.5.
    #[test]
    fn headers_cannot_split_the_response() {
        let mut head = ResponseHead::default();
        for name in ["", "a b", "a:", "a\r\nb", "ü", "a\0"] {
            assert_eq!(head.header(name.as_bytes(), b"v"), Err(HeadError::Name { name: name.into() }));
        }
        for (value, found, says) in [
            ("a\r\nX: y", LineBreaker::CarriageReturn, "value of header \"X\" contains a carriage return"),
            ("a\n", LineBreaker::LineFeed, "value of header \"X\" contains a line feed"),
            ("\0", LineBreaker::Nul, "value of header \"X\" contains a NUL byte"),
        ] {
            let error = head.header(b"X", value.as_bytes()).unwrap_err();
            assert_eq!(error, HeadError::Value { name: "X".into(), found });
            assert_eq!(error.to_string(), says);
        }
        for value in ["", "x", "-1", "1 2", "5, 5", "18446744073709551616"] {
            let error = HeadError::Length { value: value.into() };
            assert_eq!(head.header(b"Content-Length", value.as_bytes()), Err(error));
        }
        assert_eq!(head.declared_length(), None);
        head.header(b"Content-Length", b"5").unwrap();
        head.header(b"content-length", b"5").unwrap();
        let error = HeadError::LengthTwice { first: 5, second: 6 };
        assert_eq!(head.header(b"CONTENT-LENGTH", b"6"), Err(error));
        assert_eq!(head.declared_length(), Some(5));
        let out = written(&head, PLAIN, BodyKind::Sized(5), true);
        assert_eq!(out.to_ascii_lowercase().matches("content-length").count(), 1);
    }

    /// A-RES-39.
    #[test]
    fn reason_table() {
        let codes =
            (100..=103).chain(200..=208).chain([226]).chain(300..=308).chain(400..=418).chain(421..=426);
        let codes: Vec<u16> = codes.chain([428, 429, 431, 451]).chain(500..=508).chain([510, 511]).collect();
        assert_eq!(status::REASONS.iter().map(|&(code, _)| code).collect::<Vec<_>>(), codes);
        assert!(
            status::REASONS
                .iter()
                .all(|(code, text)| !text.is_empty() && status::reason(*code) == Some(text))
        );
        assert_eq!((status::reason(0), status::reason(299), status::reason(600)), (None, None, None));
    }
}

mod chunks {
    use super::*;

    /// Decodes `input` in pieces of `size` bytes.
    fn decode(input: &[u8], size: usize) -> Result<(Vec<u8>, usize, bool), ChunkError> {
        let (mut body, mut taken, mut done) = (Vec::new(), 0, false);
        let mut decoder = ChunkedDecoder::default();
        for piece in input.chunks(size.max(1)) {
            let consumed;
            (consumed, done) = decoder.decode(piece, &mut |data: &[u8]| body.extend_from_slice(data))?;
            taken += consumed;
            assert_eq!(done, decoder.is_done());
            if done {
                break;
            }
            assert_eq!(consumed, piece.len());
        }
        Ok((body, taken, done))
    }

    /// B-HT-12; RFC 9112 section 7.1.
    #[test]
    fn accepted() {
        let cases = [
            ("0\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("1\r\na\r\n0002\r\nbc\r\n000\r\n\r\n", "abc"),
            ("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789"),
            ("5;x\r\nhello\r\n0;a=\"b;\"\r\n\r\n", "hello"),
            ("5 \t; x = y ;z\r\nhello\r\n0\r\n\r\n", "hello"),
            ("5\r\nhello\r\n0\r\nExpires: never\r\nX:\r\n\r\n", "hello"),
            ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
        ];
        for (input, body) in cases {
            for size in [1, 2, 3, usize::MAX] {
                let followed = format!("{input}GET /");
                let got = decode(followed.as_bytes(), size);
                assert_eq!(got, Ok((body.into(), input.len(), true)), "{input:?} by {size}");
            }
            for cut in 0..input.len() {
                assert!(!decode(&input.as_bytes()[..cut], usize::MAX).unwrap().2, "{input:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn refused() {
        let cases = [
            ("\r\n", ChunkError::Size),
            (" 5\r\nhello", ChunkError::Size),
            ("g\r\n", ChunkError::Size),
            ("-1\r\n", ChunkError::Size),
            ("+5\r\n", ChunkError::Size),
            ("0x5\r\n", ChunkError::Size),
            ("5 \r\nhello", ChunkError::Size),
            ("5 5\r\nhello", ChunkError::Size),
            ("5,x\r\nhello", ChunkError::Size),
            (";x\r\n", ChunkError::Size),
            ("10000000000000000\r\n", ChunkError::SizeTooLong),
            ("00000000000000005\r\nhello", ChunkError::SizeTooLong),
            ("5\nhello", ChunkError::LineEnd),
            ("5\rhello", ChunkError::LineEnd),
            ("5\r\r\nhello", ChunkError::LineEnd),
            ("5;x\nhello", ChunkError::LineEnd),
            ("5;a\0b\r\n", ChunkError::Extension),
            ("5\r\nhello\n0\r\n\r\n", ChunkError::DataEnd),
            ("5\r\nhello\r0\r\n\r\n", ChunkError::DataEnd),
            ("5\r\nhelloo\r\n0\r\n\r\n", ChunkError::DataEnd),
            ("5\r\nhello0\r\n\r\n", ChunkError::DataEnd),
            ("5\r\nhell\r\n0\r\n\r\n", ChunkError::DataEnd),
            ("0\r\n\n", ChunkError::Trailer),
            ("0\r\n\rX", ChunkError::LineEnd),
            ("0\r\nA: b\n\r\n", ChunkError::LineEnd),
            ("0\r\nA: b\rc\r\n\r\n", ChunkError::LineEnd),
            ("0\r\nA: b\r\n c\r\n\r\n", ChunkError::Trailer),
            ("0\r\nA b\r\n\r\n", ChunkError::Trailer),
            ("0\r\nA\r\n\r\n", ChunkError::Trailer),
            ("0\r\nA: \0\r\n\r\n", ChunkError::Trailer),
            ("0\r\n: a\r\n\r\n", ChunkError::Trailer),
        ];
        for (input, error) in cases {
            for size in [1, 2, usize::MAX] {
                assert_eq!(decode(input.as_bytes(), size), Err(error), "{input:?} by {size}");
            }
        }
    }

    #[test]
    fn bounds() {
        let extended = |count: usize| format!("0;{}\r\n\r\n", "x".repeat(count - 1));
        assert!(decode(extended(4096).as_bytes(), 99).unwrap().2);
        assert_eq!(decode(extended(4097).as_bytes(), 99), Err(ChunkError::ExtensionsTooLong));
        // The bound is over all chunks: one extension each does not avoid it.
        let many = "1;xyz\r\na\r\n".repeat(1025);
        assert_eq!(decode(many.as_bytes(), usize::MAX), Err(ChunkError::ExtensionsTooLong));
        let trailed = |count: usize| format!("0\r\nA:{}\r\n\r\n", "x".repeat(count - 4));
        assert!(decode(trailed(8192).as_bytes(), 99).unwrap().2);
        assert_eq!(decode(trailed(8193).as_bytes(), 99), Err(ChunkError::TrailersTooLong));
        // B-HT-11: 64-bit sizes. The largest is accepted, and its data is awaited.
        let (body, taken, done) = decode(b"ffffffffffffffff\r\nabc", usize::MAX).unwrap();
        assert_eq!((body.as_slice(), taken, done), (&b"abc"[..], 21, false));
    }

    #[test]
    fn encodes_sizes_without_leading_zeros() {
        for len in [1, 9, 10, 15, 16, 255, 256, 4095, 65536, 0xdead_beef, usize::MAX] {
            let mut out = b"before".to_vec();
            encode_chunk_header(len, &mut out);
            assert_eq!(out, format!("before{len:x}\r\n").into_bytes());
        }
    }

    proptest! {
        #[test]
        fn split_anywhere_decodes_alike(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
            extension in "(;[a-z]{1,5}(=[a-z0-9]{1,5})?)?",
            trailer in "([A-Za-z-]{1,8}: ?[ -~]{0,10}\r\n)?",
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend(format!("{:X}{extension}\r\n", chunk.len()).bytes());
                wire.extend(chunk);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\n");
            wire.extend(trailer.bytes());
            wire.extend(b"\r\n");
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len())).collect();
            cuts.extend([0, wire.len()]);
            cuts.sort_unstable();
            let (mut body, mut decoder, mut ended) = (Vec::new(), ChunkedDecoder::default(), false);
            for pair in cuts.windows(2) {
                let piece = &wire[pair[0]..pair[1]];
                let mut out = |data: &[u8]| body.extend_from_slice(data);
                let (taken, done) = decoder.decode(piece, &mut out).unwrap();
                prop_assert_eq!(taken, piece.len());
                ended = done;
            }
            prop_assert!(ended);
            prop_assert_eq!(&body, &chunks.concat());
            prop_assert_eq!(decode(&wire, usize::MAX).unwrap().0, body);
        }

        #[test]
        fn any_bytes_decode_alike_in_pieces(bytes in "[0-9a-f;: \r\n\txZ]{0,60}", size in 1_usize..8) {
            prop_assert_eq!(decode(bytes.as_bytes(), size), decode(bytes.as_bytes(), usize::MAX));
        }

        #[test]
        fn encoded_chunks_decode(data in proptest::collection::vec(any::<u8>(), 1..5000)) {
            let mut wire = Vec::new();
            encode_chunk_header(data.len(), &mut wire);
            wire.extend_from_slice(&data);
            wire.extend_from_slice(b"\r\n");
            wire.extend_from_slice(LAST_CHUNK);
            prop_assert_eq!(decode(&wire, usize::MAX).unwrap(), (data, wire.len(), true));
        }
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

mod queries {
    use super::*;

    /// Expected values were made with `urllib.parse` of Python 3.
    #[test]
    fn percent_decoding() {
        let cases: [(&str, bool, &[u8]); 11] = [
            ("", true, b""),
            ("plain", true, b"plain"),
            ("a+b", true, b"a b"),
            ("a+b", false, b"a+b"),
            ("%41%6a%6A", false, b"Ajj"),
            ("%2B+%20", true, b"+  "),
            ("%C3%BC%ff%00", false, b"\xc3\xbc\xff\0"),
            ("%", true, b"%"),
            ("%4", true, b"%4"),
            ("%zz%4g%%41", true, b"%zz%4g%A"),
            ("%+1", true, b"% 1"),
        ];
        for (input, plus, expected) in cases {
            assert_eq!(&*query::percent_decode(input.as_bytes(), plus), expected, "{input:?}");
        }
        assert!(matches!(query::percent_decode(b"a+b", false), std::borrow::Cow::Borrowed(_)));
    }

    /// A-REQ-10, DEC-3.
    #[test]
    fn first_value() {
        let cases = [
            ("a=1&b=2&a=3", "a", Some("1")),
            ("a=1&b=2&a=3", "b", Some("2")),
            ("a=", "a", Some("")),
            ("a=&a=1", "a", Some("")),
            ("a", "a", None),
            ("", "a", None),
            ("=1", "", None),
            ("ab&a=1", "a", Some("1")), // the reference stops at `ab`
            ("a&a=1", "a", Some("1")),
            ("ab=1", "a", None),
            ("A=1", "a", None),
            ("a=1=2", "a", Some("1=2")),
            ("a=x+y%21", "a", Some("x y!")),
            ("%61+b=1", "a b", Some("1")),
            ("a=%4", "a", Some("%4")),
            ("&&a=1&", "a", Some("1")),
            ("a=1;b=2", "b", None),
        ];
        for (input, key, expected) in cases {
            let got = query::first(input.as_bytes(), key.as_bytes());
            assert_eq!(got.as_deref(), expected.map(str::as_bytes), "{input:?} {key:?}");
        }
    }

    /// A-REQ-09: `parse_qsl(query)`.
    #[test]
    fn all_pairs() {
        let cases: [(&str, &[(&str, &str)]); 8] = [
            ("", &[]),
            ("&&", &[]),
            ("a", &[]),
            ("a=&b", &[]),
            ("=v", &[("", "v")]),
            ("a=1&a=2&b=3", &[("a", "1"), ("a", "2"), ("b", "3")]),
            ("a+b=%20&c=d=e", &[("a b", " "), ("c", "d=e")]),
            ("a=1;b=2", &[("a", "1;b=2")]),
        ];
        for (input, expected) in cases {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let got: Vec<_> =
                query::pairs(input.as_bytes()).map(|(name, value)| (text(&name), text(&value))).collect();
            let expected: Vec<_> =
                expected.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
            assert_eq!(got, expected, "{input:?}");
        }
    }

    proptest! {
        #[test]
        fn escaped_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let digit = |nibble: u8| b"0123456789abcDEF"[usize::from(nibble)];
            let escaped: Vec<u8> =
                bytes.iter().flat_map(|byte| [b'%', digit(byte >> 4), digit(byte & 15)]).collect();
            prop_assert_eq!(&*query::percent_decode(&escaped, true), &bytes[..]);
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

mod streams {
    use http::Request;
    use http::request::Parts;
    use socketify::http::head::{Framing, Head, HeadLimits, Refusal};
    use socketify::http::response::{BodyKind, ResponseHead};

    fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut builder = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    fn read(parts: &Parts, ended: bool, extended: bool) -> Result<(Head, Vec<u8>), Refusal> {
        let mut bytes = Vec::new();
        let head = Head::of_stream(parts, ended, extended, &HeadLimits::default(), &mut bytes)?;
        Ok((head, bytes))
    }

    #[test]
    fn a_request_of_a_stream_reads_as_any_other() {
        let parts =
            parts("GET", "http://a.example/p?q=1", &[("cookie", "a=1"), ("x", "1"), ("cookie", "b=2")]);
        let (head, bytes) = read(&parts, true, false).unwrap();
        assert_eq!((head.method(&bytes), head.target(&bytes)), (&b"GET"[..], &b"/p?q=1"[..]));
        assert_eq!((head.path(&bytes), head.query(&bytes)), (&b"/p"[..], Some(&b"q=1"[..])));
        assert_eq!(head.header_block(&bytes), b"host: a.example\r\ncookie: a=1; b=2\r\nx: 1\r\n");
        assert_eq!(head.authority(&bytes), Some(&b"a.example"[..]));
        assert_eq!((head.framing, head.http2, head.upgrade), (Framing::None, true, false));
    }

    #[test]
    fn a_body_ends_with_its_stream() {
        let sized = parts("POST", "http://a/", &[("content-length", "7"), ("expect", "100-continue")]);
        let (head, _) = read(&sized, false, false).unwrap();
        assert_eq!((head.framing, head.expect_continue), (Framing::Stream(Some(7)), true));
        assert_eq!(
            read(&parts("POST", "http://a/", &[]), false, false).unwrap().0.framing,
            Framing::Stream(None)
        );
    }

    #[test]
    fn connect_has_an_authority_and_the_extended_one_a_path() {
        let (head, bytes) = read(&parts("CONNECT", "a.example:443", &[]), false, false).unwrap();
        assert_eq!((head.path(&bytes), head.upgrade), (&b"a.example:443"[..], false));
        let (head, bytes) = read(&parts("CONNECT", "http://a.example/chat", &[]), false, true).unwrap();
        assert_eq!((head.path(&bytes), head.upgrade), (&b"/chat"[..], true));
    }

    #[test]
    fn what_breaks_a_rule_is_refused() {
        let refused = |method: &str, uri: &str, headers: &[(&str, &str)]| {
            read(&parts(method, uri, headers), true, false).map(drop).unwrap_err()
        };
        assert_eq!(refused("GET", "/", &[]), Refusal::MissingHost);
        assert_eq!(refused("GET", "http://a/", &[("host", "b")]), Refusal::DuplicateHost);
        assert_eq!(refused("GET", "/", &[("host", "a"), ("host", "a")]), Refusal::DuplicateHost);
        assert_eq!(refused("GET", "http://u@a/", &[]), Refusal::InvalidHost);
        assert_eq!(refused("GET", "http://a/", &[("expect", "more")]), Refusal::Expectation);
        assert_eq!(refused("GET", "http://a/", &[("content-length", "x")]), Refusal::InvalidLength);
        assert_eq!(refused(&"M".repeat(65), "http://a/", &[]), Refusal::MethodTooLong);
        let many: Vec<(&str, &str)> = vec![("x", "1"); 101];
        assert_eq!(refused("GET", "http://a/", &many), Refusal::TooManyHeaders { max: 100 });
        let long = "x".repeat(70_000);
        assert_eq!(refused("GET", "http://a/", &[("x", &long)]), Refusal::TooManyBytes { max: 65_536 });
    }

    #[test]
    fn an_answer_goes_without_what_belongs_to_a_connection() {
        let mut head = ResponseHead::default();
        for (name, value) in [
            ("Upgrade", "x"),
            ("Keep-Alive", "5"),
            ("Connection", "Upgrade"),
            ("X-Mine", "1"),
            ("x-mine", "2"),
        ] {
            head.header_of_stream(name.as_bytes(), value.as_bytes()).unwrap();
        }
        assert!(head.header_of_stream(b"x", b"\x07").is_err());
        let response = head.to_stream(false, BodyKind::Sized(3), b"now", b"me");
        let lines: Vec<_> =
            response.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let expected: [(&str, &[u8]); 5] = [
            ("x-mine", b"1"),
            ("x-mine", b"2"),
            ("date", b"now"),
            ("server", b"me"),
            ("content-length", b"3"),
        ];
        assert_eq!(lines, expected);
        // No interim status ends a stream (RFC 9113 section 8.6).
        head.set_status(101).unwrap();
        assert_eq!(head.to_stream(false, BodyKind::Empty, b"", b"").status(), 500);
    }
}
