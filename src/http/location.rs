//! `Location`: a reference for the client to follow (RFC 9110 section 10.2.2).

use std::borrow::Cow;
use std::io::Write;

use super::trim_blanks;

/// A reference in the form of a header: characters that a URI does not allow are percent-encoded (RFC 3986
/// section 2.1). Encoded text stays unchanged, and so do delimiters in all parts: only their author knows
/// their meaning. A `%` that begins no escape stands for itself. Line breaks and NUL stay, since a header
/// refuses them.
///
/// ```
/// use socketify::http::location::encoded;
///
/// assert_eq!(&*encoded("/caf\u{e9} bar?q=%20#a".as_bytes()), b"/caf%C3%A9%20bar?q=%20#a");
/// ```
pub fn encoded(reference: &[u8]) -> Cow<'_, [u8]> {
    // Whitespace at the ends of a header's value is no part of it.
    let reference = trim_blanks(reference);
    let is_kept = |place: usize, byte: u8| match byte {
        b'%' => {
            matches!(reference[place + 1..], [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
        }
        b'\r' | b'\n' | 0 => true,
        byte => is_uri_byte(byte),
    };
    if reference.iter().enumerate().all(|(place, &byte)| is_kept(place, byte)) {
        return Cow::Borrowed(reference);
    }
    let mut encoded = Vec::with_capacity(reference.len() * 2);
    for (place, &byte) in reference.iter().enumerate() {
        if is_kept(place, byte) {
            encoded.push(byte);
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    Cow::Owned(encoded)
}

/// Unreserved characters and delimiters (RFC 3986 sections 2.2 and 2.3).
fn is_uri_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn references() {
        for (reference, expected) in [
            ("", ""),
            ("/plain?a=b&c[]=d#e", "/plain?a=b&c[]=d#e"),
            ("https://user@[::1]:8080/a;b=(c)*'!$,+", "https://user@[::1]:8080/a;b=(c)*'!$,+"),
            ("/a b", "/a%20b"),
            (" /a\t", "/a"),
            ("/caf\u{e9}?q=\u{20ac}", "/caf%C3%A9?q=%E2%82%AC"),
            ("/caf%C3%A9%20%2f", "/caf%C3%A9%20%2f"),
            ("/100%", "/100%25"),
            ("/%zz%4", "/%25zz%254"),
            ("/\\evil.example", "/%5Cevil.example"),
            ("/<a>\"^`{|}", "/%3Ca%3E%22%5E%60%7B%7C%7D"),
            ("/a\x01\x7fb", "/a%01%7Fb"),
            ("/a\r\nb\0", "/a\r\nb\0"),
        ] {
            assert_eq!(&*encoded(reference.as_bytes()), expected.as_bytes(), "{reference:?}");
        }
        assert_eq!(&*encoded(b"/\xe9"), b"/%E9");
    }

    proptest! {
        #[test]
        fn encoding_twice_is_encoding_once(reference: Vec<u8>) {
            let once = encoded(&reference).into_owned();
            prop_assert_eq!(&*encoded(&once), &*once);
            prop_assert!(once.iter().all(|byte| byte.is_ascii_graphic() || b"\r\n\0".contains(byte)));
        }
    }
}
