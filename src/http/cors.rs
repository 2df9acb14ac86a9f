//! Cross-origin resource sharing: the headers that a server adds (Fetch standard, section 3.3, CORS
//! protocol), and the response to a preflight.

use std::fmt;
use std::sync::Arc;

use super::head::{self, Head};
use super::response::{HeadError, ResponseHead};
use super::{is_token_byte, list_members};
use crate::router::{Kind, Live, PatternError, Router};

/// The header that overrides all lines of a policy if a handler writes it.
pub const NAME: &[u8] = b"Access-Control-Allow-Origin";

/// An origin with one `*`, which stands for labels of a host name, or for a port.
#[derive(Debug, Clone)]
pub struct Wildcard {
    /// The text before it.
    pub before: Box<[u8]>,
    /// The text after it.
    pub after: Box<[u8]>,
}

impl Wildcard {
    fn allows(&self, origin: &[u8]) -> bool {
        origin
            .strip_prefix(&*self.before)
            .and_then(|rest| rest.strip_suffix(&*self.after))
            .is_some_and(|star| !star.is_empty() && star.iter().all(|&byte| is_host_byte(byte)))
    }
}

/// Which origins may read responses, and which requests they may send.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// Every origin, without credentials.
    pub any: bool,
    /// Origins as browsers send them: scheme, host and port.
    pub origins: Vec<Box<[u8]>>,
    /// Origins with one `*`.
    pub wildcards: Vec<Wildcard>,
    /// Methods that a preflight allows. If empty, it allows the requested one.
    pub methods: Vec<Box<[u8]>>,
    /// Headers that a preflight allows. If `None`, it allows the requested ones.
    pub headers: Option<Box<[u8]>>,
    /// Headers that scripts may read.
    pub expose: Box<[u8]>,
    /// Whether requests may carry credentials, such as cookies.
    pub credentials: bool,
    /// Seconds for which browsers may remember a preflight.
    pub max_age: u32,
    /// Whether pages of public sites may reach a server in a private network.
    pub private_network: bool,
}

/// The policies of a server by pattern of path, which may change while it runs. Most servers have none.
#[derive(Clone, Default)]
pub struct Policies(Arc<Live<Router<Arc<Policy>>>>);

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Policies").field(&self.0.load().len()).finish()
    }
}

impl Policies {
    /// Sets the policy for all paths of a pattern, in place of an earlier one.
    pub fn insert(&self, pattern: &str, policy: &Arc<Policy>) -> Result<(), PatternError> {
        self.0.change(|router| router.insert(Kind::any(), pattern, Arc::clone(policy))).map(drop)
    }

    /// The verdict of the policy for this request's path; `None` without a policy.
    pub fn judge(&self, head: &Head, bytes: &[u8]) -> Option<Verdict> {
        let router = self.0.load();
        if router.is_empty() {
            return None;
        }
        let found = router.find(head.method(bytes), head.path(bytes))?;
        // It writes only headers that were checked before, or were received as headers.
        found.value.judge(head, bytes).ok()
    }
}

/// The verdict of a policy on one request.
#[derive(Debug)]
pub enum Verdict {
    /// These header lines go with the response.
    Lines(Box<[u8]>),
    /// The request is a preflight, and this is its response.
    Preflight(ResponseHead),
}

impl Policy {
    /// Whether pages of `origin` may read responses. Origins are compared byte for byte, as the standard
    /// requires.
    pub fn allows(&self, origin: &[u8]) -> bool {
        self.any
            || self.origins.iter().any(|own| **own == *origin)
            || self.wildcards.iter().any(|own| own.allows(origin))
    }

    /// The verdict on the request whose head is in `bytes`.
    pub fn judge(&self, head: &Head, bytes: &[u8]) -> Result<Verdict, HeadError> {
        let value = |name: &[u8]| head::joined(head.header_block(bytes), name);
        let origin = value(b"origin");
        let method = value(b"access-control-request-method");
        if let (b"OPTIONS", Some(origin), Some(method)) = (head.method(bytes), &origin, &method) {
            let headers = value(b"access-control-request-headers");
            let private = value(b"access-control-request-private-network").is_some();
            return Ok(Verdict::Preflight(self.preflight(origin, method, headers.as_deref(), private)?));
        }
        Ok(Verdict::Lines(self.lines(origin.as_deref())))
    }

    /// The header lines for a request that comes from a page of `origin`.
    pub fn lines(&self, origin: Option<&[u8]>) -> Box<[u8]> {
        let mut lines = Vec::new();
        let mut line = |name: &[u8], value: &[u8]| {
            lines.extend_from_slice(name);
            lines.extend_from_slice(b": ");
            lines.extend_from_slice(value);
            lines.extend_from_slice(b"\r\n");
        };
        if !self.any {
            // Without it a cache would give one origin's response to another.
            line(b"Vary", b"Origin");
        }
        let allowed = if self.any { Some(&b"*"[..]) } else { origin.filter(|origin| self.allows(origin)) };
        if let Some(allowed) = allowed {
            line(NAME, allowed);
            if self.credentials {
                line(b"Access-Control-Allow-Credentials", b"true");
            }
            if !self.expose.is_empty() {
                line(b"Access-Control-Expose-Headers", &self.expose);
            }
        }
        lines.into()
    }

    fn preflight(
        &self,
        origin: &[u8],
        method: &[u8],
        headers: Option<&[u8]>,
        private: bool,
    ) -> Result<ResponseHead, HeadError> {
        let mut head = ResponseHead::default();
        head.header(b"Vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers")?;
        if !self.allows(origin) || !method.iter().all(|&byte| is_token_byte(byte)) {
            head.set_status(403)?;
            return Ok(head);
        }
        head.set_status(204)?;
        head.header(NAME, if self.any { b"*" } else { origin })?;
        if self.credentials {
            head.header(b"Access-Control-Allow-Credentials", b"true")?;
        }
        let methods = self.methods.join(&b", "[..]);
        head.header(b"Access-Control-Allow-Methods", if methods.is_empty() { method } else { &methods })?;
        match (&self.headers, headers) {
            (Some(own), _) if !own.is_empty() => head.header(b"Access-Control-Allow-Headers", own)?,
            (None, Some(asked))
                if list_members(asked).all(|name| name.iter().all(|&byte| is_token_byte(byte))) =>
            {
                head.header(b"Access-Control-Allow-Headers", asked)?;
            }
            _ => {}
        }
        if private && self.private_network {
            head.header(b"Access-Control-Allow-Private-Network", b"true")?;
        }
        head.header(b"Access-Control-Max-Age", self.max_age.to_string().as_bytes())?;
        Ok(head)
    }
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(origins: &[&str], wildcards: &[(&str, &str)]) -> Policy {
        let boxed = |text: &str| Box::<[u8]>::from(text.as_bytes());
        Policy {
            origins: origins.iter().map(|origin| boxed(origin)).collect(),
            wildcards: wildcards
                .iter()
                .map(|(before, after)| Wildcard { before: boxed(before), after: boxed(after) })
                .collect(),
            ..Policy::default()
        }
    }

    #[test]
    fn origins_are_compared_exactly() {
        let policy = policy(&["https://a.example"], &[]);
        for (origin, allowed) in [
            ("https://a.example", true),
            ("http://a.example", false),
            ("https://a.example:443", false),
            ("https://A.example", false),
            ("https://a.example.evil", false),
            ("https://xa.example", false),
            ("null", false),
            ("", false),
        ] {
            assert_eq!(policy.allows(origin.as_bytes()), allowed, "{origin}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_labels_alone() {
        let policy = policy(&[], &[("https://", ".a.example")]);
        for (origin, allowed) in [
            ("https://b.a.example", true),
            ("https://c.b.a.example", true),
            ("https://.a.example", false),
            ("https://a.example", false),
            ("https://evil.example/.a.example", false),
            ("https://evil.example#.a.example", false),
            ("https://evil@x.a.example", false),
            ("https://evil:1.a.example", false),
            ("http://b.a.example", false),
        ] {
            assert_eq!(policy.allows(origin.as_bytes()), allowed, "{origin}");
        }
    }

    #[test]
    fn nobody_is_told_what_others_may() {
        let policy = policy(&["https://a.example"], &[]);
        assert_eq!(&*policy.lines(Some(b"https://b.example")), b"Vary: Origin\r\n");
        assert_eq!(&*policy.lines(None), b"Vary: Origin\r\n");
        assert_eq!(
            &*policy.lines(Some(b"https://a.example")),
            b"Vary: Origin\r\nAccess-Control-Allow-Origin: https://a.example\r\n"
        );
    }
}
