//! Whether a file is sent, and which part of it: conditional requests and ranges (RFC 9110 sections 13 and 14).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

use crate::http::head::HeaderLines;
use crate::http::{list_members, trim_blanks};

/// With more ranges than this in one request, the whole file is sent, which is cheaper for both sides (RFC
/// 9110 section 14.2).
const MAX_RANGES: usize = 16;

/// The headers of a request that decide the response.
#[derive(Debug, Default)]
pub struct Conditions<'a> {
    /// `If-Match`.
    pub matches: Option<Cow<'a, [u8]>>,
    /// `If-None-Match`.
    pub none_match: Option<Cow<'a, [u8]>>,
    /// `If-Modified-Since`.
    pub modified_since: Option<&'a [u8]>,
    /// `If-Unmodified-Since`.
    pub unmodified_since: Option<&'a [u8]>,
    /// `Range`; only of a GET, since it has no meaning for other methods (RFC 9110 section 14.2).
    pub range: Option<&'a [u8]>,
    /// `If-Range`.
    pub if_range: Option<&'a [u8]>,
    /// `Accept-Encoding`.
    pub accept_encoding: Option<Cow<'a, [u8]>>,
    /// The method is neither GET nor HEAD.
    pub other_method: bool,
}

impl<'a> Conditions<'a> {
    /// Reads them from a header block, in one pass.
    pub fn read(method: &[u8], block: &'a [u8]) -> Self {
        let mut asked = Self { other_method: !matches!(method, b"GET" | b"HEAD"), ..Self::default() };
        for (name, value) in HeaderLines::new(block) {
            let is = |expected: &[u8]| name.eq_ignore_ascii_case(expected);
            match name.len() {
                5 if is(b"range") && method == b"GET" => asked.range = asked.range.or(Some(value)),
                8 if is(b"if-match") => add(&mut asked.matches, value),
                8 if is(b"if-range") => asked.if_range = asked.if_range.or(Some(value)),
                13 if is(b"if-none-match") => add(&mut asked.none_match, value),
                15 if is(b"accept-encoding") => add(&mut asked.accept_encoding, value),
                17 if is(b"if-modified-since") => asked.modified_since = asked.modified_since.or(Some(value)),
                19 if is(b"if-unmodified-since") => {
                    asked.unmodified_since = asked.unmodified_since.or(Some(value));
                }
                _ => {}
            }
        }
        asked
    }
}

/// A further line of a list header continues the list (RFC 9110 section 5.3).
fn add<'a>(list: &mut Option<Cow<'a, [u8]>>, value: &'a [u8]) {
    match list {
        None => *list = Some(value.into()),
        Some(all) => {
            let all = all.to_mut();
            all.extend_from_slice(b", ");
            all.extend_from_slice(value);
        }
    }
}

/// The part of the file to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// All of it: 200.
    Whole,
    /// One part: 206.
    Part(Range<u64>),
    /// Several, in the requested order: 206 as `multipart/byteranges`.
    Parts(Vec<Range<u64>>),
    /// The client has a current copy: 304.
    NotModified,
    /// A precondition of the client fails: 412.
    Failed,
    /// None of the requested parts exists: 416.
    Unsatisfiable,
}

/// The validators of a response, which identify the state of the file (RFC 9110 section 8.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validators<'a> {
    /// `ETag`: strong, or with its `W/` weak.
    pub etag: &'a [u8],
    /// `Last-Modified`, in seconds since 1970; `None` if it is not sent.
    pub modified: Option<u64>,
    /// No other content can have the same `Last-Modified` (RFC 9110 section 8.8.2.2).
    pub is_dated: bool,
}

impl Validators<'_> {
    /// The tag without its `W/`, and whether it is weak.
    fn tag(&self) -> (&[u8], bool) {
        self.etag.strip_prefix(b"W/").map_or((self.etag, false), |tag| (tag, true))
    }

    /// Whether `If-Range` names the present file: by a strong tag, or by the exact date that we gave (RFC
    /// 9110 section 13.1.5). A client joins its part with the new one, so a possibly different version is no
    /// match.
    fn is_same(&self, known: &[u8]) -> bool {
        let (tag, weak) = self.tag();
        !weak && known == tag || self.is_dated && self.modified.is_some() && date(known) == self.modified
    }
}

/// Decides in the order of RFC 9110 section 13.2.2.
pub fn decide(asked: &Conditions<'_>, file: &Validators<'_>, size: u64) -> Decision {
    // A handler of another method sends the result of its action.
    if asked.other_method {
        return Decision::Whole;
    }
    let (own, own_weak) = file.tag();
    // Without a date of the file, conditions on it are ignored (RFC 9110 sections 13.1.3 and 13.1.4).
    let compare = |since: Option<&[u8]>| Some(file.modified?.cmp(&since.and_then(date)?));
    if let Some(tags) = &asked.matches {
        if !any_tag(tags, |tag, weak| !weak && !own_weak && tag == own) {
            return Decision::Failed;
        }
    } else if compare(asked.unmodified_since).is_some_and(Ordering::is_gt) {
        return Decision::Failed;
    }
    if let Some(tags) = &asked.none_match {
        if any_tag(tags, |tag, _| tag == own) {
            return Decision::NotModified;
        }
    } else if compare(asked.modified_since).is_some_and(Ordering::is_le) {
        return Decision::NotModified;
    }
    match asked.range {
        Some(range) if asked.if_range.is_none_or(|known| file.is_same(known)) => {
            ranges(range, size).unwrap_or(Decision::Whole)
        }
        _ => Decision::Whole,
    }
}

/// Seconds since 1970. An invalid date is ignored (RFC 9110 section 13.1.3).
pub(crate) fn date(text: &[u8]) -> Option<u64> {
    let time = httpdate::parse_http_date(std::str::from_utf8(text).ok()?).ok()?;
    Some(time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs())
}

/// Whether `test` holds for a tag of the list, given with its quotes and its weakness; `*` matches any.
pub(crate) fn any_tag(list: &[u8], test: impl Fn(&[u8], bool) -> bool) -> bool {
    let mut rest = list;
    loop {
        while let [b' ' | b'\t' | b',', behind @ ..] = rest {
            rest = behind;
        }
        if rest.starts_with(b"*") {
            return trim_blanks(list) == b"*";
        }
        let (weak, quoted) = rest.strip_prefix(b"W/").map_or((false, rest), |behind| (true, behind));
        let Some(inside) = quoted.strip_prefix(b"\"") else { return false };
        let Some(end) = memchr::memchr(b'"', inside) else { return false };
        if test(&quoted[..end + 2], weak) {
            return true;
        }
        rest = &inside[end + 1..];
    }
}

/// Reads a `Range`; `None` if it is malformed, of another unit, or larger than the file.
fn ranges(text: &[u8], size: u64) -> Option<Decision> {
    let equals = memchr::memchr(b'=', text)?;
    if !trim_blanks(&text[..equals]).eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut found = Vec::new();
    let mut seen = 0;
    for member in list_members(&text[equals + 1..]) {
        seen += 1;
        if seen > MAX_RANGES {
            return None;
        }
        let part = range(member, size)?;
        if !part.is_empty() {
            found.push(part);
        }
    }
    match (found.len(), seen) {
        (_, 0) => None,
        (0, _) => Some(Decision::Unsatisfiable),
        (1, _) => Some(Decision::Part(found.swap_remove(0))),
        // Overlapping parts, whose response would be longer than the file: an attack, or a mistake.
        _ if found.iter().fold(0_u64, |all, part| all.saturating_add(part.end - part.start)) > size => None,
        _ => Some(Decision::Parts(found)),
    }
}

/// One member, empty if the file ends before it; `None` for a syntax error.
fn range(member: &[u8], size: u64) -> Option<Range<u64>> {
    let dash = memchr::memchr(b'-', member)?;
    let first = trim_blanks(&member[..dash]);
    let last = trim_blanks(&member[dash + 1..]);
    Some(match (first.is_empty(), last.is_empty()) {
        (true, true) => return None,
        (true, false) => size.saturating_sub(number(last)?)..size,
        (false, true) => number(first)?..size,
        (false, false) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(size)
        }
    })
}

/// A decimal number; a number too large for any file counts as the largest.
fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| {
        digit.is_ascii_digit().then(|| value.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: Validators<'_> = Validators { etag: b"\"5-1\"", modified: Some(784_111_777), is_dated: true };

    fn decided(headers: &str) -> Decision {
        decided_of(&FILE, headers)
    }

    fn decided_of(file: &Validators<'_>, headers: &str) -> Decision {
        decide(&Conditions::read(b"GET", headers.as_bytes()), file, 1000)
    }

    #[test]
    fn conditions() {
        for (headers, decision) in [
            ("", Decision::Whole),
            ("If-None-Match: \"5-1\"\r\n", Decision::NotModified),
            ("If-None-Match: \"a,b\", W/\"5-1\"\r\n", Decision::NotModified),
            ("If-None-Match: \"a\"\r\nif-none-match: \"5-1\"\r\n", Decision::NotModified),
            ("If-None-Match: *\r\n", Decision::NotModified),
            ("If-None-Match: \"other\"\r\n", Decision::Whole),
            ("If-None-Match: 5-1\r\n", Decision::Whole),
            ("If-None-Match: \"5-1\r\n", Decision::Whole),
            // The date counts only without If-None-Match.
            ("If-None-Match: \"a\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", Decision::Whole),
            ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", Decision::NotModified),
            ("If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n", Decision::Whole),
            ("If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT\r\n", Decision::NotModified),
            ("If-Modified-Since: yesterday\r\n", Decision::Whole),
            ("If-Match: \"5-1\"\r\n", Decision::Whole),
            ("If-Match: *\r\n", Decision::Whole),
            ("If-Match: W/\"5-1\"\r\n", Decision::Failed),
            ("If-Match: \"a\"\r\n", Decision::Failed),
            ("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n", Decision::Failed),
            ("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", Decision::Whole),
            ("Range: bytes=0-4\r\nIf-Range: \"5-1\"\r\n", Decision::Part(0..5)),
            ("Range: bytes=0-4\r\nIf-Range: W/\"5-1\"\r\n", Decision::Whole),
            ("Range: bytes=0-4\r\nIf-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\n", Decision::Part(0..5)),
            ("Range: bytes=0-4\r\nIf-Range: Sun, 06 Nov 1994 08:49:38 GMT\r\n", Decision::Whole),
            ("Range: bytes=0-4\r\nIf-None-Match: \"5-1\"\r\n", Decision::NotModified),
        ] {
            assert_eq!(decided(headers), decision, "{headers:?}");
        }
        let head = Conditions::read(b"HEAD", b"Range: bytes=0-4\r\n");
        assert_eq!(decide(&head, &FILE, 1000), Decision::Whole);
        let post = Conditions::read(b"POST", b"If-None-Match: *\r\nRange: bytes=0-4\r\n");
        assert_eq!(decide(&post, &FILE, 1000), Decision::Whole);
    }

    #[test]
    fn a_weak_tag_names_no_bytes() {
        let file = Validators { etag: b"W/\"5-1\"", ..FILE };
        for (headers, decision) in [
            ("If-None-Match: \"5-1\"\r\n", Decision::NotModified),
            ("If-None-Match: W/\"5-1\"\r\n", Decision::NotModified),
            ("If-Match: \"5-1\"\r\n", Decision::Failed),
            ("If-Match: W/\"5-1\"\r\n", Decision::Failed),
            ("If-Match: *\r\n", Decision::Whole),
            ("Range: bytes=0-4\r\nIf-Range: \"5-1\"\r\n", Decision::Whole),
            ("Range: bytes=0-4\r\nIf-Range: W/\"5-1\"\r\n", Decision::Whole),
        ] {
            assert_eq!(decided_of(&file, headers), decision, "{headers:?}");
        }
    }

    #[test]
    fn a_date_that_was_set_names_no_bytes() {
        let file = Validators { is_dated: false, ..FILE };
        for (headers, decision) in [
            ("Range: bytes=0-4\r\nIf-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\n", Decision::Whole),
            ("Range: bytes=0-4\r\nIf-Range: \"5-1\"\r\n", Decision::Part(0..5)),
            ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", Decision::NotModified),
        ] {
            assert_eq!(decided_of(&file, headers), decision, "{headers:?}");
        }
    }

    #[test]
    fn without_a_date_only_tags_count() {
        let file = Validators { modified: None, ..FILE };
        for (headers, decision) in [
            ("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", Decision::Whole),
            ("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", Decision::Whole),
            ("Range: bytes=0-4\r\nIf-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\n", Decision::Whole),
            ("Range: bytes=0-4\r\nIf-Range: yesterday\r\n", Decision::Whole),
            ("If-None-Match: \"5-1\"\r\n", Decision::NotModified),
        ] {
            assert_eq!(decided_of(&file, headers), decision, "{headers:?}");
        }
    }

    #[test]
    fn parts() {
        for (range, decision) in [
            ("bytes=0-0", Decision::Part(0..1)),
            ("bytes=10-", Decision::Part(10..1000)),
            ("bytes=0-", Decision::Part(0..1000)),
            ("bytes=990-2000", Decision::Part(990..1000)),
            ("bytes=-10", Decision::Part(990..1000)),
            ("bytes=-2000", Decision::Part(0..1000)),
            ("Bytes = 1 - 2", Decision::Part(1..3)),
            ("bytes=0-99999999999999999999999999", Decision::Part(0..1000)),
            ("bytes=1000-", Decision::Unsatisfiable),
            ("bytes=-0", Decision::Unsatisfiable),
            ("bytes=0-1,5-6", Decision::Parts(vec![0..2, 5..7])),
            ("bytes=5-6, 0-1", Decision::Parts(vec![5..7, 0..2])),
            ("bytes=0-1,2000-", Decision::Part(0..2)),
            ("bytes=5-4", Decision::Whole),
            ("bytes=", Decision::Whole),
            ("bytes=-", Decision::Whole),
            ("bytes=a-b", Decision::Whole),
            ("bytes=1", Decision::Whole),
            ("lines=0-1", Decision::Whole),
            ("bytes=0-,0-", Decision::Whole),
            ("bytes=0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0", Decision::Whole),
        ] {
            assert_eq!(decided(&format!("Range: {range}\r\n")), decision, "{range}");
        }
        let empty = Conditions::read(b"GET", b"Range: bytes=0-\r\n");
        assert_eq!(decide(&empty, &FILE, 0), Decision::Unsatisfiable);
    }

    proptest! {
        #[test]
        fn parts_are_in_the_file(text in "bytes=[0-9, -]{0,40}", size: u64) {
            match ranges(text.as_bytes(), size) {
                Some(Decision::Part(part)) => prop_assert!(part.start < part.end && part.end <= size),
                Some(Decision::Parts(parts)) => {
                    prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= size));
                    prop_assert!(parts.iter().map(|part| part.end - part.start).sum::<u64>() <= size);
                }
                _ => {}
            }
        }

        #[test]
        fn no_list_of_tags_panics(list: Vec<u8>) {
            any_tag(&list, |_, _| false);
        }
    }
}
