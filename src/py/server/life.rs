//! The life of a server: its threads start, it closes, they end; and what it counts meanwhile.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;

use crate::config::{Config, Quota};
use crate::py::access_log::Writer;
use crate::py::calling::{call, report};
use crate::py::contexts::current_context;
use crate::py::door::door;
use crate::py::server::Server;
use crate::server::{self, AccessQueue};

/// The state of the server.
pub(super) enum Life {
    Stopped,
    /// Threads are being made, and the existing ones already serve; a `close` meanwhile stores its grace
    /// here.
    Starting(Arc<server::Server>, Option<Duration>),
    Running(Arc<server::Server>),
}

impl Life {
    pub(super) fn server(&self) -> Option<&Arc<server::Server>> {
        match self {
            Self::Running(server) => Some(server),
            Self::Stopped | Self::Starting(..) => None,
        }
    }

    /// The server for handlers, which may run before its last thread has been made.
    pub(super) fn serving(&self) -> Option<&Arc<server::Server>> {
        match self {
            Self::Running(server) | Self::Starting(server, _) => Some(server),
            Self::Stopped => None,
        }
    }
}

#[pymethods]
impl Server {
    /// Starts the threads. `event_loop` runs `async` handlers; `notes` tells whether a logger reads the
    /// faults of connections, which is checked again later.
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
            let config = Config { quota: self.quota.lock().clone(), ..self.config.clone() };
            match server::Server::new(config, app, routes) {
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
        self.app.pools().iter().for_each(|pool| pool.begin());
        let started = py.detach(|| server.begin());
        let mut life = self.life.lock();
        match started {
            Ok(()) => {
                if let Life::Starting(_, Some(grace)) = *life {
                    server.close(grace);
                }
                *life = Life::Running(Arc::clone(&server));
                // The sockets bound before, and while the threads were being made.
                for listener in std::mem::take(&mut *self.bound.lock()) {
                    server.listen(listener)?;
                }
                Ok(())
            }
            // Bound sockets stay bound: the next call serves them.
            Err(error) => {
                *life = Life::Stopped;
                drop(life);
                self.end_log(py);
                Err(cannot(error))
            }
        }
    }

    /// Has `spent` and a line feed written to a descriptor, which stays the caller's, once so many requests have been admitted.
    /// From the next start on.
    fn count_requests(&self, requests: u64, descriptor: i32) -> PyResult<()> {
        // SAFETY: it is borrowed for the copy alone, and the caller has it open.
        #[expect(unsafe_code, reason = "Python knows descriptors as numbers")]
        let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
        let told = Arc::new(borrowed.try_clone_to_owned()?);
        *self.quota.lock() = Some(Quota { requests, told });
        Ok(())
    }

    /// Has responses announce that their connection closes.
    fn part(&self) {
        if let Some(server) = self.life.lock().serving() {
            server.part();
        }
    }

    /// Stops accepting; requests in progress may finish for `grace` seconds.
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
        // Every socket gets a close frame.
        py.detach(|| server.close(grace));
    }

    /// Ends the threads. Call it on the loop's thread, once the loop has stopped. False if a `def` handler
    /// has not returned after `patience` seconds: then its thread is abandoned.
    fn join(&self, py: Python<'_>, patience: f64) -> bool {
        let server = {
            let mut life = self.life.lock();
            let Some(server) = life.server().cloned() else { return true };
            *life = Life::Stopped;
            server
        };
        let patience = Duration::try_from_secs_f64(patience).unwrap_or_default();
        let pools = self.app.pools();
        let (jobs, all) = py.detach(|| {
            let deadline = Instant::now() + patience;
            let jobs = server.join(patience);
            let left = || deadline.saturating_duration_since(Instant::now());
            // None is left out, however late it is.
            let ended = pools.iter().map(|pool| pool.end(left())).fold(true, |all, ended| all & ended);
            (jobs, ended)
        });
        let ended = jobs.is_some();
        // While a handler still runs none may run beside it: queued jobs are dropped.
        self.app.finish(py, jobs.unwrap_or_default(), || {
            if ended { py.detach(|| server.join(Duration::ZERO)).unwrap_or_default() } else { Vec::new() }
        });
        self.end_log(py);
        ended && all
    }

    /// This process was forked from the serving one: the server does nothing here.
    fn abandon(&self) {
        self.app.abandon();
        // A drop would take resources from the other process: a socket's path, a runtime's descriptors.
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

    /// The number of open connections. A stream of HTTP/2 is none.
    fn connection_count(&self) -> usize {
        self.life.lock().serving().map_or(0, |server| server.connection_count())
    }

    /// The number of open HTTP/2 streams, without those that got their response at once.
    fn stream_count(&self) -> usize {
        self.life.lock().serving().map_or(0, |server| server.stream_count())
    }

    /// The number of requests in progress, including those that wait for their handler.
    fn request_count(&self) -> u64 {
        self.life.lock().serving().map_or(0, |server| server.request_count())
    }
}

impl Server {
    /// Starts the thread of the access log, if it is enabled.
    pub(super) fn begin_log(&self, py: Python<'_>) -> std::io::Result<()> {
        let write = self.access.lock().as_ref().map(|write| write.clone_ref(py));
        let Some(write) = write else { return Ok(()) };
        let queue = Arc::new(AccessQueue::default());
        self.app.set_access_log(Some(Arc::clone(&queue)));
        let writer = Writer::start(write, queue).inspect_err(|_| self.app.set_access_log(None))?;
        *self.writer.lock() = Some(writer);
        Ok(())
    }

    /// Writes the log to its end.
    pub(super) fn end_log(&self, py: Python<'_>) {
        self.app.set_access_log(None);
        let writer = self.writer.lock().take();
        if let Some(writer) = writer
            && !py.detach(|| writer.finish())
        {
            let logged = call(door(py).log_unwritten.bind(py), []);
            if let Err(error) = logged {
                report(py, error, None);
            }
        }
    }
}
