//! The body of the request, as responses have always given it.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::py::body::Body;
use crate::py::calling::{call_named, call_with};
use crate::py::door::door;
use crate::py::response::Response;

#[pymethods]
impl Response {
    fn get_data<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Body::of(&self.exchange).arrival(py)
    }

    #[pyo3(signature = (encoding = "utf-8"))]
    fn get_text<'py>(&self, py: Python<'py>, encoding: &str) -> PyResult<Bound<'py, PyAny>> {
        let get_text = &door(py).lenient_bodies.get(py)?.get_text;
        call_with(get_text.bind(py), (Body::of(&self.exchange), encoding))
    }

    #[pyo3(signature = (**limits))]
    fn get_json<'py>(
        &self,
        py: Python<'py>,
        limits: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let serializer = self.python()?.serializer(py);
        let get_json = &door(py).lenient_bodies.get(py)?.get_json;
        call_named(get_json.bind(py), (Body::of(&self.exchange), serializer), limits)
    }

    #[pyo3(signature = (encoding = "utf-8", **limits))]
    fn get_form_urlencoded<'py>(
        &self,
        py: Python<'py>,
        encoding: &str,
        limits: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let get_form_urlencoded = &door(py).lenient_bodies.get(py)?.get_form_urlencoded;
        call_named(get_form_urlencoded.bind(py), (Body::of(&self.exchange), encoding), limits)
    }
}
