//! The request in progress: what its connection knows of its body and of its answer.

use std::sync::Arc;

use crate::http::head::Framing;
use crate::server::exchange::Exchange;
use crate::server::files::Body;
use crate::server::intake::Intake;
use crate::server::reply::{Asked, Reply};

/// A request in progress. A connection keeps the room for the next one; a WebSocket has none.
pub(crate) struct ActiveRequest {
    /// What user code holds, until the answer is complete.
    pub(crate) exchange: Option<Arc<Exchange>>,
    pub(crate) reply: Reply,
    pub(crate) intake: Intake,
    /// The rest of an answer from a file; not while a thread sends of it, or reads it into memory.
    pub(crate) file: Option<Box<Body>>,
    /// User code has left the answer to a file.
    pub(crate) claimed: bool,
    /// Such an answer has not left.
    pub(crate) file_leaves: bool,
    /// User code asked to hear when there is room for more output.
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

    /// Another request begins in its room. The only place where a body begins, and so the one where it is framed.
    pub(super) fn begin(&mut self, framing: Framing, asked: Asked, limit: u64) {
        self.claimed = false;
        self.reply = Reply::new(asked);
        self.intake = Intake::new(framing, limit);
    }

    /// The answer is complete: user code is done with it.
    pub(crate) fn end_exchange(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.mark_responded();
            exchange.release();
        }
        self.watches_room = false;
    }

    /// Whether nothing of the answer is still to come.
    pub(crate) fn is_answered(&self) -> bool {
        self.exchange.is_none() && !self.file_leaves
    }

    /// Whether the answer is complete and the body is not.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_answered() && !self.intake.is_complete()
    }
}
