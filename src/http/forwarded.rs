//! The client of a request behind proxies: `Forwarded` (RFC 7239), and the older `X-Forwarded-` headers.
//!
//! Each proxy appends its peer on the right. So only the right end can be trusted, and only as far as trusted
//! proxies wrote it: the walk starts there and goes past trusted hops, up to the first other one. That is the
//! client, and anything to its left is ignored. If the walk meets a hop without an address, the client is
//! unknown.
//!
//! A proxy that writes one of the two families passes the other on from the client. So if both name a client,
//! only the values on which both agree count. If one of them names none, the other counts, except for values
//! that the two contradict. `Forwarded` always has a client: an element without an address is a proxy that
//! hides it.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::http::head::{HeaderLines, is_host};
use crate::http::trust::Trust;
use crate::http::{is_token_byte, list_members, trim_blanks};

/// The values of trusted proxies for a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The client's address; `None` if the proxies do not know it, hide it, or disagree.
    pub address: Option<IpAddr>,
    /// The scheme that the client used, in lower case; `None` if no trusted proxy gives it.
    pub scheme: Option<String>,
    /// The host that the client requested, with its port if it had one; `None` likewise.
    pub host: Option<String>,
}

/// Reads the header lines in `block` of a request from `peer` (`None`: a Unix socket). They count only if
/// `trust` includes it.
pub fn origin(block: &[u8], peer: Option<IpAddr>, trust: &Trust) -> Origin {
    let peer = peer.map(|peer| peer.to_canonical());
    if !trust.includes(peer) {
        return Origin { address: peer, ..Origin::default() };
    }
    let claim = match (standard(block, trust), customary(block, trust)) {
        (None, None) => Claim::default(),
        (Some(claim), None) | (None, Some(claim)) => claim,
        (Some(standard), Some(customary)) => standard.beside(&customary),
    };
    let address = match claim.client {
        Client::Unsaid => peer,
        Client::Unknown => None,
        Client::At(address) => Some(address),
    };
    Origin { address, scheme: claim.scheme, host: claim.host }
}

/// The client in one family of headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Client {
    /// They do not mention it.
    #[default]
    Unsaid,
    /// They give no address.
    Unknown,
    At(IpAddr),
}

/// The values in one family of headers.
#[derive(Default)]
struct Claim {
    client: Client,
    scheme: Option<String>,
    host: Option<String>,
}

impl Claim {
    /// The values of this family that count beside the other; this one mentions a client.
    fn beside(self, other: &Self) -> Self {
        if other.client == Client::Unsaid {
            // Any client can add a line of the other family. It cannot remove values that only this family
            // has, and values that only it has are not trusted.
            let unless_denied = |own: Option<String>, other: &Option<String>| {
                own.filter(|own| other.as_ref().is_none_or(|other| own == other))
            };
            return Self {
                client: self.client,
                scheme: unless_denied(self.scheme, &other.scheme),
                host: unless_denied(self.host, &other.host),
            };
        }
        // Either may come from the client. The client knows its address, so agreement on the address proves
        // nothing else.
        Self {
            client: if self.client == other.client { self.client } else { Client::Unknown },
            scheme: self.scheme.filter(|scheme| Some(scheme) == other.scheme.as_ref()),
            host: self.host.filter(|host| Some(host) == other.host.as_ref()),
        }
    }
}

/// Goes past trusted hops from the right. Returns the client and the number of hops; `None` without hops.
fn walk(hops: impl DoubleEndedIterator<Item = Option<IpAddr>>, trust: &Trust) -> Option<(Client, usize)> {
    let mut found = None;
    for (index, hop) in hops.rev().enumerate() {
        found = Some((hop.map_or(Client::Unknown, Client::At), index + 1));
        if !hop.is_some_and(|hop| trust.includes(Some(hop))) {
            break;
        }
    }
    found
}

// ---- Forwarded ------------------------------------------------------------------------------------------------------

/// One element of `Forwarded`: the observations of one proxy.
#[derive(Default)]
struct Element {
    node: Option<IpAddr>,
    scheme: Option<String>,
    host: Option<String>,
}

fn standard(block: &[u8], trust: &Trust) -> Option<Claim> {
    let mut elements = Vec::new();
    for (_, value) in HeaderLines::new(block).filter(|(name, _)| name.eq_ignore_ascii_case(b"forwarded")) {
        // Each line is parsed alone: a quote that a client leaves open must not swallow a proxy's next line.
        match line(value) {
            Some(found) => elements.extend(found),
            None => elements.push(Element::default()),
        }
    }
    let (client, hops) = walk(elements.iter().map(|element| element.node), trust)?;
    let at = elements.len() - hops;
    let element = elements.swap_remove(at);
    Some(Claim { client, scheme: element.scheme, host: element.host })
}

/// The elements of one line (RFC 7239 section 4); `None` if it is malformed.
fn line(value: &[u8]) -> Option<Vec<Element>> {
    let mut elements = Vec::new();
    let mut rest = value;
    loop {
        let mut element = Element::default();
        let (mut seen_for, mut seen_scheme, mut seen_host, mut empty) = (false, false, false, true);
        let end = loop {
            rest = trim_blanks(rest);
            let name_length = rest.iter().take_while(|byte| is_token_byte(**byte)).count();
            if name_length > 0 {
                empty = false;
                let name = rest[..name_length].to_ascii_lowercase();
                let (content, after) = parameter_value(rest[name_length..].strip_prefix(b"=")?)?;
                rest = trim_blanks(after);
                // "Each parameter MUST NOT occur more than once per field-value" (RFC 7239 section 4).
                let seen = match &name[..] {
                    b"for" => {
                        element.node = node(&content);
                        &mut seen_for
                    }
                    b"proto" => {
                        element.scheme = scheme(&content);
                        &mut seen_scheme
                    }
                    b"host" => {
                        element.host = host(&content);
                        &mut seen_host
                    }
                    _ => &mut false,
                };
                if std::mem::replace(seen, true) {
                    return None;
                }
            }
            match rest {
                [b';', after @ ..] => rest = after,
                [b',', after @ ..] => break Some(after),
                [] => break None,
                _ => return None,
            }
        };
        // An empty member of a list is ignored (RFC 9110 section 5.6.1.2).
        if !empty {
            elements.push(element);
        }
        match end {
            Some(after) => rest = after,
            None => return Some(elements),
        }
    }
}

/// A token or a quoted string at the start of `input`, and the rest (RFC 9110 section 5.6).
fn parameter_value(input: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let Some(quoted) = input.strip_prefix(b"\"") else {
        // Addresses with a colon or brackets have to be quoted, but some proxies omit the quotes. They
        // contain no separators.
        let length = input.iter().take_while(|byte| is_token_byte(**byte) || b":[]".contains(byte)).count();
        return (length > 0).then(|| (Cow::Borrowed(&input[..length]), &input[length..]));
    };
    let mut content = Vec::new();
    let mut bytes = quoted.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some((Cow::Owned(content), &quoted[at + 1..])),
            b'\\' => content.push(*bytes.next()?.1),
            byte => content.push(*byte),
        }
    }
    None
}

/// The address of a node (RFC 7239 section 6); `None` for `unknown`, for an obfuscated identifier and for an
/// invalid node.
fn node(value: &[u8]) -> Option<IpAddr> {
    let value = std::str::from_utf8(value).ok()?;
    let (address, port): (IpAddr, _) = if let Some(rest) = value.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        (address.parse::<Ipv6Addr>().ok()?.into(), port)
    } else {
        let (address, port) = value.split_at(value.find(':').unwrap_or(value.len()));
        (address.parse::<Ipv4Addr>().ok()?.into(), port)
    };
    (port.is_empty() || is_port(port.strip_prefix(':')?)).then(|| address.to_canonical())
}

/// A port, or an obfuscated one.
fn is_port(port: &str) -> bool {
    match port.strip_prefix('_') {
        Some(hidden) => {
            !hidden.is_empty()
                && hidden.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        }
        None => (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// The name of a URI scheme in lower case (RFC 3986 section 3.1). Some proxies send that of the WebSocket,
/// `wss`. The request itself is HTTP (RFC 9110 section 4.2, RFC 6455 section 3), as in `Forwarded`: `proto`
/// is as in `X-Forwarded-Proto` and `Host` (RFC 7239 section 5.4).
fn scheme(value: &[u8]) -> Option<String> {
    let valid = value.first().is_some_and(u8::is_ascii_alphabetic)
        && value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
    text(value).filter(|_| valid).map(|scheme| match scheme.to_ascii_lowercase().as_str() {
        "ws" => "http".to_owned(),
        "wss" => "https".to_owned(),
        other => other.to_owned(),
    })
}

/// A valid value of a `Host` header, from which it came.
fn host(value: &[u8]) -> Option<String> {
    text(value).filter(|host| !host.is_empty() && is_host(value))
}

fn text(value: &[u8]) -> Option<String> {
    std::str::from_utf8(value).ok().map(str::to_owned)
}

// ---- X-Forwarded- ---------------------------------------------------------------------------------------------------

fn customary(block: &[u8], trust: &Trust) -> Option<Claim> {
    let members = |name: &[u8]| -> Vec<&[u8]> {
        let lines = HeaderLines::new(block).filter(|(found, _)| found.eq_ignore_ascii_case(name));
        lines.flat_map(|(_, value)| list_members(value)).collect()
    };
    let (hops, schemes, hosts) =
        (members(b"x-forwarded-for"), members(b"x-forwarded-proto"), members(b"x-forwarded-host"));
    if hops.is_empty() && schemes.is_empty() && hosts.is_empty() {
        return None;
    }
    let found = walk(hops.iter().map(|hop| customary_node(hop)), trust);
    // Most proxies set these once, at the client's entry. Those that append do so as with the addresses.
    let place = found.map_or(1, |(_, hops)| hops);
    let said_of_client = |values: &[&[u8]]| match values {
        [only] => Some(only.to_vec()),
        _ => values.len().checked_sub(place).and_then(|at| values.get(at)).map(|value| value.to_vec()),
    };
    Some(Claim {
        client: found.map_or(Client::Unsaid, |(client, _)| client),
        scheme: said_of_client(&schemes).and_then(|value| scheme(&value)),
        host: said_of_client(&hosts).and_then(|value| host(&value)),
    })
}

/// As [`node`], and also IPv6 without brackets, as most proxies write it.
fn customary_node(value: &[u8]) -> Option<IpAddr> {
    let bare = || std::str::from_utf8(value).ok()?.parse::<Ipv6Addr>().ok();
    node(value).or_else(|| bare().map(|address| IpAddr::V6(address).to_canonical()))
}

#[cfg(test)]
mod tests;
