//! Queries and percent escapes.

use super::*;

/// Expected values were made with `urllib.parse` of Python 3.
#[test]
fn percent_decoding() {
    let cases: [(&str, bool, &[u8]); 11] = [
        ("", true, b""),
        ("plain", true, b"plain"),
        ("a+b", true, b"a b"),
        ("a+b", false, b"a+b"),
        ("%41%6a%6A", false, b"Ajj"),
        ("%2B+%20", true, b"+  "),
        ("%C3%BC%ff%00", false, b"\xc3\xbc\xff\0"),
        ("%", true, b"%"),
        ("%4", true, b"%4"),
        ("%zz%4g%%41", true, b"%zz%4g%A"),
        ("%+1", true, b"% 1"),
    ];
    for (input, plus, expected) in cases {
        assert_eq!(&*query::percent_decode(input.as_bytes(), plus), expected, "{input:?}");
    }
    assert!(matches!(query::percent_decode(b"a+b", false), std::borrow::Cow::Borrowed(_)));
}

/// A-REQ-10, DEC-3.
#[test]
fn first_value() {
    let cases = [
        ("a=1&b=2&a=3", "a", Some("1")),
        ("a=1&b=2&a=3", "b", Some("2")),
        ("a=", "a", Some("")),
        ("a=&a=1", "a", Some("")),
        ("a", "a", None),
        ("", "a", None),
        ("=1", "", None),
        ("ab&a=1", "a", Some("1")), // the reference stops at `ab`
        ("a&a=1", "a", Some("1")),
        ("ab=1", "a", None),
        ("A=1", "a", None),
        ("a=1=2", "a", Some("1=2")),
        ("a=x+y%21", "a", Some("x y!")),
        ("%61+b=1", "a b", Some("1")),
        ("a=%4", "a", Some("%4")),
        ("&&a=1&", "a", Some("1")),
        ("a=1;b=2", "b", None),
    ];
    for (input, key, expected) in cases {
        let got = query::first(input.as_bytes(), key.as_bytes());
        assert_eq!(got.as_deref(), expected.map(str::as_bytes), "{input:?} {key:?}");
    }
}

/// A-REQ-09: `parse_qsl(query)`.
#[test]
fn all_pairs() {
    let cases: [(&str, &[(&str, &str)]); 8] = [
        ("", &[]),
        ("&&", &[]),
        ("a", &[]),
        ("a=&b", &[]),
        ("=v", &[("", "v")]),
        ("a=1&a=2&b=3", &[("a", "1"), ("a", "2"), ("b", "3")]),
        ("a+b=%20&c=d=e", &[("a b", " "), ("c", "d=e")]),
        ("a=1;b=2", &[("a", "1;b=2")]),
    ];
    for (input, expected) in cases {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let got: Vec<_> =
            query::pairs(input.as_bytes()).map(|(name, value)| (text(&name), text(&value))).collect();
        let expected: Vec<_> =
            expected.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        assert_eq!(got, expected, "{input:?}");
    }
}

proptest! {
    #[test]
    fn escaped_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let digit = |nibble: u8| b"0123456789abcDEF"[usize::from(nibble)];
        let escaped: Vec<u8> =
            bytes.iter().flat_map(|byte| [b'%', digit(byte >> 4), digit(byte & 15)]).collect();
        prop_assert_eq!(&*query::percent_decode(&escaped, true), &bytes[..]);
    }
}
