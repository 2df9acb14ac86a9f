//! HTTP/1.1 on bytes: request heads in, response heads out, and the bodies between.
//!
//! Everything here is pure: no socket, no clock but the `Date` cache, no runtime, no Python. The session owns
//! the buffers and calls these modules, which interpret bytes or choose the bytes to send.
//!
//! - [`head`]: a request head, parsed strictly and once or built from the fields of HTTP/2, and lazy reading
//!   of its lines;
//! - [`chunked`]: the chunked transfer coding, both ways;
//! - [`response`]: a response head collected in wire form, and its framing;
//! - [`encoding`]: content codings of responses: negotiation and encoders;
//! - [`forwarded`]: the client of a request behind proxies, its scheme and its host;
//! - [`trust`]: which proxies are trusted;
//! - [`status`]: reason phrases;
//! - [`query`]: percent-decoding and query strings;
//! - [`location`]: the `Location` header;
//! - [`form`]: urlencoded forms within limits;
//! - [`cookies`]: the `Cookie` header;
//! - [`date`]: the `Date` header, formatted once a second.
//!
//! Where RFC 9112 lets a server be lenient, this one refuses: request smuggling needs two parsers that
//! disagree about the end of a message (RFC 9112 section 11.2).

pub mod chunked;
pub mod cookies;
pub mod cors;
pub mod date;
pub mod encoding;
pub mod form;
pub mod forwarded;
pub mod head;
pub mod location;
pub mod query;
pub mod response;
pub mod status;
pub mod trust;

/// Whether `byte` may stand in a token, the syntax of methods and header names (RFC 9110 section 5.6.2).
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
        || byte.is_ascii_alphanumeric()
}

/// The members of a comma-separated list without the whitespace around them. Empty members are skipped, as
/// RFC 9110 section 5.6.1.2 requires of recipients.
pub(crate) fn list_members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim_blanks).filter(|member| !member.is_empty())
}

/// Cuts optional whitespace, space and tab only, from both ends (RFC 9110 section 5.6.3).
pub(crate) fn trim_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}
