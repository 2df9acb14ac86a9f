//! Cookies of a request: pairs in their order, without separators in them, and none hidden by a later
//! malformed one.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use socketify::http::cookies::pairs;

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Header(&'a [u8]),
    /// Well-formed pairs by small numbers, and the bytes after them.
    Pairs(Vec<(u8, u8)>, &'a [u8]),
}

/// Every pair is a part of the header, after the one before it.
fn check(header: &[u8]) {
    let start = header.as_ptr() as usize;
    let mut at = 0;
    for (name, value) in pairs(header) {
        assert!(!name.is_empty() && !name.iter().any(|byte| matches!(byte, b'=' | b';')));
        assert!(!name.iter().chain(value).any(u8::is_ascii_control));
        let is_quoted = value.len() > 1 && value.starts_with(b"\"") && value.ends_with(b"\"");
        assert!(is_quoted || !value.contains(&b';'), "{value:?}");
        let (place, end) = (name.as_ptr() as usize - start, value.as_ptr() as usize - start + value.len());
        assert!(at <= place && place <= end && end <= header.len());
        at = end;
    }
}

fuzz_target!(|input: Input<'_>| match input {
    Input::Header(header) => check(header),
    Input::Pairs(numbers, rest) => {
        let expected: Vec<(String, String)> = numbers
            .iter()
            .map(|(name, value)| {
                (
                    format!("n{name}"),
                    ["", "v", "\"a;b\"", "a=b", "\"\\\"\""][usize::from(value % 5)].to_owned(),
                )
            })
            .collect();
        let text: Vec<String> = expected.iter().map(|(name, value)| format!("{name}={value}; ")).collect();
        let header = [text.concat().as_bytes(), rest].concat();
        let found: Vec<_> = pairs(&header).take(expected.len()).collect();
        let expected: Vec<_> =
            expected.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        assert_eq!(found, expected);
        check(&header);
    }
});
