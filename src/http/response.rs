//! The response head: the application's headers, and the framing that the session adds.
//!
//! [`ResponseHead`] buffers the status and the user's headers until the first byte of the body is due, so a
//! status set after a header still counts (A-RES-20). Headers are kept in wire form in one buffer and copied
//! out whole. Framing belongs to the session: a `Content-Length` of the user is remembered,
//! `Transfer-Encoding` is dropped, and [`ResponseHead::write_to`] writes the one that fits the body.

mod coding;
mod lasting;
mod stream;

use std::fmt;

pub use self::lasting::Lasting;
use super::head::parse_decimal;
use super::{is_token_byte, list_members, status, trim_blanks};

/// The facts of a request that decide the framing of its response.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// The method was `HEAD`: the response has the head of `GET`, and no body.
    pub head_request: bool,
    /// The request was HTTP/1.0: no chunks, and persistence must be stated.
    pub http10: bool,
}

/// How the body that follows is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// `end_without_body`: nothing follows.
    Empty,
    /// Exactly this many bytes follow; for `HEAD`, would follow.
    Sized(u64),
    /// Chunks follow. To an HTTP/1.0 client this counts as [`BodyKind::UntilClose`].
    Chunked,
    /// The body ends with the connection (RFC 9112 section 6.3 item 8).
    UntilClose,
}

/// The headers the session would write itself, unless the user did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Known {
    /// `Content-Length`; see [`ResponseHead::declared_length`].
    ContentLength = 1,
    /// `Transfer-Encoding`; dropped.
    TransferEncoding = 1 << 1,
    /// `Connection`; `close` becomes [`ResponseHead::wants_close`].
    Connection = 1 << 2,
    /// `Date`.
    Date = 1 << 3,
    /// `Server`.
    Server = 1 << 4,
    /// `Content-Type`.
    ContentType = 1 << 5,
}

impl Known {
    fn of(name: &[u8]) -> Option<Self> {
        let (expected, known): (&[u8], _) = match name.len() {
            4 => (b"date", Self::Date),
            6 => (b"server", Self::Server),
            10 => (b"connection", Self::Connection),
            12 => (b"content-type", Self::ContentType),
            14 => (b"content-length", Self::ContentLength),
            17 => (b"transfer-encoding", Self::TransferEncoding),
            _ => return None,
        };
        name.eq_ignore_ascii_case(expected).then_some(known)
    }
}

/// A byte that would end a line, and so let a value inject headers (RFC 9110 section 5.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineBreaker {
    /// `\r`
    CarriageReturn,
    /// `\n`
    LineFeed,
    /// `\0`
    Nul,
    /// Another control character except the tab: clients do not accept it over HTTP/2.
    Control,
}

impl LineBreaker {
    fn find(bytes: &[u8]) -> Option<Self> {
        memchr::memchr3(b'\r', b'\n', 0, bytes).map(|at| match bytes[at] {
            b'\r' => Self::CarriageReturn,
            b'\n' => Self::LineFeed,
            _ => Self::Nul,
        })
    }
}

impl fmt::Display for LineBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CarriageReturn => "a carriage return",
            Self::LineFeed => "a line feed",
            Self::Nul => "a NUL byte",
            Self::Control => "a control character, which HTTP/2 does not carry",
        })
    }
}

/// An application's invalid input for a response head.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// RFC 9110 section 15: a status code has three digits, the first of them not 0.
    #[error("status code {code} is not in 100..=999")]
    StatusCode {
        /// The code given.
        code: u16,
    },
    /// RFC 9112 section 4: a status is three digits, a space and a phrase.
    #[error("status {text:?} does not begin with a code in 100..=999 and a space")]
    StatusText {
        /// The text given.
        text: Box<str>,
    },
    /// A status text that would break its line.
    #[error("status contains {found}")]
    StatusBreaksLine {
        /// The offending byte.
        found: LineBreaker,
    },
    /// RFC 9110 section 5.1: a header name is a token.
    #[error("{name:?} is not a valid header name")]
    Name {
        /// The name given.
        name: Box<str>,
    },
    /// RFC 9110 section 5.5: a header value stays on its line.
    #[error("value of header {name:?} contains {found}")]
    Value {
        /// The header.
        name: Box<str>,
        /// The offending byte.
        found: LineBreaker,
    },
    /// RFC 9110 section 8.6: `Content-Length` is a decimal number.
    #[error("Content-Length {value:?} is not a decimal number below 2^64")]
    Length {
        /// The value given.
        value: Box<str>,
    },
    /// RFC 9110 section 8.6: there is one length.
    #[error("Content-Length {second} given after {first}")]
    LengthTwice {
        /// The length declared earlier.
        first: u64,
        /// The one that differs.
        second: u64,
    },
}

/// The status the application chose.
#[derive(Debug, Clone, Default)]
enum StatusLine {
    /// No status chosen: 200.
    #[default]
    Implicit,
    /// Chosen by number; the phrase comes from the table.
    Code(u16),
    /// Chosen as text, sent verbatim; it begins with `code`.
    Text { code: u16, text: Box<[u8]> },
}

/// A response head under construction. Empty, and without an allocation, until the first write.
///
/// ```
/// use socketify::http::response::{BodyKind, RequestInfo, ResponseHead};
///
/// let mut head = ResponseHead::default();
/// head.header(b"Content-Type", b"text/plain")?;
/// head.set_status(201)?;
/// let mut out = Vec::new();
/// let date = b"Sun, 06 Nov 1994 08:49:37 GMT";
/// head.write_to(&mut out, RequestInfo::default(), BodyKind::Sized(2), date, b"socketify", true);
/// assert_eq!(
///     out,
///     b"HTTP/1.1 201 Created\r\nContent-Type: text/plain\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
///       Server: socketify\r\nContent-Length: 2\r\n\r\n"
/// );
/// # Ok::<(), socketify::http::response::HeadError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ResponseHead {
    status: StatusLine,
    /// The user's headers in call order, each as `name: value CRLF`.
    fields: Vec<u8>,
    /// The user's `Content-Length`.
    declared: Option<u64>,
    /// Bits of [`Known`] the user wrote.
    written: u8,
    /// The user wrote `Connection: close`.
    close: bool,
}

impl ResponseHead {
    /// Chooses the status by number. The first explicit status wins; a later one is checked and ignored.
    pub fn set_status(&mut self, code: u16) -> Result<(), HeadError> {
        if !(100..=999).contains(&code) {
            return Err(HeadError::StatusCode { code });
        }
        self.choose(|| StatusLine::Code(code));
        Ok(())
    }

    /// Chooses the status as text, `200 OK` or `299 Custom`, sent verbatim. A bare code counts as its number.
    pub fn set_status_text(&mut self, text: &[u8]) -> Result<(), HeadError> {
        if let Some(found) = LineBreaker::find(text) {
            return Err(HeadError::StatusBreaksLine { found });
        }
        let number =
            |digits: [u8; 3]| digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
        match *text {
            [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => self.set_status(number([a, b, c])),
            [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b' ', ..] => {
                self.choose(|| StatusLine::Text { code: number([a, b, c]), text: text.into() });
                Ok(())
            }
            _ => Err(HeadError::StatusText { text: lossy(text) }),
        }
    }

    /// Sets 101, in place of an earlier status: the written headers go with the change of protocols.
    pub fn switch_protocols(&mut self) {
        self.status = StatusLine::Code(101);
    }

    /// Sets a status in place of an earlier one, which belongs to another response of the application.
    pub(crate) fn replace_status(&mut self, code: u16) {
        self.status = StatusLine::Code(code);
    }

    /// Whether the user wrote a header of that name.
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        super::head::find(&self.fields, name).is_some()
    }

    fn choose(&mut self, status: impl FnOnce() -> StatusLine) {
        if let StatusLine::Implicit = self.status {
            self.status = status();
        }
    }

    /// Appends a header. Repeats are kept, in call order. `Content-Length`, `Transfer-Encoding` and the
    /// options `close` and `keep-alive` of `Connection` are not copied but obeyed: see the module.
    pub fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        if name.is_empty() || !name.iter().all(|&byte| is_token_byte(byte)) {
            return Err(HeadError::Name { name: lossy(name) });
        }
        if let Some(found) = LineBreaker::find(value) {
            return Err(HeadError::Value { name: lossy(name), found });
        }
        let known = Known::of(name);
        match known {
            Some(Known::ContentLength) => self.declare_length(value)?,
            Some(Known::TransferEncoding) => {}
            Some(Known::Connection) => self.connection(name, value),
            Some(Known::Date | Known::Server | Known::ContentType) | None => self.append(name, &[value]),
        }
        self.written |= known.map_or(0, |known| known as u8);
        Ok(())
    }

    fn declare_length(&mut self, value: &[u8]) -> Result<(), HeadError> {
        let second =
            parse_decimal(trim_blanks(value)).ok_or_else(|| HeadError::Length { value: lossy(value) })?;
        match self.declared {
            Some(first) if first != second => Err(HeadError::LengthTwice { first, second }),
            _ => {
                self.declared = Some(second);
                Ok(())
            }
        }
    }

    /// The session decides whether the connection persists; `Upgrade` and other options pass.
    fn connection(&mut self, name: &[u8], value: &[u8]) {
        let mut others = Vec::new();
        for option in list_members(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if !option.eq_ignore_ascii_case(b"keep-alive") {
                others.extend([if others.is_empty() { &b""[..] } else { b", " }, option]);
            }
        }
        if !others.is_empty() {
            self.append(name, &others);
        }
    }

    /// The header lines alone.
    pub(crate) fn into_lines(self) -> Box<[u8]> {
        self.fields.into()
    }

    /// Appends header lines, each with its CRLF, that are known to be valid.
    pub(crate) fn append_lines(&mut self, lines: &[u8]) {
        self.fields.extend_from_slice(lines);
    }

    fn append(&mut self, name: &[u8], value: &[&[u8]]) {
        self.fields.reserve(name.len() + value.iter().map(|part| part.len()).sum::<usize>() + ": \r\n".len());
        self.fields.extend_from_slice(name);
        self.fields.extend_from_slice(b": ");
        for part in value {
            self.fields.extend_from_slice(part);
        }
        self.fields.extend_from_slice(b"\r\n");
    }

    /// Appends the header lines to `out` as an interim 103 (RFC 8297 section 2).
    pub(crate) fn write_hints(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\n");
        out.extend_from_slice(&self.fields);
        out.extend_from_slice(b"\r\n");
    }

    /// The present status code.
    pub const fn status(&self) -> u16 {
        match self.status {
            StatusLine::Implicit => 200,
            StatusLine::Code(code) | StatusLine::Text { code, .. } => code,
        }
    }

    /// Whether the user wrote `known`.
    pub const fn wrote(&self, known: Known) -> bool {
        self.written & known as u8 != 0
    }

    /// The user's `Content-Length`.
    pub const fn declared_length(&self) -> Option<u64> {
        self.declared
    }

    /// Whether the user wrote `Connection: close`. The session then closes after the response.
    pub const fn wants_close(&self) -> bool {
        self.close
    }

    /// Whether bytes may follow the head: never after `HEAD`, 1xx, 204 and 304 (RFC 9112 section 6.3 item 1),
    /// nor after 205 (RFC 9110 section 15.3.6).
    pub const fn body_allowed(&self, head_request: bool) -> bool {
        !head_request && !matches!(self.status(), 100..=199 | 204 | 205 | 304)
    }

    /// The framing of a body whose end is not known yet: the declared length, else chunks, which HTTP/1.0
    /// does not have (RFC 9112 section 6.1).
    pub const fn stream_kind(&self, request: RequestInfo) -> BodyKind {
        match self.declared {
            Some(length) => BodyKind::Sized(length),
            None if request.http10 => BodyKind::UntilClose,
            None => BodyKind::Chunked,
        }
    }

    /// Clears everything but the buffer, for the next response.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }

    /// Appends the head to `out` in the order of B-HT-23: status line, the user's headers, `Date`, `Server`,
    /// framing, `Connection`, empty line. An empty `date` or `server` writes no such header. `keep_alive` is
    /// the session's intention. The session must close anyway if [`Self::wants_close`] or if `body` ends with
    /// the connection, and the head says so.
    pub fn write_to(
        &self,
        out: &mut Vec<u8>,
        request: RequestInfo,
        body: BodyKind,
        date: &[u8],
        server: &[u8],
        keep_alive: bool,
    ) {
        out.reserve(self.fields.len() + date.len() + server.len() + 192);
        self.write_status(out);
        out.extend_from_slice(&self.fields);
        if !date.is_empty() && !self.wrote(Known::Date) {
            write_field(out, b"Date: ", date);
        }
        if !server.is_empty() && !self.wrote(Known::Server) {
            write_field(out, b"Server: ", server);
        }
        let body = if request.http10 && body == BodyKind::Chunked { BodyKind::UntilClose } else { body };
        self.write_framing(out, request.head_request, body);
        let ends = body == BodyKind::UntilClose && self.body_allowed(request.head_request);
        let persists = keep_alive && !self.close && !ends;
        // A 1xx response is followed by another on the same connection, or by another protocol.
        if !matches!(self.status(), 100..=199) {
            // RFC 9112 section 9.3: HTTP/1.1 persists by default, HTTP/1.0 does not.
            match (persists, request.http10) {
                (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
                (true, true) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
                (true, false) => {}
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    fn write_status(&self, out: &mut Vec<u8>) {
        match &self.status {
            StatusLine::Implicit | StatusLine::Code(200) => out.extend_from_slice(b"HTTP/1.1 200 OK\r\n"),
            StatusLine::Code(code) => {
                out.extend_from_slice(b"HTTP/1.1 ");
                out.extend_from_slice(itoa::Buffer::new().format(*code).as_bytes());
                // RFC 9112 section 4: the space stays even if no phrase follows.
                out.push(b' ');
                out.extend_from_slice(status::reason(*code).unwrap_or_default().as_bytes());
                out.extend_from_slice(b"\r\n");
            }
            StatusLine::Text { text, .. } => write_field(out, b"HTTP/1.1 ", text),
        }
    }

    fn write_framing(&self, out: &mut Vec<u8>, head_request: bool, body: BodyKind) {
        let chunks = body == BodyKind::Chunked
            && !matches!(self.status(), 100..=199 | 204 | 205 | 304)
            && !(head_request && self.declared.is_some());
        if chunks {
            return out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        if let Some(length) = self.length_of(head_request, body) {
            write_field(out, b"Content-Length: ", itoa::Buffer::new().format(length).as_bytes());
        }
    }

    /// The `Content-Length` that goes with `body`, if any does.
    fn length_of(&self, head_request: bool, body: BodyKind) -> Option<u64> {
        match (self.status(), body) {
            // RFC 9112 section 6.1 and RFC 9110 section 8.6: neither header in 1xx and 204.
            (100..=199 | 204, _) => None,
            // RFC 9110 section 8.6: 304 may give the length of the corresponding 200. Only the user knows it.
            (304, _) => self.declared,
            // RFC 9110 section 15.3.6: 205 has no content, and the framing has to say so.
            (205, _) => Some(0),
            // RFC 9110 section 8.6: only the length of the GET response. Without a body only the user knows
            // it.
            (_, BodyKind::Empty) if head_request => Some(self.declared.unwrap_or_default()),
            (_, BodyKind::Empty) => Some(0),
            (_, BodyKind::Sized(length)) => Some(length),
            (_, BodyKind::Chunked | BodyKind::UntilClose) => None,
        }
    }
}

/// Writes one line; `start` carries its own separator.
fn write_field(out: &mut Vec<u8>, start: &[u8], rest: &[u8]) {
    out.extend_from_slice(start);
    out.extend_from_slice(rest);
    out.extend_from_slice(b"\r\n");
}

/// For error messages only.
fn lossy(bytes: &[u8]) -> Box<str> {
    String::from_utf8_lossy(bytes).into()
}
