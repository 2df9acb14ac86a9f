//! `socketify._core`: the extension module. Only this file and its folder know Python.

mod access_log;
mod asgi;
mod body;
mod bridge;
mod calling;
mod calls;
mod classes;
mod compression;
mod contexts;
mod convert;
mod cors;
mod door;
mod forms;
mod futures;
mod handlers;
mod listeners;
mod message;
mod options;
mod outgoing;
mod request;
mod response;
mod server;
mod sockets;
mod threads;
mod tls;
mod websocket;
mod wsgi;

/// The core of socketify. Use the classes of the package `socketify` instead.
#[pyo3::pymodule(name = "_core")]
mod core {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::{
        asgi::Done, asgi::HttpCall, asgi::Pending, asgi::SocketCall, body::Body, cors::CorsPolicy,
        forms::FormParser, request::Request, response::Response, server::Server, websocket::WebSocket,
        wsgi::FileWrapper, wsgi::Gateway,
    };

    #[pymodule_export]
    use super::{door::bind_door, forms::parse_cookies};

    /// Version of the core, which is that of the package.
    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("DEFAULTS", super::options::defaults(module.py())?)
    }
}
