//! Native strings of WSGI: text whose code points are bytes (PEP 3333, Unicode Issues).

use std::borrow::Cow;
use std::ffi::c_char;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyString};

use crate::py::calling::{represented, shown, type_name};

/// Bytes as text.
pub(super) fn native<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    #[expect(unsafe_code, reason = "PyO3 decodes UTF-8 alone")]
    #[expect(clippy::cast_possible_wrap, reason = "no slice is larger than isize::MAX")]
    // SAFETY: the thread is attached, and the bytes live. The result is a new `str`, or null with an exception set.
    unsafe {
        let text = ffi::PyUnicode_DecodeLatin1(
            bytes.as_ptr().cast::<c_char>(),
            bytes.len() as ffi::Py_ssize_t,
            std::ptr::null(),
        );
        Ok(Bound::from_owned_ptr_or_err(py, text)?.cast_into_unchecked())
    }
}

/// Text, bytes or a number of an application, as the bytes that are sent. `what` names it in the error.
pub(super) fn wire<'a>(value: &'a Bound<'_, PyAny>, what: &str) -> PyResult<Cow<'a, [u8]>> {
    if let Ok(text) = value.cast::<PyString>() {
        let text = text.to_str().map_err(|_| beyond(value, what))?;
        if text.is_ascii() {
            return Ok(Cow::Borrowed(text.as_bytes()));
        }
        let bytes: Option<Vec<u8>> = text.chars().map(|letter| u8::try_from(letter).ok()).collect();
        return bytes.map(Cow::Owned).ok_or_else(|| beyond(value, what));
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Cow::Borrowed(bytes.as_bytes()));
    }
    if value.is_instance_of::<PyInt>() {
        return Ok(Cow::Owned(shown(value).into_bytes()));
    }
    Err(PyTypeError::new_err(format!(
        "{what} must be a str, not {} ({})",
        type_name(value),
        represented(value)
    )))
}

fn beyond(value: &Bound<'_, PyAny>, what: &str) -> PyErr {
    PyValueError::new_err(format!(
        "{what} {} has a character above U+00FF: encode it, such as by RFC 8187",
        represented(value)
    ))
}
