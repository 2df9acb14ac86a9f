//! `environ`: a dict for each request, from a template with what all requests share.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::http::forwarded::Origin;
use crate::http::query::percent_decode;
use crate::py::wsgi::early_hints::EarlyHints;
use crate::py::wsgi::input::{Body, Input};
use crate::py::wsgi::names::Names;
use crate::py::wsgi::text::native;
use crate::server::{Exchange, Local};

/// The name and the port of the server, as text.
struct Place {
    address: SocketAddr,
    name: Py<PyString>,
    port: Py<PyString>,
}

/// What all requests share.
pub(super) struct Template {
    base: Py<PyDict>,
    /// The prefix of paths that is `SCRIPT_NAME`: empty, or with a slash before and none behind.
    root: Box<[u8]>,
    /// Where the last request came in: most servers have one address.
    place: Mutex<Option<Arc<Place>>>,
}

impl Template {
    /// `base` has what does not depend on the request.
    pub(super) fn new(py: Python<'_>, base: &Bound<'_, PyDict>, root: &str) -> PyResult<Self> {
        let base = base.copy()?;
        base.set_item("SCRIPT_NAME", native(py, root.as_bytes())?)?;
        Ok(Self { base: base.unbind(), root: root.as_bytes().into(), place: Mutex::new(None) })
    }

    pub(super) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.base)
    }

    /// The dict of a request.
    pub(super) fn environ<'py>(
        &self,
        py: Python<'py>,
        exchange: &Arc<Exchange>,
        body: Body,
    ) -> PyResult<Bound<'py, PyDict>> {
        let environ = self.base.bind(py).copy()?;
        let method = match exchange.method() {
            b"GET" => intern!(py, "GET").clone(),
            b"POST" => intern!(py, "POST").clone(),
            other => native(py, other)?,
        };
        environ.set_item(intern!(py, "REQUEST_METHOD"), method)?;
        environ.set_item(intern!(py, "PATH_INFO"), self.path(py, exchange.path())?)?;
        environ.set_item(intern!(py, "QUERY_STRING"), native(py, exchange.query().unwrap_or_default())?)?;
        let target = native(py, exchange.target())?;
        environ.set_item(intern!(py, "REQUEST_URI"), &target)?;
        environ.set_item(intern!(py, "RAW_URI"), target)?;
        let protocol = match (exchange.is_http2(), exchange.version_minor()) {
            (true, _) => intern!(py, "HTTP/2"),
            (false, 0) => intern!(py, "HTTP/1.0"),
            (false, _) => intern!(py, "HTTP/1.1"),
        };
        environ.set_item(intern!(py, "SERVER_PROTOCOL"), protocol)?;
        headers(py, exchange, &environ)?;
        let origin = exchange.origin();
        let secure = scheme(py, exchange, &origin, &environ)?;
        client(py, exchange, &origin, &environ)?;
        self.server(py, exchange, &environ, secure)?;
        let length = body.length();
        if length > 0 {
            environ.set_item(intern!(py, "CONTENT_LENGTH"), itoa::Buffer::new().format(length))?;
        }
        environ.set_item(intern!(py, "wsgi.input"), Bound::new(py, Input::new(body, exchange))?)?;
        environ.set_item(intern!(py, "wsgi.early_hints"), Bound::new(py, EarlyHints::new(exchange))?)?;
        Ok(environ)
    }

    /// `PATH_INFO`: without the root path, if the path begins with it.
    fn path<'py>(&self, py: Python<'py>, path: &[u8]) -> PyResult<Bound<'py, PyString>> {
        let path = percent_decode(path, false);
        let below = path.strip_prefix(&*self.root).filter(|rest| matches!(rest, [] | [b'/', ..]));
        match below.unwrap_or(&path) {
            b"" if self.root.is_empty() => Ok(intern!(py, "/").clone()),
            path => native(py, path),
        }
    }

    /// `SERVER_NAME` and `SERVER_PORT`.
    fn server(
        &self,
        py: Python<'_>,
        exchange: &Exchange,
        environ: &Bound<'_, PyDict>,
        secure: bool,
    ) -> PyResult<()> {
        let (name_key, port_key) = (intern!(py, "SERVER_NAME"), intern!(py, "SERVER_PORT"));
        if let Local::Tcp(Some(address)) = exchange.local() {
            let place = self.place(py, address);
            environ.set_item(name_key, &place.name)?;
            return environ.set_item(port_key, &place.port);
        }
        let authority = exchange.authority().unwrap_or_default();
        let (name, port) = split(authority);
        let name: &[u8] = if name.is_empty() { b"localhost" } else { name };
        let port: &[u8] = match port {
            b"" if secure => b"443",
            b"" => b"80",
            port => port,
        };
        environ.set_item(name_key, native(py, name)?)?;
        environ.set_item(port_key, native(py, port)?)
    }

    fn place(&self, py: Python<'_>, address: SocketAddr) -> Arc<Place> {
        let known = self.place.lock().clone();
        if let Some(place) = known.filter(|place| place.address == address) {
            return place;
        }
        let name = PyString::new(py, &address.ip().to_canonical().to_string()).unbind();
        let port = PyString::new(py, itoa::Buffer::new().format(address.port())).unbind();
        let place = Arc::new(Place { address, name, port });
        let old = self.place.lock().replace(Arc::clone(&place));
        drop(old);
        place
    }
}

/// Host and port of an authority; the port may be missing.
fn split(authority: &[u8]) -> (&[u8], &[u8]) {
    let colon = authority.iter().rposition(|byte| *byte == b':');
    match colon.map(|colon| authority.split_at(colon)) {
        Some((host, port)) if port[1..].iter().all(u8::is_ascii_digit) => (host, &port[1..]),
        _ => (authority, b""),
    }
}

/// The headers. One whose name has an underscore could pass for another, and is left out.
fn headers(py: Python<'_>, exchange: &Exchange, environ: &Bound<'_, PyDict>) -> PyResult<()> {
    let names = Names::get(py);
    for (name, value) in exchange.headers() {
        let key = match name.len() {
            12 if name.eq_ignore_ascii_case(b"content-type") => intern!(py, "CONTENT_TYPE").clone(),
            // That of the body is set with it.
            14 if name.eq_ignore_ascii_case(b"content-length") => continue,
            // The body is decoded.
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => continue,
            _ if name.contains(&b'_') => continue,
            _ => names.key(py, name),
        };
        add(py, environ, key, name, value)?;
    }
    // The target of the request goes before its header (RFC 9112 section 3.2.2); over HTTP/2 the authority may be the only one.
    let host = intern!(py, "HTTP_HOST");
    if let Some(authority) = exchange.authority()
        && (!matches!(exchange.target(), [b'/', ..] | b"*") || !environ.contains(host)?)
    {
        environ.set_item(host, native(py, authority)?)?;
    }
    Ok(())
}

/// Adds a header; a repeated one to the value before.
fn add<'py>(
    py: Python<'py>,
    environ: &Bound<'py, PyDict>,
    key: Bound<'py, PyString>,
    name: &[u8],
    value: &[u8],
) -> PyResult<()> {
    let value = native(py, value)?;
    // The template has only a `CONTENT_TYPE`, which is empty.
    let before = environ.get_item(&key)?.and_then(|before| before.cast_into::<PyString>().ok());
    match before.map(|before| before.to_string_lossy().into_owned()).filter(|before| !before.is_empty()) {
        None => environ.set_item(key, value),
        Some(mut all) => {
            all.push_str(if name.eq_ignore_ascii_case(b"cookie") { "; " } else { "," });
            all.push_str(&value.to_string_lossy());
            environ.set_item(key, all)
        }
    }
}

/// The scheme, as trusted proxies have it. True if it is `https`.
fn scheme(
    py: Python<'_>,
    exchange: &Exchange,
    origin: &Origin,
    environ: &Bound<'_, PyDict>,
) -> PyResult<bool> {
    let scheme =
        origin.scheme.as_deref().unwrap_or(if exchange.secure().is_some() { "https" } else { "http" });
    let secure = scheme == "https";
    let text = match scheme {
        "http" => intern!(py, "http").clone(),
        "https" => intern!(py, "https").clone(),
        other => PyString::new(py, other),
    };
    environ.set_item(intern!(py, "wsgi.url_scheme"), text)?;
    if secure {
        environ.set_item(intern!(py, "HTTPS"), intern!(py, "on"))?;
    }
    Ok(secure)
}

/// `REMOTE_ADDR` and `REMOTE_PORT`, as trusted proxies have them.
fn client(py: Python<'_>, exchange: &Exchange, origin: &Origin, environ: &Bound<'_, PyDict>) -> PyResult<()> {
    let (address, port) = match (exchange.client_of(origin), exchange.local()) {
        (Some(client), _) => (client.ip().to_canonical().to_string(), client.port()),
        // As it has always been: applications take the address for granted.
        (None, Local::Unix(_)) => ("127.0.0.1".to_owned(), 0),
        // A proxy hides its client: that is nobody on this machine.
        (None, Local::Tcp(_)) => (String::new(), 0),
    };
    environ.set_item(intern!(py, "REMOTE_ADDR"), address)?;
    environ.set_item(intern!(py, "REMOTE_PORT"), itoa::Buffer::new().format(port))
}
