//! Rust values to Python ones.

use std::net::IpAddr;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// Text from the wire: UTF-8 if it is valid, else ISO 8859-1, which maps every byte (RFC 9110 5.5).
pub(crate) fn text<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    match std::str::from_utf8(bytes) {
        Ok(text) => PyString::new(py, text),
        Err(_) => PyString::new(py, &bytes.iter().map(|byte| char::from(*byte)).collect::<String>()),
    }
}

/// The name of a topic: text if it is UTF-8, else its bytes; both name the topic again.
pub(crate) fn topic<'py>(py: Python<'py>, name: &[u8]) -> Bound<'py, PyAny> {
    match std::str::from_utf8(name) {
        Ok(text) => PyString::new(py, text).into_any(),
        Err(_) => PyBytes::new(py, name).into_any(),
    }
}

/// The long form of an address: IPv6 as eight groups of four digits, as the original writes it.
pub(crate) fn address_text(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => address.segments().map(|segment| format!("{segment:04x}")).join(":"),
    }
}

/// The 4 or 16 bytes of an address in network order.
pub(crate) fn address_bytes(py: Python<'_>, address: IpAddr) -> Bound<'_, PyBytes> {
    match address {
        IpAddr::V4(address) => PyBytes::new(py, &address.octets()),
        IpAddr::V6(address) => PyBytes::new(py, &address.octets()),
    }
}
