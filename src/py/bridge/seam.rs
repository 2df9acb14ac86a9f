//! What the core asks of user code, of an application in Python.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::intern;
use pyo3::prelude::*;

use crate::app::{App, Job, Lane, Signal};
use crate::py::asgi;
use crate::py::bridge::PyApp;
use crate::py::calling::{method, report};
use crate::py::listeners::{Lanes, Listeners};
use crate::py::threads::held;
use crate::py::wsgi;
use crate::server::{AccessQueue, Exchange};

impl App for PyApp {
    fn run(&self, jobs: &mut dyn Iterator<Item = Job>) {
        // `None` if the interpreter has ended while a handler kept this thread: then nothing can run them.
        let _ = Python::try_attach(|py| self.run_jobs(py, jobs));
    }

    fn post(&self, job: Job) {
        if self.is_abandoned() {
            std::mem::forget(job);
        } else {
            self.queue.lock().push(job);
        }
    }

    fn posted(&self) {
        self.wake();
    }

    fn signal(&self, exchange: Arc<Exchange>, signal: Signal) {
        let Lanes { turn, event_loop } = if let Some(waits) = asgi::Waits::of(&exchange) {
            Lanes { turn: false, event_loop: waits.are_woken_by(signal) }
        } else if let Some(waits) = wsgi::Waits::existing(&exchange) {
            Lanes { turn: waits.signal(signal), event_loop: false }
        } else {
            Listeners::lanes(&exchange, signal)
        };
        if turn {
            exchange.begin_work();
            exchange.server().push(Job::Signal(Arc::clone(&exchange), signal));
        }
        if event_loop {
            exchange.begin_work();
            self.queue(Job::Signal(exchange, signal));
        }
    }

    fn drained(&self) {
        self.drained.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn access_log(&self) -> Option<Arc<AccessQueue>> {
        self.access.lock().clone()
    }

    fn missing_server_name(&self) -> Option<Lane> {
        self.missing_lane()
    }

    fn takes_notes(&self) -> bool {
        self.readers.may_be_there()
    }

    fn stays_on_one_thread(&self) -> bool {
        self.stays.load(Ordering::Relaxed)
    }

    /// Keeps this thread's Python state for the life of the thread: a new one at each call costs twenty times
    /// the call itself. The loop is set as the running one, so that handlers find it (design.md, threads).
    fn on_thread(&self, body: &mut (dyn FnMut() + Send)) {
        let act = |py: Python<'_>| {
            let set = |event_loop: Option<&Py<PyAny>>| {
                let event_loop = event_loop.map_or_else(|| py.None(), |event_loop| event_loop.clone_ref(py));
                let result = py.import("asyncio.events").and_then(|events| {
                    method(&events, intern!(py, "_set_running_loop"), [event_loop.bind(py)])
                });
                if let Err(error) = result {
                    report(py, error, None);
                }
            };
            let event_loop = self.event_loop.read().as_ref().map(|event_loop| event_loop.clone_ref(py));
            let ident = py
                .import("threading")
                .and_then(|threading| method(&threading, intern!(py, "get_ident"), [])?.extract());
            let ident: u64 = ident.unwrap_or_default();
            self.threads.lock().push(ident);
            set(event_loop.as_ref());
            py.detach(body);
            set(None);
            self.threads.lock().retain(|other| *other != ident);
        };
        let _ = held(|| Python::try_attach(act));
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
