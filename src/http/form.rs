//! Forms of the type `application/x-www-form-urlencoded` (URL Standard, section 5.1), parsed within limits.
//!
//! A body is parsed in two passes, in steps of as many bytes as the caller can afford. The first pass counts
//! the fields and measures their decoded size, and builds nothing; so a form beyond a limit costs one scan of
//! its bytes. The second pass decodes them. Fields and values are those of `urllib.parse.parse_qsl` with
//! `keep_blank_values`.

use std::borrow::Cow;

use memchr::memchr;

use crate::http::query::percent_decode;

/// The limits of a form.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Fields.
    pub fields: usize,
    /// Bytes of a name and of a value, decoded.
    pub field_size: usize,
}

/// A form exceeds a limit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// It has more fields than this limit.
    #[error("the form has more than {0} fields")]
    TooManyFields(usize),
    /// A name, or a value, has more bytes.
    #[error("the field {name:?} has more than {limit} bytes")]
    FieldTooLarge {
        /// Up to 40 characters of the name.
        name: String,
        /// The limit, in bytes.
        limit: usize,
    },
}

/// Characters of a name in an error message.
const NAMED: usize = 40;

/// The first pass: counts and measures.
///
/// ```
/// use socketify::http::form::{FormError, Limits, Measure};
///
/// let limits = Limits { fields: 2, field_size: 3 };
/// assert_eq!(Measure::default().step(b"a=1&&b=%41%42%43&", &limits, 1000), Ok(true));
/// assert_eq!(Measure::default().step(b"a&b&c", &limits, 1000), Err(FormError::TooManyFields(2)));
/// ```
#[derive(Debug, Default)]
pub struct Measure {
    /// Where the next step begins.
    at: usize,
    /// Where the present field begins.
    begin: usize,
    fields: usize,
    /// Decoded bytes of the name, or of the value, so far.
    size: usize,
    in_value: bool,
}

impl Measure {
    /// Measures `budget` bytes or a few more; returns whether that was the end.
    ///
    /// # Errors
    ///
    /// The form exceeds a limit.
    pub fn step(&mut self, body: &[u8], limits: &Limits, budget: usize) -> Result<bool, FormError> {
        let end = self.at.saturating_add(budget).min(body.len());
        while self.at < end {
            let byte = body[self.at];
            if byte == b'&' {
                self.at += 1;
                (self.begin, self.size, self.in_value) = (self.at, 0, false);
                continue;
            }
            if self.at == self.begin {
                self.fields += 1;
                if self.fields > limits.fields {
                    return Err(FormError::TooManyFields(limits.fields));
                }
            }
            if byte == b'=' && !self.in_value {
                (self.size, self.in_value) = (0, true);
                self.at += 1;
                continue;
            }
            self.at += match &body[self.at..] {
                [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => 3,
                _ => 1,
            };
            self.size += 1;
            if self.size > limits.field_size {
                return Err(self.too_large(body, limits.field_size));
            }
        }
        Ok(self.at >= body.len())
    }

    fn too_large(&self, body: &[u8], limit: usize) -> FormError {
        let begun = &body[self.begin..self.at];
        let name = &begun[..memchr(b'=', begun).unwrap_or(begun.len()).min(3 * NAMED)];
        let name = String::from_utf8_lossy(&percent_decode(name, true)).chars().take(NAMED).collect();
        FormError::FieldTooLarge { name, limit }
    }
}

/// A field's name and its value, decoded to bytes.
pub type Field<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// The second pass: gives the fields, with names and values decoded to bytes.
///
/// ```
/// use socketify::http::form::Fields;
///
/// let (body, mut fields) = (b"a=1&&b=%41+", Fields::default());
/// assert_eq!(fields.next(body), Some((b"a"[..].into(), b"1"[..].into())));
/// assert_eq!(fields.next(body), Some((b"b"[..].into(), b"A "[..].into())));
/// assert_eq!(fields.next(body), None);
/// ```
#[derive(Debug, Default)]
pub struct Fields {
    at: usize,
}

impl Fields {
    /// Bytes that have been parsed.
    pub const fn at(&self) -> usize {
        self.at
    }

    /// The next field; `None` at the end.
    pub fn next<'a>(&mut self, body: &'a [u8]) -> Option<Field<'a>> {
        loop {
            let rest = body.get(self.at..).filter(|rest| !rest.is_empty())?;
            let item = &rest[..memchr(b'&', rest).unwrap_or(rest.len())];
            self.at += item.len() + 1;
            if item.is_empty() {
                continue;
            }
            let (name, value) = match memchr(b'=', item) {
                Some(place) => (&item[..place], &item[place + 1..]),
                None => (item, &b""[..]),
            };
            return Some((percent_decode(name, true), percent_decode(value, true)));
        }
    }
}
