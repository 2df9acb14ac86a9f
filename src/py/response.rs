//! `Response`: the answer as handlers see it. Every method may be called from any thread at any time; once the answer is
//! complete or the client is gone it does nothing and gives its neutral value.

use std::any::Any;
use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::LocalKey;

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyInt, PyString, PyTuple};

use crate::http::location;
use crate::http::response::{HeadError, Known};
use crate::http::status;
use crate::py::bridge::PyApp;
use crate::py::calling::{attribute, call, call_named, call_with, items, method, shown, truth, type_name};
use crate::py::classes::Replaceable;
use crate::py::contexts::current_context;
use crate::py::convert::{address_bytes, address_text, text};
use crate::py::cors::CorsPolicy;
use crate::py::futures::set_result;
use crate::py::listeners::{Callback, Listeners};
use crate::py::message::{self, Payload};
use crate::py::sockets::Attached;
use crate::server::{Attempt, Exchange, Pull, Sending};

/// The answer to one HTTP request.
#[pyclass(frozen, dict, weakref, subclass, module = "socketify")]
pub(crate) struct Response {
    exchange: Arc<Exchange>,
}

impl From<HeadError> for PyErr {
    /// The one place where a head's errors become Python's: what the original raised for a status is a `RuntimeError`.
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::StatusCode { .. } | HeadError::StatusText { .. } => {
                PyRuntimeError::new_err(error.to_string())
            }
            _ => PyValueError::new_err(error.to_string()),
        }
    }
}

/// Bytes that are copied to the kernel without holding the interpreter.
const SLOW_TO_SEND: usize = 256 * 1024;
/// The same where they may be compressed, which takes ten times as long.
const SLOW_TO_ENCODE: usize = 8 * 1024;

type Slf<'py> = Bound<'py, Response>;

impl Response {
    pub(crate) fn new(exchange: Arc<Exchange>) -> Self {
        Self { exchange }
    }

    /// Whether the answer is to have no body (RFC 9110 section 9.3.2).
    fn is_head(&self) -> bool {
        self.exchange.method() == b"HEAD"
    }

    fn python(&self) -> PyResult<&PyApp> {
        PyApp::of(&self.exchange)
            .ok_or_else(|| PyRuntimeError::new_err("the response belongs to no application"))
    }

    /// A message as bytes; one that went through JSON sets its Content-Type.
    fn body<'py>(&self, message: &Bound<'py, PyAny>) -> PyResult<Payload<'py>> {
        let (payload, json) = message::payload(self.python()?, message)?;
        if json && !self.exchange.has_header(Known::ContentType) {
            self.exchange.add_header(b"Content-Type", b"application/json")?;
        }
        Ok(payload)
    }

    fn status(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        if value.is_instance_of::<PyInt>() && !value.is_instance_of::<PyBool>() {
            let known = |code: &u16| *code == 101 || (*code >= 200 && status::reason(*code).is_some());
            let Some(code) = value.extract::<u16>().ok().filter(known) else {
                return Err(PyRuntimeError::new_err(format!(
                    "{} is not the status of an answer: expected a number of status_codes from 200, or a text such as \
                     '299 Custom' (write_continue() writes a 100)",
                    shown(value)
                )));
            };
            return Ok(self.exchange.set_status(code)?);
        }
        let text = message::field(self.python()?, value)?;
        let text = text.as_bytes()?;
        if text.starts_with(b"1") && !text.starts_with(b"101") {
            // The client would take it for an interim answer, and wait for another.
            return Err(PyRuntimeError::new_err(format!(
                "{} is not the status of an answer: expected a code from 200 (write_continue() writes a 100)",
                shown(value)
            )));
        }
        Ok(self.exchange.set_status_text(text)?)
    }

    fn header(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let app = self.python()?;
        let (name, value) = (message::field(app, key)?, message::field(app, value)?);
        Ok(self.exchange.add_header(name.as_bytes()?, value.as_bytes()?)?)
    }

    fn headers(&self, pairs: &Bound<'_, PyAny>) -> PyResult<()> {
        for pair in items(pairs)? {
            let pair = pair?;
            let mut parts = items(&pair)?;
            let (Some(name), Some(value), None) = (parts.next(), parts.next(), parts.next()) else {
                return Err(PyValueError::new_err(format!(
                    "{} is not a header: expected a (name, value) pair",
                    shown(&pair)
                )));
            };
            self.header(&name?, &value?)?;
        }
        Ok(())
    }

    /// Nothing is wrong any more with what is written into an answer that is over (A-CALL-10).
    fn unless_over(&self, result: PyResult<()>) -> PyResult<()> {
        if result.is_err() && self.exchange.is_over() { Ok(()) } else { result }
    }

    fn finish(&self, payload: &[u8], close: bool) {
        self.exchange.end(payload, close);
        Listeners::finish(&self.exchange);
    }

    fn finish_empty(&self, close: bool) {
        self.exchange.end_empty(close);
        Listeners::finish(&self.exchange);
    }

    /// A large payload is written without holding the interpreter: copying megabytes to the kernel takes its time.
    fn finish_with(&self, py: Python<'_>, payload: &Payload<'_>, close: bool) -> PyResult<()> {
        let bytes = payload.as_bytes()?;
        if bytes.len() > if self.exchange.compresses() { SLOW_TO_ENCODE } else { SLOW_TO_SEND } {
            py.detach(|| self.exchange.end(bytes, close));
            Listeners::finish(&self.exchange);
        } else {
            self.finish(bytes, close);
        }
        Ok(())
    }

    /// Whether `handler` can be called; what cannot is ignored, as in the original, when the exchange is over.
    fn callback(&self, py: Python<'_>, handler: &Bound<'_, PyAny>) -> PyResult<Option<Callback>> {
        if !handler.is_callable() || self.exchange.is_over() {
            return Ok(None);
        }
        let app = self.python()?;
        let callable = handler.clone().unbind();
        let lane = app.lane(app.is_coroutine(py, &callable));
        Ok(Some(Callback { callable, lane, context: current_context(py)? }))
    }

    fn attempted(&self, attempt: Attempt) {
        if attempt.over {
            Listeners::finish(&self.exchange);
        }
    }
}

thread_local! {
    static NEXT: Cell<Option<Response>> = const { Cell::new(None) };
}

impl Replaceable for Response {
    fn next() -> &'static LocalKey<Cell<Option<Self>>> {
        &NEXT
    }
}

#[pymethods]
impl Response {
    #[new]
    fn create() -> PyResult<Self> {
        Self::take_next()
    }

    /// The application that answers.
    #[getter]
    fn app(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        PyApp::of(&self.exchange).map(|app| app.application(py))
    }

    #[getter]
    fn aborted(&self) -> bool {
        self.exchange.is_aborted()
    }

    #[setter]
    fn set_aborted(&self, #[pyo3(from_py_with = truth)] aborted: bool) {
        self.exchange.set_aborted(aborted);
    }

    // ---- head ---------------------------------------------------------------------------------------------------

    fn write_status<'py>(slf: Slf<'py>, status_or_status_text: &Bound<'py, PyAny>) -> PyResult<Slf<'py>> {
        let this = slf.get();
        this.unless_over(this.status(status_or_status_text))?;
        Ok(slf)
    }

    fn write_header<'py>(
        slf: Slf<'py>,
        key: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Slf<'py>> {
        let this = slf.get();
        this.unless_over(this.header(key, value))?;
        Ok(slf)
    }

    fn write_headers<'py>(slf: Slf<'py>, headers: &Bound<'py, PyAny>) -> PyResult<Slf<'py>> {
        let this = slf.get();
        this.unless_over(this.headers(headers))?;
        Ok(slf)
    }

    #[pyo3(signature = (name, value, options = None))]
    fn set_cookie<'py>(
        slf: Slf<'py>,
        name: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
        options: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Slf<'py>> {
        let line = call_with(&PyApp::helper(slf.py(), "cookies", "format_cookie")?, (name, value, options))?;
        let line = line.cast::<PyString>()?.to_str()?;
        slf.get().exchange.add_header(b"Set-Cookie", line.as_bytes())?;
        Ok(slf)
    }

    fn write_continue(slf: Slf<'_>) -> Slf<'_> {
        slf.get().exchange.write_continue();
        slf
    }

    // ---- body ---------------------------------------------------------------------------------------------------

    #[pyo3(signature = (message, end_connection = false))]
    fn end<'py>(
        slf: Slf<'py>,
        message: &Bound<'py, PyAny>,
        #[pyo3(from_py_with = truth)] end_connection: bool,
    ) -> PyResult<Slf<'py>> {
        let this = slf.get();
        if let Ok(bytes) = message.cast::<PyBytes>() {
            this.finish_with(slf.py(), &Payload::Bytes(bytes.clone()), end_connection)?;
        } else if message.is_none() {
            this.finish_empty(end_connection);
        } else if !this.exchange.is_over() {
            this.finish_with(slf.py(), &this.body(message)?, end_connection)?;
        }
        Ok(slf)
    }

    #[pyo3(signature = (message, end_connection = false))]
    fn cork_end<'py>(
        slf: Slf<'py>,
        message: &Bound<'py, PyAny>,
        #[pyo3(from_py_with = truth)] end_connection: bool,
    ) -> PyResult<Slf<'py>> {
        Self::end(slf, message, end_connection)
    }

    #[pyo3(signature = (message = None, content_type = None, status = None, headers = None, end_connection = false))]
    fn send<'py>(
        slf: Slf<'py>,
        message: Option<&Bound<'py, PyAny>>,
        content_type: Option<&Bound<'py, PyAny>>,
        status: Option<&Bound<'py, PyAny>>,
        headers: Option<&Bound<'py, PyAny>>,
        #[pyo3(from_py_with = truth)] end_connection: bool,
    ) -> PyResult<Slf<'py>> {
        let this = slf.get();
        if this.exchange.is_over() {
            return Ok(slf);
        }
        let message = message.filter(|message| !message.is_none());
        // JSON first: whatever fails here leaves nothing half said.
        let body = match message {
            Some(message) => Some(message::payload(this.python()?, message)?),
            None => None,
        };
        if let Some(status) = status.filter(|status| !status.is_none()) {
            this.status(status)?;
        }
        if let Some(headers) = headers.filter(|headers| !headers.is_none()) {
            this.headers(headers)?;
        }
        // After them, so that a type among them is the only one.
        if !this.exchange.has_header(Known::ContentType) {
            let given = content_type.filter(|given| !given.is_none());
            match (&body, given) {
                (Some((_, true)), _) => this.exchange.add_header(b"Content-Type", b"application/json")?,
                (_, Some(given)) => {
                    let value = message::field(this.python()?, given)?;
                    this.exchange.add_header(b"Content-Type", value.as_bytes()?)?;
                }
                (_, None) => this.exchange.add_header(b"Content-Type", b"text/plain")?,
            }
        }
        match &body {
            Some((payload, _)) => this.finish_with(slf.py(), payload, end_connection)?,
            None => this.finish_empty(end_connection),
        }
        Ok(slf)
    }

    #[pyo3(signature = (message, content_type = None, status = None, headers = None, end_connection = false))]
    fn cork_send<'py>(
        slf: Slf<'py>,
        message: &Bound<'py, PyAny>,
        content_type: Option<&Bound<'py, PyAny>>,
        status: Option<&Bound<'py, PyAny>>,
        headers: Option<&Bound<'py, PyAny>>,
        #[pyo3(from_py_with = truth)] end_connection: bool,
    ) -> PyResult<Slf<'py>> {
        Self::send(slf, Some(message), content_type, status, headers, end_connection)
    }

    #[pyo3(signature = (end_connection = false))]
    fn end_without_body(slf: Slf<'_>, #[pyo3(from_py_with = truth)] end_connection: bool) -> Slf<'_> {
        slf.get().finish_empty(end_connection);
        slf
    }

    #[pyo3(signature = (location, status_code = None))]
    fn redirect<'py>(
        slf: Slf<'py>,
        location: &Bound<'py, PyAny>,
        status_code: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Slf<'py>> {
        let this = slf.get();
        if this.exchange.is_over() {
            return Ok(slf);
        }
        match status_code {
            Some(code) => this.status(code)?,
            None => this.exchange.set_status(302)?,
        }
        let value = message::field(this.python()?, location)?;
        this.exchange.add_header(b"Location", &location::encoded(value.as_bytes()?))?;
        this.finish_empty(false);
        Ok(slf)
    }

    fn write<'py>(slf: Slf<'py>, message: &Bound<'py, PyAny>) -> PyResult<Slf<'py>> {
        let this = slf.get();
        if this.exchange.is_over() {
            return Ok(slf);
        }
        let app = this.python()?;
        let (payload, _) = message::payload(app, message)?;
        app.cork(slf.py(), &this.exchange);
        let bytes = payload.as_bytes()?;
        if bytes.len() > SLOW_TO_ENCODE && this.exchange.compresses() {
            slf.py().detach(|| this.exchange.write(bytes));
        } else {
            this.exchange.write(bytes);
        }
        Ok(slf)
    }

    #[pyo3(signature = (message, total_size, end_connection = false))]
    fn try_end(
        &self,
        message: &Bound<'_, PyAny>,
        total_size: u64,
        #[pyo3(from_py_with = truth)] end_connection: bool,
    ) -> PyResult<(bool, bool)> {
        let Some(payload) = message::raw(message)? else { return Ok((false, true)) };
        let attempt = self.exchange.try_end(payload.as_bytes()?, total_size, end_connection);
        self.attempted(attempt);
        Ok((attempt.taken, attempt.over))
    }

    fn send_chunk<'py>(
        slf: &Slf<'py>,
        buffer: &Bound<'py, PyAny>,
        total_size: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (this, py) = (slf.get(), slf.py());
        let Some(payload) = message::raw(buffer)? else {
            let name = type_name(buffer);
            return Err(PyTypeError::new_err(format!("send_chunk() takes str or bytes, not {name}")));
        };
        let future = this.python()?.create_future(py)?;
        let bytes = payload.as_bytes()?;
        let attempt = py.detach(|| this.exchange.send_chunk(bytes, total_size));
        this.attempted(attempt);
        let now = match attempt {
            Attempt { over: true, .. } => (this.exchange.has_responded(), true),
            _ if !attempt.taken => {
                let (room, gone) = (pair(py, true, false)?, pair(py, false, true)?);
                this.await_room(py, &future, &room, &gone)?;
                return Ok(future);
            }
            _ => (true, false),
        };
        set_result(&future, pair(py, now.0, now.1)?.bind(py))?;
        Ok(future)
    }

    fn drain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let future = self.python()?.create_future(py)?;
        self.await_room(py, &future, &py.None(), &py.None())?;
        Ok(future)
    }

    #[pyo3(signature = (path, content_type = None))]
    fn send_file<'py>(
        &self,
        py: Python<'py>,
        path: PathBuf,
        content_type: Option<String>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (kind, coding): (Option<String>, Option<String>) = match content_type {
            None => call_with(&PyApp::helper(py, "static", "media_type")?, (&path,))?.extract()?,
            given => (given, None),
        };
        let future = self.python()?.create_future(py)?;
        match py.detach(|| self.exchange.send_file(path, kind.map(Into::into), coding.map(Into::into))) {
            Sending::Done => {
                self.release_if_over();
                set_result(&future, py.None().bind(py))?;
            }
            Sending::UnderWay => {
                if let Some(listeners) = Listeners::of(&self.exchange) {
                    listeners.await_sent(future.clone().unbind());
                    // It may have left while we came here.
                    if !self.exchange.is_leaving() {
                        self.exchange.server().signal(&self.exchange, crate::app::Signal::Sent);
                    }
                }
            }
            Sending::Begun => {
                return Err(PyRuntimeError::new_err("a file cannot be sent: the answer has begun"));
            }
        }
        Ok(future)
    }

    fn get_write_offset(&self) -> u64 {
        self.exchange.write_offset()
    }

    fn write_offset(slf: Slf<'_>, offset: u64) -> Slf<'_> {
        slf.get().exchange.set_write_offset(offset);
        slf
    }

    fn get_buffered_amount(&self) -> usize {
        self.exchange.buffered()
    }

    fn cork<'py>(slf: Slf<'py>, callback: &Bound<'py, PyAny>) -> PyResult<Slf<'py>> {
        let (this, py) = (slf.get(), slf.py());
        if this.exchange.is_over() {
            return Ok(slf);
        }
        if this.python()?.is_coroutine(py, &callback.clone().unbind()) {
            call_with(&PyApp::helper(py, "error_log", "log_async_refused")?, ("cork", callback))?;
            return Ok(slf);
        }
        let outermost = this.exchange.cork();
        let result = call(callback, [&slf]);
        if outermost {
            this.exchange.uncork();
        }
        // Only logged, it would leave the client without an answer: it is the handler's failure (I-C-24).
        result?;
        Ok(slf)
    }

    // ---- streams ------------------------------------------------------------------------------------------------

    #[pyo3(signature = (iterable, content_type = None, status = None, headers = None))]
    fn stream<'py>(
        slf: &Slf<'py>,
        iterable: &Bound<'py, PyAny>,
        content_type: Option<&Bound<'py, PyAny>>,
        status: Option<&Bound<'py, PyAny>>,
        headers: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let arguments = (slf, iterable, content_type, status, headers, slf.get().is_head());
        call_with(&PyApp::helper(slf.py(), "streams", "stream")?, arguments)
    }

    /// Sets what the head of a stream says; a type that was written before, or is among the headers, is the only one.
    /// None for the type leaves it open.
    #[pyo3(signature = (content_type, status, headers))]
    fn _begin_stream(
        &self,
        content_type: Option<&str>,
        status: Option<&Bound<'_, PyAny>>,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        if let Some(status) = status {
            self.unless_over(self.status(status))?;
        }
        if let Some(headers) = headers {
            self.unless_over(self.headers(headers))?;
        }
        if let Some(kind) = content_type
            && !self.exchange.has_header(Known::ContentType)
        {
            self.exchange.add_header(b"Content-Type", kind.as_bytes())?;
        }
        Ok(())
    }

    /// Ends the answer to a HEAD request where GET would get a stream.
    fn _end_stream_unseen(&self) {
        self.exchange.end_pieces_unseen();
        Listeners::finish(&self.exchange);
    }

    #[pyo3(signature = (keep_alive = 15.0, headers = None))]
    fn events<'py>(
        slf: &Slf<'py>,
        keep_alive: f64,
        headers: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (this, py) = (slf.get(), slf.py());
        let last = this.exchange.header(b"last-event-id").map(|value| text(py, &value));
        call_with(
            &PyApp::helper(py, "events", "EventStream")?,
            (slf, keep_alive, headers, last, this.is_head()),
        )
    }

    #[pyo3(signature = (iterable, keep_alive = 15.0, headers = None))]
    fn send_events<'py>(
        slf: &Slf<'py>,
        iterable: &Bound<'py, PyAny>,
        keep_alive: f64,
        headers: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let events = Self::events(slf, keep_alive, headers)?;
        call_with(&PyApp::helper(slf.py(), "events", "send_all")?, (events, iterable))
    }

    // ---- state --------------------------------------------------------------------------------------------------

    #[pyo3(signature = (
        sec_web_socket_key, sec_web_socket_protocol, sec_web_socket_extensions, socket_context, user_data = None
    ))]
    fn upgrade(
        &self,
        py: Python<'_>,
        sec_web_socket_key: &Bound<'_, PyAny>,
        sec_web_socket_protocol: &Bound<'_, PyAny>,
        sec_web_socket_extensions: &Bound<'_, PyAny>,
        socket_context: &Bound<'_, PyAny>,
        user_data: Option<Py<PyAny>>,
    ) -> PyResult<bool> {
        let _ = socket_context;
        let app = self.python()?;
        // Anything that is not text stands for a header that is not there (A-RES-30).
        let bytes = |value: &Bound<'_, PyAny>| match message::raw(value)? {
            Some(text) => Ok::<_, PyErr>(text.as_bytes()?.to_vec()),
            None => Ok(Vec::new()),
        };
        let (key, protocol) = (bytes(sec_web_socket_key)?, bytes(sec_web_socket_protocol)?);
        let extensions = bytes(sec_web_socket_extensions)?;
        let user = user_data.map(|data| Box::new(Attached::with(data)) as Box<dyn Any + Send + Sync>);
        let upgraded = self
            .exchange
            .upgrade(&key, &protocol, &extensions, user)
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        let Some(socket) = upgraded else {
            self.release_if_over();
            return Ok(false);
        };
        Listeners::finish(&self.exchange);
        app.flush_soon(py);
        // The open callback runs inside this call, where it may.
        if let Some(lane) = app.current_lane() {
            app.converse(py, &socket, lane);
        }
        app.flush_soon(py);
        Ok(true)
    }

    fn has_responded(&self) -> bool {
        // A client that shut its sending side counts as gone, and still gets what it asked for.
        self.exchange.has_responded() && !self.exchange.is_aborted()
    }

    fn close(slf: Slf<'_>) -> Slf<'_> {
        slf.get().exchange.close();
        slf
    }

    fn grab_aborted_handler(slf: Slf<'_>) -> Slf<'_> {
        slf
    }

    fn on_aborted<'py>(slf: Slf<'py>, handler: &Bound<'py, PyAny>) -> PyResult<Slf<'py>> {
        let this = slf.get();
        if let (Some(callback), Some(listeners)) =
            (this.callback(slf.py(), handler)?, Listeners::of(&this.exchange))
        {
            listeners.on_aborted(slf.clone().unbind(), callback);
            // It may have gone between the check and the registration: then nobody will say so any more.
            this.release_if_over();
        }
        Ok(slf)
    }

    fn on_data<'py>(slf: Slf<'py>, handler: &Bound<'py, PyAny>) -> PyResult<Slf<'py>> {
        let this = slf.get();
        if let (Some(callback), Some(listeners)) =
            (this.callback(slf.py(), handler)?, Listeners::of(&this.exchange))
        {
            listeners.on_data(slf.clone().unbind(), callback);
            this.exchange.read_pieces();
            this.release_if_over();
        }
        Ok(slf)
    }

    fn on_writable<'py>(slf: Slf<'py>, handler: &Bound<'py, PyAny>) -> PyResult<Slf<'py>> {
        let (this, py) = (slf.get(), slf.py());
        let app = this.python()?;
        if app.is_coroutine(py, &handler.clone().unbind()) {
            call_with(&PyApp::helper(py, "error_log", "log_async_refused")?, ("on_writable", handler))?;
            return Ok(slf);
        }
        if let (Some(callback), Some(listeners)) =
            (this.callback(py, handler)?, Listeners::of(&this.exchange))
        {
            listeners.on_writable(slf.clone().unbind(), callback);
            if !this.exchange.watch_writable() && !this.exchange.is_over() {
                // There is room again already.
                this.exchange.server().signal(&this.exchange, crate::app::Signal::Writable);
            }
            this.release_if_over();
        }
        Ok(slf)
    }

    fn pause(slf: Slf<'_>) -> Slf<'_> {
        slf.get().exchange.set_paused(true);
        slf
    }

    fn resume(slf: Slf<'_>) -> Slf<'_> {
        slf.get().exchange.set_paused(false);
        slf
    }

    // ---- the request's body -------------------------------------------------------------------------------------

    fn get_data<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let app = self.python()?;
        let future = app.create_future(py)?;
        if let Some(body) = self.take_now(py) {
            set_result(&future, PyApp::bytes_io(py, &body)?.bind(py))?;
        } else if let Some(listeners) = Listeners::of(&self.exchange) {
            listeners.await_whole(&self.exchange, &future)?;
            if !self.exchange.read_whole() {
                self.exchange.server().signal(&self.exchange, crate::app::Signal::Aborted);
            }
        }
        Ok(future)
    }

    /// The whole body if it is here, else None.
    fn _take_body(&self, py: Python<'_>) -> Option<Py<PyBytes>> {
        self.take_now(py)
    }

    /// A piece of the body has been dealt with.
    fn _resume_body(&self) {
        self.exchange.resume_body();
    }

    /// The whole body if it is here and has not been handed out in pieces, else None.
    fn _whole_body(&self, py: Python<'_>) -> PyResult<Option<Py<PyBytes>>> {
        match Listeners::of(&self.exchange) {
            Some(listeners) if listeners.is_in_pieces() => Err(PyRuntimeError::new_err(
                "the body of this request has been read in pieces, so it cannot be had whole any more: go on with stream()",
            )),
            Some(listeners) if listeners.is_partial() => Ok(None),
            _ => Ok(self.take_now(py)),
        }
    }

    /// The next piece of the body: `(bytes, is_end)`, None when there will never be one, or a future: when it is done, ask
    /// again. What somebody has read whole is one piece.
    fn _read_piece<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let none = || py.None().into_bound(py);
        let Some(listeners) = Listeners::of(&self.exchange) else { return Ok(none()) };
        if !listeners.begin_pieces(py, &self.exchange) {
            return Err(PyRuntimeError::new_err(
                "the body of this request is being read already, as a whole, by on_data() or in another task: one at a time",
            ));
        }
        if let Some(body) = listeners.body(py) {
            return if listeners.is_partial() {
                Ok(none())
            } else {
                Ok((body, true).into_pyobject(py)?.into_any())
            };
        }
        match self.exchange.pull() {
            Pull::Piece(bytes, last) => Ok((PyBytes::new(py, &bytes), last).into_pyobject(py)?.into_any()),
            Pull::Over => Ok(none()),
            Pull::Later => {
                let future = self.python()?.create_future(py)?;
                listeners.await_piece(&self.exchange, &future)?;
                if !self.exchange.read_pieces() {
                    self.exchange.server().signal(&self.exchange, crate::app::Signal::Aborted);
                }
                Ok(future)
            }
        }
    }

    /// A future that is done when the answer is complete or the client has gone.
    fn _ended<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let future = self.python()?.create_future(py)?;
        if let Some(listeners) = Listeners::of(&self.exchange) {
            listeners.await_end(py, future.clone().unbind());
            if self.exchange.is_over() || self.exchange.is_aborted() {
                self.exchange.server().signal(&self.exchange, crate::app::Signal::Aborted);
            }
        }
        Ok(future)
    }

    #[pyo3(signature = (encoding = "utf-8"))]
    fn get_text<'py>(slf: Slf<'py>, encoding: &str) -> PyResult<Bound<'py, PyAny>> {
        call_with(&PyApp::helper(slf.py(), "lenient_bodies", "get_text")?, (slf, encoding))
    }

    #[pyo3(signature = (**limits))]
    fn get_json<'py>(slf: Slf<'py>, limits: Option<&Bound<'py, PyDict>>) -> PyResult<Bound<'py, PyAny>> {
        let serializer = slf.get().python()?.serializer(slf.py());
        call_named(&PyApp::helper(slf.py(), "lenient_bodies", "get_json")?, (slf, serializer), limits)
    }

    #[pyo3(signature = (encoding = "utf-8", **limits))]
    fn get_form_urlencoded<'py>(
        slf: Slf<'py>,
        encoding: &str,
        limits: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        call_named(
            &PyApp::helper(slf.py(), "lenient_bodies", "get_form_urlencoded")?,
            (slf, encoding),
            limits,
        )
    }

    // ---- others -------------------------------------------------------------------------------------------------

    fn run_async<'py>(slf: Slf<'py>, task: &Bound<'py, PyAny>) -> PyResult<Slf<'py>> {
        let app = slf.get().python()?.application(slf.py());
        method(app.bind(slf.py()), intern!(slf.py(), "run_async"), [task, &slf])?;
        Ok(slf)
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn render<'py>(
        slf: Slf<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Slf<'py>> {
        let (this, py) = (slf.get(), slf.py());
        if this.exchange.is_over() {
            return Ok(slf);
        }
        let app = this.python()?.application(py);
        let page = call_named(&attribute(app.bind(py), intern!(py, "_render"))?, args, kwargs)?;
        if !this.exchange.has_header(Known::ContentType) {
            this.exchange.add_header(b"Content-Type", b"text/html")?;
        }
        Self::end(slf, &page, false)
    }

    fn get_remote_address(&self) -> Option<String> {
        self.exchange.peer().map(address_text)
    }

    fn get_remote_address_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        self.exchange.peer().map_or_else(|| PyBytes::new(py, b""), |address| address_bytes(py, address))
    }

    fn get_proxied_remote_address(&self) -> Option<String> {
        self.exchange.proxied_peer().map(address_text)
    }

    fn get_proxied_remote_address_bytes<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.exchange.proxied_peer().map(|address| address_bytes(py, address))
    }

    fn get_native_handle(&self) -> i64 {
        self.exchange.descriptor()
    }

    /// Something works on the answer that runs on when the handler has returned.
    fn _begin_work(&self) {
        self.exchange.begin_work();
    }

    /// It has ended.
    fn _end_work(&self) {
        self.exchange.end_work();
    }

    /// An error answer in place of what was not said yet. On the loop it leaves at the end of the turn, whatever user code, such
    /// as what logs, does until then.
    #[pyo3(name = "_fail")]
    pub(crate) fn fail(&self, py: Python<'_>) {
        if let Some(app) = PyApp::of(&self.exchange) {
            app.cork(py, &self.exchange);
        }
        if !self.exchange.cut_if_started() {
            self.exchange.reset_head();
            let text = status::reason(500).map_or("", |_| "Internal Error");
            // Both are valid; were they not, the answer would be a 200 with the same text.
            let _ = self.exchange.set_status(500);
            let _ = self.exchange.add_header(b"Content-Type", b"text/plain");
            self.finish(text.as_bytes(), false);
        }
    }

    /// Sets a header that goes with whatever the answer is, an error included.
    fn _keep_header(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let app = self.python()?;
        let (name, value) = (message::field(app, key)?, message::field(app, value)?);
        self.unless_over(self.exchange.keep_header(name.as_bytes()?, value.as_bytes()?).map_err(PyErr::from))
    }

    /// Says which pages of other origins may read this answer.
    fn _apply_cors(&self, policy: &CorsPolicy) {
        self.exchange.apply_cors(&policy.policy);
    }

    /// Forgets status and headers that have not gone out, and cuts an answer that has begun.
    fn _reset(&self) {
        if !self.exchange.cut_if_started() {
            self.exchange.reset_head();
        }
    }

    fn __repr__(&self) -> String {
        let state = match (self.exchange.has_responded(), self.exchange.is_aborted()) {
            (true, _) => "responded",
            (false, true) => "aborted",
            (false, false) => "open",
        };
        format!("<Response {state} to {}>", String::from_utf8_lossy(self.exchange.target()))
    }

    // The instance dictionary may hold cycles; PyO3 visits it once a class takes part in collection. What waits for the
    // exchange is not ours to visit: the connection holds it too, until it cuts the circle itself.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the signature is the protocol's")]
    fn __traverse__(&self, _visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        Ok(())
    }

    #[expect(clippy::unused_self, reason = "the signature is the protocol's")]
    fn __clear__(&self) {}
}

impl Response {
    fn take_now(&self, py: Python<'_>) -> Option<Py<PyBytes>> {
        let listeners = Listeners::of(&self.exchange)?;
        if let Some(body) = listeners.body(py) {
            return Some(body);
        }
        let bytes = self.exchange.take_complete()?;
        let body = PyBytes::new(py, &bytes).unbind();
        listeners.keep_body(body.clone_ref(py));
        Some(body)
    }

    fn await_room(
        &self,
        py: Python<'_>,
        future: &Bound<'_, PyAny>,
        room: &Py<PyAny>,
        gone: &Py<PyAny>,
    ) -> PyResult<()> {
        if let Some(listeners) = Listeners::of(&self.exchange) {
            listeners.await_room(py, future.clone().unbind(), room.clone_ref(py), gone.clone_ref(py));
            if !self.exchange.watch_writable() {
                let signal = if self.exchange.is_over() {
                    crate::app::Signal::Aborted
                } else {
                    crate::app::Signal::Writable
                };
                self.exchange.server().signal(&self.exchange, signal);
            }
            return Ok(());
        }
        set_result(future, gone.bind(py))
    }

    fn release_if_over(&self) {
        if self.exchange.is_over() {
            Listeners::finish(&self.exchange);
        }
    }
}

fn pair(py: Python<'_>, ok: bool, done: bool) -> PyResult<Py<PyAny>> {
    Ok((ok, done).into_pyobject(py)?.into_any().unbind())
}
