//! `Body`: the body of a request, as the package reads it for users.

use std::sync::Arc;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::app::Signal;
use crate::py::bridge::PyApp;
use crate::py::futures::set_result;
use crate::py::listeners::Listeners;
use crate::server::{Exchange, Pull};

/// The body of one request. Any number of these may stand for it.
#[pyclass(frozen, module = "socketify._core")]
pub(crate) struct Body {
    exchange: Arc<Exchange>,
}

impl Body {
    pub(crate) fn of(exchange: &Arc<Exchange>) -> Self {
        Self { exchange: Arc::clone(exchange) }
    }

    fn create_future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let app = PyApp::of(&self.exchange);
        app.ok_or_else(|| PyRuntimeError::new_err("the request belongs to no application"))?.create_future(py)
    }
}

#[pymethods]
impl Body {
    /// The whole body if it is here, else None.
    pub(crate) fn take(&self, py: Python<'_>) -> Option<Py<PyBytes>> {
        let listeners = Listeners::of(&self.exchange)?;
        if let Some(body) = listeners.body(py) {
            return Some(body);
        }
        let bytes = self.exchange.take_complete()?;
        let body = PyBytes::new(py, &bytes).unbind();
        listeners.keep_body(body.clone_ref(py));
        Some(body)
    }

    /// The same, of a body that has not been handed out in pieces, and that is all that the client had to send.
    fn whole(&self, py: Python<'_>) -> PyResult<Option<Py<PyBytes>>> {
        match Listeners::of(&self.exchange) {
            Some(listeners) if listeners.is_in_pieces() => Err(PyRuntimeError::new_err(
                "the body of this request has been read in pieces, so it cannot be had whole any more: go on with stream()",
            )),
            Some(listeners) if listeners.is_partial() => Ok(None),
            _ => Ok(self.take(py)),
        }
    }

    /// A future of an `io.BytesIO` with the whole body, or with what had arrived when the client left.
    pub(crate) fn arrival<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let future = self.create_future(py)?;
        if let Some(body) = self.take(py) {
            set_result(&future, PyApp::bytes_io(py, &body)?.bind(py))?;
        } else if let Some(listeners) = Listeners::of(&self.exchange) {
            listeners.await_whole(&self.exchange, &future)?;
            if !self.exchange.read_whole() {
                self.exchange.server().signal(&self.exchange, Signal::Aborted);
            }
        }
        Ok(future)
    }

    /// The next piece of the body: `(bytes, is_end)`, None if there will never be one, or a future: call
    /// again when it is done. A body that was read whole is one piece.
    fn piece<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let none = || py.None().into_bound(py);
        let Some(listeners) = Listeners::of(&self.exchange) else { return Ok(none()) };
        if !listeners.begin_pieces(py, &self.exchange) {
            return Err(PyRuntimeError::new_err(
                "the body of this request is being read already, as a whole, by on_data() or in another task: one at a time",
            ));
        }
        if let Some(body) = listeners.body(py) {
            return if listeners.is_partial() {
                Ok(none())
            } else {
                Ok((body, true).into_pyobject(py)?.into_any())
            };
        }
        match self.exchange.pull() {
            Pull::Piece(bytes, last) => Ok((PyBytes::new(py, &bytes), last).into_pyobject(py)?.into_any()),
            Pull::Over => Ok(none()),
            Pull::Later => {
                let future = self.create_future(py)?;
                listeners.await_piece(&self.exchange, &future)?;
                if !self.exchange.read_pieces() {
                    self.exchange.server().signal(&self.exchange, Signal::Aborted);
                }
                Ok(future)
            }
        }
    }

    /// A piece that was handed to a callback has been dealt with: the next may come.
    fn resume(&self) {
        self.exchange.resume_body();
    }

    /// Whether there is no body any more because the request has been answered.
    fn is_answered(&self) -> bool {
        // A client that shut its sending side counts as gone, and still gets its response.
        self.exchange.has_responded() && !self.exchange.is_aborted()
    }
}
