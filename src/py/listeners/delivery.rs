//! What happens on an exchange is told to those who asked to hear of it.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::app::{Lane, Signal};
use crate::py::bridge::PyApp;
use crate::py::calling::{call_with, truth};
use crate::py::listeners::{Callback, Listeners};
use crate::server::Exchange;

impl Listeners {
    /// Passes `signal` to those of `lane`.
    pub(crate) fn deliver(py: Python<'_>, app: &PyApp, exchange: &Arc<Exchange>, signal: Signal, lane: Lane) {
        let Some(listeners) = Self::existing(exchange) else { return };
        match signal {
            Signal::Aborted => listeners.aborted(py, app, exchange, lane),
            Signal::Readable => listeners.readable(py, app, exchange, lane),
            Signal::Writable => listeners.room(py, exchange, lane),
            Signal::Sent => {
                let (futures, carried) = {
                    let mut inner = listeners.inner.lock();
                    (std::mem::take(&mut inner.sent), inner.carried.take())
                };
                // Kept for a handler that will not be called: the one that passed the request on has ended.
                if carried.is_some() {
                    drop(carried);
                    exchange.end_work();
                }
                for future in futures {
                    PyApp::resolve(py, &future, &py.None());
                }
                Self::finish(exchange);
            }
        }
    }

    fn aborted(&self, py: Python<'_>, app: &PyApp, exchange: &Arc<Exchange>, lane: Lane) {
        // A client that has only shut its side may still get its response: readers of its body and writers at
        // its pace go on. Checked before the lock is taken, since this lock comes after the connection's.
        let over = exchange.is_over();
        let leaving = exchange.is_leaving();
        let (callback, response, old, awaited, pieces, room, others) = {
            let mut inner = self.inner.lock();
            let inner = &mut *inner;
            let here = |slot: &mut Option<Callback>| slot.take_if(|callback| callback.lane == lane);
            let callback = here(&mut inner.aborted);
            let old = if over { (here(&mut inner.data), here(&mut inner.writable)) } else { (None, None) };
            let response = inner.response.as_ref().map(|response| response.clone_ref(py));
            let none_left = inner.aborted.is_none() && inner.data.is_none() && inner.writable.is_none();
            let old = (old, inner.response.take_if(|_| none_left));
            let awaited = lane == Lane::Loop && !inner.whole.is_empty();
            let (room, others) = match lane {
                Lane::Loop => {
                    let mut others = inner.ends.take();
                    others.extend(inner.piece.take());
                    // All waits except those for a file may be released while it is sent.
                    if !leaving {
                        others.append(&mut inner.sent);
                    }
                    (inner.room.take(), others)
                }
                Lane::Turn => Default::default(),
            };
            (callback, response, old, awaited, inner.data.is_some(), room, others)
        };
        drop(old);
        if let (Some(callback), Some(response)) = (callback, &response) {
            let arguments = (response.clone_ref(py),);
            app.call_back(py, exchange, response, &callback, arguments.into_pyobject(py), "on_aborted");
        }
        if awaited {
            // A client that has shut its side may have sent the whole body before. That is not reported while
            // a callback is busy with a piece; the callback reports its end.
            let body = self.body(py).or_else(|| {
                let bytes = exchange.take_whole(pieces)?;
                Some(PyBytes::new(py, &bytes).unbind())
            });
            // The rest of the body may be unread: its end is signalled, or another abort.
            let body = body.or_else(|| {
                exchange.is_over().then(|| {
                    self.inner.lock().partial = true;
                    PyBytes::new(py, &exchange.take_rest()).unbind()
                })
            });
            if let Some(body) = body {
                let whole = std::mem::take(&mut self.inner.lock().whole);
                self.resolve_whole(py, &body, whole);
            }
        }
        for future in others {
            PyApp::resolve(py, &future, &py.None());
        }
        for (future, _, gone) in room {
            PyApp::resolve(py, &future, &gone);
        }
    }

    fn readable(&self, py: Python<'_>, app: &PyApp, exchange: &Arc<Exchange>, lane: Lane) {
        let (callback, response, waits, pieces, piece, kept) = {
            let inner = self.inner.lock();
            let callback =
                inner.data.as_ref().filter(|data| data.lane == lane).map(|data| data.clone_ref(py));
            let response = inner.response.as_ref().map(|response| response.clone_ref(py));
            let kept = inner.body.as_ref().map(|body| body.clone_ref(py));
            let piece = inner.piece.as_ref().map(|future| future.clone_ref(py));
            (callback, response, !inner.whole.is_empty(), inner.data.is_some(), piece, kept)
        };
        if waits {
            let taken = if lane == Lane::Loop { exchange.take_whole(pieces) } else { None };
            let Some(bytes) = taken else {
                // A signal for pieces, from before the call for the whole body.
                exchange.resume_body();
                return;
            };
            let body = kept.unwrap_or_else(|| PyBytes::new(py, &bytes).unbind());
            let whole = std::mem::take(&mut self.inner.lock().whole);
            self.resolve_whole(py, &body, whole);
            exchange.resume_body();
            return;
        }
        if let Some(future) = piece
            && lane == Lane::Loop
        {
            self.pulled(py, exchange, &future);
            return;
        }
        let (Some(callback), Some(response)) = (callback, response) else {
            // Its future was abandoned: the next reader gets a new signal.
            exchange.resume_body();
            return;
        };
        let Some((bytes, last)) = exchange.take_body() else { return };
        let old = {
            let mut inner = self.inner.lock();
            inner.in_pieces |= kept.is_none();
            inner.data.take_if(|_| last)
        };
        drop(old);
        // A body that was read whole is one piece for a reader of pieces.
        let chunk = kept.map_or_else(|| PyBytes::new(py, &bytes), |body| body.into_bound(py));
        drop(bytes);
        match lane {
            Lane::Loop if app.is_coroutine(py, &callback.callable) => {
                // The next piece comes after the coroutine has ended: pieces never overlap, and a slow reader
                // slows the client down.
                app.feed(py, exchange, &response, &callback, &chunk, last);
            }
            _ => {
                let arguments = (response.clone_ref(py), chunk, last);
                app.call_back(py, exchange, &response, &callback, arguments.into_pyobject(py), "on_data");
                exchange.resume_body();
            }
        }
    }

    fn room(&self, py: Python<'_>, exchange: &Arc<Exchange>, lane: Lane) {
        let (callback, response, futures) = {
            let mut inner = self.inner.lock();
            let callback =
                inner.writable.as_ref().filter(|data| data.lane == lane).map(|data| data.clone_ref(py));
            let response = inner.response.as_ref().map(|response| response.clone_ref(py));
            let futures = if lane == Lane::Loop { inner.room.take() } else { Vec::new() };
            (callback, response, futures)
        };
        for (future, room, _) in futures {
            PyApp::resolve(py, &future, &room);
        }
        exchange.take_refused();
        let (Some(callback), Some(response)) = (callback, response) else { return };
        let arguments: PyResult<Bound<'_, PyTuple>> =
            (response.clone_ref(py), exchange.write_offset()).into_pyobject(py);
        let callable = callback.callable.bind(py);
        let accepted = callback.scope(py).and_then(|_scope| truth(&call_with(callable, arguments?)?));
        if let Err(error) = &accepted {
            PyApp::log_callback(py, "on_writable", error, callable);
        }
        // Not everything was taken: once there is room again, the callback is called again. A callback that
        // wrote nothing is not, or it would be called for ever. There may already be room again, without
        // another signal.
        if !exchange.watch_writable() && exchange.take_refused() && !exchange.is_over() {
            exchange.server().signal(exchange, Signal::Writable);
        }
    }
}
