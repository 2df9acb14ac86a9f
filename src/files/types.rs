//! Media types by file name.

use std::collections::HashMap;

/// Media type of what nothing is known of but its bytes (RFC 2046 section 4.5.1).
const ANY: &str = "application/octet-stream";

/// What Python's `mimetypes` knows, which is where it comes from: the same file gets the same type whoever serves it, and a
/// type that the application has added counts.
#[derive(Clone, Debug, Default)]
pub struct Types {
    /// `.html` to `text/html`.
    pub by_extension: HashMap<Box<str>, Box<str>>,
    /// `.tgz` to `.tar.gz`.
    pub suffixes: HashMap<Box<str>, Box<str>>,
    /// `.gz` to `gzip`.
    pub encodings: HashMap<Box<str>, Box<str>>,
}

/// What the name of a file tells of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told<'a> {
    /// The type of the content, inside of a coding if there is one; none for a name that tells nothing.
    pub content: Option<&'a str>,
    /// The coding that the bytes lie in, as `mimetypes` calls it.
    pub coding: Option<&'a str>,
    /// The content is what is wanted, and the coding only its wrapping.
    pub is_wrapped: bool,
}

impl Types {
    /// What a name tells.
    ///
    /// ```
    /// use socketify::files::types::Types;
    ///
    /// let mut types = Types::default();
    /// types.by_extension.insert(".tar".into(), "application/x-tar".into());
    /// types.encodings.insert(".gz".into(), "gzip".into());
    /// types.suffixes.insert(".tgz".into(), ".tar.gz".into());
    /// let told = |name| types.of(name).as_it_lies();
    /// assert_eq!(told("a.tar"), (Some("application/x-tar"), None));
    /// assert_eq!(told("a.TAR"), (Some("application/x-tar"), None));
    /// assert_eq!(told("a.tar.gz"), (Some("application/gzip"), None));
    /// assert_eq!(told("a.tgz"), (Some("application/gzip"), None));
    /// assert_eq!(told(".tar"), (None, None)); // a name that begins with its only dot has no extension
    /// ```
    pub fn of(&self, name: &str) -> Told<'_> {
        let (mut stem, mut extension) = split(name);
        let longer;
        if let Some(suffix) = look(&self.suffixes, extension) {
            longer = format!("{stem}{suffix}");
            (stem, extension) = split(&longer);
        }
        // Encodings are told apart by case: `.Z` is one and `.z` is not.
        let coding = self.encodings.get(extension).map(AsRef::as_ref);
        if coding.is_some() {
            (_, extension) = split(stem);
        }
        Told::new(name, look(&self.by_extension, extension), coding)
    }
}

impl<'a> Told<'a> {
    /// What `mimetypes` has made of a name.
    pub fn new(name: &str, content: Option<&'a str>, coding: Option<&'a str>) -> Self {
        // SVG 1.1 section 1.2 has such a picture served as SVG in the content coding gzip. Whatever else is compressed has
        // been so to be kept.
        let is_wrapped = coding == Some("gzip") && split(name).1.eq_ignore_ascii_case(".svgz");
        Self { content, coding, is_wrapped }
    }

    /// `Content-Type` and `Content-Encoding` of the bytes as they lie. A client undoes the second before it looks at the
    /// first (RFC 9110 section 8.4), so a file that is to arrive as it is has the type of its coding, and none.
    pub fn as_it_lies(&self) -> (Option<&'a str>, Option<&'a str>) {
        match self.coding {
            Some(coding) if self.is_wrapped => (self.content, Some(coding)),
            Some(coding) => (Some(type_of(coding)), None),
            None => (self.content, None),
        }
    }

    /// `Content-Type` where user code has given this `Content-Encoding`.
    pub fn inside(&self, coding: &[u8]) -> Option<&'a str> {
        match self.coding {
            Some(own) if coding.eq_ignore_ascii_case(own.as_bytes()) => self.content,
            _ => self.as_it_lies().0,
        }
    }
}

/// The media type of bytes in a coding, as it is registered or, where it is not, in use.
fn type_of(coding: &str) -> &'static str {
    match coding {
        "gzip" => "application/gzip",
        "zstd" => "application/zstd",
        "br" => "application/x-brotli",
        "bzip2" => "application/x-bzip2",
        "compress" => "application/x-compress",
        "xz" => "application/x-xz",
        _ => ANY,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compressed_to_be_kept_has_the_type_of_its_coding() {
        for (coding, kind) in [
            ("gzip", "application/gzip"),
            ("zstd", "application/zstd"),
            ("br", "application/x-brotli"),
            ("bzip2", "application/x-bzip2"),
            ("compress", "application/x-compress"),
            ("xz", "application/x-xz"),
            ("own", ANY),
        ] {
            let told = Told::new("data.json.x", Some("application/json"), Some(coding));
            assert_eq!(told.as_it_lies(), (Some(kind), None), "{coding}");
            assert_eq!(told.inside(coding.as_bytes()), Some("application/json"));
            assert_eq!(told.inside(b"other"), Some(kind));
            assert_eq!(Told::new("data.x", None, Some(coding)).as_it_lies(), (Some(kind), None));
        }
    }

    #[test]
    fn a_compressed_picture_is_a_picture() {
        let told = Told::new("a.SVGZ", Some("image/svg+xml"), Some("gzip"));
        assert_eq!(told.as_it_lies(), (Some("image/svg+xml"), Some("gzip")));
        let told = Told::new("a.svg.gz", Some("image/svg+xml"), Some("gzip"));
        assert_eq!(told.as_it_lies(), (Some("application/gzip"), None));
    }
}
