//! The thread that hands entries of the access log to Python: one call for all gathered entries, and never on
//! an I/O thread.

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

/// How long the end of a server waits for the entries to be written. A log may be a pipe without a reader.
const PATIENCE: Duration = Duration::from_secs(2);

/// The thread, while a server runs.
pub(super) struct Writer {
    queue: Arc<AccessQueue>,
    ended: Arc<Ended>,
    thread: JoinHandle<()>,
    /// The process where it runs: a forked child has no such thread.
    process: u32,
}

#[derive(Default)]
struct Ended {
    flag: Mutex<bool>,
    changed: Condvar,
}

/// Reports every kind of end of the thread.
struct Guard(Arc<Ended>);

impl Drop for Guard {
    fn drop(&mut self) {
        *self.0.flag.lock() = true;
        self.0.changed.notify_all();
    }
}

impl Writer {
    /// Starts the thread, which calls `write(entries, dropped)` with the contents of `queue`.
    pub(super) fn start(write: Py<PyAny>, queue: Arc<AccessQueue>) -> io::Result<Self> {
        let ended = Arc::new(Ended::default());
        let (entries, guard) = (Arc::clone(&queue), Guard(Arc::clone(&ended)));
        let body = move || {
            let _guard = guard;
            // Attached once, so that the thread keeps its Python thread state: docs/design.md gives the cost
            // of a new one.
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

    /// Makes the thread write the rest, and waits for it. False if that takes too long: then the thread is
    /// abandoned. Must not be called with the GIL.
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
            // A panic has already been reported.
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

/// In the order of `access_log.AccessLog.write`.
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

/// In the usual form of addresses; a mapped IPv4 address is an IPv4 address (RFC 4291 section 2.5.5.2).
fn address(address: IpAddr) -> String {
    address.to_canonical().to_string()
}

/// A client's bytes, escaped so that they can neither begin a line nor end their quotes: all but printable
/// ASCII as `\xNN`.
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
