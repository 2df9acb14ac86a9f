//! Options from Python: dictionaries in, settings of the core out.

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::config::{AddedHeader, Config, ProxyProtocol, SocketConfig};
use crate::http::response::ResponseHead;
use crate::http::trust::Trust;
use crate::py::calling::{represented, shown};
use crate::py::compression::compression;
use crate::py::tls::certificates;
use crate::websocket::deflate::Compression;

/// Options given as a dictionary.
pub(super) fn option<'py, T: for<'a> FromPyObject<'a, 'py, Error = PyErr>>(
    options: &Bound<'py, PyDict>,
    name: &str,
) -> PyResult<Option<T>> {
    match options.get_item(name)? {
        Some(value) if !value.is_none() => value.extract().map(Some),
        _ => Ok(None),
    }
}

fn seconds(options: &Bound<'_, PyDict>, name: &str, default: Duration) -> PyResult<Duration> {
    match option::<f64>(options, name)? {
        None => Ok(default),
        Some(value) => Duration::try_from_secs_f64(value).map_err(|_| {
            PyValueError::new_err(format!("{name} must be a number of seconds from 0, not {value}"))
        }),
    }
}

fn count<T: TryFrom<i64>>(options: &Bound<'_, PyDict>, name: &str, least: i64, default: T) -> PyResult<T> {
    let given = option::<i64>(options, name).map_err(|_| {
        let value = options.get_item(name).ok().flatten().map_or_else(String::new, |value| shown(&value));
        PyValueError::new_err(format!(
            "{name} must be a whole number from {least} that fits 63 bits, not {value}"
        ))
    })?;
    match given {
        None => Ok(default),
        Some(value) if value >= least => T::try_from(value).map_err(|_| {
            PyValueError::new_err(format!("{name} must be a whole number from {least}, not {value}"))
        }),
        Some(value) => {
            Err(PyValueError::new_err(format!("{name} must be a whole number from {least}, not {value}")))
        }
    }
}

/// An option that the package has checked: `settings.py` has the range of each.
fn given<'py, T: for<'a> FromPyObject<'a, 'py, Error = PyErr>>(
    options: &Bound<'py, PyDict>,
    name: &str,
    default: T,
) -> PyResult<T> {
    Ok(option(options, name)?.unwrap_or(default))
}

/// The defaults of the options: the package has no other source.
pub(super) fn defaults(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let config = Config::default();
    let defaults = PyDict::new(py);
    defaults.set_item("io_threads", config.io_threads)?;
    defaults.set_item("max_connections", config.max_connections)?;
    defaults.set_item("max_requests", config.max_requests)?;
    defaults.set_item("max_header_memory", config.max_header_memory)?;
    defaults.set_item("max_header_bytes", config.head.max_header_bytes)?;
    defaults.set_item("max_headers", config.head.max_headers)?;
    defaults.set_item("max_body_size", config.max_body_size)?;
    defaults.set_item("body_buffer", config.body_buffer)?;
    defaults.set_item("header_timeout", config.header_timeout.as_secs_f64())?;
    defaults.set_item("handshake_timeout", config.handshake_timeout.as_secs_f64())?;
    defaults.set_item("keep_alive_timeout", config.keep_alive_timeout.as_secs_f64())?;
    defaults.set_item("body_timeout", config.body_timeout.as_secs_f64())?;
    defaults.set_item("write_timeout", config.write_timeout.as_secs_f64())?;
    defaults.set_item("min_rate", config.min_rate)?;
    defaults.set_item("server_header", &*config.server_header)?;
    defaults.set_item("date_header", config.date_header)?;
    defaults.set_item("http2", config.http2)?;
    defaults.set_item("max_concurrent_streams", config.max_concurrent_streams)?;
    Ok(defaults)
}

pub(super) fn config(options: &Bound<'_, PyDict>) -> PyResult<Config> {
    let mut config = Config::default();
    config.io_threads = given(options, "io_threads", config.io_threads)?;
    config.max_connections = given(options, "max_connections", config.max_connections)?;
    config.max_requests = option(options, "max_requests")?;
    config.max_header_memory = given(options, "max_header_memory", config.max_header_memory)?;
    config.head.max_header_bytes = given(options, "max_header_bytes", config.head.max_header_bytes)?;
    config.head.max_headers = given(options, "max_headers", config.head.max_headers)?;
    config.max_body_size = given(options, "max_body_size", config.max_body_size)?;
    config.body_buffer = given(options, "body_buffer", config.body_buffer)?;
    config.header_timeout = seconds(options, "header_timeout", config.header_timeout)?;
    config.handshake_timeout = seconds(options, "handshake_timeout", config.handshake_timeout)?;
    config.keep_alive_timeout = seconds(options, "keep_alive_timeout", config.keep_alive_timeout)?;
    config.body_timeout = seconds(options, "body_timeout", config.body_timeout)?;
    config.write_timeout = seconds(options, "write_timeout", config.write_timeout)?;
    config.min_rate = given(options, "min_rate", config.min_rate)?;
    if let Some(name) = option::<String>(options, "server_header")? {
        if name.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(PyValueError::new_err(format!(
                "server_header {name:?} must not have control characters"
            )));
        }
        config.server_header = name.into();
    }
    config.date_header = given(options, "date_header", config.date_header)?;
    for (name, value) in option::<Vec<(String, String)>>(options, "headers")?.unwrap_or_default() {
        add_header(&mut config.headers, &name, &value)?;
    }
    config.http2 = given(options, "http2", config.http2)?;
    config.max_concurrent_streams = given(options, "max_concurrent_streams", config.max_concurrent_streams)?;
    config.compression = compression(options)?.map(Arc::new);
    config.certificates = certificates(options, config.http2)?;
    config.proxy_protocol = proxy_protocol(options)?.unwrap_or_default();
    if let Some(entries) = option::<Vec<String>>(options, "trusted_proxies")? {
        config.trusted_proxies = Trust::parse(entries)
            .map_err(|error| PyValueError::new_err(format!("trusted_proxies: {error}")))?;
    }
    Ok(config)
}

fn add_header(headers: &mut Vec<AddedHeader>, name: &str, value: &str) -> PyResult<()> {
    const FRAMING: [&str; 5] = ["connection", "content-length", "keep-alive", "transfer-encoding", "upgrade"];
    let wrong = |why: &dyn std::fmt::Display| PyValueError::new_err(format!("headers: {why}"));
    if FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing)) {
        return Err(wrong(&format!("the server itself sends {name}")));
    }
    let mut head = ResponseHead::default();
    head.header(name.as_bytes(), value.as_bytes()).map_err(|error| wrong(&error))?;
    let line = head.into_lines();
    match headers.iter_mut().find(|known| known.name.eq_ignore_ascii_case(name.as_bytes())) {
        Some(known) => known.lines = [&*known.lines, &*line].concat().into(),
        None => headers.push(AddedHeader { name: name.as_bytes().into(), lines: line }),
    }
    Ok(())
}

fn proxy_protocol(options: &Bound<'_, PyDict>) -> PyResult<Option<ProxyProtocol>> {
    let Some(given) = options.get_item("proxy_protocol")?.filter(|given| !given.is_none()) else {
        return Ok(None);
    };
    if let Ok(wanted) = given.extract::<bool>() {
        return Ok(Some(if wanted { ProxyProtocol::Required } else { ProxyProtocol::Off }));
    }
    match given.extract::<&str>() {
        Ok("off") => Ok(Some(ProxyProtocol::Off)),
        Ok("optional") => Ok(Some(ProxyProtocol::Optional)),
        Ok("required") => Ok(Some(ProxyProtocol::Required)),
        _ => Err(PyValueError::new_err(format!(
            "proxy_protocol must be 'off', 'optional' or 'required', or True, which is the last, or False, which is the first, \
             not {}",
            represented(&given)
        ))),
    }
}

pub(super) fn socket_config(limits: &Bound<'_, PyDict>) -> PyResult<SocketConfig> {
    let default = SocketConfig::default();
    let flag = |name: &str| option::<bool>(limits, name).map(Option::unwrap_or_default);
    let options = count(limits, "compression", 0, 0_u32)?;
    Ok(SocketConfig {
        max_payload_length: count(limits, "max_payload_length", 0, default.max_payload_length)?,
        idle_timeout: seconds(limits, "idle_timeout", default.idle_timeout)?,
        max_backpressure: count(limits, "max_backpressure", 0, default.max_backpressure)?,
        close_on_backpressure_limit: flag("close_on_backpressure_limit")?,
        reset_idle_timeout_on_send: flag("reset_idle_timeout_on_send")?,
        send_pings_automatically: flag("send_pings_automatically")?,
        max_lifetime: seconds(limits, "max_lifetime", default.max_lifetime)?,
        compression: Compression::from_options(options)
            .map_err(|error| PyValueError::new_err(format!("compression: {error}")))?,
        inbound_buffer: count(limits, "inbound_buffer", 1, default.inbound_buffer)?,
    })
}
