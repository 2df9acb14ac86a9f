//! Reading header lines out of a validated block, on demand.

use std::borrow::Cow;

use memchr::memchr;

use super::trim_blanks;

/// The header lines of a block, as (name as sent, value without the whitespace around it), in wire order.
#[derive(Debug, Clone)]
pub struct HeaderLines<'a> {
    rest: &'a [u8],
}

impl<'a> HeaderLines<'a> {
    /// Reads a block [`parse`](super::parse) has validated. Any other bytes give meaningless lines, but no
    /// panic.
    pub const fn new(block: &'a [u8]) -> Self {
        Self { rest: block }
    }

    /// The next line without its CRLF.
    fn line(&mut self) -> Option<&'a [u8]> {
        let end = memchr(b'\n', self.rest)?;
        let (line, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// The next value of the header `name`. Only lines of that name are split at their colon.
    fn value_of(&mut self, name: &[u8]) -> Option<&'a [u8]> {
        loop {
            let line = self.line()?;
            if let Some((found, [b':', value @ ..])) = line.split_at_checked(name.len())
                && found.eq_ignore_ascii_case(name)
            {
                return Some(trim_blanks(value));
            }
        }
    }
}

impl<'a> Iterator for HeaderLines<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.line()?;
        let (name, value) = line.split_at(memchr(b':', line).unwrap_or(line.len()));
        Some((name, trim_blanks(value.get(1..).unwrap_or_default())))
    }
}

/// The first value of the header `name` in `block`; names are compared without regard to case.
pub fn find<'a>(block: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    HeaderLines::new(block).value_of(name)
}

/// All values of the header `name` in `block` as one: joined with `, ` (RFC 9110 section 5.3), or with `; `
/// for `Cookie` (RFC 9113 section 8.2.3). Allocates only if there are two.
///
/// ```
/// use socketify::http::head::joined;
///
/// let block = b"Accept: text/html\r\nCookie: a=1\r\nCookie: b=2\r\n";
/// assert_eq!(joined(block, b"cookie").as_deref(), Some(&b"a=1; b=2"[..]));
/// ```
pub fn joined<'a>(block: &'a [u8], name: &[u8]) -> Option<Cow<'a, [u8]>> {
    let mut lines = HeaderLines::new(block);
    let mut all = Cow::Borrowed(lines.value_of(name)?);
    let separator = if name.eq_ignore_ascii_case(b"cookie") { b"; " } else { b", " };
    while let Some(value) = lines.value_of(name) {
        let joined = all.to_mut();
        joined.extend_from_slice(separator);
        joined.extend_from_slice(value);
    }
    Some(all)
}
