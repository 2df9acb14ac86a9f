//! Calls handlers, on the thread that the seam chose, and handles their return values and exceptions.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyTuple};

use crate::app::Lane;
use crate::py::body::Body;
use crate::py::bridge::PyApp;
use crate::py::calling::{call, call_with, is_awaitable, report};
use crate::py::classes::make;
use crate::py::contexts::Scope;
use crate::py::door::door;
use crate::py::handlers::{Front, Handler};
use crate::py::listeners::{Callback, Carried, Listeners};
use crate::py::request::Request;
use crate::py::response::Response;
use crate::server::{Exchange, Next};

impl PyApp {
    /// Runs the handlers of a request on this thread, all in one context of their own.
    pub(super) fn serve(&self, py: Python<'_>, exchange: &Arc<Exchange>) {
        // Cut by the end of the server before it could run: running it would delay the end without a client.
        let carried = Listeners::take_carried(exchange);
        if exchange.is_aborted() && exchange.server().is_closing() {
            if carried.is_some() {
                drop(carried);
                exchange.end_work();
            }
            return;
        }
        // A handler that passed it on has not ended its work.
        let wanted = if carried.is_some() { !exchange.is_gone() } else { exchange.begin_work() };
        if !wanted {
            drop(carried);
            exchange.end_work();
            return;
        }
        let mut called = self.take_called(py, exchange);
        if let Some(handler) = &called {
            match handler.front {
                Front::Native => {}
                Front::Asgi | Front::AsgiSocket => return self.serve_asgi(py, exchange, handler),
                Front::Wsgi => {
                    self.serve_wsgi(py, exchange, handler.callable.bind(py));
                    exchange.end_work();
                    return;
                }
            }
        }
        let begun = match carried {
            Some(Carried { response, request, context }) => {
                Scope::of(py, context.as_ref()).map(|scope| (response, request, scope))
            }
            None => self.begin(py, exchange),
        };
        let (response, request, _scope) = match begun {
            Ok(begun) => begun,
            // No memory: a response is impossible, and the client sees the connection end.
            Err(error) => {
                report(py, error, None);
                exchange.close();
                exchange.end_work();
                return;
            }
        };
        loop {
            let before = request.get().handed_over();
            if self.call_handler(py, exchange, called, &response, &request) {
                // On the loop: the task goes on with the request, and reports itself if it yields.
                return;
            }
            // The same, beside this thread: the task owns the flags that were set meanwhile.
            if request.get().handed_over() != before {
                break;
            }
            if exchange.is_yielded()
                && let Some(listeners) = Listeners::of(exchange)
            {
                listeners.carry(py, response.clone_ref(py), request.clone_ref(py));
            }
            let next = exchange.next();
            if next == Some(Next::Elsewhere) {
                return;
            }
            // They refer to their carrier: removed here, or they would live for ever.
            drop(Listeners::take_carried(exchange));
            match next {
                Some(Next::Here(_)) => called = self.take_called(py, exchange),
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

    /// The coroutine of a request, or a plain handler's awaitable, has ended on the loop, and yielded: the
    /// next handler is called.
    pub(crate) fn go_on(&self, py: Python<'_>, response: Py<Response>, request: Py<Request>) {
        let exchange = Arc::clone(request.get().exchange());
        if !exchange.is_yielded() {
            return;
        }
        if let Some(listeners) = Listeners::of(&exchange) {
            listeners.carry(py, response, request);
        }
        match exchange.next_in(Lane::Loop) {
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

    /// The arguments of a request's handlers, and their context.
    fn begin<'py>(
        &self,
        py: Python<'py>,
        exchange: &Arc<Exchange>,
    ) -> PyResult<(Py<Response>, Py<Request>, Scope<'py>)> {
        let response = make(py, &self.classes.response, Response::new(Arc::clone(exchange)))?;
        let request = make(py, &self.classes.request, Request::new(Arc::clone(exchange)))?;
        Ok((response, request, self.scope(py)?))
    }

    /// The handler of the request's present route. `None` if it is gone.
    fn take_called(&self, py: Python<'_>, exchange: &Exchange) -> Option<Handler> {
        let (id, lease) = exchange.take_handler();
        let found = self.handlers.read().get(id).map(|found| found.clone_ref(py));
        // It may be replaced while it runs.
        drop(lease);
        found
    }

    /// Calls a handler. True if a task has taken over.
    fn call_handler(
        &self,
        py: Python<'_>,
        exchange: &Arc<Exchange>,
        called: Option<Handler>,
        response: &Py<Response>,
        request: &Py<Request>,
    ) -> bool {
        let Some(Handler { callable, coroutine, context, .. }) = called else {
            exchange.close();
            return false;
        };
        let (callable, response, request) = (callable.bind(py), response.bind(py), request.bind(py));
        let result = match (coroutine, context.as_ref().map(|context| context.bind(py))) {
            (true, None) => call(self.hooks.start.bind(py), [callable, response, request]),
            (true, Some(context)) => call(self.hooks.start.bind(py), [callable, response, request, context]),
            (false, None) => call(callable, [response, request]),
            (false, Some(context)) => call(callable, [response, request, context]),
        };
        if !coroutine {
            self.end_child(py, result.as_ref().err());
        }
        match result {
            Ok(_) if coroutine => true,
            Ok(value) => {
                // The handler's own yield is obeyed here, without waiting for its return value.
                let request = (!exchange.is_yielded()).then_some(request);
                self.take_returned(py, exchange, &value, response.as_unbound(), request);
                false
            }
            Err(error) => {
                self.fail(py, exchange, &error, Some(response.as_unbound()), Some(request.as_unbound()));
                false
            }
        }
    }

    /// Cuts or forgets the partial response of a failed handler.
    fn clear(exchange: &Exchange) {
        exchange.set_yield(false);
        if !exchange.abort_if_started() {
            exchange.reset_head();
        }
    }

    /// A plain function may return an awaitable (A-CALL-02). A handler's may yield, as the handler itself
    /// may: then `request` goes on.
    fn take_returned(
        &self,
        py: Python<'_>,
        exchange: &Arc<Exchange>,
        value: &Bound<'_, PyAny>,
        response: &Py<Response>,
        request: Option<&Bound<'_, Request>>,
    ) {
        if value.is_none() || value.is_instance_of::<Response>() {
            return;
        }
        if !is_awaitable(value) {
            return;
        }
        let spawn = self.hooks.spawn.bind(py);
        let spawned = match request {
            Some(request) => call(spawn, [value, response.bind(py), request]),
            None => call(spawn, [value, response.bind(py)]),
        };
        if let Err(error) = spawned {
            self.fail(py, exchange, &error, Some(response), None);
        }
    }

    /// Calls a callback of an exchange, in a copy of the context that it was registered in; its exception
    /// counts as the handler's.
    pub(crate) fn call_back<'py>(
        &self,
        py: Python<'py>,
        exchange: &Arc<Exchange>,
        response: &Py<Response>,
        callback: &Callback,
        arguments: PyResult<Bound<'py, PyTuple>>,
        what: &str,
    ) {
        let callable = callback.callable.bind(py);
        let scope = callback.scope(py);
        let called = scope.as_ref().map_err(|error| error.clone_ref(py));
        let result = called.and_then(|_| call_with(callable, arguments?));
        self.end_child(py, result.as_ref().err());
        match result {
            // There is no client any more, so an exception there is only logged (A-RES-27).
            Ok(value) if what == "on_aborted" => {
                let logged = call_with(door(py).logged.bind(py), (value, what, callable));
                match logged {
                    Ok(value) => self.take_returned(py, exchange, &value, response, None),
                    Err(error) => report(py, error, None),
                }
            }
            Ok(value) => self.take_returned(py, exchange, &value, response, None),
            Err(error) if what == "on_aborted" => Self::log_callback(py, what, &error, callable),
            Err(error) => self.fail(py, exchange, &error, Some(response), None),
        }
    }

    /// Starts the task of an `async` data callback.
    pub(crate) fn feed(
        &self,
        py: Python<'_>,
        exchange: &Arc<Exchange>,
        response: &Py<Response>,
        callback: &Callback,
        chunk: &Bound<'_, PyBytes>,
        last: bool,
    ) {
        let last = PyBool::new(py, last);
        let fed = callback.scope(py).and_then(|_scope| {
            let body = Bound::new(py, Body::of(exchange))?;
            let arguments =
                [callback.callable.bind(py), response.bind(py), chunk, last.as_any(), body.as_any()];
            call(self.hooks.feed.bind(py), arguments)
        });
        if let Err(error) = fed {
            self.fail(py, exchange, &error, Some(response), None);
        }
    }

    /// A handler failed: its partial response is cut, and the application's error handler is called. In any
    /// case the client gets a response.
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
        let none = py.None();
        let arguments = [
            value.bind(py).as_any(),
            response.map_or(none.bind(py), |response| response.bind(py).as_any()),
            request.map_or(none.bind(py), |request| request.bind(py).as_any()),
        ];
        if let Err(error) = call(self.hooks.fail.bind(py), arguments) {
            if let Some(response) = response {
                response.get().fail(py);
            }
            report(py, error, Some(self.application.bind(py)));
        }
    }

    /// A handler returned without a response, and nothing is left that could give one (A-CALL-05).
    fn warn_if_silent(&self, py: Python<'_>, exchange: &Exchange, response: &Py<Response>) {
        // One reference belongs to the caller.
        let kept = refcount(response) > 1 || Listeners::any(exchange);
        if kept || exchange.is_over() || self.warned_silent.swap(true, Ordering::Relaxed) {
            return;
        }
        let path = crate::py::convert::text(py, exchange.path());
        let logged = call(door(py).log_silent.bind(py), [&path]);
        if let Err(error) = logged {
            report(py, error, None);
        }
    }
}

/// The reference count of an object.
fn refcount(object: &Py<Response>) -> isize {
    #[expect(unsafe_code, reason = "PyO3 has no safe way to ask")]
    // SAFETY: the object is alive, since `object` is a reference to it, and the caller is attached.
    unsafe {
        pyo3::ffi::Py_REFCNT(object.as_ptr())
    }
}
