//! The seam's Python side: requests and events in, handler calls out, on the turn or on the event loop.
//!
//! What goes to the loop goes through one queue, emptied by the loop's own thread before it blocks. The loop is woken
//! only if it said that it was about to block, so a burst costs one wake-up.

use std::any::Any;
use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};
use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::app::{App, HandlerId, Job, Lane, Signal};
use crate::py::listeners::{Lanes, Listeners};
use crate::py::message::{Payload, raw};
use crate::py::request::Request;
use crate::py::response::Response;
use crate::server::{Exchange, Next};

/// Requests and events run in one turn of the loop before it looks at its other sources.
const BATCH: usize = 64;

/// A registered handler.
struct Handler {
    callable: Py<PyAny>,
    /// It is a coroutine function: calling it only makes a coroutine.
    coroutine: bool,
}

/// Something for the loop's thread.
enum Posted {
    Request(Arc<Exchange>),
    Signal(Arc<Exchange>, Signal),
    Drained,
}

/// Functions of `socketify.app` that the core calls back.
pub(crate) struct Hooks {
    /// `(handler, response, request)`: starts a task for a coroutine function.
    pub(crate) start: Py<PyAny>,
    /// `(awaitable, response)`: starts a task for what a handler returned.
    pub(crate) spawn: Py<PyAny>,
    /// `(handler, response, chunk, is_end)`: starts a task for one piece of a body.
    pub(crate) feed: Py<PyAny>,
    /// `(error, response, request)`: a handler failed.
    pub(crate) fail: Py<PyAny>,
    /// `()`: the server has drained.
    pub(crate) drained: Py<PyAny>,
    /// `(callable)`: whether it is a coroutine function.
    pub(crate) is_coroutine: Py<PyAny>,
}

impl Hooks {
    fn each(&self) -> [&Py<PyAny>; 6] {
        [&self.start, &self.spawn, &self.feed, &self.fail, &self.drained, &self.is_coroutine]
    }
}

/// A Python application.
pub(crate) struct PyApp {
    application: Py<PyAny>,
    hooks: Hooks,
    handlers: RwLock<Vec<Handler>>,
    serializer: RwLock<Py<PyAny>>,
    event_loop: RwLock<Option<Py<PyAny>>>,
    /// Adds what extensions add to the objects of a request; none for applications without extensions.
    extender: RwLock<Option<Py<PyAny>>>,
    /// `def` handlers run on the loop's thread too.
    everything_on_loop: bool,
    queue: Mutex<VecDeque<Posted>>,
    /// The loop is about to block, or blocks: a byte must be sent to wake it.
    sleeping: AtomicBool,
    wake_write: UnixStream,
    wake_read: UnixStream,
    /// Answers begun in this turn of the loop, to be sent when it ends.
    corked: Mutex<Vec<Arc<Exchange>>>,
    warned_silent: AtomicBool,
}

thread_local! {
    /// This thread runs the application's event loop.
    static ON_LOOP: Cell<bool> = const { Cell::new(false) };
}

impl PyApp {
    pub(crate) fn new(
        application: Py<PyAny>,
        hooks: Hooks,
        serializer: Py<PyAny>,
        everything_on_loop: bool,
    ) -> std::io::Result<Self> {
        let (wake_write, wake_read) = UnixStream::pair()?;
        wake_write.set_nonblocking(true)?;
        wake_read.set_nonblocking(true)?;
        Ok(Self {
            application,
            hooks,
            handlers: RwLock::default(),
            serializer: RwLock::new(serializer),
            event_loop: RwLock::new(None),
            extender: RwLock::new(None),
            everything_on_loop,
            queue: Mutex::default(),
            sleeping: AtomicBool::new(false),
            wake_write,
            wake_read,
            corked: Mutex::default(),
            warned_silent: AtomicBool::new(false),
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
        // A lock that is taken is taken by a thread that uses what it guards, so nothing there is garbage.
        if let Some(handlers) = self.handlers.try_read() {
            for handler in &*handlers {
                visit.call(&handler.callable)?;
            }
        }
        if let Some(serializer) = self.serializer.try_read() {
            visit.call(&*serializer)?;
        }
        if let Some(event_loop) = self.event_loop.try_read() {
            visit.call(event_loop.as_ref())?;
        }
        if let Some(extender) = self.extender.try_read() {
            visit.call(extender.as_ref())?;
        }
        Ok(())
    }

    /// Drops the handlers, which are what closes circles.
    pub(crate) fn forget(&self) {
        let handlers = std::mem::take(&mut *self.handlers.write());
        let (event_loop, extender) = (self.event_loop.write().take(), self.extender.write().take());
        drop((handlers, event_loop, extender));
    }

    // ---- handlers -----------------------------------------------------------------------------------------------

    pub(crate) fn add_handler(&self, callable: Py<PyAny>, coroutine: bool) -> PyResult<(HandlerId, Lane)> {
        let mut handlers = self.handlers.write();
        let id =
            HandlerId::try_from(handlers.len()).map_err(|_| PyTypeError::new_err("too many handlers"))?;
        handlers.push(Handler { callable, coroutine });
        Ok((id, self.lane(coroutine)))
    }

    /// Where a callable runs.
    pub(crate) fn lane(&self, coroutine: bool) -> Lane {
        if coroutine || self.everything_on_loop { Lane::Loop } else { Lane::Turn }
    }

    pub(crate) fn is_coroutine(&self, py: Python<'_>, callable: &Py<PyAny>) -> bool {
        let answer = self.hooks.is_coroutine.call1(py, (callable,));
        answer.and_then(|answer| answer.is_truthy(py)).unwrap_or(false)
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

    pub(crate) fn set_extender(&self, extender: Py<PyAny>) {
        let old = self.extender.write().replace(extender);
        drop(old);
    }

    /// A future of the application's loop.
    pub(crate) fn create_future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let event_loop = self.event_loop.read().as_ref().map(|event_loop| event_loop.bind(py).clone());
        match event_loop {
            Some(event_loop) => event_loop.call_method0(pyo3::intern!(py, "create_future")),
            None => Err(pyo3::exceptions::PyRuntimeError::new_err("the application has no event loop")),
        }
    }

    /// Anything that is not text or bytes, through the serializer (DEC-4: sets become arrays).
    pub(crate) fn to_json<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Payload<'py>> {
        let py = value.py();
        let serializer = self.serializer(py);
        let dumps = pyo3::intern!(py, "dumps");
        let text = match serializer.call_method1(dumps, (value,)) {
            Err(error) if error.is_instance_of::<PyTypeError>(py) => {
                let plain = Self::helper(py, "json_sets", "without_sets")?.call1((value, &error))?;
                serializer.call_method1(dumps, (plain,))?
            }
            other => other?,
        };
        raw(&text)?.ok_or_else(|| {
            let name = text.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
            PyTypeError::new_err(format!("the JSON serializer's dumps must return str or bytes, not {name}"))
        })
    }

    /// A function of the package that only some users pay for; looked up once.
    pub(crate) fn helper<'py>(
        py: Python<'py>,
        module: &'static str,
        name: &'static str,
    ) -> PyResult<Bound<'py, PyAny>> {
        static FOUND: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
        let found = FOUND.get_or_init(py, || PyDict::new(py).unbind()).bind(py);
        // Names of functions are unique across the helper modules.
        if let Some(function) = found.get_item(name)? {
            return Ok(function);
        }
        let function = py.import(format!("socketify.{module}").as_str())?.getattr(name)?;
        found.set_item(name, &function)?;
        Ok(function)
    }

    /// Logs an exception of a callback that has nobody else to tell.
    pub(crate) fn log_callback(
        py: Python<'_>,
        what: &str,
        error: &PyErr,
        callable: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        Self::helper(py, "errors", "log_callback")?.call1((
            what,
            error.clone_ref(py).into_value(py),
            callable,
        ))?;
        Ok(())
    }

    pub(crate) fn bytes_io(py: Python<'_>, body: &Py<PyBytes>) -> PyResult<Py<PyAny>> {
        static BYTES_IO: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let class =
            BYTES_IO.get_or_try_init(py, || Ok::<_, PyErr>(py.import("io")?.getattr("BytesIO")?.unbind()))?;
        class.call1(py, (body,))
    }

    /// Completes a future, on the loop's thread. One that was cancelled meanwhile is left alone.
    pub(crate) fn resolve(py: Python<'_>, future: &Py<PyAny>, value: &Py<PyAny>) {
        let future = future.bind(py);
        let done = future.call_method0(pyo3::intern!(py, "done")).and_then(|done| done.is_truthy());
        let result = match done {
            Ok(true) => return,
            Ok(false) => future.call_method1(pyo3::intern!(py, "set_result"), (value,)).map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            error.write_unraisable(py, Some(future));
        }
    }

    // ---- calling ------------------------------------------------------------------------------------------------

    /// Runs the handlers of a request on this thread.
    fn serve(&self, py: Python<'_>, exchange: &Arc<Exchange>) {
        // Cut by the end of the server before it was its turn: working it off would hold up the end for nobody.
        if exchange.is_aborted() && exchange.server().is_closing() {
            return;
        }
        let objects = match Listeners::take_carried(exchange) {
            Some(objects) => Ok(objects),
            None => self.make_objects(py, exchange),
        };
        let (response, request) = match objects {
            Ok(objects) => objects,
            // No memory, or an extension failed: there is nobody to answer, and the client sees the connection end.
            Err(error) => {
                error.write_unraisable(py, None);
                exchange.close();
                return;
            }
        };
        let mut id = exchange.handler();
        loop {
            if self.call(py, exchange, id, &response, &request) {
                // On the loop: the task goes on with the request, and says itself if it yields.
                return;
            }
            if exchange.is_yielded()
                && let Some(listeners) = Listeners::of(exchange)
            {
                listeners.carry(response.clone_ref(py), request.clone_ref(py));
            }
            let next = exchange.next();
            if next == Some(Next::Elsewhere) {
                return;
            }
            // They hold what carries them: taken back, or they would live for ever.
            drop(Listeners::take_carried(exchange));
            match next {
                Some(Next::Here(next)) => id = next,
                _ => break,
            }
        }
        if !exchange.has_responded() {
            self.warn_if_silent(py, exchange, &response);
        }
    }

    /// The coroutine of a request has ended: if it yielded, the next handler is called.
    pub(crate) fn go_on(&self, py: Python<'_>, response: Py<Response>, request: Py<Request>) {
        let exchange = Arc::clone(request.get().exchange());
        if !exchange.is_yielded() {
            return;
        }
        if let Some(listeners) = Listeners::of(&exchange) {
            listeners.carry(response, request);
        }
        match exchange.next() {
            Some(Next::Here(_)) => self.serve(py, &exchange),
            Some(Next::Elsewhere) => {}
            Some(Next::Answered) | None => drop(Listeners::take_carried(&exchange)),
        }
    }

    fn make_objects(
        &self,
        py: Python<'_>,
        exchange: &Arc<Exchange>,
    ) -> PyResult<(Py<Response>, Py<Request>)> {
        let response = Py::new(py, Response::new(Arc::clone(exchange)))?;
        let request = Py::new(py, Request::new(Arc::clone(exchange)))?;
        let extender = self.extender.read().as_ref().map(|extender| extender.clone_ref(py));
        if let Some(extender) = extender {
            extender.call1(py, (&response, &request))?;
        }
        Ok((response, request))
    }

    /// Calls one handler. True when a task has taken over.
    fn call(
        &self,
        py: Python<'_>,
        exchange: &Arc<Exchange>,
        id: HandlerId,
        response: &Py<Response>,
        request: &Py<Request>,
    ) -> bool {
        let found = self
            .handlers
            .read()
            .get(id as usize)
            .map(|found| (found.callable.clone_ref(py), found.coroutine));
        let Some((callable, coroutine)) = found else {
            exchange.close();
            return false;
        };
        let result = if coroutine {
            self.hooks.start.bind(py).call1((&callable, response, request))
        } else {
            callable.bind(py).call1((response, request))
        };
        match result {
            Ok(_) if coroutine => true,
            Ok(value) => {
                self.take_returned(py, exchange, &value, response);
                false
            }
            Err(error) => {
                self.fail(py, exchange, &error, Some(response), Some(request));
                false
            }
        }
    }

    /// A plain function may return something to await (A-CALL-02).
    fn take_returned(
        &self,
        py: Python<'_>,
        exchange: &Arc<Exchange>,
        value: &Bound<'_, PyAny>,
        response: &Py<Response>,
    ) {
        if value.is_none() || value.is_instance_of::<Response>() {
            return;
        }
        if value.hasattr(pyo3::intern!(py, "__await__")).unwrap_or(false)
            && let Err(error) = self.hooks.spawn.call1(py, (value, response))
        {
            self.fail(py, exchange, &error, Some(response), None);
        }
    }

    /// Calls a callback of an exchange; its failure is the handler's.
    pub(crate) fn call_back<'py>(
        &self,
        py: Python<'py>,
        exchange: &Arc<Exchange>,
        response: &Py<Response>,
        callable: &Py<PyAny>,
        arguments: PyResult<Bound<'py, PyTuple>>,
        what: &str,
    ) {
        match arguments.and_then(|arguments| callable.bind(py).call1(arguments)) {
            // Nobody is left to answer, so what fails there is only logged (A-RES-27).
            Ok(value) if what == "on_aborted" => {
                let logged = Self::helper(py, "errors", "logged")
                    .and_then(|logged| logged.call1((value, what, callable)));
                match logged {
                    Ok(value) => self.take_returned(py, exchange, &value, response),
                    Err(error) => error.write_unraisable(py, None),
                }
            }
            Ok(value) => self.take_returned(py, exchange, &value, response),
            Err(error) if what == "on_aborted" => {
                let _ = Self::log_callback(py, what, &error, callable.bind(py));
            }
            Err(error) => self.fail(py, exchange, &error, Some(response), None),
        }
    }

    /// Starts the task of an `async` data callback.
    pub(crate) fn feed(
        &self,
        py: Python<'_>,
        exchange: &Arc<Exchange>,
        response: &Py<Response>,
        callable: &Py<PyAny>,
        chunk: &Bound<'_, PyBytes>,
        last: bool,
    ) {
        if let Err(error) = self.hooks.feed.call1(py, (callable, response, chunk, last)) {
            self.fail(py, exchange, &error, Some(response), None);
        }
    }

    /// A handler failed: what it had half said is cut, and the application's error handler speaks.
    pub(crate) fn fail(
        &self,
        py: Python<'_>,
        exchange: &Exchange,
        error: &PyErr,
        response: Option<&Py<Response>>,
        request: Option<&Py<Request>>,
    ) {
        exchange.set_yield(false);
        if !exchange.cut_if_started() {
            exchange.reset_head();
        }
        // `into_value` ties the traceback to the exception; before Python 3.12 they are apart.
        let value = error.clone_ref(py).into_value(py);
        if let Err(error) = self.hooks.fail.call1(py, (value, response, request)) {
            error.write_unraisable(py, Some(self.application.bind(py)));
        }
    }

    /// A handler returned without an answer, and nobody is left who could give one (A-CALL-05).
    fn warn_if_silent(&self, py: Python<'_>, exchange: &Exchange, response: &Py<Response>) {
        // One reference is the caller's.
        let kept = refcount(response) > 1 || Listeners::any(exchange);
        if kept || exchange.is_over() || self.warned_silent.swap(true, Ordering::Relaxed) {
            return;
        }
        let path = crate::py::convert::text(py, exchange.path());
        let logged = Self::helper(py, "errors", "log_silent").and_then(|log| log.call1((path,)));
        if let Err(error) = logged {
            error.write_unraisable(py, None);
        }
    }

    // ---- the loop's thread --------------------------------------------------------------------------------------

    fn queue(&self, posted: Posted) {
        self.queue.lock().push_back(posted);
        self.wake();
    }

    fn wake(&self) {
        if self.sleeping.swap(false, Ordering::SeqCst) {
            // A full pipe means that a wake-up is on its way already.
            let _ = (&self.wake_write).write(&[1]);
        }
    }

    /// What to watch for wake-ups.
    pub(crate) fn wake_descriptor(&self) -> i32 {
        self.wake_read.as_raw_fd()
    }

    /// Empties the wake-up pipe.
    pub(crate) fn clear_wake(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.wake_read).read(&mut bytes), Ok(count) if count == bytes.len()) {}
    }

    /// Runs what was posted; true when there was something.
    pub(crate) fn poll(&self, py: Python<'_>) -> bool {
        ON_LOOP.set(true);
        let mut ran = false;
        for _ in 0..BATCH {
            let Some(posted) = self.queue.lock().pop_front() else { break };
            ran = true;
            match posted {
                Posted::Request(exchange) => self.serve(py, &exchange),
                Posted::Signal(exchange, signal) => {
                    Listeners::deliver(py, self, &exchange, signal, Lane::Loop);
                }
                Posted::Drained => {
                    if let Err(error) = self.hooks.drained.call0(py) {
                        error.write_unraisable(py, Some(self.application.bind(py)));
                    }
                }
            }
        }
        self.flush_corked();
        ran
    }

    /// Announces that the loop will block. False when there is work, and it must not.
    pub(crate) fn arm(&self) -> bool {
        self.flush_corked();
        self.sleeping.store(true, Ordering::SeqCst);
        if self.queue.lock().is_empty() {
            return true;
        }
        self.sleeping.store(false, Ordering::SeqCst);
        false
    }

    /// The loop is awake.
    pub(crate) fn disarm(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }

    /// On the loop's thread: holds what is written until this turn of the loop ends, so that it leaves in one piece.
    pub(crate) fn cork(&self, exchange: &Arc<Exchange>) {
        if ON_LOOP.get() && exchange.cork() {
            self.corked.lock().push(Arc::clone(exchange));
        }
    }

    fn flush_corked(&self) {
        let corked = std::mem::take(&mut *self.corked.lock());
        for exchange in corked {
            exchange.uncork();
        }
    }

    /// Runs what is left after the threads have ended, so that nobody waits for ever.
    pub(crate) fn finish(&self, py: Python<'_>, jobs: Vec<Job>) {
        self.run_jobs(py, &mut jobs.into_iter());
        while self.poll(py) {}
    }

    fn run_jobs(&self, py: Python<'_>, jobs: &mut dyn Iterator<Item = Job>) {
        for job in jobs {
            match job {
                Job::Request(exchange) => {
                    self.serve(py, &exchange);
                    exchange.uncork();
                }
                Job::Signal(exchange, signal) => Listeners::deliver(py, self, &exchange, signal, Lane::Turn),
            }
        }
    }
}

impl App for PyApp {
    fn run(&self, jobs: &mut dyn Iterator<Item = Job>) {
        Python::attach(|py| self.run_jobs(py, jobs));
    }

    fn post(&self, exchange: Arc<Exchange>) {
        self.queue.lock().push_back(Posted::Request(exchange));
    }

    fn posted(&self) {
        self.wake();
    }

    fn signal(&self, exchange: Arc<Exchange>, signal: Signal) {
        let Lanes { turn, event_loop } = Listeners::lanes(&exchange, signal);
        if turn {
            exchange.server().push(Job::Signal(Arc::clone(&exchange), signal));
        }
        if event_loop {
            self.queue(Posted::Signal(exchange, signal));
        }
    }

    fn drained(&self) {
        self.queue(Posted::Drained);
    }

    /// Keeps this thread's Python state for the life of the thread: making one anew at each call costs twenty times what
    /// the call does. The loop is set as the running one, so that handlers find it (design.md, threads).
    fn on_thread(&self, body: &mut (dyn FnMut() + Send)) {
        Python::attach(|py| {
            let set = |event_loop: Option<&Py<PyAny>>| {
                let result = py
                    .import("asyncio.events")
                    .and_then(|events| events.call_method1("_set_running_loop", (event_loop,)));
                if let Err(error) = result {
                    error.write_unraisable(py, None);
                }
            };
            let event_loop = self.event_loop.read().as_ref().map(|event_loop| event_loop.clone_ref(py));
            set(event_loop.as_ref());
            py.detach(body);
            set(None);
        });
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// How many references an object has.
fn refcount(object: &Py<Response>) -> isize {
    #[expect(unsafe_code, reason = "PyO3 has no safe way to ask")]
    // SAFETY: the object is alive, since `object` is a reference to it, and the caller is attached.
    unsafe {
        pyo3::ffi::Py_REFCNT(object.as_ptr())
    }
}

/// Options given as a dictionary.
pub(crate) fn option<'py, T: for<'a> FromPyObject<'a, 'py, Error = PyErr>>(
    options: &Bound<'py, PyDict>,
    name: &str,
) -> PyResult<Option<T>> {
    match options.get_item(name)? {
        Some(value) if !value.is_none() => value.extract().map(Some),
        _ => Ok(None),
    }
}
