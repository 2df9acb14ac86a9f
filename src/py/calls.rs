//! Handlers are called here, on whichever thread the seam chose, and what they return or raise is dealt with.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use crate::py::bridge::PyApp;
use crate::py::classes::make;
use crate::py::handlers::Handler;
use crate::py::listeners::Listeners;
use crate::py::request::Request;
use crate::py::response::Response;
use crate::server::{Exchange, Next};

/// Whether plain handlers run in a context of their own each. They do once something sets variables there.
static ISOLATED: AtomicBool = AtomicBool::new(false);

/// From now on what a plain handler sets in its `contextvars` context ends with it, in all applications of the process.
#[pyfunction]
#[pyo3(name = "_isolate_handlers")]
pub(super) fn isolate_handlers() {
    ISOLATED.store(true, Ordering::Relaxed);
}

impl PyApp {
    /// Runs the handlers of a request on this thread.
    pub(super) fn serve(&self, py: Python<'_>, exchange: &Arc<Exchange>) {
        // Cut by the end of the server before it was its turn: working it off would hold up the end for nobody.
        if exchange.is_aborted() && exchange.server().is_closing() {
            return;
        }
        let carried = Listeners::take_carried(exchange);
        // Whoever has passed it on has not ended.
        let wanted = if carried.is_some() { !exchange.is_gone() } else { exchange.begin_work() };
        if !wanted {
            drop(carried);
            exchange.end_work();
            return;
        }
        let objects = carried.map_or_else(|| self.make_objects(py, exchange), Ok);
        let (response, request) = match objects {
            Ok(objects) => objects,
            // No memory: there is nobody to answer, and the client sees the connection end.
            Err(error) => {
                error.write_unraisable(py, None);
                exchange.close();
                exchange.end_work();
                return;
            }
        };
        loop {
            if self.call(py, exchange, &response, &request) {
                // On the loop: the task goes on with the request, and says itself if it yields.
                return;
            }
            if exchange.is_yielded()
                && let Some(listeners) = Listeners::of(exchange)
            {
                listeners.carry(response.clone_ref(py), request.clone_ref(py));
            }
            let next = exchange.next();
            if next == Some(Next::Elsewhere) {
                return;
            }
            // They hold what carries them: taken back, or they would live for ever.
            drop(Listeners::take_carried(exchange));
            match next {
                Some(Next::Here(_)) => {}
                Some(Next::Answered) => {
                    Listeners::finish(exchange);
                    break;
                }
                _ => break,
            }
        }
        exchange.end_work();
        if !exchange.has_responded() {
            self.warn_if_silent(py, exchange, &response);
        }
    }

    /// The coroutine of a request has ended, and yielded: the next handler is called.
    pub(crate) fn go_on(&self, py: Python<'_>, response: Py<Response>, request: Py<Request>) {
        let exchange = Arc::clone(request.get().exchange());
        if !exchange.is_yielded() {
            return;
        }
        if let Some(listeners) = Listeners::of(&exchange) {
            listeners.carry(response, request);
        }
        match exchange.next() {
            Some(Next::Here(_)) => self.serve(py, &exchange),
            Some(Next::Elsewhere) => {}
            Some(Next::Answered) => {
                drop(Listeners::take_carried(&exchange));
                Listeners::finish(&exchange);
                exchange.end_work();
            }
            None => {
                drop(Listeners::take_carried(&exchange));
                exchange.end_work();
            }
        }
    }

    fn make_objects(
        &self,
        py: Python<'_>,
        exchange: &Arc<Exchange>,
    ) -> PyResult<(Py<Response>, Py<Request>)> {
        let response = make(py, &self.classes.response, Response::new(Arc::clone(exchange)))?;
        let request = make(py, &self.classes.request, Request::new(Arc::clone(exchange)))?;
        Ok((response, request))
    }

    /// Calls the handler of the route that the request is on. True when a task has taken over.
    fn call(
        &self,
        py: Python<'_>,
        exchange: &Arc<Exchange>,
        response: &Py<Response>,
        request: &Py<Request>,
    ) -> bool {
        let (id, lease) = exchange.take_handler();
        let found = self
            .handlers
            .read()
            .get(id)
            .map(|found| (found.callable.clone_ref(py), found.coroutine, context(py, found)));
        // It may be replaced while it runs.
        drop(lease);
        let Some((callable, coroutine, context)) = found else {
            exchange.close();
            return false;
        };
        // What a plain function sets in its context is to end with it: the next request runs on the same thread.
        if !coroutine && ISOLATED.load(Ordering::Relaxed) {
            match self.call_isolated(py, exchange, &callable, context, response, request) {
                Ok(()) => {}
                Err(error) => self.fail(py, exchange, &error, Some(response), Some(request)),
            }
            return false;
        }
        let result = match (coroutine, context) {
            (true, None) => self.hooks.start.bind(py).call1((&callable, response, request)),
            (true, Some(context)) => self.hooks.start.bind(py).call1((&callable, response, request, context)),
            (false, None) => callable.bind(py).call1((response, request)),
            (false, Some(context)) => callable.bind(py).call1((response, request, context)),
        };
        match result {
            Ok(_) if coroutine => true,
            Ok(value) => {
                self.take_returned(py, exchange, &value, response, None);
                false
            }
            Err(error) => {
                self.fail(py, exchange, &error, Some(response), Some(request));
                false
            }
        }
    }

    /// Calls a plain handler, and what hears of its failure, in a copy of the thread's context.
    fn call_isolated(
        &self,
        py: Python<'_>,
        exchange: &Arc<Exchange>,
        callable: &Py<PyAny>,
        third: Option<Py<PyAny>>,
        response: &Py<Response>,
        request: &Py<Request>,
    ) -> PyResult<()> {
        let scope = py.import("contextvars")?.call_method0("copy_context")?;
        let run = pyo3::intern!(py, "run");
        let result = match third {
            None => scope.call_method1(run, (callable, response, request)),
            Some(third) => scope.call_method1(run, (callable, response, request, third)),
        };
        match result {
            Ok(value) => self.take_returned(py, exchange, &value, response, Some(&scope)),
            Err(error) => {
                Self::clear(exchange);
                let value = error.into_value(py);
                scope.call_method1(run, (&self.hooks.fail, value, response, request))?;
            }
        }
        Ok(())
    }

    /// What a failed handler had half said is cut or forgotten.
    fn clear(exchange: &Exchange) {
        exchange.set_yield(false);
        if !exchange.cut_if_started() {
            exchange.reset_head();
        }
    }

    /// A plain function may return something to await (A-CALL-02); `scope` is the context that it ran in, if not the thread's.
    fn take_returned(
        &self,
        py: Python<'_>,
        exchange: &Arc<Exchange>,
        value: &Bound<'_, PyAny>,
        response: &Py<Response>,
        scope: Option<&Bound<'_, PyAny>>,
    ) {
        if value.is_none() || value.is_instance_of::<Response>() {
            return;
        }
        if !value.hasattr(pyo3::intern!(py, "__await__")).unwrap_or(false) {
            return;
        }
        let spawned = match scope {
            None => self.hooks.spawn.bind(py).call1((value, response)),
            Some(scope) => scope.call_method1(pyo3::intern!(py, "run"), (&self.hooks.spawn, value, response)),
        };
        if let Err(error) = spawned {
            self.fail(py, exchange, &error, Some(response), None);
        }
    }

    /// Calls a callback of an exchange; its failure is the handler's.
    pub(crate) fn call_back<'py>(
        &self,
        py: Python<'py>,
        exchange: &Arc<Exchange>,
        response: &Py<Response>,
        callable: &Py<PyAny>,
        arguments: PyResult<Bound<'py, PyTuple>>,
        what: &str,
    ) {
        match arguments.and_then(|arguments| callable.bind(py).call1(arguments)) {
            // Nobody is left to answer, so what fails there is only logged (A-RES-27).
            Ok(value) if what == "on_aborted" => {
                let logged = Self::helper(py, "errors", "logged")
                    .and_then(|logged| logged.call1((value, what, callable)));
                match logged {
                    Ok(value) => self.take_returned(py, exchange, &value, response, None),
                    Err(error) => error.write_unraisable(py, None),
                }
            }
            Ok(value) => self.take_returned(py, exchange, &value, response, None),
            Err(error) if what == "on_aborted" => {
                let _ = Self::log_callback(py, what, &error, callable.bind(py));
            }
            Err(error) => self.fail(py, exchange, &error, Some(response), None),
        }
    }

    /// Starts the task of an `async` data callback.
    pub(crate) fn feed(
        &self,
        py: Python<'_>,
        exchange: &Arc<Exchange>,
        response: &Py<Response>,
        callable: &Py<PyAny>,
        chunk: &Bound<'_, PyBytes>,
        last: bool,
    ) {
        if let Err(error) = self.hooks.feed.call1(py, (callable, response, chunk, last)) {
            self.fail(py, exchange, &error, Some(response), None);
        }
    }

    /// A handler failed: what it had half said is cut, and the application's error handler speaks.
    pub(crate) fn fail(
        &self,
        py: Python<'_>,
        exchange: &Exchange,
        error: &PyErr,
        response: Option<&Py<Response>>,
        request: Option<&Py<Request>>,
    ) {
        Self::clear(exchange);
        // `into_value` ties the traceback to the exception; before Python 3.12 they are apart.
        let value = error.clone_ref(py).into_value(py);
        if let Err(error) = self.hooks.fail.call1(py, (value, response, request)) {
            error.write_unraisable(py, Some(self.application.bind(py)));
        }
    }

    /// A handler returned without an answer, and nobody is left who could give one (A-CALL-05).
    fn warn_if_silent(&self, py: Python<'_>, exchange: &Exchange, response: &Py<Response>) {
        // One reference is the caller's.
        let kept = refcount(response) > 1 || Listeners::any(exchange);
        if kept || exchange.is_over() || self.warned_silent.swap(true, Ordering::Relaxed) {
            return;
        }
        let path = crate::py::convert::text(py, exchange.path());
        let logged = Self::helper(py, "errors", "log_silent").and_then(|log| log.call1((path,)));
        if let Err(error) = logged {
            error.write_unraisable(py, None);
        }
    }
}

/// The third argument of an upgrade handler.
fn context(py: Python<'_>, handler: &Handler) -> Option<Py<PyAny>> {
    handler.context.as_ref().map(|context| context.clone_ref(py))
}

/// How many references an object has.
fn refcount(object: &Py<Response>) -> isize {
    #[expect(unsafe_code, reason = "PyO3 has no safe way to ask")]
    // SAFETY: the object is alive, since `object` is a reference to it, and the caller is attached.
    unsafe {
        pyo3::ffi::Py_REFCNT(object.as_ptr())
    }
}
