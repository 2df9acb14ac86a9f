//! What a client sends on a socket: frames in, events out.

use std::sync::Arc;

use crate::server::connection::{Connection, State};
use crate::server::websocket::ending::{Finish, finish};
use crate::server::websocket::event::Event;
use crate::websocket::{Inflate, OpCode, Received, Receiver, encode_header};

/// Takes what the socket gave, as far as the bound on what is not dealt with allows, and keeps the rest.
pub(crate) fn absorb(connection: &Arc<Connection>, state: &mut State, bytes: &[u8]) {
    if let Some(session) = &mut state.socket
        && !bytes.is_empty()
    {
        session.hear(connection.server.deadlines.now());
    }
    if state.input.is_empty() {
        let used = take(connection, state, bytes);
        if state.speaks() {
            state.input.extend_from_slice(&bytes[used..]);
        }
    } else {
        // The bytes are moved out so that the parser and the state can be borrowed side by side.
        let mut input = std::mem::take(&mut state.input);
        input.extend_from_slice(bytes);
        let used = take(connection, state, &input);
        if state.speaks() {
            input.drain(..used);
            if !input.is_empty() {
                state.input = input;
            }
        }
    }
    if state.speaks() {
        let stopped = state.socket.as_ref().is_some_and(|session| !session.wants_more());
        // What was left for lack of bytes waits for more of them, what was left for the bound does not.
        state.searched = if stopped { 0 } else { state.input.len() };
        connection.rearm(state);
    }
}

/// Says how many of `bytes` were used.
fn take(connection: &Arc<Connection>, state: &mut State, bytes: &[u8]) -> usize {
    let State { socket, out, log, .. } = state;
    let Some(session) = socket else { return bytes.len() };
    let mut receiver = session.receiver.take().map_or_else(Receiver::default, |receiver| *receiver);
    let mut codec = session.codec.take();
    let mut close = None;
    let limit = session.config().max_payload_length;
    let inflate = codec.as_deref_mut().map(|codec| codec as &mut dyn Inflate);
    let used = receiver.feed(bytes, limit, inflate, &mut |received| {
        if let (Some(log), Received::Text(payload) | Received::Binary(payload)) = (&mut *log, &received) {
            log.received(payload.len());
        }
        match received {
            Received::Text(payload) => session.keep(Event::Text(payload)),
            Received::Binary(payload) => session.keep(Event::Binary(payload)),
            Received::Pong(payload) => session.keep(Event::Pong(payload)),
            Received::Ping(payload) => {
                out.append_with(|out| {
                    encode_header(out, true, false, OpCode::Pong, payload.len());
                    out.extend_from_slice(&payload);
                });
                session.count_pong(2 + payload.len());
                session.keep(Event::Ping(payload));
            }
            Received::Close { code, reason } => {
                close = Some((code, reason));
                return false;
            }
        }
        session.wants_more()
    });
    session.receiver = (!receiver.is_idle()).then(|| Box::new(receiver));
    session.codec = codec;
    session.schedule();
    match used {
        Err(violation) => {
            let (code, text) = (violation.close_code(), violation.to_string());
            finish(connection, state, Finish::Failed { code, text, told: violation.reason() });
            bytes.len()
        }
        Ok(_) if let Some((code, reason)) = close => {
            finish(connection, state, Finish::Closed { code, reason });
            bytes.len()
        }
        Ok(used) => used,
    }
}
