//! The request target: its four forms, and the path and query in it (RFC 9112 section 3.2).

use std::net::Ipv6Addr;
use std::ops::Range;

use memchr::{memchr, memchr2, memrchr};

use super::Refusal;

/// The parts of a request target, as offsets into it.
pub(super) struct Target {
    pub(super) path: Range<usize>,
    /// Where the query starts, behind the `?`; it ends with the target.
    pub(super) query: Option<usize>,
    /// The target names the host itself.
    pub(super) has_authority: bool,
}

impl Target {
    /// Splits `target` by the forms `method` may use.
    pub(super) fn split(method: &[u8], target: &[u8]) -> Result<Self, Refusal> {
        // RFC 9112 section 3.2.3: CONNECT takes authority-form, with its port, and nothing else.
        if method == b"CONNECT" {
            return match memrchr(b':', target).map(|colon| target.split_at(colon)) {
                Some((host, [_, port @ ..]))
                    if is_host(target)
                        && !host.is_empty()
                        && !port.is_empty()
                        && port.iter().all(u8::is_ascii_digit) =>
                {
                    Ok(Self { path: 0..target.len(), query: None, has_authority: false })
                }
                _ => Err(Refusal::Target),
            };
        }
        // RFC 9112 section 3.2: no form of the target has a fragment.
        if memchr(b'#', target).is_some() {
            return Err(Refusal::Target);
        }
        match target {
            [b'/', ..] => Ok(Self::at_path(target, 0, false)),
            // RFC 9112 section 3.2.4: asterisk-form is for OPTIONS only.
            b"*" if method == b"OPTIONS" => Ok(Self { path: 0..1, query: None, has_authority: false }),
            _ => Self::absolute(target),
        }
    }

    /// RFC 9112 section 3.2.2: a server must accept absolute-form, though clients send it only to proxies.
    fn absolute(target: &[u8]) -> Result<Self, Refusal> {
        let has_scheme = |scheme: &[u8]| {
            target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        };
        let scheme = [&b"http://"[..], b"https://"].into_iter().find(|scheme| has_scheme(scheme));
        let authority_start = scheme.ok_or(Refusal::Target)?.len();
        let rest = &target[authority_start..];
        let authority = &rest[..memchr2(b'/', b'?', rest).unwrap_or(rest.len())];
        // RFC 9110 section 4.2.1: an empty host is invalid; section 4.2.4: so is user information, here by
        // its `@`.
        if matches!(authority, [] | [b':', ..]) || !is_host(authority) {
            return Err(Refusal::Target);
        }
        let end = authority_start + authority.len();
        if target.get(end) == Some(&b'/') {
            return Ok(Self::at_path(target, end, true));
        }
        // RFC 9110 section 4.2.3: an empty path is `/`. A range needs a `/` to point at: the one before the
        // authority.
        let path = authority_start - 1..authority_start;
        Ok(Self { path, query: (end < target.len()).then_some(end + 1), has_authority: true })
    }

    fn at_path(target: &[u8], start: usize, has_authority: bool) -> Self {
        let mark = memchr(b'?', &target[start..]).map(|offset| start + offset);
        Self { path: start..mark.unwrap_or(target.len()), query: mark.map(|mark| mark + 1), has_authority }
    }
}

/// The authority in a target that was split before, if its form has one.
pub(super) fn authority<'a>(method: &[u8], target: &'a [u8]) -> Option<&'a [u8]> {
    match target {
        _ if method == b"CONNECT" => Some(target),
        [b'/' | b'*', ..] => None,
        _ => {
            let start = memchr(b':', target)? + "://".len();
            let rest = target.get(start..)?;
            Some(&rest[..memchr2(b'/', b'?', rest).unwrap_or(rest.len())])
        }
    }
}

/// Whether it is `uri-host [ ":" port ]` (RFC 3986 section 3.2.2): a name, which may be empty, or an address; the port has digits
/// only, or none.
pub(crate) fn is_host(value: &[u8]) -> bool {
    let mut at = match value {
        [b'[', literal @ ..] => match memchr(b']', literal) {
            Some(end) if is_literal(&literal[..end]) => return is_port(&literal[end + 1..]),
            _ => return false,
        },
        _ => 0,
    };
    while let Some(&byte) = value.get(at) {
        at += match byte {
            b':' => return is_port(&value[at..]),
            b'%' if value[at..].iter().skip(1).take(2).filter(|byte| byte.is_ascii_hexdigit()).count()
                == 2 =>
            {
                3
            }
            byte if is_name_byte(byte) => 1,
            _ => return false,
        };
    }
    true
}

/// Unreserved characters and sub-delimiters.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'.' | b'-' | b'_' | b'~')
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

/// Whether the text may follow a host.
fn is_port(rest: &[u8]) -> bool {
    matches!(rest, [] | [b':', ..]) && rest.iter().skip(1).all(u8::is_ascii_digit)
}

/// Whether the text may stand in brackets: an address of IPv6, or of a future version.
fn is_literal(value: &[u8]) -> bool {
    if let [b'v' | b'V', rest @ ..] = value {
        let dot = memchr(b'.', rest).unwrap_or_default();
        return dot > 0
            && rest[..dot].iter().all(u8::is_ascii_hexdigit)
            && rest.len() > dot + 1
            && rest[dot + 1..].iter().all(|&byte| byte == b':' || is_name_byte(byte));
    }
    std::str::from_utf8(value).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}
