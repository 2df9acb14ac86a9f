//! The headers of a response for its file.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::ops::Range;

use crate::files::File;
use crate::files::conditions::{self, Validators};
use crate::files::types::Told;
use crate::http::encoding::Coding;
use crate::http::response::{Known, ResponseHead};
use crate::server::files::body::Part;

/// The description of a file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Description<'a> {
    /// The facts in the name about the content, unless user code has set a `Content-Type`.
    pub(crate) told: Told<'a>,
    /// `Cache-Control`.
    pub(crate) cache_control: Option<&'a str>,
    /// `Content-Encoding` of the sibling that is sent in place of the file.
    pub(crate) coding: Option<Coding>,
    /// The response depends on `Accept-Encoding`.
    pub(crate) varies: bool,
}

/// The validators of the response. User code's own win: clients will send those.
pub(super) fn validators<'a>(head: &'a ResponseHead, file: &File, etag: &'a [u8]) -> Validators<'a> {
    let etag = head.field(b"etag").unwrap_or(etag);
    match head.field(b"last-modified") {
        Some(given) => Validators { etag, modified: conditions::date(given), is_dated: false },
        None => Validators { etag, modified: file.modified(), is_dated: file.is_dated() },
    }
}

/// Writes the type and the coding of the bytes. User code's headers win.
pub(super) fn describe(head: &mut ResponseHead, description: &Description<'_>) {
    let told = &description.told;
    let (mut kind, mut wrapped) = told.as_it_lies();
    if let Some(given) = head.field(b"content-encoding") {
        (kind, wrapped) = (told.inside(given), None);
    }
    if head.wrote(Known::ContentType) {
        wrapped = None;
    } else if let Some(kind) = kind {
        let _ = head.header(b"Content-Type", kind.as_bytes());
    }
    // In the order in which they were applied (RFC 9110 section 8.4).
    for coding in [wrapped, description.coding.map(Coding::name)].into_iter().flatten() {
        let _ = head.header(b"Content-Encoding", coding.as_bytes());
    }
}

/// Several ranges as one body (RFC 9110 section 14.6). Its type is the answer's; that of the file, from wherever it is known, is
/// said of each part.
pub(super) fn in_parts(head: &mut ResponseHead, ranges: Vec<Range<u64>>, size: u64) -> VecDeque<Part> {
    let boundary = boundary();
    let kind = head.take_content_type();
    let _ = head.header(b"Content-Type", format!("multipart/byteranges; boundary={boundary}").as_bytes());
    let mut parts = VecDeque::new();
    for (place, range) in ranges.into_iter().enumerate() {
        let start = if place == 0 { "" } else { "\r\n" };
        let mut between = format!("{start}--{boundary}\r\n").into_bytes();
        if let Some(kind) = &kind {
            between.extend_from_slice(b"Content-Type: ");
            between.extend_from_slice(kind);
            between.extend_from_slice(b"\r\n");
        }
        let _ = write!(between, "Content-Range: {}\r\n\r\n", content_range(&range, size));
        parts.extend([Part::Bytes(between), Part::File(range)]);
    }
    parts.push_back(Part::Bytes(format!("\r\n--{boundary}--\r\n").into_bytes()));
    parts
}

pub(super) fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end - 1)
}

/// A line that occurs in no file by chance: it cannot be guessed beforehand.
fn boundary() -> String {
    let random = || RandomState::new().hash_one(0);
    format!("{:016x}{:016x}", random(), random())
}
