//! Urlencoded forms: for any steps they are refused exactly if their decoded fields exceed a limit.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use socketify::http::form::{Fields, FormError, Limits, Measure};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    fields: u8,
    field_size: u8,
    budget: u8,
    body: &'a [u8],
}

/// Names and values, decoded byte by byte.
fn simple(body: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let decode = |bytes: &[u8]| {
        let (mut decoded, mut rest) = (Vec::new(), bytes);
        while let [first, behind @ ..] = rest {
            rest = behind;
            let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
            let is_escape = *first == b'%'
                && digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
            match (first, digits.filter(|_| is_escape).and_then(|digits| u8::from_str_radix(digits, 16).ok()))
            {
                (_, Some(byte)) => {
                    decoded.push(byte);
                    rest = &behind[2..];
                }
                (b'+', None) => decoded.push(b' '),
                (byte, None) => decoded.push(*byte),
            }
        }
        decoded
    };
    let items = body.split(|&byte| byte == b'&').filter(|item| !item.is_empty());
    items
        .map(|item| {
            let equals = item.iter().position(|&byte| byte == b'=');
            let (name, value) = equals.map_or((item, &b""[..]), |at| (&item[..at], &item[at + 1..]));
            (decode(name), decode(value))
        })
        .collect()
}

fn measured(body: &[u8], limits: &Limits, budget: usize) -> Result<(), FormError> {
    let mut measure = Measure::default();
    // Each step takes a byte at least, so this many are enough.
    for _ in 0..=body.len() {
        if measure.step(body, limits, budget)? {
            return Ok(());
        }
    }
    panic!("it goes on without end");
}

fuzz_target!(|input: Input<'_>| {
    let limits = Limits { fields: input.fields.into(), field_size: input.field_size.into() };
    let expected = simple(input.body);
    let whole = measured(input.body, &limits, usize::MAX);
    assert_eq!(measured(input.body, &limits, 1 + usize::from(input.budget)), whole);
    let too_many = expected.len() > limits.fields;
    let too_large = expected.iter().any(|(name, value)| name.len().max(value.len()) > limits.field_size);
    match &whole {
        Ok(()) => assert!(!too_many && !too_large),
        Err(FormError::TooManyFields(limit)) => assert!(too_many && *limit == limits.fields),
        Err(FormError::FieldTooLarge { name, limit }) => {
            assert!(too_large && *limit == limits.field_size && name.chars().count() <= 40);
        }
    }
    let (mut fields, mut found) = (Fields::default(), Vec::new());
    while let Some((name, value)) = fields.next(input.body) {
        assert!(fields.at() <= input.body.len() + 1);
        found.push((name.into_owned(), value.into_owned()));
    }
    assert_eq!(found, expected);
});
