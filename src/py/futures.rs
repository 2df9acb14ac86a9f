//! Futures of user code, and the abandoned ones: a timeout or a cancellation leaves a future behind that
//! nothing awaits any more.
//!
//! Futures for the body report it at once, since the client has to wait as soon as nothing reads. Futures for
//! room are many and mostly done soon, so they are scanned only when there are many of them.

use std::sync::Weak;

use pyo3::intern;
use pyo3::prelude::*;

use crate::py::calling::{method, truth};
use crate::py::listeners::Listeners;
use crate::server::Exchange;

/// Called when a future for the body is done. It holds the exchange weakly, since the exchange holds the
/// future.
#[pyclass(frozen, module = "socketify")]
pub(crate) struct GivenUp {
    exchange: Weak<Exchange>,
}

impl GivenUp {
    /// Makes the pending `future` report its cancellation.
    pub(crate) fn watch(future: &Bound<'_, PyAny>, exchange: Weak<Exchange>) -> PyResult<()> {
        let callback = Bound::new(future.py(), Self { exchange })?;
        method(future, intern!(future.py(), "add_done_callback"), [&callback]).map(drop)
    }
}

#[pymethods]
impl GivenUp {
    fn __call__(&self, future: &Bound<'_, PyAny>) -> PyResult<()> {
        if truth(&method(future, intern!(future.py(), "cancelled"), [])?)?
            && let Some(exchange) = self.exchange.upgrade()
        {
            Listeners::give_up(&exchange, future.as_unbound());
        }
        Ok(())
    }
}

/// Whether nothing awaits `future` any more.
pub(crate) fn is_done(py: Python<'_>, future: &Py<PyAny>) -> bool {
    let done = method(future.bind(py), intern!(py, "done"), []);
    done.and_then(|done| truth(&done)).unwrap_or(true)
}

/// Completes a future that is not done.
pub(crate) fn set_result(future: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    method(future, intern!(future.py(), "set_result"), [value]).map(drop)
}

/// Futures, including abandoned ones: at most as many as the others, and a few.
pub(crate) struct Crowd<T> {
    waiting: Vec<T>,
    /// Their number after the last scan.
    looked: usize,
}

/// So few are not worth a scan.
const FEW: usize = 16;

impl<T> Default for Crowd<T> {
    fn default() -> Self {
        Self { waiting: Vec::new(), looked: 0 }
    }
}

impl<T> Crowd<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn push(&mut self, waiter: T) {
        self.waiting.push(waiter);
    }

    pub(crate) fn take(&mut self) -> Vec<T> {
        self.looked = 0;
        std::mem::take(&mut self.waiting)
    }

    /// All of them, to be scanned without a lock and returned with [`Crowd::bring_back`], if a scan is due.
    pub(crate) fn take_to_look(&mut self) -> Vec<T> {
        if self.waiting.len() < FEW.max(2 * self.looked) { Vec::new() } else { self.take() }
    }

    /// Returns those of `looked_at` that still wait, before the new ones.
    pub(crate) fn bring_back(&mut self, mut looked_at: Vec<T>) {
        self.looked = looked_at.len();
        looked_at.append(&mut self.waiting);
        self.waiting = looked_at;
    }
}
