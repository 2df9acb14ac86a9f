//! Query strings, read the way `urllib.parse` reads them.
//!
//! Nothing is cached and nothing is decoded in place: a second call gives the same result (A-REQ-10). Results
//! are bytes; the caller replaces invalid UTF-8.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

/// Replaces each `%XX` by its byte and, if `plus_as_space`, each `+` by a space. An escape
/// without two hexadecimal digits is kept unchanged, as `urllib.parse.unquote` does. Allocates only if
/// something changes.
///
/// ```
/// use socketify::http::query::percent_decode;
///
/// assert_eq!(&*percent_decode(b"a%20b+c", true), b"a b c");
/// assert_eq!(&*percent_decode(b"100%+%zz%4", false), b"100%+%zz%4");
/// ```
pub fn percent_decode(bytes: &[u8], plus_as_space: bool) -> Cow<'_, [u8]> {
    let next = |rest: &[u8]| memchr2(b'%', if plus_as_space { b'+' } else { b'%' }, rest);
    let Some(mut at) = next(bytes) else { return Cow::Borrowed(bytes) };
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        decoded.extend_from_slice(&rest[..at]);
        let (byte, taken) = match &rest[at..] {
            [b'%', high, low, ..] => match (hex_digit(*high), hex_digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, 3),
                _ => (b'%', 1),
            },
            [b'%', ..] => (b'%', 1),
            _ => (b' ', 1),
        };
        decoded.push(byte);
        rest = &rest[at + taken..];
        match next(rest) {
            Some(found) => at = found,
            None => break,
        }
    }
    decoded.extend_from_slice(rest);
    Cow::Owned(decoded)
}

const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The items of a query, not decoded, split into name and value. An item without `=` has no value, and is
/// left out.
fn raw_pairs(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    query.split(|&byte| byte == b'&').filter_map(|item| {
        let (name, value) = item.split_at(memchr(b'=', item)?);
        Some((name, &value[1..]))
    })
}

/// The decoded value of the first `key=value` in `query` (A-REQ-10, DEC-3). `key=` gives an empty value; a
/// `key` without `=` has none and does not end the search; an empty key is never found.
///
/// ```
/// use socketify::http::query::first;
///
/// assert_eq!(first(b"q=red+tea&q=2", b"q").as_deref(), Some(&b"red tea"[..]));
/// assert_eq!(first(b"flag", b"flag"), None);
/// ```
pub fn first<'a>(query: &'a [u8], key: &[u8]) -> Option<Cow<'a, [u8]>> {
    if key.is_empty() {
        return None;
    }
    let (_, value) = raw_pairs(query).find(|&(name, _)| is_key(name, key))?;
    Some(percent_decode(value, true))
}

/// Decoding never makes a name longer, so the length distinguishes most names.
fn is_key(name: &[u8], key: &[u8]) -> bool {
    name.len() >= key.len() && *percent_decode(name, true) == *key
}

/// All pairs of `query`, decoded, in order, repeats included: `urllib.parse.parse_qsl` with its default
/// `keep_blank_values=False`, which drops items without a value or with an empty one (A-REQ-09).
///
/// ```
/// use socketify::http::query::pairs;
///
/// let all: Vec<_> = pairs(b"a=1&b=&c&a=%32").collect();
/// assert_eq!(all, [(b"a"[..].into(), b"1"[..].into()), (b"a"[..].into(), b"2"[..].into())]);
/// ```
pub fn pairs(query: &[u8]) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> {
    raw_pairs(query)
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (percent_decode(name, true), percent_decode(value, true)))
}
