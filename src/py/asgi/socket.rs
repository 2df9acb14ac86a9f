//! One WebSocket, as an ASGI application receives from it and sends to it: first a handshake, which it accepts or answers as an
//! HTTP request, then the socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pyo3::exceptions::{PyKeyError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::app::{Lane, Signal};
use crate::py::asgi::awaitable::{Awaited, Done, Pending, Polled};
use crate::py::asgi::burst::Burst;
use crate::py::asgi::http::{HttpCall, app};
use crate::py::asgi::message::Message;
use crate::py::asgi::waits::{For, Waits};
use crate::py::bridge::PyApp;
use crate::py::calling::type_name;
use crate::py::door::door;
use crate::py::message::{Payload, raw};
use crate::py::outgoing;
use crate::server::{self, Event, Exchange, SendStatus};
use crate::websocket::OpCode;
use crate::websocket::frame::is_valid_close_code;
use crate::websocket::handshake::first_protocol;

/// Beyond this much unsent output `send` waits.
const HIGH_WATER: usize = 64 * 1024;
/// The most bytes of a reason (RFC 6455 5.5).
const LONGEST_REASON: usize = 123;
/// The end of a socket whose application has returned, and that of one whose application has failed.
const NORMAL: u16 = 1000;
const INTERNAL_ERROR: u16 = 1011;
/// No close frame came.
const ABNORMAL: u16 = 1006;

/// What an accepted socket is to its application. It lives in the socket.
#[derive(Default)]
pub(crate) struct Accepted {
    waits: Waits,
    /// The end, once it has been received.
    end: Mutex<Option<(u16, Box<[u8]>)>>,
    /// What the application has received and sent since the loop's last turn.
    burst: Mutex<Burst>,
}

impl Accepted {
    /// That of a socket, if an ASGI application serves it.
    pub(crate) fn of(socket: &server::WebSocket) -> Option<&Self> {
        if socket.server().is_abandoned() {
            return None;
        }
        socket.user().get()?.downcast_ref()
    }

    /// There are messages, or there is room, or the socket has ended: on the loop's thread.
    pub(crate) fn hear(&self, py: Python<'_>, socket: &server::WebSocket) {
        // An application that only sends may not take the end for long.
        socket.leave_topics();
        self.wake(py);
    }

    fn wake(&self, py: Python<'_>) {
        self.waits.wake(py, For::Message);
        self.waits.wake(py, For::Room);
    }

    /// The next message of `receive`.
    pub(super) fn poll_message<'py>(
        py: Python<'py>,
        socket: &Arc<server::WebSocket>,
    ) -> PyResult<Polled<'py>> {
        let Some(accepted) = Self::of(socket) else { return disconnect(py, ABNORMAL, b"") };
        let app = server_app(socket.server())?;
        // Before a message is taken: one that is cancelled meanwhile loses nothing.
        if accepted.burst.lock().is_long(app.turn_of_loop()) {
            return Ok(Polled::Turn);
        }
        loop {
            let end = accepted.end.lock().clone();
            if let Some((code, reason)) = end {
                return disconnect(py, code, &reason);
            }
            // Another may wait already, in front.
            let Some(event) = socket.next(Lane::Loop, 0) else { break };
            let weight = event.weight();
            let message = match event {
                Event::Text(bytes) => received(py, intern!(py, "text"), text(py, &bytes).as_any()),
                Event::Binary(bytes) => received(py, intern!(py, "bytes"), PyBytes::new(py, &bytes).as_any()),
                Event::Close { code, reason } => {
                    *accepted.end.lock() = Some((code, reason.unwrap_or_default()));
                    // The others hear of it as well.
                    accepted.wake(py);
                    continue;
                }
                Event::Open
                | Event::Ping(_)
                | Event::Pong(_)
                | Event::Drain
                | Event::Room
                | Event::Subscription { .. } => continue,
            };
            socket.finished(weight);
            accepted.burst.lock().add(weight);
            return message;
        }
        Ok(Polled::Wait(accepted.waits.wait(py, app, For::Message)?))
    }

    /// Sends a message once there is room for it.
    pub(super) fn poll_send<'py>(
        py: Python<'py>,
        socket: &Arc<server::WebSocket>,
        held: &Mutex<Option<(Py<PyAny>, OpCode)>>,
    ) -> PyResult<Polled<'py>> {
        let Some(accepted) = Self::of(socket) else { return Err(gone(py)) };
        let wait = || {
            let future = accepted.waits.wait(py, server_app(socket.server())?, For::Room)?;
            if !socket.await_room() {
                accepted.wake(py);
            }
            Ok(Polled::Wait(future))
        };
        if socket.buffered() > high_water(socket) {
            return wait();
        }
        let waiting = held.lock().take();
        if let Some((message, opcode)) = waiting {
            let payload = raw(message.bind(py))?;
            let bytes = payload.as_ref().map(Payload::as_bytes).transpose()?.unwrap_or_default();
            if socket.send(bytes, opcode, true, true)? == SendStatus::Dropped {
                if !socket.is_open() {
                    return Err(gone(py));
                }
                // Another was faster.
                *held.lock() = Some((message, opcode));
                return wait();
            }
        }
        Ok(Polled::Ready(py.None().into_bound(py)))
    }

    /// The application does not receive any more: what is left is dropped, and the socket released.
    fn release(&self, socket: &Arc<server::WebSocket>) {
        while let Some(event) = socket.next(Lane::Loop, 0) {
            let weight = event.weight();
            if let Event::Close { code, reason } = event {
                *self.end.lock() = Some((code, reason.unwrap_or_default()));
            }
            socket.finished(weight);
        }
    }
}

/// Bytes of unsent output beyond which `send` waits: before the socket would drop a message.
fn high_water(socket: &server::WebSocket) -> usize {
    match socket.behavior().config.max_backpressure {
        0 => HIGH_WATER,
        limit => limit.min(HIGH_WATER),
    }
}

fn server_app(server: &Arc<server::Server>) -> PyResult<&PyApp> {
    let app = server.app().as_any().downcast_ref();
    app.ok_or_else(|| PyRuntimeError::new_err("the socket belongs to no application"))
}

fn text<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    // It was checked on arrival.
    crate::py::convert::text(py, bytes)
}

fn received<'py>(
    py: Python<'py>,
    key: &Bound<'py, PyString>,
    value: &Bound<'py, PyAny>,
) -> PyResult<Polled<'py>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "websocket.receive"))?;
    message.set_item(key, value)?;
    Ok(Polled::Ready(message.into_any()))
}

fn disconnect<'py>(py: Python<'py>, code: u16, reason: &[u8]) -> PyResult<Polled<'py>> {
    let message = PyDict::new(py);
    let reason = text(py, reason);
    message.set_item(intern!(py, "type"), intern!(py, "websocket.disconnect"))?;
    message.set_item(intern!(py, "code"), code)?;
    message.set_item(intern!(py, "reason"), &reason)?;
    // The name before version 2.3 of the specification.
    message.set_item(intern!(py, "message"), reason)?;
    Ok(Polled::Ready(message.into_any()))
}

/// The error of `send` after the client has left.
fn gone(py: Python<'_>) -> PyErr {
    match crate::py::calling::call(
        door(py).client_disconnected.bind(py),
        [PyString::new(py, "the client of the WebSocket has left").as_any()],
    ) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// How far the socket is.
enum Stage {
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
    stage: Mutex<Stage>,
    /// The application has been told of the connection.
    connected: AtomicBool,
    /// The application's part has not ended.
    open: AtomicBool,
}

impl SocketCall {
    pub(super) fn new(py: Python<'_>, exchange: &Arc<Exchange>) -> PyResult<Py<Self>> {
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

    fn exchange(&self) -> Option<Arc<Exchange>> {
        self.handshake.lock().as_ref().map(|call| Arc::clone(call.get().exchange()))
    }

    fn socket(&self) -> Option<Arc<server::WebSocket>> {
        match &*self.stage.lock() {
            Stage::Open(socket) => Some(Arc::clone(socket)),
            _ => None,
        }
    }

    /// The next message of `receive`.
    pub(super) fn poll_message<'py>(&self, py: Python<'py>) -> PyResult<Polled<'py>> {
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

    fn send_message<'py>(&self, py: Python<'py>, message: &Message<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let Some(socket) = self.socket() else { return Err(self.out_of_order("websocket.send")) };
        let (payload, opcode) = outgoing_message(message)?;
        let content = raw(&payload)?;
        let Some(content) = content else {
            return Err(PyTypeError::new_err(format!(
                "the message of a WebSocket is bytes or str, not {}",
                type_name(&payload)
            )));
        };
        let bytes = content.as_bytes()?;
        let status = socket.send(bytes, opcode, true, true)?;
        let app = server_app(socket.server())?;
        app.flush_soon(py);
        let long = Accepted::of(&socket).is_some_and(|accepted| {
            let mut burst = accepted.burst.lock();
            burst.add(bytes.len());
            burst.is_long(app.turn_of_loop())
        });
        match status {
            // It waits until there is room, and is sent then.
            SendStatus::Dropped if socket.is_open() => {
                let held = match content {
                    Payload::Copied(bytes) => PyBytes::new(py, &bytes).into_any(),
                    Payload::Bytes(bytes) => bytes.into_any(),
                    Payload::Text(text) => text.into_any(),
                };
                Pending::of(py, Awaited::Sent(socket, Mutex::new(Some((held.unbind(), opcode)))))
            }
            SendStatus::Dropped => Err(gone(py)),
            SendStatus::Backpressure if socket.buffered() > high_water(&socket) => {
                Pending::of(py, Awaited::Sent(socket, Mutex::new(None)))
            }
            SendStatus::Success | SendStatus::Backpressure if long => Pending::of(py, Awaited::Turn),
            SendStatus::Success | SendStatus::Backpressure => Done::get(py),
        }
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

    fn topic<'py>(
        &self,
        py: Python<'py>,
        kind: &str,
        message: &Message<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Some(topic) = message.field(intern!(py, "topic"))? else {
            return Err(PyKeyError::new_err(format!("an ASGI message '{kind}' has a 'topic'")));
        };
        let done = if kind == "websocket.publish" {
            let (payload, opcode) = outgoing_message(message)?;
            let server = self
                .socket_or_closed()
                .map(|socket| Arc::clone(socket.server()))
                .or_else(|| self.exchange().map(|exchange| Arc::clone(exchange.server())));
            let Some(server) = server else { return Done::get(py) };
            let opcode = (opcode as u8).into_pyobject(py)?;
            let app = server_app(&server)?;
            outgoing::publish(py, app, Some(&server), &topic, &payload, Some(opcode.as_any()), true)?
        } else {
            let Some(socket) = self.socket() else { return Err(self.out_of_order(kind)) };
            let name = outgoing::topic(&topic)?;
            let Some(name) = name else {
                return Err(PyTypeError::new_err(format!(
                    "a topic is str or bytes, not {}",
                    type_name(&topic)
                )));
            };
            if kind == "websocket.subscribe" {
                !matches!(socket.subscribe(&name), crate::pubsub::Subscribed::Refused)
            } else {
                socket.unsubscribe(&name).is_some()
            }
        };
        Pending::of(py, Awaited::Known(done))
    }

    fn socket_or_closed(&self) -> Option<Arc<server::WebSocket>> {
        match &*self.stage.lock() {
            Stage::Open(socket) | Stage::Closed(Some(socket)) => Some(Arc::clone(socket)),
            _ => None,
        }
    }

    fn out_of_order(&self, kind: &str) -> PyErr {
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

/// The payload of a message to send: `bytes`, or `text`.
fn outgoing_message<'py>(message: &Message<'_, 'py>) -> PyResult<(Bound<'py, PyAny>, OpCode)> {
    let py = message.0.py();
    if let Some(bytes) = message.field(intern!(py, "bytes"))? {
        return Ok((bytes, OpCode::Binary));
    }
    match message.field(intern!(py, "text"))? {
        Some(text) if text.is_instance_of::<PyString>() => Ok((text, OpCode::Text)),
        Some(text) => {
            Err(PyTypeError::new_err(format!("the text of a message is a str, not {}", type_name(&text))))
        }
        None => Err(PyValueError::new_err("a message has 'bytes' or 'text': both are missing or None")),
    }
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
