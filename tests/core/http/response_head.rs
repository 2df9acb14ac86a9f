//! Heads of responses: their bytes, and what may stand in them.

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
        assert_eq!(written(&head, request, body, true), expected, "{code} {headers:?} {request:?} {body:?}");
    }
}

#[test]
fn bodies_allowed_and_streams() {
    for (code, allowed) in [(100, false), (101, false), (200, true), (204, false), (205, false), (304, false)]
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
            format!("HTTP/1.1 200 OK\r\n{user}Date: DATE\r\nServer: srv\r\nContent-Length: 0\r\n{ours}\r\n")
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
        assert_eq!(head.set_status_text(text.as_bytes()), Err(HeadError::StatusText { text: text.into() }));
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
    let codes = (100..=103).chain(200..=208).chain([226]).chain(300..=308).chain(400..=418).chain(421..=426);
    let codes: Vec<u16> = codes.chain([428, 429, 431, 451]).chain(500..=508).chain([510, 511]).collect();
    assert_eq!(status::REASONS.iter().map(|&(code, _)| code).collect::<Vec<_>>(), codes);
    assert!(
        status::REASONS.iter().all(|(code, text)| !text.is_empty() && status::reason(*code) == Some(text))
    );
    assert_eq!((status::reason(0), status::reason(299), status::reason(600)), (None, None, None));
}
