//! Query strings against the simplest implementation: split, then decode byte by byte.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use socketify::http::query::{first, pairs, percent_decode};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    plus_as_space: bool,
    key: &'a [u8],
    query: &'a [u8],
}

fn decode(bytes: &[u8], plus_as_space: bool) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        match (bytes[at], digits) {
            (b'%', Some(digits)) => {
                let digits = std::str::from_utf8(digits).expect("they are ASCII");
                decoded.push(u8::from_str_radix(digits, 16).expect("they are digits"));
                at += 3;
                continue;
            }
            (b'+', _) if plus_as_space => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
        at += 1;
    }
    decoded
}

/// Names and values of all items with a `=`.
fn items(query: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    query
        .split(|&byte| byte == b'&')
        .filter_map(|item| {
            let equals = item.iter().position(|&byte| byte == b'=')?;
            Some((decode(&item[..equals], true), decode(&item[equals + 1..], true)))
        })
        .collect()
}

fuzz_target!(|input: Input<'_>| {
    assert_eq!(&*percent_decode(input.query, input.plus_as_space), decode(input.query, input.plus_as_space));
    let items = items(input.query);
    let found: Vec<_> =
        pairs(input.query).map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    let expected: Vec<_> = items.iter().filter(|(_, value)| !value.is_empty()).cloned().collect();
    assert_eq!(found, expected);
    for key in items.iter().map(|(name, _)| &**name).chain([input.key]) {
        let expected = items.iter().find(|(name, _)| !key.is_empty() && name == key).map(|(_, value)| value);
        assert_eq!(first(input.query, key).as_deref(), expected.map(Vec::as_slice));
    }
});
