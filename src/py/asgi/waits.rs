//! Futures of an ASGI call that wait for the client.
//!
//! They carry nothing: what is done wakes its task, which looks again. So a cancelled one loses nothing, and several may wait at
//! once.

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::app::Signal;
use crate::py::asgi::http::Http;
use crate::py::bridge::PyApp;
use crate::py::futures::{Crowd, is_done};
use crate::server::Exchange;

/// See the module.
#[derive(Default)]
pub(crate) struct Waits {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// For a piece of the request, or its client's leaving; in the order of their calls.
    message: Crowd<Py<PyAny>>,
    /// For room for more output.
    room: Crowd<Py<PyAny>>,
    /// One of them is taken out to be looked through: a signal that comes meanwhile concerns it.
    looking: bool,
}

/// Which of the futures.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    Message,
    Room,
}

impl Inner {
    fn crowd(&mut self, which: For) -> &mut Crowd<Py<PyAny>> {
        match which {
            For::Message => &mut self.message,
            For::Room => &mut self.room,
        }
    }
}

impl Waits {
    /// A future that waits. Abandoned ones are dropped once there are many.
    pub(super) fn wait<'py>(&self, py: Python<'py>, app: &PyApp, which: For) -> PyResult<Bound<'py, PyAny>> {
        let future = app.create_future(py)?;
        let mut crowd = {
            let mut inner = self.inner.lock();
            let crowd = inner.crowd(which).take_to_look();
            inner.looking = !crowd.is_empty();
            crowd
        };
        // Without the lock: dropping a future may run user code.
        crowd.retain(|future| !is_done(py, future));
        let mut inner = self.inner.lock();
        inner.looking = false;
        let waiting = inner.crowd(which);
        if !crowd.is_empty() {
            waiting.bring_back(crowd);
        }
        waiting.push(future.clone().unbind());
        Ok(future)
    }

    /// Wakes those that wait.
    pub(super) fn wake(&self, py: Python<'_>, which: For) {
        let waiting = self.inner.lock().crowd(which).take();
        for future in waiting {
            PyApp::resolve(py, &future, &py.None());
        }
    }

    /// Whether a signal concerns a future.
    pub(crate) fn are_woken_by(&self, signal: Signal) -> bool {
        let inner = self.inner.lock();
        match signal {
            _ if inner.looking => true,
            Signal::Readable => !inner.message.is_empty(),
            Signal::Writable => !inner.room.is_empty(),
            Signal::Aborted | Signal::Sent => !inner.message.is_empty() || !inner.room.is_empty(),
        }
    }

    /// Passes a signal on, on the loop's thread.
    pub(crate) fn deliver(&self, py: Python<'_>, exchange: &Arc<Exchange>, signal: Signal) {
        match signal {
            Signal::Readable => {
                if exchange.is_readable() {
                    // No further signal is needed before the next call for a piece.
                    exchange.stop_pulling();
                    self.wake(py, For::Message);
                } else {
                    exchange.resume_body();
                }
            }
            Signal::Writable => self.wake(py, For::Room),
            Signal::Aborted | Signal::Sent => {
                self.wake(py, For::Message);
                self.wake(py, For::Room);
            }
        }
    }

    /// Those of `exchange`, if an ASGI application serves it.
    pub(crate) fn of(exchange: &Exchange) -> Option<&Self> {
        if exchange.server().is_abandoned() {
            return None;
        }
        Http::of(exchange).map(Http::waits)
    }
}
