//! `Server`: what `socketify.App` drives. Its rooms have the methods, each those of one subject.

mod asgi;
mod event_loop;
mod life;
mod names;
mod routes;
mod sockets;
mod wsgi;

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use crate::config::{Config, Quota};
use crate::net::Listener;
use crate::py::access_log::Writer;
use crate::py::bridge::PyApp;
use crate::py::calling::truth;
use crate::py::door::{self, Hooks};
use crate::py::options::config;
use crate::py::outgoing;
use crate::py::server::life::Life;
use crate::server::Routes;

/// The part of an application that is Rust.
#[pyclass(frozen, module = "socketify._core")]
pub(crate) struct Server {
    app: Arc<PyApp>,
    config: Config,
    routes: Routes,
    /// Bound, waiting for the start.
    bound: Mutex<Vec<Listener>>,
    /// Never held while waiting for the GIL: a caller of `close` waits for this lock with the GIL.
    life: Mutex<Life>,
    /// `(entries, dropped)`: writes the access log; `None` without one.
    access: Mutex<Option<Py<PyAny>>>,
    writer: Mutex<Option<Writer>>,
    /// Who is told when so many requests have been admitted.
    quota: Mutex<Option<Quota>>,
}

fn invalid(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

#[pymethods]
impl Server {
    #[new]
    fn new(
        application: &Bound<'_, PyAny>,
        hooks: Hooks,
        serializer: Py<PyAny>,
        handlers_on_loop: bool,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        door::check(application.py())?;
        let app = PyApp::new(application.clone().unbind(), hooks, serializer, handlers_on_loop)?;
        Ok(Self {
            app: Arc::new(app),
            config: config(options)?,
            routes: Routes::default(),
            bound: Mutex::default(),
            life: Mutex::new(Life::Stopped),
            access: Mutex::new(
                options.get_item("access_log")?.filter(|write| !write.is_none()).map(Bound::unbind),
            ),
            writer: Mutex::default(),
            quota: Mutex::default(),
        })
    }

    /// Publishes a message; returns whether there was a subscriber.
    #[pyo3(signature = (topic, message, opcode = None, compress = false))]
    fn publish(
        &self,
        py: Python<'_>,
        topic: &Bound<'_, PyAny>,
        message: &Bound<'_, PyAny>,
        opcode: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = truth)] compress: bool,
    ) -> PyResult<bool> {
        let server = self.life.lock().serving().cloned();
        outgoing::publish(py, &self.app, server.as_ref(), topic, message, opcode, compress)
    }

    /// The number of subscribers of a topic.
    fn num_subscribers(&self, topic: &Bound<'_, PyAny>) -> PyResult<usize> {
        let server = self.life.lock().serving().cloned();
        outgoing::subscribers(server.as_ref(), topic)
    }

    /// Sets the JSON serializer.
    fn set_serializer(&self, serializer: Py<PyAny>) {
        self.app.set_serializer(serializer);
    }

    /// Makes requests, responses or sockets from a subclass from now on. Each can be replaced once.
    #[pyo3(signature = (class_))]
    fn replace_class(&self, class_: &Bound<'_, PyType>) -> PyResult<()> {
        self.app.replace_class(class_)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // While the server runs, its threads hold the application too: then nothing of it is garbage.
        match self.life.try_lock() {
            Some(life) if matches!(*life, Life::Stopped) => {
                if let Some(access) = self.access.try_lock() {
                    visit.call(access.as_ref())?;
                }
                self.app.visit(visit)
            }
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        let access = self.access.lock().take();
        drop(access);
        self.app.forget();
    }
}
