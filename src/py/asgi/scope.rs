//! Scopes of requests: a new dict for each, from a template of what all requests of a kind have in common.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::http::list_members;
use crate::http::query::percent_decode;
use crate::py::asgi::Mount;
use crate::py::convert::text;
use crate::server::{Exchange, Local};
use crate::tls::subject;

/// The version of the HTTP messages. From 2.4 on, Starlette does not look for a client that leaves an idle stream.
const HTTP_VERSION: &str = "2.3";
/// The version of the WebSocket messages.
const SOCKET_VERSION: &str = "2.5";

/// What a request speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
    Http2,
}

impl Version {
    fn of(exchange: &Exchange) -> Self {
        match (exchange.is_http2(), exchange.version_minor()) {
            (true, _) => Self::Http2,
            (false, 0) => Self::Http10,
            (false, _) => Self::Http11,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

/// Dicts with the keys that do not depend on the request, by protocol and version.
#[derive(Default)]
pub(super) struct Templates {
    made: Mutex<[[Option<Py<PyDict>>; 3]; 2]>,
}

impl Templates {
    fn copy<'py>(&self, py: Python<'py>, socket: bool, version: Version) -> PyResult<Bound<'py, PyDict>> {
        let found =
            self.made.lock()[usize::from(socket)][version as usize].as_ref().map(|made| made.clone_ref(py));
        if let Some(found) = found {
            return found.bind(py).copy();
        }
        let made = PyDict::new(py);
        // The keys that each request sets hold their places, in a natural order.
        let none = py.None();
        made.set_item(intern!(py, "type"), if socket { "websocket" } else { "http" })?;
        made.set_item(intern!(py, "asgi"), &none)?;
        made.set_item(intern!(py, "http_version"), version.text())?;
        if !socket {
            made.set_item(intern!(py, "method"), &none)?;
        }
        for key in ["scheme", "path", "raw_path", "query_string", "root_path", "headers", "client", "server"]
        {
            made.set_item(PyString::intern(py, key), &none)?;
        }
        if socket {
            made.set_item(intern!(py, "subprotocols"), &none)?;
        }
        made.set_item(intern!(py, "state"), &none)?;
        made.set_item(intern!(py, "extensions"), &none)?;
        let copy = made.copy()?;
        let old = self.made.lock()[usize::from(socket)][version as usize].replace(made.unbind());
        drop(old);
        Ok(copy)
    }
}

impl Mount {
    /// The scope of an HTTP request.
    pub(super) fn http_scope<'py>(
        &self,
        py: Python<'py>,
        exchange: &Exchange,
    ) -> PyResult<Bound<'py, PyDict>> {
        let scope = self.scope(py, exchange, false)?;
        let extensions = PyDict::new(py);
        for name in ["http.response.pathsend", "http.response.early_hint", "http.response.trailers"] {
            extensions.set_item(PyString::intern(py, name), PyDict::new(py))?;
        }
        add_tls(&extensions, exchange)?;
        scope.set_item(intern!(py, "extensions"), extensions)?;
        Ok(scope)
    }

    /// The scope of a WebSocket.
    pub(super) fn socket_scope<'py>(
        &self,
        py: Python<'py>,
        exchange: &Exchange,
    ) -> PyResult<Bound<'py, PyDict>> {
        let scope = self.scope(py, exchange, true)?;
        let offered = exchange.header(b"sec-websocket-protocol").unwrap_or_default();
        let offered = PyList::new(py, list_members(&offered).map(|member| text(py, member)))?;
        scope.set_item(intern!(py, "subprotocols"), offered)?;
        let extensions = PyDict::new(py);
        for name in
            ["websocket.http.response", "websocket.publish", "websocket.subscribe", "websocket.unsubscribe"]
        {
            extensions.set_item(PyString::intern(py, name), PyDict::new(py))?;
        }
        add_tls(&extensions, exchange)?;
        scope.set_item(intern!(py, "extensions"), extensions)?;
        Ok(scope)
    }

    fn scope<'py>(&self, py: Python<'py>, exchange: &Exchange, socket: bool) -> PyResult<Bound<'py, PyDict>> {
        let scope = self.templates.copy(py, socket, Version::of(exchange))?;
        let asgi = PyDict::new(py);
        asgi.set_item(intern!(py, "version"), intern!(py, "3.0"))?;
        let spec = if socket { intern!(py, SOCKET_VERSION) } else { intern!(py, HTTP_VERSION) };
        asgi.set_item(intern!(py, "spec_version"), spec)?;
        scope.set_item(intern!(py, "asgi"), asgi)?;
        if !socket {
            // A WebSocket has none in the specification, and Litestar would look for an HTTP handler by it.
            scope.set_item(intern!(py, "method"), method(py, exchange.method()))?;
        }
        let origin = exchange.origin();
        let secure = match origin.scheme.as_deref() {
            Some(scheme) => scheme == "https" || scheme == "wss",
            None => exchange.secure().is_some(),
        };
        let scheme = match (socket, secure) {
            (false, false) => intern!(py, "http"),
            (false, true) => intern!(py, "https"),
            (true, false) => intern!(py, "ws"),
            (true, true) => intern!(py, "wss"),
        };
        scope.set_item(intern!(py, "scheme"), scheme)?;
        self.set_paths(&scope, exchange)?;
        scope
            .set_item(intern!(py, "query_string"), PyBytes::new(py, exchange.query().unwrap_or_default()))?;
        scope.set_item(intern!(py, "headers"), self.headers.list(py, exchange)?)?;
        scope.set_item(intern!(py, "client"), client(py, exchange.client_of(&origin))?)?;
        scope.set_item(intern!(py, "server"), server(py, exchange.local())?)?;
        // Copied without the lock: that may run user code.
        let state = self.state.read().as_ref().map(|state| state.clone_ref(py));
        let state = state.map(|state| state.bind(py).copy()).transpose()?;
        scope.set_item(intern!(py, "state"), state.unwrap_or_else(|| PyDict::new(py)))?;
        Ok(scope)
    }

    /// `path` and `raw_path`, which begin with the root path, whether the proxy has stripped that or not.
    fn set_paths(&self, scope: &Bound<'_, PyDict>, exchange: &Exchange) -> PyResult<()> {
        let py = scope.py();
        let path = match exchange.path() {
            b"" => b"/",
            path => path,
        };
        let root = self.root_path.read();
        let added = if begins_with(path, &root) || path == b"*" { &b""[..] } else { &**root };
        let raw =
            if added.is_empty() { PyBytes::new(py, path) } else { PyBytes::new(py, &[added, path].concat()) };
        scope.set_item(intern!(py, "root_path"), text(py, &root))?;
        let decoded = percent_decode(raw.as_bytes(), false);
        scope.set_item(intern!(py, "path"), PyString::new(py, &String::from_utf8_lossy(&decoded)))?;
        scope.set_item(intern!(py, "raw_path"), raw)
    }
}

/// What was agreed on in the handshake of TLS (the extension `tls`). The server's own certificate is not told.
fn add_tls(extensions: &Bound<'_, PyDict>, exchange: &Exchange) -> PyResult<()> {
    let Some(secure) = exchange.secure() else { return Ok(()) };
    let py = extensions.py();
    let tls = PyDict::new(py);
    let chain = secure.peer_certificates.iter().map(|certificate| pem(certificate));
    tls.set_item(intern!(py, "server_cert"), py.None())?;
    tls.set_item(intern!(py, "client_cert_chain"), PyList::new(py, chain.collect::<Vec<_>>())?)?;
    let name = secure.peer_certificates.first().and_then(|certificate| subject(certificate));
    tls.set_item(intern!(py, "client_cert_name"), name)?;
    tls.set_item(intern!(py, "client_cert_error"), py.None())?;
    tls.set_item(intern!(py, "tls_version"), secure.version.map(u16::from))?;
    tls.set_item(intern!(py, "cipher_suite"), secure.cipher.map(u16::from))?;
    extensions.set_item(intern!(py, "tls"), tls)
}

/// A certificate as text (RFC 7468).
fn pem(certificate: &[u8]) -> String {
    let mut encoded = vec![0; certificate.len().div_ceil(3) * 4];
    // There is room for all of it.
    let length = STANDARD.encode_slice(certificate, &mut encoded).unwrap_or_default();
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    // Base64 is ASCII.
    for line in encoded[..length].chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// Whether a path begins with the root path, at the end of a segment.
fn begins_with(path: &[u8], root: &[u8]) -> bool {
    path.strip_prefix(root).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
}

/// A method in upper case; the frequent ones are made once.
fn method<'py>(py: Python<'py>, method: &[u8]) -> Bound<'py, PyString> {
    match method {
        b"GET" => intern!(py, "GET").clone(),
        b"POST" => intern!(py, "POST").clone(),
        b"PUT" => intern!(py, "PUT").clone(),
        b"PATCH" => intern!(py, "PATCH").clone(),
        b"DELETE" => intern!(py, "DELETE").clone(),
        b"HEAD" => intern!(py, "HEAD").clone(),
        b"OPTIONS" => intern!(py, "OPTIONS").clone(),
        other => text(py, &other.to_ascii_uppercase()),
    }
}

/// `(host, port)`, or None.
fn client(py: Python<'_>, client: Option<SocketAddr>) -> PyResult<Option<Bound<'_, PyTuple>>> {
    client.map(|client| address(py, client)).transpose()
}

/// `(host, port)` of where the connection was accepted, or `(path, None)` of a Unix socket.
fn server<'py>(py: Python<'py>, local: Local<'_>) -> PyResult<Option<Bound<'py, PyTuple>>> {
    match local {
        Local::Tcp(local) => client(py, local),
        Local::Unix(path) => {
            let path = path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
            Ok(Some((path, py.None()).into_pyobject(py)?))
        }
    }
}

/// An address as text, IPv6 in its short form, an IPv4 address in IPv6 as what it is.
fn address(py: Python<'_>, address: SocketAddr) -> PyResult<Bound<'_, PyTuple>> {
    (address.ip().to_canonical().to_string(), address.port()).into_pyobject(py)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_path_is_found_at_the_end_of_a_segment() {
        assert!(begins_with(b"/api", b"/api") && begins_with(b"/api/x", b"/api") && begins_with(b"/x", b""));
        assert!(!begins_with(b"/apix", b"/api") && !begins_with(b"/", b"/api"));
    }
}
