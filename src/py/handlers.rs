//! The handlers of an application, by number.
//!
//! Those of a domain may go while the application runs. Whoever may still come to one, a route, a request or a socket, holds its
//! lease, and once the last of these is gone the number is returned. That may be under any lock and without the interpreter, and
//! to drop a callable may run any code of its owner's: so it is kept until somebody registers or removes something.

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::app::{HandlerId, Lease};

/// A registered handler.
pub(super) struct Handler {
    pub(super) callable: Py<PyAny>,
    /// It is a coroutine function: calling it only makes a coroutine.
    pub(super) coroutine: bool,
    /// Its third argument, for an upgrade handler.
    pub(super) context: Option<Py<PyAny>>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Handlers {
    slots: Vec<Option<Handler>>,
    /// Slots without a handler.
    free: Vec<HandlerId>,
    /// Numbers that nobody can come to any more.
    returned: Arc<Mutex<Vec<HandlerId>>>,
}

/// Handlers of one route. They are returned when it is dropped.
pub(super) struct Held {
    ids: Vec<HandlerId>,
    returned: Arc<Mutex<Vec<HandlerId>>>,
}

impl Held {
    /// What a route keeps. One of the default router is never removed, and so needs nothing.
    pub(super) fn lease(mut self, domain: Option<&str>) -> Option<Lease> {
        if domain.is_none() {
            self.ids.clear();
            return None;
        }
        Some(Arc::new(self))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.returned.lock().append(&mut self.ids);
    }
}

impl Handlers {
    /// Holds no handler yet.
    pub(super) fn hold(&self) -> Held {
        Held { ids: Vec::new(), returned: Arc::clone(&self.returned) }
    }

    /// Adds one for `held`; gives its number, or none where there are too many.
    pub(super) fn add(&mut self, handler: Handler, held: &mut Held) -> Option<HandlerId> {
        let id = if let Some(id) = self.free.pop() {
            id
        } else {
            let id = HandlerId::try_from(self.slots.len()).ok()?;
            self.slots.push(None);
            id
        };
        *self.slots.get_mut(id as usize)? = Some(handler);
        held.ids.push(id);
        Some(id)
    }

    /// Which has this number.
    pub(super) fn get(&self, id: HandlerId) -> Option<&Handler> {
        self.slots.get(id as usize)?.as_ref()
    }

    /// All there are.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Handler> {
        self.slots.iter().flatten()
    }

    /// Takes out those that have been returned: to be dropped when no lock is held.
    pub(super) fn sweep(&mut self) -> Vec<Handler> {
        let returned = std::mem::take(&mut *self.returned.lock());
        let mut swept = Vec::with_capacity(returned.len());
        for id in returned {
            if let Some(handler) = self.slots.get_mut(id as usize).and_then(Option::take) {
                self.free.push(id);
                swept.push(handler);
            }
        }
        swept
    }
}
