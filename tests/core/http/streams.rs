//! Heads of HTTP/2 streams, read as any other.

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
    let parts = parts("GET", "http://a.example/p?q=1", &[("cookie", "a=1"), ("x", "1"), ("cookie", "b=2")]);
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
    for (name, value) in
        [("Upgrade", "x"), ("Keep-Alive", "5"), ("Connection", "Upgrade"), ("X-Mine", "1"), ("x-mine", "2")]
    {
        head.header_of_stream(name.as_bytes(), value.as_bytes()).unwrap();
    }
    assert!(head.header_of_stream(b"x", b"\x07").is_err());
    let response = head.to_stream(false, BodyKind::Sized(3), b"now", b"me");
    let lines: Vec<_> =
        response.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let expected: [(&str, &[u8]); 5] =
        [("x-mine", b"1"), ("x-mine", b"2"), ("date", b"now"), ("server", b"me"), ("content-length", b"3")];
    assert_eq!(lines, expected);
    // No interim status ends a stream (RFC 9113 section 8.6).
    head.set_status(101).unwrap();
    assert_eq!(head.to_stream(false, BodyKind::Empty, b"", b"").status(), 500);
}
