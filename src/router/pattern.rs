//! From the text of a route, `"/users/:id/*"`, to segments the tree can store.
//!
//! Owns the syntax and its errors, knows nothing of methods or of searching. A pattern is checked here once,
//! when the route is registered, so that the tree and the search need no error of their own.

use std::sync::Arc;

use super::params::Names;

/// The most segments of a path or a pattern. A longer path matches nothing and a longer pattern is refused.
/// This also bounds the recursion of the search: no request can make it deeper.
///
/// ```
/// use socketify::router::{Kind, MAX_SEGMENTS, Router};
///
/// let mut router = Router::new();
/// router.insert(Kind::any(), "/*", ())?;
/// assert!(router.find(b"GET", "/x".repeat(MAX_SEGMENTS).as_bytes()).is_some());
/// assert!(router.find(b"GET", "/x".repeat(MAX_SEGMENTS + 1).as_bytes()).is_none());
/// # Ok::<(), socketify::router::PatternError>(())
/// ```
pub const MAX_SEGMENTS: usize = 100;

/// Why a pattern was refused: one variant a rule. The message names the pattern and what was expected
/// instead.
///
/// `pattern` is the text with its leading `/`, which is added when missing, and `at` is a byte offset into
/// it.
///
/// ```
/// use socketify::router::{Kind, PatternError, Router};
///
/// let error = Router::new().insert(Kind::any(), "/users/:", ()).unwrap_err();
/// assert!(matches!(error, PatternError::EmptyName { at: 7, .. }));
/// assert_eq!(
///     error.to_string(),
///     r#"route pattern "/users/:": expected a parameter name after the `:` at byte 7, as in `/:id`"#
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// A control character: no request path can contain one, and none should reach a log.
    #[error(
        "route pattern {pattern:?}: expected printable characters only, found a control character at byte {at}"
    )]
    ControlCharacter {
        /// The refused pattern.
        pattern: Box<str>,
        /// Offset of the character.
        at: usize,
    },
    /// A `?` or `#`: these end the path of a URL, so the route could never match.
    #[error(
        "route pattern {pattern:?}: expected a path only, without query or fragment, found `{}` at byte {at}",
        &pattern[*at..=*at]
    )]
    Delimiter {
        /// The refused pattern.
        pattern: Box<str>,
        /// Offset of the `?` or `#`.
        at: usize,
    },
    /// A segment that is a lone `:`.
    #[error("route pattern {pattern:?}: expected a parameter name after the `:` at byte {at}, as in `/:id`")]
    EmptyName {
        /// The refused pattern.
        pattern: Box<str>,
        /// Offset of the `:`.
        at: usize,
    },
    /// The same parameter name twice: a look-up by name could only ever give one of them.
    #[error(
        "route pattern {pattern:?}: expected every parameter name once, found `{}` again at byte {at}",
        segment_at(pattern, *at)
    )]
    DuplicateName {
        /// The refused pattern.
        pattern: Box<str>,
        /// Offset of the `:` of the second occurrence.
        at: usize,
    },
    /// More than [`MAX_SEGMENTS`] segments: no path that long is ever matched.
    #[error("route pattern {pattern:?}: expected at most {MAX_SEGMENTS} segments, found {count}")]
    TooManySegments {
        /// The refused pattern.
        pattern: Box<str>,
        /// How many segments it has.
        count: usize,
    },
}

/// The segment that starts at byte `at`.
fn segment_at(pattern: &str, at: usize) -> &str {
    pattern[at..].split('/').next().unwrap_or_default()
}

/// One piece of a pattern between slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// Equal bytes, possibly none.
    Static(Box<str>),
    /// `:name`: one segment that is not empty. Holds the name without the colon.
    Param(Box<str>),
    /// `*` and any text after it: the rest of the path. Holds the text, which only distinguishes patterns.
    Wildcard(Box<str>),
}

impl Segment {
    fn parse(text: &str) -> Self {
        match text.as_bytes().first() {
            Some(b':') => Self::Param(text[1..].into()),
            Some(b'*') => Self::Wildcard(text.into()),
            _ => Self::Static(text.into()),
        }
    }
}

/// A checked route pattern.
///
/// [`Router::insert`](super::Router::insert) parses its patterns itself. This type checks a pattern
/// beforehand, above all whether it [can match](Pattern::is_reachable).
///
/// ```
/// use socketify::router::Pattern;
///
/// let pattern = Pattern::parse("users/:id")?;
/// assert_eq!(pattern.as_str(), "/users/:id");
/// assert_eq!(pattern.names().collect::<Vec<_>>(), ["id"]);
/// # Ok::<(), socketify::router::PatternError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The text with its leading `/`.
    text: Box<str>,
    /// The segments between the slashes of `text`; at least one, at most [`MAX_SEGMENTS`].
    segments: Vec<Segment>,
    /// The names of the `Param` segments in order; handed to every match.
    names: Names,
}

impl Pattern {
    /// Checks `pattern` and splits it into segments. A missing leading `/` is added.
    ///
    /// ```
    /// use socketify::router::{Pattern, PatternError};
    ///
    /// assert_eq!(Pattern::parse("")?.as_str(), "/");
    /// assert!(matches!(Pattern::parse("/:id/:id"), Err(PatternError::DuplicateName { at: 5, .. })));
    /// assert!(matches!(Pattern::parse("/search?q=:q"), Err(PatternError::Delimiter { at: 7, .. })));
    /// # Ok::<(), socketify::router::PatternError>(())
    /// ```
    pub fn parse(pattern: &str) -> Result<Self, PatternError> {
        let text: Box<str> =
            if pattern.starts_with('/') { pattern.into() } else { format!("/{pattern}").into() };
        check_characters(&text)?;

        let mut segments = Vec::new();
        let mut names: Vec<Box<str>> = Vec::new();
        let mut at = 1;
        for part in text[1..].split('/') {
            let segment = Segment::parse(part);
            if let Segment::Param(name) = &segment {
                if name.is_empty() {
                    return Err(PatternError::EmptyName { pattern: text, at });
                }
                if names.contains(name) {
                    return Err(PatternError::DuplicateName { pattern: text, at });
                }
                names.push(name.clone());
            }
            segments.push(segment);
            at += part.len() + 1;
        }
        if segments.len() > MAX_SEGMENTS {
            return Err(PatternError::TooManySegments { pattern: text, count: segments.len() });
        }
        let names = (!names.is_empty()).then(|| Arc::from(names));
        Ok(Self { text, segments, names })
    }

    /// The pattern as it is registered, with its leading `/`.
    ///
    /// ```
    /// # use socketify::router::Pattern;
    /// assert_eq!(Pattern::parse("static/*")?.as_str(), "/static/*");
    /// # Ok::<(), socketify::router::PatternError>(())
    /// ```
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The parameter names from left to right, without their colons.
    ///
    /// ```
    /// # use socketify::router::Pattern;
    /// assert_eq!(Pattern::parse("/:year/:month")?.names().collect::<Vec<_>>(), ["year", "month"]);
    /// # Ok::<(), socketify::router::PatternError>(())
    /// ```
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.as_deref().unwrap_or_default().iter().map(|name| &**name)
    }

    /// Whether any path can match. A wildcard takes the rest of the path, so no path is left for segments
    /// after it: such a route is accepted, as the original server did, and is worth a warning.
    ///
    /// ```
    /// # use socketify::router::Pattern;
    /// assert!(Pattern::parse("/files/*")?.is_reachable());
    /// assert!(!Pattern::parse("/files/*/edit")?.is_reachable());
    /// # Ok::<(), socketify::router::PatternError>(())
    /// ```
    pub fn is_reachable(&self) -> bool {
        let before_last = &self.segments[..self.segments.len() - 1];
        !before_last.iter().any(|segment| matches!(segment, Segment::Wildcard(_)))
    }

    /// The segments, for the tree.
    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Text and shared names, for the route that keeps them.
    pub(super) fn into_parts(self) -> (Box<str>, Names) {
        (self.text, self.names)
    }
}

/// Refuses characters that cannot occur in the path of a request.
fn check_characters(text: &str) -> Result<(), PatternError> {
    for (at, character) in text.char_indices() {
        if character.is_control() {
            return Err(PatternError::ControlCharacter { pattern: text.into(), at });
        }
        if matches!(character, '?' | '#') {
            return Err(PatternError::Delimiter { pattern: text.into(), at });
        }
    }
    Ok(())
}
