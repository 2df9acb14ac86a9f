//! The door to the package: each function of Python's side that the core calls, bound once.
//!
//! `socketify.door` has them by the names that stand here. What every program needs is bound when the package is imported, so
//! that a function that was renamed fails the import. A module that only some programs need is bound, with all that is called of
//! it, when the first of its functions is: nobody else pays for the import.

use pyo3::exceptions::{PyImportError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::py::calling::call;

/// What an application has the core call: `socketify.calls.Hooks`.
#[derive(FromPyObject)]
pub(crate) struct Hooks {
    /// `(handler, response, request)`: starts a task for a coroutine function.
    pub(crate) start: Py<PyAny>,
    /// `(awaitable, response)`: starts a task for a handler's return value.
    pub(crate) spawn: Py<PyAny>,
    /// `(handler, response, chunk, is_end, body)`: starts a task for one piece of a body.
    pub(crate) feed: Py<PyAny>,
    /// `(callback, arguments, socket, weight, last)`: starts a task for an event of a socket.
    pub(crate) event: Py<PyAny>,
    /// `(error, response, request)`: a handler failed.
    pub(crate) fail: Py<PyAny>,
    /// `()`: the server has drained.
    pub(crate) drained: Py<PyAny>,
    /// `(text)`: reports the fault of a connection; returns whether a logger reads it.
    pub(crate) note: Py<PyAny>,
    /// `(callable)`: whether it is a coroutine function.
    pub(crate) is_coroutine: Py<PyAny>,
    /// `(*arguments)`: renders a template.
    pub(crate) render: Py<PyAny>,
}

impl Hooks {
    /// All of them, for the garbage collector.
    pub(crate) fn each(&self) -> [&Py<PyAny>; 9] {
        [
            &self.start,
            &self.spawn,
            &self.feed,
            &self.event,
            &self.fail,
            &self.drained,
            &self.note,
            &self.is_coroutine,
            &self.render,
        ]
    }
}

/// What the package has the core call.
#[derive(FromPyObject)]
pub(crate) struct Door {
    // What goes wrong where nobody else can be told.
    pub(crate) log_async_refused: Py<PyAny>,
    pub(crate) log_callback: Py<PyAny>,
    pub(crate) log_event: Py<PyAny>,
    pub(crate) log_length: Py<PyAny>,
    pub(crate) log_silent: Py<PyAny>,
    pub(crate) log_unwritten: Py<PyAny>,
    pub(crate) logged: Py<PyAny>,
    /// `(error)`: ends a process that a handler has forked.
    pub(crate) leave: Py<PyAny>,
    /// `(text)`: an error for a message that has no client any more.
    #[pyo3(attribute("ClientDisconnected"))]
    pub(crate) client_disconnected: Py<PyAny>,
    /// `(path)`: type and encoding of a file.
    pub(crate) media_type: Py<PyAny>,
    /// `(value, error)`: the value without sets, which JSON has not.
    pub(crate) without_sets: Py<PyAny>,
    #[pyo3(attribute("OpCode"))]
    pub(crate) op_code: OpCodes,
    #[pyo3(attribute("SendStatus"))]
    pub(crate) send_status: SendStatuses,
    pub(crate) cookies: Late<Cookies>,
    pub(crate) events: Late<Events>,
    pub(crate) files_of_wsgi: Late<FilesOfWsgi>,
    pub(crate) forms: Late<Forms>,
    pub(crate) lenient_bodies: Late<LenientBodies>,
    pub(crate) multipart: Late<Multipart>,
    pub(crate) streams: Late<Streams>,
    pub(crate) strict_bodies: Late<StrictBodies>,
    pub(crate) threads_of_wsgi: Late<ThreadsOfWsgi>,
}

/// Members of `OpCode`.
#[derive(FromPyObject)]
pub(crate) struct OpCodes {
    #[pyo3(attribute("TEXT"))]
    pub(crate) text: Py<PyAny>,
    #[pyo3(attribute("BINARY"))]
    pub(crate) binary: Py<PyAny>,
}

/// Members of `SendStatus`.
#[derive(FromPyObject)]
pub(crate) struct SendStatuses {
    #[pyo3(attribute("BACKPRESSURE"))]
    pub(crate) backpressure: Py<PyAny>,
    #[pyo3(attribute("SUCCESS"))]
    pub(crate) success: Py<PyAny>,
    #[pyo3(attribute("DROPPED"))]
    pub(crate) dropped: Py<PyAny>,
}

#[derive(FromPyObject)]
#[expect(clippy::struct_field_names, reason = "the names are those of the package")]
pub(crate) struct Cookies {
    pub(crate) format_cookie: Py<PyAny>,
    pub(crate) get_cookie: Py<PyAny>,
    pub(crate) get_cookies: Py<PyAny>,
}

#[derive(FromPyObject)]
pub(crate) struct Events {
    #[pyo3(attribute("EventStream"))]
    pub(crate) event_stream: Py<PyAny>,
    pub(crate) send_all: Py<PyAny>,
}

#[derive(FromPyObject)]
pub(crate) struct FilesOfWsgi {
    /// `(file)`: descriptor and position of a file whose bytes are those behind the descriptor; else None.
    pub(crate) real_file: Py<PyAny>,
}

#[derive(FromPyObject)]
pub(crate) struct Forms {
    #[pyo3(attribute("FormReader"))]
    pub(crate) form_reader: Py<PyAny>,
}

#[derive(FromPyObject)]
#[expect(clippy::struct_field_names, reason = "the names are those of the package")]
pub(crate) struct LenientBodies {
    pub(crate) get_form_urlencoded: Py<PyAny>,
    pub(crate) get_json: Py<PyAny>,
    pub(crate) get_text: Py<PyAny>,
}

#[derive(FromPyObject)]
pub(crate) struct Multipart {
    pub(crate) multipart: Py<PyAny>,
}

#[derive(FromPyObject)]
pub(crate) struct Streams {
    pub(crate) stream: Py<PyAny>,
}

#[derive(FromPyObject)]
#[expect(clippy::struct_field_names, reason = "the names are those of the package")]
pub(crate) struct StrictBodies {
    pub(crate) read_body: Py<PyAny>,
    pub(crate) read_json: Py<PyAny>,
    pub(crate) read_stream: Py<PyAny>,
    pub(crate) read_text: Py<PyAny>,
}

#[derive(FromPyObject)]
pub(crate) struct ThreadsOfWsgi {
    /// `(gateway, number)`: begins a thread of an application.
    pub(crate) begin_thread: Py<PyAny>,
}

/// A module that is imported when the first of its functions is called.
pub(crate) struct Late<T> {
    /// `()`: imports it.
    load: Py<PyAny>,
    found: PyOnceLock<T>,
}

impl<T> FromPyObject<'_, '_> for Late<T> {
    type Error = PyErr;

    fn extract(load: Borrowed<'_, '_, PyAny>) -> PyResult<Self> {
        Ok(Self { load: load.to_owned().unbind(), found: PyOnceLock::new() })
    }
}

impl<T: for<'a, 'py> FromPyObject<'a, 'py, Error = PyErr>> Late<T> {
    /// The function of the module.
    pub(crate) fn get(&self, py: Python<'_>) -> PyResult<&T> {
        self.found.get_or_try_init(py, || call(self.load.bind(py), [])?.extract().map_err(broken(py)))
    }
}

static DOOR: PyOnceLock<Door> = PyOnceLock::new();

/// What the package has the core call. There is an application, which has checked that it is bound.
pub(crate) fn door(py: Python<'_>) -> &'static Door {
    DOOR.get(py).expect("invariant: the package binds the door when it is imported")
}

/// Fails until the package has bound it.
pub(crate) fn check(py: Python<'_>) -> PyResult<()> {
    DOOR.get(py).map(drop).ok_or_else(|| PyRuntimeError::new_err("import socketify before socketify._core"))
}

/// Binds the functions of a module by the names of [`Door`]. `late` also binds those that are imported late, to check them.
#[pyfunction]
#[pyo3(signature = (functions, late = false))]
pub(crate) fn bind_door(functions: &Bound<'_, PyAny>, late: bool) -> PyResult<()> {
    let py = functions.py();
    let door = functions.extract::<Door>().map_err(broken(py))?;
    if late {
        door.cookies.get(py)?;
        door.events.get(py)?;
        door.files_of_wsgi.get(py)?;
        door.forms.get(py)?;
        door.lenient_bodies.get(py)?;
        door.multipart.get(py)?;
        door.streams.get(py)?;
        door.strict_bodies.get(py)?;
        door.threads_of_wsgi.get(py)?;
    }
    // Once for all: a package that is imported anew has the same functions.
    let _ = DOOR.set(py, door);
    Ok(())
}

fn broken(py: Python<'_>) -> impl Fn(PyErr) -> PyErr {
    move |error| {
        let failed = PyImportError::new_err(format!("the core needs what the package has not: {error}"));
        failed.set_cause(py, Some(error));
        failed
    }
}
