//! The request head: request line and header lines, up to the empty line.
//!
//! [`parse`] runs once a request, over the session's read buffer, and allocates nothing. A [`Head`] holds
//! offsets into that buffer and the few facts that the session needs: framing, keep-alive, `Expect`,
//! `Upgrade`. Headers are not indexed: most handlers read none or one, so [`HeaderLines`], [`find`] and
//! [`joined`] walk the validated block on demand.
//!
//! `httparse` does the tokenizing. This module refuses the input that it tolerates and RFC 9112 lets a server
//! refuse, with one [`Refusal`] a rule; the caller responds with [`Refusal::status`] and closes.

use std::mem::MaybeUninit;
use std::ops::Range;

use httparse::{Request, Status};
use memchr::{memchr, memchr_iter};

use self::codings::Codings;
use self::refusal::refusal;
use self::target::Target;
use super::{is_token_byte, list_members, trim_blanks};

mod codings;
mod lines;
mod refusal;
mod stream;
mod target;

pub use self::lines::{HeaderLines, find, joined};
pub use self::refusal::Refusal;
pub(crate) use self::target::is_host;

/// The most header lines of a head with any limits: the parser's table lies on the stack.
const MAX_HEADERS: usize = 256;
/// Longer than any registered method. Bounds the bytes that are scanned again each time a byte arrives.
const MAX_METHOD: usize = 64;
/// Empty lines skipped before a request line.
const MAX_EMPTY_LINES: usize = 4;

/// How large a request head may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes up to and including the empty line. Default 64 KiB. Each connection may hold this much before
    /// its request is known. If it is too low, large cookies get 431.
    pub max_header_bytes: usize,
    /// Header lines. Default 100; values above 256 count as 256.
    pub max_headers: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { max_header_bytes: 64 * 1024, max_headers: 100 }
    }
}

/// How the end of the request body is found (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Framing {
    /// No body: neither `Content-Length` nor `Transfer-Encoding`.
    #[default]
    None,
    /// Exactly this many bytes follow.
    Length(u64),
    /// Chunks follow, for [`ChunkedDecoder`](super::chunked::ChunkedDecoder).
    Chunked,
    /// It ends with its stream (RFC 9113 section 8.1). The length is that of `Content-Length`. The reader of
    /// the frames has checked it against the data.
    Stream(Option<u64>),
}

/// A parsed request head. Ranges count from the start of the buffer it was parsed from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Head {
    /// Bytes of the head: skipped empty lines and the closing empty line included. The body starts here.
    pub len: usize,
    /// The method, as sent.
    pub method: Range<u32>,
    /// The whole request target, as sent.
    pub target: Range<u32>,
    /// The routed path: the target without scheme, authority and query; `*`; or the authority of a `CONNECT`.
    pub path: Range<u32>,
    /// The text after the first `?`, if there is one; may be empty.
    pub query: Option<Range<u32>>,
    /// The header lines, each with its CRLF, without the empty line.
    pub headers: Range<u32>,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub version_minor: u8,
    /// Whether the client lets the connection serve another request.
    pub keep_alive: bool,
    /// How the body is framed.
    pub framing: Framing,
    /// The client waits for `100 Continue` before it sends the body. Never set when there is no body.
    pub expect_continue: bool,
    /// `Connection: upgrade` and an `Upgrade` header are both there; or the request is an extended CONNECT
    /// (RFC 8441 section 4).
    pub upgrade: bool,
    /// The request came on a stream of HTTP/2; `version_minor` is 1 then, for handlers.
    pub http2: bool,
}

impl Head {
    /// The method within `buf`, the buffer this head was parsed from.
    pub fn method<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        slice(buf, &self.method)
    }

    /// The whole request target within `buf`.
    pub fn target<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        slice(buf, &self.target)
    }

    /// The path within `buf`; never empty.
    pub fn path<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        slice(buf, &self.path)
    }

    /// The query within `buf`, without its `?`.
    pub fn query<'a>(&self, buf: &'a [u8]) -> Option<&'a [u8]> {
        self.query.as_ref().map(|range| slice(buf, range))
    }

    /// The host of the request, with its port if that was sent: the authority of an absolute-form or
    /// authority-form target, else the `Host` header (RFC 9112 section 3.3).
    pub fn authority<'a>(&self, buf: &'a [u8]) -> Option<&'a [u8]> {
        target::authority(self.method(buf), self.target(buf))
            .or_else(|| find(self.header_block(buf), b"host"))
    }

    /// The header block within `buf`, for [`HeaderLines`], [`find`] and [`joined`].
    pub fn header_block<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        slice(buf, &self.headers)
    }
}

/// Parses the request head at the start of `buf`; `Ok(None)` asks for more bytes.
///
/// ```
/// use socketify::http::head::{HeadLimits, parse};
///
/// let buf = b"GET /user?id=7 HTTP/1.1\r\nHost: example.org\r\n\r\n";
/// let head = parse(buf, &HeadLimits::default())?.expect("it is complete");
/// assert_eq!(head.path(buf), b"/user");
/// assert_eq!(head.query(buf), Some(&b"id=7"[..]));
/// assert!(head.keep_alive);
/// assert_eq!(parse(&buf[..20], &HeadLimits::default())?, None);
/// # Ok::<(), socketify::http::head::Refusal>(())
/// ```
pub fn parse(buf: &[u8], limits: &HeadLimits) -> Result<Option<Head>, Refusal> {
    parse_from(buf, limits, 0)
}

/// [`parse`] for a head that arrives in pieces: `searched` is the length that `buf` had at the last call for
/// the same head, which returned `Ok(None)`. A client that dribbles bytes then costs each byte once, not once
/// a read.
pub fn parse_from(buf: &[u8], limits: &HeadLimits, searched: usize) -> Result<Option<Head>, Refusal> {
    let max = limits.max_header_bytes.min(u32::MAX as usize);
    let window = &buf[..buf.len().min(max)];
    let start = skip_empty_lines(window);
    let fresh = searched.clamp(start, window.len());
    if let Some(end) = find_end(window, start, fresh)? {
        return parse_complete(&window[..end], start, limits).map(Some);
    }
    refuse_early(window, start, fresh)?;
    if window.len() < max { Ok(None) } else { Err(Refusal::TooManyBytes { max }) }
}

/// RFC 9112 section 2.2: a server "SHOULD ignore at least one empty line (CRLF) received prior to the
/// request-line". Some clients send one after a POST body.
fn skip_empty_lines(buf: &[u8]) -> usize {
    2 * buf.chunks(2).take(MAX_EMPTY_LINES).take_while(|pair| pair == b"\r\n").count()
}

/// Finds the end of the empty line, looking at no byte before `fresh` except a line ending that it splits.
/// One walk over the line feeds also checks that none of them is bare, so `httparse`, which accepts either
/// line ending, sees the same lines as any stricter parser.
fn find_end(buf: &[u8], start: usize, fresh: usize) -> Result<Option<usize>, Refusal> {
    for offset in memchr_iter(b'\n', &buf[fresh..]) {
        let line_feed = fresh + offset;
        match &buf[start..line_feed] {
            [.., b'\n', b'\r'] => return Ok(Some(line_feed + 1)),
            [.., b'\r'] => {}
            _ => return Err(Refusal::BareLineFeed),
        }
    }
    Ok(None)
}

/// Refuses input that no further byte can fix, so that a TLS hello or another protocol on this port gets its
/// response at once and does not wait for the header timeout.
fn refuse_early(buf: &[u8], start: usize, fresh: usize) -> Result<(), Refusal> {
    let pending = &buf[start..];
    let method = pending.iter().take(MAX_METHOD + 1).take_while(|&&byte| is_token_byte(byte)).count();
    match pending.get(method) {
        _ if method > MAX_METHOD => return Err(Refusal::MethodTooLong),
        None => return Ok(()),
        // The first half of one more empty line.
        Some(b'\r') if pending.len() == 1 && start < 2 * MAX_EMPTY_LINES => return Ok(()),
        Some(b' ') if method > 0 => {}
        Some(_) => return Err(Refusal::RequestLine),
    }
    let Some(offset) = memchr(b'\n', &buf[fresh..]) else { return Ok(()) };
    if memchr(b'\n', &buf[start..fresh]).is_some() {
        return Ok(()); // the request line was complete, and was checked, before
    }
    let line = &buf[start..=fresh + offset];
    Request::new(&mut []).parse(line).map(drop).map_err(|error| refusal(error, line, 0))
}

/// Parses `buf[start..]`, which is a whole head.
fn parse_complete(buf: &[u8], start: usize, limits: &HeadLimits) -> Result<Head, Refusal> {
    let head = &buf[start..];
    // The parser would skip empty lines beyond the bound, so a head that is refused in pieces would pass as a
    // whole.
    if head.starts_with(b"\r") {
        return Err(Refusal::RequestLine);
    }
    let max_headers = limits.max_headers.min(MAX_HEADERS);
    let mut slots = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = Request::new(&mut []);
    match request.parse_with_uninit_headers(head, &mut slots[..max_headers]) {
        Ok(Status::Complete(len)) if len == head.len() => {}
        // Only possible if the head were only empty lines: the end was found before.
        Ok(_) => return Err(Refusal::RequestLine),
        Err(error) => return Err(refusal(error, head, max_headers)),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(Refusal::RequestLine);
    };
    if method.len() > MAX_METHOD {
        return Err(Refusal::MethodTooLong);
    }
    let split = Target::split(method.as_bytes(), target.as_bytes())?;
    let mut fields = Fields::default();
    for header in &*request.headers {
        fields.read(header.name.as_bytes(), header.value, minor)?;
    }
    // RFC 9112 section 3.2: an HTTP/1.1 request without Host is refused. Section 3.2.2: with absolute-form
    // the authority of the target counts and Host does not, so Host may be missing there.
    if minor == 1 && !fields.host && !split.has_authority {
        return Err(Refusal::MissingHost);
    }
    let framing = fields.framing()?;
    let options = fields.connection;
    let target_start = start + method.len() + 1;
    let target_end = target_start + target.len();
    Ok(Head {
        len: buf.len(),
        method: range(start, target_start - 1),
        target: range(target_start, target_end),
        path: range(target_start + split.path.start, target_start + split.path.end),
        query: split.query.map(|query| range(target_start + query, target_end)),
        headers: range(target_end + " HTTP/1.1\r\n".len(), buf.len() - "\r\n".len()),
        version_minor: minor,
        // RFC 9112 section 9.3: `close` wins; otherwise 1.1 persists, and 1.0 only with `keep-alive`. The
        // bytes after a CONNECT may be meant for the other end of a tunnel, and are no request of that
        // client.
        keep_alive: !options.close && (minor == 1 || options.keep_alive) && method != "CONNECT",
        framing,
        // RFC 9110 section 10.1.1: ignored in HTTP/1.0, and pointless without a body to wait with.
        expect_continue: fields.expect && !matches!(framing, Framing::None | Framing::Length(0)),
        // RFC 9110 section 7.8: Upgrade counts only with its connection option, and never in HTTP/1.0.
        upgrade: minor == 1 && options.upgrade && fields.upgrade,
        http2: false,
    })
}

/// The facts for the session, gathered line by line.
#[derive(Default)]
struct Fields {
    framing: Framing,
    codings: Codings,
    connection: ConnectionOptions,
    host: bool,
    expect: bool,
    upgrade: bool,
}

#[derive(Default, Clone, Copy)]
struct ConnectionOptions {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

impl Fields {
    /// The length of the name nearly always decides, so an ordinary header costs one comparison of numbers.
    fn read(&mut self, name: &[u8], value: &[u8], minor: u8) -> Result<(), Refusal> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.host(value),
            6 if name.eq_ignore_ascii_case(b"expect") && minor == 1 => self.expect(value),
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.upgrade |= !value.is_empty();
                Ok(())
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.connection.read(value);
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(value, minor),
            _ => Ok(()),
        }
    }

    /// RFC 9112 section 3.2: exactly one `Host`, which may be empty.
    fn host(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.host {
            return Err(Refusal::DuplicateHost);
        }
        self.host = true;
        if is_host(value) { Ok(()) } else { Err(Refusal::InvalidHost) }
    }

    fn expect(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if !list_members(value).all(|member| member.eq_ignore_ascii_case(b"100-continue")) {
            return Err(Refusal::Expectation);
        }
        self.expect |= !value.is_empty();
        Ok(())
    }

    /// RFC 9110 section 8.6: repeats, as lines or as a list, are accepted only if all are equal.
    fn content_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.codings.any() {
            return Err(Refusal::LengthAndEncoding);
        }
        for member in value.split(|&byte| byte == b',') {
            let length = parse_decimal(trim_blanks(member)).ok_or(Refusal::InvalidLength)?;
            match self.framing {
                Framing::None => self.framing = Framing::Length(length),
                Framing::Length(earlier) if earlier == length => {}
                _ => return Err(Refusal::ConflictingLengths),
            }
        }
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8], minor: u8) -> Result<(), Refusal> {
        if minor == 0 {
            return Err(Refusal::EncodingInOldVersion);
        }
        if self.framing != Framing::None {
            return Err(Refusal::LengthAndEncoding);
        }
        self.codings.read(value)
    }

    /// How the body is framed, once all lines have been read.
    fn framing(&self) -> Result<Framing, Refusal> {
        Ok(if self.codings.is_chunked()? { Framing::Chunked } else { self.framing })
    }
}

impl ConnectionOptions {
    /// RFC 9110 section 7.6.1: a list of options, compared without regard to case.
    fn read(&mut self, value: &[u8]) {
        for option in list_members(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }
}

/// A decimal number of digits only: no sign, no whitespace, not empty, below 2^64 (RFC 9110 section 8.6).
pub(crate) fn parse_decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Offsets fit: `parse_from` looks at no more than `u32::MAX` bytes.
fn range(start: usize, end: usize) -> Range<u32> {
    u32::try_from(start).unwrap_or(u32::MAX)..u32::try_from(end).unwrap_or(u32::MAX)
}

/// Empty for a buffer that is not the one the head came from, instead of a panic in the session.
fn slice<'a>(buf: &'a [u8], range: &Range<u32>) -> &'a [u8] {
    buf.get(range.start as usize..range.end as usize).unwrap_or_default()
}
