//! Host names, in registrations and in requests.
//!
//! [`Hosts`] is a table from names to values of any type. It decides which names are equal, and knows nothing
//! of requests: the server looks a `Host` up in it, and TLS a server name.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::Write;
use std::net::Ipv6Addr;

/// Bytes of the longest name (RFC 1035 section 2.3.4: 255 octets on the wire).
const MAX_NAME: usize = 253;
/// Bytes of the longest label.
const MAX_LABEL: usize = 63;

/// Why a name cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "domain {name:?}: {reason}; expected a host name such as example.com, *.example.com, 192.0.2.1 or [::1]"
)]
pub struct HostError {
    /// The refused name.
    pub name: Box<str>,
    /// The rule that it breaks.
    pub reason: &'static str,
}

/// Which labels of a name are `*`. Patterns of one shape differ in their text alone, so a search needs one
/// look-up a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    /// A bit a label, the leftmost the highest: a name that is exact further to the left sorts first.
    wildcards: u128,
    labels: usize,
}

impl Shape {
    fn of(name: &[u8]) -> Self {
        let (mut wildcards, mut labels) = (0, 0);
        for label in name.split(|byte| *byte == b'.') {
            wildcards |= u128::from(label == b"*") << 127 >> labels;
            labels += 1;
        }
        Self { wildcards, labels }
    }
}

/// Values by host name, in which `*` stands for exactly one label. Case and a trailing dot do not matter.
///
/// ```
/// use socketify::router::Hosts;
///
/// let mut hosts = Hosts::new();
/// *hosts.entry("example.com")? = "exact";
/// *hosts.entry("*.example.com")? = "any";
/// assert_eq!(hosts.find(b"Example.COM:8080"), Some(&"exact"));
/// assert_eq!(hosts.find(b"www.example.com."), Some(&"any"));
/// assert_eq!(hosts.find(b"a.b.example.com"), None);
/// # Ok::<(), socketify::router::HostError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Hosts<T> {
    /// By normalised name.
    values: HashMap<Box<[u8]>, T>,
    /// The shapes of those names, each once with the number of names, the more exact first.
    shapes: Vec<(Shape, usize)>,
}

impl<T> Default for Hosts<T> {
    fn default() -> Self {
        Self { values: HashMap::new(), shapes: Vec::new() }
    }
}

impl<T> Hosts<T> {
    /// A table without names.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether no name is registered.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Checks a name to be registered, and returns its normal form, in which hosts of requests are compared.
    pub fn normalise(name: &str) -> Result<Box<[u8]>, HostError> {
        parse(name).map_err(|reason| HostError { name: name.into(), reason })
    }

    /// The value registered under exactly this name, made if there is none.
    ///
    /// An IPv6 address may be given with or without its brackets.
    pub fn entry(&mut self, name: &str) -> Result<&mut T, HostError>
    where
        T: Default,
    {
        let key = Self::normalise(name)?;
        Ok(match self.values.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let shape = Shape::of(entry.key());
                match self.shapes.binary_search_by_key(&shape, |(own, _)| *own) {
                    Ok(place) => self.shapes[place].1 += 1,
                    Err(place) => self.shapes.insert(place, (shape, 1)),
                }
                entry.insert(T::default())
            }
        })
    }

    /// The value registered under exactly this name; `None` also for a name that cannot be registered.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.values.get(&parse(name).ok()?)
    }

    /// The same for a name in the form of [`Self::normalise`]. Allocates nothing.
    pub fn exact(&self, normalised: &[u8]) -> Option<&T> {
        self.values.get(normalised)
    }

    /// Removes the value registered under exactly this name.
    pub fn remove(&mut self, name: &str) -> Option<T> {
        let key = parse(name).ok()?;
        let removed = self.values.remove(&key)?;
        let shape = Shape::of(&key);
        if let Ok(place) = self.shapes.binary_search_by_key(&shape, |(own, _)| *own) {
            self.shapes[place].1 -= 1;
            if self.shapes[place].1 == 0 {
                self.shapes.remove(place);
            }
        }
        Some(removed)
    }

    /// The value for a host, which may have a port: that of its exact name, else that of the pattern which is
    /// exact further to the left. Patterns never match an IP address. Allocates nothing.
    pub fn find(&self, authority: &[u8]) -> Option<&T> {
        let mut buffer = Buffer::default();
        let name = normalise(authority, &mut buffer)?;
        let labels = name.split(|byte| *byte == b'.').count();
        let is_address = is_address(name);
        for (shape, _) in &self.shapes {
            if shape.labels != labels || (is_address && shape.wildcards != 0) {
                continue;
            }
            let found = match shape.wildcards {
                0 => self.values.get(name),
                wildcards => {
                    let mut masked = Buffer::default();
                    self.values.get(mask(name, wildcards, &mut masked))
                }
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

/// Whether the host of an authority is an IP address and no name.
pub fn names_an_address(authority: &[u8]) -> bool {
    normalise(authority, &mut Buffer::default()).is_some_and(is_address)
}

/// The same for a normalised host.
fn is_address(name: &[u8]) -> bool {
    name.starts_with(b"[")
        || name.rsplit(|byte| *byte == b'.').next().is_some_and(|last| last.iter().all(u8::is_ascii_digit))
}

/// Room for one normalised name.
struct Buffer([u8; MAX_NAME]);

impl Default for Buffer {
    fn default() -> Self {
        Self([0; MAX_NAME])
    }
}

/// Lower case, without port and without a trailing dot; `None` for an invalid or too long host.
fn normalise<'b>(authority: &[u8], buffer: &'b mut Buffer) -> Option<&'b [u8]> {
    if let Some(rest) = authority.strip_prefix(b"[") {
        let end = memchr::memchr(b']', rest)?;
        let port = &rest[end + 1..];
        if !port.is_empty() && !is_port(port) {
            return None;
        }
        let address: Ipv6Addr = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
        // One text for each address (RFC 5952).
        let mut free = &mut buffer.0[..];
        write!(free, "[{address}]").ok()?;
        let used = MAX_NAME - free.len();
        return Some(&buffer.0[..used]);
    }
    let colon = memchr::memchr(b':', authority).unwrap_or(authority.len());
    let (host, port) = authority.split_at(colon);
    if !port.is_empty() && !is_port(port) {
        return None;
    }
    let host = host.strip_suffix(b".").unwrap_or(host);
    let room = buffer.0.get_mut(..host.len())?;
    room.copy_from_slice(host);
    room.make_ascii_lowercase();
    (!host.is_empty()).then_some(room)
}

/// `":" port`, which may be empty (RFC 3986 section 3.2.3).
fn is_port(text: &[u8]) -> bool {
    text.split_first().is_some_and(|(colon, digits)| *colon == b':' && digits.iter().all(u8::is_ascii_digit))
}

/// `name` with `*` for the labels that are wildcards in a shape. No registered name has an empty label. An
/// empty label here would make the text longer than the buffer: then nothing matches.
fn mask<'b>(name: &[u8], wildcards: u128, buffer: &'b mut Buffer) -> &'b [u8] {
    let mut used = 0;
    for (place, label) in name.split(|byte| *byte == b'.').enumerate() {
        let is_wildcard = wildcards << place >> 127 == 1;
        let text: &[u8] = if is_wildcard && !label.is_empty() { b"*" } else { label };
        for part in [if place == 0 { &b""[..] } else { b"." }, text] {
            let Some(room) = buffer.0.get_mut(used..used + part.len()) else { return &[] };
            room.copy_from_slice(part);
            used += part.len();
        }
    }
    &buffer.0[..used]
}

/// Checks a name to be registered and returns its normal form, or the broken rule.
fn parse(name: &str) -> Result<Box<[u8]>, &'static str> {
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    if let Ok(address) = bare.parse::<Ipv6Addr>() {
        return Ok(format!("[{address}]").into_bytes().into());
    }
    if name.contains("://") || name.contains('/') {
        return Err("it is an address of a page");
    }
    if name.contains(':') {
        return Err("a domain has no port");
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > MAX_NAME {
        return Err("it is longer than 253 bytes");
    }
    for label in name.split('.') {
        match label.as_bytes() {
            [] => return Err("it has an empty label"),
            b"*" => {}
            bytes if bytes.contains(&b'*') => return Err("a * stands for a whole label"),
            bytes if bytes.len() > MAX_LABEL => return Err("a label is longer than 63 bytes"),
            bytes if !bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte)) => {
                return Err("it has a character that no host name has");
            }
            _ => {}
        }
    }
    Ok(name.to_ascii_lowercase().into_bytes().into())
}
