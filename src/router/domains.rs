//! One router for each domain, and one for all others (name-based virtual hosts).

use super::{HostError, Hosts, Router};

/// The routers of a server. A request to a host with a router is routed there alone, and never by the default
/// one, so that nothing of one site shows up at another.
///
/// ```
/// use socketify::router::{Domains, Kind};
///
/// let mut domains = Domains::default();
/// domains.router_mut(None)?.insert(Kind::any(), "/", "default").unwrap();
/// domains.router_mut(Some("api.example.com"))?.insert(Kind::any(), "/v1", "api").unwrap();
/// let find = |host: &'static str, path: &str| {
///     let router = domains.select(|| Some(host.as_bytes()));
///     router.find(b"GET", path.as_bytes()).map(|found| *found.value)
/// };
/// assert_eq!(find("example.com", "/"), Some("default"));
/// assert_eq!(find("API.example.com:8080", "/v1"), Some("api"));
/// assert_eq!(find("api.example.com", "/"), None);
/// # Ok::<(), socketify::router::HostError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Domains<T> {
    default: Router<T>,
    hosts: Hosts<Router<T>>,
}

impl<T> Default for Domains<T> {
    fn default() -> Self {
        Self::from(Router::new())
    }
}

impl<T> From<Router<T>> for Domains<T> {
    /// One router for all hosts.
    fn from(default: Router<T>) -> Self {
        Self { default, hosts: Hosts::new() }
    }
}

impl<T> Domains<T> {
    /// The router of a domain, made if there is none, or the default one.
    pub fn router_mut(&mut self, domain: Option<&str>) -> Result<&mut Router<T>, HostError> {
        match domain {
            None => Ok(&mut self.default),
            Some(name) => self.hosts.entry(name),
        }
    }

    /// The router registered under exactly this name, in the form of [`Hosts::normalise`].
    pub fn named(&self, name: &str) -> Option<&Router<T>> {
        self.hosts.exact(name.as_bytes())
    }

    /// Removes the router of exactly this name; whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        self.hosts.remove(name).is_some()
    }

    /// The router for a request; `authority` gives its host, with or without a port. It is called only if
    /// there are domains.
    pub fn select<'a>(&self, authority: impl FnOnce() -> Option<&'a [u8]>) -> &Router<T> {
        if self.hosts.is_empty() {
            return &self.default;
        }
        authority().and_then(|authority| self.hosts.find(authority)).unwrap_or(&self.default)
    }
}
