//! The seam's Python side: requests and events in, handler calls out, on the turn or on the event loop.
//!
//! Jobs for the event loop go through one queue, which the loop's own thread empties before it blocks. The
//! loop is woken only if it has announced that it is about to block, so a burst costs one wake-up.

mod forks;
mod readers;
mod running;
mod seam;

pub(super) use self::running::guarded;

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use parking_lot::{Mutex, RwLock};
use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyType};

use crate::app::{HandlerId, Lane};
use crate::py::asgi;
use crate::py::bridge::readers::Readers;
use crate::py::calling::{attribute, call, call_with, method, report, truth, type_name};
use crate::py::classes::Classes;
use crate::py::contexts::Scope;
use crate::py::door::{Hooks, door};
use crate::py::futures::set_result;
use crate::py::handlers::{Handler, Handlers, Held, Returned};
use crate::py::message::{Payload, raw};
use crate::py::wsgi::{Gateway, Pool};
use crate::server::{AccessQueue, Backlog, Exchange};

/// A Python application.
pub(crate) struct PyApp {
    pub(super) application: Py<PyAny>,
    pub(super) hooks: Hooks,
    pub(super) handlers: RwLock<Handlers>,
    returned: Arc<Returned>,
    serializer: RwLock<Py<PyAny>>,
    event_loop: RwLock<Option<Py<PyAny>>>,
    /// The context in which the application was started. User code starts in a copy of it, never in a context
    /// that other code has used.
    context: ArcSwapOption<Py<PyAny>>,
    /// The classes that extensions have replaced.
    pub(super) classes: Classes,
    /// Makes the loop flush soon, if it does not poll before each sleep.
    flusher: RwLock<Option<Py<PyAny>>>,
    /// Whether there is one: others pay nothing for the check.
    has_flusher: AtomicBool,
    /// `def` handlers run on the loop's thread too.
    handlers_on_loop: bool,
    /// This process was forked from the serving one.
    abandoned: AtomicBool,
    queue: Mutex<Backlog>,
    /// The server has drained: reported after the queued jobs.
    drained: AtomicBool,
    /// The loop is about to block, or blocks: a byte must be sent to wake it.
    sleeping: AtomicBool,
    wake_write: UnixStream,
    wake_read: UnixStream,
    /// Responses begun in this iteration of the loop, to be sent at its end.
    corked: Mutex<Vec<Arc<Exchange>>>,
    pub(super) warned_silent: AtomicBool,
    /// The I/O threads, by their Python numbers.
    threads: Mutex<Vec<u64>>,
    /// The access log of the next server.
    access: Mutex<Option<Arc<AccessQueue>>>,
    /// The handler of unknown TLS server names.
    pub(super) missing_server_name: RwLock<Option<Handler>>,
    /// Whether a logger reads the faults of connections.
    pub(crate) readers: Readers,
    /// What the requests of an ASGI application have in common.
    pub(super) asgi: asgi::Mount,
    /// Exchanges whose head waits for the first piece of the body.
    kept: Mutex<Vec<Arc<Exchange>>>,
    /// The number of the loop's turn.
    turn: AtomicU64,
    /// The WSGI applications, by number.
    gateways: RwLock<Vec<Py<Gateway>>>,
    /// One of them runs on the I/O threads: what it keeps for each thread must not multiply.
    stays: AtomicBool,
}

impl PyApp {
    pub(crate) fn new(
        application: Py<PyAny>,
        hooks: Hooks,
        serializer: Py<PyAny>,
        handlers_on_loop: bool,
    ) -> std::io::Result<Self> {
        let (wake_write, wake_read) = UnixStream::pair()?;
        wake_write.set_nonblocking(true)?;
        wake_read.set_nonblocking(true)?;
        let handlers = Handlers::default();
        Ok(Self {
            application,
            hooks,
            returned: handlers.returned(),
            handlers: RwLock::new(handlers),
            serializer: RwLock::new(serializer),
            event_loop: RwLock::new(None),
            context: ArcSwapOption::empty(),
            classes: Classes::default(),
            flusher: RwLock::new(None),
            has_flusher: AtomicBool::new(false),
            handlers_on_loop,
            abandoned: AtomicBool::new(false),
            queue: Mutex::default(),
            drained: AtomicBool::new(false),
            sleeping: AtomicBool::new(false),
            wake_write,
            wake_read,
            corked: Mutex::default(),
            warned_silent: AtomicBool::new(false),
            threads: Mutex::default(),
            access: Mutex::default(),
            missing_server_name: RwLock::default(),
            readers: Readers::default(),
            asgi: asgi::Mount::default(),
            kept: Mutex::default(),
            turn: AtomicU64::new(0),
            gateways: RwLock::default(),
            stays: AtomicBool::new(false),
        })
    }

    /// The application behind an exchange.
    pub(crate) fn of(exchange: &Exchange) -> Option<&Self> {
        exchange.server().app().as_any().downcast_ref()
    }

    pub(crate) fn application(&self, py: Python<'_>) -> Py<PyAny> {
        self.application.clone_ref(py)
    }

    pub(crate) fn visit(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.application)?;
        for hook in self.hooks.each() {
            visit.call(hook)?;
        }
        // A taken lock belongs to a thread that uses the guarded objects, so they are not garbage.
        if let Some(handlers) = self.handlers.try_read() {
            for handler in handlers.iter() {
                visit.call(&handler.callable)?;
                visit.call(handler.context.as_ref())?;
            }
        }
        if let Some(serializer) = self.serializer.try_read() {
            visit.call(&*serializer)?;
        }
        if let Some(event_loop) = self.event_loop.try_read() {
            visit.call(event_loop.as_ref())?;
        }
        visit.call(self.context.load().as_deref())?;
        if let Some(handler) = self.missing_server_name.try_read() {
            visit.call(handler.as_ref().map(|handler| &handler.callable))?;
        }
        if let Some(flusher) = self.flusher.try_read() {
            visit.call(flusher.as_ref())?;
        }
        if let Some(state) = self.asgi.visited() {
            visit.call(state.as_ref())?;
        }
        if let Some(gateways) = self.gateways.try_read() {
            for gateway in gateways.iter() {
                visit.call(gateway)?;
            }
        }
        self.classes.visit(&visit)
    }

    /// Drops the handlers, which close the reference cycles.
    pub(crate) fn forget(&self) {
        let handlers = std::mem::take(&mut *self.handlers.write());
        let slots = [&self.event_loop, &self.flusher];
        let held = slots.map(|slot| slot.write().take());
        let asked = self.missing_server_name.write().take();
        let context = self.context.swap(None);
        self.asgi.set_state(None);
        let gateways = std::mem::take(&mut *self.gateways.write());
        drop((handlers, held, asked, context, gateways));
    }

    // ---- handlers -----------------------------------------------------------------------------------------------

    /// Adds a handler of a route, which holds it.
    pub(super) fn add_handler(&self, handler: Handler, held: &mut Held) -> PyResult<(HandlerId, Lane)> {
        self.sweep_handlers();
        let lane = self.lane(handler.coroutine);
        let added = self.handlers.write().add(handler, held);
        added.map(|id| (id, lane)).ok_or_else(|| PyTypeError::new_err("too many handlers"))
    }

    /// Adds a WSGI application, which `make` makes for its number.
    pub(super) fn add_gateway(
        &self,
        py: Python<'_>,
        make: impl FnOnce(usize) -> PyResult<Gateway>,
    ) -> PyResult<Py<Gateway>> {
        // Python holds this thread: none adds another meanwhile.
        let gateway = Py::new(py, make(self.gateways.read().len())?)?;
        self.gateways.write().push(gateway.clone_ref(py));
        self.stays.fetch_or(gateway.get().pool().is_none(), Ordering::Relaxed);
        Ok(gateway)
    }

    /// A WSGI application.
    pub(super) fn gateway(&self, py: Python<'_>, number: usize) -> Option<Py<Gateway>> {
        self.gateways.read().get(number).map(|gateway| gateway.clone_ref(py))
    }

    /// The threads of WSGI applications.
    pub(super) fn pools(&self) -> Vec<Arc<Pool>> {
        self.gateways.read().iter().filter_map(|gateway| gateway.get().pool().cloned()).collect()
    }

    /// The lease with which a route holds its handlers.
    pub(super) fn hold(&self) -> Held {
        self.handlers.read().hold()
    }

    /// Drops the handlers that can no longer be called.
    pub(super) fn sweep_handlers(&self) {
        if !self.returned.any() {
            return;
        }
        let swept = self.handlers.write().sweep();
        drop(swept);
    }

    /// Where a callable runs.
    pub(crate) fn lane(&self, coroutine: bool) -> Lane {
        if coroutine || self.handlers_on_loop { Lane::Loop } else { Lane::Turn }
    }

    pub(crate) fn is_coroutine(&self, py: Python<'_>, callable: &Py<PyAny>) -> bool {
        let answer = call(self.hooks.is_coroutine.bind(py), [callable.bind(py)]);
        answer.and_then(|answer| truth(&answer)).unwrap_or(false)
    }

    pub(crate) fn set_serializer(&self, serializer: Py<PyAny>) {
        let old = std::mem::replace(&mut *self.serializer.write(), serializer);
        drop(old);
    }

    pub(crate) fn serializer<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.serializer.read().bind(py).clone()
    }

    pub(crate) fn set_event_loop(&self, event_loop: Option<Py<PyAny>>) {
        let old = std::mem::replace(&mut *self.event_loop.write(), event_loop);
        drop(old);
    }

    /// Stores the context in which the application is started.
    pub(crate) fn remember_context(&self, context: Py<PyAny>) {
        let old = self.context.swap(Some(Arc::new(context)));
        drop(old);
    }

    /// The context of a request, or of an event, while this lives.
    pub(crate) fn scope<'py>(&self, py: Python<'py>) -> PyResult<Scope<'py>> {
        Scope::of(py, self.context.load().as_deref())
    }

    /// Makes objects of a subclass of theirs from now on.
    pub(crate) fn replace_class(&self, class: &Bound<'_, PyType>) -> PyResult<()> {
        self.classes.replace(class)
    }

    pub(crate) fn set_flusher(&self, flusher: Option<Py<PyAny>>) {
        self.has_flusher.store(flusher.is_some(), Ordering::Relaxed);
        let old = std::mem::replace(&mut *self.flusher.write(), flusher);
        drop(old);
    }

    pub(crate) fn set_access_log(&self, queue: Option<Arc<AccessQueue>>) {
        *self.access.lock() = queue;
    }

    /// A future of the application's loop.
    pub(crate) fn create_future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let event_loop = self.event_loop.read().as_ref().map(|event_loop| event_loop.bind(py).clone());
        match event_loop {
            Some(event_loop) => method(&event_loop, intern!(py, "create_future"), []),
            None => Err(pyo3::exceptions::PyRuntimeError::new_err("the application has no event loop")),
        }
    }

    /// Anything that is not text or bytes, through the serializer (DEC-4: sets become arrays).
    pub(crate) fn to_json<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Payload<'py>> {
        let py = value.py();
        let serializer = self.serializer(py);
        let dumps = intern!(py, "dumps");
        let encode = |value: &Bound<'py, PyAny>| method(&serializer, dumps, [value]);
        let text = match encode(value) {
            Err(error) if error.is_instance_of::<PyTypeError>(py) => {
                let plain = call_with(door(py).without_sets.bind(py), (value, &error))?;
                encode(&plain)?
            }
            other => other?,
        };
        raw(&text)?.ok_or_else(|| {
            let name = type_name(&text);
            PyTypeError::new_err(format!("the JSON serializer's dumps must return str or bytes, not {name}"))
        })
    }

    /// Logs an exception of a callback that has no other receiver.
    pub(crate) fn log_callback(py: Python<'_>, what: &str, error: &PyErr, callable: &Bound<'_, PyAny>) {
        let value = error.clone_ref(py).into_value(py);
        let logged = call_with(door(py).log_callback.bind(py), (what, value, callable));
        if let Err(error) = logged {
            report(py, error, Some(callable));
        }
    }

    pub(crate) fn bytes_io(py: Python<'_>, body: &Py<PyBytes>) -> PyResult<Py<PyAny>> {
        static BYTES_IO: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let class = BYTES_IO.get_or_try_init(py, || {
            Ok::<_, PyErr>(attribute(&*py.import("io")?, intern!(py, "BytesIO"))?.unbind())
        })?;
        call(class.bind(py), [body.bind(py)]).map(Bound::unbind)
    }

    /// Completes a future, on the loop's thread. A cancelled one is not touched.
    pub(crate) fn resolve(py: Python<'_>, future: &Py<PyAny>, value: &Py<PyAny>) {
        let future = future.bind(py);
        let done = method(future, intern!(py, "done"), []).and_then(|done| truth(&done));
        let result = match done {
            Ok(true) => return,
            Ok(false) => set_result(future, value.bind(py)),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            report(py, error, Some(future));
        }
    }
}
