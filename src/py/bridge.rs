//! The seam's Python side: requests and events in, handler calls out, on the turn or on the event loop.
//!
//! What goes to the loop goes through one queue, emptied by the loop's own thread before it blocks. The loop is woken
//! only if it said that it was about to block, so a burst costs one wake-up.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict};

use crate::app::{App, HandlerId, Job, Lane, Signal};
use crate::py::listeners::{Lanes, Listeners};
use crate::py::message::{Payload, raw};
use crate::server::{Batch, Exchange, flush_batch, is_batch_pending, open_batch};

/// Requests and events run in one turn of the loop before it looks at its other sources.
const BATCH: usize = 64;
/// How long what is sent may wait for the jobs behind the one that sent it.
const LATE: Duration = Duration::from_millis(1);

/// A registered handler.
pub(super) struct Handler {
    pub(super) callable: Py<PyAny>,
    /// It is a coroutine function: calling it only makes a coroutine.
    pub(super) coroutine: bool,
    /// Its third argument, for an upgrade handler.
    pub(super) context: Option<Py<PyAny>>,
}

/// Something for the loop's thread.
enum Posted {
    Job(Job),
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
    /// `(callback, arguments, socket, weight, last)`: starts a task for an event of a socket.
    pub(crate) event: Py<PyAny>,
    /// `(error, response, request)`: a handler failed.
    pub(crate) fail: Py<PyAny>,
    /// `()`: the server has drained.
    pub(crate) drained: Py<PyAny>,
    /// `(callable)`: whether it is a coroutine function.
    pub(crate) is_coroutine: Py<PyAny>,
}

impl Hooks {
    fn each(&self) -> [&Py<PyAny>; 7] {
        [&self.start, &self.spawn, &self.feed, &self.event, &self.fail, &self.drained, &self.is_coroutine]
    }
}

/// A Python application.
pub(crate) struct PyApp {
    pub(super) application: Py<PyAny>,
    pub(super) hooks: Hooks,
    pub(super) handlers: RwLock<Vec<Handler>>,
    serializer: RwLock<Py<PyAny>>,
    event_loop: RwLock<Option<Py<PyAny>>>,
    /// Adds what extensions add to the objects of a request; none for applications without extensions.
    pub(super) extender: RwLock<Option<Py<PyAny>>>,
    /// The same for sockets.
    pub(super) socket_extender: RwLock<Option<Py<PyAny>>>,
    /// Has the loop flush soon, where it does not ask before each sleep.
    flusher: RwLock<Option<Py<PyAny>>>,
    /// Whether there is one: nobody else pays for the question.
    has_flusher: AtomicBool,
    /// `def` handlers run on the loop's thread too.
    everything_on_loop: bool,
    queue: Mutex<VecDeque<Posted>>,
    /// The loop is about to block, or blocks: a byte must be sent to wake it.
    sleeping: AtomicBool,
    wake_write: UnixStream,
    wake_read: UnixStream,
    /// Answers begun in this turn of the loop, to be sent when it ends.
    corked: Mutex<Vec<Arc<Exchange>>>,
    pub(super) warned_silent: AtomicBool,
    /// The I/O threads, as Python numbers them.
    threads: Mutex<Vec<u64>>,
}

/// Which application's user code a thread runs, by address.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    app: usize,
    lane: Lane,
}

thread_local! {
    /// Where the user code that runs on this thread belongs; on a loop's thread also between two calls of ours.
    static PLACE: Cell<Option<Place>> = const { Cell::new(None) };
    /// What the loop of this thread has sent in its turn.
    static LOOP_BATCH: RefCell<Option<Batch>> = const { RefCell::new(None) };
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
            socket_extender: RwLock::new(None),
            flusher: RwLock::new(None),
            has_flusher: AtomicBool::new(false),
            everything_on_loop,
            queue: Mutex::default(),
            sleeping: AtomicBool::new(false),
            wake_write,
            wake_read,
            corked: Mutex::default(),
            warned_silent: AtomicBool::new(false),
            threads: Mutex::default(),
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
                visit.call(handler.context.as_ref())?;
            }
        }
        if let Some(serializer) = self.serializer.try_read() {
            visit.call(&*serializer)?;
        }
        if let Some(event_loop) = self.event_loop.try_read() {
            visit.call(event_loop.as_ref())?;
        }
        for slot in [&self.extender, &self.socket_extender, &self.flusher] {
            if let Some(held) = slot.try_read() {
                visit.call(held.as_ref())?;
            }
        }
        Ok(())
    }

    /// Drops the handlers, which are what closes circles.
    pub(crate) fn forget(&self) {
        let handlers = std::mem::take(&mut *self.handlers.write());
        let slots = [&self.event_loop, &self.extender, &self.socket_extender, &self.flusher];
        let held = slots.map(|slot| slot.write().take());
        drop((handlers, held));
    }

    // ---- handlers -----------------------------------------------------------------------------------------------

    pub(crate) fn add_handler(&self, handler: Handler) -> PyResult<(HandlerId, Lane)> {
        let mut handlers = self.handlers.write();
        let id =
            HandlerId::try_from(handlers.len()).map_err(|_| PyTypeError::new_err("too many handlers"))?;
        let lane = self.lane(handler.coroutine);
        handlers.push(handler);
        Ok((id, lane))
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

    pub(crate) fn set_socket_extender(&self, extender: Py<PyAny>) {
        let old = self.socket_extender.write().replace(extender);
        drop(old);
    }

    pub(crate) fn set_flusher(&self, flusher: Option<Py<PyAny>>) {
        self.has_flusher.store(flusher.is_some(), Ordering::Relaxed);
        let old = std::mem::replace(&mut *self.flusher.write(), flusher);
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

    /// The I/O threads that have not ended, as Python numbers them.
    pub(crate) fn threads(&self) -> Vec<u64> {
        self.threads.lock().clone()
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

    fn here(&self, lane: Lane) -> Place {
        Place { app: std::ptr::from_ref(self).addr(), lane }
    }

    /// The lane whose user code runs on this thread, when it is this application's: what is to run there may run now.
    pub(crate) fn current_lane(&self) -> Option<Lane> {
        PLACE.get().filter(|place| *place == self.here(place.lane)).map(|place| place.lane)
    }

    /// Runs what was posted; true when there was something.
    pub(crate) fn poll(&self, py: Python<'_>) -> bool {
        PLACE.set(Some(self.here(Lane::Loop)));
        self.flush_sent(py);
        LOOP_BATCH.with_borrow_mut(|batch| {
            batch.get_or_insert_with(open_batch);
        });
        let mut ran = false;
        let mut since = Instant::now();
        for _ in 0..BATCH {
            let Some(posted) = self.queue.lock().pop_front() else { break };
            if ran {
                flush_if_late(py, &mut since);
            }
            ran = true;
            match posted {
                Posted::Job(job) => self.run_job(py, job, Lane::Loop),
                Posted::Drained => {
                    if let Err(error) = self.hooks.drained.call0(py) {
                        error.write_unraisable(py, Some(self.application.bind(py)));
                    }
                }
            }
        }
        self.flush_sent(py);
        ran
    }

    /// Announces that the loop will block. False when there is work, and it must not.
    pub(crate) fn arm(&self, py: Python<'_>) -> bool {
        self.flush_sent(py);
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
    pub(crate) fn cork(&self, py: Python<'_>, exchange: &Arc<Exchange>) {
        if self.current_lane() == Some(Lane::Loop) && exchange.cork() {
            self.corked.lock().push(Arc::clone(exchange));
            self.flush_soon(py);
        }
    }

    /// A loop that does not ask us before it sleeps is told to flush. Call it after something was held back.
    pub(crate) fn flush_soon(&self, py: Python<'_>) {
        match self.current_lane() {
            Some(Lane::Loop) if self.has_flusher.load(Ordering::Relaxed) => {
                let flusher = self.flusher.read().as_ref().map(|flusher| flusher.clone_ref(py));
                if let Some(flusher) = flusher
                    && let Err(error) = flusher.call0(py)
                {
                    error.write_unraisable(py, Some(flusher.bind(py)));
                }
            }
            // This is the thread of another application's loop, which may know nothing of what ours holds back.
            None if LOOP_BATCH.with_borrow(Option::is_some) && is_batch_pending() => py.detach(flush_batch),
            _ => {}
        }
    }

    /// Sends what this turn of the loop has held back.
    pub(crate) fn flush_sent(&self, py: Python<'_>) {
        let corked = std::mem::take(&mut *self.corked.lock());
        for exchange in corked {
            exchange.uncork();
        }
        if is_batch_pending() {
            py.detach(flush_batch);
        }
    }

    /// The loop has stopped: what its thread does from now on is not ours to hold back.
    pub(crate) fn leave_loop(&self, py: Python<'_>) {
        self.flush_sent(py);
        drop(LOOP_BATCH.take());
        PLACE.set(None);
    }

    /// Runs what is left after the threads have ended, so that nobody waits for ever.
    /// `more` gives what that has queued for the turn.
    pub(crate) fn finish(&self, py: Python<'_>, mut jobs: Vec<Job>, more: impl Fn() -> Vec<Job>) {
        loop {
            self.run_jobs(py, &mut jobs.into_iter());
            let mut ran = false;
            while self.poll(py) {
                ran = true;
            }
            jobs = more();
            if jobs.is_empty() && !ran {
                break;
            }
        }
        self.leave_loop(py);
    }

    fn run_jobs(&self, py: Python<'_>, jobs: &mut dyn Iterator<Item = Job>) {
        let before = PLACE.replace(Some(self.here(Lane::Turn)));
        let mut since = Instant::now();
        for job in jobs {
            self.run_job(py, job, Lane::Turn);
            flush_if_late(py, &mut since);
        }
        PLACE.set(before);
    }

    fn run_job(&self, py: Python<'_>, job: Job, lane: Lane) {
        match job {
            Job::Request(exchange) => {
                guarded(&exchange, || self.serve(py, &exchange));
                if lane == Lane::Turn {
                    exchange.uncork();
                }
            }
            Job::Signal(exchange, signal) => guarded(&exchange, || {
                Listeners::deliver(py, self, &exchange, signal, lane);
            }),
            Job::Socket(socket) => {
                // The hook has reported it; the client learns that it was the server's fault (RFC 6455 7.4.1).
                let converse = || self.converse(py, &socket, lane);
                if catch_unwind(AssertUnwindSafe(converse)).is_err() {
                    socket.end(1011, None);
                    // What is left to tell was to be told by the call that did not return.
                    let _ = catch_unwind(AssertUnwindSafe(converse));
                }
            }
        }
    }
}

/// Sends what a batch of fast callbacks has held back for a while; a burst of them still leaves in one go.
fn flush_if_late(py: Python<'_>, since: &mut Instant) {
    if since.elapsed() > LATE {
        if is_batch_pending() {
            py.detach(flush_batch);
        }
        *since = Instant::now();
    }
}

/// Keeps a panic from Python and from the thread: the hook has reported it, and the client gets a 500.
fn guarded(exchange: &Exchange, act: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(act)).is_err() && !exchange.cut_if_started() {
        exchange.reset_head();
        let _ = exchange.set_status(500);
        exchange.end(b"Internal Error", false);
    }
}

impl App for PyApp {
    fn run(&self, jobs: &mut dyn Iterator<Item = Job>) {
        Python::attach(|py| self.run_jobs(py, jobs));
    }

    fn post(&self, job: Job) {
        self.queue.lock().push_back(Posted::Job(job));
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
            self.queue(Posted::Job(Job::Signal(exchange, signal)));
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
            let ident =
                py.import("threading").and_then(|threading| threading.call_method0("get_ident")?.extract());
            let ident: u64 = ident.unwrap_or_default();
            self.threads.lock().push(ident);
            set(event_loop.as_ref());
            py.detach(body);
            set(None);
            self.threads.lock().retain(|other| *other != ident);
        });
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
