//! From one route to the next: a handler, or a directory without the file, passes the request on.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use crate::app::{Constant, HandlerId, Lane, Lease, Signal};
use crate::files::conditions::Conditions;
use crate::server::connection::Locked;
use crate::server::exchange::Exchange;
use crate::server::files::Tried;
use crate::server::routing::{Step, Stop};

/// The next place of a yielded request.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// This handler, on the caller's lane: call it.
    Here(HandlerId),
    /// Elsewhere: nothing to do for the caller.
    Elsewhere,
    /// No handler: the core has responded, or has cut a response that had begun.
    Answered,
}

impl Exchange {
    /// The handler of the current route.
    pub fn handler(&self) -> HandlerId {
        self.stop.lock().handler
    }

    /// The same for a call: the number stays the handler's for as long as what comes with it is kept, and no longer.
    /// The exchange alone does not keep the handler.
    pub fn take_handler(&self) -> (HandlerId, Option<Lease>) {
        let mut stop = self.stop.lock();
        (stop.handler, stop.lease.take())
    }

    /// Asks for the next matching route, or takes that back.
    pub fn set_yield(&self, yielded: bool) {
        self.yielded.store(yielded, Ordering::Relaxed);
    }

    /// Whether the next matching route was asked for.
    pub fn is_yielded(&self) -> bool {
        self.yielded.load(Ordering::Relaxed)
    }

    /// Moves on to the next matching route, if one was asked for and the response is not complete.
    pub fn next(self: &Arc<Self>) -> Option<Next> {
        if !self.yielded.swap(false, Ordering::Relaxed) {
            return None;
        }
        let state = self.current()?;
        Some(self.proceed(state, true))
    }

    /// The same, called in `lane`, which may differ from that of the handler: its awaitable has been awaited.
    pub fn next_in(self: &Arc<Self>, lane: Lane) -> Option<Next> {
        if self.is_yielded() && !self.server().is_abandoned() {
            self.stop.lock().lane = lane;
        }
        self.next()
    }

    /// Moves on to the next matching route: this one has nothing for the request.
    pub(in crate::server) fn pass(self: &Arc<Self>, state: Locked<'_>) {
        self.proceed(state, false);
    }

    /// `here` is whether the caller runs handlers of the present lane.
    fn proceed(self: &Arc<Self>, mut state: Locked<'_>, here: bool) -> Next {
        let server = &self.connection.server;
        let mut at = self.stop.lock();
        let domains = server.routes.load();
        let candidates = self.connection.candidates(&domains, &self.head, &self.bytes);
        loop {
            let (position, step) = candidates.step(at.position.next());
            match step {
                Step::NotFound => {
                    drop(at);
                    if state.request().is_some_and(|request| request.reply.is_started()) {
                        drop(state);
                        self.abort_if_started();
                    } else {
                        self.finish_here(state, None);
                    }
                    return self.answered(here);
                }
                Step::Constant(constant) => {
                    drop(at);
                    self.finish_here(state, Some(constant));
                    return self.answered(here);
                }
                Step::Files(directory) => {
                    *at = Stop::without_handler(position, at.lane);
                    let asked = Conditions::read(self.method(), self.header_block());
                    match state.answer_from_directory(directory, (self.path(), self.query()), &asked) {
                        Tried::Absent => {}
                        Tried::Wait => {
                            drop(at);
                            self.find_file(&mut state, Arc::clone(directory));
                            // It may have been refused. A running handler flushes at its end.
                            state.flush_unless_corked();
                            return Next::Elsewhere;
                        }
                        Tried::Answered => {
                            drop(at);
                            state.flush();
                            // Once it has been sent, waiting user code is signalled. A body that is too large
                            // has ended the request before.
                            if self.is_gone() {
                                server.app.signal(Arc::clone(self), Signal::Sent);
                            }
                            return Next::Elsewhere;
                        }
                    }
                }
                Step::Accept(behavior) => {
                    drop(at);
                    let value = |name: &[u8]| self.header(name).unwrap_or_default();
                    let key = value(b"sec-websocket-key");
                    let (protocols, extensions) =
                        (value(b"sec-websocket-protocol"), value(b"sec-websocket-extensions"));
                    self.open_socket(&mut state, behavior, &key, &protocols, &extensions, None);
                    state.flush();
                    return Next::Answered;
                }
                Step::Upgrade(next) => return self.move_on(state, at, next, here),
                Step::Handler { stop: next, limit, .. } => {
                    if !state.admit_body_on_route(limit, &candidates, position) {
                        drop(at);
                        state.flush();
                        return self.answered(here);
                    }
                    return self.move_on(state, at, next, here);
                }
            }
        }
    }

    /// The core responds, if it allows the body: with `constant`, or with a 404.
    fn finish_here(&self, mut state: Locked<'_>, constant: Option<&Constant>) {
        if state.admit_body(self.connection.server.config.max_body_size) {
            match constant {
                Some(constant) => state.answer_constant(constant, self.header_block()),
                None => state.answer_not_found(),
            }
        }
        state.flush();
    }

    /// The core has answered: the caller is told, or if that is the core, user code that holds the exchange.
    fn answered(self: &Arc<Self>, here: bool) -> Next {
        if !here {
            self.connection.server.app.signal(Arc::clone(self), Signal::Sent);
        }
        Next::Answered
    }

    fn move_on(
        self: &Arc<Self>,
        mut state: Locked<'_>,
        mut stop: MutexGuard<'_, Stop>,
        next: Stop,
        here: bool,
    ) -> Next {
        let (id, lane) = (next.handler, next.lane);
        let stays = here && lane == stop.lane;
        *stop = next;
        drop(stop);
        state.ask_for_body();
        let next = if stays {
            Next::Here(id)
        } else {
            state.dispatch(Arc::clone(self), lane);
            Next::Elsewhere
        };
        // What a handler has written before, or an invitation to send the body, has no cork any more if the next handler has one
        // of its own.
        state.flush_unless_corked();
        next
    }
}
