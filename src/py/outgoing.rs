//! Users' input to sockets (messages, opcodes, topics and close codes), checked before the core gets it.

use std::borrow::Cow;
use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::py::bridge::PyApp;
use crate::py::calling::{shown, type_name, whole};
use crate::py::door::door;
use crate::py::message::{self, Payload};
use crate::server::{self, SendError, SendStatus};
use crate::websocket::OpCode;
use crate::websocket::frame::is_valid_close_code;

/// A message shorter than this is published to at most [`FEW`] subscribers without releasing the GIL.
const QUICK: usize = 2 * 1024;
/// See [`QUICK`].
const FEW: usize = 128;

impl From<SendError> for PyErr {
    fn from(error: SendError) -> Self {
        match error {
            SendError::NothingBegun | SendError::NotEnded => PyRuntimeError::new_err(error.to_string()),
            _ => PyValueError::new_err(error.to_string()),
        }
    }
}

/// A member of the package's `SendStatus`.
pub(crate) fn status(py: Python<'_>, status: SendStatus) -> Py<PyAny> {
    let members = &door(py).send_status;
    let member = match status {
        SendStatus::Backpressure => &members.backpressure,
        SendStatus::Success => &members.success,
        SendStatus::Dropped => &members.dropped,
    };
    member.clone_ref(py)
}

/// An `OpCode` or its number; BINARY by default.
pub(crate) fn opcode(value: Option<&Bound<'_, PyAny>>) -> PyResult<OpCode> {
    let Some(value) = value else { return Ok(OpCode::Binary) };
    whole(value).ok().and_then(|bits| bits.extract().ok()).and_then(OpCode::from_bits).ok_or_else(|| {
        PyValueError::new_err(format!(
            "{} is no opcode: expected a member of OpCode, such as OpCode.TEXT",
            shown(value)
        ))
    })
}

/// A message and its opcode, checked: text on the wire is UTF-8 (RFC 6455 5.6).
pub(crate) struct Outgoing<'py> {
    payload: Payload<'py>,
    pub(crate) opcode: OpCode,
}

impl<'py> Outgoing<'py> {
    /// `whole` is false for a part of a message, which may end in the middle of a character.
    pub(crate) fn new(
        app: &PyApp,
        message: &Bound<'py, PyAny>,
        opcode: OpCode,
        whole: bool,
    ) -> PyResult<Self> {
        let payload =
            if message.is_none() { Payload::Copied(Vec::new()) } else { message::payload(app, message)?.0 };
        if opcode == OpCode::Text && whole && !matches!(payload, Payload::Text(_)) {
            std::str::from_utf8(payload.as_bytes()?).map_err(|error| {
                PyValueError::new_err(format!(
                    "a TEXT message must be UTF-8: {error}; expected str, or OpCode.BINARY"
                ))
            })?;
        }
        Ok(Self { payload, opcode })
    }

    pub(crate) fn as_bytes(&self) -> PyResult<&[u8]> {
        self.payload.as_bytes()
    }
}

/// The code of a close frame: 0 for none, else one that RFC 6455 7.4 defines or leaves to applications. Codes
/// that are never sent count as none on the wire.
pub(crate) fn close_code(value: &Bound<'_, PyAny>) -> PyResult<u16> {
    let known = |code: &u16| matches!(code, 0 | 1005 | 1006 | 1015) || is_valid_close_code(*code);
    whole(value).ok().and_then(|code| code.extract().ok()).filter(known).ok_or_else(|| {
        PyRuntimeError::new_err(format!(
            "{} is not a close code: expected 0, 1000 to 1003, 1007 to 1014, or 3000 to 4999",
            shown(value)
        ))
    })
}

/// A topic: `None` for a value that is neither `str` nor bytes-like.
pub(crate) fn topic<'a>(value: &'a Bound<'_, PyAny>) -> PyResult<Option<Cow<'a, [u8]>>> {
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Some(Cow::Borrowed(text.to_str()?.as_bytes())));
    }
    match message::raw(value)? {
        Some(payload) => Ok(Some(Cow::Owned(payload.as_bytes()?.to_vec()))),
        None => Ok(None),
    }
}

/// Publishes a message; returns whether there was a subscriber.
pub(crate) fn publish(
    py: Python<'_>,
    app: &PyApp,
    server: Option<&Arc<server::Server>>,
    topic: &Bound<'_, PyAny>,
    message: &Bound<'_, PyAny>,
    opcode: Option<&Bound<'_, PyAny>>,
    compress: bool,
) -> PyResult<bool> {
    let Some(name) = self::topic(topic)? else { return Ok(false) };
    let outgoing = Outgoing::new(app, message, self::opcode(opcode)?, true)?;
    if !matches!(outgoing.opcode, OpCode::Text | OpCode::Binary) {
        return Err(PyValueError::new_err("only TEXT and BINARY messages can be published"));
    }
    let Some(server) = server else { return Ok(false) };
    let bytes = outgoing.as_bytes()?;
    // In a batch a small message to few is only queued here, which is faster than releasing the GIL.
    let quick = !compress && bytes.len() < QUICK && server.subscriber_count(&name) <= FEW;
    let count = if quick && app.current_lane().is_some() {
        server.publish(&name, bytes, outgoing.opcode, compress)
    } else {
        py.detach(|| server.publish(&name, bytes, outgoing.opcode, compress))
    };
    app.flush_soon(py);
    Ok(count > 0)
}

/// The number of subscribers of a topic.
pub(crate) fn subscribers(server: Option<&Arc<server::Server>>, topic: &Bound<'_, PyAny>) -> PyResult<usize> {
    let Some(name) = self::topic(topic)? else {
        let name = type_name(topic);
        return Err(PyRuntimeError::new_err(format!("a topic must be str or bytes, not {name}")));
    };
    Ok(server.map_or(0, |server| server.subscriber_count(&name)))
}
