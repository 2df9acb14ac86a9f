//! The sockets that a server listens on.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::net::{Endpoint, Listener, UNIX_MODE, refuse_strangers};
use crate::py::server::Server;

#[pymethods]
impl Server {
    /// Binds a TCP port; returns it. The server listens on it from the next start, or at once while it runs.
    /// `sharing`: with no process, with those of this one's group, or with all.
    fn bind_tcp(
        &self,
        py: Python<'_>,
        host: Option<String>,
        port: u16,
        sharing: &str,
        backlog: i32,
    ) -> PyResult<u16> {
        let endpoint = Endpoint::Tcp { host, port, exclusive: sharing == "none" };
        // Looking a host name up may take seconds.
        let listener = py.detach(|| {
            if sharing != "all" {
                refuse_strangers(&endpoint)?;
            }
            Listener::bind_with(&endpoint, backlog)
        })?;
        self.listen(listener)
    }

    /// Binds a Unix socket; `mode` are its permissions.
    #[pyo3(signature = (path, mode, backlog))]
    fn bind_unix(&self, py: Python<'_>, path: PathBuf, mode: Option<u32>, backlog: i32) -> PyResult<u16> {
        let endpoint = Endpoint::Unix { path, mode: mode.unwrap_or(UNIX_MODE) };
        // This waits for others that bind there.
        let listener = py.detach(|| Listener::bind_with(&endpoint, backlog))?;
        self.listen(listener)
    }

    /// Listens on a Unix socket outside of any server; returns its descriptor, which belongs to the caller.
    #[staticmethod]
    fn open_unix(py: Python<'_>, path: PathBuf, mode: u32, backlog: i32) -> PyResult<RawFd> {
        let endpoint = Endpoint::Unix { path, mode };
        let listener = py.detach(|| Listener::bind_with(&endpoint, backlog))?;
        Ok(OwnedFd::from(listener).into_raw_fd())
    }

    /// Takes a listening socket and owns its descriptor from now on; returns its port.
    fn adopt(&self, descriptor: RawFd) -> PyResult<u16> {
        if descriptor < 0 {
            return Err(PyValueError::new_err(format!("{descriptor} is no file descriptor")));
        }
        #[expect(unsafe_code, reason = "a descriptor comes from Python as a number")]
        // SAFETY: the caller has made this descriptor for us, and no longer uses it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        self.listen(Listener::adopt(descriptor)?)
    }
}

impl Server {
    /// Serves `listener` from the next start, or at once while the server runs; returns its port.
    pub(super) fn listen(&self, listener: Listener) -> PyResult<u16> {
        let port = listener.port();
        match self.life.lock().server() {
            Some(server) if !server.is_closing() => server.listen(listener)?,
            _ => self.bound.lock().push(listener),
        }
        Ok(port)
    }
}
