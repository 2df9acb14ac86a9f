//! WSGI (PEP 3333): an application as a callable `(environ, start_response)` that returns an iterable of bytes.
//!
//! It is called on the I/O thread that holds the turn, as a `def` handler is, and without an event loop: its code may begin one.
//! With several threads the turn gives the request to a thread of the application's own. In either case the body is there before,
//! unless it is long, and one thread sees the request through until the iterable has been closed.

mod early_hints;
mod environ;
mod file_wrapper;
mod gateway;
mod input;
mod names;
mod result;
mod spool;
mod start_response;
mod text;
mod threads;
mod waits;

pub(crate) use self::file_wrapper::FileWrapper;
pub(crate) use self::gateway::Gateway;
pub(crate) use self::threads::Pool;
pub(crate) use self::waits::Waits;

use std::sync::Arc;

use pyo3::exceptions::{PyAttributeError, PyOSError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::http::head::Framing;
use crate::http::response::ResponseHead;
use crate::py::bridge::PyApp;
use crate::py::calling::{attribute, call, report};
use crate::py::wsgi::input::Body;
use crate::py::wsgi::start_response::StartResponse;
use crate::server::Exchange;

impl PyApp {
    /// Runs a request, or has its body read before that. The caller counts the work.
    pub(super) fn serve_wsgi(&self, py: Python<'_>, exchange: &Arc<Exchange>, handler: &Bound<'_, PyAny>) {
        let Ok(gateway) = handler.cast::<Gateway>() else { return exchange.close() };
        let declared = match exchange.framing() {
            Framing::None | Framing::Length(0) => return self.run_wsgi(py, exchange, gateway, Body::Empty),
            Framing::Length(length) | Framing::Stream(Some(length)) => Some(length),
            Framing::Chunked | Framing::Stream(None) => None,
        };
        if let Some(length) = declared.filter(|length| *length > exchange.body_buffer() as u64) {
            return self.run_wsgi(py, exchange, gateway, Body::Live(length));
        }
        if let Some(body) = exchange.take_complete() {
            return self.run_wsgi(py, exchange, gateway, Body::Memory(body));
        }
        if let Some(waits) = Waits::of(exchange) {
            waits.gather(gateway.get().number());
            // If the exchange is over, there is nobody to serve.
            if declared.is_some() {
                exchange.read_whole()
            } else {
                exchange.read_pieces()
            };
        }
    }

    /// A piece of a body has come that is read before the call.
    pub(super) fn gather_wsgi(&self, py: Python<'_>, exchange: &Arc<Exchange>) {
        let Some(waits) = Waits::existing(exchange) else { return };
        let Some((number, mut spool)) = waits.take_gathered() else { return };
        let Some((piece, last)) = exchange.take_body() else { return };
        let gathered = py.detach(|| {
            spool.add(&piece)?;
            if last { spool.finish().map(Ok) } else { Ok(Err(spool)) }
        });
        let gateway = self.gateway(py, number);
        match (gathered, gateway) {
            (Ok(Ok(body)), Some(gateway)) => self.run_wsgi(py, exchange, gateway.bind(py), body),
            (Ok(Err(spool)), Some(_)) => {
                waits.put_back(number, spool);
                exchange.resume_body();
            }
            (Err(error), _) => self.fail_wsgi(py, exchange, &error.into()),
            (_, None) => exchange.close(),
        }
    }

    /// Calls the application here, or has one of its threads do so.
    fn run_wsgi(&self, py: Python<'_>, exchange: &Arc<Exchange>, gateway: &Bound<'_, Gateway>, body: Body) {
        if let Some(pool) = gateway.get().pool() {
            if !matches!(body, Body::Empty)
                && let Some(waits) = Waits::of(exchange)
            {
                waits.keep_body(body);
            }
            if pool.give(gateway, exchange) {
                return;
            }
            // No thread can be made.
            let body = Waits::take_body(exchange);
            let _alone = WithoutLoop::begin(py);
            return self.call_wsgi(py, exchange, gateway.get(), body);
        }
        let _alone = WithoutLoop::begin(py);
        self.call_wsgi(py, exchange, gateway.get(), body);
    }

    /// Calls the application, and sends what it returns.
    pub(super) fn call_wsgi(&self, py: Python<'_>, exchange: &Arc<Exchange>, gateway: &Gateway, body: Body) {
        let made = gateway.template().environ(py, exchange, body).and_then(|environ| {
            let start_response = Bound::new(py, StartResponse::new(exchange))?;
            Ok((environ, start_response))
        });
        let (environ, start_response) = match made {
            Ok(made) => made,
            Err(error) => return self.fail_wsgi(py, exchange, &error),
        };
        let application = gateway.application().bind(py);
        let result = call(application, [environ.as_any(), start_response.as_any()]);
        drop(environ);
        self.end_child(py, result.as_ref().err());
        match result {
            Err(error) => self.fail_wsgi(py, exchange, &error),
            Ok(result) => {
                let sent = result::send(py, exchange, start_response.get(), &result);
                self.end_child(py, sent.as_ref().err());
                if let Err(error) = sent {
                    self.fail_wsgi(py, exchange, &error);
                }
                Self::close_wsgi(py, &result);
                self.end_child(py, None);
            }
        }
    }

    /// Calls `close` of what the application has returned.
    fn close_wsgi(py: Python<'_>, result: &Bound<'_, PyAny>) {
        let has_none = result.is_exact_instance_of::<pyo3::types::PyList>()
            || result.is_exact_instance_of::<pyo3::types::PyTuple>();
        if has_none {
            return;
        }
        let closed = match attribute(result, intern!(py, "close")) {
            Err(error) if error.is_instance_of::<PyAttributeError>(py) => return,
            close => close.and_then(|close| call(&close, [])),
        };
        if let Err(error) = closed {
            Self::log_callback(py, "close", &error, result);
        }
    }

    /// The application has failed: the client gets a 500, or sees that its response is not whole.
    fn fail_wsgi(&self, py: Python<'_>, exchange: &Arc<Exchange>, error: &PyErr) {
        let gone = exchange.is_over();
        if !exchange.abort_if_started() {
            let mut head = ResponseHead::default();
            let _ = head.set_status(500);
            let _ = head.header(b"Content-Type", b"text/plain; charset=utf-8");
            exchange.respond(head, b"Internal Server Error");
        }
        // The client has gone, and the application has noticed.
        if gone && error.is_instance_of::<PyOSError>(py) {
            return;
        }
        let value = error.clone_ref(py).into_value(py);
        let none = py.None();
        let told = call(self.hooks.fail.bind(py), [value.bind(py).as_any(), none.bind(py), none.bind(py)]);
        if let Err(error) = told {
            report(py, error, Some(self.application.bind(py)));
        }
    }
}

/// No event loop runs on this thread while this lives: else an application could not run one, and frameworks would take its code
/// for asynchronous.
struct WithoutLoop<'py>(Option<Bound<'py, PyAny>>);

/// Functions of `asyncio.events`.
struct Running {
    get: Py<PyAny>,
    set: Py<PyAny>,
}

static RUNNING: PyOnceLock<Running> = PyOnceLock::new();

fn running(py: Python<'_>) -> PyResult<&'static Running> {
    RUNNING.get_or_try_init(py, || {
        let events = py.import("asyncio.events")?;
        let get = attribute(&events, intern!(py, "_get_running_loop"))?.unbind();
        let set = attribute(&events, intern!(py, "_set_running_loop"))?.unbind();
        Ok(Running { get, set })
    })
}

impl<'py> WithoutLoop<'py> {
    fn begin(py: Python<'py>) -> Self {
        let begun = running(py).and_then(|running| {
            let event_loop = call(running.get.bind(py), [])?;
            if event_loop.is_none() {
                return Ok(None);
            }
            call(running.set.bind(py), [py.None().bind(py)])?;
            Ok(Some(event_loop))
        });
        match begun {
            Ok(event_loop) => Self(event_loop),
            Err(error) => {
                report(py, error, None);
                Self(None)
            }
        }
    }
}

impl Drop for WithoutLoop<'_> {
    fn drop(&mut self) {
        let Some(event_loop) = &self.0 else { return };
        let py = event_loop.py();
        let ended = running(py).and_then(|running| call(running.set.bind(py), [event_loop]));
        if let Err(error) = ended {
            report(py, error, None);
        }
    }
}
