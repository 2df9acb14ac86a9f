//! The `Cookie` header of a request (RFC 6265 section 4.2), read leniently, since other programs write it.

use memchr::memchr;

use crate::http::trim_blanks;

/// The pairs of a `Cookie` header, not decoded, without the whitespace around names and values. Anything that
/// is no pair, has no name or has control characters is left out, and the others stay. A semicolon in a
/// quoted value belongs to the value, and the quotes do too. It takes linear time.
///
/// ```
/// use socketify::http::cookies::pairs;
///
/// let all: Vec<_> = pairs(br#"a=1; nothing; b="x;y""#).collect();
/// assert_eq!(all, [(&b"a"[..], &b"1"[..]), (b"b", br#""x;y""#)]);
/// ```
pub fn pairs(header: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = Some(header);
    std::iter::from_fn(move || {
        loop {
            let (name, value, behind) = split(rest?);
            rest = behind;
            let Some(value) = value else { continue };
            let (name, value) = (trim_blanks(name), trim_blanks(value));
            if !name.is_empty() && !name.iter().chain(value).any(u8::is_ascii_control) {
                return Some((name, value));
            }
        }
    })
}

/// The first pair of `header`, and the text after its semicolon.
fn split(header: &[u8]) -> (&[u8], Option<&[u8]>, Option<&[u8]>) {
    let Some(place) = header.iter().position(|byte| matches!(byte, b'=' | b';')) else {
        return (header, None, None);
    };
    let (name, rest) = (&header[..place], &header[place + 1..]);
    if header[place] == b';' {
        return (name, None, Some(rest));
    }
    let end = quoted(rest).or_else(|| memchr(b';', rest)).unwrap_or(rest.len());
    (name, Some(&rest[..end]), rest.get(end + 1..))
}

/// Where the value at the front of `text` ends, if it is a quoted one.
fn quoted(text: &[u8]) -> Option<usize> {
    let open = text.iter().position(|byte| !matches!(byte, b' ' | b'\t'))?;
    if text[open] != b'"' {
        return None;
    }
    let mut place = open + 1;
    // An opening quote ends an earlier search, so that few searches visit each byte.
    loop {
        match text.get(place)? {
            b'"' => break,
            b'\\' => place += 2,
            _ => place += 1,
        }
    }
    let behind = &text[place + 1..];
    let blanks = behind.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(behind.len());
    matches!(behind.get(blanks), None | Some(b';')).then_some(place + 1 + blanks)
}
