//! One request and its answer, as user code holds it: valid for as long as anybody keeps it.
//!
//! Reading the request never fails. Acting on the answer is allowed from any thread and at any time; once the exchange
//! is over (answered, aborted, or replaced by the next request) every act is a no-op that says so.

use std::any::Any;
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard};

use crate::app::{Behavior, HandlerId, Lane, Listener, Target};
use crate::http::head::{self, Head, HeaderLines};
use crate::http::response::HeadError;
use crate::router::Params;
use crate::server::connection::{Connection, Locked, Phase};
use crate::server::intake::Reader;
use crate::server::websocket::{self, Offer, WebSocket};
use crate::server::{batch, session};
use crate::websocket::handshake;

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
}

impl Stop {
    /// At the first HTTP route.
    pub(crate) fn first(handler: HandlerId, lane: Lane, params: Params) -> Self {
        Self { handler, lane, params, skipped: 0, behavior: None }
    }

    /// At a WebSocket route.
    pub(crate) fn at_upgrade(
        listener: Listener,
        params: Params,
        behavior: Arc<Behavior>,
        skipped: usize,
    ) -> Self {
        Self { handler: listener.id, lane: listener.lane, params, skipped, behavior: Some(behavior) }
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
    /// What had arrived of the body when the client went away.
    rest: Mutex<Vec<u8>>,
    /// User code asked for the next matching route.
    yielded: AtomicBool,
    /// The client went away, or user code says so.
    aborted: AtomicBool,
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
    ) -> Arc<Self> {
        Arc::new(Self {
            connection,
            number,
            head,
            bytes: bytes.into(),
            stop: Mutex::new(stop),
            rest: Mutex::default(),
            yielded: AtomicBool::new(false),
            aborted: AtomicBool::new(false),
            responded: AtomicBool::new(false),
            user: OnceLock::new(),
        })
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
        self.connection.state.lock().proxied
    }

    /// Number that names the socket to the system.
    pub fn descriptor(&self) -> i64 {
        self.connection.descriptor()
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
        let mut state = self.current()?;
        let server = &self.connection.server;
        let stop = self.stop.lock();
        let routes = server.routes.load();
        // WebSocket routes come first, then those for HTTP.
        let websocket = match &stop.behavior {
            Some(_) => routes.nth_websocket(self.path(), stop.skipped + 1),
            None => None,
        };
        let skipped = match (&stop.behavior, &websocket) {
            (Some(_), None) => 0,
            _ => stop.skipped + 1,
        };
        let found = websocket.or_else(|| routes.nth(self.method(), self.path(), skipped));
        let Some(found) = found else {
            drop(stop);
            if state.http.reply.is_started() {
                drop(state);
                self.cut_if_started();
            } else {
                self.finish_with(&mut state, session::give_up);
                self.connection.flush(state);
            }
            return Some(Next::Answered);
        };
        match found.value {
            Target::Constant(constant) => {
                drop(stop);
                self.finish_with(&mut state, |connection, state| {
                    session::give_constant(connection, state, constant);
                });
                self.connection.flush(state);
                Some(Next::Answered)
            }
            Target::WebSocket(behavior) => {
                if let Some(listener) = behavior.upgrade {
                    let next = Stop::at_upgrade(listener, found.params, Arc::clone(behavior), skipped);
                    return Some(self.move_on(state, stop, next));
                }
                drop(stop);
                let value = |name: &[u8]| self.header(name).unwrap_or_default();
                let key = value(b"sec-websocket-key");
                let (protocols, extensions) =
                    (value(b"sec-websocket-protocol"), value(b"sec-websocket-extensions"));
                self.open_socket(&mut state, behavior, &key, &protocols, &extensions, None);
                self.connection.flush(state);
                Some(Next::Answered)
            }
            Target::Handler { id, lane, .. } => {
                let next = Stop { skipped, ..Stop::first(*id, *lane, found.params) };
                Some(self.move_on(state, stop, next))
            }
        }
    }

    fn move_on(self: &Arc<Self>, mut state: Locked<'_>, mut stop: MutexGuard<'_, Stop>, next: Stop) -> Next {
        let (id, lane) = (next.handler, next.lane);
        let stays = lane == stop.lane;
        *stop = next;
        drop(stop);
        if stays {
            return Next::Here(id);
        }
        session::dispatch(&self.connection, &mut state, Arc::clone(self), lane);
        Next::Elsewhere
    }

    // ---- upgrading ----------------------------------------------------------------------------------------------

    /// Completes the handshake that this request is: the first of `protocols` is chosen, and compression is agreed on from
    /// `extensions`. `user` is what [`WebSocket::user`] gives. None when the exchange is over, and when the key is none:
    /// then it has been refused with a 400.
    pub fn upgrade(
        &self,
        key: &[u8],
        protocols: &[u8],
        extensions: &[u8],
        user: Option<Box<dyn Any + Send + Sync>>,
    ) -> Result<Option<Arc<WebSocket>>, NotAHandshake> {
        let Some(mut state) = self.current() else { return Ok(None) };
        if state.http.reply.is_started() || self.is_aborted() {
            return Ok(None);
        }
        let behavior = self.stop.lock().behavior.clone().ok_or(NotAHandshake)?;
        if !handshake::is_valid_key(key) {
            self.responded.store(true, Ordering::Release);
            websocket::refuse(&self.connection, &mut state, 400);
            self.connection.flush(state);
            return Ok(None);
        }
        let socket = self.open_socket(&mut state, &behavior, key, protocols, extensions, user);
        if !batch::mark(&self.connection, &mut state) {
            self.connection.flush(state);
        }
        Ok(Some(socket))
    }

    fn open_socket(
        &self,
        state: &mut Locked<'_>,
        behavior: &Arc<Behavior>,
        key: &[u8],
        protocols: &[u8],
        extensions: &[u8],
        user: Option<Box<dyn Any + Send + Sync>>,
    ) -> Arc<WebSocket> {
        let user_agent = self.header(b"user-agent").unwrap_or_default();
        let offer = Offer { key, protocols, extensions, user_agent: &user_agent };
        self.responded.store(true, Ordering::Release);
        websocket::open(&self.connection, state, behavior, &offer, user)
    }

    // ---- the answer ---------------------------------------------------------------------------------------------

    /// The connection, locked, if this exchange is still the one it serves.
    fn current(&self) -> Option<Locked<'_>> {
        let state = self.connection.state.lock();
        (state.phase == Phase::Busy && state.current == self.number && !state.http.reply.is_done())
            .then_some(state)
    }

    fn finish_with(
        self: &Arc<Self>,
        state: &mut Locked<'_>,
        act: impl FnOnce(&Arc<Connection>, &mut crate::server::connection::State),
    ) {
        act(&self.connection, state);
        if state.http.reply.is_done() {
            self.responded.store(true, Ordering::Release);
            self.connection.settle(state);
        }
    }

    fn server_name(&self) -> &[u8] {
        self.connection.server.config.server_name.as_bytes()
    }

    /// Whether the answer is complete.
    pub fn has_responded(&self) -> bool {
        self.responded.load(Ordering::Acquire)
    }

    /// Whether nothing can be done any more: answered, or the connection is gone.
    pub fn is_over(&self) -> bool {
        self.current().is_none()
    }

    /// Whether the head of the answer has been written.
    pub fn is_started(&self) -> bool {
        self.current().is_some_and(|state| state.http.reply.is_started())
    }

    /// Whether the client went away before the answer was complete.
    pub fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }

    /// Sets what [`Exchange::is_aborted`] gives; user code of the original does.
    pub fn set_aborted(&self, aborted: bool) {
        self.aborted.store(aborted, Ordering::Release);
    }

    pub(crate) fn mark_aborted(&self) {
        self.set_aborted(true);
    }

    /// Sets the status by number. The first explicit one wins.
    pub fn set_status(&self, code: u16) -> Result<(), HeadError> {
        self.current().map_or(Ok(()), |mut state| state.http.reply.head.set_status(code))
    }

    /// Sets the status line's text, such as `200 OK`. The first explicit one wins.
    pub fn set_status_text(&self, text: &[u8]) -> Result<(), HeadError> {
        self.current().map_or(Ok(()), |mut state| state.http.reply.head.set_status_text(text))
    }

    /// Adds a header.
    pub fn add_header(&self, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        self.current().map_or(Ok(()), |mut state| state.http.reply.head.header(name, value))
    }

    /// Whether user code gave this header already.
    pub fn has_header(&self, known: crate::http::response::Known) -> bool {
        self.current().is_some_and(|state| state.http.reply.head.wrote(known))
    }

    /// Forgets status and headers that have not gone out, for an error answer in their place.
    pub fn reset_head(&self) {
        if let Some(mut state) = self.current()
            && !state.http.reply.is_started()
        {
            state.http.reply.head.clear();
        }
    }

    /// Ends the answer with `payload`; `close` ends the connection after it. False when the exchange is over.
    pub fn end(&self, payload: &[u8], close: bool) -> bool {
        let Some(mut guard) = self.current() else { return false };
        let state = &mut *guard;
        state.http.reply.close |= close;
        let place = state.http.reply.end(state.out.tail(), payload.len(), self.server_name());
        self.complete(guard, &payload[..place.take], place.suffix);
        true
    }

    /// Ends the answer without a body.
    pub fn end_empty(&self, close: bool) -> bool {
        let Some(mut guard) = self.current() else { return false };
        let state = &mut *guard;
        state.http.reply.close |= close;
        let place = state.http.reply.end_empty(state.out.tail(), self.server_name());
        self.complete(guard, b"", place.suffix);
        true
    }

    fn complete(&self, mut state: Locked<'_>, payload: &[u8], suffix: &'static [u8]) {
        self.responded.store(true, Ordering::Release);
        if payload.len() + suffix.len() > 0 && payload.len() < crate::server::connection::DIRECT {
            let out = state.out.tail();
            out.extend_from_slice(payload);
            out.extend_from_slice(suffix);
            self.connection.settle(&mut state);
            self.connection.send(state, b"", b"");
        } else {
            // The payload is not in the queue: settle only when it is on its way, or closing would overtake it.
            self.connection.send(state, payload, suffix);
            let mut state = self.connection.state.lock();
            if state.phase == Phase::Busy && state.current == self.number {
                self.connection.settle(&mut state);
                self.connection.flush(state);
            }
        }
    }

    /// Writes a piece of the body. False when the exchange is over.
    pub fn write(&self, payload: &[u8]) -> bool {
        let Some(mut guard) = self.current() else { return false };
        let state = &mut *guard;
        let place = state.http.reply.write(state.out.tail(), payload.len(), self.server_name());
        self.connection.send(guard, &payload[..place.take], place.suffix);
        true
    }

    /// Holds what is written until [`Exchange::uncork`].
    /// True when that is new.
    pub fn cork(&self) -> bool {
        self.current().is_some_and(|mut state| !std::mem::replace(&mut state.corked, true))
    }

    /// Sends what a cork held.
    pub fn uncork(&self) {
        self.connection.uncork();
    }

    /// Writes an interim `100 Continue`, unless the answer has begun or the client speaks HTTP/1.0.
    pub fn write_continue(&self) {
        if self.head.version_minor == 0 {
            return;
        }
        if let Some(mut state) = self.current()
            && !state.http.reply.is_started()
        {
            state.out.tail().extend_from_slice(session::CONTINUE);
            self.connection.flush(state);
        }
    }

    /// Writes as much of `payload` as the kernel takes, of an answer of `total` bytes (0: the length of `payload`).
    pub fn try_end(&self, payload: &[u8], total: u64, close: bool) -> Attempt {
        let Some(mut guard) = self.current() else { return Attempt { taken: false, over: true } };
        let state = &mut *guard;
        state.http.reply.close |= close;
        let total = if total == 0 { payload.len() as u64 } else { total };
        state.http.reply.begin_sized(state.out.tail(), total, self.server_name());
        let offered = usize::try_from(state.http.reply.room()).unwrap_or(usize::MAX).min(payload.len());
        let taken = if state.http.reply.is_mute() {
            // The lock is taken again below.
            self.connection.flush(guard);
            offered
        } else {
            self.connection.write_through(guard, &payload[..offered])
        };
        let Some(mut state) = self.current() else { return Attempt { taken: false, over: true } };
        let over = state.http.reply.took(taken as u64);
        if over {
            self.responded.store(true, Ordering::Release);
            self.connection.settle(&mut state);
            self.connection.flush(state);
        }
        Attempt { taken: taken == offered, over }
    }

    /// Queues `payload` as part of an answer of `total` bytes. `taken` says whether there is room for more.
    pub fn send_chunk(&self, payload: &[u8], total: u64) -> Attempt {
        let Some(mut guard) = self.current() else { return Attempt { taken: false, over: true } };
        let state = &mut *guard;
        state.http.reply.begin_sized(state.out.tail(), total, self.server_name());
        let offered = usize::try_from(state.http.reply.room()).unwrap_or(usize::MAX).min(payload.len());
        let mute = state.http.reply.is_mute();
        state.http.reply.offset += offered as u64;
        self.connection.send(guard, if mute { b"" } else { &payload[..offered] }, b"");
        let Some(mut state) = self.current() else { return Attempt { taken: false, over: true } };
        let over = state.http.reply.took(0);
        let taken = state.out.len() < crate::server::connection::HIGH_WATER;
        if over {
            self.responded.store(true, Ordering::Release);
            self.connection.settle(&mut state);
            self.connection.flush(state);
        }
        Attempt { taken, over }
    }

    /// Body bytes accepted so far; 0 once the exchange is over.
    pub fn write_offset(&self) -> u64 {
        self.current().map_or(0, |state| state.http.reply.offset)
    }

    /// Overrides the count of body bytes accepted.
    pub fn set_write_offset(&self, offset: u64) {
        if let Some(mut state) = self.current() {
            state.http.reply.offset = offset;
        }
    }

    /// Bytes that wait for the socket.
    pub fn buffered(&self) -> usize {
        self.current().map_or(0, |state| state.out.len())
    }

    /// Ends the connection at once.
    pub fn close(&self) {
        if let Some(mut state) = self.current() {
            self.connection.lose(&mut state);
        }
    }

    /// If part of the answer is out, ends the connection so that the client does not take that part for the whole.
    /// True when it did.
    pub fn cut_if_started(&self) -> bool {
        let Some(mut state) = self.current() else { return false };
        if !state.http.reply.is_started() {
            return false;
        }
        state.cut = true;
        state.corked = false;
        self.connection.abandon(&mut state);
        self.connection.begin_closing(&mut state);
        self.connection.flush(state);
        true
    }

    // ---- events -------------------------------------------------------------------------------------------------

    /// Whether the client is known to be there: an abort will still be signalled when it goes.
    pub fn is_watched(&self) -> bool {
        self.current().is_some_and(|state| !state.peer_closed)
    }

    /// Has [`Signal::Writable`](crate::app::Signal) sent once, when there is room for more output.
    /// False when there is room now, or never will be.
    pub fn watch_writable(&self) -> bool {
        let Some(mut state) = self.current() else { return false };
        let full = state.blocked || state.out.len() >= crate::server::connection::HIGH_WATER;
        state.watch_writable = full;
        full
    }

    // ---- the request body ---------------------------------------------------------------------------------------

    /// Asks for the body in pieces: [`Signal::Readable`](crate::app::Signal) comes when there is one.
    pub fn read_pieces(&self) -> bool {
        self.read(Reader::Pieces)
    }

    /// Asks for the body as a whole: [`Signal::Readable`](crate::app::Signal) comes when it is complete.
    pub fn read_whole(&self) -> bool {
        self.read(Reader::Whole)
    }

    fn read(&self, reader: Reader) -> bool {
        let Some(mut state) = self.current() else { return false };
        state.http.intake.reader = reader;
        if state.http.intake.wants_signal() {
            session::announce(&self.connection, &mut state);
        }
        self.connection.rearm(&state);
        self.connection.wake();
        true
    }

    /// The whole body, if it has arrived, without asking for a signal. Whoever reads pieces is told of its end.
    pub fn take_complete(&self) -> Option<Vec<u8>> {
        let mut state = self.current()?;
        if !state.http.intake.is_complete() {
            return None;
        }
        let body = state.http.intake.take_all();
        if state.http.intake.wants_signal() {
            session::announce(&self.connection, &mut state);
        }
        Some(body)
    }

    /// The whole body, for those who waited for it with [`Exchange::read_whole`]; `pieces` says whether somebody else
    /// reads pieces, and is to be told of its end: [`Exchange::resume_body`] does.
    pub fn take_whole(&self, pieces: bool) -> Option<Vec<u8>> {
        let mut state = self.current()?;
        if !state.http.intake.is_complete() {
            return None;
        }
        state.http.intake.reader = if pieces { Reader::Pieces } else { Reader::None };
        Some(state.http.intake.take_all())
    }

    /// Takes what has arrived of the body, and whether that was the last. None when the exchange is over, or paused.
    /// No further [`Signal::Readable`](crate::app::Signal) comes before [`Exchange::resume_body`].
    pub fn take_body(&self) -> Option<(Vec<u8>, bool)> {
        let mut state = self.current()?;
        if state.http.intake.is_held_back() {
            // Paused while the signal was on its way: another comes when reading goes on.
            state.http.intake.signalled = false;
            return None;
        }
        let taken = state.http.intake.take();
        self.connection.rearm(&state);
        self.connection.wake();
        Some(taken)
    }

    /// What was taken has been dealt with: the next piece may come.
    pub fn resume_body(&self) {
        if let Some(mut state) = self.current() {
            state.http.intake.signalled = false;
            if state.http.intake.wants_signal() {
                session::announce(&self.connection, &mut state);
            }
            self.connection.rearm(&state);
        }
    }

    /// What had arrived of the body, unread, when the exchange was abandoned.
    pub fn take_rest(&self) -> Vec<u8> {
        std::mem::take(&mut *self.rest.lock())
    }

    pub(crate) fn keep_rest(&self, rest: Vec<u8>) {
        *self.rest.lock() = rest;
    }

    /// Stops reading from the client, or goes on. Nothing that was received is lost.
    pub fn set_paused(&self, paused: bool) {
        if let Some(mut state) = self.current() {
            state.http.intake.paused = paused;
            if state.http.intake.wants_signal() {
                session::announce(&self.connection, &mut state);
            }
            self.connection.rearm(&state);
            if !paused {
                self.connection.wake();
            }
        }
    }
}
