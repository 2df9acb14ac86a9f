//! The body of the request in progress, as the connection takes it from the client: how much, who is told, and what is said
//! where it is too much.

use crate::app::{Signal, Target};
use crate::router::Match;
use crate::server::connection::{Locked, Phase, State};
use crate::server::intake::IntakeError;
use crate::server::pace::Way;
use crate::server::routing::limit_of;
use crate::server::stream::Writing;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl Locked<'_> {
    /// Whoever answers takes `limit` bytes of the body. False when it is more, which the client has been told.
    pub(crate) fn admit_body(&mut self, limit: u64) -> bool {
        let admitted = self.http.intake.admit(limit);
        admitted.inspect_err(|error| self.fail_body(error)).is_ok()
    }

    /// The same for a route that may pass the request on to those `behind` it, which are asked only where the body may be too large
    /// for this one: then it is refused if it is for them too, or when it is read here.
    pub(crate) fn admit_body_on_route<'a>(
        &mut self,
        limit: u64,
        mut behind: impl Iterator<Item = Match<'a, Target>>,
    ) -> bool {
        if let Some(needed) = self.http.intake.beyond(limit)
            && behind.any(|found| limit_of(self.connection, Some(&found)) >= needed)
        {
            self.http.intake.defer(limit);
            return true;
        }
        self.admit_body(limit)
    }

    /// Takes what belongs to the body of the request in progress; says how many bytes that was.
    pub(super) fn receive_body(&mut self, bytes: &[u8]) -> usize {
        if self.http.intake.is_complete() || bytes.is_empty() {
            return 0;
        }
        let used = match self.http.intake.feed(bytes) {
            Ok(used) => used,
            Err(error) => {
                self.fail_body(&error);
                return bytes.len();
            }
        };
        self.count_moved(Way::Body, used);
        if self.http.intake.wants_signal() {
            self.announce_body();
        }
        // Answered before the body had come whole: the next request begins behind it.
        if self.http.intake.is_complete() && self.phase == Phase::Busy && self.is_answered() {
            self.phase = Phase::Head;
        }
        self.rearm();
        used
    }

    /// Tells the reader of the body that there is something to take.
    pub(crate) fn announce_body(&mut self) {
        if let Some(exchange) = self.exchange.clone() {
            self.http.intake.signalled = true;
            self.connection.server.app.signal(exchange, Signal::Readable);
        }
    }

    /// The body cannot be taken: whoever was answering hears that the exchange is over, and the client why.
    pub(crate) fn fail_body(&mut self, error: &IntakeError) {
        self.abort_exchange();
        match error {
            // It has been answered, and what is left of it is thrown away no longer.
            _ if self.is_answered() && self.http.reply.is_done() => self.close_after_flush(),
            // The answer is already under way: it can only be cut.
            _ if self.http.reply.is_started() => {
                self.cut = true;
                self.close_after_flush();
            }
            IntakeError::TooLarge(_) => self.refuse(413),
            IntakeError::Chunk(_) => self.refuse(400),
        }
    }

    /// Asks the client for its body if it waits for that (RFC 9110 10.1.1), and somebody takes it.
    pub(crate) fn ask_for_body(&mut self) {
        if !self.http.intake.is_deferred() && self.http.reply.take_expectation() {
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

impl State {
    /// Whether nothing of the answer is still to come.
    fn is_answered(&self) -> bool {
        self.exchange.is_none() && !self.http.file_leaves
    }

    /// Whether the answer is complete and the body is not.
    pub(crate) fn is_draining(&self) -> bool {
        self.phase == Phase::Busy && self.is_answered() && !self.http.intake.is_complete()
    }
}
