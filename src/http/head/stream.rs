//! The head of a request in HTTP/2 fields, converted to the form of all other heads (RFC 9113 section 8.3).
//!
//! The decoder has checked names and values; this module checks the rules for the message.

use ::http::header::{self, HeaderMap};
use ::http::request::Parts;

use super::target::{Target, is_host};
use super::{Fields, Framing, Head, HeadLimits, MAX_METHOD, Refusal, range};

impl Head {
    /// Writes the request into the empty `out`, and returns its head, whose ranges count from there. `ended`:
    /// no body follows. `extended`: this is an extended CONNECT (RFC 8441 section 4), which has a path.
    ///
    /// Separate cookies are joined (RFC 9113 section 8.2.3), and `:authority` becomes the `Host` line.
    pub fn of_stream(
        parts: &Parts,
        ended: bool,
        extended: bool,
        limits: &HeadLimits,
        out: &mut Vec<u8>,
    ) -> Result<Self, Refusal> {
        let method = parts.method.as_str().as_bytes();
        if method.len() > MAX_METHOD {
            return Err(Refusal::MethodTooLong);
        }
        let max = limits.max_headers;
        // Browsers send each cookie as a field of its own, and they become one line.
        let cookies = parts.headers.get_all(header::COOKIE).iter().count();
        if parts.headers.len() - cookies.saturating_sub(1) > max {
            return Err(Refusal::TooManyHeaders { max });
        }
        out.extend_from_slice(method);
        let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
        let target_start = out.len();
        let path = parts.uri.path_and_query().map(|path| path.as_str().as_bytes());
        let split = if method == b"CONNECT" && !extended {
            let target = authority.unwrap_or_default();
            out.extend_from_slice(target);
            Target::split(method, target)?
        } else {
            let target = path.unwrap_or(b"/");
            out.extend_from_slice(target);
            // Its target is that of a GET; an ordinary CONNECT has an authority instead.
            Target::split(if extended { b"GET" } else { method }, target)?
        };
        // RFC 9113 section 8.3.1: a path, or `*`; the other forms have pseudo-header fields of their own.
        if split.has_authority {
            return Err(Refusal::Target);
        }
        let target_end = out.len();
        let mut fields = Fields::default();
        write_host(authority, &parts.headers, &mut fields, out)?;
        write_lines(&parts.headers, &mut fields, out)?;
        if out.len() > limits.max_header_bytes {
            return Err(Refusal::TooManyBytes { max: limits.max_header_bytes });
        }
        let length = match fields.framing {
            Framing::Length(length) => Some(length),
            _ => None,
        };
        Ok(Self {
            len: out.len(),
            method: range(0, target_start),
            target: range(target_start, target_end),
            path: range(target_start + split.path.start, target_start + split.path.end),
            query: split.query.map(|query| range(target_start + query, target_end)),
            headers: range(target_end, out.len()),
            version_minor: 1,
            // A stream has one request.
            keep_alive: false,
            // The bytes after an extended CONNECT are no body, but the contents of the tunnel.
            framing: if ended || extended { Framing::None } else { Framing::Stream(length) },
            expect_continue: fields.expect && !ended && !extended,
            upgrade: extended,
            http2: true,
        })
    }
}

/// RFC 9113 section 8.3.1: `:authority` replaces `Host`, which may be there as well if it is equal.
fn write_host(
    authority: Option<&[u8]>,
    headers: &HeaderMap,
    fields: &mut Fields,
    out: &mut Vec<u8>,
) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().map(::http::HeaderValue::as_bytes);
    if hosts.next().is_some() {
        return Err(Refusal::DuplicateHost);
    }
    match (authority, host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            return Err(Refusal::DuplicateHost);
        }
        (None, None) => return Err(Refusal::MissingHost),
        _ => {}
    }
    let name = authority.or(host).unwrap_or_default();
    if !is_host(name) {
        return Err(Refusal::InvalidHost);
    }
    fields.host = true;
    line(out, b"host", name);
    Ok(())
}

fn write_lines(headers: &HeaderMap, fields: &mut Fields, out: &mut Vec<u8>) -> Result<(), Refusal> {
    for name in headers.keys() {
        if name == header::HOST {
            continue;
        }
        let mut values = headers.get_all(name).iter();
        if name == header::COOKIE {
            out.extend_from_slice(b"cookie: ");
            for (place, value) in values.enumerate() {
                out.extend_from_slice(if place == 0 { b"" } else { b"; " });
                out.extend_from_slice(value.as_bytes());
            }
            out.extend_from_slice(b"\r\n");
            continue;
        }
        values.try_for_each(|value| {
            fields.read(name.as_str().as_bytes(), value.as_bytes(), 1)?;
            line(out, name.as_str().as_bytes(), value.as_bytes());
            Ok(())
        })?;
    }
    Ok(())
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
