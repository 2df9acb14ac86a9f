//! The thread that hands entries of the access log to Python: one call for what has gathered, and never an I/O thread.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::py::calling::{call_with, report};
use crate::py::threads::held;
use crate::server::{AccessQueue, Entry, What, stack_size};

/// How long the end of a server waits for entries to be written down. A log may be a pipe that nobody reads.
const PATIENCE: Duration = Duration::from_secs(2);

/// The thread, while a server runs.
pub(super) struct Writer {
    queue: Arc<AccessQueue>,
    ended: Arc<Ended>,
    thread: JoinHandle<()>,
    /// Where it runs: a process that was forked from that one has no such thread.
    process: u32,
}

#[derive(Default)]
struct Ended {
    flag: Mutex<bool>,
    changed: Condvar,
}

/// Says so however the thread ends.
struct Guard(Arc<Ended>);

impl Drop for Guard {
    fn drop(&mut self) {
        *self.0.flag.lock() = true;
        self.0.changed.notify_all();
    }
}

impl Writer {
    /// Starts the thread, which calls `write(entries, dropped)` with what `queue` holds.
    pub(super) fn start(write: Py<PyAny>, queue: Arc<AccessQueue>) -> io::Result<Self> {
        let ended = Arc::new(Ended::default());
        let (entries, guard) = (Arc::clone(&queue), Guard(Arc::clone(&ended)));
        let body = move || {
            let _guard = guard;
            // Attached once, so that the thread keeps its Python state: see the design notes on what another costs.
            let act = |py: Python<'_>| {
                while let Some((entries, dropped)) = py.detach(|| queue.take()) {
                    let result =
                        batch(py, &entries).and_then(|batch| call_with(write.bind(py), (batch, dropped)));
                    if let Err(error) = result {
                        report(py, error, Some(write.bind(py)));
                    }
                }
                drop(write);
            };
            let _ = held(|| Python::try_attach(act));
        };
        let thread = thread::Builder::new().name("socketify-access-log".into()).stack_size(stack_size());
        let thread = thread.spawn(body)?;
        Ok(Self { queue: entries, ended, thread, process: std::process::id() })
    }

    /// Has the thread write down what is left, and waits for it. False when that takes too long: then the thread is left
    /// behind. Must not be called while attached to Python.
    pub(super) fn finish(self) -> bool {
        if self.process != std::process::id() {
            return true;
        }
        self.queue.close();
        if self.thread.thread().id() == thread::current().id() {
            // A logging handler ends the application: the rest is written when it returns.
            return true;
        }
        let deadline = Instant::now() + PATIENCE;
        let mut ended = self.ended.flag.lock();
        while !*ended && !self.ended.changed.wait_until(&mut ended, deadline).timed_out() {}
        let all = *ended;
        drop(ended);
        if all {
            // One that panicked has said so.
            let _ = self.thread.join();
        }
        all
    }
}

fn batch<'py>(py: Python<'py>, entries: &[Entry]) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for entry in entries {
        list.append(fields(py, entry)?)?;
    }
    Ok(list)
}

/// In the order in which `access_log.AccessLog.write` takes them.
fn fields<'py>(py: Python<'py>, entry: &Entry) -> PyResult<Bound<'py, PyTuple>> {
    let what = match entry.what {
        What::Request => "request",
        What::Opened => "websocket_open",
        What::Closed => "websocket_close",
    };
    let traffic = entry.traffic.map(|traffic| {
        (traffic.code, traffic.messages_in, traffic.messages_out, traffic.bytes_in, traffic.bytes_out)
    });
    let created = entry.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let version = match (entry.http2, entry.version_minor) {
        (true, _) => "2",
        (false, 0) => "1.0",
        (false, _) => "1.1",
    };
    (
        (what, created, entry.duration.as_secs_f64(), entry.peer.map(address)),
        (entry.method().map(escaped), entry.path().map(escaped), version),
        (entry.status, entry.bytes, entry.aborted),
        (entry.referer().map(escaped), entry.user_agent().map(escaped)),
        traffic,
    )
        .into_pyobject(py)
}

/// As people write addresses; a mapped IPv4 address is one (RFC 4291 section 2.5.5.2).
fn address(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

/// What a client sent, so that it can neither begin a line of its own nor end its quotes: all but printable ASCII as `\xNN`.
fn escaped(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b' '..=b'~' if !matches!(byte, b'"' | b'\\') => text.push(char::from(byte)),
            _ => {
                text.push_str("\\x");
                text.push(char::from(DIGITS[usize::from(byte >> 4)]));
                text.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
    text
}
