//! `WebSocket`: a socket, for callbacks. Every method may be called from any thread at any time; after the
//! end it does nothing and returns its neutral value.
//!
//! Its rooms have what it sends and its topics; here is what the socket is, and how it ends.

mod sending;
mod topics;

use std::cell::Cell;
use std::sync::Arc;
use std::thread::LocalKey;

use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::py::bridge::PyApp;
use crate::py::calling::type_name;
use crate::py::classes::{Replaceable, make};
use crate::py::convert::{address_bytes, address_text};
use crate::py::message::{self, Payload};
use crate::py::outgoing;
use crate::py::sockets::Attached;
use crate::py::tls;
use crate::server;

/// One WebSocket connection.
#[pyclass(frozen, dict, weakref, subclass, module = "socketify")]
pub(crate) struct WebSocket {
    socket: Arc<server::WebSocket>,
    /// The user data of the upgrade handler; stays after the end.
    user_data: Mutex<Option<Py<PyAny>>>,
}

type Slf<'py> = Bound<'py, WebSocket>;

impl WebSocket {
    pub(crate) fn new(socket: Arc<server::WebSocket>, user_data: Option<Py<PyAny>>) -> Self {
        Self { socket, user_data: Mutex::new(user_data) }
    }

    pub(super) fn python(&self) -> PyResult<&PyApp> {
        let app = self.socket.server().app().as_any().downcast_ref();
        app.ok_or_else(|| PyRuntimeError::new_err("the socket belongs to no application"))
    }

    /// Runs the waiting events, if this thread may do so now.
    fn tell_now(&self, py: Python<'_>) -> PyResult<()> {
        let app = self.python()?;
        app.flush_soon(py);
        if let Some(lane) = app.current_lane() {
            app.converse(py, &self.socket, lane);
        }
        Ok(())
    }

    fn finish(&self, py: Python<'_>, code: u16, message: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let reason = match message {
            None => None,
            Some(message) => match message::raw(message)? {
                None => {
                    let name = type_name(message);
                    return Err(PyRuntimeError::new_err(format!(
                        "the message of a close frame must be str, bytes or None, not {name}"
                    )));
                }
                reason => reason,
            },
        };
        let reason = reason.as_ref().map(Payload::as_bytes).transpose()?;
        self.socket.end(code, reason);
        self.tell_now(py)
    }
}

thread_local! {
    static NEXT: Cell<Option<WebSocket>> = const { Cell::new(None) };
}

impl Replaceable for WebSocket {
    fn next() -> &'static LocalKey<Cell<Option<Self>>> {
        &NEXT
    }
}

#[pymethods]
impl WebSocket {
    #[new]
    fn create() -> PyResult<Self> {
        Self::take_next()
    }

    /// The application that serves the socket.
    #[getter]
    fn app(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.python()?.application(py))
    }

    /// Whether either side has ended the socket.
    #[getter]
    fn closed(&self) -> bool {
        !self.socket.is_open()
    }

    /// Messages that were dropped because too much output was buffered.
    #[getter]
    fn dropped(&self) -> u64 {
        self.socket.dropped()
    }

    #[pyo3(signature = (code = 0, message = None))]
    fn end<'py>(
        slf: Slf<'py>,
        #[pyo3(from_py_with = outgoing::close_code)] code: u16,
        message: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Slf<'py>> {
        slf.get().finish(slf.py(), code, message)?;
        Ok(slf)
    }

    #[pyo3(signature = (code = 0, message = None))]
    fn cork_end<'py>(
        slf: Slf<'py>,
        #[pyo3(from_py_with = outgoing::close_code)] code: u16,
        message: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Slf<'py>> {
        Self::end(slf, code, message)
    }

    fn close(slf: Slf<'_>) -> PyResult<Slf<'_>> {
        slf.get().socket.close();
        slf.get().tell_now(slf.py())?;
        Ok(slf)
    }

    fn get_user_data(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.user_data.lock().as_ref().map(|data| data.clone_ref(py))
    }

    fn get_user_data_uuid(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Attached::of(&self.socket).map_or_else(|| Ok(py.None()), |attached| attached.uuid(py))
    }

    fn get_remote_address(&self) -> Option<String> {
        self.socket.peer().map(address_text)
    }

    fn get_remote_address_bytes<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.socket.peer().map(|address| address_bytes(py, address))
    }

    fn get_proxied_remote_address(&self) -> Option<String> {
        self.socket.proxied_peer().map(address_text)
    }

    fn get_proxied_remote_address_bytes<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.socket.proxied_peer().map(|address| address_bytes(py, address))
    }

    fn get_peer_certificate<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        tls::peer_certificate(py, self.socket.secure())
    }

    fn get_peer_subject(&self) -> Option<String> {
        tls::peer_subject(self.socket.secure())
    }

    fn get_native_handle(&self) -> i64 {
        self.socket.descriptor()
    }

    #[pyo3(name = "clone")]
    fn duplicate(&self, py: Python<'_>) -> PyResult<Py<Self>> {
        let content = Self::new(Arc::clone(&self.socket), self.get_user_data(py));
        make(py, &self.python()?.classes.websocket, content)
    }

    #[getter]
    fn socket_data(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.get_user_data(py)
    }

    #[getter]
    fn socket_data_id(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.get_user_data_uuid(py)
    }

    #[getter]
    fn got_socket_data(&self) -> bool {
        self.user_data.lock().is_some()
    }

    /// Number of the connection; there is no pointer behind it.
    #[getter]
    fn ws(&self) -> u64 {
        self.socket.id()
    }

    /// The task of an event has ended.
    fn _done(&self, weight: usize) {
        self.socket.finished(weight);
    }

    fn __repr__(&self) -> String {
        let state = if self.socket.is_open() { "open" } else { "closed" };
        format!("<WebSocket {} {state}>", self.socket.id())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A taken lock belongs to a thread that uses the guarded object, so it is not garbage.
        match self.user_data.try_lock() {
            Some(data) => visit.call(data.as_ref()),
            None => Ok(()),
        }
    }

    fn __clear__(&self) {
        let old = self.user_data.lock().take();
        drop(old);
    }
}
