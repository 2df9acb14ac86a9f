//! Futures that wait for the body, for room, or for the end.
//!
//! A future that was given up asks for nothing: as soon as nobody else waits, the body is left to the client again, and
//! whoever asks next goes on where it stood. So nothing is given *in* the future of a piece, which may be cancelled in the
//! moment in which it is done: it says that there is one, and whoever waited takes it when it runs.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::py::bridge::PyApp;
use crate::py::calling::report;
use crate::py::futures::{GivenUp, is_done};
use crate::py::listeners::{Inner, Listeners};
use crate::server::{Demand, Exchange};

impl Inner {
    /// What those who are here want of the body.
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

    /// Whoever waited for the body with `future` has given up.
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

    /// A piece is about to be handed out to whoever asks. False when others read the body.
    pub(crate) fn begin_pieces(&self, py: Python<'_>, exchange: &Arc<Exchange>) -> bool {
        // Those who were cancelled just now have not said so yet.
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

    /// Tells whoever waits for the next piece that there is one.
    pub(super) fn pulled(&self, py: Python<'_>, exchange: &Arc<Exchange>, future: &Py<PyAny>) {
        // A signal for an earlier one, or paused: another comes. When the exchange is over it is on its way.
        if !exchange.is_readable() && self.body(py).is_none() {
            exchange.resume_body();
            return;
        }
        let old = {
            let mut inner = self.inner.lock();
            // Meanwhile another may have come to wait.
            inner.piece.take_if(|waiting| waiting.is(future))
        };
        drop(old);
        // This signal is dealt with, and no other is wanted before the next piece is asked for.
        exchange.stop_pulling();
        PyApp::resolve(py, future, &py.None());
    }

    /// The whole body is there. What somebody has read whole is one piece to whoever waits for pieces.
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
