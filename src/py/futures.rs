//! Futures that user code waits with, and what becomes of those that it gives up: a timeout or a cancellation leaves a
//! future behind that nobody looks at any more.
//!
//! Futures for the body say so at once, since the client has to wait as soon as nobody asks. Those for room are many and
//! mostly done soon, so they are looked through when there are many of them.

use std::sync::Weak;

use pyo3::intern;
use pyo3::prelude::*;

use crate::py::calling::{method, truth};
use crate::py::listeners::Listeners;
use crate::server::Exchange;

/// Called when a future for the body is done. It does not hold the exchange, which holds the future.
#[pyclass(frozen, module = "socketify")]
pub(crate) struct GivenUp {
    exchange: Weak<Exchange>,
}

impl GivenUp {
    /// Has `future`, which is not done yet, say when it is cancelled.
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

/// Whether nobody waits with `future` any more.
pub(crate) fn is_done(py: Python<'_>, future: &Py<PyAny>) -> bool {
    let done = method(future.bind(py), intern!(py, "done"), []);
    done.and_then(|done| truth(&done)).unwrap_or(true)
}

/// Completes a future that is not done.
pub(crate) fn set_result(future: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    method(future, intern!(future.py(), "set_result"), [value]).map(drop)
}

/// Futures among which there may be some that were given up: at most as many as others, and a few.
pub(crate) struct Crowd<T> {
    waiting: Vec<T>,
    /// How many there were behind the last look.
    looked: usize,
}

/// So many are not worth a look.
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

    /// All of them, to be looked through without a lock and brought back with [`Crowd::bring_back`], where that is due.
    pub(crate) fn take_to_look(&mut self) -> Vec<T> {
        if self.waiting.len() < FEW.max(2 * self.looked) { Vec::new() } else { self.take() }
    }

    /// Those of `looked_at` that still wait, in front of what has come meanwhile.
    pub(crate) fn bring_back(&mut self, mut looked_at: Vec<T>) {
        self.looked = looked_at.len();
        looked_at.append(&mut self.waiting);
        self.waiting = looked_at;
    }
}
