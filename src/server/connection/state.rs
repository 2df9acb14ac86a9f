//! Everything about a connection that changes.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LazyLock};

use ::http::Response;

use crate::http::head::Framing;
use crate::server::access::Log;
use crate::server::batch;
use crate::server::exchange::Exchange;
use crate::server::files::Body;
use crate::server::intake::Intake;
use crate::server::output::Output;
use crate::server::pace::Pace;
use crate::server::reply::{Asked, Reply};
use crate::server::websocket::Session;

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
    pub(super) fn new(log: Option<Box<Log>>) -> Self {
        Self {
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
        }
    }

    /// Bytes that the kernel had no room for; what a cork holds, or leaves for the first time, is not among them.
    pub(crate) fn waiting(&self) -> usize {
        if self.blocked { self.out.len() + self.leaving + self.sealed } else { 0 }
    }

    /// The request is no longer in progress: its answer is complete.
    pub(crate) fn end_exchange(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.mark_responded();
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

    /// Whether something is queued that nobody is going to send.
    #[cfg(debug_assertions)]
    pub(super) fn is_neglected(&self) -> bool {
        let attended = self.flushing || self.blocked || self.corked || self.batch != batch::NONE;
        self.has_output() && !attended && self.phase != Phase::Over
    }
}
