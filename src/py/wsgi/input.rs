//! `wsgi.input`: the body of the request, as a file of bytes.
//!
//! A body that was read before the call is in memory or in a file. A longer one is read as it comes: the reading thread waits
//! without the GIL, and without a lock that another thread could want with the GIL.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use memchr::memchr;
use parking_lot::Mutex;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::py::calling::whole;
use crate::py::wsgi::waits::Waits;
use crate::server::{Exchange, Pull, flush_batch};

/// Bytes read from a file at a time.
const PIECE: usize = 64 * 1024;

/// A body before its application is called.
#[derive(Default)]
pub(crate) enum Body {
    #[default]
    Empty,
    Memory(Vec<u8>),
    /// The file at its start, and its number of bytes.
    File(File, u64),
    /// It comes while the application reads: so many bytes by the client's word.
    Live(u64),
}

impl Body {
    /// The value of `CONTENT_LENGTH`.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, length) | Self::Live(length) => *length,
        }
    }
}

/// Where further bytes come from.
enum Rest {
    None,
    File(File),
    Live(Arc<Exchange>),
    /// The body cannot become whole.
    Broken,
}

struct Source {
    buffer: Vec<u8>,
    /// Bytes of the buffer that have been read.
    at: usize,
    rest: Rest,
}

impl Source {
    fn ready(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    /// Adds bytes to the ready ones. False at the end of the body.
    fn fill(&mut self) -> PyResult<bool> {
        let piece = match &mut self.rest {
            Rest::None => return Ok(false),
            Rest::Broken => return Err(broken()),
            Rest::File(file) => {
                let mut piece = Vec::with_capacity(PIECE);
                file.take(PIECE as u64).read_to_end(&mut piece)?;
                if piece.is_empty() {
                    self.rest = Rest::None;
                    return Ok(false);
                }
                piece
            }
            Rest::Live(exchange) => match pull(exchange) {
                Pull::Piece(piece, last) => {
                    if last {
                        self.rest = Rest::None;
                    }
                    piece
                }
                Pull::Over | Pull::Later => {
                    self.rest = Rest::Broken;
                    return Err(broken());
                }
            },
        };
        if self.ready().is_empty() {
            (self.buffer, self.at) = (piece, 0);
        } else {
            self.buffer.drain(..self.at);
            self.at = 0;
            self.buffer.extend_from_slice(&piece);
        }
        Ok(true)
    }

    /// Makes up to `limit` bytes ready, and returns how many are; all of them without a limit.
    fn demand(&mut self, limit: Option<usize>) -> PyResult<usize> {
        let limit = limit.unwrap_or(usize::MAX);
        while self.ready().len() < limit && self.fill()? {}
        Ok(self.ready().len().min(limit))
    }

    /// The same up to and including the next end of a line.
    fn demand_line(&mut self, limit: Option<usize>) -> PyResult<usize> {
        let limit = limit.unwrap_or(usize::MAX);
        let mut searched = 0;
        loop {
            let ready = self.ready();
            let window = &ready[..ready.len().min(limit)];
            if let Some(found) = memchr(b'\n', &window[searched..]) {
                return Ok(searched + found + 1);
            }
            searched = window.len();
            if searched == limit || !self.fill()? {
                return Ok(searched);
            }
        }
    }

    fn take(&mut self, count: usize) -> &[u8] {
        let from = self.at;
        self.at += count;
        &self.buffer[from..self.at]
    }
}

/// Waits for the next piece. Must not be called with the GIL.
fn pull(exchange: &Arc<Exchange>) -> Pull {
    let next = || match exchange.pull() {
        Pull::Later => {
            // The last signal has been heard.
            exchange.stop_pulling();
            // An invitation to send the body must not wait for the end of the call.
            exchange.uncork();
            flush_batch();
            (!exchange.read_pieces()).then_some(Pull::Over)
        }
        found => Some(found),
    };
    Waits::until(exchange, next).unwrap_or(Pull::Over)
}

fn broken() -> PyErr {
    PyOSError::new_err(
        "the request body cannot be read to its end: the client has gone, or its body was refused",
    )
}

/// The stream `wsgi.input` of one request.
#[pyclass(frozen, module = "socketify._core")]
pub(crate) struct Input {
    source: Mutex<Source>,
    /// A read may take long: it must not keep the GIL.
    slow: bool,
}

impl Input {
    pub(super) fn new(body: Body, exchange: &Arc<Exchange>) -> Self {
        let (buffer, rest) = match body {
            Body::Empty => (Vec::new(), Rest::None),
            Body::Memory(bytes) => (bytes, Rest::None),
            Body::File(file, _) => (Vec::new(), Rest::File(file)),
            Body::Live(_) => (Vec::new(), Rest::Live(Arc::clone(exchange))),
        };
        let slow = !matches!(rest, Rest::None);
        Self { source: Mutex::new(Source { buffer, at: 0, rest }), slow }
    }

    /// What `demand` has made ready.
    fn get<'py>(
        &self,
        py: Python<'py>,
        demand: impl FnOnce(&mut Source) -> PyResult<usize> + Send,
    ) -> PyResult<Bound<'py, PyBytes>> {
        if !self.slow {
            let mut source = self.source.lock();
            let count = demand(&mut source)?;
            return Ok(PyBytes::new(py, source.take(count)));
        }
        let bytes = py.detach(|| {
            let mut source = self.source.lock();
            let count = demand(&mut source)?;
            Ok::<_, PyErr>(source.take(count).to_vec())
        })?;
        Ok(PyBytes::new(py, &bytes))
    }

    fn line<'py>(&self, py: Python<'py>, limit: Option<usize>) -> PyResult<Bound<'py, PyBytes>> {
        self.get(py, |source| source.demand_line(limit))
    }
}

/// A number of bytes: `None` and negative numbers are no limit.
fn limit(size: Option<&Bound<'_, PyAny>>) -> PyResult<Option<usize>> {
    let Some(size) = size.filter(|size| !size.is_none()) else { return Ok(None) };
    let size = whole(size)?;
    // A number that no size has is as good as no limit.
    Ok(size.extract::<isize>().map_or(None, |size| usize::try_from(size).ok()))
}

#[pymethods]
impl Input {
    #[pyo3(signature = (size = None, /))]
    fn read<'py>(&self, py: Python<'py>, size: Option<&Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyBytes>> {
        let limit = limit(size)?;
        self.get(py, |source| source.demand(limit))
    }

    #[pyo3(signature = (size = None, /))]
    fn readline<'py>(
        &self,
        py: Python<'py>,
        size: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        self.line(py, limit(size)?)
    }

    #[pyo3(signature = (hint = None, /))]
    fn readlines<'py>(
        &self,
        py: Python<'py>,
        hint: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let enough = limit(hint)?.filter(|hint| *hint > 0).unwrap_or(usize::MAX);
        let lines = PyList::empty(py);
        let mut total = 0;
        while total < enough {
            let line = self.line(py, None)?;
            let count = line.as_bytes().len();
            if count == 0 {
                break;
            }
            total += count;
            lines.append(line)?;
        }
        Ok(lines)
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let line = self.line(py, None)?;
        Ok((!line.as_bytes().is_empty()).then_some(line))
    }
}
