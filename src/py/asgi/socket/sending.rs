//! What an application sends on an accepted socket, and its topics.

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::py::asgi::awaitable::{Awaited, Done, Pending};
use crate::py::asgi::message::Message;
use crate::py::asgi::socket::call::{SocketCall, Stage};
use crate::py::asgi::socket::{Accepted, gone, high_water, server_app};
use crate::py::calling::type_name;
use crate::py::message::{Payload, raw};
use crate::py::outgoing;
use crate::server::{self, SendStatus};
use crate::websocket::OpCode;

impl SocketCall {
    pub(super) fn send_message<'py>(
        &self,
        py: Python<'py>,
        message: &Message<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
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

    pub(super) fn topic<'py>(
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
