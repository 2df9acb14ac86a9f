//! Names: of domains, and those of TLS with their certificates.

use pyo3::prelude::*;

use crate::py::handlers::Handler;
use crate::py::server::{Server, invalid};
use crate::py::tls;
use crate::router::Hosts;

#[pymethods]
impl Server {
    /// Checks the name of a domain; returns the form in which requests are compared.
    #[staticmethod]
    fn domain_name(name: &str) -> PyResult<String> {
        let name = Hosts::<()>::normalise(name).map_err(invalid)?;
        Ok(String::from_utf8_lossy(&name).into_owned())
    }

    /// Registers a TLS server name, with a router of its own and, with `options`, a configuration of its own.
    /// False if it was there before, and without TLS. Warnings for the administrator come first: if a warning
    /// is an error, nothing is registered.
    #[pyo3(signature = (name, options = None))]
    fn add_server_name(
        &self,
        py: Python<'_>,
        name: &str,
        options: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let Some(certificates) = &self.config.certificates else { return Ok(false) };
        // The router exists before a client can connect under the name. The name has been checked: there is a
        // certificate for it.
        let route = || drop(self.routes.change(|routes| routes.router_mut(Some(name)).map(drop)));
        let added = tls::add(py, certificates, name, options, self.config.http2, route)?;
        self.app.sweep_handlers();
        Ok(added)
    }

    /// Removes a TLS server name and its routes; returns whether it was there.
    fn remove_server_name(&self, py: Python<'_>, name: &str) -> bool {
        let Some(certificates) = &self.config.certificates else { return false };
        let removed = py.detach(|| {
            certificates.remove_and(name, || {
                self.routes.change(|routes| routes.remove(name));
            })
        });
        self.app.sweep_handlers();
        removed
    }

    /// Sets the handler of unknown TLS server names; None removes it.
    fn set_missing_server_name(&self, handler: Option<Py<PyAny>>, coroutine: bool) {
        let handler = handler.map(|callable| Handler::native(callable, coroutine, None));
        self.app.set_missing_server_name(handler);
    }

    /// Reads the files of all certificates anew; returns warnings for the administrator.
    fn reload_certificates(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let certificates = self.config.certificates.as_ref();
        certificates.map_or_else(|| Ok(Vec::new()), |certificates| tls::reload(py, certificates))
    }
}
