//! The callbacks that a handler registered on an exchange, and its futures that wait for bytes or for room.
//!
//! They hold the response, which holds the exchange, which holds them. The cycle is cut when the response is
//! complete or the client is gone; one of the two always comes.

mod delivery;
mod waits;

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::app::{Lane, Signal};
use crate::py::contexts::{Scope, current_context};
use crate::py::futures::Crowd;
use crate::py::request::Request;
use crate::py::response::Response;
use crate::server::Exchange;

/// A callback and where it runs.
pub(crate) struct Callback {
    pub(crate) callable: Py<PyAny>,
    pub(crate) lane: Lane,
    /// The context in which it was registered.
    pub(crate) context: Py<PyAny>,
}

impl Callback {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        Self { callable: self.callable.clone_ref(py), lane: self.lane, context: self.context.clone_ref(py) }
    }

    /// The context of a call: a copy each time, since two threads cannot be in one context.
    pub(crate) fn scope<'py>(&self, py: Python<'py>) -> PyResult<Scope<'py>> {
        Scope::of(py, Some(&self.context))
    }
}

/// The objects of a request that moves to a handler of the other lane, and a copy of the context of its
/// handlers.
pub(crate) struct Carried {
    pub(crate) response: Py<Response>,
    pub(crate) request: Py<Request>,
    pub(crate) context: Option<Py<PyAny>>,
}

#[derive(Default)]
struct Inner {
    response: Option<Py<Response>>,
    aborted: Option<Callback>,
    data: Option<Callback>,
    writable: Option<Callback>,
    /// Futures of `get_data`.
    whole: Vec<Py<PyAny>>,
    /// Futures of `send_chunk` and `drain`, with their results if there is room, and if there never will be.
    room: Crowd<(Py<PyAny>, Py<PyAny>, Py<PyAny>)>,
    /// Futures of `send_file`.
    sent: Vec<Py<PyAny>>,
    /// The body, once it has been read whole.
    body: Option<Py<PyBytes>>,
    /// `body` is the part that had arrived when the client left.
    partial: bool,
    /// The future that waits for the next piece of the body.
    piece: Option<Py<PyAny>>,
    /// Pieces of the body have been handed out, so the whole is not available any more.
    in_pieces: bool,
    /// Futures that are done when the response is complete or the client has gone.
    ends: Crowd<Py<PyAny>>,
    /// The abort has been signalled: `aborted` is about to be called.
    aborting: bool,
    carried: Option<Carried>,
}

impl Inner {
    /// Whether a future waits for something that may never come.
    fn is_awaited(&self) -> bool {
        !self.whole.is_empty() || !self.room.is_empty() || self.piece.is_some() || !self.ends.is_empty()
    }
}

/// Everything that waits for an exchange.
#[derive(Default)]
pub(crate) struct Listeners {
    inner: Mutex<Inner>,
}

/// Lanes that a signal goes to.
#[derive(Default, Clone, Copy)]
pub(crate) struct Lanes {
    pub(crate) turn: bool,
    pub(crate) event_loop: bool,
}

impl Lanes {
    fn add(&mut self, lane: Lane) {
        match lane {
            Lane::Turn => self.turn = true,
            Lane::Loop => self.event_loop = true,
        }
    }
}

impl Listeners {
    /// Those of `exchange`, made at the first use.
    pub(crate) fn of(exchange: &Exchange) -> Option<&Self> {
        exchange.user().get_or_init(|| Box::<Self>::default()).downcast_ref()
    }

    /// Those of `exchange`, if there ever were any.
    fn existing(exchange: &Exchange) -> Option<&Self> {
        if exchange.server().is_abandoned() {
            return None;
        }
        exchange.user().get()?.downcast_ref()
    }

    // Each registration first releases the lock, then drops the replaced callback: a finaliser may run user
    // code.
    pub(crate) fn on_aborted(&self, response: Py<Response>, callback: Callback) {
        let old = {
            let mut inner = self.inner.lock();
            if inner.aborting {
                // Too late: it would never be called.
                (Some(response), Some(callback))
            } else {
                (inner.response.replace(response), inner.aborted.replace(callback))
            }
        };
        drop(old);
    }

    pub(crate) fn on_data(&self, response: Py<Response>, callback: Callback) {
        let old = {
            let mut inner = self.inner.lock();
            (inner.response.replace(response), inner.data.replace(callback))
        };
        drop(old);
    }

    pub(crate) fn on_writable(&self, response: Py<Response>, callback: Callback) {
        let old = {
            let mut inner = self.inner.lock();
            (inner.response.replace(response), inner.writable.replace(callback))
        };
        drop(old);
    }

    /// Whether pieces of the body have been handed out.
    pub(crate) fn is_in_pieces(&self) -> bool {
        self.inner.lock().in_pieces
    }

    /// Whether the kept body is only the part that had arrived when the client left.
    pub(crate) fn is_partial(&self) -> bool {
        self.inner.lock().partial
    }

    pub(crate) fn body(&self, py: Python<'_>) -> Option<Py<PyBytes>> {
        self.inner.lock().body.as_ref().map(|body| body.clone_ref(py))
    }

    pub(crate) fn keep_body(&self, body: Py<PyBytes>) {
        let old = self.inner.lock().body.replace(body);
        drop(old);
    }

    pub(crate) fn carry(&self, py: Python<'_>, response: Py<Response>, request: Py<Request>) {
        // Without memory for a context the request goes on in a clean one.
        let context = current_context(py).ok();
        let old = self.inner.lock().carried.replace(Carried { response, request, context });
        drop(old);
    }

    pub(crate) fn take_carried(exchange: &Exchange) -> Option<Carried> {
        Self::existing(exchange)?.inner.lock().carried.take()
    }

    /// Whether anything waits, so that a response may still come after the handler has returned.
    pub(crate) fn any(exchange: &Exchange) -> bool {
        Self::existing(exchange).is_some_and(|listeners| listeners.inner.lock().response.is_some())
    }

    /// The lanes for `signal`.
    pub(crate) fn lanes(exchange: &Exchange, signal: Signal) -> Lanes {
        let mut lanes = Lanes::default();
        let Some(listeners) = Self::existing(exchange) else { return lanes };
        let mut inner = listeners.inner.lock();
        inner.aborting |= signal == Signal::Aborted;
        let (callbacks, futures) = match signal {
            Signal::Aborted => {
                ([&inner.aborted, &inner.data, &inner.writable], inner.is_awaited() || !inner.sent.is_empty())
            }
            Signal::Readable => {
                ([&inner.data, &None, &None], !inner.whole.is_empty() || inner.piece.is_some())
            }
            Signal::Writable => ([&inner.writable, &None, &None], !inner.room.is_empty()),
            // In any case the references kept here are released.
            Signal::Sent => ([&None, &None, &None], true),
        };
        for callback in callbacks.into_iter().flatten() {
            lanes.add(callback.lane);
        }
        lanes.event_loop |= futures;
        if signal == Signal::Readable && futures {
            // Futures for the whole body go first; then this is signalled again.
            lanes.turn = false;
        }
        lanes
    }

    /// The response is complete, or can never be: nothing more is called except the abort callback, if the
    /// abort was signalled before, and all waits are released.
    pub(crate) fn finish(exchange: &Arc<Exchange>) {
        let Some(listeners) = Self::existing(exchange) else { return };
        // A file is being sent or opened: its client may still be lost.
        if exchange.is_leaving() {
            return;
        }
        let (old, waiting) = {
            let mut inner = listeners.inner.lock();
            let told = inner.aborting && inner.aborted.is_some();
            let aborted = inner.aborted.take_if(|_| !told);
            let response = inner.response.take_if(|_| !told);
            let old = (response, aborted, inner.data.take(), inner.writable.take());
            (old, inner.is_awaited())
        };
        drop(old);
        if waiting {
            exchange.server().signal(exchange, Signal::Aborted);
        }
    }
}
