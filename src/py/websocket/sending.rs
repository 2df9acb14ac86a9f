//! Messages that are sent to a socket, and room for them.

use pyo3::prelude::*;

use crate::py::bridge::PyApp;
use crate::py::calling::{call, call_with, truth};
use crate::py::door::door;
use crate::py::outgoing::{self, Outgoing};
use crate::py::sockets::Attached;
use crate::py::websocket::{Slf, WebSocket};
use crate::server::{SendStatus, open_batch};
use crate::websocket::OpCode;

/// A payload from this size on is written without the GIL.
const LARGE: usize = 256 * 1024;

impl WebSocket {
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
            // A socket that has ended accepts any message (A-CALL-10).
            Err(_) if !self.socket.is_open() => Ok(SendStatus::Dropped),
            Err(error) => Err(error),
            Ok(status) => {
                app.flush_soon(py);
                Ok(status)
            }
        }
    }
}

#[pymethods]
impl WebSocket {
    #[pyo3(signature = (message, opcode = None, compress = false, fin = true))]
    fn send(
        &self,
        py: Python<'_>,
        message: &Bound<'_, PyAny>,
        opcode: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = truth)] compress: bool,
        #[pyo3(from_py_with = truth)] fin: bool,
    ) -> PyResult<Py<PyAny>> {
        Ok(outgoing::status(py, self.transmit(py, message, outgoing::opcode(opcode)?, compress, fin)?))
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
        Ok(outgoing::status(py, self.transmit(py, message, outgoing::opcode(opcode)?, compress, false)?))
    }

    #[pyo3(signature = (message, compress = false))]
    fn send_fragment(
        &self,
        py: Python<'_>,
        message: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = truth)] compress: bool,
    ) -> PyResult<Py<PyAny>> {
        Ok(outgoing::status(py, self.transmit(py, message, OpCode::Continuation, compress, false)?))
    }

    #[pyo3(signature = (message, compress = false))]
    fn send_last_fragment(
        &self,
        py: Python<'_>,
        message: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = truth)] compress: bool,
    ) -> PyResult<Py<PyAny>> {
        Ok(outgoing::status(py, self.transmit(py, message, OpCode::Continuation, compress, true)?))
    }

    fn cork<'py>(slf: Slf<'py>, callback: &Bound<'py, PyAny>) -> PyResult<Slf<'py>> {
        let (this, py) = (slf.get(), slf.py());
        if this.python()?.is_coroutine(py, &callback.clone().unbind()) {
            call_with(door(py).log_async_refused.bind(py), ("cork", callback))?;
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
            // Registered first: an event in between finds it.
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
}
