//! ASGI applications.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::app::{Behavior, Callback, Lease, Responder};
use crate::py::handlers::{Front, Handler};
use crate::py::options::socket_config;
use crate::py::server::Server;
use crate::router::Kind;

#[pymethods]
impl Server {
    /// Has an ASGI application serve every path and method. `start` is called with the application, a scope and a call, and starts
    /// its task. `websocket` has the limits of sockets as numbers by key; without it handshakes are refused.
    #[pyo3(signature = (application, start, root_path, websocket = None))]
    fn mount_asgi(
        &self,
        application: &Bound<'_, PyAny>,
        start: &Bound<'_, PyAny>,
        root_path: &Bound<'_, PyString>,
        websocket: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        self.app.asgi.set_root_path(root_path.to_str()?);
        let mut held = self.app.hold();
        let mut add = |front| {
            let (callable, context) = (start.clone().unbind(), Some(application.clone().unbind()));
            self.app.add_handler(Handler { callable, coroutine: true, context, front }, &mut held)
        };
        let (id, lane) = add(Front::Asgi)?;
        let upgrade =
            websocket.map(|limits| Ok::<_, PyErr>((socket_config(limits)?, add(Front::AsgiSocket)?)));
        let upgrade = upgrade.transpose()?;
        let lease: Lease = Arc::new(held);
        // The asterisk form of OPTIONS is no path.
        for pattern in ["/*", "*"] {
            let target = Responder::Handler {
                id,
                lane,
                max_body_size: None,
                invites_late: true,
                lease: Some(Arc::clone(&lease)),
            };
            self.put(None, &Kind::any(), pattern, target)?;
        }
        if let Some((config, (id, lane))) = upgrade {
            let upgrade = Some(Callback { id, lane });
            let behavior =
                Behavior { config, upgrade, pulled: true, lease: Some(lease), ..Behavior::default() };
            self.put(None, &Kind::WebSocket, "/*", Responder::WebSocket(Arc::new(behavior)))?;
        }
        Ok(())
    }

    /// The state of the application's lifespan, of which each request gets a copy. None has the requests begin with an empty one.
    fn set_asgi_state(&self, state: Option<Py<PyDict>>) {
        self.app.asgi.set_state(state);
    }
}
