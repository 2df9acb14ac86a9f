//! The rules that a request head can break, one variant each, and the status of the response.

use memchr::{memchr, memchr_iter};

use super::{MAX_METHOD, is_token_byte};

/// The rule a request head breaks. The connection cannot be trusted afterwards: respond and close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request line is not `method SP target SP HTTP/d.d` (RFC 9112 section 3).
    #[error("malformed request line")]
    RequestLine,
    /// The method is longer than any this server knows (RFC 9112 section 3).
    #[error("method longer than {MAX_METHOD} bytes")]
    MethodTooLong,
    /// The target has none of the four forms, or one its method may not use (RFC 9112 section 3.2).
    #[error("malformed request target")]
    Target,
    /// Neither HTTP/1.1 nor HTTP/1.0 (RFC 9110 section 15.6.6).
    #[error("HTTP version not supported")]
    Version,
    /// A line ends in LF without CR (RFC 9112 section 2.2 allows it, but parsers differ there).
    #[error("line feed without carriage return")]
    BareLineFeed,
    /// A header line without a colon, or with a name that is no token (RFC 9110 section 5.1).
    #[error("malformed header name")]
    HeaderName,
    /// A header line begins with whitespace (RFC 9112 section 5.2).
    #[error("folded header line")]
    FoldedLine,
    /// Whitespace between header name and colon (RFC 9112 section 5.1).
    #[error("whitespace before the colon of a header")]
    BlankBeforeColon,
    /// NUL or another control byte in a header value (RFC 9110 section 5.5).
    #[error("control byte in a header value")]
    HeaderValue,
    /// HTTP/1.1 without `Host` (RFC 9112 section 3.2).
    #[error("Host is missing")]
    MissingHost,
    /// More than one `Host` (RFC 9112 section 3.2).
    #[error("more than one Host")]
    DuplicateHost,
    /// `Host` is no host, with or without a port (RFC 9112 section 3.2).
    #[error("malformed Host")]
    InvalidHost,
    /// `Content-Length` beside `Transfer-Encoding` (RFC 9112 section 6.3 item 3).
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndEncoding,
    /// `Content-Length` values that differ (RFC 9112 section 6.3 item 5).
    #[error("Content-Length values differ")]
    ConflictingLengths,
    /// `Content-Length` that is no decimal number below 2^64 (RFC 9110 section 8.6).
    #[error("malformed Content-Length")]
    InvalidLength,
    /// `Transfer-Encoding` that does not end in one `chunked`, or is no list of codings (RFC 9112 section 6.3 item 4).
    #[error("Transfer-Encoding that does not end in chunked, or is malformed")]
    TransferEncoding,
    /// `Transfer-Encoding` with codings besides `chunked` (RFC 9112 section 6.1).
    #[error("Transfer-Encoding with another coding than chunked")]
    UnknownCoding,
    /// `Transfer-Encoding` in HTTP/1.0, which does not define it (RFC 9112 section 6.1).
    #[error("Transfer-Encoding in HTTP/1.0")]
    EncodingInOldVersion,
    /// An expectation other than `100-continue` (RFC 9110 section 10.1.1).
    #[error("unknown expectation")]
    Expectation,
    /// The head is longer than [`max_header_bytes`](super::HeadLimits::max_header_bytes) (RFC 6585 section 5).
    #[error("request head longer than {max} bytes")]
    TooManyBytes {
        /// The limit.
        max: usize,
    },
    /// More header lines than [`max_headers`](super::HeadLimits::max_headers) (RFC 6585 section 5).
    #[error("more than {max} header lines")]
    TooManyHeaders {
        /// The limit.
        max: usize,
    },
}

impl Refusal {
    /// The status code of the response.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Expectation => 417,
            Self::TooManyBytes { .. } | Self::TooManyHeaders { .. } => 431,
            Self::MethodTooLong | Self::UnknownCoding => 501,
            Self::Version => 505,
            _ => 400,
        }
    }
}

/// The rule for an error of `httparse`. Cold: the connection ends here.
#[cold]
pub(super) fn refusal(error: httparse::Error, head: &[u8], max_headers: usize) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::TooManyHeaders { max: max_headers },
        httparse::Error::HeaderValue => Refusal::HeaderValue,
        httparse::Error::HeaderName => malformed_line(head),
        httparse::Error::Version => {
            let line = &head[..memchr(b'\r', head).unwrap_or(head.len())];
            // A second space would shift the version by one byte.
            let spaces = memchr_iter(b' ', line).count();
            match line {
                [.., b' ', b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] if spaces == 2 => {
                    Refusal::Version
                }
                _ => Refusal::RequestLine,
            }
        }
        _ => Refusal::RequestLine,
    }
}

/// The rule that the first header line with a bad name breaks.
fn malformed_line(head: &[u8]) -> Refusal {
    for line in head.split(|&byte| byte == b'\n').skip(1) {
        if let [b' ' | b'\t', ..] = line {
            return Refusal::FoldedLine;
        }
        let name = &line[..memchr(b':', line).unwrap_or(0)];
        match name {
            [.., b' ' | b'\t'] => return Refusal::BlankBeforeColon,
            _ if name.is_empty() || !name.iter().all(|&byte| is_token_byte(byte)) => break,
            _ => {}
        }
    }
    Refusal::HeaderName
}
