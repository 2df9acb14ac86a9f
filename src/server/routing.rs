//! From the head of a request to the code that answers it.

use std::sync::Arc;

use crate::app::{Job, Lane, Target};
use crate::files::conditions::Conditions;
use crate::http::cors::{self, Verdict};
use crate::http::head::Head;
use crate::router::{Match, Router};
use crate::server::connection::{Connection, Locked};
use crate::server::exchange::{Exchange, Stop};
use crate::server::files::Tried;
use crate::server::overload::Place;
use crate::server::reply::Asked;

impl Locked<'_> {
    /// A request has come: finds who answers it.
    pub(crate) fn begin_request(&mut self, head: Head, bytes: &[u8]) {
        let connection = self.connection;
        let server = &connection.server;
        let asked = Asked {
            head_request: head.method(bytes) == b"HEAD",
            http10: head.version_minor == 0,
            keep_alive: head.keep_alive && !server.is_closing(),
            stream: head.http2,
            waits: head.expect_continue,
        };
        // Before anybody decides who answers.
        self.pace.begin_body();
        self.begin(head.framing, asked, server.config.max_body_size);
        if let Some(log) = &mut self.log {
            log.begin(&head, bytes, connection.client());
        }
        let preflight = match server.config.cors.judge(&head, bytes) {
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
        let Some(routes) = self.connection.routes(&domains, || head.authority(bytes)) else {
            // RFC 9110 15.5.20: a new connection may find who answers.
            self.refuse(421);
            return;
        };
        if head.upgrade
            && let Some(found) = routes.find_websocket(head.path(bytes))
            && let Target::WebSocket(behavior) = found.value
            && !self.begin_handshake(&head, bytes, behavior, &found.params)
        {
            self.rearm();
            return;
        }
        if head.http2 && head.upgrade {
            // An answer that is a success would open a tunnel (RFC 8441 section 4).
            self.answer_not_found();
            return;
        }
        if let Some(answer) = preflight {
            if self.admit_body(server.config.max_body_size) {
                self.answer_with(answer, b"");
            }
            self.rearm();
            return;
        }
        let found = routes.find(head.method(bytes), head.path(bytes));
        match found {
            Some(Match { value: Target::Files(_), .. }) => self.begin_at_files(routes, head, bytes),
            found => self.begin_at_route(routes, found, 0, head, bytes),
        }
        self.rearm();
    }

    /// A request comes to the route `found`, behind `skipped` others.
    fn begin_at_route(
        &mut self,
        routes: &Router<Target>,
        found: Option<Match<'_, Target>>,
        skipped: usize,
        head: Head,
        bytes: &[u8],
    ) {
        let limit = limit_of(self.connection, found.as_ref());
        let behind =
            (skipped + 1..).map_while(|place| routes.nth(head.method(bytes), head.path(bytes), place));
        if !self.admit_body_on_route(limit, behind) {
            return;
        }
        match found {
            None => self.answer_not_found(),
            Some(found) => match found.value {
                Target::Constant(constant) => {
                    self.answer_constant(constant, head.header_block(bytes));
                }
                // Such routes are found by handshakes alone, or have been tried.
                Target::WebSocket(_) | Target::Files(_) => self.answer_not_found(),
                Target::Handler { id, lane, lease, .. } => {
                    let Some(place) = self.admit_request(bytes.len()) else { return };
                    // It leaves at once: the flush that follows every read comes before any handler's cork.
                    self.ask_for_body();
                    let stop = Stop::at_handler(*id, *lane, lease.clone(), found.params, skipped);
                    let exchange = self.begin_exchange(head, bytes, stop, place);
                    self.dispatch(exchange, *lane);
                }
            },
        }
    }

    /// A request comes to a directory of files first.
    fn begin_at_files(&mut self, routes: &Router<Target>, head: Head, bytes: &[u8]) {
        let asked = Conditions::read(head.method(bytes), head.header_block(bytes));
        let mut skipped = 0;
        loop {
            let found = routes.nth(head.method(bytes), head.path(bytes), skipped);
            let Some(Match { value: Target::Files(directory), .. }) = found else {
                self.begin_at_route(routes, found, skipped, head, bytes);
                return;
            };
            let target = (head.path(bytes), head.query(bytes));
            match self.answer_from_directory(directory, target, &asked) {
                Tried::Answered => return,
                Tried::Absent => skipped += 1,
                Tried::Wait => {
                    let Some(place) = self.admit_request(bytes.len()) else { return };
                    // Who takes it, and how much, is known when the disk has answered.
                    let limit = self.connection.server.config.max_body_size;
                    if let Some(request) = self.request_mut() {
                        request.intake.defer(limit);
                    }
                    let directory = Arc::clone(directory);
                    let stop = Stop::at_files(skipped, Lane::Turn);
                    let exchange = self.begin_exchange(head, bytes, stop, place);
                    exchange.find_file(self, directory);
                    return;
                }
            }
        }
    }

    /// Makes what user code holds of the request in progress.
    pub(crate) fn begin_exchange(
        &mut self,
        head: Head,
        bytes: &[u8],
        stop: Stop,
        place: Place,
    ) -> Arc<Exchange> {
        let exchange = Exchange::new(Arc::clone(self.connection), self.number(), head, bytes, stop, place);
        if let Some(request) = self.request_mut() {
            request.exchange = Some(Arc::clone(&exchange));
        }
        exchange
    }

    /// Hands a request to where its handler runs.
    pub(crate) fn dispatch(&mut self, exchange: Arc<Exchange>, lane: Lane) {
        match lane {
            Lane::Turn => {
                // Nothing is pending but a 100 Continue; what the handler writes leaves together.
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
}

/// How much of a body is taken on the way to `found`.
pub(super) fn limit_of(connection: &Connection, found: Option<&Match<'_, Target>>) -> u64 {
    match found.map(|found| found.value) {
        Some(Target::Handler { max_body_size: Some(own), .. }) => *own,
        _ => connection.server.config.max_body_size,
    }
}
