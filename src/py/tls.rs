//! TLS for Python: its options in, the result of a handshake out, and the handler of unknown names.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use rustls::ProtocolVersion;
use zeroize::Zeroizing;

use crate::app::Lane;
use crate::py::bridge::PyApp;
use crate::py::calling::{attribute, call, call_with, is_awaitable, truth};
use crate::py::door::door;
use crate::py::handlers::Handler;
use crate::server::{Secure, ServerName};
use crate::tls::{Certificates, Error, Settings, ciphers, subject};

/// The settings of an `AppOptions`. `http2`: whether it is offered; `failed`: the exception to raise.
fn settings(options: &Bound<'_, PyAny>, http2: bool, failed: impl Fn(Error) -> PyErr) -> PyResult<Settings> {
    let text = |name: &str| -> PyResult<Option<String>> {
        attribute(options, &PyString::new(options.py(), name))?.extract()
    };
    let path = |name: &str| -> PyResult<Option<PathBuf>> { Ok(text(name)?.map(PathBuf::from)) };
    Ok(Settings {
        key_file_name: path("key_file_name")?,
        cert_file_name: path("cert_file_name")?,
        passphrase: text("passphrase")?.map(Zeroizing::new),
        dh_params_file_name: path("dh_params_file_name")?,
        ca_file_name: path("ca_file_name")?,
        client_cert: text("client_cert")?.map(|text| text.parse()).transpose().map_err(&failed)?,
        ssl_ciphers: text("ssl_ciphers")?,
        min_version: text("min_version")?
            .map(|text| text.parse())
            .transpose()
            .map_err(&failed)?
            .unwrap_or_default(),
        ssl_prefer_low_memory_usage: truth(&attribute(
            options,
            intern!(options.py(), "ssl_prefer_low_memory_usage"),
        )?)?,
        http2,
    })
}

/// The certificates of an application's options, if it uses TLS.
pub(super) fn certificates(options: &Bound<'_, PyDict>, http2: bool) -> PyResult<Option<Arc<Certificates>>> {
    let Some(given) = options.get_item("tls")?.filter(|given| !given.is_none()) else { return Ok(None) };
    let py = options.py();
    // A-APP-01.
    let failed = |error: Error| PyRuntimeError::new_err(format!("Failed to create connection: {error}"));
    let settings = settings(&given, http2, failed)?;
    let made = py.detach(|| Certificates::new(settings)).map_err(failed)?;
    warn(py, made.take_remarks(), 2)?;
    Ok(Some(Arc::new(made)))
}

/// Registers a name; false if it was there before. `route` is called right before the registration.
pub(super) fn add(
    py: Python<'_>,
    certificates: &Certificates,
    name: &str,
    options: Option<&Bound<'_, PyAny>>,
    http2: bool,
    route: impl FnOnce() + Send,
) -> PyResult<bool> {
    let failed =
        |error: Error| PyRuntimeError::new_err(format!("Failed to add the server name {name:?}: {error}"));
    let settings = options.map(|options| settings(options, http2, failed)).transpose()?;
    let prepared = py.detach(|| certificates.prepare(name, settings)).map_err(failed)?;
    let Some((prepared, remarks)) = prepared else { return Ok(false) };
    warn(py, remarks, 3)?;
    py.detach(|| certificates.commit(prepared, route)).map_err(failed)
}

/// Reads all files anew; returns warnings for the administrator.
pub(super) fn reload(py: Python<'_>, certificates: &Certificates) -> PyResult<Vec<String>> {
    py.detach(|| certificates.reload()).map_err(|error| {
        PyRuntimeError::new_err(format!(
            "Failed to reload the certificates, which stay as they were: {error}"
        ))
    })?;
    Ok(certificates.take_remarks())
}

/// Passes warnings for the administrator on. `level`: the number of frames of the package, with that of the
/// user.
fn warn(py: Python<'_>, remarks: Vec<String>, level: i32) -> PyResult<()> {
    for remark in remarks {
        let remark = std::ffi::CString::new(remark).unwrap_or_default();
        PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &remark, level)?;
    }
    Ok(())
}

// ---- what a handshake agreed on ---------------------------------------------------------------------------------------

/// The client's certificate, in DER.
pub(super) fn peer_certificate<'py>(py: Python<'py>, secure: Option<&Secure>) -> Option<Bound<'py, PyBytes>> {
    secure?.peer_certificates.first().map(|leaf| PyBytes::new(py, leaf))
}

/// The subject of the client's certificate, as text.
pub(super) fn peer_subject(secure: Option<&Secure>) -> Option<String> {
    subject(secure?.peer_certificates.first()?)
}

/// The version, as `ssl` names it.
pub(super) fn version(secure: Option<&Secure>) -> Option<&'static str> {
    match secure?.version? {
        ProtocolVersion::TLSv1_2 => Some("TLSv1.2"),
        ProtocolVersion::TLSv1_3 => Some("TLSv1.3"),
        _ => None,
    }
}

/// The cipher suite, as OpenSSL names it.
pub(super) fn cipher(secure: Option<&Secure>) -> Option<&'static str> {
    ciphers::name(secure?.cipher?)
}

// ---- names that are not known -------------------------------------------------------------------------------------------

impl PyApp {
    /// Sets the handler; `None` removes it.
    pub(super) fn set_missing_server_name(&self, handler: Option<Handler>) {
        let old = std::mem::replace(&mut *self.missing_server_name.write(), handler);
        drop(old);
    }

    /// Its lane.
    pub(super) fn missing_lane(&self) -> Option<Lane> {
        self.missing_server_name.read().as_ref().map(|handler| self.lane(handler.coroutine))
    }

    /// Calls the handler for a name. The handshake goes on when this returns: a coroutine runs on beside it.
    pub(super) fn ask_server_name(&self, py: Python<'_>, asked: &ServerName) {
        let found = self.missing_server_name.read().as_ref().map(|handler| handler.callable.clone_ref(py));
        let Some(callable) = found else { return };
        let callable = callable.bind(py);
        let ask = || -> PyResult<()> {
            let _scope = self.scope(py)?;
            let value = call(callable, [PyString::new(py, asked.name()).as_any()])?;
            if is_awaitable(&value) {
                let logged = door(py).logged.bind(py);
                let awaitable = call_with(logged, (value, "missing_server_name", callable))?;
                call(self.hooks.spawn.bind(py), [&awaitable, py.None().bind(py)])?;
            }
            Ok(())
        };
        // The hook has reported a panic.
        if let Ok(Err(error)) = catch_unwind(AssertUnwindSafe(ask)) {
            Self::log_callback(py, "missing_server_name", &error, callable);
        }
    }
}
