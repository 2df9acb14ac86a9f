//! One WebSocket, as an ASGI application receives from it and sends to it: what is known of it once it is accepted. `call` has the
//! calls, `sending` what it sends.

mod call;
mod sending;

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

pub(crate) use self::call::SocketCall;

use crate::app::Lane;
use crate::py::asgi::awaitable::Polled;
use crate::py::asgi::burst::Burst;
use crate::py::asgi::waits::{For, Waits};
use crate::py::bridge::PyApp;
use crate::py::door::door;
use crate::py::message::{Payload, raw};
use crate::server::{self, Event, SendStatus};
use crate::websocket::OpCode;

/// Beyond this much unsent output `send` waits.
const HIGH_WATER: usize = 64 * 1024;
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
