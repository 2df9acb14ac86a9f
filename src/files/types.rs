//! Media types by file name.

use std::collections::HashMap;

/// Media type of unknown content (RFC 2046 section 4.5.1).
const ANY: &str = "application/octet-stream";

/// The tables of Python's `mimetypes`, from which they come: a file has the same type from every server, and
/// the types that the application has added apply.
#[derive(Clone, Debug, Default)]
pub struct Types {
    /// `.html` to `text/html`.
    pub by_extension: HashMap<Box<str>, Box<str>>,
    /// `.tgz` to `.tar.gz`.
    pub suffixes: HashMap<Box<str>, Box<str>>,
    /// `.gz` to `gzip`.
    pub encodings: HashMap<Box<str>, Box<str>>,
}

/// The facts in the name of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told<'a> {
    /// The type of the content, inside of a coding if there is one; `None` for an unknown name.
    pub content: Option<&'a str>,
    /// The coding of the stored bytes, by its name in `mimetypes`.
    pub coding: Option<&'a str>,
    /// The client wants the content, and the coding is only its wrapping.
    pub is_wrapped: bool,
}

impl Types {
    /// The facts in a name.
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
        // Encodings are case-sensitive: `.Z` is one and `.z` is not.
        let coding = self.encodings.get(extension).map(AsRef::as_ref);
        if coding.is_some() {
            (_, extension) = split(stem);
        }
        Told::new(name, look(&self.by_extension, extension), coding)
    }
}

impl<'a> Told<'a> {
    /// The result of `mimetypes` for a name.
    pub fn new(name: &str, content: Option<&'a str>, coding: Option<&'a str>) -> Self {
        // SVG 1.1 section 1.2 serves such a picture as SVG in the content coding gzip. All other compressed
        // files are stored that way on purpose.
        let is_wrapped = coding == Some("gzip") && split(name).1.eq_ignore_ascii_case(".svgz");
        Self { content, coding, is_wrapped }
    }

    /// `Content-Type` and `Content-Encoding` of the stored bytes. A client undoes the second before it uses
    /// the first (RFC 9110 section 8.4), so a file that should arrive compressed has the type of its coding,
    /// and no coding.
    pub fn as_it_lies(&self) -> (Option<&'a str>, Option<&'a str>) {
        match self.coding {
            Some(coding) if self.is_wrapped => (self.content, Some(coding)),
            Some(coding) => (Some(type_of(coding)), None),
            None => (self.content, None),
        }
    }

    /// `Content-Type` if user code has set this `Content-Encoding`.
    pub fn inside(&self, coding: &[u8]) -> Option<&'a str> {
        match self.coding {
            Some(own) if coding.eq_ignore_ascii_case(own.as_bytes()) => self.content,
            _ => self.as_it_lies().0,
        }
    }
}

/// The media type of bytes in a coding: the registered one or, without one, the customary one.
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

/// First with case, then without.
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
