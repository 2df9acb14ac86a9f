//! `start_response`, and the `write` that it returns: the head of the response until it is sent, and the blocks after it.

use std::sync::Arc;

use parking_lot::Mutex;
use pyo3::exceptions::{PyAssertionError, PyBrokenPipeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PyTuple};

use crate::http::list_members;
use crate::http::response::{HeadError, ResponseHead};
use crate::py::calling::{items, method, represented, type_name};
use crate::py::wsgi::text::wire;
use crate::py::wsgi::waits::Waits;
use crate::server::{Exchange, flush_batch, is_batch_pending};

/// A block of at least so many bytes is copied to the kernel without the GIL.
const SLOW_TO_SEND: usize = 256 * 1024;
/// The same if it is compressed.
const SLOW_TO_ENCODE: usize = 1024;

/// What has been said of the response.
struct State {
    /// The head that has not been sent.
    head: Option<ResponseHead>,
    /// The head has been sent.
    sent: bool,
    /// The length that the head declared.
    declared: Option<u64>,
    /// Bytes that the application has given.
    given: u64,
}

/// The callable `start_response` of one request.
#[pyclass(frozen, module = "socketify._core")]
pub(crate) struct StartResponse {
    exchange: Arc<Exchange>,
    state: Mutex<State>,
}

/// Whether the body goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goes {
    On,
    /// There is no client any more, or no more of the body is taken.
    NoFurther,
}

impl StartResponse {
    pub(super) fn new(exchange: &Arc<Exchange>) -> Self {
        let state = State { head: None, sent: false, declared: None, given: 0 };
        Self { exchange: Arc::clone(exchange), state: Mutex::new(state) }
    }

    /// Takes the head to be sent now; an error if the application has not called yet.
    pub(super) fn take_head(&self) -> PyResult<ResponseHead> {
        let mut state = self.state.lock();
        let head = state.head.take().ok_or_else(|| {
            PyAssertionError::new_err("start_response() was not called before the first block of the body")
        })?;
        state.sent = true;
        Ok(head)
    }

    /// Takes a head back that was not sent.
    pub(super) fn give_back(&self, head: ResponseHead) {
        let mut state = self.state.lock();
        (state.head, state.sent) = (Some(head), false);
    }

    /// Declares the length of the body, which the application has not done.
    pub(super) fn declare(&self, length: u64) -> PyResult<()> {
        let mut state = self.state.lock();
        if let Some(head) = &mut state.head {
            head.header(b"Content-Length", itoa::Buffer::new().format(length).as_bytes())
                .map_err(|error| invalid(&error))?;
            state.declared = Some(length);
        }
        Ok(())
    }

    /// Whether the head has been sent.
    pub(super) fn is_sent(&self) -> bool {
        self.state.lock().sent
    }

    /// Fails if the application has not called yet.
    pub(super) fn check_called(&self) -> PyResult<()> {
        let state = self.state.lock();
        if state.sent || state.head.is_some() {
            return Ok(());
        }
        Err(PyAssertionError::new_err("start_response() was not called before the first block of the body"))
    }

    /// Whether the response that is being prepared has a body.
    pub(super) fn has_body(&self) -> bool {
        let is_head = self.exchange.method() == b"HEAD";
        self.state.lock().head.as_ref().is_none_or(|head| head.body_allowed(is_head))
    }

    /// The declared length, and the number of bytes that were given.
    pub(super) fn lengths(&self) -> (Option<u64>, u64) {
        let state = self.state.lock();
        (state.declared, state.given)
    }

    /// Sends a block that is not empty, and the head before the first one.
    pub(super) fn send(&self, py: Python<'_>, block: &[u8]) -> PyResult<Goes> {
        let exchange = &self.exchange;
        if !self.is_sent() {
            let head = self.take_head()?;
            exchange.prepare(head);
        } else if exchange.watch_writable() && self.wait_for_room(py) == Goes::NoFurther {
            return Ok(Goes::NoFurther);
        }
        let slow = if exchange.compresses() { SLOW_TO_ENCODE } else { SLOW_TO_SEND };
        let write = || {
            let written = exchange.write(block);
            // A handler's output is held together: each block leaves before the next is made.
            exchange.uncork();
            written
        };
        let written = if block.len() > slow { py.detach(write) } else { write() };
        if is_batch_pending() {
            py.detach(flush_batch);
        }
        let mut state = self.state.lock();
        state.given += block.len() as u64;
        let full = state.declared.is_some_and(|declared| state.given > declared);
        Ok(if written && !full { Goes::On } else { Goes::NoFurther })
    }

    /// Waits, without the GIL, until the client has read enough, or has gone.
    fn wait_for_room(&self, py: Python<'_>) -> Goes {
        let exchange = &self.exchange;
        let look = || {
            if exchange.is_over() {
                Some(Goes::NoFurther)
            } else {
                (!exchange.watch_writable()).then_some(Goes::On)
            }
        };
        py.detach(|| Waits::until(exchange, look)).unwrap_or(Goes::NoFurther)
    }

    /// Reads a head.
    fn head(&self, status: &Bound<'_, PyAny>, headers: &Bound<'_, PyAny>) -> PyResult<ResponseHead> {
        let mut head = ResponseHead::default();
        let text = wire(status, "the status")?;
        // A bare code would be sent with the phrase of the table, which is not the application's status.
        if text.get(3) != Some(&b' ') {
            return Err(PyValueError::new_err(format!(
                "the status must be three digits, a space and a reason, such as '200 OK', not {}",
                represented(status)
            )));
        }
        head.set_status_text(&text).map_err(|error| invalid(&error))?;
        if head.status() < 200 {
            // The client takes it for an interim response, and would wait for another.
            head.header(b"Connection", b"close").map_err(|error| invalid(&error))?;
        }
        for pair in items(headers)? {
            let pair = pair?;
            let mut parts = items(&pair)?;
            let (Some(name), Some(value), None) = (parts.next(), parts.next(), parts.next()) else {
                return Err(PyValueError::new_err(format!(
                    "a header must be a pair of name and value, not {}",
                    represented(&pair)
                )));
            };
            let (name, value) = (name?, value?);
            let (name, value) = (wire(&name, "a header name")?, wire(&value, "a header value")?);
            if of_the_connection(&name) {
                if name.eq_ignore_ascii_case(b"connection")
                    && list_members(&value).any(|option| option.eq_ignore_ascii_case(b"close"))
                {
                    head.header(&name, b"close").map_err(|error| invalid(&error))?;
                }
                continue;
            }
            self.exchange.prepare_header(&mut head, &name, &value).map_err(|error| invalid(&error))?;
        }
        Ok(head)
    }
}

fn invalid(error: &HeadError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// Whether a header is about the connection, which is the server's (PEP 3333, Other HTTP Features).
fn of_the_connection(name: &[u8]) -> bool {
    let expected: &[u8] = match name.len() {
        2 => b"te",
        7 if name.eq_ignore_ascii_case(b"trailer") => b"trailer",
        7 => b"upgrade",
        10 if name.eq_ignore_ascii_case(b"keep-alive") => b"keep-alive",
        10 => b"connection",
        16 => b"proxy-connection",
        17 => b"transfer-encoding",
        _ => return false,
    };
    name.eq_ignore_ascii_case(expected)
}

/// A block of the body: bytes, or the copy of what is like bytes.
pub(super) fn block(value: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyBytes>> {
    let value = match value.cast_into::<PyBytes>() {
        Ok(bytes) => return Ok(bytes),
        Err(other) => other.into_inner(),
    };
    let py = value.py();
    if let Ok(bytes) = value.cast::<PyByteArray>() {
        return Ok(PyBytes::new(py, &bytes.to_vec()));
    }
    if value.is_instance_of::<PyMemoryView>() {
        return Ok(method(&value, intern!(py, "tobytes"), [])?.cast_into::<PyBytes>()?);
    }
    Err(PyTypeError::new_err(format!("a block of the body must be bytes, not {}", type_name(&value))))
}

#[pymethods]
impl StartResponse {
    #[pyo3(signature = (status, headers, exc_info = None))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        status: &Bound<'py, PyAny>,
        headers: &Bound<'py, PyAny>,
        exc_info: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Write>> {
        let this = slf.get();
        let (called, sent) = {
            let state = this.state.lock();
            (state.sent || state.head.is_some(), state.sent)
        };
        match exc_info {
            Some(exc_info) if sent => return Err(error_of(exc_info)?),
            None if called => {
                return Err(PyAssertionError::new_err("start_response() was called twice without exc_info"));
            }
            _ => {}
        }
        let head = this.head(status, headers)?;
        {
            let mut state = this.state.lock();
            state.declared = head.declared_length();
            state.head = Some(head);
        }
        Bound::new(slf.py(), Write { start_response: slf.clone().unbind() })
    }
}

/// The exception of `exc_info`, with its traceback.
fn error_of(exc_info: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let parts = exc_info.cast::<PyTuple>().ok().filter(|parts| parts.len() == 3);
    let Some(parts) = parts else {
        return Err(PyTypeError::new_err(format!(
            "exc_info must be a tuple of type, exception and traceback, not {}",
            type_name(exc_info)
        )));
    };
    let (error, traceback) = (parts.get_item(1)?, parts.get_item(2)?);
    if !traceback.is_none() {
        method(&error, intern!(error.py(), "with_traceback"), [&traceback])?;
    }
    Ok(PyErr::from_value(error))
}

/// The callable `write`, for applications that make their body by calls.
#[pyclass(frozen, module = "socketify._core")]
pub(crate) struct Write {
    start_response: Py<StartResponse>,
}

#[pymethods]
impl Write {
    fn __call__(&self, py: Python<'_>, data: Bound<'_, PyAny>) -> PyResult<()> {
        let data = block(data)?;
        if data.as_bytes().is_empty() {
            return Ok(());
        }
        let start_response = self.start_response.get();
        start_response.send(py, data.as_bytes())?;
        // In a forked child it is over too, and what is done there has no effect.
        if start_response.exchange.is_over() && !start_response.exchange.server().is_abandoned() {
            return Err(PyBrokenPipeError::new_err("the client has gone"));
        }
        Ok(())
    }
}
