//! What `receive()` and `send()` return: objects that asyncio takes for coroutines (`collections.abc.Coroutine`), without a
//! frame of Python's behind them.

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBool;

use crate::py::asgi::http::Http;
use crate::py::asgi::socket::{Accepted, SocketCall};
use crate::py::calling::call;
use crate::server::{Exchange, WebSocket};
use crate::websocket::OpCode;

/// A call that has ended with None. There is one for all: it has no state.
#[pyclass(frozen, module = "socketify._core")]
pub(crate) struct Done;

impl Done {
    /// The one object.
    pub(super) fn get(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        static DONE: PyOnceLock<Py<Done>> = PyOnceLock::new();
        Ok(DONE.get_or_try_init(py, || Py::new(py, Self))?.bind(py).clone().into_any())
    }
}

#[pymethods]
#[expect(clippy::unused_self, reason = "the signatures are the protocol's")]
impl Done {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self) -> Option<Py<PyAny>> {
        None
    }

    #[pyo3(signature = (value, /))]
    fn send(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = value;
        Err(PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (error, value = None, traceback = None, /))]
    fn throw(
        &self,
        error: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = traceback;
        Err(thrown(error, value))
    }

    fn close(&self) {}

    #[classattr]
    fn cr_running() -> bool {
        false
    }

    #[classattr]
    fn cr_suspended() -> bool {
        false
    }

    #[classattr]
    fn cr_frame() -> Option<Py<PyAny>> {
        None
    }

    #[classattr]
    fn cr_await() -> Option<Py<PyAny>> {
        None
    }

    #[classattr]
    fn cr_code() -> Option<Py<PyAny>> {
        None
    }
}

/// What a call of the application waits for.
pub(super) enum Awaited {
    /// A message for `receive`.
    Message(Arc<Exchange>),
    /// Room for more output.
    Room(Arc<Exchange>),
    /// The client's leaving, or the end of the response.
    Departure(Arc<Exchange>),
    /// One turn of the loop.
    Turn,
    /// A message for the `receive` of a WebSocket.
    SocketMessage(Py<SocketCall>),
    /// Room on a WebSocket, and then for a message that is sent by it.
    Sent(Arc<WebSocket>, Mutex<Option<(Py<PyAny>, OpCode)>>),
    /// This is known.
    Known(bool),
}

/// The state of something awaited.
pub(super) enum Polled<'py> {
    /// It is there.
    Ready(Bound<'py, PyAny>),
    /// This future will be done when it is worth another look.
    Wait(Bound<'py, PyAny>),
    /// The loop has to have a turn first.
    Turn,
}

/// How far the awaiting task has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Fresh,
    Suspended,
    Over,
}

/// A call that may have to wait. It takes what it waits for at its first step, and not before: a task of it that is cancelled before it
/// runs loses nothing.
#[pyclass(frozen, module = "socketify._core")]
pub(crate) struct Pending {
    awaited: Awaited,
    progress: Mutex<Progress>,
}

impl Pending {
    pub(super) fn of(py: Python<'_>, awaited: Awaited) -> PyResult<Bound<'_, PyAny>> {
        Ok(Bound::new(py, Self { awaited, progress: Mutex::new(Progress::Fresh) })?.into_any())
    }

    /// The next step: a future to wait for, None for a turn of the loop, or `StopIteration` with the result.
    fn step<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let before = std::mem::replace(&mut *self.progress.lock(), Progress::Over);
        let polled = match (&self.awaited, before) {
            (_, Progress::Over) => {
                return Err(PyRuntimeError::new_err("this call has been awaited already"));
            }
            (Awaited::Turn, Progress::Fresh) => {
                *self.progress.lock() = Progress::Suspended;
                return Ok(py.None().into_bound(py));
            }
            (Awaited::Turn, Progress::Suspended) => Polled::Ready(py.None().into_bound(py)),
            (Awaited::Message(exchange), _) => Http::poll_message(py, exchange)?,
            (Awaited::Room(exchange), _) => Http::poll_room(py, exchange)?,
            (Awaited::Departure(exchange), _) => Http::poll_departure(py, exchange)?,
            (Awaited::SocketMessage(call), _) => call.get().poll_message(py)?,
            (Awaited::Sent(socket, message), _) => Accepted::poll_send(py, socket, message)?,
            (Awaited::Known(value), _) => Polled::Ready(PyBool::new(py, *value).to_owned().into_any()),
        };
        match polled {
            Polled::Turn => {
                *self.progress.lock() = Progress::Suspended;
                Ok(py.None().into_bound(py))
            }
            Polled::Ready(value) => Err(PyStopIteration::new_err((value.unbind(),))),
            Polled::Wait(future) => {
                *self.progress.lock() = Progress::Suspended;
                // By this asyncio knows that the task waits for the future, as `Future.__await__` does it.
                future.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
                Ok(future)
            }
        }
    }
}

#[pymethods]
impl Pending {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.awaited {
            Awaited::SocketMessage(call) => visit.call(call),
            // The message has no references of its own.
            _ => Ok(()),
        }
    }

    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.step(py)
    }

    #[pyo3(signature = (value, /))]
    fn send<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.step(value.py())
    }

    #[pyo3(signature = (error, value = None, traceback = None, /))]
    fn throw(
        &self,
        error: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.close();
        let _ = traceback;
        Err(thrown(error, value))
    }

    fn close(&self) {
        *self.progress.lock() = Progress::Over;
    }

    #[classattr]
    fn cr_running() -> bool {
        false
    }

    #[getter]
    fn cr_suspended(&self) -> bool {
        *self.progress.lock() == Progress::Suspended
    }

    #[classattr]
    fn cr_frame() -> Option<Py<PyAny>> {
        None
    }

    #[classattr]
    fn cr_await() -> Option<Py<PyAny>> {
        None
    }

    #[classattr]
    fn cr_code() -> Option<Py<PyAny>> {
        None
    }
}

/// The exception of `throw(error)`, or of its older form with a class and a value.
fn thrown(error: &Bound<'_, PyAny>, value: Option<&Bound<'_, PyAny>>) -> PyErr {
    if error.is_instance_of::<pyo3::types::PyType>() {
        let made = match value.filter(|value| !value.is_none()) {
            Some(value) if value.is_instance(error).unwrap_or(false) => {
                return PyErr::from_value(value.clone());
            }
            Some(value) => call(error, [value]),
            None => call(error, []),
        };
        return made.map_or_else(|error| error, PyErr::from_value);
    }
    PyErr::from_value(error.clone())
}
