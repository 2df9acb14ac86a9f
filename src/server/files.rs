//! Files as responses: opened without waiting for a disk, and sent by the kernel from its own memory.
//!
//! A small file is copied behind the head, so that the response leaves in one piece; a larger one goes from
//! the page cache to the socket (`sendfile`). Work that would wait for the disk runs on tokio's blocking
//! threads, and the response goes on when the data is in memory. While a file is sent, its exchange is over
//! for user code, and the connection stays busy: the next request begins after the last byte.

mod body;
mod description;
mod exchange;
mod sending;

use std::collections::VecDeque;
use std::ffi::OsStr;

pub(crate) use self::body::Body;
pub use self::exchange::Sending;

use self::body::Part;
use self::description::{Description, content_range, describe, in_parts, validators};

use crate::app::Signal;
use crate::files::conditions::{Conditions, Decision, decide};
use crate::files::types::Told;
use crate::files::{Directory, Disk, File, Named, OpenError};
use crate::http::date;
use crate::http::location;
use crate::server::connection::{LastAnswer, Locked};

/// Files up to this size are copied behind the head. Beyond it the copy would cost more than a second system call.
const COPIED: u64 = 32 * 1024;

/// Path and query of a request.
pub(crate) type PathAndQuery<'a> = (&'a [u8], Option<&'a [u8]>);

/// The result of a directory for a request.
pub(crate) enum Tried {
    /// The response is queued, or all but the rest of the file.
    Answered,
    /// No file: the request goes to the next route.
    Absent,
    /// Only the disk knows.
    Wait,
}

impl Locked<'_> {
    /// Responds with the file of the path, if there is one.
    pub(crate) fn answer_from_directory(
        &mut self,
        directory: &Directory,
        target: PathAndQuery<'_>,
        asked: &Conditions<'_>,
    ) -> Tried {
        // A handler that has begun its response cannot leave the rest to a file.
        if self.request().is_none_or(|request| request.reply.is_started()) {
            return Tried::Absent;
        }
        match directory.find(target.0, asked.accept_encoding.as_deref(), Disk::Cached) {
            Err(OpenError::Wait) => Tried::Wait,
            found => self.answer_found(directory, target, asked, found),
        }
    }

    /// Responds with the result.
    pub(in crate::server) fn answer_found(
        &mut self,
        directory: &Directory,
        target: PathAndQuery<'_>,
        asked: &Conditions<'_>,
        found: Result<Named, OpenError>,
    ) -> Tried {
        // The body of a request for a file is discarded, but within a limit.
        let answers = matches!(found, Ok(_) | Err(OpenError::Exhausted));
        if answers && !self.admit_body(self.connection.server.config.max_body_size) {
            return Tried::Answered;
        }
        match found {
            Ok(Named::File(file, name, coding)) => {
                let name = name.file_name().and_then(OsStr::to_str);
                let description = Description {
                    told: name.map_or_else(Told::default, |name| directory.types.of(name)),
                    cache_control: directory.options.cache_control.as_deref(),
                    coding,
                    varies: directory.options.precompressed,
                };
                self.answer_with_file(file, description, asked);
                Tried::Answered
            }
            Ok(Named::WithoutSlash) => {
                // Relative, so that it is right behind any proxy: the last segment again, with the slash.
                let last = target.0.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                let mark: &[u8] = if target.1.is_some() { b"?" } else { b"" };
                let location = [b"./", last, b"/", mark, target.1.unwrap_or_default()].concat();
                if let Some(request) = self.request_mut() {
                    request.reply.head.clear();
                    let _ = request.reply.head.header(b"Location", &location::encoded(&location));
                }
                self.answer_in_place_of_file(301);
                Tried::Answered
            }
            Err(OpenError::Exhausted) => {
                self.answer_without_file(503);
                Tried::Answered
            }
            // Its existence stays hidden.
            Err(OpenError::Absent | OpenError::Forbidden | OpenError::Wait) => Tried::Absent,
        }
    }

    /// Responds with a status instead of the file. The headers of the file do not apply to that.
    pub(in crate::server) fn answer_without_file(&mut self, code: u16) {
        if let Some(request) = self.request_mut() {
            request.reply.head.clear();
        }
        self.answer_in_place_of_file(code);
    }

    fn answer_in_place_of_file(&mut self, code: u16) {
        self.answer_status(code);
        self.complete_file();
    }

    /// The response is out, except for the queue.
    pub(in crate::server) fn complete_file(&mut self) {
        if let Some(request) = self.request_mut() {
            request.file_leaves = false;
            request.claimed = false;
        }
        self.tell_file_sent();
        self.complete();
    }

    /// Responds with `file`, or as the conditions of the request require.
    pub(in crate::server) fn answer_with_file(
        &mut self,
        file: File,
        description: Description<'_>,
        asked: &Conditions<'_>,
    ) {
        let etag = file.etag();
        let modified = file.modified().map(|then| date::imf_fixdate(then.min(date::second())));
        let server = self.connection.server.config.server_header.as_bytes();
        let Some((request, out)) = self.request_and_out() else { return };
        let head = &mut request.reply.head;
        // Conditions and ranges are about a 200. With another status of user code the file is sent
        // unconditionally.
        let decision = match head.status() {
            200 => decide(asked, &validators(head, &file, etag.as_bytes()), file.size()),
            _ => Decision::Whole,
        };
        match decision {
            Decision::Failed => return self.answer_without_file(412),
            Decision::Unsatisfiable => {
                head.clear();
                let _ = head.header(b"Content-Range", format!("bytes */{}", file.size()).as_bytes());
                return self.answer_in_place_of_file(416);
            }
            _ => {}
        }
        // Only a type or a Cache-Control that is no header value can fail, and is left out. User code's
        // headers win.
        let cache_control = description.cache_control.map(str::as_bytes);
        let vary = description.varies.then_some(&b"Accept-Encoding"[..]);
        for (name, value) in [
            (&b"Last-Modified"[..], modified.as_ref().map(|text| &text[..])),
            (b"ETag", Some(etag.as_bytes())),
            (b"Cache-Control", cache_control),
            (b"Vary", vary),
        ] {
            if let Some(value) = value
                && !head.has(name)
            {
                let _ = head.header(name, value);
            }
        }
        if decision == Decision::NotModified {
            head.replace_status(304);
            request.reply.end_empty(out, server);
            return self.complete_file();
        }
        let _ = head.header(b"Accept-Ranges", b"bytes");
        describe(head, &description);
        let mut parts = VecDeque::new();
        match decision {
            Decision::Parts(ranges) => {
                head.replace_status(206);
                parts = in_parts(head, ranges, file.size());
            }
            decision => {
                let range = if let Decision::Part(range) = decision {
                    head.replace_status(206);
                    let _ = head.header(b"Content-Range", content_range(&range, file.size()).as_bytes());
                    range
                } else {
                    0..file.size()
                };
                if !range.is_empty() {
                    parts.push_back(Part::File(range));
                }
            }
        }
        self.send_parts(file, parts);
    }

    /// Queues the head and a small file; a larger one goes with the flush.
    fn send_parts(&mut self, file: File, mut parts: VecDeque<Part>) {
        let total = parts.iter().map(|part| match part {
            Part::Bytes(bytes) => bytes.len() as u64,
            Part::File(range) => range.end - range.start,
        });
        let total = total.sum();
        let server = self.connection.server.config.server_header.as_bytes();
        let number = self.number();
        let Some((request, out)) = self.request_and_out() else { return };
        request.reply.begin_sized(out, total, server);
        let mute = request.reply.is_mute();
        // Complete for user code: nothing more is taken from it.
        request.reply.took(total);
        if mute {
            return self.complete_file();
        }
        // A short response leaves in one piece.
        if let (1, Some(Part::File(range))) = (parts.len(), parts.front())
            && range.end - range.start <= COPIED
        {
            let count = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            match file.read(out.tail(), range.start, count, Disk::Cached) {
                Some(copied) if copied < count => return self.abort_file(),
                Some(_) => parts.clear(),
                None => {}
            }
        }
        if parts.is_empty() {
            return self.complete_file();
        }
        // The rest of the request's body is useless.
        request.intake.discard();
        request.watches_room = false;
        if let Some(exchange) = &request.exchange {
            exchange.mark_responded();
        }
        request.reply.sent = 0;
        request.file_leaves = true;
        request.file = Some(Box::new(Body::new(file, parts, number)));
        if !request.intake.is_complete() {
            // The task may have stopped reading because nothing took the received bytes.
            self.connection.wake();
        }
    }

    /// The file is shorter than promised: only the end of the connection can show that.
    pub(in crate::server) fn abort_file(&mut self) {
        if let Some(request) = self.request_mut() {
            // The access log sees that it is not whole.
            request.file_leaves = true;
        }
        self.tell_file_sent();
        self.close_after_flush(LastAnswer::Cut);
    }

    /// Signals the end of the file to user code that has left its response to it.
    fn tell_file_sent(&mut self) {
        let connection = self.connection;
        if let Some(exchange) = self.request_mut().and_then(|request| request.exchange.take()) {
            exchange.mark_responded();
            exchange.release();
            connection.server.app.signal(exchange, Signal::Sent);
        }
    }
}
