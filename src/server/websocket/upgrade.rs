//! From a request to a socket: the decision on a handshake, and the response that ends HTTP on a connection.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use crate::app::Behavior;
use crate::http::date;
use crate::http::head::{self, Head};
use crate::http::response::{BodyKind, RequestInfo};
use crate::server::connection::Locked;
use crate::server::routing::{Candidates, Position, Step};
use crate::server::websocket::WebSocket;
use crate::server::websocket::event::Event;
use crate::server::websocket::state::SocketState;
use crate::websocket::deflate::{self, Codec};
use crate::websocket::handshake::{self, Handshake};

/// The offer of a client in its handshake.
pub(crate) struct HandshakeFields<'a> {
    /// `Sec-WebSocket-Key`, valid; HTTP/2 has none.
    pub(crate) key: &'a [u8],
    /// `Sec-WebSocket-Protocol`: the first is chosen.
    pub(crate) protocols: &'a [u8],
    /// `Sec-WebSocket-Extensions`.
    pub(crate) extensions: &'a [u8],
    /// `User-Agent`.
    pub(crate) user_agent: &'a [u8],
}

impl Locked<'_> {
    /// A request offers to upgrade. False if no WebSocket route matches, or it is no handshake: then it goes
    /// to the HTTP routes.
    pub(crate) fn begin_handshake(&mut self, candidates: &Candidates<'_>, head: &Head, bytes: &[u8]) -> bool {
        let (_, step) = candidates.step(Position::HANDSHAKE);
        if !matches!(step, Step::Upgrade(_) | Step::Accept(_)) {
            return false;
        }
        // A request that only offers to switch may get an HTTP response (RFC 9110 7.8).
        let is_http = || !head.http2 && head.method(bytes) != b"GET" && candidates.has_http();
        match handshake::examine(head, bytes) {
            Handshake::Valid => {}
            Handshake::Absent => return false,
            Handshake::Refused(_) if is_http() => return false,
            Handshake::Refused(code) => {
                self.refuse_handshake(code);
                return true;
            }
        }
        match step {
            Step::Upgrade(here) => {
                let lane = here.lane;
                if let Some(place) = self.admit_request(bytes.len()) {
                    let exchange = self.begin_exchange(head.clone(), bytes, here, place);
                    self.dispatch(exchange, lane);
                }
            }
            Step::Accept(behavior) => {
                let block = head.header_block(bytes);
                let value = |name: &[u8]| head::joined(block, name).unwrap_or_default();
                let offer = HandshakeFields {
                    key: &value(b"sec-websocket-key"),
                    protocols: &value(b"sec-websocket-protocol"),
                    extensions: &value(b"sec-websocket-extensions"),
                    user_agent: &value(b"user-agent"),
                };
                self.open_socket(behavior, &offer, None);
            }
            Step::Handler { .. } | Step::Constant(_) | Step::Files(_) | Step::NotFound => {}
        }
        true
    }

    /// Refuses a handshake (RFC 6455 4.4). The connection goes on: nothing about its framing is in doubt.
    ///
    /// It ends if the handshake had a body. Honest clients send none; an attacker hopes that a proxy takes
    /// the body for frames, or for the next request.
    pub(crate) fn refuse_handshake(&mut self, code: u16) {
        if let Some(request) = self.request_mut() {
            if code == 426 {
                let head = &mut request.reply.head;
                // Valid as they stand (RFC 9110 15.5.22); over HTTP/2 the first two are left out.
                let _ = head.header(b"Upgrade", b"websocket");
                let _ = head.header(b"Connection", b"Upgrade");
                let _ = head.header(b"Sec-WebSocket-Version", b"13");
            }
            request.reply.close |= !request.intake.is_complete();
        }
        self.answer_status(code);
        self.complete();
    }

    /// Completes a handshake: the 101 with user code's headers, then the socket (RFC 6455 4.2.2).
    pub(crate) fn open_socket(
        &mut self,
        behavior: &Arc<Behavior>,
        offer: &HandshakeFields<'_>,
        user: Option<Box<dyn Any + Send + Sync>>,
    ) -> Arc<WebSocket> {
        let server = &self.connection.server;
        let agreed = behavior
            .config
            .compression
            .as_ref()
            .filter(|_| !handshake::breaks_compression(offer.user_agent))
            .and_then(|wanted| deflate::negotiate(wanted, offer.extensions));
        // HTTP is over on this connection, and so is every exchange.
        let mut reply = self
            .become_socket()
            .map(|mut request| {
                debug_assert!(request.intake.is_complete(), "a handshake has no body");
                request.end_exchange();
                request.reply
            })
            .unwrap_or_default();
        let head = &mut reply.head;
        // None of them can fail: they are ours, or were checked.
        if self.connection.is_stream() {
            head.replace_status(200);
        } else {
            head.switch_protocols();
            let _ = head.header(b"Upgrade", b"websocket");
            let _ = head.header(b"Connection", b"Upgrade");
            let _ = head.header(b"Sec-WebSocket-Accept", &handshake::accept(offer.key));
        }
        if let Some(protocol) = handshake::first_protocol(offer.protocols) {
            let _ = head.header(b"Sec-WebSocket-Protocol", protocol);
        }
        if let Some(agreed) = &agreed {
            let mut value = Vec::new();
            agreed.write_to(&mut value);
            let _ = head.header(b"Sec-WebSocket-Extensions", &value);
        }
        reply.lasting.complete(head);
        let name = server.config.server_header.as_bytes();
        let now = date::now();
        let date = if server.config.date_header { &now[..] } else { b"" };
        if self.connection.is_stream() {
            // RFC 8441 section 5: 200, and frames while the stream lasts.
            let opening = head.to_stream(false, BodyKind::UntilClose, date, name);
            self.out.set_head(Box::new(opening));
        } else {
            head.write_to(self.out.tail(), RequestInfo::default(), BodyKind::Empty, date, name, true);
        }
        if let Some(log) = &mut self.log {
            log.opened();
        }
        self.out.uncork();
        self.input.set_searched(0);
        let socket = Arc::new(WebSocket {
            connection: Arc::clone(self.connection),
            behavior: Arc::clone(behavior),
            user: user.map_or_else(OnceLock::new, OnceLock::from),
        });
        let codec = agreed.map(|agreed| Box::new(Codec::new(agreed)));
        let mut state =
            SocketState::new(Arc::clone(behavior), Arc::clone(&socket), codec, server.deadlines.now());
        // The response to an earlier request may still wait for the client.
        state.full = self.out.is_blocked();
        state.push(Event::Open);
        let code = state.code_of_shutdown();
        self.socket = Some(Box::new(state));
        self.rearm();
        if server.is_closing() {
            self.end_socket(code, None);
        }
        // The client's bytes after its handshake wait in the input.
        self.connection.wake();
        socket
    }
}
