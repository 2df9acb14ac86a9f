//! One HTTP request, as an ASGI application receives it and responds to it: what is known of it between two calls. `call` has the
//! calls, `extensions` those that not every response has.

mod call;
mod extensions;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

pub(crate) use self::call::HttpCall;

use crate::app::Signal;
use crate::http::response::ResponseHead;
use crate::py::asgi::awaitable::Polled;
use crate::py::asgi::burst::Burst;
use crate::py::asgi::waits::{For, Waits};
use crate::py::bridge::PyApp;
use crate::server::{Exchange, Pull};

/// How long a head may wait while the loop never sleeps.
const LONG: Duration = Duration::from_millis(10);

/// How far the response is.
#[derive(Default)]
enum Stage {
    /// Nothing has been sent.
    #[default]
    Fresh,
    /// The head waits for the first piece of the body.
    Kept(Box<Kept>),
    /// The body goes in pieces.
    Pieces(Counted),
    /// The body is complete, and trailers are announced.
    Trailers(Box<ResponseHead>),
    /// It is complete.
    Complete,
    /// Its client has gone before.
    Gone,
}

/// A head that waits.
struct Kept {
    head: ResponseHead,
    /// Nobody sees that it has been begun before it leaves: a stream of events.
    urgent: bool,
    trailers: bool,
    since: Instant,
}

/// A body that goes in pieces.
#[derive(Clone, Copy)]
struct Counted {
    /// Bytes that are still promised. `None` without a promise.
    left: Option<u64>,
    /// Trailers follow.
    trailers: bool,
}

impl Counted {
    fn of(kept: &Kept, head_request: bool) -> Self {
        let promised = kept.head.declared_length().filter(|_| kept.head.body_allowed(head_request));
        Self { left: promised, trailers: kept.trailers }
    }

    /// Counts a piece.
    fn take(&mut self, length: usize, last: bool) -> PyResult<()> {
        let Some(left) = self.left else { return Ok(()) };
        match left.checked_sub(length as u64) {
            None => Err(PyRuntimeError::new_err(format!(
                "the body of the response is longer than its Content-Length: {left} bytes are left of it, and {length} come"
            ))),
            Some(missing) if last && missing > 0 => Err(PyRuntimeError::new_err(format!(
                "the body of the response is shorter than its Content-Length: {missing} bytes are missing"
            ))),
            Some(rest) => {
                self.left = Some(rest);
                Ok(())
            }
        }
    }
}

/// What a request is to its application. It lives in the exchange.
#[derive(Default)]
pub(super) struct Http {
    waits: Waits,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    stage: Stage,
    /// The last message with the request's body has been given.
    body_ended: bool,
    /// What the task has sent since the loop's last turn.
    burst: Burst,
}

impl Http {
    /// That of an exchange, if an ASGI application serves it.
    pub(super) fn of(exchange: &Exchange) -> Option<&Self> {
        exchange.user().get()?.downcast_ref()
    }

    pub(super) fn waits(&self) -> &Waits {
        &self.waits
    }

    /// The next message of `receive`.
    pub(super) fn poll_message<'py>(py: Python<'py>, exchange: &Arc<Exchange>) -> PyResult<Polled<'py>> {
        let Some(http) = Self::of(exchange) else { return disconnect(py) };
        if exchange.has_responded() {
            return disconnect(py);
        }
        if !http.inner.lock().body_ended {
            // Before a piece is taken: one that is cancelled meanwhile loses nothing.
            if http.inner.lock().burst.is_long(app(exchange)?.turn_of_loop()) {
                return Ok(Polled::Turn);
            }
            match exchange.pull() {
                Pull::Piece(bytes, last) => {
                    let mut inner = http.inner.lock();
                    inner.body_ended |= last;
                    inner.burst.add(bytes.len());
                    drop(inner);
                    return Ok(Polled::Ready(piece(py, &bytes, !last)?.into_any()));
                }
                Pull::Over => return disconnect(py),
                Pull::Later => {}
            }
        } else if exchange.is_aborted() || exchange.is_over() {
            return disconnect(py);
        }
        let future = http.waits.wait(py, app(exchange)?, For::Message)?;
        let ended = http.inner.lock().body_ended;
        // It may have happened between the look and the registration: then no signal comes any more.
        let missed =
            if ended { exchange.is_aborted() || exchange.is_over() } else { !exchange.read_pieces() };
        if missed || exchange.has_responded() {
            exchange.server().signal(exchange, Signal::Aborted);
        }
        Ok(Polled::Wait(future))
    }

    /// Whether the client has gone, or the response is complete.
    pub(super) fn poll_departure<'py>(py: Python<'py>, exchange: &Arc<Exchange>) -> PyResult<Polled<'py>> {
        let is_over = || exchange.has_responded() || exchange.is_aborted() || exchange.is_over();
        if let Some(http) = Self::of(exchange)
            && !is_over()
        {
            let future = http.waits.wait(py, app(exchange)?, For::Message)?;
            if is_over() {
                exchange.server().signal(exchange, Signal::Aborted);
            }
            return Ok(Polled::Wait(future));
        }
        Ok(Polled::Ready(py.None().into_bound(py)))
    }

    /// Whether there is room for more output, or nobody to need it.
    pub(super) fn poll_room<'py>(py: Python<'py>, exchange: &Arc<Exchange>) -> PyResult<Polled<'py>> {
        if let Some(http) = Self::of(exchange)
            && exchange.watch_writable()
        {
            let future = http.waits.wait(py, app(exchange)?, For::Room)?;
            if !exchange.watch_writable() {
                let signal = if exchange.is_over() { Signal::Aborted } else { Signal::Writable };
                exchange.server().signal(exchange, signal);
            }
            return Ok(Polled::Wait(future));
        }
        Ok(Polled::Ready(py.None().into_bound(py)))
    }

    /// Sends a head that waits: all of them if the loop is about to sleep, else those that cannot wait. False if it goes on waiting.
    pub(super) fn send_kept_head(exchange: &Exchange, all: bool) -> bool {
        let Some(http) = Self::of(exchange) else { return true };
        let kept = {
            let mut inner = http.inner.lock();
            match std::mem::take(&mut inner.stage) {
                Stage::Kept(kept) if !all && !kept.urgent && kept.since.elapsed() < LONG => {
                    inner.stage = Stage::Kept(kept);
                    return false;
                }
                Stage::Kept(kept) => {
                    inner.stage = Stage::Pieces(Counted::of(&kept, exchange.method() == b"HEAD"));
                    kept
                }
                other => {
                    inner.stage = other;
                    return true;
                }
            }
        };
        if exchange.prepare(kept.head) {
            exchange.send_head();
        }
        true
    }

    /// Whether trailers follow the body.
    fn announces_trailers(&self) -> bool {
        match &self.inner.lock().stage {
            Stage::Kept(kept) => kept.trailers,
            Stage::Pieces(counted) => counted.trailers,
            _ => false,
        }
    }

    /// The body is complete, and trailers follow.
    fn await_trailers(&self, exchange: &Exchange) -> PyResult<()> {
        Self::send_kept_head(exchange, true);
        let mut inner = self.inner.lock();
        if let Stage::Pieces(counted) = &mut inner.stage {
            counted.take(0, true)?;
            inner.stage = Stage::Trailers(Box::default());
        }
        Ok(())
    }

    fn set(&self, stage: Stage) {
        self.inner.lock().stage = stage;
    }
}

pub(super) fn app(exchange: &Exchange) -> PyResult<&PyApp> {
    PyApp::of(exchange).ok_or_else(|| PyRuntimeError::new_err("the request belongs to no application"))
}

fn disconnect(py: Python<'_>) -> PyResult<Polled<'_>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "http.disconnect"))?;
    Ok(Polled::Ready(message.into_any()))
}

fn piece<'py>(py: Python<'py>, bytes: &[u8], more: bool) -> PyResult<Bound<'py, PyDict>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "http.request"))?;
    message.set_item(intern!(py, "body"), PyBytes::new(py, bytes))?;
    message.set_item(intern!(py, "more_body"), more)?;
    Ok(message)
}
