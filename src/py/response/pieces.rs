//! Responses that are written in pieces, at the pace of the client.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;

use crate::app::Signal;
use crate::py::calling::{call, call_with, truth, type_name};
use crate::py::door::door;
use crate::py::futures::set_result;
use crate::py::listeners::Listeners;
use crate::py::message;
use crate::py::response::{Response, SLOW_TO_ENCODE, Slf};
use crate::server::Attempt;

impl Response {
    pub(super) fn attempted(&self, attempt: Attempt) {
        if attempt.over {
            Listeners::finish(&self.exchange);
        }
    }

    pub(super) fn await_room(
        &self,
        py: Python<'_>,
        future: &Bound<'_, PyAny>,
        room: &Py<PyAny>,
        gone: &Py<PyAny>,
    ) -> PyResult<()> {
        if let Some(listeners) = Listeners::of(&self.exchange) {
            listeners.await_room(py, future.clone().unbind(), room.clone_ref(py), gone.clone_ref(py));
            if !self.exchange.watch_writable() {
                let signal = if self.exchange.is_over() { Signal::Aborted } else { Signal::Writable };
                self.exchange.server().signal(&self.exchange, signal);
            }
            return Ok(());
        }
        set_result(future, gone.bind(py))
    }
}

#[pymethods]
impl Response {
    fn write<'py>(slf: Slf<'py>, message: &Bound<'py, PyAny>) -> PyResult<Slf<'py>> {
        let this = slf.get();
        if this.exchange.is_over() {
            return Ok(slf);
        }
        let app = this.python()?;
        let (payload, _) = message::payload(app, message)?;
        app.cork(slf.py(), &this.exchange);
        let bytes = payload.as_bytes()?;
        if bytes.len() > SLOW_TO_ENCODE && this.exchange.compresses() {
            slf.py().detach(|| this.exchange.write(bytes));
        } else {
            this.exchange.write(bytes);
        }
        Ok(slf)
    }

    #[pyo3(signature = (message, total_size, end_connection = false))]
    fn try_end(
        &self,
        message: &Bound<'_, PyAny>,
        total_size: u64,
        #[pyo3(from_py_with = truth)] end_connection: bool,
    ) -> PyResult<(bool, bool)> {
        let Some(payload) = message::raw(message)? else { return Ok((false, true)) };
        let attempt = self.exchange.try_end(payload.as_bytes()?, total_size, end_connection);
        self.attempted(attempt);
        Ok((attempt.taken, attempt.over))
    }

    fn send_chunk<'py>(
        slf: &Slf<'py>,
        buffer: &Bound<'py, PyAny>,
        total_size: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (this, py) = (slf.get(), slf.py());
        let Some(payload) = message::raw(buffer)? else {
            let name = type_name(buffer);
            return Err(PyTypeError::new_err(format!("send_chunk() takes str or bytes, not {name}")));
        };
        let future = this.python()?.create_future(py)?;
        let bytes = payload.as_bytes()?;
        let attempt = py.detach(|| this.exchange.send_chunk(bytes, total_size));
        this.attempted(attempt);
        let now = match attempt {
            Attempt { over: true, .. } => (this.exchange.has_responded(), true),
            _ if !attempt.taken => {
                let (room, gone) = (pair(py, true, false)?, pair(py, false, true)?);
                this.await_room(py, &future, &room, &gone)?;
                return Ok(future);
            }
            _ => (true, false),
        };
        set_result(&future, pair(py, now.0, now.1)?.bind(py))?;
        Ok(future)
    }

    fn drain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let future = self.python()?.create_future(py)?;
        self.await_room(py, &future, &py.None(), &py.None())?;
        Ok(future)
    }

    fn get_write_offset(&self) -> u64 {
        self.exchange.write_offset()
    }

    fn write_offset(slf: Slf<'_>, offset: u64) -> Slf<'_> {
        slf.get().exchange.set_write_offset(offset);
        slf
    }

    fn get_buffered_amount(&self) -> usize {
        self.exchange.buffered()
    }

    fn cork<'py>(slf: Slf<'py>, callback: &Bound<'py, PyAny>) -> PyResult<Slf<'py>> {
        let (this, py) = (slf.get(), slf.py());
        if this.exchange.is_over() {
            return Ok(slf);
        }
        if this.python()?.is_coroutine(py, &callback.clone().unbind()) {
            call_with(door(py).log_async_refused.bind(py), ("cork", callback))?;
            return Ok(slf);
        }
        let outermost = this.exchange.cork();
        let result = call(callback, [&slf]);
        if outermost {
            this.exchange.uncork();
        }
        // If it were only logged, the client would get no response: it counts as the handler's exception
        // (I-C-24).
        result?;
        Ok(slf)
    }
}

fn pair(py: Python<'_>, ok: bool, done: bool) -> PyResult<Py<PyAny>> {
    Ok((ok, done).into_pyobject(py)?.into_any().unbind())
}
