//! HTTP/1.1 on a connection: bytes in, requests out, one at a time (RFC 9112).
//!
//! A pipelined request stays in the input until the earlier response is complete, so responses leave in
//! order.

use crate::http::head;
use crate::server::connection::{HIGH_WATER, Locked, Phase};
use crate::server::http2;

impl Locked<'_> {
    /// Takes the bytes of a read, and processes as many as possible now.
    pub(crate) fn receive(&mut self, mut bytes: &[u8]) {
        match self.phase() {
            Phase::Busy(_) => {
                bytes = &bytes[self.receive_body(bytes)..];
                match self.phase() {
                    Phase::Head(_) | Phase::Socket => self.receive(bytes),
                    Phase::Busy(_) => self.input.keep(bytes),
                    Phase::Multiplexed(_) | Phase::Closing(_) | Phase::Over => {}
                }
            }
            Phase::Head(_) => {
                if self.input.is_empty() {
                    let used = self.begin_requests(bytes);
                    if self.is_socket() {
                        self.receive_frames(&bytes[used..]);
                    } else {
                        self.keep_input(&bytes[used..]);
                    }
                    return;
                }
                // The bytes are moved out so that the parser and the state can be borrowed side by side.
                let mut input = self.input.take();
                input.extend_from_slice(bytes);
                let used = self.begin_requests(&input);
                if self.is_socket() {
                    self.receive_frames(&input[used..]);
                    return;
                }
                if self.is_closing() || self.is_over() {
                    return;
                }
                input.drain(..used);
                // Mostly all of it was used.
                self.input.put_back(input);
                // A head that comes byte by byte keeps the deadline of its first byte.
                if used > 0 {
                    self.rearm();
                }
            }
            Phase::Socket => self.receive_frames(bytes),
            Phase::Multiplexed(_) | Phase::Closing(_) | Phase::Over => {}
        }
    }

    /// Keeps bytes that could not be used yet.
    fn keep_input(&mut self, rest: &[u8]) {
        if !rest.is_empty() && matches!(self.phase(), Phase::Head(_) | Phase::Busy(_) | Phase::Multiplexed(_))
        {
            self.input.keep(rest);
            self.rearm();
        }
    }

    /// Begins as many requests as possible; returns the number of their bytes.
    fn begin_requests(&mut self, bytes: &[u8]) -> usize {
        let connection = self.connection;
        let config = &connection.server.config;
        let mut used = 0;
        while self.is_head() && used < bytes.len() && self.out.len() < HIGH_WATER {
            let rest = &bytes[used..];
            // Over TLS the handshake has selected the protocol (RFC 9113 section 3.3).
            let may_begin_http2 = self.is_fresh() && connection.secure.is_none() && config.http2;
            if may_begin_http2 && rest[0] == b'P' {
                match http2::begins(rest) {
                    None => {
                        self.input.set_searched(rest.len());
                        return used;
                    }
                    Some(true) => {
                        self.become_multiplexed();
                        return used;
                    }
                    Some(false) => {}
                }
            }
            match head::parse_from(rest, &config.head, self.input.take_searched()) {
                Ok(None) => {
                    self.input.set_searched(rest.len());
                    return used;
                }
                Ok(Some(head)) => {
                    let (before, body) = rest.split_at(head.len);
                    used += head.len;
                    self.begin_request(&head, before);
                    used += self.receive_body(body);
                }
                Err(refusal) => {
                    self.refuse(refusal.status());
                    return bytes.len();
                }
            }
        }
        used
    }
}
