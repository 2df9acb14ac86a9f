//! Responses that are said in one call: a body, a template, a redirection, a file.

use std::path::PathBuf;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::app::Signal;
use crate::http::location;
use crate::http::response::Known;
use crate::py::calling::{call_named, call_with, truth};
use crate::py::door::door;
use crate::py::futures::set_result;
use crate::py::listeners::Listeners;
use crate::py::message::{self, Payload};
use crate::py::response::{Response, SLOW_TO_ENCODE, Slf};
use crate::server::Sending;

/// Payloads of at least so many bytes are copied to the kernel without the GIL.
const SLOW_TO_SEND: usize = 256 * 1024;
impl Response {
    /// A message as bytes; one that went through JSON sets its Content-Type.
    pub(super) fn body<'py>(&self, message: &Bound<'py, PyAny>) -> PyResult<Payload<'py>> {
        let (payload, json) = message::payload(self.python()?, message)?;
        if json && !self.exchange.has_header(Known::ContentType) {
            self.exchange.add_header(b"Content-Type", b"application/json")?;
        }
        Ok(payload)
    }

    pub(super) fn finish(&self, payload: &[u8], close: bool) {
        self.exchange.end(payload, close);
        Listeners::finish(&self.exchange);
    }

    pub(super) fn finish_empty(&self, close: bool) {
        self.exchange.end_empty(close);
        Listeners::finish(&self.exchange);
    }

    /// A large payload is written without the GIL: copying megabytes to the kernel takes time.
    pub(super) fn finish_with(&self, py: Python<'_>, payload: &Payload<'_>, close: bool) -> PyResult<()> {
        let bytes = payload.as_bytes()?;
        if bytes.len() > if self.exchange.compresses() { SLOW_TO_ENCODE } else { SLOW_TO_SEND } {
            py.detach(|| self.exchange.end(bytes, close));
            Listeners::finish(&self.exchange);
        } else {
            self.finish(bytes, close);
        }
        Ok(())
    }
}

#[pymethods]
impl Response {
    #[pyo3(signature = (message, end_connection = false))]
    fn end<'py>(
        slf: Slf<'py>,
        message: &Bound<'py, PyAny>,
        #[pyo3(from_py_with = truth)] end_connection: bool,
    ) -> PyResult<Slf<'py>> {
        let this = slf.get();
        if let Ok(bytes) = message.cast::<PyBytes>() {
            this.finish_with(slf.py(), &Payload::Bytes(bytes.clone()), end_connection)?;
        } else if message.is_none() {
            this.finish_empty(end_connection);
        } else if !this.exchange.is_over() {
            this.finish_with(slf.py(), &this.body(message)?, end_connection)?;
        }
        Ok(slf)
    }

    #[pyo3(signature = (message, end_connection = false))]
    fn cork_end<'py>(
        slf: Slf<'py>,
        message: &Bound<'py, PyAny>,
        #[pyo3(from_py_with = truth)] end_connection: bool,
    ) -> PyResult<Slf<'py>> {
        Self::end(slf, message, end_connection)
    }

    #[pyo3(signature = (message = None, content_type = None, status = None, headers = None, end_connection = false))]
    fn send<'py>(
        slf: Slf<'py>,
        message: Option<&Bound<'py, PyAny>>,
        content_type: Option<&Bound<'py, PyAny>>,
        status: Option<&Bound<'py, PyAny>>,
        headers: Option<&Bound<'py, PyAny>>,
        #[pyo3(from_py_with = truth)] end_connection: bool,
    ) -> PyResult<Slf<'py>> {
        let this = slf.get();
        if this.exchange.is_over() {
            return Ok(slf);
        }
        let message = message.filter(|message| !message.is_none());
        // JSON first: a failure here leaves no partial response.
        let body = match message {
            Some(message) => Some(message::payload(this.python()?, message)?),
            None => None,
        };
        if let Some(status) = status.filter(|status| !status.is_none()) {
            this.status(status)?;
        }
        if let Some(headers) = headers.filter(|headers| !headers.is_none()) {
            this.headers(headers)?;
        }
        // After them, so that a type among them is the only one.
        if !this.exchange.has_header(Known::ContentType) {
            let given = content_type.filter(|given| !given.is_none());
            match (&body, given) {
                (Some((_, true)), _) => this.exchange.add_header(b"Content-Type", b"application/json")?,
                (_, Some(given)) => {
                    let value = message::field(this.python()?, given)?;
                    this.exchange.add_header(b"Content-Type", value.as_bytes()?)?;
                }
                (_, None) => this.exchange.add_header(b"Content-Type", b"text/plain")?,
            }
        }
        match &body {
            Some((payload, _)) => this.finish_with(slf.py(), payload, end_connection)?,
            None => this.finish_empty(end_connection),
        }
        Ok(slf)
    }

    #[pyo3(signature = (message, content_type = None, status = None, headers = None, end_connection = false))]
    fn cork_send<'py>(
        slf: Slf<'py>,
        message: &Bound<'py, PyAny>,
        content_type: Option<&Bound<'py, PyAny>>,
        status: Option<&Bound<'py, PyAny>>,
        headers: Option<&Bound<'py, PyAny>>,
        #[pyo3(from_py_with = truth)] end_connection: bool,
    ) -> PyResult<Slf<'py>> {
        Self::send(slf, Some(message), content_type, status, headers, end_connection)
    }

    #[pyo3(signature = (end_connection = false))]
    fn end_without_body(slf: Slf<'_>, #[pyo3(from_py_with = truth)] end_connection: bool) -> Slf<'_> {
        slf.get().finish_empty(end_connection);
        slf
    }

    #[pyo3(signature = (location, status_code = None))]
    fn redirect<'py>(
        slf: Slf<'py>,
        location: &Bound<'py, PyAny>,
        status_code: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Slf<'py>> {
        let this = slf.get();
        if this.exchange.is_over() {
            return Ok(slf);
        }
        match status_code {
            Some(code) => this.status(code)?,
            None => this.exchange.set_status(302)?,
        }
        let value = message::field(this.python()?, location)?;
        this.exchange.add_header(b"Location", &location::encoded(value.as_bytes()?))?;
        this.finish_empty(false);
        Ok(slf)
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn render<'py>(
        slf: Slf<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Slf<'py>> {
        let (this, py) = (slf.get(), slf.py());
        if this.exchange.is_over() {
            return Ok(slf);
        }
        let page = call_named(this.python()?.hooks.render.bind(py), args, kwargs)?;
        if !this.exchange.has_header(Known::ContentType) {
            this.exchange.add_header(b"Content-Type", b"text/html")?;
        }
        Self::end(slf, &page, false)
    }

    #[pyo3(signature = (path, content_type = None))]
    fn send_file<'py>(
        &self,
        py: Python<'py>,
        path: PathBuf,
        content_type: Option<String>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (kind, coding): (Option<String>, Option<String>) = match content_type {
            None => call_with(door(py).media_type.bind(py), (&path,))?.extract()?,
            given => (given, None),
        };
        let future = self.python()?.create_future(py)?;
        match py.detach(|| self.exchange.send_file(path, kind.map(Into::into), coding.map(Into::into))) {
            Sending::Done => {
                self.release_if_over();
                set_result(&future, py.None().bind(py))?;
            }
            Sending::UnderWay => {
                if let Some(listeners) = Listeners::of(&self.exchange) {
                    listeners.await_sent(future.clone().unbind());
                    // It may have been sent meanwhile.
                    if !self.exchange.is_leaving() {
                        self.exchange.server().signal(&self.exchange, Signal::Sent);
                    }
                }
            }
            Sending::Begun => {
                return Err(PyRuntimeError::new_err("a file cannot be sent: the answer has begun"));
            }
        }
        Ok(future)
    }
}
