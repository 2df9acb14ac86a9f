//! Which media types are worth compressing.

use crate::http::trim_blanks;

/// Bytes of a body without `Content-Type` that are examined, as many as in the WHATWG MIME Sniffing Standard.
const SNIFFED: usize = 1445;

/// Media types to compress: `application/json`, or with one `*` for anything: `text/*`, `*+json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypePattern {
    before: Box<[u8]>,
    /// `None` without a `*`.
    after: Option<Box<[u8]>>,
}

impl TypePattern {
    /// Reads a pattern. `None` if it is empty, has two `*`, or a byte that no media type has (RFC 9110
    /// section 8.3.1).
    pub fn parse(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let valid = |part: &str| part.bytes().all(|byte| byte == b'/' || super::super::is_token_byte(byte));
        let (before, after) = match lower.split_once('*') {
            Some((before, after)) => (before, Some(after)),
            None => (lower.as_str(), None),
        };
        let two = after.is_some_and(|after| after.contains('*'));
        if text.is_empty() || two || !valid(before) || !after.is_none_or(valid) {
            return None;
        }
        Some(Self { before: before.as_bytes().into(), after: after.map(|after| after.as_bytes().into()) })
    }

    /// Whether it matches a media type in lower case.
    fn matches(&self, essence: &[u8]) -> bool {
        match &self.after {
            None => *essence == *self.before,
            Some(after) => {
                essence.len() >= self.before.len() + after.len()
                    && essence.starts_with(&self.before)
                    && essence.ends_with(after)
            }
        }
    }
}

/// Whether a `Content-Type` is among `patterns`. Events are sent one by one, and some clients do not inflate
/// them: that type must be named in full.
pub(super) fn matches(patterns: &[TypePattern], content_type: &[u8]) -> bool {
    let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default();
    let essence = trim_blanks(essence).to_ascii_lowercase();
    let events = essence == b"text/event-stream";
    patterns.iter().any(|pattern| pattern.matches(&essence) && (!events || pattern.after.is_none()))
}

/// Whether a body begins with no byte that text does not have ("binary data byte" of the MIME Sniffing
/// Standard). Browsers decide in the same way.
pub(super) fn looks_like_text(body: &[u8]) -> bool {
    !body.iter().take(SNIFFED).any(|byte| matches!(byte, 0..=0x08 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f))
}
