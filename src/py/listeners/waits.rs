//! Futures that wait for the body, for room, or for the end.
//!
//! An abandoned future reads nothing: as soon as nothing else waits, the client has to wait again, and the
//! next reader goes on from there. So the future of a piece carries no bytes, since it may be cancelled in
//! the very moment in which it is done: it reports a piece, and its waiter takes the piece when it runs.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::py::bridge::PyApp;
use crate::py::calling::report;
use crate::py::futures::{GivenUp, is_done};
use crate::py::listeners::{Inner, Listeners};
use crate::server::{Demand, Exchange};

impl Inner {
    /// The demand of the waiting futures for the body.
    fn demand(&self) -> Demand {
        if !self.whole.is_empty() {
            Demand::Whole
        } else if self.piece.is_some() || self.data.is_some() {
            Demand::Pieces
        } else {
            Demand::Nothing
        }
    }
}

impl Listeners {
    pub(crate) fn await_whole(&self, exchange: &Arc<Exchange>, future: &Bound<'_, PyAny>) -> PyResult<()> {
        GivenUp::watch(future, Arc::downgrade(exchange))?;
        self.inner.lock().whole.push(future.clone().unbind());
        Ok(())
    }

    pub(crate) fn await_piece(&self, exchange: &Arc<Exchange>, future: &Bound<'_, PyAny>) -> PyResult<()> {
        GivenUp::watch(future, Arc::downgrade(exchange))?;
        let old = self.inner.lock().piece.replace(future.clone().unbind());
        drop(old);
        Ok(())
    }

    pub(crate) fn await_room(&self, py: Python<'_>, future: Py<PyAny>, room: Py<PyAny>, gone: Py<PyAny>) {
        let mut crowd = self.inner.lock().room.take_to_look();
        crowd.retain(|(future, _, _)| !is_done(py, future));
        let mut inner = self.inner.lock();
        if !crowd.is_empty() {
            inner.room.bring_back(crowd);
        }
        inner.room.push((future, room, gone));
    }

    pub(crate) fn await_end(&self, py: Python<'_>, future: Py<PyAny>) {
        let mut crowd = self.inner.lock().ends.take_to_look();
        crowd.retain(|future| !is_done(py, future));
        let mut inner = self.inner.lock();
        if !crowd.is_empty() {
            inner.ends.bring_back(crowd);
        }
        inner.ends.push(future);
    }

    pub(crate) fn await_sent(&self, future: Py<PyAny>) {
        self.inner.lock().sent.push(future);
    }

    /// `future`, which waited for the body, was abandoned.
    pub(crate) fn give_up(exchange: &Arc<Exchange>, future: &Py<PyAny>) {
        let Some(listeners) = Self::existing(exchange) else { return };
        let mut old = None;
        exchange.reconsider(|| {
            let mut inner = listeners.inner.lock();
            old = match inner.whole.iter().position(|waiting| waiting.is(future)) {
                Some(place) => Some(inner.whole.remove(place)),
                None => inner.piece.take_if(|waiting| waiting.is(future)),
            };
            inner.demand()
        });
        drop(old);
    }

    /// A piece is about to be given to the caller. False if others read the body.
    pub(crate) fn begin_pieces(&self, py: Python<'_>, exchange: &Arc<Exchange>) -> bool {
        // Futures cancelled just now have not reported it yet.
        let waiting: Vec<_> = {
            let inner = self.inner.lock();
            inner.whole.iter().chain(&inner.piece).map(|future| future.clone_ref(py)).collect()
        };
        for future in waiting {
            if is_done(py, &future) {
                Self::give_up(exchange, &future);
            }
        }
        let mut inner = self.inner.lock();
        let free = inner.demand() == Demand::Nothing;
        inner.in_pieces |= free && inner.body.is_none();
        free
    }

    /// Completes the future that waits for the next piece.
    pub(super) fn pulled(&self, py: Python<'_>, exchange: &Arc<Exchange>, future: &Py<PyAny>) {
        // A signal for an earlier one, or paused: another comes. At the end of the exchange it is on its way.
        if !exchange.is_readable() && self.body(py).is_none() {
            exchange.resume_body();
            return;
        }
        let old = {
            let mut inner = self.inner.lock();
            // Meanwhile another one may wait.
            inner.piece.take_if(|waiting| waiting.is(future))
        };
        drop(old);
        // This signal is handled, and no other is needed before the next call for a piece.
        exchange.stop_pulling();
        PyApp::resolve(py, future, &py.None());
    }

    /// The whole body is there. It is one piece for a future that waits for pieces.
    pub(super) fn resolve_whole(&self, py: Python<'_>, body: &Py<PyBytes>, futures: Vec<Py<PyAny>>) {
        self.keep_body(body.clone_ref(py));
        for future in futures {
            match PyApp::bytes_io(py, body) {
                Ok(buffer) => PyApp::resolve(py, &future, &buffer),
                Err(error) => report(py, error, Some(future.bind(py))),
            }
        }
        let piece = self.inner.lock().piece.take();
        if let Some(future) = piece {
            PyApp::resolve(py, &future, &py.None());
        }
    }
}
