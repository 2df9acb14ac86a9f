//! Status, headers and cookies of a response.

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyString};

use crate::http::response::HeadError;
use crate::http::status;
use crate::py::calling::{call_with, items, shown};
use crate::py::cors::CorsPolicy;
use crate::py::door::door;
use crate::py::message;
use crate::py::response::{Response, Slf};

impl From<HeadError> for PyErr {
    /// The one place where a head's errors become Python's: as in the original, a bad status is a
    /// `RuntimeError`.
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::StatusCode { .. } | HeadError::StatusText { .. } => {
                PyRuntimeError::new_err(error.to_string())
            }
            _ => PyValueError::new_err(error.to_string()),
        }
    }
}

impl Response {
    pub(super) fn status(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if value.is_instance_of::<PyInt>() && !value.is_instance_of::<PyBool>() {
            let known = |code: &u16| *code == 101 || (*code >= 200 && status::reason(*code).is_some());
            let Some(code) = value.extract::<u16>().ok().filter(known) else {
                return Err(PyRuntimeError::new_err(format!(
                    "{} is not the status of an answer: expected a number of status_codes from 200, or a text such as \
                     '299 Custom' (write_continue() writes a 100)",
                    shown(value)
                )));
            };
            return Ok(self.exchange.set_status(code)?);
        }
        let text = message::field(self.python()?, value)?;
        let text = text.as_bytes()?;
        if text.starts_with(b"1") && !text.starts_with(b"101") {
            // The client would take it for an interim response, and wait for another.
            return Err(PyRuntimeError::new_err(format!(
                "{} is not the status of an answer: expected a code from 200 (write_continue() writes a 100)",
                shown(value)
            )));
        }
        Ok(self.exchange.set_status_text(text)?)
    }

    pub(super) fn header(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let app = self.python()?;
        let (name, value) = (message::field(app, key)?, message::field(app, value)?);
        Ok(self.exchange.add_header(name.as_bytes()?, value.as_bytes()?)?)
    }

    pub(super) fn headers(&self, pairs: &Bound<'_, PyAny>) -> PyResult<()> {
        for pair in items(pairs)? {
            let pair = pair?;
            let mut parts = items(&pair)?;
            let (Some(name), Some(value), None) = (parts.next(), parts.next(), parts.next()) else {
                return Err(PyValueError::new_err(format!(
                    "{} is not a header: expected a (name, value) pair",
                    shown(&pair)
                )));
            };
            self.header(&name?, &value?)?;
        }
        Ok(())
    }

    /// A finished response accepts any input (A-CALL-10).
    pub(super) fn unless_over(&self, result: PyResult<()>) -> PyResult<()> {
        if result.is_err() && self.exchange.is_over() { Ok(()) } else { result }
    }
}

#[pymethods]
impl Response {
    fn write_status<'py>(slf: Slf<'py>, status_or_status_text: &Bound<'py, PyAny>) -> PyResult<Slf<'py>> {
        let this = slf.get();
        this.unless_over(this.status(status_or_status_text))?;
        Ok(slf)
    }

    fn write_header<'py>(
        slf: Slf<'py>,
        key: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Slf<'py>> {
        let this = slf.get();
        this.unless_over(this.header(key, value))?;
        Ok(slf)
    }

    fn write_headers<'py>(slf: Slf<'py>, headers: &Bound<'py, PyAny>) -> PyResult<Slf<'py>> {
        let this = slf.get();
        this.unless_over(this.headers(headers))?;
        Ok(slf)
    }

    #[pyo3(signature = (name, value, options = None))]
    fn set_cookie<'py>(
        slf: Slf<'py>,
        name: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
        options: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Slf<'py>> {
        let line = call_with(
            door(slf.py()).cookies.get(slf.py())?.format_cookie.bind(slf.py()),
            (name, value, options),
        )?;
        let line = line.cast::<PyString>()?.to_str()?;
        slf.get().exchange.add_header(b"Set-Cookie", line.as_bytes())?;
        Ok(slf)
    }

    fn write_continue(slf: Slf<'_>) -> Slf<'_> {
        slf.get().exchange.write_continue();
        slf
    }

    /// Sets a header for every kind of response, including errors.
    fn _keep_header(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let app = self.python()?;
        let (name, value) = (message::field(app, key)?, message::field(app, value)?);
        self.unless_over(self.exchange.keep_header(name.as_bytes()?, value.as_bytes()?).map_err(PyErr::from))
    }

    /// Sets which pages of other origins may read this response.
    fn _apply_cors(&self, policy: &CorsPolicy) {
        self.exchange.apply_cors(&policy.policy);
    }
}
