//! `Request`: the request, for handlers. It owns its data and stays valid while it is referenced.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::LocalKey;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};

use crate::http::query;
use crate::py::body::Body;
use crate::py::bridge::PyApp;
use crate::py::calling::{call, call_named, call_with, truth};
use crate::py::classes::Replaceable;
use crate::py::convert::text;
use crate::py::door::door;
use crate::py::message;
use crate::py::response::Response;
use crate::py::tls;
use crate::server::Exchange;

/// One HTTP request. Its data is copied out of the connection, so every method works while the object lives,
/// also after an `await` and after the response.
#[pyclass(frozen, dict, weakref, subclass, module = "socketify")]
pub(crate) struct Request {
    exchange: Arc<Exchange>,
    /// How often a task has taken over the request.
    handed_over: AtomicU32,
}

impl Request {
    pub(crate) fn new(exchange: Arc<Exchange>) -> Self {
        Self { exchange, handed_over: AtomicU32::new(0) }
    }

    /// How often a task has taken over: the caller of a handler compares it.
    pub(crate) fn handed_over(&self) -> u32 {
        self.handed_over.load(Ordering::Relaxed)
    }

    /// What the package reads the body with.
    fn read(&self) -> Body {
        Body::of(&self.exchange)
    }

    pub(crate) fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }
}

/// A parameter, by its index or by its name.
#[derive(FromPyObject)]
enum Place<'py> {
    Index(isize),
    Name(Bound<'py, PyString>),
}

thread_local! {
    static NEXT: Cell<Option<Request>> = const { Cell::new(None) };
}

impl Replaceable for Request {
    fn next() -> &'static LocalKey<Cell<Option<Self>>> {
        &NEXT
    }
}

#[pymethods]
impl Request {
    #[new]
    fn create() -> PyResult<Self> {
        Self::take_next()
    }

    /// The application that serves this request.
    #[getter]
    fn app(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        PyApp::of(&self.exchange).map(|app| app.application(py))
    }

    fn get_method<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        text(py, self.exchange.method())
    }

    fn get_url<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        text(py, self.exchange.path())
    }

    fn get_full_url<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        text(py, self.exchange.path_and_query())
    }

    fn get_header<'py>(
        &self,
        py: Python<'py>,
        lower_case_header: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyString>>> {
        let name = message::header_name(PyApp::of(&self.exchange), lower_case_header)?;
        Ok(self.exchange.header(&name).map(|value| text(py, &value)))
    }

    fn get_headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let headers = PyDict::new(py);
        for (name, _) in self.exchange.headers() {
            let name = name.to_ascii_lowercase();
            let key = text(py, &name);
            if !headers.contains(&key)?
                && let Some(value) = self.exchange.header(&name)
            {
                headers.set_item(key, text(py, &value))?;
            }
        }
        Ok(headers)
    }

    fn for_each_header<'py>(
        slf: Bound<'py, Self>,
        handler: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = slf.py();
        let app = PyApp::of(&slf.get().exchange);
        if app.is_some_and(|app| app.is_coroutine(py, &handler.clone().unbind())) {
            call_with(door(py).log_async_refused.bind(py), ("for_each_header", handler))?;
            return Ok(slf);
        }
        for (name, value) in slf.get().exchange.headers() {
            let name = text(py, &name.to_ascii_lowercase());
            if let Err(error) = call(handler, [&name, &text(py, value)]) {
                PyApp::log_callback(py, "for_each_header", &error, handler);
            }
        }
        Ok(slf)
    }

    #[pyo3(signature = (key, /))]
    fn get_query<'py>(
        &self,
        py: Python<'py>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyString>>> {
        let key = message::key(key, "query key")?;
        let found = self.exchange.query().and_then(|all| query::first(all, &key));
        Ok(found.map(|value| PyString::new(py, &String::from_utf8_lossy(&value))))
    }

    fn get_queries<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let queries = PyDict::new(py);
        for (key, value) in query::pairs(self.exchange.query().unwrap_or_default()) {
            let key = PyString::new(py, &String::from_utf8_lossy(&key));
            let value = PyString::new(py, &String::from_utf8_lossy(&value));
            match queries.get_item(&key)? {
                Some(values) => values.cast_into::<PyList>()?.append(value)?,
                None => queries.set_item(key, PyList::new(py, [value])?)?,
            }
        }
        Ok(queries)
    }

    #[pyo3(signature = (index = None))]
    fn get_parameters<'py>(
        &self,
        py: Python<'py>,
        index: Option<Place<'py>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(place) = index {
            return Ok(self.get_parameter(py, place)?.map(Bound::into_any));
        }
        let all = (0..self.exchange.parameter_count()).filter_map(|index| self.exchange.parameter(index));
        Ok(Some(PyList::new(py, all.map(|value| text(py, value)).collect::<Vec<_>>())?.into_any()))
    }

    fn get_parameter<'py>(
        &self,
        py: Python<'py>,
        index: Place<'py>,
    ) -> PyResult<Option<Bound<'py, PyString>>> {
        let value = match index {
            Place::Index(index) => {
                usize::try_from(index).ok().and_then(|index| self.exchange.parameter(index))
            }
            Place::Name(name) => self.exchange.parameter_named(name.to_str()?),
        };
        Ok(value.map(|value| text(py, value)))
    }

    fn get_cookie<'py>(slf: &Bound<'py, Self>, name: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        call_with(door(slf.py()).cookies.get(slf.py())?.get_cookie.bind(slf.py()), (slf, name))
    }

    fn get_cookies<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        call_with(door(slf.py()).cookies.get(slf.py())?.get_cookies.bind(slf.py()), (slf,))
    }

    // ---- body ---------------------------------------------------------------------------------------------------

    fn body<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        call_with(door(py).strict_bodies.get(py)?.read_body.bind(py), (self.read(),))
    }

    #[pyo3(signature = (encoding = None))]
    fn text<'py>(slf: &Bound<'py, Self>, encoding: Option<&str>) -> PyResult<Bound<'py, PyAny>> {
        call_with(
            door(slf.py()).strict_bodies.get(slf.py())?.read_text.bind(slf.py()),
            (slf, slf.get().read(), encoding),
        )
    }

    #[pyo3(signature = (**limits))]
    fn json<'py>(&self, py: Python<'py>, limits: Option<&Bound<'py, PyDict>>) -> PyResult<Bound<'py, PyAny>> {
        let serializer = PyApp::of(&self.exchange).map(|app| app.serializer(py));
        call_named(door(py).strict_bodies.get(py)?.read_json.bind(py), (self.read(), serializer), limits)
    }

    fn stream<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        call_with(door(py).strict_bodies.get(py)?.read_stream.bind(py), (self.read(),))
    }

    #[pyo3(signature = (**limits))]
    fn form<'py>(slf: &Bound<'py, Self>, limits: Option<&Bound<'py, PyDict>>) -> PyResult<Bound<'py, PyAny>> {
        call_named(
            door(slf.py()).forms.get(slf.py())?.form_reader.bind(slf.py()),
            (slf, slf.get().read()),
            limits,
        )
    }

    #[pyo3(signature = (**limits))]
    fn multipart<'py>(
        slf: &Bound<'py, Self>,
        limits: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        call_named(
            door(slf.py()).multipart.get(slf.py())?.multipart.bind(slf.py()),
            (slf, slf.get().read()),
            limits,
        )
    }

    fn preserve(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn set_yield(slf: Bound<'_, Self>, #[pyo3(from_py_with = truth)] has_yield: bool) -> Bound<'_, Self> {
        slf.get().exchange.set_yield(has_yield);
        slf
    }

    fn get_yield(&self) -> bool {
        self.exchange.is_yielded()
    }

    /// A task is about to take over from the running handler: it decides whether the request yields.
    fn _hand_over(&self) {
        self.handed_over.fetch_add(1, Ordering::Relaxed);
    }

    /// The coroutine that served this request has ended. True when it yielded: then [`Request::_go_on`] follows.
    fn _end(&self) -> bool {
        let yielded = self.exchange.is_yielded();
        if !yielded {
            self.exchange.end_work();
        }
        yielded
    }

    /// The coroutine that served this request has failed.
    fn _end_failed(&self) {
        self.exchange.end_work();
    }

    /// The next handler is called.
    fn _go_on(slf: &Bound<'_, Self>, response: Py<Response>) {
        if let Some(app) = PyApp::of(&slf.get().exchange) {
            app.go_on(slf.py(), response, slf.clone().unbind());
        }
    }

    fn get_client_address(&self) -> Option<String> {
        self.exchange.origin().address.map(|address| address.to_string())
    }

    fn get_client_scheme(&self) -> String {
        let own = if self.exchange.secure().is_some() { "https" } else { "http" };
        self.exchange.origin().scheme.unwrap_or_else(|| own.into())
    }

    fn get_client_host<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyString>> {
        match self.exchange.origin().host {
            Some(host) => Some(PyString::new(py, &host)),
            None => self.exchange.authority().filter(|host| !host.is_empty()).map(|host| text(py, host)),
        }
    }

    // ---- TLS ----------------------------------------------------------------------------------------------------

    fn is_secure(&self) -> bool {
        self.exchange.secure().is_some()
    }

    fn get_tls_version(&self) -> Option<&'static str> {
        tls::version(self.exchange.secure())
    }

    fn get_tls_cipher(&self) -> Option<&'static str> {
        tls::cipher(self.exchange.secure())
    }

    fn get_peer_certificate<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        tls::peer_certificate(py, self.exchange.secure())
    }

    fn get_peer_subject(&self) -> Option<String> {
        tls::peer_subject(self.exchange.secure())
    }

    // ---- other --------------------------------------------------------------------------------------------------

    fn is_ancient(&self) -> bool {
        self.exchange.version_minor() == 0
    }

    fn __repr__(&self) -> String {
        let (method, target) = (self.exchange.method(), self.exchange.target());
        format!("<Request {} {}>", String::from_utf8_lossy(method), String::from_utf8_lossy(target))
    }

    // The instance dictionary may hold cycles; PyO3 visits it once a class takes part in collection.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the signature is the protocol's")]
    fn __traverse__(&self, _visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        Ok(())
    }

    #[expect(clippy::unused_self, reason = "the signature is the protocol's")]
    fn __clear__(&self) {}
}
