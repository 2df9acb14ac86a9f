//! WSGI applications.

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::app::{Lane, Lease, Responder};
use crate::py::handlers::{Front, Handler};
use crate::py::server::Server;
use crate::py::wsgi::Gateway;
use crate::router::Kind;

#[pymethods]
impl Server {
    /// Has a WSGI application serve every path and method. `environ` has what does not depend on the request; `threads` is how many
    /// requests may be in the application at a time, and `idle` after how many seconds without work one of several threads ends.
    #[pyo3(signature = (application, root_path, environ, threads = 1, idle = 30.0))]
    fn mount_wsgi(
        &self,
        py: Python<'_>,
        application: Py<PyAny>,
        root_path: &str,
        environ: &Bound<'_, PyDict>,
        threads: usize,
        idle: f64,
    ) -> PyResult<()> {
        let idle =
            Duration::try_from_secs_f64(idle).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let gateway = self.app.add_gateway(py, |number| {
            Gateway::new(py, number, application, root_path, environ, threads, idle)
        })?;
        let mut held = self.app.hold();
        let handler =
            Handler { callable: gateway.into_any(), coroutine: false, context: None, front: Front::Wsgi };
        let (id, _) = self.app.add_handler(handler, &mut held)?;
        let lease: Lease = Arc::new(held);
        // The asterisk form of OPTIONS is no path.
        for pattern in ["/*", "*"] {
            let lease = Some(Arc::clone(&lease));
            // Never on the event loop: the application may block.
            let target =
                Responder::Handler { id, lane: Lane::Turn, max_body_size: None, invites_late: true, lease };
            self.put(None, &Kind::any(), pattern, target)?;
        }
        Ok(())
    }
}
