//! `WebSocket`: a socket as callbacks see it. Every method may be called from any thread at any time; after the end it does
//! nothing and gives its neutral value.

use std::cell::Cell;
use std::sync::Arc;
use std::thread::LocalKey;

use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::pubsub::Subscribed;
use crate::py::bridge::PyApp;
use crate::py::calling::{call, call_with, truth, type_name};
use crate::py::classes::{Replaceable, make};
use crate::py::convert::{self, address_bytes, address_text};
use crate::py::message::{self, Payload};
use crate::py::outgoing::{self, Outgoing};
use crate::py::sockets::Attached;
use crate::py::tls;
use crate::server::{self, Event, SendStatus, open_batch};
use crate::websocket::OpCode;

/// A payload from this size on is written without holding the interpreter.
const LARGE: usize = 256 * 1024;

/// One WebSocket connection.
#[pyclass(frozen, dict, weakref, subclass, module = "socketify")]
pub(crate) struct WebSocket {
    socket: Arc<server::WebSocket>,
    /// What the upgrade handler gave; stays after the end.
    user_data: Mutex<Option<Py<PyAny>>>,
}

type Slf<'py> = Bound<'py, WebSocket>;

impl WebSocket {
    pub(crate) fn new(socket: Arc<server::WebSocket>, user_data: Option<Py<PyAny>>) -> Self {
        Self { socket, user_data: Mutex::new(user_data) }
    }

    fn python(&self) -> PyResult<&PyApp> {
        let app = self.socket.server().app().as_any().downcast_ref();
        app.ok_or_else(|| PyRuntimeError::new_err("the socket belongs to no application"))
    }

    fn transmit(
        &self,
        py: Python<'_>,
        message: &Bound<'_, PyAny>,
        opcode: OpCode,
        compress: bool,
        fin: bool,
    ) -> PyResult<SendStatus> {
        let app = self.python()?;
        let sent =
            Outgoing::new(app, message, opcode, fin && opcode != OpCode::Continuation).and_then(|outgoing| {
                let bytes = outgoing.as_bytes()?;
                Ok(if bytes.len() >= LARGE {
                    py.detach(|| self.socket.send(bytes, opcode, compress, fin))?
                } else {
                    self.socket.send(bytes, opcode, compress, fin)?
                })
            });
        match sent {
            // Nothing is wrong any more with what is sent to a socket that has ended (A-CALL-10).
            Err(_) if !self.socket.is_open() => Ok(SendStatus::Dropped),
            Err(error) => Err(error),
            Ok(status) => {
                app.flush_soon(py);
                Ok(status)
            }
        }
    }

    /// Runs what waits to be told, when that may happen on this thread now.
    fn tell_now(&self, py: Python<'_>) -> PyResult<()> {
        let app = self.python()?;
        app.flush_soon(py);
        if let Some(lane) = app.current_lane() {
            app.converse(py, &self.socket, lane);
        }
        Ok(())
    }

    fn tell_subscription(&self, py: Python<'_>, name: &[u8], count: usize, before: usize) -> PyResult<()> {
        let Some(listener) = self.socket.behavior().subscription else { return Ok(()) };
        let app = self.python()?;
        let event = Event::Subscription { topic: name.into(), count, before };
        if app.current_lane() == Some(listener.lane) {
            app.tell(py, &self.socket, event, 0);
        } else {
            self.socket.push(event);
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

    /// Messages that were dropped because too much waited for the client.
    #[getter]
    fn dropped(&self) -> u64 {
        self.socket.dropped()
    }

    // ---- sending ------------------------------------------------------------------------------------------------

    #[pyo3(signature = (message, opcode = None, compress = false, fin = true))]
    fn send(
        &self,
        py: Python<'_>,
        message: &Bound<'_, PyAny>,
        opcode: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = truth)] compress: bool,
        #[pyo3(from_py_with = truth)] fin: bool,
    ) -> PyResult<Py<PyAny>> {
        outgoing::status(py, self.transmit(py, message, outgoing::opcode(opcode)?, compress, fin)?)
    }

    #[pyo3(signature = (message, opcode = None, compress = false, fin = true))]
    fn cork_send<'py>(
        slf: Slf<'py>,
        message: &Bound<'py, PyAny>,
        opcode: Option<&Bound<'py, PyAny>>,
        #[pyo3(from_py_with = truth)] compress: bool,
        #[pyo3(from_py_with = truth)] fin: bool,
    ) -> PyResult<Slf<'py>> {
        slf.get().transmit(slf.py(), message, outgoing::opcode(opcode)?, compress, fin)?;
        Ok(slf)
    }

    #[pyo3(signature = (message, opcode = None, compress = false))]
    fn send_first_fragment(
        &self,
        py: Python<'_>,
        message: &Bound<'_, PyAny>,
        opcode: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = truth)] compress: bool,
    ) -> PyResult<Py<PyAny>> {
        outgoing::status(py, self.transmit(py, message, outgoing::opcode(opcode)?, compress, false)?)
    }

    #[pyo3(signature = (message, compress = false))]
    fn send_fragment(
        &self,
        py: Python<'_>,
        message: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = truth)] compress: bool,
    ) -> PyResult<Py<PyAny>> {
        outgoing::status(py, self.transmit(py, message, OpCode::Continuation, compress, false)?)
    }

    #[pyo3(signature = (message, compress = false))]
    fn send_last_fragment(
        &self,
        py: Python<'_>,
        message: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = truth)] compress: bool,
    ) -> PyResult<Py<PyAny>> {
        outgoing::status(py, self.transmit(py, message, OpCode::Continuation, compress, true)?)
    }

    fn cork<'py>(slf: Slf<'py>, callback: &Bound<'py, PyAny>) -> PyResult<Slf<'py>> {
        let (this, py) = (slf.get(), slf.py());
        if this.python()?.is_coroutine(py, &callback.clone().unbind()) {
            call_with(&PyApp::helper(py, "error_log", "log_async_refused")?, ("cork", callback))?;
            return Ok(slf);
        }
        let batch = open_batch();
        let result = call(callback, [&slf]);
        drop(batch);
        if let Err(error) = result {
            PyApp::log_callback(py, "cork", &error, callback);
        }
        Ok(slf)
    }

    fn drain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let future = self.python()?.create_future(py)?;
        if let Some(attached) = Attached::of(&self.socket) {
            // Registered first: what happens in between finds it.
            attached.await_room(py, future.clone().unbind());
            if !self.socket.await_room() {
                attached.resolve_rooms(py);
            }
        }
        Ok(future)
    }

    fn get_buffered_amount(&self) -> usize {
        self.socket.buffered()
    }

    // ---- ending -------------------------------------------------------------------------------------------------

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

    // ---- topics -------------------------------------------------------------------------------------------------

    fn subscribe(&self, py: Python<'_>, topic: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Some(name) = outgoing::topic(topic)? else { return Ok(false) };
        // Whoever leaves a topic at the end is found by what is kept here.
        let _ = Attached::of(&self.socket);
        match self.socket.subscribe(&name) {
            Subscribed::New { count } => {
                self.tell_subscription(py, &name, count, count - 1)?;
                Ok(true)
            }
            Subscribed::Already => Ok(true),
            Subscribed::Refused => Ok(false),
        }
    }

    fn unsubscribe(&self, py: Python<'_>, topic: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Some(name) = outgoing::topic(topic)? else { return Ok(false) };
        let Some(count) = self.socket.unsubscribe(&name) else { return Ok(false) };
        self.tell_subscription(py, &name, count, count + 1)?;
        Ok(true)
    }

    fn is_subscribed(&self, topic: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(outgoing::topic(topic)?.is_some_and(|name| self.socket.is_subscribed(&name)))
    }

    #[pyo3(signature = (topic, message, opcode = None, compress = false))]
    fn publish(
        &self,
        py: Python<'_>,
        topic: &Bound<'_, PyAny>,
        message: &Bound<'_, PyAny>,
        opcode: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = truth)] compress: bool,
    ) -> PyResult<bool> {
        outgoing::publish(py, self.python()?, Some(self.socket.server()), topic, message, opcode, compress)
    }

    fn get_topics<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyAny>> {
        self.socket.topics().iter().map(|name| convert::topic(py, name)).collect()
    }

    fn for_each_topic<'py>(slf: Slf<'py>, handler: &Bound<'py, PyAny>) -> PyResult<Slf<'py>> {
        let (this, py) = (slf.get(), slf.py());
        if this.python()?.is_coroutine(py, &handler.clone().unbind()) {
            call_with(&PyApp::helper(py, "error_log", "log_async_refused")?, ("for_each_topic", handler))?;
            return Ok(slf);
        }
        for name in this.get_topics(py) {
            if let Err(error) = call(handler, [&name]) {
                PyApp::log_callback(py, "for_each_topic", &error, handler);
            }
        }
        Ok(slf)
    }

    // ---- what it is ---------------------------------------------------------------------------------------------

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
        // A lock that is taken is taken by a thread that uses what it guards, so it is no garbage.
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
