//! The classes of requests, responses and sockets, which extensions replace by subclasses of them.
//!
//! A class that is made once for an application adds no cost to its objects, and its methods are ordinary
//! attributes of a class: nothing is bound to an object, so no object refers to itself.

use std::cell::Cell;
use std::sync::OnceLock;
use std::thread::LocalKey;

use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{PyClass, PyTypeInfo};

use crate::py::calling::call;
use crate::py::request::Request;
use crate::py::response::Response;
use crate::py::websocket::WebSocket;

/// The classes that an application has replaced. A class stays for good: later additions go into it.
#[derive(Default)]
pub(crate) struct Classes {
    pub(crate) request: Replaced,
    pub(crate) response: Replaced,
    pub(crate) websocket: Replaced,
}

/// The subclass of the objects; unset without additions.
pub(crate) type Replaced = OnceLock<Py<PyType>>;

impl Classes {
    /// Makes objects of `class` from now on.
    pub(crate) fn replace(&self, class: &Bound<'_, PyType>) -> PyResult<()> {
        let py = class.py();
        let slots = [
            (Request::type_object(py), &self.request),
            (Response::type_object(py), &self.response),
            (WebSocket::type_object(py), &self.websocket),
        ];
        for (base, slot) in slots {
            if class.is_subclass(&base)? {
                return slot
                    .set(class.clone().unbind())
                    .map_err(|_| PyTypeError::new_err(format!("{base} has been replaced before")));
            }
        }
        Err(PyTypeError::new_err(format!(
            "{class} must be a subclass of socketify.Request, socketify.Response or socketify.WebSocket"
        )))
    }

    /// No slot can be emptied, but a garbage class releases its own references.
    pub(crate) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for slot in [&self.request, &self.response, &self.websocket] {
            visit.call(slot.get())?;
        }
        Ok(())
    }
}

/// A class that may be replaced: its `#[new]` takes the content that [`make`] has stored.
pub(crate) trait Replaceable: PyClass {
    /// The content of the next object.
    fn next() -> &'static LocalKey<Cell<Option<Self>>>;

    /// For `#[new]`: only the server makes objects.
    fn take_next() -> PyResult<Self> {
        Self::next().take().ok_or_else(|| {
            PyTypeError::new_err(format!("cannot create '{}' instances: the server makes them", Self::NAME))
        })
    }
}

/// Makes an object of the application's class.
pub(crate) fn make<T: Replaceable + Into<PyClassInitializer<T>>>(
    py: Python<'_>,
    class: &Replaced,
    content: T,
) -> PyResult<Py<T>> {
    let Some(class) = class.get() else { return Py::new(py, content) };
    T::next().set(Some(content));
    let made = call(class.bind(py), []);
    // Still there if it failed before it was taken.
    drop(T::next().take());
    Ok(made?.cast_into::<T>()?.unbind())
}
