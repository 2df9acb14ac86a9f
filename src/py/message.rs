//! Users' text, names and payloads, as bytes.

use std::borrow::Cow;

use pyo3::exceptions::{PyTypeError, PyUnicodeEncodeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PyString};

use crate::py::bridge::PyApp;
use crate::py::calling::{method, type_name};

/// A payload as bytes, borrowed from the Python object where that is possible.
pub(crate) enum Payload<'py> {
    Bytes(Bound<'py, PyBytes>),
    Text(Bound<'py, PyString>),
    Copied(Vec<u8>),
}

impl Payload<'_> {
    pub(crate) fn as_bytes(&self) -> PyResult<&[u8]> {
        Ok(match self {
            Self::Bytes(bytes) => bytes.as_bytes(),
            Self::Text(text) => text.to_str()?.as_bytes(),
            Self::Copied(bytes) => bytes,
        })
    }
}

/// `str` and the bytes-like types unchanged; `None` for anything else.
pub(crate) fn raw<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Payload<'py>>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Some(Payload::Bytes(bytes.clone())));
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Some(Payload::Text(text.clone())));
    }
    if let Ok(bytes) = value.cast::<PyByteArray>() {
        return Ok(Some(Payload::Copied(bytes.to_vec())));
    }
    if value.is_instance_of::<PyMemoryView>() {
        let bytes = method(value, intern!(value.py(), "tobytes"), [])?;
        return Ok(Some(Payload::Bytes(bytes.cast_into::<PyBytes>()?)));
    }
    Ok(None)
}

/// A payload, and whether it went through the JSON serializer.
pub(crate) fn payload<'py>(app: &PyApp, value: &Bound<'py, PyAny>) -> PyResult<(Payload<'py>, bool)> {
    match raw(value)? {
        Some(payload) => Ok((payload, false)),
        None => Ok((app.to_json(value)?, true)),
    }
}

/// A header name or value, a status text, a key: `str`, bytes-like, `int` in decimal, anything else as JSON.
pub(crate) fn field<'py>(app: &PyApp, value: &Bound<'py, PyAny>) -> PyResult<Payload<'py>> {
    Ok(payload(app, value)?.0)
}

/// A lookup key: `str` or bytes-like. `what` names the argument in the error.
pub(crate) fn key<'a>(value: &'a Bound<'_, PyAny>, what: &str) -> PyResult<Cow<'a, [u8]>> {
    if let Ok(text) = value.cast::<PyString>() {
        return match text.to_str() {
            Ok(text) => Ok(Cow::Borrowed(text.as_bytes())),
            // No name on the wire has a lone surrogate, so there is no such header.
            Err(error) if error.is_instance_of::<PyUnicodeEncodeError>(value.py()) => {
                Ok(Cow::Borrowed(b"\xff"))
            }
            Err(error) => Err(error),
        };
    }
    match raw(value)? {
        Some(payload) => Ok(Cow::Owned(payload.as_bytes()?.to_vec())),
        None => Err(PyTypeError::new_err(format!("{what} must be str or bytes, not {}", type_name(value)))),
    }
}

/// The name of a header to look for: a key or, as in the original, the JSON of anything else.
pub(crate) fn header_name<'a>(app: Option<&PyApp>, value: &'a Bound<'_, PyAny>) -> PyResult<Cow<'a, [u8]>> {
    match (raw(value)?, app) {
        (None, Some(app)) => Ok(Cow::Owned(app.to_json(value)?.as_bytes()?.to_vec())),
        _ => key(value, "header name"),
    }
}
