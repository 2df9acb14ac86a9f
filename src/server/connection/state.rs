//! The mutable state of a connection, and all transitions of its phase.

use crate::http::head::Framing;
use crate::server::access::Log;
use crate::server::connection::input::Input;
use crate::server::connection::request::ActiveRequest;
use crate::server::output::Output;
use crate::server::pace::Pace;
use crate::server::reply::{Asked, Reply};
use crate::server::websocket::SocketState;

/// The phase of a connection, with the data of that phase.
pub(crate) enum Phase {
    /// Waiting for the head of a request, or in the middle of one.
    Head(Idle),
    /// A request is in progress: its response or its body is not complete.
    Busy(Box<ActiveRequest>),
    /// The connection speaks WebSocket.
    Socket,
    /// The connection speaks HTTP/2: its requests are on streams, which are connections of their own.
    Multiplexed(Multiplexed),
    /// The last response is being sent; incoming bytes are discarded.
    Closing(Closing),
    /// Over: the task ends.
    Over,
}

/// Between two requests.
pub(crate) struct Idle {
    /// The first request has not begun.
    fresh: bool,
    /// The memory of the last request, for the next one.
    spare: Option<Box<ActiveRequest>>,
}

/// Of a connection that speaks HTTP/2.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Multiplexed {
    /// The first stream has not begun.
    pub(crate) fresh: bool,
    /// Streams are open.
    pub(crate) streaming: bool,
    /// All have their response; the client only has to read the rest.
    pub(crate) answered: bool,
    /// It has been silent for too long: the client has to be told the last stream.
    pub(crate) expired: bool,
}

/// The data of a connection that ends once its output has been sent.
#[derive(Clone, Copy)]
pub(crate) struct Closing {
    /// The response is incomplete and must look so: reset instead of waiting.
    pub(super) cut: bool,
    /// Our sending side has been shut.
    pub(super) shut: bool,
}

/// Everything about a connection that changes.
pub(crate) struct State {
    phase: Phase,
    /// Numbers the requests; an [`Exchange`](crate::server::Exchange) with another number is over.
    number: u64,
    pub(crate) input: Input,
    pub(crate) out: Output,
    /// The client's rate while the server waits for it.
    pub(crate) pace: Pace,
    /// The WebSocket, from the handshake until its close listener has run, which may be after the end of the
    /// connection.
    pub(crate) socket: Option<Box<SocketState>>,
    /// The connection's access log, if it is enabled.
    pub(crate) log: Option<Box<Log>>,
}

impl State {
    pub(super) fn new(log: Option<Box<Log>>) -> Self {
        Self {
            phase: Phase::Head(Idle { fresh: true, spare: None }),
            number: 0,
            input: Input::default(),
            out: Output::default(),
            pace: Pace::default(),
            socket: None,
            log,
        }
    }

    // ---- which phase --------------------------------------------------------------------------------------------

    pub(crate) fn phase(&self) -> &Phase {
        &self.phase
    }

    pub(crate) fn is_head(&self) -> bool {
        matches!(self.phase, Phase::Head(_))
    }

    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::Busy(_))
    }

    /// Whether the connection speaks WebSocket and neither side has ended that.
    pub(crate) fn is_socket(&self) -> bool {
        matches!(self.phase, Phase::Socket)
    }

    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing(_))
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Whether the first request, or stream, has not begun.
    pub(crate) fn is_fresh(&self) -> bool {
        match &self.phase {
            Phase::Head(idle) => idle.fresh,
            Phase::Multiplexed(multiplexed) => multiplexed.fresh,
            _ => false,
        }
    }

    /// The request in progress.
    pub(crate) fn request(&self) -> Option<&ActiveRequest> {
        match &self.phase {
            Phase::Busy(request) => Some(request),
            _ => None,
        }
    }

    /// The request in progress.
    pub(crate) fn request_mut(&mut self) -> Option<&mut ActiveRequest> {
        match &mut self.phase {
            Phase::Busy(request) => Some(request),
            _ => None,
        }
    }

    /// The request in progress, and the output of its response.
    pub(crate) fn request_and_out(&mut self) -> Option<(&mut ActiveRequest, &mut Output)> {
        match &mut self.phase {
            Phase::Busy(request) => Some((request, &mut self.out)),
            _ => None,
        }
    }

    /// The request with this number, if it is in progress.
    pub(crate) fn request_numbered(&mut self, number: u64) -> Option<&mut ActiveRequest> {
        if self.number == number { self.request_mut() } else { None }
    }

    /// Whether the request with this number is in progress.
    pub(crate) fn serves(&self, number: u64) -> bool {
        self.number == number && self.is_busy()
    }

    /// The number of the request in progress.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The data of an HTTP/2 connection.
    pub(crate) fn multiplexed(&mut self) -> Option<&mut Multiplexed> {
        match &mut self.phase {
            Phase::Multiplexed(multiplexed) => Some(multiplexed),
            _ => None,
        }
    }

    /// Whether the last response is whole, and no other follows.
    pub(crate) fn is_closing_whole(&self) -> bool {
        matches!(self.phase, Phase::Closing(Closing { cut: false, .. }))
    }

    /// Whether a response from a file waits to go on.
    pub(crate) fn has_file(&self) -> bool {
        self.request().is_some_and(|request| request.file.is_some())
    }

    /// Whether there is queued output without a sender.
    #[cfg(debug_assertions)]
    pub(super) fn is_neglected(&self) -> bool {
        self.out.is_neglected() && !self.is_over()
    }

    // ---- from one to the next -----------------------------------------------------------------------------------

    /// A request begins.
    pub(crate) fn begin(&mut self, framing: Framing, asked: Asked, limit: u64) {
        self.number += 1;
        let mut request = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Head(Idle { spare: Some(request), .. }) | Phase::Busy(request) => request,
            _ => Box::new(ActiveRequest::new(Reply::default())),
        };
        request.begin(framing, asked, limit);
        self.phase = Phase::Busy(request);
    }

    /// The request in progress is over, response and body: the next one may come.
    pub(crate) fn end_request(&mut self) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Busy(request) => Phase::Head(Idle { fresh: false, spare: Some(request) }),
            phase => phase,
        };
    }

    /// No thread may act on the request in progress any more.
    pub(crate) fn disown_request(&mut self) {
        self.number += 1;
    }

    /// The request in progress has become a WebSocket. Gives it.
    pub(crate) fn become_socket(&mut self) -> Option<Box<ActiveRequest>> {
        match std::mem::replace(&mut self.phase, Phase::Socket) {
            Phase::Busy(request) => Some(request),
            _ => None,
        }
    }

    /// The connection speaks HTTP/2 from its first byte on, of which none has been read, or all are kept.
    pub(crate) fn become_multiplexed(&mut self) {
        self.phase = Phase::Multiplexed(Multiplexed {
            fresh: true,
            streaming: false,
            answered: false,
            expired: false,
        });
        self.input.set_searched(0);
    }

    /// No further response follows. `cut`: the last response is not whole. `shut`: our sending side has been
    /// shut.
    pub(super) fn enter_closing(&mut self, cut: bool, shut: bool) {
        self.phase = Phase::Closing(Closing { cut, shut });
    }

    /// The connection is over: the task ends.
    pub(super) fn enter_over(&mut self) {
        self.phase = Phase::Over;
    }

    // ---- what is told of it -------------------------------------------------------------------------------------

    /// Logs the response, which is complete, or is cut if it is not.
    pub(super) fn log_answer(&mut self) {
        if let (Some(log), Phase::Busy(request)) = (&mut self.log, &self.phase) {
            let left = self.out.is_empty() && !self.out.is_flushing();
            log.answered(&request.reply, request.file_leaves, left);
        }
    }

    /// Logs that everything has been sent.
    pub(super) fn log_sent(&mut self) {
        if let Some(log) = &mut self.log {
            log.all_left();
        }
    }

    /// Logs that the connection is lost.
    pub(super) fn log_lost(&mut self) {
        if let Some(log) = &mut self.log {
            log.lost();
        }
        self.log_answer();
        self.log_sent();
    }
}
