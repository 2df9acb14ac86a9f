//! The calls of an application about one request: `receive`, `send`, and the end of its part.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;

use crate::app::{Lane, Signal};
use crate::http::response::ResponseHead;
use crate::py::asgi::awaitable::{Awaited, Done, Pending};
use crate::py::asgi::http::{Counted, Http, Kept, Stage, app};
use crate::py::asgi::message::Message;
use crate::py::bridge::PyApp;
use crate::py::message::Payload;
use crate::server::Exchange;

/// Larger payloads are copied to the kernel without the GIL.
const SLOW_TO_SEND: usize = 256 * 1024;

/// `receive` and `send` of one request are methods of this. It outlives the request: then they do nothing.
#[pyclass(frozen, module = "socketify._core")]
pub(crate) struct HttpCall {
    pub(super) exchange: Arc<Exchange>,
    /// The application's part has not ended.
    open: AtomicBool,
}

impl HttpCall {
    pub(in crate::py::asgi) fn new(py: Python<'_>, exchange: &Arc<Exchange>) -> PyResult<Py<Self>> {
        // An exchange has one front.
        let _ = exchange.user().set(Box::<Http>::default());
        Py::new(py, Self { exchange: Arc::clone(exchange), open: AtomicBool::new(true) })
    }

    pub(in crate::py::asgi) fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    pub(super) fn http(&self) -> PyResult<&Http> {
        Http::of(&self.exchange)
            .ok_or_else(|| PyRuntimeError::new_err("the request belongs to no ASGI application"))
    }

    /// Takes a message about the response.
    pub(in crate::py::asgi) fn respond<'py>(
        &self,
        py: Python<'py>,
        kind: &str,
        message: &Message<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let http = self.http()?;
        match kind {
            "http.response.body" => self.body(py, http, message),
            "http.response.start" => self.start(py, http, message),
            "http.response.trailers" => self.trailers(py, http, message),
            "http.response.pathsend" => self.file(py, http, message),
            "http.response.early_hint" => self.early_hints(py, http, message),
            other => {
                Err(PyValueError::new_err(format!("unknown type of an ASGI message for HTTP: {other:?}")))
            }
        }
    }

    /// Responds without the application, if there has been no response.
    pub(in crate::py::asgi) fn refuse(&self, py: Python<'_>, status: u16) -> PyResult<()> {
        let http = self.http()?;
        http.set(Stage::Complete);
        let mut head = ResponseHead::default();
        head.set_status(status)?;
        if status >= 500 {
            head.header(b"Content-Type", b"text/plain; charset=utf-8")?;
        }
        self.exchange.respond(head, if status >= 500 { b"Internal Server Error" } else { b"" });
        self.tell_end(py, http);
        Ok(())
    }

    /// The request has become a WebSocket.
    pub(in crate::py::asgi) fn leave(&self, py: Python<'_>) -> PyResult<()> {
        if self.open.swap(false, Ordering::Relaxed) {
            self.exchange.end_work();
        }
        let http = self.http()?;
        http.set(Stage::Complete);
        self.tell_end(py, http);
        Ok(())
    }

    /// The application's part has ended: see `finish`. `bodiless`: a head alone is a response without a body.
    pub(in crate::py::asgi) fn end_part(
        &self,
        py: Python<'_>,
        bodiless: bool,
    ) -> PyResult<Option<&'static str>> {
        if !self.open.swap(false, Ordering::Relaxed) {
            return Ok(None);
        }
        let ended = self.end_response(py, bodiless);
        self.exchange.end_work();
        ended
    }

    fn end_response(&self, py: Python<'_>, bodiless: bool) -> PyResult<Option<&'static str>> {
        let http = self.http()?;
        let stage = std::mem::replace(&mut http.inner.lock().stage, Stage::Complete);
        // Asked before the response is cut, which has it count as gone as well.
        let gone = self.exchange.is_aborted() || self.exchange.is_over();
        let outcome = match stage {
            Stage::Complete => None,
            Stage::Gone => Some("gone"),
            _ if self.exchange.is_over() => Some("gone"),
            Stage::Kept(kept) if bodiless => {
                self.exchange.respond(kept.head, b"");
                None
            }
            Stage::Fresh | Stage::Kept(_) => {
                self.refuse(py, 500)?;
                Some("unanswered")
            }
            Stage::Trailers(trailers) => {
                self.exchange.end_with_trailers(*trailers);
                Some("untrailed")
            }
            Stage::Pieces(_) => {
                self.exchange.abort_if_started();
                Some("cut")
            }
        };
        self.tell_end(py, http);
        Ok(outcome.map(|outcome| if gone { "gone" } else { outcome }))
    }

    fn is_head(&self) -> bool {
        self.exchange.method() == b"HEAD"
    }

    /// The client has gone: nothing is sent. One turn of the loop, or an endless stream would keep its own listener from
    /// hearing of it.
    pub(super) fn unheard<'py>(py: Python<'py>, http: &Http) -> PyResult<Bound<'py, PyAny>> {
        http.set(Stage::Gone);
        Pending::of(py, Awaited::Turn)
    }

    fn start<'py>(
        &self,
        py: Python<'py>,
        http: &Http,
        message: &Message<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if self.expect(http, "http.response.start", |stage| matches!(stage, Stage::Fresh))? {
            return Self::unheard(py, http);
        }
        let head = message.head(&self.exchange)?;
        let urgent = head.field(b"content-type").is_some_and(|kind| kind.starts_with(b"text/event-stream"));
        let trailers = message.flag(intern!(py, "trailers"))?;
        http.set(Stage::Kept(Box::new(Kept { head, urgent, trailers, since: Instant::now() })));
        app(&self.exchange)?.keep_head(py, &self.exchange);
        Done::get(py)
    }

    fn body<'py>(
        &self,
        py: Python<'py>,
        http: &Http,
        message: &Message<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if self
            .expect(http, "http.response.body", |stage| matches!(stage, Stage::Kept(_) | Stage::Pieces(_)))?
        {
            return Self::unheard(py, http);
        }
        let payload = message.body()?;
        let bytes = payload.as_bytes()?;
        if message.flag(intern!(py, "more_body"))? {
            return self.piece(py, http, bytes);
        }
        if http.announces_trailers() {
            let waited = self.piece(py, http, bytes)?;
            http.await_trailers(&self.exchange)?;
            return Ok(waited);
        }
        self.end(py, http, &payload)
    }

    /// A piece of the body that others follow.
    pub(super) fn piece<'py>(
        &self,
        py: Python<'py>,
        http: &Http,
        bytes: &[u8],
    ) -> PyResult<Bound<'py, PyAny>> {
        let app = app(&self.exchange)?;
        let begun = {
            let mut inner = http.inner.lock();
            match &mut inner.stage {
                Stage::Kept(kept) => {
                    let mut counted = Counted::of(kept, self.is_head());
                    counted.take(bytes.len(), false)?;
                    if bytes.is_empty() {
                        // Made without the lock: that may run user code.
                        let long = inner.burst.is_long(app.turn_of_loop());
                        drop(inner);
                        return if long { Pending::of(py, Awaited::Turn) } else { Done::get(py) };
                    }
                    let head = std::mem::take(&mut kept.head);
                    inner.stage = Stage::Pieces(counted);
                    Some(head)
                }
                Stage::Pieces(counted) => {
                    counted.take(bytes.len(), false)?;
                    None
                }
                Stage::Fresh | Stage::Trailers(_) | Stage::Complete | Stage::Gone => None,
            }
        };
        if let Some(head) = begun
            && !self.exchange.prepare(head)
        {
            return Self::unheard(py, http);
        }
        app.cork(py, &self.exchange);
        let written = if bytes.len() >= SLOW_TO_SEND {
            py.detach(|| self.exchange.write(bytes))
        } else {
            self.exchange.write(bytes)
        };
        if !written {
            return Self::unheard(py, http);
        }
        if self.exchange.watch_writable() {
            return Pending::of(py, Awaited::Room(Arc::clone(&self.exchange)));
        }
        let long = {
            let mut inner = http.inner.lock();
            inner.burst.add(bytes.len());
            inner.burst.is_long(app.turn_of_loop())
        };
        if long {
            return Pending::of(py, Awaited::Turn);
        }
        Done::get(py)
    }

    /// The last of the body.
    fn end<'py>(&self, py: Python<'py>, http: &Http, payload: &Payload<'_>) -> PyResult<Bound<'py, PyAny>> {
        let bytes = payload.as_bytes()?;
        let stage = {
            let mut inner = http.inner.lock();
            // In a response that has not left, a wrong length can still become a 500.
            if let Stage::Kept(kept) = &inner.stage {
                Counted::of(kept, self.is_head()).take(bytes.len(), true)?;
            }
            std::mem::replace(&mut inner.stage, Stage::Complete)
        };
        let exchange = &self.exchange;
        let (short, sent) = match stage {
            Stage::Kept(kept) if bytes.len() >= SLOW_TO_SEND => {
                (Ok(()), py.detach(|| exchange.respond(kept.head, bytes)))
            }
            Stage::Kept(kept) => (Ok(()), exchange.respond(kept.head, bytes)),
            Stage::Pieces(mut counted) => {
                let short = counted.take(bytes.len(), true);
                if short.is_err() {
                    // The client must not take what it has for the whole.
                    exchange.abort_if_started();
                    (short, true)
                } else if bytes.len() >= SLOW_TO_SEND {
                    (short, py.detach(|| exchange.end(bytes, false)))
                } else {
                    (short, exchange.end(bytes, false))
                }
            }
            Stage::Fresh | Stage::Trailers(_) | Stage::Complete | Stage::Gone => (Ok(()), true),
        };
        self.tell_end(py, http);
        short?;
        if sent { Done::get(py) } else { Self::unheard(py, http) }
    }

    /// Others that wait for a message hear that there will be none.
    pub(super) fn tell_end(&self, py: Python<'_>, http: &Http) {
        if !http.waits.are_woken_by(Signal::Aborted) {
            return;
        }
        match PyApp::of(&self.exchange) {
            Some(app) if app.current_lane() == Some(Lane::Loop) => {
                http.waits.deliver(py, &self.exchange, Signal::Aborted);
            }
            _ => self.exchange.server().signal(&self.exchange, Signal::Aborted),
        }
    }

    /// Fails if a message comes out of order; true if that does not matter, since the client has gone.
    pub(super) fn expect(&self, http: &Http, kind: &str, may: impl FnOnce(&Stage) -> bool) -> PyResult<bool> {
        let inner = http.inner.lock();
        if may(&inner.stage) {
            return Ok(false);
        }
        let why = match inner.stage {
            Stage::Gone => return Ok(true),
            Stage::Complete if self.exchange.is_aborted() => return Ok(true),
            Stage::Fresh => "expected 'http.response.start' first",
            Stage::Kept(_) | Stage::Pieces(_) => {
                "the response has been started: expected 'http.response.body'"
            }
            Stage::Trailers(_) => "the body is complete: expected 'http.response.trailers'",
            Stage::Complete => "the response is complete",
        };
        Err(PyRuntimeError::new_err(format!("unexpected ASGI message '{kind}': {why}")))
    }
}

#[pymethods]
impl HttpCall {
    /// Gives the next message to the application.
    fn receive<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Pending::of(py, Awaited::Message(Arc::clone(&self.exchange)))
    }

    /// Takes a message of the application. What it says is done when this returns.
    fn send<'py>(&self, py: Python<'py>, event: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let message = Message::new(event)?;
        self.respond(py, message.kind()?.to_str()?, &message)
    }

    /// Whether a message has found that the client has gone.
    fn is_gone(&self) -> PyResult<bool> {
        Ok(matches!(self.http()?.inner.lock().stage, Stage::Gone))
    }

    /// Waits for the client's leaving, or the end of the response.
    fn departure<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Pending::of(py, Awaited::Departure(Arc::clone(&self.exchange)))
    }

    /// The application's part has ended. Gives what that means: None if the response is complete or its client has gone, else
    /// "unanswered", and the client has got a 500, or "cut".
    fn finish(&self, py: Python<'_>, failed: bool) -> PyResult<Option<&'static str>> {
        // Either way it has said all that it will say.
        let _ = failed;
        self.end_part(py, false)
    }

    fn __repr__(&self) -> String {
        format!("<HttpCall {}>", String::from_utf8_lossy(self.exchange.target()))
    }
}

impl Drop for HttpCall {
    /// Its task was cancelled before the first step, or the loop has ended.
    fn drop(&mut self) {
        if std::mem::take(self.open.get_mut()) {
            if !self.exchange.is_over() && !self.exchange.abort_if_started() {
                let mut head = ResponseHead::default();
                let _ = head.set_status(500);
                self.exchange.respond(head, b"Internal Server Error");
            }
            self.exchange.end_work();
        }
    }
}
