//! Responses that are made while they are sent: the package iterates, this begins and ends them.

use pyo3::prelude::*;

use crate::app::Signal;
use crate::http::response::Known;
use crate::py::calling::call_with;
use crate::py::convert::text;
use crate::py::door::door;
use crate::py::listeners::Listeners;
use crate::py::response::{Response, Slf};

impl Response {
    /// Whether the response must have no body (RFC 9110 section 9.3.2).
    pub(super) fn is_head(&self) -> bool {
        self.exchange.method() == b"HEAD"
    }
}

#[pymethods]
impl Response {
    #[pyo3(signature = (iterable, content_type = None, status = None, headers = None))]
    fn stream<'py>(
        slf: &Slf<'py>,
        iterable: &Bound<'py, PyAny>,
        content_type: Option<&Bound<'py, PyAny>>,
        status: Option<&Bound<'py, PyAny>>,
        headers: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let arguments = (slf, iterable, content_type, status, headers, slf.get().is_head());
        call_with(door(slf.py()).streams.get(slf.py())?.stream.bind(slf.py()), arguments)
    }

    /// Sets the head of a stream; a type that was written before, or is among the headers, is the only one.
    /// None for the type sets no type.
    #[pyo3(signature = (content_type, status, headers))]
    fn _begin_stream(
        &self,
        content_type: Option<&str>,
        status: Option<&Bound<'_, PyAny>>,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        if let Some(status) = status {
            self.unless_over(self.status(status))?;
        }
        if let Some(headers) = headers {
            self.unless_over(self.headers(headers))?;
        }
        if let Some(kind) = content_type
            && !self.exchange.has_header(Known::ContentType)
        {
            self.exchange.add_header(b"Content-Type", kind.as_bytes())?;
        }
        Ok(())
    }

    /// Ends the response to a HEAD request whose GET would get a stream.
    fn _end_stream_unseen(&self) {
        self.exchange.end_pieces_unseen();
        Listeners::finish(&self.exchange);
    }

    #[pyo3(signature = (keep_alive = 15.0, headers = None))]
    fn events<'py>(
        slf: &Slf<'py>,
        keep_alive: f64,
        headers: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (this, py) = (slf.get(), slf.py());
        let last = this.exchange.header(b"last-event-id").map(|value| text(py, &value));
        call_with(
            door(py).events.get(py)?.event_stream.bind(py),
            (slf, keep_alive, headers, last, this.is_head()),
        )
    }

    #[pyo3(signature = (iterable, keep_alive = 15.0, headers = None))]
    fn send_events<'py>(
        slf: &Slf<'py>,
        iterable: &Bound<'py, PyAny>,
        keep_alive: f64,
        headers: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let events = Self::events(slf, keep_alive, headers)?;
        call_with(door(slf.py()).events.get(slf.py())?.send_all.bind(slf.py()), (events, iterable))
    }

    /// A future that is done when the response is complete or the client has gone.
    fn _ended<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let future = self.python()?.create_future(py)?;
        if let Some(listeners) = Listeners::of(&self.exchange) {
            listeners.await_end(py, future.clone().unbind());
            if self.exchange.is_over() || self.exchange.is_aborted() {
                self.exchange.server().signal(&self.exchange, Signal::Aborted);
            }
        }
        Ok(future)
    }
}
