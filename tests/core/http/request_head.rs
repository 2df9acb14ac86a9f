//! Heads of requests: what is taken, what is refused, and how a body is framed (RFC 9112).

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
    let with = |count: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(count - 1));
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
