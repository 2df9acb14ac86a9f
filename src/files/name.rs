//! From the rest of a URL to the name of a file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Site-wide files of other specifications, which are public although they begin with a dot (RFC 8615).
const WELL_KNOWN: &[u8] = b".well-known";

/// A parsed name.
#[derive(Debug, PartialEq, Eq)]
pub struct Name {
    /// Relative to the served directory; empty for that directory itself.
    pub path: PathBuf,
    /// It ends with a slash, or is empty: only a directory has such a name.
    pub is_directory: bool,
}

/// The name in `below`, percent-decoded once. `None` for a name that must not be served: with a NUL, with `.`
/// or `..`, encoded or not, with an encoded slash, and for hidden files unless `dotfiles`.
///
/// An empty segment is no name either. Routes distinguish `/a` from `//a`: if both were the same file, a
/// request could bypass a route that guards `/a/*`, and relative links in the file would lead elsewhere.
pub fn parse(below: &[u8], dotfiles: bool) -> Option<Name> {
    let mut path = PathBuf::new();
    let (segments, is_directory) = match below {
        [] => return Some(Name { path, is_directory: true }),
        [segments @ .., b'/'] => (segments, true),
        segments => (segments, false),
    };
    for (place, segment) in segments.split(|byte| *byte == b'/').enumerate() {
        if segment.is_empty() {
            return None;
        }
        let name = decode(segment);
        if name.contains(&0) || name.contains(&b'/') || name == b"." || name == b".." {
            return None;
        }
        if name.first() == Some(&b'.') && !dotfiles && !(place == 0 && name == WELL_KNOWN) {
            return None;
        }
        path.push(Path::new(OsStr::from_bytes(&name)));
    }
    Some(Name { path, is_directory })
}

/// Percent-decodes once; anything else stays unchanged.
fn decode(segment: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(segment.len());
    let mut rest = segment;
    while let Some((first, behind)) = rest.split_first() {
        if let (b'%', [high, low, ..]) = (first, behind)
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            decoded.push(high << 4 | low);
            rest = &behind[2..];
        } else {
            decoded.push(*first);
            rest = behind;
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(below: &str) -> Option<String> {
        parse(below.as_bytes(), false).map(|name| name.path.to_string_lossy().into_owned())
    }

    fn is_directory(below: &str) -> Option<bool> {
        parse(below.as_bytes(), false).map(|name| name.is_directory)
    }

    #[test]
    fn names_below() {
        assert_eq!(name("a/b.txt").as_deref(), Some("a/b.txt"));
        assert_eq!(name("with%20blank%2etxt").as_deref(), Some("with blank.txt"));
        assert_eq!(name("").as_deref(), Some(""));
        assert_eq!(name("100%").as_deref(), Some("100%"));
        assert_eq!(name("%zz%4").as_deref(), Some("%zz%4"));
        // Decoded once: this is an unusual name, and not a way out.
        assert_eq!(name("%252e%252e/a").as_deref(), Some("%2e%2e/a"));
        assert_eq!(name(".well-known/acme").as_deref(), Some(".well-known/acme"));
        assert_eq!(parse(b".git/config", true).map(|name| name.path), Some(".git/config".into()));
    }

    #[test]
    fn a_slash_at_the_end_names_a_directory() {
        assert_eq!(is_directory(""), Some(true));
        assert_eq!(is_directory("a/b/"), Some(true));
        assert_eq!(name("a/b/").as_deref(), Some("a/b"));
        assert_eq!(is_directory("a/b"), Some(false));
    }

    #[test]
    fn names_that_are_refused() {
        for below in [
            "..",
            "../a",
            "a/../b",
            "%2e%2e/a",
            ".%2e",
            "%2E.",
            ".",
            "a/./b",
            "a%2fb",
            "a%2Fb",
            "a%00",
            "\0",
            ".git/a",
            "a/.env",
            "%2eenv",
            "a/.well-known/b",
            "/",
            "/a",
            "//a",
            "a//b",
            "a//",
            "a/b.txt//",
        ] {
            assert_eq!(name(below), None, "{below}");
        }
    }

    proptest! {
        #[test]
        fn no_name_leads_out(below: Vec<u8>, dotfiles: bool) {
            if let Some(Name { path, .. }) = parse(&below, dotfiles) {
                prop_assert!(path.is_relative());
                prop_assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))));
                prop_assert!(!path.as_os_str().as_bytes().contains(&0));
            }
        }
    }
}
