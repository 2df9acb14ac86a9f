//! The topics of a socket.

use pyo3::prelude::*;

use crate::pubsub::Subscribed;
use crate::py::bridge::PyApp;
use crate::py::calling::{call, call_with, truth};
use crate::py::convert;
use crate::py::door::door;
use crate::py::outgoing;
use crate::py::sockets::Attached;
use crate::py::websocket::{Slf, WebSocket};
use crate::server::Event;

impl WebSocket {
    fn tell_subscription(&self, py: Python<'_>, name: &[u8], count: usize, before: usize) -> PyResult<()> {
        let Some(listener) = self.socket.behavior().subscription else { return Ok(()) };
        let app = self.python()?;
        let event = Event::Subscription { topic: name.into(), count, before };
        if app.current_lane() == Some(listener.lane) {
            app.tell(py, &self.socket, event, 0);
        } else {
            self.socket.push(event);
        }
        Ok(())
    }
}

#[pymethods]
impl WebSocket {
    fn subscribe(&self, py: Python<'_>, topic: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Some(name) = outgoing::topic(topic)? else { return Ok(false) };
        // A socket that leaves a topic at its end is found by this data.
        let _ = Attached::of(&self.socket);
        match self.socket.subscribe(&name) {
            Subscribed::New { count } => {
                self.tell_subscription(py, &name, count, count - 1)?;
                Ok(true)
            }
            Subscribed::Already => Ok(true),
            Subscribed::Refused => Ok(false),
        }
    }

    fn unsubscribe(&self, py: Python<'_>, topic: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Some(name) = outgoing::topic(topic)? else { return Ok(false) };
        let Some(count) = self.socket.unsubscribe(&name) else { return Ok(false) };
        self.tell_subscription(py, &name, count, count + 1)?;
        Ok(true)
    }

    fn is_subscribed(&self, topic: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(outgoing::topic(topic)?.is_some_and(|name| self.socket.is_subscribed(&name)))
    }

    #[pyo3(signature = (topic, message, opcode = None, compress = false))]
    fn publish(
        &self,
        py: Python<'_>,
        topic: &Bound<'_, PyAny>,
        message: &Bound<'_, PyAny>,
        opcode: Option<&Bound<'_, PyAny>>,
        #[pyo3(from_py_with = truth)] compress: bool,
    ) -> PyResult<bool> {
        outgoing::publish(py, self.python()?, Some(self.socket.server()), topic, message, opcode, compress)
    }

    fn get_topics<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyAny>> {
        self.socket.topics().iter().map(|name| convert::topic(py, name)).collect()
    }

    fn for_each_topic<'py>(slf: Slf<'py>, handler: &Bound<'py, PyAny>) -> PyResult<Slf<'py>> {
        let (this, py) = (slf.get(), slf.py());
        if this.python()?.is_coroutine(py, &handler.clone().unbind()) {
            call_with(door(py).log_async_refused.bind(py), ("for_each_topic", handler))?;
            return Ok(slf);
        }
        for name in this.get_topics(py) {
            if let Err(error) = call(handler, [&name]) {
                PyApp::log_callback(py, "for_each_topic", &error, handler);
            }
        }
        Ok(slf)
    }
}
