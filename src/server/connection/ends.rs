//! How a request and a connection come to their ends.
//!
//! Four verbs, here and elsewhere in the server: a whole response is *completed*; a connection that takes no
//! further request is *closed after the flush* of its queue; a response that cannot become whole is
//! *aborted*; and an unused object is *released*.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::app::Signal;
use crate::server::connection::{Locked, Phase};
use crate::server::deadlines::NEVER;

/// Whether the client gets the whole last response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastAnswer {
    Whole,
    /// It is incomplete, and the connection is reset to show that.
    Cut,
}

impl Locked<'_> {
    /// The response is complete: the next request may begin, or the connection ends.
    pub(crate) fn complete(&mut self) {
        let Some(request) = self.request_mut() else { return };
        request.end_exchange();
        self.log_answer();
        let Some(request) = self.request_mut() else { return };
        if request.reply.is_short() {
            self.close_after_flush(LastAnswer::Cut);
            return;
        }
        if request.reply.close {
            self.close_after_flush(LastAnswer::Whole);
            return;
        }
        request.intake.discard();
        if request.intake.is_complete() {
            self.end_request();
            // Requests wait here, or are being parsed; or there are none, and the client sends no more: the
            // task decides, once no thread parses.
            if !self.input.is_empty() || self.input.has_ended() {
                self.connection.wake();
            }
        } else {
            // The task may have stopped reading because nothing took the received bytes.
            self.connection.wake();
        }
        self.rearm();
    }

    /// No further request is read; the connection ends when the output has left.
    pub(crate) fn close_after_flush(&mut self, answer: LastAnswer) {
        if let Some(request) = self.request_mut() {
            request.end_exchange();
        }
        self.log_answer();
        self.enter_closing(answer == LastAnswer::Cut, false);
        self.input.clear();
        self.rearm();
        if !self.out.has_any() && !self.out.is_flushing() {
            self.after_flush();
        }
    }

    /// The request in progress gets no response: its user code is signalled.
    pub(crate) fn abort_exchange(&mut self) {
        let connection = self.connection;
        let Some(request) = self.request_mut() else { return };
        if let Some(exchange) = request.exchange.take() {
            let by_file = request.claimed || request.file_leaves;
            request.reply.coder = None;
            exchange.mark_aborted();
            exchange.keep_rest(request.intake.take_all());
            Arc::clone(&exchange).give_up(connection.seat());
            if by_file {
                // Releases the objects that a handler left for the next one.
                connection.server.app.signal(exchange, Signal::Sent);
            }
        }
    }

    /// The connection is gone: user code is signalled, and the task ends.
    pub(crate) fn abort(&mut self) {
        if self.is_over() {
            return;
        }
        let idle = self.is_head() && !self.out.is_sending();
        self.out.clear();
        self.input.clear();
        self.abort_exchange();
        self.abort_socket();
        self.log_lost();
        self.enter_over();
        self.connection.deadline.store(NEVER, Ordering::Relaxed);
        // Between two responses nothing is missing, and the client may know that.
        if idle {
            self.connection.say_end(Shutdown::Both);
        } else {
            self.connection.shut_down();
        }
        self.connection.wake();
    }

    /// The client of an HTTP/2 connection has got its GOAWAY, and only has to disconnect.
    pub(in crate::server) fn close_multiplexed(&mut self) {
        if matches!(self.phase(), Phase::Multiplexed(_)) {
            self.enter_closing(false, true);
            if self.connection.say_end(Shutdown::Write) {
                self.out.unblock();
            } else {
                self.out.block();
            }
            self.rearm();
        }
    }
}
