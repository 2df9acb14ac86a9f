//! Receiving on a socket: frames in, events out.

use crate::server::connection::{Locked, State};
use crate::server::websocket::ending::Finish;
use crate::server::websocket::event::Event;
use crate::websocket::{Inflate, OpCode, Received, Receiver, encode_header};

impl Locked<'_> {
    /// Takes the bytes of a read, as far as the bound of unhandled messages allows, and keeps the rest.
    pub(crate) fn receive_frames(&mut self, bytes: &[u8]) {
        let connection = self.connection;
        if let Some(socket) = &mut self.socket
            && !bytes.is_empty()
        {
            socket.hear(connection.server.deadlines.now());
        }
        if self.input.is_empty() {
            let used = self.take_frames(bytes);
            if self.is_socket() {
                self.input.keep(&bytes[used..]);
            }
        } else {
            // The bytes are moved out so that the parser and the state can be borrowed side by side.
            let mut input = self.input.take();
            input.extend_from_slice(bytes);
            let used = self.take_frames(&input);
            if self.is_socket() {
                input.drain(..used);
                self.input.put_back(input);
            }
        }
        if self.is_socket() {
            let stopped = self.socket.as_ref().is_some_and(|socket| !socket.wants_more());
            // A rest that lacks bytes waits for more of them, a rest because of the bound does not.
            let searched = if stopped { 0 } else { self.input.len() };
            self.input.set_searched(searched);
            self.rearm();
        }
    }

    /// Returns the number of used bytes.
    fn take_frames(&mut self, bytes: &[u8]) -> usize {
        let State { socket, out, log, .. } = &mut **self;
        let Some(socket) = socket else { return bytes.len() };
        let mut receiver = socket.receiver.take().map_or_else(Receiver::default, |receiver| *receiver);
        let mut codec = socket.codec.take();
        let mut close = None;
        let limit = socket.config().max_payload_length;
        let inflate = codec.as_deref_mut().map(|codec| codec as &mut dyn Inflate);
        let used = receiver.feed(bytes, limit, inflate, &mut |received| {
            if let (Some(log), Received::Text(payload) | Received::Binary(payload)) = (&mut *log, &received) {
                log.received(payload.len());
            }
            match received {
                Received::Text(payload) => socket.keep(Event::Text(payload)),
                Received::Binary(payload) => socket.keep(Event::Binary(payload)),
                Received::Pong(payload) => socket.keep(Event::Pong(payload)),
                Received::Ping(payload) => {
                    out.append_with(|out| {
                        encode_header(out, true, false, OpCode::Pong, payload.len());
                        out.extend_from_slice(&payload);
                    });
                    socket.count_pong(2 + payload.len());
                    socket.keep(Event::Ping(payload));
                }
                Received::Close { code, reason } => {
                    close = Some((code, reason));
                    return false;
                }
            }
            socket.wants_more()
        });
        socket.receiver = (!receiver.is_idle()).then(|| Box::new(receiver));
        socket.codec = codec;
        socket.schedule();
        match used {
            Err(violation) => {
                let (code, text) = (violation.close_code(), violation.to_string());
                self.finish_socket(Finish::Failed { code, text, told: violation.reason() });
                bytes.len()
            }
            Ok(_) if let Some((code, reason)) = close => {
                self.finish_socket(Finish::Closed { code, reason });
                bytes.len()
            }
            Ok(used) => used,
        }
    }
}
