//! The handlers of an application, by number.
//!
//! They may be removed while the application runs: a route is replaced, a domain removed. Everything that may
//! still call one (a route, a waiting request or a socket) holds its lease, and the last of these returns the
//! number. That may happen under any lock and without the GIL, and dropping a callable may run any user code.
//! So the callable is kept until the next registration or removal, or until user code runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::app::HandlerId;

/// A registered handler.
pub(super) struct Handler {
    pub(super) callable: Py<PyAny>,
    /// It is a coroutine function: calling it only makes a coroutine.
    pub(super) coroutine: bool,
    /// Its third argument, for an upgrade handler.
    pub(super) context: Option<Py<PyAny>>,
    /// How it is called.
    pub(super) front: Front,
}

/// The interface of a handler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Front {
    /// `(response, request)`, that of `socketify.App`.
    #[default]
    Native,
    /// The callable is the gateway of a WSGI application.
    Wsgi,
    /// `(context, scope, call)`, which starts a task of the ASGI application that is the context.
    Asgi,
    /// The same, for the handshake of a WebSocket.
    AsgiSocket,
}

impl Handler {
    /// A handler of `socketify.App`.
    pub(super) fn native(callable: Py<PyAny>, coroutine: bool, context: Option<Py<PyAny>>) -> Self {
        Self { callable, coroutine, context, front: Front::Native }
    }

    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            callable: self.callable.clone_ref(py),
            coroutine: self.coroutine,
            context: self.context.as_ref().map(|context| context.clone_ref(py)),
            front: self.front,
        }
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Handlers {
    slots: Vec<Option<Handler>>,
    /// Slots without a handler.
    free: Vec<HandlerId>,
    returned: Arc<Returned>,
}

/// Numbers of handlers that can no longer be called.
#[derive(Default)]
pub(super) struct Returned {
    ids: Mutex<Vec<HandlerId>>,
    /// Whether there may be any: checked before each job.
    any: AtomicBool,
}

impl Returned {
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    fn give(&self, ids: &mut Vec<HandlerId>) {
        self.ids.lock().append(ids);
        self.any.store(true, Ordering::Relaxed);
    }

    fn take(&self) -> Vec<HandlerId> {
        self.any.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.ids.lock())
    }
}

/// Handlers of one route. Dropping it returns them.
pub(super) struct Held {
    ids: Vec<HandlerId>,
    returned: Arc<Returned>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.returned.give(&mut self.ids);
    }
}

impl Handlers {
    /// The numbers of handlers that can no longer be called.
    pub(super) fn returned(&self) -> Arc<Returned> {
        Arc::clone(&self.returned)
    }

    /// Holds no handler yet.
    pub(super) fn hold(&self) -> Held {
        Held { ids: Vec::new(), returned: Arc::clone(&self.returned) }
    }

    /// Adds one for `held`; returns its number, or `None` if there are too many.
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

    /// The handler with this number.
    pub(super) fn get(&self, id: HandlerId) -> Option<&Handler> {
        self.slots.get(id as usize)?.as_ref()
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Handler> {
        self.slots.iter().flatten()
    }

    /// Takes out the returned ones: to be dropped without a lock.
    pub(super) fn sweep(&mut self) -> Vec<Handler> {
        let returned = self.returned.take();
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
