//! Request heads: accepted or refused independently of their pieces, and consistent if accepted.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use socketify::http::chunked::{ChunkError, ChunkedDecoder};
use socketify::http::head::{Framing, Head, HeadLimits, HeaderLines, find, joined, parse, parse_from};
use socketify::router::Hosts;
use socketify_fuzz::ends;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    max_header_bytes: u16,
    max_headers: u8,
    sizes: [u8; 4],
    wire: &'a [u8],
}

fn memmem(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Names of every shape in a look-up.
fn hosts() -> Hosts<()> {
    let mut hosts = Hosts::new();
    for name in ["*", "*.*", "a.*", "a.b", "::1"] {
        let _ = hosts.entry(name);
    }
    hosts
}

fn check(head: &Head, wire: &[u8], limits: &HeadLimits) {
    assert!(head.len <= wire.len().min(limits.max_header_bytes));
    let text = &wire[..head.len];
    assert!(text.ends_with(b"\r\n\r\n"));
    assert!((0..text.len()).all(|place| text[place] != b'\n' || text[..place].ends_with(b"\r")), "a bare LF");
    let (method, target, path) = (head.method(wire), head.target(wire), head.path(wire));
    assert!(!method.is_empty() && method.iter().all(u8::is_ascii_graphic));
    assert!(!target.is_empty() && !path.is_empty());
    assert!(target.iter().all(|&byte| !matches!(byte, 0..=b' ' | 0x7f)));
    let line = [method, b" ", target, b" HTTP/1.", &[b'0' + head.version_minor], b"\r\n"].concat();
    let start = head.method.start as usize;
    assert!(text[..start].chunks(2).all(|line| line == b"\r\n"));
    assert!(text[start..].starts_with(&line));
    assert_eq!(start + line.len(), head.headers.start as usize);
    assert_eq!(head.headers.end as usize + 2, head.len);
    if let Some(query) = head.query(wire) {
        assert!(target.ends_with(&[b"?", query].concat()));
    }
    let block = head.header_block(wire);
    assert!(HeaderLines::new(block).count() <= limits.max_headers);
    for (name, value) in HeaderLines::new(block) {
        assert!(!name.is_empty() && name.iter().all(u8::is_ascii_graphic));
        assert!(!value.iter().any(|&byte| matches!(byte, b'\r' | b'\n' | 0)));
        assert!(find(block, name).is_some());
        let values = HeaderLines::new(block).filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let values: Vec<&[u8]> = values.map(|(_, value)| value).collect();
        let separator: &[u8] = if name.eq_ignore_ascii_case(b"cookie") { b"; " } else { b", " };
        assert_eq!(joined(block, name).as_deref(), Some(&*values.join(separator)));
    }
    let has = |name| find(block, name).is_some();
    match head.framing {
        Framing::None => assert!(!has(b"content-length") && !has(b"transfer-encoding")),
        Framing::Length(_) => assert!(has(b"content-length") && !has(b"transfer-encoding")),
        Framing::Stream(_) => panic!("HTTP/1.1 has no streams"),
        Framing::Chunked => assert!(!has(b"content-length") && has(b"transfer-encoding")),
    }
    let authority = head.authority(wire).unwrap_or_default();
    assert!(authority.is_empty() || memmem(text, authority), "the host was sent");
    let _ = hosts().find(authority);
    assert!(!head.upgrade || has(b"upgrade") && has(b"connection"));
}

/// The data of a chunked body, and its length in bytes if it ends.
fn decode(wire: &[u8], pieces: impl Iterator<Item = usize>) -> (Vec<u8>, Result<Option<usize>, ChunkError>) {
    let (mut decoder, mut data, mut used) = (ChunkedDecoder::default(), Vec::new(), 0);
    for end in pieces {
        match decoder.decode(&wire[used..end], &mut |run| data.extend_from_slice(run)) {
            Ok((count, true)) => return (data, Ok(Some(used + count))),
            Ok((count, false)) => used += count,
            Err(error) => return (data, Err(error)),
        }
        assert_eq!(used, end, "a body that goes on takes all there is");
    }
    (data, Ok(None))
}

fuzz_target!(|input: Input<'_>| {
    let limits =
        HeadLimits { max_header_bytes: input.max_header_bytes.into(), max_headers: input.max_headers.into() };
    let whole = parse(input.wire, &limits);
    let mut searched = 0;
    let mut in_pieces = parse(b"", &limits);
    for end in ends(input.wire, input.sizes) {
        in_pieces = parse_from(&input.wire[..end], &limits, searched);
        if in_pieces != Ok(None) {
            break;
        }
        searched = end;
    }
    match (&whole, &in_pieces) {
        // If several rules are broken, another one may show first.
        (Err(_), Err(_)) => {}
        _ => assert_eq!(in_pieces, whole),
    }
    let Ok(Some(head)) = whole else { return };
    check(&head, input.wire, &limits);
    let body = &input.wire[head.len..];
    if head.framing == Framing::Chunked {
        assert_eq!(decode(body, ends(body, input.sizes)), decode(body, [body.len()].into_iter()));
    }
});
