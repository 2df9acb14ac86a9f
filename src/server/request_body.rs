//! The body of the request in progress, as the connection takes it from the client: how much, who is told, and what is said
//! where it is too much.

use std::sync::Arc;

use crate::app::Signal;
use crate::server::connection::{LastAnswer, Locked};
use crate::server::intake::IntakeError;
use crate::server::pace::Way;
use crate::server::routing::{Candidates, Position};
use crate::server::stream::Writing;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl Locked<'_> {
    /// What answers takes `limit` bytes of the body. False when it is more, which the client has been told.
    pub(crate) fn admit_body(&mut self, limit: u64) -> bool {
        let Some(request) = self.request_mut() else { return false };
        request.intake.admit(limit).inspect_err(|error| self.fail_body(error)).is_ok()
    }

    /// The same for a route that at `position` that may pass the request on to those behind it, which are asked only where the body may be too large
    /// for this one: then it is refused if it is for them too, or when it is read here.
    pub(crate) fn admit_body_on_route(
        &mut self,
        limit: u64,
        candidates: &Candidates<'_>,
        position: Position,
    ) -> bool {
        let Some(request) = self.request_mut() else { return false };
        if let Some(needed) = request.intake.beyond(limit)
            && candidates.take_behind(position, needed)
        {
            request.intake.defer(limit);
            return true;
        }
        self.admit_body(limit)
    }

    /// Takes what belongs to the body of the request in progress; says how many bytes that was.
    pub(super) fn receive_body(&mut self, bytes: &[u8]) -> usize {
        let Some(request) = self.request_mut() else { return 0 };
        if request.intake.is_complete() || bytes.is_empty() {
            return 0;
        }
        let used = match request.intake.feed(bytes) {
            Ok(used) => used,
            Err(error) => {
                self.fail_body(&error);
                return bytes.len();
            }
        };
        self.count_moved(Way::Body, used);
        self.announce_body();
        // Answered before the body had come whole: the next request begins behind it.
        if self.request().is_some_and(|request| request.intake.is_complete() && request.is_answered()) {
            self.end_request();
        }
        self.rearm();
        used
    }

    /// Tells the reader of the body that there is something to take, if there is and it has not been told.
    pub(crate) fn announce_body(&mut self) {
        let connection = self.connection;
        if let Some(request) = self.request_mut()
            && request.intake.wants_signal()
            && let Some(exchange) = &request.exchange
        {
            request.intake.signalled = true;
            connection.server.app.signal(Arc::clone(exchange), Signal::Readable);
        }
    }

    /// The body cannot be taken: user code that was answering hears that the exchange is over, and the client why.
    pub(crate) fn fail_body(&mut self, error: &IntakeError) {
        self.abort_exchange();
        let Some(request) = self.request_mut() else { return };
        match error {
            // It has been answered, and what is left of it is thrown away no longer.
            _ if request.is_answered() && request.reply.is_done() => {
                self.close_after_flush(LastAnswer::Whole)
            }
            // The answer is already under way: it can only be cut.
            _ if request.reply.is_started() => self.close_after_flush(LastAnswer::Cut),
            IntakeError::TooLarge(_) => self.refuse(413),
            IntakeError::Chunk(_) => self.refuse(400),
        }
    }

    /// Asks the client for its body if it waits for that (RFC 9110 10.1.1), and there is code that takes it.
    pub(crate) fn ask_for_body(&mut self) {
        if let Some(request) = self.request_mut()
            && !request.intake.is_deferred()
            && request.reply.take_expectation()
        {
            self.invite();
        }
    }

    /// Tells the client to go on with its body (RFC 9110 15.2.1).
    pub(crate) fn invite(&mut self) {
        if self.connection.is_stream() {
            let _ = self.connection.with_socket(|writing| {
                if let Writing::Stream(stream) = writing {
                    stream.invite();
                }
                Ok(())
            });
        } else {
            self.out.tail().extend_from_slice(CONTINUE);
        }
    }
}
