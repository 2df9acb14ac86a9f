//! Messages of `send`: their types and fields, as applications give them.

use std::path::PathBuf;

use pyo3::exceptions::{PyKeyError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyInt, PyList, PyString, PyTuple};

use crate::http::response::ResponseHead;
use crate::py::calling::{items, represented, truth, type_name};
use crate::py::message::{Payload, raw};
use crate::server::Exchange;

/// The headers of the response to a handshake that the server gives (RFC 6455 section 4.2.2), and those that frame it.
const HANDSHAKE: [&[u8]; 7] = [
    b"connection",
    b"content-length",
    b"sec-websocket-accept",
    b"sec-websocket-extensions",
    b"sec-websocket-protocol",
    b"transfer-encoding",
    b"upgrade",
];

/// Headers that have to be known before the body, and those of the connection.
const NO_TRAILERS: [&[u8]; 16] = [
    b"authorization",
    b"cache-control",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"host",
    b"keep-alive",
    b"location",
    b"proxy-connection",
    b"set-cookie",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
];

/// A message of an application.
pub(super) struct Message<'a, 'py>(pub(super) &'a Bound<'py, PyDict>);

impl<'a, 'py> Message<'a, 'py> {
    pub(super) fn new(event: &'a Bound<'py, PyAny>) -> PyResult<Self> {
        event
            .cast::<PyDict>()
            .map(Self)
            .map_err(|_| PyTypeError::new_err(format!("an ASGI message is a dict, not {}", type_name(event))))
    }

    /// Its `type`.
    pub(super) fn kind(&self) -> PyResult<Bound<'py, PyString>> {
        let py = self.0.py();
        let Some(kind) = self.0.get_item(intern!(py, "type"))? else {
            return Err(PyKeyError::new_err("an ASGI message has a 'type'"));
        };
        kind.cast_into::<PyString>().map_err(|error| {
            PyTypeError::new_err(format!(
                "the type of an ASGI message is a str, not {}",
                type_name(&error.into_inner())
            ))
        })
    }

    /// A field that is there, and not None.
    pub(super) fn field(&self, name: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.0.get_item(name)?.filter(|value| !value.is_none()))
    }

    /// A flag, False where it is missing.
    pub(super) fn flag(&self, name: &Bound<'py, PyString>) -> PyResult<bool> {
        self.0.get_item(name)?.map_or(Ok(false), |value| truth(&value))
    }

    /// The bytes of a body; none where it is missing.
    pub(super) fn body(&self) -> PyResult<Payload<'py>> {
        let py = self.0.py();
        let Some(body) = self.field(intern!(py, "body"))? else {
            return Ok(Payload::Bytes(PyBytes::new(py, b"")));
        };
        raw(&body)?.ok_or_else(|| {
            PyTypeError::new_err(format!("the body of a response is bytes, not {}", type_name(&body)))
        })
    }

    /// The head of a response, from `status` and `headers`.
    pub(super) fn head(&self, exchange: &Exchange) -> PyResult<ResponseHead> {
        let py = self.0.py();
        let mut head = ResponseHead::default();
        head.set_status(self.status()?)?;
        if let Some(headers) = self.field(intern!(py, "headers"))? {
            each_header(&headers, |name, value| add(exchange, &mut head, name, value))?;
        }
        Ok(head)
    }

    /// The path of `http.response.pathsend`.
    pub(super) fn path(&self) -> PyResult<PathBuf> {
        let Some(path) = self.field(intern!(self.0.py(), "path"))? else {
            return Err(PyKeyError::new_err("an ASGI message 'http.response.pathsend' has a 'path'"));
        };
        let text = path.cast::<PyString>().map_err(|_| {
            PyTypeError::new_err(format!("the path of a file is a str, not {}", type_name(&path)))
        })?;
        let path: PathBuf = text.extract()?;
        if path.is_absolute() {
            return Ok(path);
        }
        Err(PyValueError::new_err(format!("{} is not an absolute path", represented(text))))
    }

    /// The links of `http.response.early_hint`, as headers.
    pub(super) fn links(&self, exchange: &Exchange) -> PyResult<ResponseHead> {
        let mut hints = ResponseHead::default();
        if let Some(links) = self.field(intern!(self.0.py(), "links"))? {
            for link in items(&links)? {
                exchange.prepare_header(&mut hints, b"link", &bytes(&link?, "value")?)?;
            }
        }
        Ok(hints)
    }

    /// Adds the headers of `http.response.trailers`.
    pub(super) fn add_trailers(&self, exchange: &Exchange, trailers: &mut ResponseHead) -> PyResult<()> {
        let Some(headers) = self.field(intern!(self.0.py(), "headers"))? else { return Ok(()) };
        let mut lines = Vec::new();
        each_header(&headers, |name, value| {
            let (name, value) = (bytes(name, "name")?, bytes(value, "value")?);
            if NO_TRAILERS.iter().any(|other| name.eq_ignore_ascii_case(other)) {
                return Err(PyValueError::new_err(format!(
                    "the header {} has no place among trailers (RFC 9110 section 6.5.1)",
                    String::from_utf8_lossy(&name)
                )));
            }
            exchange.prepare_header(&mut ResponseHead::default(), &name, &value)?;
            lines.push((name.into_owned(), value.into_owned()));
            Ok(())
        })?;
        for (name, value) in lines {
            exchange.prepare_header(trailers, &name, &value)?;
        }
        Ok(())
    }

    /// Adds the headers of `websocket.accept` to the response to the handshake. Those of the handshake itself are the server's.
    pub(super) fn add_accept_headers(&self, exchange: &Exchange) -> PyResult<()> {
        let Some(headers) = self.field(intern!(self.0.py(), "headers"))? else { return Ok(()) };
        let mut checked = ResponseHead::default();
        let mut lines = Vec::new();
        each_header(&headers, |name, value| {
            let (name, value) = (bytes(name, "name")?, bytes(value, "value")?);
            if HANDSHAKE.iter().any(|own| name.eq_ignore_ascii_case(own)) {
                return Err(PyValueError::new_err(format!(
                    "the header {} is part of the handshake, and not the application's{}",
                    String::from_utf8_lossy(&name),
                    if name.eq_ignore_ascii_case(b"sec-websocket-protocol") {
                        ": use 'subprotocol'"
                    } else {
                        ""
                    },
                )));
            }
            exchange.prepare_header(&mut checked, &name, &value)?;
            lines.push((name.into_owned(), value.into_owned()));
            Ok(())
        })?;
        for (name, value) in lines {
            exchange.add_header(&name, &value)?;
        }
        Ok(())
    }

    fn status(&self) -> PyResult<u16> {
        let py = self.0.py();
        let Some(status) = self.0.get_item(intern!(py, "status"))? else {
            return Err(PyKeyError::new_err("the start of a response has a 'status'"));
        };
        if !status.is_instance_of::<PyInt>() || status.is_instance_of::<PyBool>() {
            return Err(PyTypeError::new_err(format!(
                "the status of a response is an int, not {}",
                type_name(&status)
            )));
        }
        let code = status.extract::<u16>().ok().filter(|code| (200..=999).contains(code));
        code.ok_or_else(|| {
            PyValueError::new_err(format!(
                "{} is not the status of a response: expected 200 to 999",
                represented(&status)
            ))
        })
    }
}

/// Gives each `(name, value)` of an iterable to `act`.
fn each_header<'py>(
    headers: &Bound<'py, PyAny>,
    mut act: impl FnMut(&Bound<'py, PyAny>, &Bound<'py, PyAny>) -> PyResult<()>,
) -> PyResult<()> {
    let mut one = |pair: &Bound<'py, PyAny>| {
        if let Ok(pair) = pair.cast::<PyTuple>()
            && pair.len() == 2
        {
            return act(&pair.get_item(0)?, &pair.get_item(1)?);
        }
        let mut parts = items(pair)?;
        match (parts.next(), parts.next(), parts.next()) {
            (Some(name), Some(value), None) => act(&name?, &value?),
            _ => Err(PyValueError::new_err(format!(
                "{} is not a header: expected (name, value)",
                represented(pair)
            ))),
        }
    };
    if let Ok(list) = headers.cast::<PyList>() {
        return list.iter().try_for_each(|pair| one(&pair));
    }
    for pair in items(headers)? {
        one(&pair?)?;
    }
    Ok(())
}

/// Adds a header of an application. The server frames the response and decides about its connection, so of the headers for
/// that only `connection: close` counts (RFC 9110 section 7.6.1).
fn add(
    exchange: &Exchange,
    head: &mut ResponseHead,
    name: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let (name, value) = (bytes(name, "name")?, bytes(value, "value")?);
    let (name, value) = (&*name, &*value);
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    match name.len() {
        7 if is(b"upgrade") => return Ok(()),
        10 if is(b"keep-alive") => return Ok(()),
        10 if is(b"connection") => {
            let close = crate::http::list_members(value).any(|option| option.eq_ignore_ascii_case(b"close"));
            return if close { Ok(exchange.prepare_header(head, name, b"close")?) } else { Ok(()) };
        }
        16 if is(b"proxy-connection") => return Ok(()),
        _ => {}
    }
    Ok(exchange.prepare_header(head, name, value)?)
}

/// The bytes of a name or value; text is taken as latin-1.
fn bytes<'a>(value: &'a Bound<'_, PyAny>, what: &str) -> PyResult<std::borrow::Cow<'a, [u8]>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(bytes.as_bytes().into());
    }
    if let Ok(text) = value.cast::<PyString>() {
        let text = text.to_str()?;
        let latin =
            text.chars().map(|letter| u8::try_from(u32::from(letter))).collect::<Result<Vec<u8>, _>>();
        return latin.map(Into::into).map_err(|_| {
            PyValueError::new_err(format!(
                "{text:?} is not the {what} of a header: it has letters beyond latin-1"
            ))
        });
    }
    match raw(value)? {
        Some(payload) => Ok(payload.as_bytes()?.to_vec().into()),
        None => {
            Err(PyTypeError::new_err(format!("the {what} of a header is bytes, not {}", type_name(value))))
        }
    }
}
