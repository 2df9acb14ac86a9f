//! Names of files in URLs: for any request, the opened file lies below the served directory.
#![no_main]

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use socketify::files::name::parse;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    dotfiles: bool,
    below: &'a [u8],
}

/// The same name with every byte that may be escaped.
fn escaped(path: &Path) -> Vec<u8> {
    let mut name = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' => name.push(b'/'),
            byte => name.extend(format!("%{byte:02X}").bytes()),
        }
    }
    name
}

fuzz_target!(|input: Input<'_>| {
    let Some(name) = parse(input.below, input.dotfiles) else {
        // A name that is refused although hidden files are served is always refused.
        assert!(!input.dotfiles || parse(input.below, false).is_none());
        return;
    };
    let path = name.path.clone();
    assert_eq!(name.is_directory, input.below.is_empty() || input.below.ends_with(b"/"));
    assert!(path.is_relative());
    assert!(!path.as_os_str().as_bytes().contains(&0));
    let mut parts = 0;
    for (place, part) in path.components().enumerate() {
        let Component::Normal(name) = part else { panic!("{part:?} in {}", path.display()) };
        let is_hidden = name.as_bytes().starts_with(b".");
        assert!(input.dotfiles || !is_hidden || place == 0 && name == ".well-known", "{}", path.display());
        parts += 1;
    }
    let segments = input.below.split(|&byte| byte == b'/').filter(|segment| !segment.is_empty()).count();
    assert!(parts <= segments, "a slash came of an escape");
    // Each byte escaped, and the trailing slash unchanged.
    let mut escaped = escaped(&path);
    if input.below.ends_with(b"/") {
        escaped.push(b'/');
    }
    assert_eq!(parse(&escaped, input.dotfiles), Some(name));
});
