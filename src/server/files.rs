//! Files as answers: opened where nothing waits for a disk, and sent by the kernel from its own memory.
//!
//! A small file is copied behind the head, so that the answer leaves in one piece; a larger one goes from the page cache to
//! the socket (`sendfile`). Whatever would wait for the disk is done on tokio's blocking threads
//! instead, and the answer goes on when it is in memory. While a file leaves, its exchange is over for user code, and
//! the connection stays busy: the next request begins when the last byte is out.

mod sending;

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::app::Signal;
use crate::files::conditions::{Conditions, Decision, decide};
use crate::files::{Directory, Disk, File, Named, OpenError};
use crate::http::date::imf_fixdate;
use crate::http::encoding::Coding;
use crate::http::response::Known;
use crate::server::connection::{Connection, Locked, State};
use crate::server::exchange::Exchange;
use crate::server::session;

pub(crate) use self::sending::Body;
use self::sending::Part;

/// Files up to this size are copied behind the head. Beyond it the copy would cost more than a second system call.
const COPIED: u64 = 32 * 1024;
// ---- which file, and what is said of it -----------------------------------------------------------------------------

/// How a file is to be described.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Description<'a> {
    /// `Content-Type`, unless user code has given one.
    pub(crate) kind: Option<&'a str>,
    /// `Cache-Control`.
    pub(crate) cache_control: Option<&'a str>,
    /// `Content-Encoding`.
    pub(crate) coding: Option<Coding>,
    /// The answer depends on `Accept-Encoding`.
    pub(crate) varies: bool,
}

/// Path and query of a request.
pub(crate) type Target<'a> = (&'a [u8], Option<&'a [u8]>);

/// What a directory has for a request.
pub(crate) enum Tried {
    /// The answer is queued, or all but the rest of the file.
    Answered,
    /// No file: the request goes to the next route.
    Absent,
    /// Only the disk knows.
    Wait,
}

/// Answers with what the path names, if it can.
pub(crate) fn answer_from(
    connection: &Arc<Connection>,
    state: &mut State,
    directory: &Directory,
    target: Target<'_>,
    asked: &Conditions<'_>,
) -> Tried {
    // A handler that has begun to answer cannot leave the rest to a file.
    if state.http.reply.is_started() {
        return Tried::Absent;
    }
    match directory.find(target.0, asked.accept_encoding.as_deref(), Disk::Cached) {
        Err(OpenError::Wait) => Tried::Wait,
        found => give(connection, state, directory, target, asked, found),
    }
}

/// Answers with what was found.
fn give(
    connection: &Arc<Connection>,
    state: &mut State,
    directory: &Directory,
    target: Target<'_>,
    asked: &Conditions<'_>,
    found: Result<Named, OpenError>,
) -> Tried {
    match found {
        Ok(Named::File(file, name, coding)) => {
            let description = Description {
                kind: name.file_name().and_then(|name| directory.types.of(name.to_str()?)),
                cache_control: directory.options.cache_control.as_deref(),
                coding,
                varies: directory.options.precompressed,
            };
            respond(connection, state, file, description, asked);
            Tried::Answered
        }
        Ok(Named::WithoutSlash) => {
            // Relative, so that it holds behind whatever proxy: the last segment again, with the slash.
            let last = target.0.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            let mark: &[u8] = if target.1.is_some() { b"?" } else { b"" };
            let location = [b"./", last, b"/", mark, target.1.unwrap_or_default()].concat();
            state.http.reply.head.clear();
            let _ = state.http.reply.head.header(b"Location", &location);
            plain(connection, state, 301);
            Tried::Answered
        }
        Err(OpenError::Exhausted) => {
            answer_code(connection, state, 503);
            Tried::Answered
        }
        // That it is there is nobody's business.
        Err(OpenError::Absent | OpenError::Forbidden | OpenError::Wait) => Tried::Absent,
    }
}

/// Answers with a status instead of the file. What was written about the file does not hold for that.
fn answer_code(connection: &Arc<Connection>, state: &mut State, code: u16) {
    state.http.reply.head.clear();
    plain(connection, state, code);
}

fn plain(connection: &Arc<Connection>, state: &mut State, code: u16) {
    session::answer(connection, state, code);
    over(connection, state);
}

/// The answer is out, but for what is queued.
fn over(connection: &Arc<Connection>, state: &mut State) {
    state.http.file_leaves = false;
    state.http.claimed = false;
    if let Some(exchange) = state.exchange.take() {
        exchange.mark_responded();
        connection.server.app.signal(exchange, Signal::Sent);
    }
    connection.settle(state);
}

/// Answers with `file`, or with what the conditions of the request call for.
fn respond(
    connection: &Arc<Connection>,
    state: &mut State,
    file: File,
    description: Description<'_>,
    asked: &Conditions<'_>,
) {
    let etag = file.etag();
    let head = &mut state.http.reply.head;
    // Conditions and ranges are about a 200. User code that has chosen another status means the file as it is.
    let decision = match head.status() {
        200 => decide(asked, &etag, file.modified(), file.size()),
        _ => Decision::Whole,
    };
    match decision {
        Decision::Failed => return answer_code(connection, state, 412),
        Decision::Unsatisfiable => {
            head.clear();
            let _ = head.header(b"Content-Range", format!("bytes */{}", file.size()).as_bytes());
            return plain(connection, state, 416);
        }
        _ => {}
    }
    // None of these can fail but a type or a Cache-Control that is no header value, which is left out. What user code has
    // written counts.
    let modified = imf_fixdate(file.modified());
    let cache_control = description.cache_control.map(str::as_bytes);
    let vary = description.varies.then_some(&b"Accept-Encoding"[..]);
    for (name, value) in [
        (&b"Last-Modified"[..], Some(&modified[..])),
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
        let server = connection.server.config.server_name.as_bytes();
        state.http.reply.end_empty(state.out.tail(), server);
        return over(connection, state);
    }
    if let Some(coding) = description.coding {
        let _ = head.header(b"Content-Encoding", coding.name().as_bytes());
    }
    let _ = head.header(b"Accept-Ranges", b"bytes");
    let own_type = head.wrote(Known::ContentType);
    let mut parts = VecDeque::new();
    match decision {
        Decision::Parts(ranges) => {
            head.replace_status(206);
            let boundary = boundary();
            if !own_type {
                let value = format!("multipart/byteranges; boundary={boundary}");
                let _ = head.header(b"Content-Type", value.as_bytes());
            }
            for (place, range) in ranges.into_iter().enumerate() {
                let start = if place == 0 { "" } else { "\r\n" };
                let mut between = format!("{start}--{boundary}\r\n").into_bytes();
                if let Some(kind) = description.kind {
                    let _ = write!(between, "Content-Type: {kind}\r\n");
                }
                let _ = write!(between, "Content-Range: {}\r\n\r\n", content_range(&range, file.size()));
                parts.extend([Part::Bytes(between), Part::File(range)]);
            }
            parts.push_back(Part::Bytes(format!("\r\n--{boundary}--\r\n").into_bytes()));
        }
        decision => {
            if let (Some(kind), false) = (description.kind, own_type) {
                let _ = head.header(b"Content-Type", kind.as_bytes());
            }
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
    send(connection, state, file, parts);
}

fn content_range(range: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", range.start, range.end - 1)
}

/// A line that stands in no file but by intent: nobody can guess it beforehand.
fn boundary() -> String {
    let random = || RandomState::new().hash_one(0);
    format!("{:016x}{:016x}", random(), random())
}

/// Queues the head and a small file; a larger one goes with whoever flushes.
fn send(connection: &Arc<Connection>, state: &mut State, file: File, mut parts: VecDeque<Part>) {
    let total = parts.iter().map(|part| match part {
        Part::Bytes(bytes) => bytes.len() as u64,
        Part::File(range) => range.end - range.start,
    });
    let total = total.sum();
    let server = connection.server.config.server_name.as_bytes();
    let out = state.out.tail();
    state.http.reply.begin_sized(out, total, server);
    let mute = state.http.reply.is_mute();
    // Complete as far as user code is concerned: nothing more is taken from it.
    state.http.reply.took(total);
    if mute {
        return over(connection, state);
    }
    // A short answer leaves in one piece.
    if let (1, Some(Part::File(range))) = (parts.len(), parts.front())
        && range.end - range.start <= COPIED
    {
        let count = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        match file.read(out, range.start, count, Disk::Cached) {
            Some(copied) if copied < count => return cut(connection, state),
            Some(_) => parts.clear(),
            None => {}
        }
    }
    if parts.is_empty() {
        return over(connection, state);
    }
    // What else the request brings is of no use to anybody.
    state.http.intake.discard();
    state.watch_writable = false;
    if let Some(exchange) = &state.exchange {
        exchange.mark_responded();
    }
    state.http.reply.sent = 0;
    state.http.file_leaves = true;
    state.http.file = Some(Box::new(Body::new(file, parts, state.current)));
}

/// Less was there than was promised: only the end of the connection can say so.
fn cut(connection: &Arc<Connection>, state: &mut State) {
    state.cut = true;
    // The access log sees that it is not whole.
    state.http.file_leaves = true;
    if let Some(exchange) = state.exchange.take() {
        exchange.mark_responded();
        connection.server.app.signal(exchange, Signal::Sent);
    }
    connection.begin_closing(state);
    state.http.file_leaves = false;
    state.http.claimed = false;
}

// ---- through an exchange ------------------------------------------------------------------------------------------------

/// What became of [`Exchange::send_file`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// The answer is complete, or the exchange was over before.
    Done,
    /// [`Signal::Sent`] or [`Signal::Aborted`] will tell.
    UnderWay,
    /// The answer had begun: its head cannot be written any more.
    Begun,
}

impl Exchange {
    /// Answers with the file at `path`: 404 when there is none, 403 when it may not be read. `kind` is its media type.
    pub fn send_file(self: &Arc<Self>, path: PathBuf, kind: Option<Box<str>>) -> Sending {
        match self.current() {
            None if self.is_leaving() => return Sending::UnderWay,
            None => return Sending::Done,
            Some(state) if state.http.reply.is_started() => return Sending::Begun,
            // From here on the answer is the file's, however long the disk takes.
            Some(mut state) => state.http.claimed = true,
        }
        match File::open(&path, Disk::Cached) {
            Err(OpenError::Wait) => {
                let exchange = Arc::clone(self);
                self.server().threads.first().spawn_blocking(move || {
                    let opened = File::open(&path, Disk::Wait).inspect(prime);
                    exchange.send_opened(opened, kind.as_deref());
                });
            }
            opened => self.send_opened(opened, kind.as_deref()),
        }
        if self.is_leaving() { Sending::UnderWay } else { Sending::Done }
    }

    fn send_opened(self: &Arc<Self>, opened: Result<File, OpenError>, kind: Option<&str>) {
        let Some(mut state) = self.claimed() else { return };
        self.begin_as_is(&mut state, false);
        match opened {
            Ok(file) => {
                let asked = Conditions::read(self.method(), self.header_block());
                let description = Description { kind, ..Description::default() };
                respond(self.connection(), &mut state, file, description, &asked);
            }
            Err(error) => {
                let code = match error {
                    OpenError::Forbidden => 403,
                    OpenError::Exhausted => 503,
                    OpenError::Absent | OpenError::Wait => 404,
                };
                answer_code(self.connection(), &mut state, code);
            }
        }
        self.release(state);
    }

    /// Sends what was queued, unless a handler that is running holds it back.
    fn release(&self, state: Locked<'_>) {
        if !state.corked {
            self.connection().flush(state);
        }
    }

    /// Looks for the file on the disk, and answers with it or passes the request on.
    pub(crate) fn find_file(self: &Arc<Self>, state: &mut State, directory: Arc<Directory>) {
        state.http.claimed = true;
        let exchange = Arc::clone(self);
        self.server().threads.first().spawn_blocking(move || {
            let asked = Conditions::read(exchange.method(), exchange.header_block());
            let accepted = asked.accept_encoding.as_deref();
            let found = directory.find(exchange.path(), accepted, Disk::Wait);
            if let Ok(Named::File(file, ..)) = &found {
                prime(file);
            }
            let Some(mut state) = exchange.claimed() else {
                // The client has gone meanwhile: what is kept for the next handler is let go of.
                exchange.server().signal(&exchange, Signal::Sent);
                return;
            };
            let tried = give(exchange.connection(), &mut state, &directory, exchange.named(), &asked, found);
            match tried {
                Tried::Answered => {
                    exchange.release(state);
                }
                Tried::Absent | Tried::Wait => {
                    state.http.claimed = false;
                    exchange.pass(state);
                }
            }
        });
    }

    /// Whether a file is the answer, and is looked for, or on its way.
    pub fn is_leaving(&self) -> bool {
        let state = self.connection().state.lock();
        self.is_served_by(&state)
            && state.exchange.is_some()
            && (state.http.claimed || state.http.file_leaves)
    }

    fn named(&self) -> Target<'_> {
        (self.path(), self.query())
    }
}

/// Has the first bytes in memory.
fn prime(file: &File) {
    let count = usize::try_from(file.size().min(COPIED)).unwrap_or_default();
    file.read(&mut Vec::new(), 0, count, Disk::Wait);
}
