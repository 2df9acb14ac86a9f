//! `Server`: what `socketify.App` drives: routes and options in, listening sockets, start, close and join.

use std::collections::HashMap;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyString, PyType};

use crate::app::{Behavior, Constant, Lease, Listener as Listening, Target};
use crate::config::Config;
use crate::files::types::Types;
use crate::files::{Directory, Options};
use crate::http::response::ResponseHead;
use crate::net::{Endpoint, Listener, UNIX_MODE, refuse_strangers};
use crate::py::access_log::Writer;
use crate::py::bridge::{Hooks, PyApp};
use crate::py::calling::{attribute, call, report, shown, truth};
use crate::py::contexts::current_context;
use crate::py::cors::CorsPolicy;
use crate::py::handlers::Handler;
use crate::py::options::{config, socket_config};
use crate::py::{message, outgoing, tls};
use crate::router::{Hosts, Kind, Pattern};
use crate::server::{self, AccessQueue, Routes};

/// The part of an application that is Rust.
#[pyclass(frozen, module = "socketify._core")]
pub(crate) struct Server {
    app: Arc<PyApp>,
    config: Config,
    routes: Routes,
    /// Bound, waiting for the start.
    bound: Mutex<Vec<Listener>>,
    /// Never held while the interpreter is waited for: whoever calls `close` waits for it with the interpreter in hand.
    life: Mutex<Life>,
    /// `(entries, dropped)`: writes the access log; None when there is none.
    access: Mutex<Option<Py<PyAny>>>,
    writer: Mutex<Option<Writer>>,
}

/// How far the server is.
enum Life {
    Stopped,
    /// Threads are being made, and those that are there serve already; whoever closes meanwhile leaves the grace that it gives.
    Starting(Arc<server::Server>, Option<Duration>),
    Running(Arc<server::Server>),
}

impl Life {
    fn server(&self) -> Option<&Arc<server::Server>> {
        match self {
            Self::Running(server) => Some(server),
            Self::Stopped | Self::Starting(..) => None,
        }
    }

    /// The server as handlers see it, which may run before its last thread has been made.
    fn serving(&self) -> Option<&Arc<server::Server>> {
        match self {
            Self::Running(server) | Self::Starting(server, _) => Some(server),
            Self::Stopped => None,
        }
    }
}

fn invalid(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn kind(method: Option<&str>) -> Kind {
    method.map_or_else(Kind::any, Kind::method)
}

impl Server {
    /// Serves `listener` from the next start, or at once while the server runs; gives its port.
    fn listen(&self, listener: Listener) -> PyResult<u16> {
        let port = listener.port();
        match self.life.lock().server() {
            Some(server) if !server.is_closing() => server.listen(listener)?,
            _ => self.bound.lock().push(listener),
        }
        Ok(port)
    }
}

#[pymethods]
impl Server {
    #[new]
    fn new(
        application: &Bound<'_, PyAny>,
        hooks: &Bound<'_, PyAny>,
        serializer: Py<PyAny>,
        handlers_on_loop: bool,
        options: &Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        let hook = |name: &str| attribute(hooks, &PyString::new(hooks.py(), name)).map(Bound::unbind);
        let hooks = Hooks {
            start: hook("start")?,
            spawn: hook("spawn")?,
            feed: hook("feed")?,
            event: hook("event")?,
            fail: hook("fail")?,
            drained: hook("drained")?,
            note: hook("note")?,
            is_coroutine: hook("is_coroutine")?,
        };
        let app = PyApp::new(application.clone().unbind(), hooks, serializer, handlers_on_loop)?;
        Ok(Self {
            app: Arc::new(app),
            config: config(options)?,
            routes: Routes::default(),
            bound: Mutex::default(),
            life: Mutex::new(Life::Stopped),
            access: Mutex::new(
                options.get_item("access_log")?.filter(|write| !write.is_none()).map(Bound::unbind),
            ),
            writer: Mutex::default(),
        })
    }

    /// Checks the name of a domain; gives it as requests to it are compared with.
    #[staticmethod]
    fn domain_name(name: &str) -> PyResult<String> {
        let name = Hosts::<()>::normalise(name).map_err(invalid)?;
        Ok(String::from_utf8_lossy(&name).into_owned())
    }

    /// Registers a TLS server name, with a router of its own and, with `options`, a configuration of its own. False when it was
    /// there before, and where no TLS is spoken. What the administrator should know is said before: should a warning be an error,
    /// nothing is registered.
    #[pyo3(signature = (name, options = None))]
    fn add_server_name(
        &self,
        py: Python<'_>,
        name: &str,
        options: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let Some(certificates) = &self.config.certificates else { return Ok(false) };
        // There is a router before anybody can come in under the name. The name has been checked: a certificate is known for it.
        let route = || drop(self.routes.change(|routes| routes.router_mut(Some(name)).map(drop)));
        let added = tls::add(py, certificates, name, options, self.config.http2, route)?;
        self.app.sweep_handlers();
        Ok(added)
    }

    /// Removes a TLS server name and its routes; whether it was there.
    fn remove_server_name(&self, py: Python<'_>, name: &str) -> bool {
        let Some(certificates) = &self.config.certificates else { return false };
        let removed = py.detach(|| {
            certificates.remove_and(name, || {
                self.routes.change(|routes| routes.remove(name));
            })
        });
        self.app.sweep_handlers();
        removed
    }

    /// Sets who is asked for TLS server names that are not known; None: nobody.
    fn set_missing_server_name(&self, handler: Option<Py<PyAny>>, coroutine: bool) {
        let handler = handler.map(|callable| Handler { callable, coroutine, context: None });
        self.app.set_missing_server_name(handler);
    }

    /// Reads the files of all certificates anew; gives what the administrator should know of them.
    fn reload_certificates(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let certificates = self.config.certificates.as_ref();
        certificates.map_or_else(|| Ok(Vec::new()), |certificates| tls::reload(py, certificates))
    }

    /// Registers a handler; `method` None is every method. True when the pattern can match (nothing follows a `*`).
    /// `domain` names the router, None the default one.
    #[pyo3(signature = (method, pattern, handler, coroutine, max_body_size = None, domain = None))]
    fn add_route(
        &self,
        method: Option<&str>,
        pattern: &str,
        handler: Py<PyAny>,
        coroutine: bool,
        max_body_size: Option<u64>,
        domain: Option<&str>,
    ) -> PyResult<bool> {
        let mut held = self.app.hold();
        let handler = Handler { callable: handler, coroutine, context: None };
        let (id, lane) = self.app.add_handler(handler, &mut held)?;
        let lease: Lease = Arc::new(held);
        let target = Target::Handler { id, lane, max_body_size, lease: Some(lease) };
        self.put(domain, &kind(method), pattern, target)
    }

    /// Registers an answer that never changes, which is given without Python.
    #[pyo3(signature = (method, pattern, status, headers, body, domain = None))]
    fn add_constant<'py>(
        &self,
        method: Option<&str>,
        pattern: &str,
        status: &Bound<'py, PyInt>,
        headers: Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
        body: &Bound<'py, PyAny>,
        domain: Option<&str>,
    ) -> PyResult<bool> {
        let mut head = ResponseHead::default();
        let code = status.extract::<u16>().ok().filter(|code| (200..600).contains(code));
        head.set_status(code.ok_or_else(|| {
            PyRuntimeError::new_err(format!("{} is not a status from 200 to 599", shown(status)))
        })?)?;
        for (name, value) in headers {
            let (name, value) = (message::field(&self.app, &name)?, message::field(&self.app, &value)?);
            let (name, value) = (name.as_bytes()?, value.as_bytes()?);
            if self.config.http2 { head.header_of_stream(name, value) } else { head.header(name, value) }?;
        }
        let body = message::payload(&self.app, body)?.0.as_bytes()?.into();
        let constant = Constant::new(head, body, self.config.compression.as_deref());
        self.put(domain, &kind(method), pattern, Target::Constant(Arc::new(constant)))
    }

    /// Registers a directory of files, whose names begin behind `depth` segments. `types` is three parts of what `mimetypes`
    /// knows: types by extension, suffixes, encodings. True when the pattern can match.
    #[expect(clippy::too_many_arguments, reason = "each is an option of its own")]
    #[pyo3(signature = (pattern, directory, depth, index, cache_control, precompressed, dotfiles, types, domain = None))]
    fn add_files(
        &self,
        pattern: &str,
        directory: &Bound<'_, PyAny>,
        depth: usize,
        index: Option<String>,
        cache_control: Option<String>,
        precompressed: bool,
        dotfiles: bool,
        types: (HashMap<String, String>, HashMap<String, String>, HashMap<String, String>),
        domain: Option<&str>,
    ) -> PyResult<bool> {
        let boxed = |map: HashMap<String, String>| {
            map.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
        };
        let types =
            Types { by_extension: boxed(types.0), suffixes: boxed(types.1), encodings: boxed(types.2) };
        let options = Options {
            index: index.map(Into::into),
            cache_control: cache_control.map(Into::into),
            precompressed,
            dotfiles,
        };
        let directory = Directory::new(&directory.extract::<PathBuf>()?, depth, options, types)?;
        self.put(domain, &Kind::Files, pattern, Target::Files(Arc::new(directory)))
    }

    /// Sets which pages of other origins may read what is answered below a pattern.
    fn add_cors(&self, pattern: &str, policy: &CorsPolicy) -> PyResult<()> {
        let added = self.config.cors.insert(pattern, &policy.policy);
        added.map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// Registers a WebSocket route. `limits` are numbers by key; `listeners` are (callable, is coroutine function) by name,
    /// `upgrade` among them, whose third argument is `context`. True when the pattern can match.
    #[pyo3(signature = (pattern, limits, listeners, context, domain = None))]
    fn add_websocket(
        &self,
        pattern: &str,
        limits: &Bound<'_, PyDict>,
        listeners: &Bound<'_, PyDict>,
        context: Py<PyAny>,
        domain: Option<&str>,
    ) -> PyResult<bool> {
        let config = socket_config(limits)?;
        let mut held = self.app.hold();
        let mut add = |name: &str, context: Option<Py<PyAny>>| match listeners.get_item(name)? {
            None => Ok::<_, PyErr>(None),
            Some(pair) => {
                let (callable, coroutine) = pair.extract()?;
                let (id, lane) = self.app.add_handler(Handler { callable, coroutine, context }, &mut held)?;
                Ok(Some(Listening { id, lane }))
            }
        };
        let mut behavior = Behavior {
            config,
            upgrade: add("upgrade", Some(context))?,
            open: add("open", None)?,
            message: add("message", None)?,
            drain: add("drain", None)?,
            ping: add("ping", None)?,
            pong: add("pong", None)?,
            close: add("close", None)?,
            subscription: add("subscription", None)?,
            lease: None,
        };
        behavior.lease = Some(Arc::new(held));
        self.put(domain, &Kind::WebSocket, pattern, Target::WebSocket(Arc::new(behavior)))
    }

    /// Publishes a message; whether anybody was subscribed.
    #[pyo3(signature = (topic, message, opcode = None, compress = false))]
    fn publish(
        &self,
        py: Python<'_>,
        topic: &Bound<'_, PyAny>,
        message: &Bound<'_, PyAny>,
        opcode: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = truth)] compress: bool,
    ) -> PyResult<bool> {
        let server = self.life.lock().serving().cloned();
        outgoing::publish(py, &self.app, server.as_ref(), topic, message, opcode, compress)
    }

    /// How many sockets are subscribed to a topic.
    fn num_subscribers(&self, topic: &Bound<'_, PyAny>) -> PyResult<usize> {
        let server = self.life.lock().serving().cloned();
        outgoing::subscribers(server.as_ref(), topic)
    }

    /// Binds a TCP port; gives it. The server listens on it from the next start, or at once while it runs. `sharing` is with
    /// whom: nobody, the processes of this one's group, or all.
    fn bind_tcp(
        &self,
        py: Python<'_>,
        host: Option<String>,
        port: u16,
        sharing: &str,
        backlog: i32,
    ) -> PyResult<u16> {
        let endpoint = Endpoint::Tcp { host, port, exclusive: sharing == "none" };
        // Looking a host name up may take seconds.
        let listener = py.detach(|| {
            if sharing != "all" {
                refuse_strangers(&endpoint)?;
            }
            Listener::bind_with(&endpoint, backlog)
        })?;
        self.listen(listener)
    }

    /// Binds a Unix socket; `mode` are its permissions.
    #[pyo3(signature = (path, mode, backlog))]
    fn bind_unix(&self, py: Python<'_>, path: PathBuf, mode: Option<u32>, backlog: i32) -> PyResult<u16> {
        let endpoint = Endpoint::Unix { path, mode: mode.unwrap_or(UNIX_MODE) };
        // Others that bind there are waited for.
        let listener = py.detach(|| Listener::bind_with(&endpoint, backlog))?;
        self.listen(listener)
    }

    /// Listens on a Unix socket that no server has yet; gives its descriptor, which is the caller's.
    #[staticmethod]
    fn open_unix(py: Python<'_>, path: PathBuf, mode: u32, backlog: i32) -> PyResult<RawFd> {
        let endpoint = Endpoint::Unix { path, mode };
        let listener = py.detach(|| Listener::bind_with(&endpoint, backlog))?;
        Ok(OwnedFd::from(listener).into_raw_fd())
    }

    /// Takes a listening socket and owns its descriptor from now on; gives its port.
    fn adopt(&self, descriptor: RawFd) -> PyResult<u16> {
        if descriptor < 0 {
            return Err(PyValueError::new_err(format!("{descriptor} is no file descriptor")));
        }
        #[expect(unsafe_code, reason = "a descriptor comes from Python as a number")]
        // SAFETY: the caller has made this descriptor for us, and does not use it any more.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        self.listen(Listener::adopt(descriptor)?)
    }

    /// Starts the threads. `event_loop` is where `async` handlers run; `notes` says whether anybody reads what goes wrong on
    /// connections; that is asked again later.
    #[pyo3(signature = (event_loop, notes = false))]
    fn start(&self, py: Python<'_>, event_loop: Py<PyAny>, notes: bool) -> PyResult<()> {
        if self.app.is_abandoned() {
            return Err(PyRuntimeError::new_err(
                "the application was started in the process that this one was forked from: make one here",
            ));
        }
        let cannot = |error| PyOSError::new_err(format!("cannot start the server: {error}"));
        let context = current_context(py)?;
        let server = {
            let mut life = self.life.lock();
            if !matches!(*life, Life::Stopped) {
                return Err(PyRuntimeError::new_err("the server is running already"));
            }
            self.begin_log(py)
                .map_err(|error| PyOSError::new_err(format!("cannot start the access log: {error}")))?;
            let (app, routes) = (Arc::clone(&self.app), Arc::clone(&self.routes));
            match server::Server::new(self.config.clone(), app, routes) {
                Ok(server) => {
                    *life = Life::Starting(Arc::clone(&server), None);
                    server
                }
                Err(error) => {
                    drop(life);
                    self.end_log(py);
                    return Err(cannot(error));
                }
            }
        };
        self.app.set_event_loop(Some(event_loop));
        self.app.remember_context(context);
        self.app.readers.are_there(notes);
        let started = py.detach(|| server.begin());
        let mut life = self.life.lock();
        match started {
            Ok(()) => {
                if let Life::Starting(_, Some(grace)) = *life {
                    server.close(grace);
                }
                *life = Life::Running(Arc::clone(&server));
                // Those that were bound before, and while the threads were being made.
                for listener in std::mem::take(&mut *self.bound.lock()) {
                    server.listen(listener)?;
                }
                Ok(())
            }
            // What is bound stays so: whoever calls this again serves it.
            Err(error) => {
                *life = Life::Stopped;
                drop(life);
                self.end_log(py);
                Err(cannot(error))
            }
        }
    }

    /// Stops accepting; what is in flight may finish for `grace` seconds.
    fn close(&self, py: Python<'_>, grace: f64) {
        self.bound.lock().clear();
        let grace = Duration::try_from_secs_f64(grace).unwrap_or_default();
        let server = match &mut *self.life.lock() {
            Life::Stopped => return,
            Life::Starting(_, closed) => {
                *closed = Some(closed.map_or(grace, |earlier| earlier.min(grace)));
                return;
            }
            Life::Running(server) => Arc::clone(server),
        };
        // Every socket is sent a close frame.
        py.detach(|| server.close(grace));
    }

    /// Ends the threads. Call it on the loop's thread, once the loop has stopped. False when a `def` handler has not returned
    /// after `patience` seconds: then its thread is left behind.
    fn join(&self, py: Python<'_>, patience: f64) -> bool {
        let server = {
            let mut life = self.life.lock();
            let Some(server) = life.server().cloned() else { return true };
            *life = Life::Stopped;
            server
        };
        let patience = Duration::try_from_secs_f64(patience).unwrap_or_default();
        let jobs = py.detach(|| server.join(patience));
        let ended = jobs.is_some();
        // While a handler still runs none may run beside it: what waited for its turn is dropped.
        self.app.finish(py, jobs.unwrap_or_default(), || {
            if ended { py.detach(|| server.join(Duration::ZERO)).unwrap_or_default() } else { Vec::new() }
        });
        self.end_log(py);
        ended
    }

    /// This process was forked from the one that serves: nothing of the server acts here.
    fn abandon(&self) {
        self.app.abandon();
        // Dropped they would take what they stand for from the other process: a socket's path, what a runtime watches.
        std::mem::forget(std::mem::take(&mut *self.bound.lock()));
        std::mem::forget(self.writer.lock().take());
        let life = std::mem::replace(&mut *self.life.lock(), Life::Stopped);
        if let Some(server) = life.serving() {
            server.abandon();
        }
        std::mem::forget(life);
    }

    /// The I/O threads that have not ended, as Python numbers them.
    fn threads(&self) -> Vec<u64> {
        self.app.threads()
    }

    /// Whether the threads run.
    fn is_running(&self) -> bool {
        !matches!(*self.life.lock(), Life::Stopped)
    }

    /// How many connections are open. A stream of HTTP/2 is none.
    fn connection_count(&self) -> usize {
        self.life.lock().serving().map_or(0, |server| server.connection_count())
    }

    /// How many streams of HTTP/2 are open, without those that were answered at once.
    fn stream_count(&self) -> usize {
        self.life.lock().serving().map_or(0, |server| server.stream_count())
    }

    /// How many requests are in progress, those that wait for their handler included.
    fn request_count(&self) -> u64 {
        self.life.lock().serving().map_or(0, |server| server.request_count())
    }

    /// Sets what JSON goes through.
    fn set_serializer(&self, serializer: Py<PyAny>) {
        self.app.set_serializer(serializer);
    }

    /// Makes requests, responses or sockets of a subclass of theirs from now on. Each can be replaced once.
    #[pyo3(signature = (class_))]
    fn replace_class(&self, class_: &Bound<'_, PyType>) -> PyResult<()> {
        self.app.replace_class(class_)
    }

    /// Sets what has the loop call `flush` soon, for a loop that does not poll before it blocks.
    fn set_flusher(&self, flusher: Option<Py<PyAny>>) {
        self.app.set_flusher(flusher);
    }

    /// Sends what the loop's turn has held back.
    fn flush(&self, py: Python<'_>) {
        self.app.flush_sent(py);
    }

    /// The loop has stopped.
    fn leave_loop(&self, py: Python<'_>) {
        self.app.leave_loop(py);
    }

    /// Sets the loop that futures belong to, before the server starts.
    fn set_event_loop(&self, event_loop: Option<Py<PyAny>>) {
        self.app.set_event_loop(event_loop);
    }

    /// Runs what was posted to the loop's thread; true when there was something.
    fn poll(&self, py: Python<'_>) -> bool {
        self.app.poll(py)
    }

    /// Announces that the loop will block; false when it must not.
    fn arm(&self, py: Python<'_>) -> bool {
        self.app.arm(py)
    }

    /// The loop is awake.
    fn disarm(&self) {
        self.app.disarm();
    }

    /// File descriptor that becomes readable when the loop has to wake.
    fn wake_descriptor(&self) -> i32 {
        self.app.wake_descriptor()
    }

    /// Empties what `wake_descriptor` gives.
    fn clear_wake(&self) {
        self.app.clear_wake();
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // While the server runs its threads hold the application too: then nothing of it is garbage.
        match self.life.try_lock() {
            Some(life) if matches!(*life, Life::Stopped) => {
                if let Some(access) = self.access.try_lock() {
                    visit.call(access.as_ref())?;
                }
                self.app.visit(visit)
            }
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        let access = self.access.lock().take();
        drop(access);
        self.app.forget();
    }
}

impl Server {
    /// Starts the thread of the access log, if there is to be one.
    fn begin_log(&self, py: Python<'_>) -> std::io::Result<()> {
        let write = self.access.lock().as_ref().map(|write| write.clone_ref(py));
        let Some(write) = write else { return Ok(()) };
        let queue = Arc::new(AccessQueue::default());
        self.app.set_access_log(Some(Arc::clone(&queue)));
        let writer = Writer::start(write, queue).inspect_err(|_| self.app.set_access_log(None))?;
        *self.writer.lock() = Some(writer);
        Ok(())
    }

    /// Has the log written to its end.
    fn end_log(&self, py: Python<'_>) {
        self.app.set_access_log(None);
        let writer = self.writer.lock().take();
        if let Some(writer) = writer
            && !py.detach(|| writer.finish())
        {
            let logged = PyApp::helper(py, "error_log", "log_unwritten").and_then(|log| call(&log, []));
            if let Err(error) = logged {
                report(py, error, None);
            }
        }
    }

    fn put(&self, domain: Option<&str>, kind: &Kind, pattern: &str, target: Target) -> PyResult<bool> {
        let parsed = Pattern::parse(pattern).map_err(invalid)?;
        let replaced = self.routes.change(|routes| {
            let router = routes.router_mut(domain).map_err(invalid)?;
            router.insert(kind.clone(), pattern, target.clone()).map_err(invalid)
        })?;
        drop((replaced, target));
        self.app.sweep_handlers();
        Ok(parsed.is_reachable())
    }
}
