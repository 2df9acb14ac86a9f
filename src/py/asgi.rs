//! ASGI 3: the front of applications that take `(scope, receive, send)`.
//!
//! A request becomes one object, [`http::HttpCall`] or [`socket::SocketCall`], whose bound methods are the application's
//! `receive` and `send`. The package starts a task for it on the loop's thread. What is ready is answered without a turn of the
//! loop; what has to wait waits on a future of the application's loop.

mod awaitable;
mod burst;
mod headers;
mod http;
mod message;
mod scope;
mod socket;
mod waits;

use std::sync::Arc;

use parking_lot::RwLock;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::py::asgi::headers::HeaderCache;
use crate::py::asgi::scope::Templates;
use crate::py::bridge::PyApp;
use crate::py::calling::{call, report};
use crate::py::handlers::{Front, Handler};
use crate::server::Exchange;

pub(crate) use self::awaitable::{Done, Pending};
pub(crate) use self::http::HttpCall;
pub(crate) use self::socket::{Accepted, SocketCall};
pub(super) use self::waits::Waits;

/// See [`PyApp::send_kept_heads`].
pub(super) fn send_kept_head(exchange: &Exchange, all: bool) -> bool {
    http::Http::send_kept_head(exchange, all)
}

/// What the requests of an ASGI application have in common.
#[derive(Default)]
pub(super) struct Mount {
    /// Without a slash at its end; empty for none.
    root_path: RwLock<Box<[u8]>>,
    /// The state of the lifespan, of which each request gets a copy.
    state: RwLock<Option<Py<PyDict>>>,
    templates: Templates,
    headers: HeaderCache,
}

impl Mount {
    pub(super) fn set_root_path(&self, path: &str) {
        *self.root_path.write() = path.trim_end_matches('/').as_bytes().into();
    }

    pub(super) fn set_state(&self, state: Option<Py<PyDict>>) {
        let old = std::mem::replace(&mut *self.state.write(), state);
        drop(old);
    }

    /// The state of the lifespan, for the garbage collector. `None` also while another thread holds the lock: then it is in use.
    pub(super) fn visited(&self) -> Option<parking_lot::RwLockReadGuard<'_, Option<Py<PyDict>>>> {
        self.state.try_read()
    }
}

impl PyApp {
    /// Starts the task of a request. `handler` starts it, and has the application as its context.
    pub(super) fn serve_asgi(&self, py: Python<'_>, exchange: &Arc<Exchange>, handler: &Handler) {
        let socket = handler.front == Front::AsgiSocket;
        let made = if socket {
            SocketCall::new(py, exchange).map(Py::into_any)
        } else {
            HttpCall::new(py, exchange).map(Py::into_any)
        };
        let served = match made {
            Ok(served) => served,
            // No memory: a response is impossible, and the client sees the connection end.
            Err(error) => {
                report(py, error, None);
                exchange.close();
                exchange.end_work();
                return;
            }
        };
        let scope =
            if socket { self.asgi.socket_scope(py, exchange) } else { self.asgi.http_scope(py, exchange) };
        let started = scope.and_then(|scope| {
            let _context = self.scope(py)?;
            let none = py.None();
            let application = handler.context.as_ref().unwrap_or(&none);
            call(handler.callable.bind(py), [application.bind(py), scope.as_any(), served.bind(py)])
        });
        // What was made is dropped, and that is what answers.
        if let Err(error) = started {
            report(py, error, None);
        }
    }
}
