//! Forms and cookies for Python: `FormParser` and `parse_cookies`.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::http::cookies;
use crate::http::form::{Fields, Limits, Measure};
use crate::py::convert::text;

/// Parses an urlencoded form, in steps; see `_core.pyi`.
#[pyclass(module = "socketify._core")]
pub(crate) struct FormParser {
    limits: Limits,
    measure: Measure,
    fields: Fields,
}

#[pymethods]
impl FormParser {
    #[new]
    fn new(max_fields: usize, max_field_size: usize) -> Self {
        let limits = Limits { fields: max_fields, field_size: max_field_size };
        Self { limits, measure: Measure::default(), fields: Fields::default() }
    }

    #[pyo3(signature = (body, budget, /))]
    fn measure(&mut self, body: &[u8], budget: usize) -> PyResult<bool> {
        let step = self.measure.step(body, &self.limits, budget);
        step.map_err(|error| PyValueError::new_err(error.to_string()))
    }

    #[pyo3(signature = (body, budget, /))]
    fn take<'py>(
        &mut self,
        py: Python<'py>,
        body: &[u8],
        budget: usize,
    ) -> Vec<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let end = self.fields.at().saturating_add(budget);
        let mut taken = Vec::new();
        while self.fields.at() < end {
            let Some((name, value)) = self.fields.next(body) else { break };
            taken.push((PyBytes::new(py, &name), PyBytes::new(py, &value)));
        }
        taken
    }

    #[pyo3(signature = (body, /))]
    const fn is_done(&self, body: &[u8]) -> bool {
        self.fields.at() >= body.len()
    }
}

/// The cookies of a `Cookie` header, not decoded; of several with one name the last.
#[pyfunction]
#[pyo3(signature = (header, /))]
pub(crate) fn parse_cookies<'py>(py: Python<'py>, header: &str) -> PyResult<Bound<'py, PyDict>> {
    let found = PyDict::new(py);
    for (name, value) in cookies::pairs(header.as_bytes()) {
        found.set_item(text(py, name), text(py, value))?;
    }
    Ok(found)
}
