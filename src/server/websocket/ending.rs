//! The end of a socket, from either side, which both sides learn exactly once.

use crate::server::connection::{LastAnswer, Locked};
use crate::server::websocket::event::Event;
use crate::server::websocket::timers::Timers;
use crate::server::websocket::{ABNORMAL, GOING_AWAY, NO_STATUS};
use crate::websocket::{OpCode, close_payload, encode_header};

/// The end of a client's part of a socket.
#[derive(Debug)]
pub(super) enum Finish {
    /// It sent a close frame, whose reply is the same (RFC 6455 5.5.1).
    Closed {
        /// `None` for a close frame without one.
        code: Option<u16>,
        reason: Vec<u8>,
    },
    /// It broke a rule, or was silent for too long: it gets `code` and `text`, user code gets 1006 (C-C-07).
    Failed { code: u16, text: String, told: Option<&'static str> },
}

impl Locked<'_> {
    /// The socket is over: nothing is sent or received on it any more, and its close listener will be called
    /// once. False if it was over before.
    pub(crate) fn close_socket(&mut self, code: u16, reason: Option<&[u8]>) -> bool {
        let state = &mut **self;
        let Some(socket) = &mut state.socket else { return false };
        if !socket.is_open() {
            return false;
        }
        if let Some(log) = &mut state.log {
            log.closed(code);
        }
        if std::mem::take(&mut socket.awaited) {
            socket.keep(Event::Room);
        }
        socket.keep(Event::Close { code, reason: reason.map(Into::into) });
        socket.schedule();
        socket.receiver = None;
        socket.codec = None;
        socket.fragments = None;
        let handle = socket.handle.take();
        if socket.events.is_empty() && !socket.scheduled {
            self.socket = None;
        }
        // A queue that has yet to tell of it holds it too, so nothing is dropped here but a count.
        drop(handle);
        true
    }

    /// This side ends the socket: a close frame leaves, received and unhandled messages are dropped.
    pub(crate) fn end_socket(&mut self, code: u16, reason: Option<&[u8]>) -> bool {
        if !self.socket.as_mut().is_some_and(|socket| socket.abort()) {
            return false;
        }
        self.write_close_frame(code, reason.unwrap_or_default());
        self.close_socket(code, reason);
        self.close_after_flush(LastAnswer::Whole);
        true
    }

    /// The client has come to its end: the socket ends when its earlier messages have been handled, since
    /// replies still reach it; but within seconds.
    pub(super) fn finish_socket(&mut self, finish: Finish) {
        let now = self.connection.server.deadlines.now();
        let Some(socket) = &mut self.socket else { return };
        if socket.is_caught_up() && !socket.scheduled {
            self.perform_finish(finish);
            return;
        }
        socket.finish = Some(Box::new(finish));
        socket.timers = Timers::of_an_end(now);
        self.rearm();
    }

    pub(super) fn perform_finish(&mut self, finish: Finish) {
        match finish {
            Finish::Closed { code, reason } => {
                self.write_close_frame(code.unwrap_or_default(), &reason);
                self.close_socket_as_told(code, &reason);
            }
            Finish::Failed { code, text, told } => {
                self.write_close_frame(code, text.as_bytes());
                let pulled = self.socket.as_ref().is_some_and(|socket| socket.is_pulled());
                // A client that was silent has not said anything that the code could be about.
                let heard = if pulled && code != GOING_AWAY { code } else { ABNORMAL };
                self.close_socket(heard, told.map(str::as_bytes));
            }
        }
        self.close_after_flush(LastAnswer::Whole);
    }

    fn close_socket_as_told(&mut self, code: Option<u16>, reason: &[u8]) -> bool {
        match code {
            Some(code) => self.close_socket(code, Some(reason)),
            None => self.close_socket(NO_STATUS, None),
        }
    }

    /// The connection is lost. An earlier close frame of the client counts.
    pub(crate) fn abort_socket(&mut self) {
        match self.socket.as_mut().and_then(|socket| socket.finish.take()).map(|finish| *finish) {
            Some(Finish::Closed { code, reason }) => self.close_socket_as_told(code, &reason),
            Some(Finish::Failed { told, .. }) => self.close_socket(ABNORMAL, told.map(str::as_bytes)),
            None => self.close_socket(ABNORMAL, None),
        };
    }

    fn write_close_frame(&mut self, code: u16, reason: &[u8]) {
        let payload = close_payload(code, reason);
        self.out.append_with(|out| {
            encode_header(out, true, false, OpCode::Close, payload.len());
            out.extend_from_slice(&payload);
        });
    }
}
