//! A handshake becomes a WebSocket.

use std::any::Any;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::py::listeners::Listeners;
use crate::py::message;
use crate::py::response::Response;
use crate::py::sockets::Attached;

#[pymethods]
impl Response {
    #[pyo3(signature = (
        sec_web_socket_key, sec_web_socket_protocol, sec_web_socket_extensions, socket_context, user_data = None
    ))]
    fn upgrade(
        &self,
        py: Python<'_>,
        sec_web_socket_key: &Bound<'_, PyAny>,
        sec_web_socket_protocol: &Bound<'_, PyAny>,
        sec_web_socket_extensions: &Bound<'_, PyAny>,
        socket_context: &Bound<'_, PyAny>,
        user_data: Option<Py<PyAny>>,
    ) -> PyResult<bool> {
        let _ = socket_context;
        let app = self.python()?;
        // Anything that is not text means a missing header (A-RES-30).
        let bytes = |value: &Bound<'_, PyAny>| match message::raw(value)? {
            Some(text) => Ok::<_, PyErr>(text.as_bytes()?.to_vec()),
            None => Ok(Vec::new()),
        };
        let (key, protocol) = (bytes(sec_web_socket_key)?, bytes(sec_web_socket_protocol)?);
        let extensions = bytes(sec_web_socket_extensions)?;
        let user = user_data.map(|data| Box::new(Attached::with(data)) as Box<dyn Any + Send + Sync>);
        let upgraded = self
            .exchange
            .upgrade(&key, &protocol, &extensions, user)
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        let Some(socket) = upgraded else {
            self.release_if_over();
            return Ok(false);
        };
        Listeners::finish(&self.exchange);
        app.flush_soon(py);
        // The open callback runs inside this call, if it may.
        if let Some(lane) = app.current_lane() {
            app.converse(py, &socket, lane);
        }
        app.flush_soon(py);
        Ok(true)
    }
}
