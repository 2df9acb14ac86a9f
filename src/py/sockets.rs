//! Events of sockets become calls here. This file also keeps user code's data of a socket.

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

use crate::app::Lane;
use crate::py::bridge::PyApp;
use crate::py::calling::{call, call_with, is_awaitable, method, report};
use crate::py::classes::make;
use crate::py::convert::{self, text};
use crate::py::door::door;
use crate::py::futures::{Crowd, is_done};
use crate::py::websocket::WebSocket;
use crate::server::{self, Event};

/// Events of a socket that are delivered before others.
const EVENTS: u32 = 64;

/// The data of a socket until its close listener has run: its object, made when a callback first needs it,
/// and the user data of the upgrade handler.
#[derive(Default)]
pub(crate) struct Attached {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    object: Option<Py<WebSocket>>,
    user_data: Option<Py<PyAny>>,
    uuid: Option<Py<PyAny>>,
    /// Futures of `drain`. They are rare, so their storage is made on demand.
    rooms: Option<Box<Rooms>>,
    /// The close listener has run: nothing is kept any more.
    released: bool,
}

type Rooms = Crowd<Py<PyAny>>;

impl Attached {
    pub(crate) fn with(user_data: Py<PyAny>) -> Self {
        Self { inner: Mutex::new(Inner { user_data: Some(user_data), ..Inner::default() }) }
    }

    /// Those of `socket`, made at the first use.
    pub(crate) fn of(socket: &server::WebSocket) -> Option<&Self> {
        socket.user().get_or_init(|| Box::<Self>::default()).downcast_ref()
    }

    /// The object of `socket`.
    fn object(
        &self,
        py: Python<'_>,
        app: &PyApp,
        socket: &Arc<server::WebSocket>,
    ) -> PyResult<Py<WebSocket>> {
        let user_data = {
            let inner = self.inner.lock();
            if let Some(object) = &inner.object {
                return Ok(object.clone_ref(py));
            }
            inner.user_data.as_ref().map(|data| data.clone_ref(py))
        };
        // Made without the lock: making an object may collect garbage, which runs user code.
        let made = make(py, &app.classes.websocket, WebSocket::new(Arc::clone(socket), user_data))?;
        let mut inner = self.inner.lock();
        // Another thread may have been faster; the extra object is dropped without the lock.
        match &inner.object {
            Some(object) => Ok(object.clone_ref(py)),
            None if inner.released => Ok(made),
            None => {
                inner.object = Some(made.clone_ref(py));
                Ok(made)
            }
        }
    }

    pub(crate) fn uuid(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if let Some(uuid) = &self.inner.lock().uuid {
            return Ok(uuid.clone_ref(py));
        }
        let made = method(&*py.import("uuid")?, intern!(py, "uuid4"), [])?.unbind();
        let mut inner = self.inner.lock();
        if inner.uuid.is_none() {
            inner.uuid = Some(made.clone_ref(py));
        }
        Ok(inner.uuid.as_ref().unwrap_or(&made).clone_ref(py))
    }

    pub(crate) fn await_room(&self, py: Python<'_>, future: Py<PyAny>) {
        let mut crowd =
            self.inner.lock().rooms.as_mut().map(|rooms| rooms.take_to_look()).unwrap_or_default();
        crowd.retain(|future| !is_done(py, future));
        let mut inner = self.inner.lock();
        let rooms = inner.rooms.get_or_insert_default();
        if !crowd.is_empty() {
            rooms.bring_back(crowd);
        }
        rooms.push(future);
    }

    pub(crate) fn resolve_rooms(&self, py: Python<'_>) {
        let rooms = self.inner.lock().rooms.take();
        for future in rooms.into_iter().flat_map(|mut rooms| rooms.take()) {
            PyApp::resolve(py, &future, &py.None());
        }
    }

    /// Releases everything: the socket's object holds the socket, which holds the object.
    fn release(&self) {
        let old = {
            let mut inner = self.inner.lock();
            inner.released = true;
            (inner.object.take(), inner.user_data.take())
        };
        drop(old);
    }
}

/// A member of the package's `OpCode`.
fn opcode(py: Python<'_>, is_text: bool) -> &Bound<'_, PyAny> {
    let members = &door(py).op_code;
    if is_text { members.text.bind(py) } else { members.binary.bind(py) }
}

impl PyApp {
    /// Calls the listeners of a socket's events, as far as they run in `lane`.
    pub(crate) fn converse(&self, py: Python<'_>, socket: &Arc<server::WebSocket>, lane: Lane) {
        let mut done = 0;
        for told in 0_u32.. {
            // One busy client must not keep the others, or the loop, waiting. The last events are delivered
            // together.
            if told >= EVENTS && socket.is_open() {
                socket.put_off(done);
                return;
            }
            let Some(event) = socket.next(lane, done) else { return };
            let weight = event.weight();
            // A task reports its own end.
            done = if self.tell(py, socket, event, weight) { 0 } else { weight };
        }
    }

    /// Delivers one event. True if a task has taken over.
    pub(crate) fn tell(
        &self,
        py: Python<'_>,
        socket: &Arc<server::WebSocket>,
        event: Event,
        weight: usize,
    ) -> bool {
        let Some(attached) = Attached::of(socket) else { return false };
        if matches!(event, Event::Room) {
            attached.resolve_rooms(py);
            return false;
        }
        let last = matches!(event, Event::Close { .. });
        let found = event.listener(socket.behavior()).and_then(|listener| {
            let handlers = self.handlers.read();
            handlers.get(listener.id).map(|found| (found.callable.clone_ref(py), found.coroutine))
        });
        let mut taken = false;
        if let Some((callable, coroutine)) = found {
            let called = attached.object(py, self, socket).and_then(|object| {
                let _scope = self.scope(py)?;
                if coroutine {
                    let arguments = arguments(py, &object, event)?;
                    let task = (&callable, arguments, &object, weight, last);
                    return call_with(self.hooks.event.bind(py), task).map(drop);
                }
                tell_plain(py, callable.bind(py), &object, event).and_then(|value| self.follow(py, &value))
            });
            match called {
                Ok(()) => taken = coroutine,
                // The connection stays open (A-CALL-12).
                Err(error) => log(py, &error, &callable),
            }
        }
        if last {
            attached.release();
        }
        taken
    }

    /// A plain function may return an awaitable (A-CALL-02).
    fn follow(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        // The usual return values, such as that of `send`, cost no look-up.
        if value.is_none() || value.is_instance_of::<pyo3::types::PyInt>() {
            return Ok(());
        }
        if is_awaitable(value) {
            call(self.hooks.spawn.bind(py), [value, py.None().bind(py)])?;
        }
        Ok(())
    }
}

fn log(py: Python<'_>, error: &PyErr, callable: &Py<PyAny>) {
    let value = error.clone_ref(py).into_value(py);
    let logged = call(door(py).log_event.bind(py), [value.bind(py).as_any(), callable.bind(py)]);
    if let Err(error) = logged {
        report(py, error, None);
    }
}

fn tell_plain<'py>(
    py: Python<'py>,
    callable: &Bound<'py, PyAny>,
    socket: &Py<WebSocket>,
    event: Event,
) -> PyResult<Bound<'py, PyAny>> {
    // The two frequent events need no tuple.
    match event {
        Event::Text(bytes) => call(callable, [socket.bind(py), &message(py, &bytes), opcode(py, true)]),
        Event::Binary(bytes) => {
            call(callable, [socket.bind(py), &PyBytes::new(py, &bytes), opcode(py, false)])
        }
        event => call_with(callable, arguments(py, socket, event)?),
    }
}

/// A text message. Its UTF-8 was checked on arrival.
fn message<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    text(py, bytes)
}

fn arguments<'py>(py: Python<'py>, socket: &Py<WebSocket>, event: Event) -> PyResult<Bound<'py, PyTuple>> {
    match event {
        Event::Open | Event::Drain | Event::Room => (socket,).into_pyobject(py),
        Event::Text(bytes) => (socket, message(py, &bytes), opcode(py, true)).into_pyobject(py),
        Event::Binary(bytes) => (socket, PyBytes::new(py, &bytes), opcode(py, false)).into_pyobject(py),
        Event::Ping(bytes) | Event::Pong(bytes) => (socket, PyBytes::new(py, &bytes)).into_pyobject(py),
        Event::Subscription { topic, count, before } => {
            (socket, convert::topic(py, &topic), count, before).into_pyobject(py)
        }
        Event::Close { code, reason } => {
            (socket, code, reason.map(|reason| PyBytes::new(py, &reason))).into_pyobject(py)
        }
    }
}
