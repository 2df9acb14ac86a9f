//! How a request and a connection come to their ends.
//!
//! Four verbs, here and elsewhere in the server: what is whole is *completed*; a connection that takes no further request is
//! *closed after the flush* of what is queued; what will not become whole is *aborted*; and what nobody uses any more is
//! *released*.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::app::Signal;
use crate::server::connection::{Locked, Phase};
use crate::server::deadlines::NEVER;

impl Locked<'_> {
    /// The answer is complete: the next request may begin, or the connection ends.
    pub(crate) fn complete(&mut self) {
        self.end_exchange();
        self.log_answer();
        self.watch_writable = false;
        if self.http.reply.close || self.http.reply.is_short() {
            self.cut |= self.http.reply.is_short();
            self.close_after_flush();
            return;
        }
        self.http.intake.discard();
        if self.http.intake.is_complete() {
            self.phase = Phase::Head;
            // Requests that wait here, or are in the hands of whoever parses; or none, and the client sends no more: the task
            // knows, once nobody parses.
            if !self.input.is_empty() || self.peer_closed {
                self.connection.wake();
            }
        } else {
            // The task may have left the socket alone because nobody took what had come.
            self.connection.wake();
        }
        self.rearm();
    }

    /// No further request is read; the connection ends when the output has left.
    pub(crate) fn close_after_flush(&mut self) {
        self.phase = Phase::Closing;
        self.end_exchange();
        drop(self.http.take_file());
        self.log_answer();
        self.http.intake.discard();
        self.input = Vec::new();
        self.rearm();
        if !self.has_output() && !self.flushing {
            self.after_flush();
        }
    }

    /// The request in progress will not be answered: whoever was to do so hears of it.
    pub(crate) fn abort_exchange(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            let by_file = self.http.claimed || self.http.file_leaves;
            self.http.reply.coder = None;
            exchange.mark_aborted();
            exchange.keep_rest(self.http.intake.take_all());
            Arc::clone(&exchange).give_up(self.connection.seat());
            if by_file {
                // What a handler that passed the request on has left for the next one is let go of.
                self.connection.server.app.signal(exchange, Signal::Sent);
            }
        }
    }

    /// The connection is gone: whoever was answering hears of it, and the task ends.
    pub(crate) fn abort(&mut self) {
        if self.phase == Phase::Over {
            return;
        }
        let idle = self.phase == Phase::Head && !self.is_sending();
        self.phase = Phase::Over;
        self.out.clear();
        drop(self.http.take_file());
        self.input = Vec::new();
        self.abort_exchange();
        self.lose_socket();
        self.log_lost();
        self.connection.deadline.store(NEVER, Ordering::Relaxed);
        // Between two answers nothing is missing, and the client may know that.
        if idle {
            self.connection.say_end(Shutdown::Both);
        } else {
            self.connection.cut();
        }
        self.connection.wake();
    }
}
