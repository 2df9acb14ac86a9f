//! A server's bytes on one connection, parsed into responses.

/// One response, final or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// It has `Connection: close`.
    pub closes: bool,
    /// Only the end of the connection ends its body.
    pub until_close: bool,
    /// Bytes of its body, without the framing.
    pub body: Vec<u8>,
}

/// The response at the start of `bytes` and its length; `None` if it is incomplete. `is_head`: the request
/// was HEAD.
pub fn next(bytes: &[u8], is_head: bool) -> Option<(Answer, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).expect("an answer's head is ASCII here");
    let mut lines = head.split("\r\n");
    let line = lines.next().expect("a text has a first line");
    let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status: u16 =
        status.and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("no answer: {line:?}"));
    let (mut length, mut chunked, mut closes) = (None, false, false);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                assert!(length.is_none(), "two lengths in {head:?}");
                length = Some(value.parse::<usize>().expect("a length is a number"));
            }
            "transfer-encoding" => {
                assert_eq!(value, "chunked");
                chunked = true;
            }
            "connection" => closes = value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    assert!(!chunked || length.is_none(), "two framings in {head:?}");
    let is_bare = is_head || status < 200 || matches!(status, 204 | 304);
    let rest = &bytes[end..];
    let (body, used) = match length {
        _ if is_bare => (Vec::new(), 0),
        _ if chunked => whole_of_chunks(rest)?,
        Some(length) => (rest.get(..length)?.to_vec(), length),
        None => (rest.to_vec(), rest.len()),
    };
    let until_close = !is_bare && !chunked && length.is_none();
    Some((Answer { status, closes, until_close, body }, end + used))
}

fn whole_of_chunks(mut rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (total, mut body) = (rest.len(), Vec::new());
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let digits = std::str::from_utf8(&rest[..end]).expect("a size is ASCII");
        let size = usize::from_str_radix(digits, 16).expect("a size is hexadecimal");
        rest = &rest[end + 2..];
        let chunk = rest.get(..size + 2)?;
        assert!(chunk.ends_with(b"\r\n"), "a chunk is longer than it says");
        body.extend_from_slice(&chunk[..size]);
        rest = &rest[size + 2..];
        if size == 0 {
            return Some((body, total - rest.len()));
        }
    }
}
