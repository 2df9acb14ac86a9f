//! What a handler asks to hear of a response: the client goes, there is room, a piece of the request has come.

use pyo3::prelude::*;

use crate::app::Signal;
use crate::py::calling::call_with;
use crate::py::contexts::current_context;
use crate::py::door::door;
use crate::py::listeners::{Callback, Listeners};
use crate::py::response::{Response, Slf};

impl Response {
    /// `handler`, if it can be called; otherwise it is ignored, as in the original, when the exchange is
    /// over.
    pub(super) fn callback(&self, py: Python<'_>, handler: &Bound<'_, PyAny>) -> PyResult<Option<Callback>> {
        if !handler.is_callable() || self.exchange.is_over() {
            return Ok(None);
        }
        let app = self.python()?;
        let callable = handler.clone().unbind();
        let lane = app.lane(app.is_coroutine(py, &callable));
        Ok(Some(Callback { callable, lane, context: current_context(py)? }))
    }
}

#[pymethods]
impl Response {
    fn grab_aborted_handler(slf: Slf<'_>) -> Slf<'_> {
        slf
    }

    fn on_aborted<'py>(slf: Slf<'py>, handler: &Bound<'py, PyAny>) -> PyResult<Slf<'py>> {
        let this = slf.get();
        if let (Some(callback), Some(listeners)) =
            (this.callback(slf.py(), handler)?, Listeners::of(&this.exchange))
        {
            listeners.on_aborted(slf.clone().unbind(), callback);
            // It may have gone between the check and the registration: then no signal comes any more.
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
            call_with(door(py).log_async_refused.bind(py), ("on_writable", handler))?;
            return Ok(slf);
        }
        if let (Some(callback), Some(listeners)) =
            (this.callback(py, handler)?, Listeners::of(&this.exchange))
        {
            listeners.on_writable(slf.clone().unbind(), callback);
            if !this.exchange.watch_writable() && !this.exchange.is_over() {
                // There is room again already.
                this.exchange.server().signal(&this.exchange, Signal::Writable);
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
}
