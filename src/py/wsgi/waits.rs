//! What a request of a WSGI application waits for: its body, before the application is called; then bytes or room, with the
//! thread of the application.
//!
//! Only a request that has to wait has one. The application's thread waits without the GIL, and is woken by the core's
//! signals: each is counted, so that one that comes between a look and the wait is not lost.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::app::Signal;
use crate::py::wsgi::input::Body;
use crate::py::wsgi::spool::Spool;
use crate::server::Exchange;

/// See the module. Its lock may be taken under that of a connection, and never the other way round.
#[derive(Default)]
pub(crate) struct Waits {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Signals so far.
    signals: u64,
    /// The body is read before the call of the application with this number.
    gathered: Option<(usize, Spool)>,
    /// The body for the thread that will call the application.
    body: Option<Body>,
}

impl Waits {
    /// Those of `exchange`, made at the first use. `None` if something else is kept for the exchange.
    pub(super) fn of(exchange: &Exchange) -> Option<&Self> {
        exchange.user().get_or_init(|| Box::<Self>::default()).downcast_ref()
    }

    /// Those of `exchange`, if there are any.
    pub(crate) fn existing(exchange: &Exchange) -> Option<&Self> {
        exchange.user().get()?.downcast_ref()
    }

    /// Takes a signal. True if the next step is a job for the turn: a piece of a body that is read before the call.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        let mut state = self.state.lock();
        if signal == Signal::Readable && state.gathered.is_some() {
            return true;
        }
        state.signals += 1;
        drop(state);
        self.changed.notify_all();
        false
    }

    /// Signals so far.
    fn count(&self) -> u64 {
        self.state.lock().signals
    }

    /// Waits for more signals than `seen`. Must not be called with the GIL.
    fn wait_past(&self, seen: u64) {
        let mut state = self.state.lock();
        while state.signals == seen {
            self.changed.wait(&mut state);
        }
    }

    /// Waits until `look` gives something; it asks for a signal before it gives nothing. Must not be called with the GIL.
    pub(super) fn until<T>(exchange: &Arc<Exchange>, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        let waits = Self::of(exchange)?;
        loop {
            let seen = waits.count();
            if let Some(found) = look() {
                return Some(found);
            }
            waits.wait_past(seen);
        }
    }

    /// The body is to be read before the call of application `number`.
    pub(super) fn gather(&self, number: usize) {
        self.put_back(number, Spool::default());
    }

    /// Takes what has been read of it; [`Waits::put_back`] returns it.
    pub(super) fn take_gathered(&self) -> Option<(usize, Spool)> {
        self.state.lock().gathered.take()
    }

    /// There is more to come.
    pub(super) fn put_back(&self, number: usize, spool: Spool) {
        self.state.lock().gathered = Some((number, spool));
    }

    /// Keeps the body for the thread that will call the application.
    pub(super) fn keep_body(&self, body: Body) {
        self.state.lock().body = Some(body);
    }

    /// The kept body; an empty one if there is none.
    pub(super) fn take_body(exchange: &Exchange) -> Body {
        Self::existing(exchange).and_then(|waits| waits.state.lock().body.take()).unwrap_or_default()
    }
}
