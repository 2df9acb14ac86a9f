//! Routes: handlers, constants, files and sockets; and policies for other origins.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt};

use crate::app::{Behavior, Callback, Constant, Lease, Responder};
use crate::files::types::Types;
use crate::files::{Directory, Options};
use crate::http::response::ResponseHead;
use crate::py::calling::shown;
use crate::py::cors::CorsPolicy;
use crate::py::handlers::Handler;
use crate::py::message;
use crate::py::options::socket_config;
use crate::py::server::{Server, invalid};
use crate::router::{Kind, Pattern};

fn kind(method: Option<&str>) -> Kind {
    method.map_or_else(Kind::any, Kind::method)
}

#[pymethods]
impl Server {
    /// Registers a handler; `method` None is every method. True when the pattern can match (nothing follows a `*`).
    /// `domain` names the router, None the default one.
    #[pyo3(signature = (method, pattern, handler, coroutine, max_body_size = None, domain = None))]
    fn add_route(
        &self,
        method: Option<&str>,
        pattern: &str,
        handler: Py<PyAny>,
        coroutine: bool,
        max_body_size: Option<u64>,
        domain: Option<&str>,
    ) -> PyResult<bool> {
        let mut held = self.app.hold();
        let handler = Handler::native(handler, coroutine, None);
        let (id, lane) = self.app.add_handler(handler, &mut held)?;
        let lease: Lease = Arc::new(held);
        let target = Responder::Handler { id, lane, max_body_size, invites_late: false, lease: Some(lease) };
        self.put(domain, &kind(method), pattern, target)
    }

    /// Registers a constant response, which is sent without Python.
    #[pyo3(signature = (method, pattern, status, headers, body, domain = None))]
    fn add_constant<'py>(
        &self,
        method: Option<&str>,
        pattern: &str,
        status: &Bound<'py, PyInt>,
        headers: Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
        body: &Bound<'py, PyAny>,
        domain: Option<&str>,
    ) -> PyResult<bool> {
        let mut head = ResponseHead::default();
        let code = status.extract::<u16>().ok().filter(|code| (200..600).contains(code));
        head.set_status(code.ok_or_else(|| {
            PyRuntimeError::new_err(format!("{} is not a status from 200 to 599", shown(status)))
        })?)?;
        for (name, value) in headers {
            let (name, value) = (message::field(&self.app, &name)?, message::field(&self.app, &value)?);
            let (name, value) = (name.as_bytes()?, value.as_bytes()?);
            if self.config.http2 { head.header_of_stream(name, value) } else { head.header(name, value) }?;
        }
        let body = message::payload(&self.app, body)?.0.as_bytes()?.into();
        let constant = Constant::new(head, body, self.config.compression.as_deref());
        self.put(domain, &kind(method), pattern, Responder::Constant(Arc::new(constant)))
    }

    /// Registers a directory of files, whose names begin after `depth` segments. `types` is three tables of
    /// `mimetypes`: types by extension, suffixes, encodings. True when the pattern can match.
    #[expect(clippy::too_many_arguments, reason = "each is an option of its own")]
    #[pyo3(signature = (pattern, directory, depth, index, cache_control, precompressed, dotfiles, types, domain = None))]
    fn add_files(
        &self,
        pattern: &str,
        directory: &Bound<'_, PyAny>,
        depth: usize,
        index: Option<String>,
        cache_control: Option<String>,
        precompressed: bool,
        dotfiles: bool,
        types: (HashMap<String, String>, HashMap<String, String>, HashMap<String, String>),
        domain: Option<&str>,
    ) -> PyResult<bool> {
        let boxed = |map: HashMap<String, String>| {
            map.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
        };
        let types =
            Types { by_extension: boxed(types.0), suffixes: boxed(types.1), encodings: boxed(types.2) };
        let options = Options {
            index: index.map(Into::into),
            cache_control: cache_control.map(Into::into),
            precompressed,
            dotfiles,
        };
        let directory = Directory::new(&directory.extract::<PathBuf>()?, depth, options, types)?;
        self.put(domain, &Kind::Files, pattern, Responder::Files(Arc::new(directory)))
    }

    /// Sets which pages of other origins may read the responses below a pattern.
    fn add_cors(&self, pattern: &str, policy: &CorsPolicy) -> PyResult<()> {
        let added = self.config.cors.insert(pattern, &policy.policy);
        added.map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// Registers a WebSocket route. `limits` are numbers by key; `listeners` are (callable, is coroutine function) by name,
    /// `upgrade` among them, whose third argument is `context`. True when the pattern can match.
    #[pyo3(signature = (pattern, limits, listeners, context, domain = None))]
    fn add_websocket(
        &self,
        pattern: &str,
        limits: &Bound<'_, PyDict>,
        listeners: &Bound<'_, PyDict>,
        context: Py<PyAny>,
        domain: Option<&str>,
    ) -> PyResult<bool> {
        let config = socket_config(limits)?;
        let mut held = self.app.hold();
        let mut add = |name: &str, context: Option<Py<PyAny>>| match listeners.get_item(name)? {
            None => Ok::<_, PyErr>(None),
            Some(pair) => {
                let (callable, coroutine) = pair.extract()?;
                let (id, lane) =
                    self.app.add_handler(Handler::native(callable, coroutine, context), &mut held)?;
                Ok(Some(Callback { id, lane }))
            }
        };
        let mut behavior = Behavior {
            config,
            upgrade: add("upgrade", Some(context))?,
            open: add("open", None)?,
            message: add("message", None)?,
            drain: add("drain", None)?,
            ping: add("ping", None)?,
            pong: add("pong", None)?,
            close: add("close", None)?,
            subscription: add("subscription", None)?,
            pulled: false,
            lease: None,
        };
        behavior.lease = Some(Arc::new(held));
        self.put(domain, &Kind::WebSocket, pattern, Responder::WebSocket(Arc::new(behavior)))
    }
}

impl Server {
    pub(super) fn put(
        &self,
        domain: Option<&str>,
        kind: &Kind,
        pattern: &str,
        target: Responder,
    ) -> PyResult<bool> {
        let parsed = Pattern::parse(pattern).map_err(invalid)?;
        let replaced = self.routes.change(|routes| {
            let router = routes.router_mut(domain).map_err(invalid)?;
            router.insert(kind.clone(), pattern, target.clone()).map_err(invalid)
        })?;
        drop((replaced, target));
        self.app.sweep_handlers();
        Ok(parsed.is_reachable())
    }
}
