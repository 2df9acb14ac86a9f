//! The threads of an application that may have several requests at a time.
//!
//! There are as few as do. A request goes to a thread that waits; one more is begun only when all are busy, and ends when it has
//! had nothing to do for a while. When all are there and busy, requests wait in order. A request whose client leaves meanwhile is
//! dropped: the queue knows it by a weak reference, and its connection holds it.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;

use crate::py::bridge::{PyApp, guarded};
use crate::py::calling::{call_with, report};
use crate::py::door::door;
use crate::py::threads::held;
use crate::py::wsgi::gateway::Gateway;
use crate::py::wsgi::waits::Waits;
use crate::server::Exchange;

/// Entries of the queue below which those whose clients have left are not searched.
const SWEEP: usize = 1024;

#[derive(Default)]
struct State {
    queue: VecDeque<Weak<Exchange>>,
    /// The number of entries at the last search.
    swept: usize,
    /// Threads that wait for work, or are about to look for it.
    waiting: usize,
    /// Threads that have been begun and do not run yet.
    starting: usize,
    /// Whether the thread with this number exists; numbers start at 1.
    numbers: Vec<bool>,
    /// The server ends.
    stopping: bool,
}

impl State {
    fn alive(&self) -> usize {
        self.numbers.iter().filter(|alive| **alive).count()
    }

    /// Removes the requests whose clients have left.
    fn sweep(&mut self) {
        self.queue.retain(|exchange| exchange.strong_count() > 0);
        self.swept = self.queue.len();
    }

    /// Whether each request in the queue has a thread that will look for it.
    fn is_enough(&self) -> bool {
        self.queue.len() <= self.waiting + self.starting
    }

    /// The number of a new thread: the lowest that is free.
    fn take_number(&mut self) -> usize {
        let free = self.numbers.iter().position(|alive| !alive).unwrap_or(self.numbers.len());
        if free == self.numbers.len() {
            self.numbers.push(true);
        } else {
            self.numbers[free] = true;
        }
        free + 1
    }
}

/// See the module.
pub(crate) struct Pool {
    most: usize,
    /// How long a thread waits for work before it ends.
    idle: Duration,
    state: Mutex<State>,
    work: Condvar,
    ended: Condvar,
}

impl Pool {
    pub(super) fn new(most: usize, idle: Duration) -> Self {
        Self { most, idle, state: Mutex::default(), work: Condvar::new(), ended: Condvar::new() }
    }

    /// Takes a request, which some thread will run. False if there is no thread and none can be made.
    pub(super) fn give(self: &Arc<Self>, gateway: &Bound<'_, Gateway>, exchange: &Arc<Exchange>) -> bool {
        let number = {
            let mut state = self.state.lock();
            if state.stopping {
                return true;
            }
            state.queue.push_back(Arc::downgrade(exchange));
            self.work.notify_one();
            if state.queue.len() >= SWEEP.max(2 * state.swept) {
                state.sweep();
            }
            if state.is_enough() || state.alive() >= self.most {
                return true;
            }
            state.sweep();
            if state.is_enough() {
                return true;
            }
            state.starting += 1;
            state.take_number()
        };
        let py = gateway.py();
        let begun = door(py)
            .threads_of_wsgi
            .get(py)
            .and_then(|threads| call_with(threads.begin_thread.bind(py), (gateway, number)));
        let Err(error) = begun else { return true };
        report(py, error, Some(gateway.as_any()));
        let mut state = self.state.lock();
        state.starting -= 1;
        state.numbers[number - 1] = false;
        if state.alive() > 0 {
            return true;
        }
        // The caller runs it: the queue has nothing else, since nobody would take that.
        state.queue.clear();
        false
    }

    /// The life of a thread.
    pub(super) fn work(&self, py: Python<'_>, gateway: &Gateway, number: usize) {
        let end = End { pool: self, number };
        self.state.lock().starting -= 1;
        held(|| {
            loop {
                // Before the GIL is released: who gives the next request finds this thread, and begins no other.
                self.state.lock().waiting += 1;
                let Some(exchange) = py.detach(|| self.next(number)) else { break };
                if let Some(app) = PyApp::of(&exchange)
                    && exchange.begin_work()
                {
                    let body = Waits::take_body(&exchange);
                    guarded(&exchange, || app.call_wsgi(py, &exchange, gateway, body));
                }
                exchange.end_work();
            }
        });
        // Its number may be that of another thread by now.
        std::mem::forget(end);
    }

    /// Waits for a request; `None` if the thread is to end: from then on it does not count. Must not be called with the GIL.
    fn next(&self, number: usize) -> Option<Arc<Exchange>> {
        let mut state = self.state.lock();
        let mut since = Instant::now();
        loop {
            if state.stopping {
                break;
            }
            if let Some(exchange) = state.queue.pop_front() {
                // Its connection holds it, while there is a client.
                let Some(exchange) = exchange.upgrade() else { continue };
                state.waiting -= 1;
                return Some(exchange);
            }
            if self.work.wait_until(&mut state, since + self.idle).timed_out() && state.queue.is_empty() {
                // One stays, so that the next request finds its thread, with what the application keeps for it.
                if state.alive() > 1 {
                    break;
                }
                since = Instant::now();
            }
        }
        state.waiting -= 1;
        state.numbers[number - 1] = false;
        drop(state);
        self.ended.notify_all();
        None
    }

    /// Has the threads end, each after its request, and waits up to `patience` for them. False if one has not ended. Must not be
    /// called with the GIL.
    pub(crate) fn end(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut state = self.state.lock();
        state.stopping = true;
        state.queue.clear();
        self.work.notify_all();
        while state.alive() > 0 {
            if self.ended.wait_until(&mut state, deadline).timed_out() {
                return state.alive() == 0;
            }
        }
        true
    }

    /// Takes requests again.
    pub(crate) fn begin(&self) {
        self.state.lock().stopping = false;
    }
}

/// Reports the end of a thread after a panic.
struct End<'a> {
    pool: &'a Pool,
    number: usize,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.pool.state.lock().numbers[self.number - 1] = false;
        self.pool.ended.notify_all();
    }
}
