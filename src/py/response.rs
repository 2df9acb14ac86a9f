//! `Response`: the response, for handlers. Every method may be called from any thread at any time; once the
//! response is complete or the client is gone, it does nothing and returns its neutral value.
//!
//! Its rooms have the methods, each those of one subject; here is what the response is.

mod callbacks;
mod head;
mod pieces;
mod reading;
mod streams;
mod upgrade;
mod whole;

use std::cell::Cell;
use std::sync::Arc;
use std::thread::LocalKey;

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::py::bridge::PyApp;
use crate::py::calling::{call, truth};
use crate::py::classes::Replaceable;
use crate::py::convert::{address_bytes, address_text};
use crate::py::listeners::Listeners;
use crate::server::Exchange;

/// The response to one HTTP request.
#[pyclass(frozen, dict, weakref, subclass, module = "socketify")]
pub(crate) struct Response {
    exchange: Arc<Exchange>,
}

/// Above this size, bytes that may be compressed are compressed without the GIL.
const SLOW_TO_ENCODE: usize = 8 * 1024;

type Slf<'py> = Bound<'py, Response>;

impl Response {
    pub(crate) fn new(exchange: Arc<Exchange>) -> Self {
        Self { exchange }
    }

    pub(super) fn python(&self) -> PyResult<&PyApp> {
        PyApp::of(&self.exchange)
            .ok_or_else(|| PyRuntimeError::new_err("the response belongs to no application"))
    }

    pub(super) fn release_if_over(&self) {
        if self.exchange.is_over() {
            Listeners::finish(&self.exchange);
        }
    }
}

thread_local! {
    static NEXT: Cell<Option<Response>> = const { Cell::new(None) };
}

impl Replaceable for Response {
    fn next() -> &'static LocalKey<Cell<Option<Self>>> {
        &NEXT
    }
}

#[pymethods]
impl Response {
    #[new]
    fn create() -> PyResult<Self> {
        Self::take_next()
    }

    /// The application of this response.
    #[getter]
    fn app(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        PyApp::of(&self.exchange).map(|app| app.application(py))
    }

    #[getter]
    fn aborted(&self) -> bool {
        self.exchange.is_aborted()
    }

    #[setter]
    fn set_aborted(&self, #[pyo3(from_py_with = truth)] aborted: bool) {
        self.exchange.set_aborted(aborted);
    }

    fn has_responded(&self) -> bool {
        // A client that shut its sending side counts as gone, and still gets its response.
        self.exchange.has_responded() && !self.exchange.is_aborted()
    }

    fn close(slf: Slf<'_>) -> Slf<'_> {
        slf.get().exchange.close();
        slf
    }

    fn run_async<'py>(slf: Slf<'py>, task: &Bound<'py, PyAny>) -> PyResult<Slf<'py>> {
        call(slf.get().python()?.hooks.spawn.bind(slf.py()), [task, &slf])?;
        Ok(slf)
    }

    fn get_remote_address(&self) -> Option<String> {
        self.exchange.peer().map(address_text)
    }

    fn get_remote_address_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        self.exchange.peer().map_or_else(|| PyBytes::new(py, b""), |address| address_bytes(py, address))
    }

    fn get_proxied_remote_address(&self) -> Option<String> {
        self.exchange.proxied_peer().map(address_text)
    }

    fn get_proxied_remote_address_bytes<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.exchange.proxied_peer().map(|address| address_bytes(py, address))
    }

    fn get_native_handle(&self) -> i64 {
        self.exchange.descriptor()
    }

    /// Work on the response begins that goes on after the handler has returned.
    fn _begin_work(&self) {
        self.exchange.begin_work();
    }

    /// It has ended.
    fn _end_work(&self) {
        self.exchange.end_work();
    }

    /// An error response in place of one that has not begun. On the loop it leaves at the end of the
    /// iteration, regardless of user code, such as logging, until then.
    #[pyo3(name = "_fail")]
    pub(crate) fn fail(&self, py: Python<'_>) {
        if let Some(app) = PyApp::of(&self.exchange) {
            app.cork(py, &self.exchange);
        }
        if !self.exchange.abort_if_started() {
            self.exchange.reset_head();
            // Both are valid; if they were not, the response would be a 200 with the same text.
            let _ = self.exchange.set_status(500);
            let _ = self.exchange.add_header(b"Content-Type", b"text/plain");
            self.finish(b"Internal Error", false);
        }
    }

    /// Forgets status and headers that were not sent, and cuts a response that has begun.
    fn _reset(&self) {
        if !self.exchange.abort_if_started() {
            self.exchange.reset_head();
        }
    }

    fn __repr__(&self) -> String {
        let state = match (self.exchange.has_responded(), self.exchange.is_aborted()) {
            (true, _) => "responded",
            (false, true) => "aborted",
            (false, false) => "open",
        };
        format!("<Response {state} to {}>", String::from_utf8_lossy(self.exchange.target()))
    }

    // The instance dictionary may hold cycles; PyO3 visits it once a class takes part in collection. Futures
    // and callbacks of the exchange are not visited: the connection holds them too, until it cuts the cycle
    // itself.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the signature is the protocol's")]
    fn __traverse__(&self, _visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        Ok(())
    }

    #[expect(clippy::unused_self, reason = "the signature is the protocol's")]
    fn __clear__(&self) {}
}
