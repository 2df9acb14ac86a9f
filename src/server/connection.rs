//! One client connection: its state, the task that drives it, and how bytes leave.
//!
//! Any thread may act on a connection. Everything that changes is behind one lock, which is never held across a system
//! call: whoever flushes takes the output out first and marks `flushing`, so that order on the wire is the order of the
//! calls. What a thread cannot do itself (wait for the socket) it leaves to the task, by waking it.

mod leaving;

use std::io;
use std::net::{IpAddr, Shutdown};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ::http::Response;
use atomic_waker::AtomicWaker;
use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::app::{Signal, Target};
use crate::http::head::Framing;
use crate::router::{Domains, Router};
use crate::server::accept::PARTING;
use crate::server::access::Log;
use crate::server::exchange::Exchange;
use crate::server::files::Body;
use crate::server::intake::Intake;
use crate::server::output::Output;
use crate::server::overload::Seat;
use crate::server::pace::{Pace, Way};
use crate::server::preface::Told;
use crate::server::reply::{Asked, Reply};
use crate::server::stream::{Peer, Writing};
use crate::server::tls::Secure;
use crate::server::websocket::{self, Session};
use crate::server::{Server, batch, session};

/// A payload this large goes to the kernel from where it lies instead of through the output buffer.
pub(crate) const DIRECT: usize = 16 * 1024;
/// A corked connection writes through once this much has gathered: an answer of many pieces does not grow in memory.
pub(crate) const CORK_LIMIT: usize = 16 * 1024;
/// Beyond this much unsent output no further pipelined request is started and `Writable` waits.
pub(crate) const HIGH_WATER: usize = 64 * 1024;
/// How long the rest of a refused request may still arrive, so that our answer is not lost to a reset (RFC 9112 9.6).
const LINGER: Duration = Duration::from_secs(2);
/// How long a client that has shut its sending side may wait for the answer of a request in progress.
const HALF_CLOSED: Duration = Duration::from_secs(5);
/// No deadline.
pub(crate) const NEVER: u64 = u64::MAX;

/// What a connection waits for.
enum Waiting {
    /// The first byte of a request.
    Request,
    /// The rest of a head.
    Head,
    /// More of a body that somebody reads.
    Body,
    /// The answer to a client that has shut its sending side.
    Answer,
    /// The client to take what was written.
    Room,
    /// The client to close, after we have.
    End,
}

struct Patience {
    kind: Waiting,
    limit: Duration,
}

impl Patience {
    /// What the client has to move meanwhile; none where the time is for all of it.
    fn way(&self) -> Option<Way> {
        match self.kind {
            Waiting::Body => Some(Way::Body),
            Waiting::Room => Some(Way::Room),
            Waiting::Request | Waiting::Head | Waiting::Answer | Waiting::End => None,
        }
    }
}

/// Where a connection stands between two requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waiting for a request head, or in the middle of one.
    Head,
    /// A request is in progress: its answer or its body is not complete.
    Busy,
    /// The connection speaks WebSocket.
    Socket,
    /// The connection speaks HTTP/2: its requests are on streams, which are connections of their own.
    Multiplexed,
    /// The last answer is on its way out; what still comes in is thrown away.
    Closing,
    /// Over: the task ends.
    Over,
}

/// The request in progress, as far as it is not its exchange's. A WebSocket has none, and holds no room for it.
#[derive(Default)]
pub(crate) struct Http(Option<Box<HttpParts>>);

/// See [`Http`].
pub(crate) struct HttpParts {
    pub(crate) reply: Reply,
    pub(crate) intake: Intake,
    /// The rest of an answer from a file; not while somebody sends of it, or reads it into memory.
    pub(crate) file: Option<Box<Body>>,
    /// User code has left the answer to a file.
    pub(crate) claimed: bool,
    /// Such an answer has not left.
    pub(crate) file_leaves: bool,
}

impl HttpParts {
    const fn new(reply: Reply) -> Self {
        Self { reply, intake: Intake::NONE, file: None, claimed: false, file_leaves: false }
    }
}

impl Http {
    /// A request begins. The only place where a body begins, and so the one where it is framed.
    pub(crate) fn begin(&mut self, framing: Framing, asked: Asked, limit: u64) {
        let parts = &mut **self;
        parts.claimed = false;
        parts.reply = Reply::new(asked);
        parts.intake = Intake::new(framing, limit);
    }

    /// HTTP is over on this connection: gives the answer that ends it. The request had no body.
    pub(crate) fn end(&mut self) -> Reply {
        self.0.take().map(|parts| parts.reply).unwrap_or_default()
    }

    /// Whether an answer from a file waits to go on.
    pub(crate) fn has_file(&self) -> bool {
        self.0.as_ref().is_some_and(|parts| parts.file.is_some())
    }

    /// Takes the head of an answer over HTTP/2. A socket has no use for the rest.
    pub(crate) fn take_opening(&mut self, socket: bool) -> Option<Box<Response<()>>> {
        let opening = self.0.as_mut()?.reply.opening.take();
        if socket && opening.is_some() {
            self.0 = None;
        }
        opening
    }

    /// Whether the head of an answer over HTTP/2 waits to leave.
    pub(crate) fn has_opening(&self) -> bool {
        self.0.as_ref().is_some_and(|parts| parts.reply.opening.is_some())
    }

    /// Takes the file out, without making room where there is none.
    pub(crate) fn take_file(&mut self) -> Option<Box<Body>> {
        self.0.as_mut()?.file.take()
    }
}

impl Deref for Http {
    type Target = HttpParts;

    fn deref(&self) -> &HttpParts {
        static NONE: LazyLock<HttpParts> = LazyLock::new(|| HttpParts::new(Reply::default()));
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl DerefMut for Http {
    fn deref_mut(&mut self) -> &mut HttpParts {
        self.0.get_or_insert_with(|| Box::new(HttpParts::new(Reply::default())))
    }
}

/// Everything about a connection that changes.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own; together they are no state machine"
)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    /// Received, not parsed: part of a head, or pipelined requests.
    pub(crate) input: Vec<u8>,
    /// How much of `input` is known to hold no end of a head.
    pub(crate) searched: usize,
    /// The request in progress, until its answer is complete.
    pub(crate) exchange: Option<Arc<Exchange>>,
    /// Numbers the exchanges; an [`Exchange`] whose number is not this one is over.
    pub(crate) current: u64,
    pub(crate) http: Http,
    pub(crate) out: Output,
    /// A thread is writing what it took from `out`.
    pub(crate) flushing: bool,
    /// How much it took.
    pub(crate) leaving: usize,
    /// How much a TLS session had encrypted when the kernel had no room for it.
    pub(crate) sealed: usize,
    /// The kernel's buffer is full; the task waits for room.
    pub(crate) blocked: bool,
    /// A handler is running: what it writes leaves together when it returns.
    pub(crate) corked: bool,
    /// User code asked to hear when there is room.
    pub(crate) watch_writable: bool,
    /// The task goes on when less is queued: another thread is writing that.
    pub(crate) held_up: bool,
    /// The client has shut its sending side.
    pub(crate) peer_closed: bool,
    /// Once the output has left, reset instead of waiting: the answer is incomplete and must look so.
    pub(crate) cut: bool,
    /// Our sending side has been shut.
    pub(crate) finished: bool,
    /// The first request has not begun.
    pub(crate) fresh: bool,
    /// Of HTTP/2: streams are open.
    pub(crate) streaming: bool,
    /// Of HTTP/2: nobody answers them any more, the client has only to take what is left.
    pub(crate) answered: bool,
    /// What the client moves while it is waited for.
    pub(crate) pace: Pace,
    /// The batch that will flush, if one has marked this connection.
    pub(crate) batch: u32,
    /// What speaks WebSocket here, from the handshake until user code has heard of the end.
    pub(crate) socket: Option<Box<Session>>,
    /// What goes to the access log, if there is one.
    pub(crate) log: Option<Box<Log>>,
}

impl State {
    /// Bytes that the kernel had no room for; what a cork holds, or leaves for the first time, is not among them.
    pub(crate) fn waiting(&self) -> usize {
        if self.blocked { self.out.len() + self.leaving + self.sealed } else { 0 }
    }

    /// The request is no longer in progress: its answer is complete.
    pub(crate) fn end_exchange(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.leave();
        }
    }

    /// Whether something is queued.
    pub(crate) fn has_output(&self) -> bool {
        !self.out.is_empty() || self.http.has_opening()
    }

    /// Whether there is output that the kernel has not taken.
    pub(crate) fn is_sending(&self) -> bool {
        self.flushing || self.blocked || !self.out.is_empty()
    }
}

/// One client connection, shared by its task, its exchange and Python's objects.
pub(crate) struct Connection {
    pub(crate) server: Arc<Server>,
    pub(crate) id: u64,
    pub(crate) peer: Peer,
    /// Whom the peer speaks for, as its PROXY preface has it.
    pub(crate) told: Told,
    /// What was agreed on in the TLS handshake; none: plain text.
    pub(crate) secure: Option<Arc<Secure>>,
    /// The writing half, until the task ends: whoever keeps an exchange keeps no socket open. Held for reading while one
    /// call that cannot block writes. With it goes the right to have a socket open, unless somebody still works for it.
    writing: RwLock<Option<(Writing, Option<Arc<Seat>>)>>,
    /// It is a stream of HTTP/2, with one request.
    stream: bool,
    waker: AtomicWaker,
    pub(crate) state: Mutex<State>,
    /// When the sweeper acts, in milliseconds of the server's clock.
    pub(crate) deadline: AtomicU64,
}

/// A locked connection.
pub(crate) type Locked<'a> = MutexGuard<'a, State>;

impl Connection {
    pub(crate) fn new(
        server: Arc<Server>,
        id: u64,
        peer: Peer,
        told: Told,
        secure: Option<Arc<Secure>>,
        writing: Writing,
        seat: Option<Arc<Seat>>,
    ) -> Arc<Self> {
        let log = server.access.as_ref().map(Log::new);
        Arc::new(Self {
            server,
            id,
            peer,
            told,
            secure,
            stream: matches!(writing, Writing::Stream(_)),
            writing: RwLock::new(Some((writing, seat))),
            waker: AtomicWaker::new(),
            state: Mutex::new(State {
                phase: Phase::Head,
                input: Vec::new(),
                searched: 0,
                exchange: None,
                current: 0,
                http: Http::default(),
                out: Output::default(),
                flushing: false,
                leaving: 0,
                sealed: 0,
                blocked: false,
                corked: false,
                watch_writable: false,
                held_up: false,
                peer_closed: false,
                cut: false,
                finished: false,
                fresh: true,
                streaming: false,
                answered: false,
                pace: Pace::default(),
                batch: batch::NONE,
                socket: None,
                log,
            }),
            deadline: AtomicU64::new(NEVER),
        })
    }

    /// Number that names the socket to the system.
    pub(crate) fn descriptor(&self) -> i64 {
        self.writing.read().as_ref().map_or(-1, |(writing, _)| writing.descriptor())
    }

    /// The router for a request with this authority. A connection that was opened under a server name with a router of its own
    /// is routed there alone; none when that name has been removed since, whether or not it was registered anew: who may come in
    /// under the new one has not been asked of this client.
    ///
    /// None also for a stream of HTTP/2 whose authority would have come to other routes by a handshake of its own. Clients send
    /// requests for all hosts that a certificate covers over one connection (RFC 9113 9.1.1), and open another when told to.
    pub(crate) fn routes<'a, 'b>(
        &self,
        domains: &'a Domains<Target>,
        authority: impl FnOnce() -> Option<&'b [u8]>,
    ) -> Option<&'a Router<Target>> {
        let Some(secure) = &self.secure else { return Some(domains.select(authority)) };
        let Some(name) = &secure.server_name else {
            if !self.stream {
                return Some(domains.select(|| authority().filter(|host| !self.is_guarded(host))));
            }
            let host = authority();
            let guarded = host.is_some_and(|host| self.is_guarded(host));
            return (!guarded).then(|| domains.select(|| host));
        };
        let host = if self.stream { authority() } else { None };
        let certificates = self.server.config.certificates.as_ref()?;
        if certificates.stands_for(name, host) { domains.named(name) } else { None }
    }

    /// The client's address as a PROXY preface gave it.
    pub(crate) fn proxied(&self) -> Option<IpAddr> {
        self.told.source()
    }

    /// The client's address as far as the connection knows; none on a Unix socket.
    pub(crate) fn client(&self) -> Option<IpAddr> {
        self.proxied().or(self.peer.ip())
    }

    /// Whether a host is only for clients that have named it in their handshake, and this one has not: it may have a certificate
    /// for others to trust, and ask for one of theirs, which this client has never been asked for.
    fn is_guarded(&self, host: &[u8]) -> bool {
        let names = self.server.config.certificates.as_ref().filter(|names| names.has_names());
        names.is_some_and(|names| std::str::from_utf8(host).is_ok_and(|host| names.knows(host)))
    }

    /// Whether it is a stream of HTTP/2.
    pub(crate) fn is_stream(&self) -> bool {
        self.stream
    }

    /// Waits for the client to give up a stream.
    pub(crate) fn poll_reset(&self, context: &mut Context<'_>) -> Poll<()> {
        match &*self.writing.read() {
            Some((Writing::Stream(stream), _)) => stream.poll_reset(context),
            _ => Poll::Pending,
        }
    }

    /// Asks the client for its body if it waits for that (RFC 9110 10.1.1), and somebody takes it. Whoever calls it flushes.
    pub(crate) fn ask_for_body(&self, state: &mut State) {
        if !state.http.intake.is_deferred() && state.http.reply.take_expectation() {
            self.invite(state);
        }
    }

    /// Tells the client to go on with its body (RFC 9110 15.2.1). Whoever calls it flushes.
    pub(crate) fn invite(&self, state: &mut State) {
        match &*self.writing.read() {
            Some((Writing::Stream(stream), _)) => stream.invite(),
            _ => state.out.tail().extend_from_slice(session::CONTINUE),
        }
    }

    /// Whom to wake: the task, as it was last polled.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Waits for the kernel to have room.
    pub(crate) fn poll_room(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &*self.writing.read() {
            Some((writing, _)) => writing.poll_ready(context),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    pub(super) fn with_socket<T>(&self, act: impl FnOnce(&Writing) -> io::Result<T>) -> io::Result<T> {
        self.writing
            .read()
            .as_ref()
            .map_or_else(|| Err(io::ErrorKind::NotConnected.into()), |(writing, _)| act(writing))
    }

    /// Ends the connection at once: what the client has got may be less than was promised.
    fn cut(&self) {
        if let Some((writing, _)) = &*self.writing.read() {
            writing.shutdown(Shutdown::Both);
        }
    }

    /// Whether the session under HTTP has something to send that nobody sends at the moment.
    pub(super) fn owes(&self) -> bool {
        self.secure.is_some() && self.writing.read().as_ref().is_some_and(|(writing, _)| writing.owes())
    }

    /// Says that no more comes, then shuts the socket. False when that is left to the task, as room is.
    pub(super) fn say_end(&self, how: Shutdown) -> bool {
        self.writing.read().as_ref().is_none_or(|(writing, _)| writing.close(how))
    }

    /// Gives the socket back to the system. The task has ended.
    pub(crate) fn release(&self) {
        let writing = self.writing.write().take();
        // A farewell that still waits leaves now or never.
        if let Some((writing, seat)) = writing {
            let _ = writing.try_flush();
            let mut state = self.state.lock();
            if let Some(session) = &mut state.socket {
                session.keep_seat(seat);
            }
        }
    }

    /// The right to have a socket open, as long as there is one.
    pub(crate) fn seat(&self) -> Option<Arc<Seat>> {
        self.writing.read().as_ref().and_then(|(_, seat)| seat.clone())
    }

    /// How many requests run for nobody that the client of this stream has given up, on whichever stream.
    pub(crate) fn abandoned(&self) -> usize {
        // Any other connection ends with the request that is given up.
        if !self.stream {
            return 0;
        }
        let writing = self.writing.read();
        writing.as_ref().and_then(|(_, seat)| seat.as_ref()).map_or(0, |seat| seat.abandoned())
    }

    /// Has the task look at the state again.
    pub(crate) fn wake(&self) {
        self.waker.wake();
    }

    // ---- ending -------------------------------------------------------------------------------------------------

    /// The answer is complete: the next request may begin, or the connection ends.
    pub(crate) fn settle(self: &Arc<Self>, state: &mut State) {
        state.end_exchange();
        state.log_answer();
        state.watch_writable = false;
        if state.http.reply.close || state.http.reply.is_short() {
            state.cut |= state.http.reply.is_short();
            self.begin_closing(state);
            return;
        }
        state.http.intake.discard();
        if state.http.intake.is_complete() {
            state.phase = Phase::Head;
            // Requests that wait here, or are in the hands of whoever parses; or none, and the client sends no more: the task
            // knows, once nobody parses.
            if !state.input.is_empty() || state.peer_closed {
                self.wake();
            }
        } else {
            // The task may have left the socket alone because nobody took what had come.
            self.wake();
        }
        self.rearm(state);
    }

    /// No further request is read; the connection ends when the output has left.
    pub(crate) fn begin_closing(self: &Arc<Self>, state: &mut State) {
        state.phase = Phase::Closing;
        state.end_exchange();
        drop(state.http.take_file());
        state.log_answer();
        state.http.intake.discard();
        state.input = Vec::new();
        self.rearm(state);
        if !state.has_output() && !state.flushing {
            self.after_flush(state);
        }
    }

    /// The request in progress will not be answered: whoever was to do so hears of it.
    pub(crate) fn abandon(&self, state: &mut State) {
        if let Some(exchange) = state.exchange.take() {
            let by_file = state.http.claimed || state.http.file_leaves;
            state.http.reply.coder = None;
            exchange.mark_aborted();
            exchange.keep_rest(state.http.intake.take_all());
            Arc::clone(&exchange).give_up(self.seat());
            if by_file {
                // What a handler that passed the request on has left for the next one is let go of.
                self.server.app.signal(exchange, Signal::Sent);
            }
        }
    }

    /// The connection is gone: whoever was answering hears of it, and the task ends.
    pub(crate) fn lose(self: &Arc<Self>, state: &mut State) {
        if state.phase == Phase::Over {
            return;
        }
        let idle = state.phase == Phase::Head && !state.is_sending();
        state.phase = Phase::Over;
        state.out.clear();
        drop(state.http.take_file());
        state.input = Vec::new();
        self.abandon(state);
        websocket::lost(state);
        state.log_lost();
        self.deadline.store(NEVER, Ordering::Relaxed);
        // Between two answers nothing is missing, and the client may know that.
        if idle {
            self.say_end(Shutdown::Both);
        } else {
            self.cut();
        }
        self.wake();
    }

    /// What the connection waits for, if that has a limit.
    fn patience(&self, state: &State) -> Option<Patience> {
        let config = &self.server.config;
        let (kind, limit) = match state.phase {
            Phase::Over | Phase::Socket => return None,
            _ if state.blocked => (Waiting::Room, config.write_timeout),
            Phase::Closing => (Waiting::End, LINGER),
            Phase::Multiplexed if state.finished => (Waiting::End, LINGER),
            Phase::Multiplexed if state.streaming && state.answered => (Waiting::Room, config.write_timeout),
            Phase::Multiplexed if state.streaming => return None,
            Phase::Head if !state.input.is_empty() => (Waiting::Head, config.header_timeout),
            Phase::Head if self.server.is_closing() => (Waiting::Request, PARTING),
            Phase::Multiplexed if state.fresh && self.server.is_closing() => (Waiting::Request, PARTING),
            Phase::Head | Phase::Multiplexed if state.fresh => (Waiting::Request, config.header_timeout),
            Phase::Head | Phase::Multiplexed => (Waiting::Request, config.keep_alive_timeout),
            Phase::Busy if state.peer_closed && !state.http.reply.is_started() => {
                (Waiting::Answer, HALF_CLOSED)
            }
            Phase::Busy if state.http.intake.is_waited_for() => (Waiting::Body, config.body_timeout),
            Phase::Busy => return None,
        };
        Some(Patience { kind, limit })
    }

    /// Sets the deadline that the state calls for, counted from now.
    pub(crate) fn rearm(&self, state: &mut State) {
        let deadlines = &self.server.deadlines;
        let patience = self.patience(state);
        let way = patience.as_ref().and_then(Patience::way);
        let rate = self.server.config.min_rate;
        if rate > 0 && (way.is_some() || state.pace.is_running()) {
            if self.stream {
                state.pace.reached(self.moved_beside());
            }
            state.pace.begin(way, rate, deadlines.now());
            // The kernel tells of room when there is much of it, so whoever made that has taken more than we see.
            if !self.stream && !state.blocked && state.phase != Phase::Multiplexed {
                state.pace.took_all();
            }
        }
        match patience {
            _ if state.phase == Phase::Socket => {
                let due = state.socket.as_ref().map_or(NEVER, |session| session.due());
                deadlines.set(&self.deadline, due);
            }
            Some(patience) if rate > 0 && way.is_some() => {
                deadlines.set(&self.deadline, state.pace.due(rate, patience.limit, deadlines.now()));
            }
            Some(patience) => deadlines.arm(&self.deadline, patience.limit),
            None => self.deadline.store(NEVER, Ordering::Relaxed),
        }
    }

    /// The client has moved `count` bytes.
    pub(super) fn moved(&self, state: &mut State, way: Way, count: usize) {
        // What a stream moves is counted with that of the others of its connection.
        if !self.stream {
            state.pace.moved(way, count as u64);
        }
    }

    /// Bytes that the streams of the connection have moved together: a slow client shares what it has among them.
    fn moved_beside(&self) -> u64 {
        match &*self.writing.read() {
            Some((Writing::Stream(stream), _)) => stream.moved(),
            _ => 0,
        }
    }

    /// Whether the client of a stream is not late yet, since others of its connection have moved enough.
    fn is_spared(&self, state: &mut State) -> bool {
        let rate = self.server.config.min_rate;
        let Some(patience) = self.patience(state).filter(|patience| rate > 0 && patience.way().is_some())
        else {
            return false;
        };
        if self.stream {
            state.pace.reached(self.moved_beside());
        }
        let now = self.server.deadlines.now();
        let due = state.pace.due(rate, patience.limit, now);
        if due > now {
            self.server.deadlines.set(&self.deadline, due);
        }
        due > now
    }

    /// The deadline has passed.
    pub(crate) fn expire(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if !self.server.deadlines.is_due(&self.deadline) {
            return;
        }
        if state.phase == Phase::Socket {
            websocket::expire(self, &mut state);
            self.flush(state);
            return;
        }
        // What merely waits for a batch is on its way.
        if state.phase == Phase::Closing && !state.finished && !state.blocked {
            self.flush(state);
            let mut state = self.state.lock();
            self.rearm(&mut state);
            return;
        }
        if self.is_spared(&mut state) {
            return;
        }
        match self.patience(&state).map(|patience| patience.kind) {
            // A part of a request is there: the client learns why it is not answered (RFC 9110 15.5.9).
            Some(Waiting::Head) => {
                session::refuse(self, &mut state, 408);
                self.flush(state);
            }
            Some(Waiting::Body) if !state.http.reply.is_started() => {
                self.abandon(&mut state);
                session::refuse(self, &mut state, 408);
                self.flush(state);
            }
            // No stream is open: the client learns which was the last (RFC 9113 section 6.8).
            Some(Waiting::Request) if state.phase == Phase::Multiplexed => {
                state.finished = true;
                self.rearm(&mut state);
                self.wake();
            }
            Some(_) => self.lose(&mut state),
            None => self.rearm(&mut state),
        }
    }

    /// The server closes: whether a connection without a request has been silent for so long that none is on its way. If not,
    /// it has the rest of that time.
    fn is_silent(&self, state: &State) -> bool {
        let config = &self.server.config;
        let limit = if state.fresh { config.header_timeout } else { config.keep_alive_timeout };
        let milliseconds = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(NEVER);
        let now = self.server.deadlines.now();
        let deadline = self.deadline.load(Ordering::SeqCst);
        if deadline <= now.saturating_add(milliseconds(PARTING)) {
            // It has been asked before, or ends soon anyway.
            return false;
        }
        // Its deadline was set when it fell silent.
        let since = deadline.saturating_sub(milliseconds(limit)).min(now);
        let due = since.saturating_add(milliseconds(PARTING));
        if due > now {
            self.server.deadlines.set(&self.deadline, due);
        }
        due <= now
    }

    /// The server is closing: idle connections end now, or soon, busy ones after their answer. `force` ends those too.
    pub(crate) fn retire(self: &Arc<Self>, force: bool) {
        let mut state = self.state.lock();
        match state.phase {
            _ if force => self.lose(&mut state),
            // Nothing is unread, so nobody sees a reset.
            Phase::Head if state.input.is_empty() && !state.is_sending() => {
                if self.is_silent(&state) {
                    self.lose(&mut state);
                }
            }
            // The answer is leaving at this moment, and does not say that the connection closes.
            Phase::Head if state.input.is_empty() && state.out.is_empty() => self.rearm(&mut state),
            Phase::Busy if state.peer_closed && !state.http.reply.is_started() => self.lose(&mut state),
            Phase::Busy => state.http.reply.close = true,
            Phase::Socket => {
                websocket::end(self, &mut state, websocket::GOING_AWAY, None);
                self.flush(state);
            }
            // It says so to the client, and ends with its last stream.
            Phase::Multiplexed => {
                if state.fresh {
                    self.rearm(&mut state);
                }
                self.wake();
            }
            // A head that has begun to arrive is answered, and the answer says that the connection closes.
            Phase::Head | Phase::Closing | Phase::Over => {}
        }
    }
}
