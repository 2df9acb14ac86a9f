//! A process that user code, or a library that it calls, has forked from the serving one. The server does
//! nothing in it: see [`Server::abandon`](crate::server::Server::abandon).

use std::sync::atomic::Ordering;

use pyo3::prelude::*;

use crate::py::bridge::PyApp;
use crate::py::calling::{call, report};
use crate::py::door::door;

impl PyApp {
    /// The child calls this before it runs anything else.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// Whether the server belongs to another process.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// A plain function has ended. If it has forked, and this is the child, the process ends with it: after
    /// this call there is only the server, which is not the child's.
    pub(crate) fn end_child(&self, py: Python<'_>, error: Option<&PyErr>) {
        if !self.is_abandoned() {
            return;
        }
        let error = error.map_or_else(|| py.None(), |error| error.clone_ref(py).into_value(py).into_any());
        let left = call(door(py).leave.bind(py), [error.bind(py)]);
        if let Err(error) = left {
            report(py, error, None);
        }
        std::process::abort();
    }
}
