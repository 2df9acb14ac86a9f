//! One mounted application: what all its requests share.

use std::sync::Arc;
use std::time::Duration;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::py::wsgi::environ::Template;
use crate::py::wsgi::threads::Pool;

/// A WSGI application with the template of its `environ` and its threads. Internal.
#[pyclass(frozen, module = "socketify._core")]
pub(crate) struct Gateway {
    /// Its place among those of the server.
    number: usize,
    application: Py<PyAny>,
    template: Template,
    /// `None`: it runs on the I/O threads, one request at a time.
    pool: Option<Arc<Pool>>,
}

impl Gateway {
    /// `environ` has what does not depend on the request; `threads` is how many requests may be in the application at a time.
    pub(crate) fn new(
        py: Python<'_>,
        number: usize,
        application: Py<PyAny>,
        root_path: &str,
        environ: &Bound<'_, PyDict>,
        threads: usize,
        idle: Duration,
    ) -> PyResult<Self> {
        let template = Template::new(py, environ, root_path)?;
        let pool = (threads > 1).then(|| Arc::new(Pool::new(threads, idle)));
        Ok(Self { number, application, template, pool })
    }

    pub(super) fn number(&self) -> usize {
        self.number
    }

    pub(super) fn application(&self) -> &Py<PyAny> {
        &self.application
    }

    pub(super) fn template(&self) -> &Template {
        &self.template
    }

    pub(crate) fn pool(&self) -> Option<&Arc<Pool>> {
        self.pool.as_ref()
    }
}

#[pymethods]
impl Gateway {
    /// The life of thread `number` of the application.
    fn _work(&self, py: Python<'_>, number: usize) {
        if let Some(pool) = &self.pool {
            pool.work(py, self, number);
        }
    }

    // The references are dropped with the server's, which holds this.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.application)?;
        self.template.visit(&visit)
    }
}
