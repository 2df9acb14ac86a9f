//! Urlencoded forms and cookies, which clients write freely: their fields, the cost of a limit, and the
//! steps.

#![allow(clippy::unwrap_used, missing_docs)]

use proptest::prelude::*;

use socketify::http::cookies;
use socketify::http::form::{Fields, FormError, Limits, Measure};
use socketify::http::query;

/// A field's name and value.
type Pair<'a> = (&'a [u8], &'a [u8]);

const NONE: Limits = Limits { fields: usize::MAX, field_size: usize::MAX };

fn measure(body: &[u8], limits: &Limits, budget: usize) -> Result<(), FormError> {
    let mut measure = Measure::default();
    while !measure.step(body, limits, budget)? {}
    Ok(())
}

fn fields(body: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut fields = Fields::default();
    std::iter::from_fn(|| fields.next(body))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

/// `urllib.parse.parse_qsl` with `keep_blank_values`, item by item as in its source.
fn parse_qsl(body: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let decoded = |part: &[u8]| query::percent_decode(part, true).into_owned();
    body.split(|byte| *byte == b'&')
        .filter(|item| !item.is_empty())
        .map(|item| match item.iter().position(|byte| *byte == b'=') {
            Some(place) => (decoded(&item[..place]), decoded(&item[place + 1..])),
            None => (decoded(item), Vec::new()),
        })
        .collect()
}

#[test]
fn what_is_a_field() {
    let cases: [(&[u8], &[Pair<'_>]); 9] = [
        (b"", &[]),
        (b"&&&", &[]),
        (b"a", &[(b"a", b"")]),
        (b"=", &[(b"", b"")]),
        (b"a=1&", &[(b"a", b"1")]),
        (b"&&a=1&&b=2", &[(b"a", b"1"), (b"b", b"2")]),
        (b"a==1=", &[(b"a", b"=1=")]),
        (b"%26=%3D+%2B", &[(b"&", b"= +")]),
        (b"a=%4&b=%zz%", &[(b"a", b"%4"), (b"b", b"%zz%")]),
    ];
    for (body, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        assert_eq!(fields(body), expected, "{}", body.escape_ascii());
    }
}

#[test]
fn limits_are_met_exactly() {
    let limits = Limits { fields: 2, field_size: 3 };
    for body in [&b"a=1&b=2"[..], b"&a=1&&b=2&", b"abc=%41%42%43", b"a=%C3%A9%", b"abc", b""] {
        assert_eq!(measure(body, &limits, 1000), Ok(()), "{}", body.escape_ascii());
    }
    for body in [&b"a&b&c"[..], b"&&=&=&="] {
        assert_eq!(measure(body, &limits, 1000), Err(FormError::TooManyFields(2)), "{}", body.escape_ascii());
    }
    for (body, named) in
        [(&b"a=%C3%A9%C3%A9"[..], "a"), (b"x=1&%C3%A9=1234", "é"), (b"abcd=1", "abcd"), (b"abcd", "abcd")]
    {
        let error = measure(body, &limits, 1000).unwrap_err();
        assert_eq!(
            error,
            FormError::FieldTooLarge { name: named.into(), limit: 3 },
            "{}",
            body.escape_ascii()
        );
    }
}

/// A field as large as a body costs a scan up to its limit, with any bytes after it.
#[test]
fn hostile_forms_are_refused_early() {
    let limits = Limits { fields: 1000, field_size: 1 << 20 };
    let mut measure = Measure::default();
    let body = [&b"a="[..], &b"%41".repeat(20_000_000)].concat();
    assert!(measure.step(&body, &limits, 4 << 20).is_err());
}

proptest! {
    #[test]
    fn fields_are_those_of_parse_qsl(body in "([&=%+a-c4]|%[0-9a-fA-F]{2}|\\PC){0,60}") {
        prop_assert_eq!(fields(body.as_bytes()), parse_qsl(body.as_bytes()));
    }

    /// The measured sizes are those of decoding, for any steps.
    #[test]
    fn measures_are_those_of_the_fields(
        body in "([&=%+a-c4]|%[0-9a-fA-F]{2}|\\PC){0,60}", count in 0_usize..8, size in 0_usize..8, budget in 1_usize..9,
    ) {
        let found = fields(body.as_bytes());
        let within = found.len() <= count
            && found.iter().all(|(name, value)| name.len() <= size && value.len() <= size);
        prop_assert_eq!(measure(body.as_bytes(), &Limits { fields: count, field_size: size }, budget).is_ok(), within);
        prop_assert_eq!(measure(body.as_bytes(), &NONE, budget), Ok(()));
    }

    #[test]
    fn cookies_are_text_without_controls(header in proptest::collection::vec(any::<u8>(), 0..200)) {
        for (name, value) in cookies::pairs(&header) {
            prop_assert!(!name.is_empty());
            prop_assert!(!name.contains(&b';') && !name.contains(&b'='));
            prop_assert!(!name.iter().chain(value).any(u8::is_ascii_control));
            prop_assert!(value.first() == Some(&b'"') || !value.contains(&b';'));
        }
    }

    /// Text after a pair does not change it, and each pair is found.
    #[test]
    fn cookies_side_by_side(values in proptest::collection::vec("[a-z]{0,3}|\"([a-z; ]|\\\\[a-z\"])*\"", 0..20), blanks in "[ \t]{0,3}") {
        let header: Vec<_> = values.iter().enumerate().map(|(n, value)| format!("n{n}{blanks}={blanks}{value}{blanks};{blanks}")).collect();
        let header = header.concat();
        let found: Vec<_> = cookies::pairs(header.as_bytes()).map(|(_, value)| value.to_vec()).collect();
        let expected: Vec<_> = values.iter().map(|value| value.clone().into_bytes()).collect();
        prop_assert_eq!(found, expected);
    }
}
