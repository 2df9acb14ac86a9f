//! Media types by file name.

use std::collections::{HashMap, HashSet};

/// What Python's `mimetypes` knows, which is where it comes from: the same file gets the same type whoever serves it, and a
/// type that the application has added counts.
#[derive(Clone, Debug, Default)]
pub struct Types {
    /// `.html` to `text/html`.
    pub by_extension: HashMap<Box<str>, Box<str>>,
    /// `.tgz` to `.tar.gz`.
    pub suffixes: HashMap<Box<str>, Box<str>>,
    /// Extensions of encodings, such as `.gz`, which say nothing of what is inside.
    pub encodings: HashSet<Box<str>>,
}

impl Types {
    /// The type of a file; none for a name that tells nothing.
    ///
    /// ```
    /// use socketify::files::types::Types;
    ///
    /// let mut types = Types::default();
    /// types.by_extension.insert(".tar".into(), "application/x-tar".into());
    /// types.encodings.insert(".gz".into());
    /// types.suffixes.insert(".tgz".into(), ".tar.gz".into());
    /// assert_eq!(types.of("a.tar"), Some("application/x-tar"));
    /// assert_eq!(types.of("a.TAR"), Some("application/x-tar"));
    /// assert_eq!(types.of("a.tar.gz"), Some("application/x-tar"));
    /// assert_eq!(types.of("a.tgz"), Some("application/x-tar"));
    /// assert_eq!(types.of(".tar"), None); // a name that begins with its only dot has no extension
    /// ```
    pub fn of(&self, name: &str) -> Option<&str> {
        let (mut stem, mut extension) = split(name);
        let longer;
        if let Some(suffix) = look(&self.suffixes, extension) {
            longer = format!("{stem}{suffix}");
            (stem, extension) = split(&longer);
        }
        // Encodings are told apart by case: `.Z` is one and `.z` is not.
        if self.encodings.contains(extension) {
            (_, extension) = split(stem);
        }
        look(&self.by_extension, extension)
    }
}

/// First as written, then without regard to case.
fn look<'a>(map: &'a HashMap<Box<str>, Box<str>>, extension: &str) -> Option<&'a str> {
    let found = map.get(extension).or_else(|| map.get(extension.to_ascii_lowercase().as_str()));
    found.map(AsRef::as_ref)
}

/// The name without its extension, and the extension with its dot.
fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(at) if name[..at].bytes().any(|byte| byte != b'.') => name.split_at(at),
        _ => (name, ""),
    }
}
