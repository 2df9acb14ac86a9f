//! A request begins: it goes to its first route, or to none.

use std::sync::Arc;

use crate::app::{Job, Lane};
use crate::files::conditions::Conditions;
use crate::http::cors::{self, Verdict};
use crate::http::head::Head;
use crate::server::connection::Locked;
use crate::server::exchange::Exchange;
use crate::server::files::Tried;
use crate::server::overload::Slot;
use crate::server::reply::Asked;
use crate::server::routing::{Candidates, Position, Step, Stop};

impl Locked<'_> {
    /// A request has arrived: finds its route.
    pub(crate) fn begin_request(&mut self, head: &Head, bytes: &[u8]) {
        let connection = self.connection;
        let server = &connection.server;
        let asked = Asked {
            head_request: head.method(bytes) == b"HEAD",
            http10: head.version_minor == 0,
            keep_alive: head.keep_alive && !server.is_parting(),
            stream: head.http2,
            waits: head.expect_continue,
            undated: !server.config.date_header,
        };
        // Before the route is chosen.
        self.pace.begin_body();
        self.begin(head.framing, asked, server.config.max_body_size);
        if let Some(log) = &mut self.log {
            log.begin(head, bytes, connection.origin(head.header_block(bytes)).address);
        }
        if let Some(request) = self.request_mut() {
            for added in &server.config.headers {
                request.reply.lasting.set(added.name.to_vec(), added.lines.clone());
            }
        }
        let preflight = match server.config.cors.judge(head, bytes) {
            None => None,
            Some(Verdict::Preflight(answer)) => Some(answer),
            Some(Verdict::Lines(lines)) => {
                if let Some(request) = self.request_mut() {
                    request.reply.lasting.set(cors::NAME, lines);
                }
                None
            }
        };
        let domains = server.routes.load();
        let candidates = connection.candidates(&domains, head, bytes);
        if candidates.are_elsewhere() {
            self.refuse(421);
            return;
        }
        if head.upgrade && self.begin_handshake(&candidates, head, bytes) {
            self.rearm();
            return;
        }
        if let Some(answer) = preflight {
            if self.admit_body(server.config.max_body_size) {
                self.answer_with(answer, b"");
            }
        } else {
            self.begin_at_routes(&candidates, head, bytes);
        }
        self.rearm();
    }

    /// A request that is no handshake goes to the first of its routes.
    fn begin_at_routes(&mut self, candidates: &Candidates<'_>, head: &Head, bytes: &[u8]) {
        let mut position = Position::HTTP;
        let mut conditions = None;
        loop {
            let directory = match candidates.step(position).1 {
                Step::Files(directory) => directory,
                Step::Handler { stop, limit, invites_late } => {
                    self.begin_at_handler(candidates, stop, (limit, invites_late), head, bytes);
                    return;
                }
                Step::Constant(constant) => {
                    if self.admit_body_on_route(
                        self.connection.server.config.max_body_size,
                        candidates,
                        position,
                    ) {
                        self.answer_constant(constant, head.header_block(bytes));
                    }
                    return;
                }
                // Handshakes have been tried before.
                Step::NotFound | Step::Upgrade(_) | Step::Accept(_) => {
                    if self.admit_body_on_route(
                        self.connection.server.config.max_body_size,
                        candidates,
                        position,
                    ) {
                        self.answer_not_found();
                    }
                    return;
                }
            };
            let asked = conditions
                .get_or_insert_with(|| Conditions::read(head.method(bytes), head.header_block(bytes)));
            match self.answer_from_directory(directory, (head.path(bytes), head.query(bytes)), asked) {
                Tried::Answered => return,
                Tried::Absent => position = position.next(),
                Tried::Wait => {
                    let Some(slot) = self.admit_request(bytes.len()) else { return };
                    // Its route, and the limit, are known after the disk access.
                    let limit = self.connection.server.config.max_body_size;
                    if let Some(request) = self.request_mut() {
                        request.intake.defer(limit);
                    }
                    let here = Stop::without_handler(position, Lane::Turn);
                    let exchange = self.begin_exchange(head.clone(), bytes, here, slot);
                    exchange.find_file(self, Arc::clone(directory));
                    return;
                }
            }
        }
    }

    /// A request goes to the handler of a route, which allows `limit` bytes of the body, and may invite its client late.
    fn begin_at_handler(
        &mut self,
        candidates: &Candidates<'_>,
        stop: Stop,
        (limit, invites_late): (u64, bool),
        head: &Head,
        bytes: &[u8],
    ) {
        if !self.admit_body_on_route(limit, candidates, stop.position) {
            return;
        }
        let Some(slot) = self.admit_request(bytes.len()) else { return };
        // It leaves at once: the flush that follows every read comes before any handler's cork.
        if !invites_late {
            self.ask_for_body();
        }
        let lane = stop.lane;
        let exchange = self.begin_exchange(head.clone(), bytes, stop, slot);
        self.dispatch(exchange, lane);
    }

    /// Makes user code's handle of the request in progress.
    pub(crate) fn begin_exchange(
        &mut self,
        head: Head,
        bytes: &[u8],
        stop: Stop,
        slot: Slot,
    ) -> Arc<Exchange> {
        let exchange = Exchange::new(Arc::clone(self.connection), self.number(), head, bytes, stop, slot);
        if let Some(request) = self.request_mut() {
            request.exchange = Some(Arc::clone(&exchange));
        }
        exchange
    }

    /// Passes a request to the lane of its handler.
    pub(crate) fn dispatch(&mut self, exchange: Arc<Exchange>, lane: Lane) {
        match lane {
            Lane::Turn => {
                // Nothing is pending but a 100 Continue; the handler's output leaves together.
                if self.out.is_empty() {
                    self.out.cork();
                } else {
                    self.out.uncork();
                }
                self.connection.server.push(Job::Request(exchange));
            }
            Lane::Loop => {
                self.connection.server.post(Job::Request(exchange));
            }
        }
    }

    /// A place for a request with a head of `head` bytes. `None` if it is one too many: then the client has
    /// got a 503.
    pub(crate) fn admit_request(&mut self, head: usize) -> Option<Slot> {
        let server = &self.connection.server;
        let has_room = self.connection.abandoned() < server.config.max_concurrent_streams as usize;
        let slot = if has_room { server.load.enter(head) } else { None };
        if slot.is_none() {
            self.refuse(503);
        }
        slot
    }
}
