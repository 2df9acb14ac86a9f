//! The request in progress: its connection's facts about its body and its response.

use std::sync::Arc;

use crate::http::head::Framing;
use crate::server::exchange::Exchange;
use crate::server::files::Body;
use crate::server::intake::Intake;
use crate::server::reply::{Asked, Reply};

/// A request in progress. A connection keeps the memory for the next one; a WebSocket has none.
pub(crate) struct ActiveRequest {
    /// User code's handle, until the response is complete.
    pub(crate) exchange: Option<Arc<Exchange>>,
    pub(crate) reply: Reply,
    pub(crate) intake: Intake,
    /// The rest of a response from a file; unset while a thread sends it, or reads it into memory.
    pub(crate) file: Option<Box<Body>>,
    /// User code has left the response to a file.
    pub(crate) claimed: bool,
    /// Such a response has not been sent.
    pub(crate) file_leaves: bool,
    /// User code asked for a signal when there is room for more output.
    pub(crate) watches_room: bool,
}

impl ActiveRequest {
    pub(super) const fn new(reply: Reply) -> Self {
        Self {
            exchange: None,
            reply,
            intake: Intake::NONE,
            file: None,
            claimed: false,
            file_leaves: false,
            watches_room: false,
        }
    }

    /// Another request begins in its place. Only here a body begins, and is framed.
    pub(super) fn begin(&mut self, framing: Framing, asked: Asked, limit: u64) {
        self.claimed = false;
        self.reply = Reply::new(asked);
        self.intake = Intake::new(framing, limit);
    }

    /// The response is complete: user code is done with it.
    pub(crate) fn end_exchange(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.mark_responded();
            exchange.release();
        }
        self.watches_room = false;
    }

    /// Whether the whole response has been written.
    pub(crate) fn is_answered(&self) -> bool {
        self.exchange.is_none() && !self.file_leaves
    }

    /// Whether the response is complete and the body is not.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_answered() && !self.intake.is_complete()
    }
}
