//! The effect of a content coding on a response head (RFC 9110 section 8.4).

use super::ResponseHead;
use crate::http::encoding::Compression;
use crate::http::head::{HeaderLines, find, joined};
use crate::http::list_members;

/// Headers that depend on the exact bytes of the body, or on their coding: a body with one of them is not
/// compressed.
const FORBIDDING: [&[u8]; 6] =
    [b"content-encoding", b"content-range", b"content-digest", b"repr-digest", b"digest", b"content-md5"];

impl ResponseHead {
    /// The first value of a header the user wrote. Framing is not among them: see the module.
    pub fn field(&self, name: &[u8]) -> Option<&[u8]> {
        find(&self.fields, name)
    }

    /// Whether the following body may be compressed: its status has one, its type is worth it, and the user
    /// has not forbidden it. A 304 may, since its headers are those of the corresponding 200 (RFC 9110
    /// section 15.4.5).
    pub fn may_encode(&self, settings: &Compression, body: &[u8]) -> bool {
        let admitted = match (self.status(), self.field(b"content-type")) {
            (304, None) => true,
            // RFC 9110 section 14.2: ranges count in the encoded bytes, and this body may be a part of them.
            (100..=199 | 204..=206, _) => false,
            (_, kind) => settings.admits(kind, body),
        };
        admitted
            && !HeaderLines::new(&self.fields)
                .any(|(name, _)| FORBIDDING.iter().any(|other| name.eq_ignore_ascii_case(other)))
            && !joined(&self.fields, b"cache-control").is_some_and(|value| {
                list_members(&value).any(|member| member.eq_ignore_ascii_case(b"no-transform"))
            })
    }

    /// Removes `Content-Encoding: identity`, which asks for no coding; returns whether it was there. It has
    /// no place on the wire (RFC 9110 section 8.4.1).
    pub fn take_identity(&mut self) -> bool {
        let asked =
            self.field(b"content-encoding").is_some_and(|value| value.eq_ignore_ascii_case(b"identity"));
        if asked {
            self.remove(b"content-encoding");
        }
        asked
    }

    /// Removes `Content-Type`; returns its first value.
    pub(crate) fn take_content_type(&mut self) -> Option<Box<[u8]>> {
        let given = self.field(b"content-type").map(Into::into);
        if given.is_some() {
            self.remove(b"content-type");
        }
        given
    }

    /// Declares that the response depends on `Accept-Encoding` (RFC 9110 section 12.5.5).
    pub fn vary_on_encoding(&mut self) {
        const NAME: &[u8] = b"Accept-Encoding";
        let value = match joined(&self.fields, b"vary") {
            None => NAME.to_vec(),
            Some(value) => {
                let covered = |member: &[u8]| member == b"*" || member.eq_ignore_ascii_case(NAME);
                if list_members(&value).any(covered) {
                    return;
                }
                [&value, &b", "[..], NAME].concat()
            }
        };
        self.remove(b"vary");
        self.append(b"Vary", &[&value]);
    }

    /// The body goes out in `coding`, with another length, other ranges, and another `ETag`.
    pub fn encoded(&mut self, coding: &str) {
        self.declared = None;
        self.remove(b"accept-ranges");
        self.weaken_tag();
        self.append(b"Content-Encoding", &[coding.as_bytes()]);
    }

    /// Makes the user's `ETag` weak: the bytes are no longer the same (RFC 9110 section 8.8.3.3).
    pub fn weaken_tag(&mut self) {
        if let Some(tag) = self.field(b"etag")
            && !tag.starts_with(b"W/")
        {
            let weak = [b"W/", tag].concat();
            self.remove(b"etag");
            self.append(b"ETag", &[&weak]);
        }
    }

    fn remove(&mut self, name: &[u8]) {
        let mut kept = Vec::with_capacity(self.fields.len());
        for line in self.fields.split_inclusive(|&byte| byte == b'\n') {
            let is_it = line
                .split_at_checked(name.len())
                .is_some_and(|(found, rest)| found.eq_ignore_ascii_case(name) && rest.starts_with(b":"));
            if !is_it {
                kept.extend_from_slice(line);
            }
        }
        self.fields = kept;
    }
}
