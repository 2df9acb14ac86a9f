//! HTTP/1.1 on a connection: bytes in, requests out, one at a time (RFC 9112).
//!
//! A pipelined request stays in the input until the answer before it is complete, so answers leave in order.

use crate::http::head;
use crate::server::connection::{HIGH_WATER, Locked, Phase};
use crate::server::http2;

impl Locked<'_> {
    /// Takes what the socket gave, and does all that can be done with it now.
    pub(crate) fn receive(&mut self, mut bytes: &[u8]) {
        match self.phase {
            Phase::Busy => {
                bytes = &bytes[self.receive_body(bytes)..];
                if matches!(self.phase, Phase::Head | Phase::Socket) {
                    self.receive(bytes);
                } else if self.phase == Phase::Busy {
                    self.input.extend_from_slice(bytes);
                }
            }
            Phase::Head => {
                if self.input.is_empty() {
                    let used = self.begin_requests(bytes);
                    if self.phase == Phase::Socket {
                        self.receive_frames(&bytes[used..]);
                    } else {
                        self.keep_input(&bytes[used..]);
                    }
                    return;
                }
                // The bytes are moved out so that the parser and the state can be borrowed side by side.
                let mut input = std::mem::take(&mut self.input);
                input.extend_from_slice(bytes);
                let used = self.begin_requests(&input);
                if self.phase == Phase::Socket {
                    self.receive_frames(&input[used..]);
                    return;
                }
                if self.phase == Phase::Closing || self.phase == Phase::Over {
                    return;
                }
                input.drain(..used);
                // Most of the time all of it was used, and an idle connection keeps no room for more.
                self.input = if input.is_empty() { Vec::new() } else { input };
                // A head that comes byte by byte keeps the deadline its first byte set.
                if used > 0 {
                    self.rearm();
                }
            }
            Phase::Socket => self.receive_frames(bytes),
            Phase::Multiplexed | Phase::Closing | Phase::Over => {}
        }
    }

    /// Keeps what could not be used yet.
    fn keep_input(&mut self, rest: &[u8]) {
        if !rest.is_empty() && matches!(self.phase, Phase::Head | Phase::Busy | Phase::Multiplexed) {
            self.input.extend_from_slice(rest);
            self.rearm();
        }
    }

    /// Begins as many requests as it may; says how many bytes they took.
    fn begin_requests(&mut self, bytes: &[u8]) -> usize {
        let limits = &self.connection.server.config.head;
        let mut used = 0;
        while self.phase == Phase::Head && used < bytes.len() && self.out.len() < HIGH_WATER {
            let rest = &bytes[used..];
            // Over TLS the handshake has said what is spoken (RFC 9113 section 3.3).
            let may_begin =
                self.fresh && self.connection.secure.is_none() && self.connection.server.config.http2;
            if may_begin && rest[0] == b'P' {
                match http2::begins(rest) {
                    None => {
                        self.searched = rest.len();
                        return used;
                    }
                    Some(true) => {
                        self.begin_http2();
                        return used;
                    }
                    Some(false) => {}
                }
            }
            match head::parse_from(rest, limits, std::mem::take(&mut self.searched)) {
                Ok(None) => {
                    self.searched = rest.len();
                    return used;
                }
                Ok(Some(head)) => {
                    let (before, body) = rest.split_at(head.len);
                    used += head.len;
                    self.begin_request(head, before);
                    if self.phase == Phase::Busy {
                        used += self.receive_body(body);
                    }
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
