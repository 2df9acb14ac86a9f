//! How a socket comes to its end, from either side, and how both hear of it: once.

use std::sync::Arc;

use crate::server::connection::{Connection, State};
use crate::server::websocket::event::Event;
use crate::server::websocket::timers::Timers;
use crate::server::websocket::{ABNORMAL, NO_STATUS};
use crate::websocket::{OpCode, close_payload, encode_header};

/// How a client's part of a socket came to its end.
#[derive(Debug)]
pub(super) enum Finish {
    /// It sent a close frame, which is answered with the same (RFC 6455 5.5.1).
    Closed {
        /// None for a close frame without one.
        code: Option<u16>,
        reason: Vec<u8>,
    },
    /// It broke a rule, or was silent for too long: it learns `code` and `text`, user code hears 1006 (C-C-07).
    Failed { code: u16, text: String, told: Option<&'static str> },
}

/// The socket is over: nothing is sent or received on it any more, and user code will hear so, once. False when it was
/// over before.
pub(crate) fn closed(state: &mut State, code: u16, reason: Option<&[u8]>) -> bool {
    let Some(session) = &mut state.socket else { return false };
    if !session.is_open() {
        return false;
    }
    if let Some(log) = &mut state.log {
        log.closed(code);
    }
    if std::mem::take(&mut session.awaited) {
        session.keep(Event::Room);
    }
    session.keep(Event::Close { code, reason: reason.map(Into::into) });
    session.schedule();
    session.receiver = None;
    session.codec = None;
    session.fragments = None;
    let handle = session.handle.take();
    if session.events.is_empty() && !session.scheduled {
        state.socket = None;
    }
    // Whoever has yet to hear of it holds it too, so nothing is dropped here but a count.
    drop(handle);
    true
}

/// This side ends the socket: a close frame leaves, what had come and was not dealt with is dropped.
pub(crate) fn end(connection: &Arc<Connection>, state: &mut State, code: u16, reason: Option<&[u8]>) -> bool {
    if !state.socket.as_mut().is_some_and(|session| session.cut()) {
        return false;
    }
    write_close(state, code, reason.unwrap_or_default());
    closed(state, code, reason);
    connection.begin_closing(state);
    true
}

/// The client has come to its end: the socket ends when what it sent before has been dealt with, for answers to that
/// still reach it; but within seconds.
pub(super) fn finish(connection: &Arc<Connection>, state: &mut State, finish: Finish) {
    let Some(session) = &mut state.socket else { return };
    if session.is_settled() && !session.scheduled {
        perform(connection, state, finish);
        return;
    }
    session.finish = Some(Box::new(finish));
    session.timers = Timers::of_an_end(connection.server.deadlines.now());
    connection.rearm(state);
}

pub(super) fn perform(connection: &Arc<Connection>, state: &mut State, finish: Finish) {
    match finish {
        Finish::Closed { code, reason } => {
            write_close(state, code.unwrap_or_default(), &reason);
            tell_closed(state, code, &reason);
        }
        Finish::Failed { code, text, told } => {
            write_close(state, code, text.as_bytes());
            closed(state, ABNORMAL, told.map(str::as_bytes));
        }
    }
    connection.begin_closing(state);
}

fn tell_closed(state: &mut State, code: Option<u16>, reason: &[u8]) -> bool {
    match code {
        Some(code) => closed(state, code, Some(reason)),
        None => closed(state, NO_STATUS, None),
    }
}

/// The connection is lost. A client that has said goodbye is believed.
pub(crate) fn lost(state: &mut State) {
    match state.socket.as_mut().and_then(|session| session.finish.take()).map(|finish| *finish) {
        Some(Finish::Closed { code, reason }) => tell_closed(state, code, &reason),
        Some(Finish::Failed { told, .. }) => closed(state, ABNORMAL, told.map(str::as_bytes)),
        None => closed(state, ABNORMAL, None),
    };
}

fn write_close(state: &mut State, code: u16, reason: &[u8]) {
    let payload = close_payload(code, reason);
    state.out.append_with(|out| {
        encode_header(out, true, false, OpCode::Close, payload.len());
        out.extend_from_slice(&payload);
    });
}
