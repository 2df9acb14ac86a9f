//! Receiving the body of the request in progress: its limit, its reader, and its refusal.

use std::sync::Arc;

use crate::app::Signal;
use crate::server::connection::{LastAnswer, Locked};
use crate::server::intake::IntakeError;
use crate::server::pace::Way;
use crate::server::routing::{Candidates, Position};
use crate::server::stream::Writing;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl Locked<'_> {
    /// The present route allows `limit` bytes of the body. False if it has more: then the client has got a
    /// 413.
    pub(crate) fn admit_body(&mut self, limit: u64) -> bool {
        let Some(request) = self.request_mut() else { return false };
        request.intake.admit(limit).inspect_err(|error| self.fail_body(error)).is_ok()
    }

    /// The same for a route at `position` that may pass the request on to the routes behind it. They are asked only if the body
    /// may be too large for this one: then it is refused if it is too large for them as well, or when it is read here.
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

    /// Takes the body's bytes of the request in progress; returns their number.
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
        // The response came before the whole body: the next request begins after it.
        if self.request().is_some_and(|request| request.intake.is_complete() && request.is_answered()) {
            self.end_request();
        }
        self.rearm();
        used
    }

    /// Signals the reader of the body that there are bytes, if there are and it was not signalled.
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

    /// The body is refused: user code is signalled that the exchange is over, and the client gets the reason.
    pub(crate) fn fail_body(&mut self, error: &IntakeError) {
        self.abort_exchange();
        let Some(request) = self.request_mut() else { return };
        match error {
            // It has its response, and the rest of it is no longer discarded.
            _ if request.is_answered() && request.reply.is_done() => {
                self.close_after_flush(LastAnswer::Whole);
            }
            // The response has already begun: it can only be cut.
            _ if request.reply.is_started() => self.close_after_flush(LastAnswer::Cut),
            IntakeError::TooLarge(_) => self.refuse(413),
            IntakeError::Chunk(_) => self.refuse(400),
        }
    }

    /// Sends `100 Continue` if the client waits for it (RFC 9110 10.1.1), and there is code that reads the
    /// body.
    pub(crate) fn ask_for_body(&mut self) {
        if let Some(request) = self.request_mut()
            && !request.intake.is_deferred()
            && request.reply.take_expectation()
        {
            self.invite();
        }
    }

    /// Sends `100 Continue` (RFC 9110 15.2.1).
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
