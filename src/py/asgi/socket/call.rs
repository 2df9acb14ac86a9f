//! The calls of an application about one WebSocket: first a handshake, which it accepts or answers as an HTTP request, then the
//! socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::app::Signal;
use crate::py::asgi::awaitable::{Awaited, Done, Pending, Polled};
use crate::py::asgi::http::{HttpCall, app};
use crate::py::asgi::message::Message;
use crate::py::asgi::socket::{ABNORMAL, Accepted, disconnect, gone};
use crate::py::asgi::waits::{For, Waits};
use crate::py::calling::type_name;
use crate::server::{self, Exchange};
use crate::websocket::frame::is_valid_close_code;
use crate::websocket::handshake::first_protocol;

/// The most bytes of a reason (RFC 6455 5.5).
const LONGEST_REASON: usize = 123;
/// The end of a socket whose application has returned, and that of one whose application has failed.
const NORMAL: u16 = 1000;
const INTERNAL_ERROR: u16 = 1011;

/// How far the socket is.
pub(super) enum Stage {
    /// The handshake waits for the application.
    Handshake,
    /// The application answers it as an HTTP request.
    Denied,
    Open(Arc<server::WebSocket>),
    /// The application has closed it.
    Closed(Option<Arc<server::WebSocket>>),
}

/// `receive` and `send` of one WebSocket are methods of this.
#[pyclass(frozen, module = "socketify._core")]
pub(crate) struct SocketCall {
    /// The handshake, until it is accepted.
    handshake: Mutex<Option<Py<HttpCall>>>,
    pub(super) stage: Mutex<Stage>,
    /// The application has been told of the connection.
    connected: AtomicBool,
    /// The application's part has not ended.
    open: AtomicBool,
}

impl SocketCall {
    pub(in crate::py::asgi) fn new(py: Python<'_>, exchange: &Arc<Exchange>) -> PyResult<Py<Self>> {
        let handshake = HttpCall::new(py, exchange)?;
        Py::new(
            py,
            Self {
                handshake: Mutex::new(Some(handshake)),
                stage: Mutex::new(Stage::Handshake),
                connected: AtomicBool::new(false),
                open: AtomicBool::new(true),
            },
        )
    }

    pub(super) fn exchange(&self) -> Option<Arc<Exchange>> {
        self.handshake.lock().as_ref().map(|call| Arc::clone(call.get().exchange()))
    }

    pub(super) fn socket(&self) -> Option<Arc<server::WebSocket>> {
        match &*self.stage.lock() {
            Stage::Open(socket) => Some(Arc::clone(socket)),
            _ => None,
        }
    }

    /// The next message of `receive`.
    pub(in crate::py::asgi) fn poll_message<'py>(&self, py: Python<'py>) -> PyResult<Polled<'py>> {
        if !self.connected.swap(true, Ordering::Relaxed) {
            let message = PyDict::new(py);
            message.set_item(intern!(py, "type"), intern!(py, "websocket.connect"))?;
            return Ok(Polled::Ready(message.into_any()));
        }
        let socket = match &*self.stage.lock() {
            Stage::Open(socket) | Stage::Closed(Some(socket)) => Some(Arc::clone(socket)),
            _ => None,
        };
        if let Some(socket) = socket {
            return Accepted::poll_message(py, &socket);
        }
        let Some(exchange) = self.exchange() else { return disconnect(py, ABNORMAL, b"") };
        let is_over = || exchange.is_over() || exchange.is_aborted();
        if is_over() {
            return disconnect(py, ABNORMAL, b"");
        }
        let Some(waits) = Waits::of(&exchange) else { return disconnect(py, ABNORMAL, b"") };
        let future = waits.wait(py, app(&exchange)?, For::Message)?;
        // Between the look and the registration: then no signal comes any more.
        if is_over() {
            exchange.server().signal(&exchange, Signal::Aborted);
        }
        Ok(Polled::Wait(future))
    }

    fn accept<'py>(&self, py: Python<'py>, message: &Message<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let kind = "websocket.accept";
        if !matches!(*self.stage.lock(), Stage::Handshake) {
            return Err(unexpected(kind, "the handshake has been answered"));
        }
        let Some(call) = self.handshake.lock().as_ref().map(|call| call.clone_ref(py)) else {
            return Err(gone(py));
        };
        let exchange = call.get().exchange();
        let protocol = message.field(intern!(py, "subprotocol"))?;
        let protocol = match &protocol {
            None => None,
            Some(value) => Some(
                value
                    .cast::<PyString>()
                    .map_err(|_| {
                        PyTypeError::new_err(format!("a subprotocol is a str, not {}", type_name(value)))
                    })?
                    .to_str()?,
            ),
        };
        if let Some(protocol) = protocol
            && first_protocol(protocol.as_bytes()).is_none_or(|token| token.len() != protocol.len())
        {
            return Err(PyValueError::new_err(format!(
                "{protocol:?} is not a subprotocol: expected a token"
            )));
        }
        message.add_accept_headers(exchange)?;
        let accepted = exchange.accept(protocol.map(str::as_bytes), Box::<Accepted>::default());
        let Some(socket) = accepted.map_err(|error| PyRuntimeError::new_err(error.to_string()))? else {
            return Err(gone(py));
        };
        let app = app(exchange)?;
        *self.stage.lock() = Stage::Open(socket);
        // The request is not needed while the socket lives, which may be long.
        call.get().leave(py)?;
        let handshake = self.handshake.lock().take();
        app.flush_soon(py);
        drop(handshake);
        Done::get(py)
    }

    fn close<'py>(&self, py: Python<'py>, message: &Message<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let Some(socket) = self.socket() else {
            if !matches!(*self.stage.lock(), Stage::Handshake) {
                return Err(self.out_of_order("websocket.close"));
            }
            *self.stage.lock() = Stage::Closed(None);
            if let Some(call) = self.handshake.lock().as_ref().map(|call| call.clone_ref(py)) {
                call.get().refuse(py, 403)?;
            }
            return Done::get(py);
        };
        let code = match message.field(intern!(py, "code"))? {
            None => NORMAL,
            Some(code) => {
                code.extract::<u16>().ok().filter(|code| is_valid_close_code(*code)).ok_or_else(|| {
                    PyValueError::new_err(format!(
                        "{} is not a close code: expected 1000 to 1003, 1007 to 1014, or 3000 to 4999",
                        crate::py::calling::represented(&code)
                    ))
                })?
            }
        };
        let reason = message.field(intern!(py, "reason"))?;
        let reason = match &reason {
            None => "",
            Some(value) => value
                .cast::<PyString>()
                .map_err(|_| {
                    PyTypeError::new_err(format!(
                        "the reason of a close frame is a str, not {}",
                        type_name(value)
                    ))
                })?
                .to_str()?,
        };
        let mut end = reason.len().min(LONGEST_REASON);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        *self.stage.lock() = Stage::Closed(Some(Arc::clone(&socket)));
        socket.end(code, Some(&reason.as_bytes()[..end]));
        Done::get(py)
    }

    /// Answers the handshake as an HTTP request.
    fn deny<'py>(
        &self,
        py: Python<'py>,
        kind: &str,
        message: &Message<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let fits = match *self.stage.lock() {
            Stage::Handshake => kind == "http.response.start",
            Stage::Denied => kind == "http.response.body",
            Stage::Open(_) | Stage::Closed(_) => false,
        };
        if !fits {
            return Err(self.out_of_order(&format!("websocket.{kind}")));
        }
        let Some(call) = self.handshake.lock().as_ref().map(|call| call.clone_ref(py)) else {
            return Err(gone(py));
        };
        let responded = call.get().respond(py, kind, message)?;
        *self.stage.lock() = Stage::Denied;
        Ok(responded)
    }

    pub(super) fn out_of_order(&self, kind: &str) -> PyErr {
        unexpected(
            kind,
            match *self.stage.lock() {
                Stage::Handshake => "expected 'websocket.accept' first",
                Stage::Denied => "the handshake has been answered with an HTTP response",
                Stage::Open(_) => "the socket is open",
                Stage::Closed(_) => "the socket has been closed",
            },
        )
    }
}

fn unexpected(kind: &str, why: &str) -> PyErr {
    PyRuntimeError::new_err(format!("unexpected ASGI message '{kind}': {why}"))
}

#[pymethods]
impl SocketCall {
    /// Gives the next message to the application.
    fn receive(slf: Bound<'_, Self>) -> PyResult<Bound<'_, PyAny>> {
        let py = slf.py();
        Pending::of(py, Awaited::SocketMessage(slf.unbind()))
    }

    /// Takes a message of the application. What it says is done when this returns, unless there has to be room first.
    fn send<'py>(&self, py: Python<'py>, event: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let message = Message::new(event)?;
        let kind = message.kind()?;
        match kind.to_str()? {
            "websocket.send" => self.send_message(py, &message),
            "websocket.accept" => self.accept(py, &message),
            "websocket.close" => self.close(py, &message),
            "websocket.http.response.start" => self.deny(py, "http.response.start", &message),
            "websocket.http.response.body" => self.deny(py, "http.response.body", &message),
            kind @ ("websocket.publish" | "websocket.subscribe" | "websocket.unsubscribe") => {
                self.topic(py, kind, &message)
            }
            other => Err(PyValueError::new_err(format!(
                "unknown type of an ASGI message for a WebSocket: {other:?}"
            ))),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.handshake.try_lock() {
            Some(handshake) => visit.call(handshake.as_ref()),
            None => Ok(()),
        }
    }

    fn __clear__(&self) {
        let handshake = self.handshake.lock().take();
        drop(handshake);
    }

    /// The application's part has ended. Gives what that means; see `HttpCall`.
    fn finish(&self, py: Python<'_>, failed: bool) -> PyResult<Option<&'static str>> {
        if !self.open.swap(false, Ordering::Relaxed) {
            return Ok(None);
        }
        let handshake = self.handshake.lock().take();
        if let Some(call) = handshake {
            let denied = matches!(*self.stage.lock(), Stage::Denied);
            return call.get().end_part(py, denied && !failed);
        }
        let (open, socket) = match &*self.stage.lock() {
            Stage::Open(socket) => (true, Some(Arc::clone(socket))),
            Stage::Closed(socket) => (false, socket.clone()),
            _ => (false, None),
        };
        let Some(socket) = socket else { return Ok(None) };
        let ended = socket.end(if failed { INTERNAL_ERROR } else { NORMAL }, None);
        if let Some(accepted) = Accepted::of(&socket) {
            accepted.release(&socket);
            accepted.wake(py);
        }
        Ok((open && !ended).then_some("gone"))
    }
}

impl Drop for SocketCall {
    /// Its task has ended without a word: the loop has ended.
    fn drop(&mut self) {
        if std::mem::take(self.open.get_mut())
            && let Stage::Open(socket) | Stage::Closed(Some(socket)) = self.stage.get_mut()
        {
            socket.end(INTERNAL_ERROR, None);
            if let Some(accepted) = Accepted::of(socket) {
                accepted.release(socket);
            }
        }
    }
}
