//! `wsgi.early_hints`: interim responses with the status 103 (RFC 8297).

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::http::response::ResponseHead;
use crate::py::calling::{items, represented};
use crate::py::wsgi::text::wire;
use crate::server::Exchange;

/// The callable `wsgi.early_hints` of one request.
#[pyclass(frozen, module = "socketify._core")]
pub(crate) struct EarlyHints {
    exchange: Arc<Exchange>,
}

impl EarlyHints {
    pub(super) fn new(exchange: &Arc<Exchange>) -> Self {
        Self { exchange: Arc::clone(exchange) }
    }
}

#[pymethods]
impl EarlyHints {
    /// Sends headers, pairs of name and value, before the response. Without effect once that has begun.
    fn __call__(&self, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut head = ResponseHead::default();
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
            self.exchange
                .prepare_header(&mut head, &name, &value)
                .map_err(|error| PyValueError::new_err(error.to_string()))?;
        }
        self.exchange.write_early_hints(&head);
        Ok(())
    }
}
