//! Files as answers: opened where nothing waits for a disk, and sent by the kernel from its own memory.
//!
//! A small file is copied behind the head, so that the answer leaves in one piece; a larger one goes from the page cache to
//! the socket (`sendfile`). Whatever would wait for the disk is done on tokio's blocking threads
//! instead, and the answer goes on when it is in memory. While a file leaves, its exchange is over for user code, and
//! the connection stays busy: the next request begins when the last byte is out.

mod sending;

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::app::Signal;
use crate::files::conditions::{self, Conditions, Decision, Validators, decide};
use crate::files::types::Told;
use crate::files::{Directory, Disk, File, Named, OpenError};
use crate::http::date;
use crate::http::encoding::Coding;
use crate::http::location;
use crate::http::response::{Known, ResponseHead};
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
    /// What the name tells of the content, unless user code has given a `Content-Type`.
    pub(crate) told: Told<'a>,
    /// `Cache-Control`.
    pub(crate) cache_control: Option<&'a str>,
    /// `Content-Encoding` of what stands beside the file and is sent in its place.
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
    // What a file is asked for with is thrown away, but not without end.
    let answers = matches!(found, Ok(_) | Err(OpenError::Exhausted));
    if answers && !session::admit(connection, state, connection.server.config.max_body_size) {
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
            respond(connection, state, file, description, asked);
            Tried::Answered
        }
        Ok(Named::WithoutSlash) => {
            // Relative, so that it holds behind whatever proxy: the last segment again, with the slash.
            let last = target.0.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            let mark: &[u8] = if target.1.is_some() { b"?" } else { b"" };
            let location = [b"./", last, b"/", mark, target.1.unwrap_or_default()].concat();
            state.http.reply.head.clear();
            let _ = state.http.reply.head.header(b"Location", &location::encoded(&location));
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
        exchange.leave();
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
    let modified = file.modified().map(|then| date::imf_fixdate(then.min(date::second())));
    let head = &mut state.http.reply.head;
    // Conditions and ranges are about a 200. User code that has chosen another status means the file as it is.
    let decision = match head.status() {
        200 => decide(asked, &validators(head, &file, etag.as_bytes()), file.size()),
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
        let server = connection.server.config.server_header.as_bytes();
        state.http.reply.end_empty(state.out.tail(), server);
        return over(connection, state);
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
    send(connection, state, file, parts);
}

/// What the answer will say of the file's state. What user code has written counts: it is what a client will ask with.
fn validators<'a>(head: &'a ResponseHead, file: &File, etag: &'a [u8]) -> Validators<'a> {
    let etag = head.field(b"etag").unwrap_or(etag);
    match head.field(b"last-modified") {
        Some(given) => Validators { etag, modified: conditions::date(given), is_dated: false },
        None => Validators { etag, modified: file.modified(), is_dated: file.is_dated() },
    }
}

/// Says what the bytes are, and the coding they are in. What user code has written counts.
fn describe(head: &mut ResponseHead, description: &Description<'_>) {
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

/// Several ranges as one body (RFC 9110 section 14.6). Its type is the answer's; that of the file, whoever has given it, is
/// said of each part.
fn in_parts(head: &mut ResponseHead, ranges: Vec<Range<u64>>, size: u64) -> VecDeque<Part> {
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
    let server = connection.server.config.server_header.as_bytes();
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
    if !state.http.intake.is_complete() {
        // The task may have left the socket alone because nobody took what had come.
        connection.wake();
    }
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
        exchange.leave();
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
    /// Answers with the file at `path`: 404 when there is none, 403 when it may not be read. `kind` is the media type
    /// of its content, and `coding` what that is compressed with.
    pub fn send_file(
        self: &Arc<Self>,
        path: PathBuf,
        kind: Option<Box<str>>,
        coding: Option<Box<str>>,
    ) -> Sending {
        match self.current() {
            None if self.is_leaving() => return Sending::UnderWay,
            None => return Sending::Done,
            Some(state) if state.http.reply.is_started() => return Sending::Begun,
            // From here on the answer is the file's, however long the disk takes.
            Some(mut state) => state.http.claimed = true,
        }
        match File::open(&path, Disk::Cached) {
            Err(OpenError::Wait) => {
                let exchange = Arc::downgrade(self);
                let asked = self.server().on_disk(move || {
                    // Nobody waits for it when the client has gone.
                    if exchange.strong_count() == 0 {
                        return;
                    }
                    let opened = File::open(&path, Disk::Wait).inspect(prime);
                    if let Some(exchange) = exchange.upgrade() {
                        exchange.send_opened(opened, &path, kind.as_deref(), coding.as_deref());
                    }
                });
                if !asked {
                    self.send_opened(Err(OpenError::Exhausted), Path::new(""), None, None);
                }
            }
            opened => self.send_opened(opened, &path, kind.as_deref(), coding.as_deref()),
        }
        if self.is_leaving() { Sending::UnderWay } else { Sending::Done }
    }

    fn send_opened(
        self: &Arc<Self>,
        opened: Result<File, OpenError>,
        path: &Path,
        kind: Option<&str>,
        coding: Option<&str>,
    ) {
        let Some(mut state) = self.claimed() else { return };
        self.begin_as_is(&mut state);
        match opened {
            Ok(file) => {
                let asked = Conditions::read(self.method(), self.header_block());
                let told = Told::new(&path.to_string_lossy(), kind, coding);
                let description = Description { told, ..Description::default() };
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
        let exchange = Arc::downgrade(self);
        let asked = self.server().on_disk(move || {
            let Some(exchange) = exchange.upgrade() else { return };
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
        if !asked {
            answer_code(self.connection(), state, 503);
        }
    }

    /// Whether a file is the answer, and is looked for, or on its way.
    pub fn is_leaving(&self) -> bool {
        if self.server().is_abandoned() {
            return false;
        }
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
