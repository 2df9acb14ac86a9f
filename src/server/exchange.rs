//! One request and its answer, as user code holds it: valid for as long as anybody keeps it.
//!
//! Reading the request never fails. Acting on the answer is allowed from any thread and at any time; once the exchange
//! is over (answered, aborted, or replaced by the next request) every act is a no-op that says so.

mod answer;
mod body;
mod encoding;
mod response_head;
mod upgrade;

pub(crate) use self::encoding::Coder;

use std::any::Any;
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard};

pub use self::body::{Demand, Pull};

use crate::app::{Behavior, HandlerId, Lane, Lease, Listener, Signal, Target};
use crate::files::conditions::Conditions;
use crate::http::forwarded::{self, Origin};
use crate::http::head::{self, Head, HeaderLines};
use crate::router::Params;
use crate::server::connection::{Connection, Locked};
use crate::server::files::Tried;
use crate::server::overload::{Place, Seat};
use crate::server::preface::Told;
use crate::server::tls::Secure;

/// The route that a request is on. `set_yield` moves it to the next.
#[derive(Debug)]
pub(crate) struct Stop {
    handler: HandlerId,
    lane: Lane,
    params: Params,
    /// Candidates before this one.
    skipped: usize,
    /// What the handler may upgrade to, when it is the upgrade handler of a WebSocket route.
    behavior: Option<Arc<Behavior>>,
    /// What keeps the handler until it is called, where it is not the behavior.
    lease: Option<Lease>,
}

impl Stop {
    /// At an HTTP route, behind `skipped` others.
    pub(crate) fn at_handler(
        handler: HandlerId,
        lane: Lane,
        lease: Option<Lease>,
        params: Params,
        skipped: usize,
    ) -> Self {
        Self { handler, lane, params, skipped, behavior: None, lease }
    }

    /// At the `skipped`th route, which has no handler.
    pub(crate) fn at_files(skipped: usize, lane: Lane) -> Self {
        Self::at_handler(0, lane, None, Params::default(), skipped)
    }

    /// At a WebSocket route.
    pub(crate) fn at_upgrade(
        listener: Listener,
        params: Params,
        behavior: Arc<Behavior>,
        skipped: usize,
    ) -> Self {
        Self {
            handler: listener.id,
            lane: listener.lane,
            params,
            skipped,
            behavior: Some(behavior),
            lease: None,
        }
    }
}

/// A request that cannot be upgraded: its handler is not the upgrade handler of a WebSocket route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("only the upgrade handler of a WebSocket route can upgrade")]
pub struct NotAHandshake;

/// One request and its answer.
pub struct Exchange {
    connection: Arc<Connection>,
    /// This exchange's number on its connection.
    number: u64,
    head: Head,
    /// The request head as it came.
    bytes: Box<[u8]>,
    stop: Mutex<Stop>,
    /// Its place among the requests in progress.
    place: Place,
    /// What had arrived of the body when the client went away.
    rest: Mutex<Vec<u8>>,
    /// User code asked for the next matching route.
    yielded: AtomicBool,
    /// The client went away, or user code says so.
    aborted: AtomicBool,
    /// There was no room for all of the last piece that was not to be queued.
    refused: AtomicBool,
    /// The answer is complete.
    responded: AtomicBool,
    /// Whatever user code keeps with the exchange; made on first need.
    user: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let target = String::from_utf8_lossy(self.target());
        formatter.debug_struct("Exchange").field("target", &target).finish_non_exhaustive()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What became of an attempt to write without queueing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Everything that was offered has been taken.
    pub taken: bool,
    /// The answer is complete, or can never be.
    pub over: bool,
}

/// Where a yielded request goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// To this handler, on the lane the caller runs on: call it.
    Here(HandlerId),
    /// Elsewhere: nothing to do for the caller.
    Elsewhere,
    /// To no handler: the core has answered, or has cut an answer that had begun.
    Answered,
}

impl Exchange {
    pub(crate) fn new(
        connection: Arc<Connection>,
        number: u64,
        head: Head,
        bytes: &[u8],
        stop: Stop,
        place: Place,
    ) -> Arc<Self> {
        Arc::new(Self {
            connection,
            number,
            head,
            bytes: bytes.into(),
            stop: Mutex::new(stop),
            place,
            rest: Mutex::default(),
            yielded: AtomicBool::new(false),
            aborted: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            responded: AtomicBool::new(false),
            user: OnceLock::new(),
        })
    }

    // ---- who works on it ------------------------------------------------------------------------------------------

    /// Somebody works on the request from now on, until [`Exchange::end_work`]; both count. False when its client has gone
    /// before anybody began: then nobody should.
    pub fn begin_work(&self) -> bool {
        self.place.begin()
    }

    /// Somebody who has called [`Exchange::begin_work`] has ended.
    pub fn end_work(&self) {
        if self.server().is_abandoned() {
            return;
        }
        self.place.end(&self.server().load);
    }

    /// Whether the client has gone, for good.
    pub fn is_gone(&self) -> bool {
        self.place.is_gone()
    }

    /// The client has gone: whoever works on the request hears so, and keeps the seat of the connection as long as that takes.
    pub(crate) fn give_up(self: Arc<Self>, seat: Option<Arc<Seat>>) {
        // What is queued to tell of it counts too.
        self.place.begin();
        self.place.give_up(&self.server().load, seat);
        self.server().signal(&self, Signal::Aborted);
        self.end_work();
    }

    /// The answer is complete.
    pub(crate) fn leave(&self) {
        if self.server().is_abandoned() {
            return;
        }
        self.place.leave(&self.server().load);
    }

    // ---- the request --------------------------------------------------------------------------------------------

    /// The method, as sent.
    pub fn method(&self) -> &[u8] {
        self.head.method(&self.bytes)
    }

    /// The path that was routed, as sent.
    pub fn path(&self) -> &[u8] {
        self.head.path(&self.bytes)
    }

    /// The request target, as sent.
    pub fn target(&self) -> &[u8] {
        self.head.target(&self.bytes)
    }

    /// What follows the `?`.
    pub fn query(&self) -> Option<&[u8]> {
        self.head.query(&self.bytes)
    }

    /// Path and query, without scheme and authority where the client sent them.
    pub fn path_and_query(&self) -> &[u8] {
        let end = self.head.query.as_ref().map_or(self.head.path.end, |query| query.end);
        &self.bytes[self.head.path.start as usize..end as usize]
    }

    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub fn version_minor(&self) -> u8 {
        self.head.version_minor
    }

    /// Whether the request came over HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.head.http2
    }

    /// The header lines in wire order.
    pub fn headers(&self) -> HeaderLines<'_> {
        HeaderLines::new(self.head.header_block(&self.bytes))
    }

    /// The value of a header; those of a repeated one joined (RFC 9110 5.3).
    pub fn header(&self, name: &[u8]) -> Option<Cow<'_, [u8]>> {
        head::joined(self.head.header_block(&self.bytes), name)
    }

    /// The value of a parameter of the current route, by position.
    pub fn parameter(&self, index: usize) -> Option<&[u8]> {
        let range = self.stop.lock().params.get(index)?;
        self.path().get(range)
    }

    /// The value of a parameter of the current route, by name.
    pub fn parameter_named(&self, name: &str) -> Option<&[u8]> {
        let range = self.stop.lock().params.by_name(name)?;
        self.path().get(range)
    }

    /// How many parameters the current route has.
    pub fn parameter_count(&self) -> usize {
        self.stop.lock().params.len()
    }

    /// The client's address, none on a Unix socket.
    pub fn peer(&self) -> Option<IpAddr> {
        self.connection.peer.ip()
    }

    /// The client's address as a PROXY preface gave it.
    pub fn proxied_peer(&self) -> Option<IpAddr> {
        self.connection.proxied()
    }

    /// Whose request it is, and what it was asked as, as far as trusted proxies say so.
    pub fn origin(&self) -> Origin {
        let Connection { server, peer, told, .. } = &*self.connection;
        match told {
            // It speaks for somebody else, whose headers these are.
            Told::Nobody => Origin::default(),
            Told::Nothing => {
                forwarded::origin(self.header_block(), peer.ip(), &server.config.trusted_proxies)
            }
            Told::Addresses(told) => {
                let source = Some(told.source.ip());
                forwarded::origin(self.header_block(), source, &server.config.trusted_proxies)
            }
        }
    }

    /// The host that the request names, with its port if it has one.
    pub fn authority(&self) -> Option<&[u8]> {
        self.head.authority(&self.bytes)
    }

    /// What was agreed on in the TLS handshake; none: the request came in plain text.
    pub fn secure(&self) -> Option<&Secure> {
        self.connection.secure.as_deref()
    }

    /// Number that names the socket to the system.
    pub fn descriptor(&self) -> i64 {
        self.connection.descriptor()
    }

    /// The header lines as they came.
    pub(super) fn header_block(&self) -> &[u8] {
        self.head.header_block(&self.bytes)
    }

    /// Its number on the connection.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The server this exchange belongs to.
    pub fn server(&self) -> &Arc<crate::server::Server> {
        &self.connection.server
    }

    /// What user code keeps with the exchange.
    pub fn user(&self) -> &OnceLock<Box<dyn Any + Send + Sync>> {
        &self.user
    }

    // ---- routing ------------------------------------------------------------------------------------------------

    /// The handler of the current route.
    pub fn handler(&self) -> HandlerId {
        self.stop.lock().handler
    }

    /// The same for whoever calls it: the number stays the handler's for as long as what comes with it is kept, and no longer.
    /// Whoever keeps the exchange does not keep the handler.
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

    /// Moves on to the next matching route, if one was asked for and the answer is not complete.
    pub fn next(self: &Arc<Self>) -> Option<Next> {
        if !self.yielded.swap(false, Ordering::Relaxed) {
            return None;
        }
        let state = self.current()?;
        Some(self.proceed(state, true))
    }

    /// The same, called in `lane`, which may be another than that of the handler: what it returned has been awaited.
    pub fn next_in(self: &Arc<Self>, lane: Lane) -> Option<Next> {
        if self.is_yielded() && !self.server().is_abandoned() {
            self.stop.lock().lane = lane;
        }
        self.next()
    }

    /// Moves on to the next matching route: this one has nothing for the request.
    pub(super) fn pass(self: &Arc<Self>, state: Locked<'_>) {
        self.proceed(state, false);
    }

    /// `here` is whether the caller runs handlers of the present lane.
    fn proceed(self: &Arc<Self>, mut state: Locked<'_>, here: bool) -> Next {
        let server = &self.connection.server;
        let mut stop = self.stop.lock();
        let domains = server.routes.load();
        let routes = self.connection.routes(&domains, || self.head.authority(&self.bytes));
        loop {
            // WebSocket routes come first, then those for HTTP.
            let websocket = match &stop.behavior {
                Some(_) => routes.and_then(|routes| routes.nth_websocket(self.path(), stop.skipped + 1)),
                None => None,
            };
            let skipped = match (&stop.behavior, &websocket) {
                (Some(_), None) => 0,
                _ => stop.skipped + 1,
            };
            let found = websocket.or_else(|| {
                // No HTTP route opens the tunnel that an extended CONNECT asks for (RFC 8441 section 4).
                let tunnel = self.head.http2 && self.head.upgrade;
                routes.filter(|_| !tunnel)?.nth(self.method(), self.path(), skipped)
            });
            let Some(found) = found else {
                drop(stop);
                if state.request().is_some_and(|request| request.reply.is_started()) {
                    drop(state);
                    self.cut_if_started();
                } else {
                    self.finish_here(state, |state| state.answer_not_found());
                }
                return self.answered(here);
            };
            match found.value {
                Target::Constant(constant) => {
                    drop(stop);
                    self.finish_here(state, |state| state.answer_constant(constant, self.header_block()));
                    return self.answered(here);
                }
                Target::Files(directory) => {
                    *stop = Stop::at_files(skipped, stop.lane);
                    let asked = Conditions::read(self.method(), self.header_block());
                    match state.answer_from_directory(directory, (self.path(), self.query()), &asked) {
                        Tried::Absent => {}
                        Tried::Wait => {
                            drop(stop);
                            self.find_file(&mut state, Arc::clone(directory));
                            // It may have been refused. A handler that runs flushes at its end.
                            state.flush_unless_corked();
                            return Next::Elsewhere;
                        }
                        Tried::Answered => {
                            drop(stop);
                            state.flush();
                            // Once it has left, whoever waits is told. A body that is too large has ended the request before.
                            if self.is_gone() {
                                server.app.signal(Arc::clone(self), Signal::Sent);
                            }
                            return Next::Elsewhere;
                        }
                    }
                }
                Target::WebSocket(behavior) => {
                    if let Some(listener) = behavior.upgrade {
                        let next = Stop::at_upgrade(listener, found.params, Arc::clone(behavior), skipped);
                        return self.move_on(state, stop, next, here);
                    }
                    drop(stop);
                    let value = |name: &[u8]| self.header(name).unwrap_or_default();
                    let key = value(b"sec-websocket-key");
                    let (protocols, extensions) =
                        (value(b"sec-websocket-protocol"), value(b"sec-websocket-extensions"));
                    self.open_socket(&mut state, behavior, &key, &protocols, &extensions, None);
                    state.flush();
                    return Next::Answered;
                }
                Target::Handler { id, lane, lease, max_body_size } => {
                    let limit = max_body_size.unwrap_or(server.config.max_body_size);
                    let behind =
                        (skipped + 1..).map_while(|place| routes?.nth(self.method(), self.path(), place));
                    if !state.admit_body_on_route(limit, behind) {
                        drop(stop);
                        state.flush();
                        return self.answered(here);
                    }
                    let next = Stop::at_handler(*id, *lane, lease.clone(), found.params, skipped);
                    return self.move_on(state, stop, next, here);
                }
            }
        }
    }

    /// The core answers, if it takes the body.
    fn finish_here(&self, mut state: Locked<'_>, answer: impl FnOnce(&mut Locked<'_>)) {
        if state.admit_body(self.connection.server.config.max_body_size) {
            answer(&mut state);
        }
        state.flush();
    }

    /// The core has answered: the caller is told, or if it is the core, whoever holds the exchange.
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
        let asked = !state.out.is_corked() && state.out.has_any();
        let next = if stays {
            Next::Here(id)
        } else {
            state.dispatch(Arc::clone(self), lane);
            Next::Elsewhere
        };
        if asked {
            state.flush();
        }
        next
    }
}
