//! HTTP/1.1 on a connection: bytes in, requests out, one at a time (RFC 9112).
//!
//! A pipelined request stays in the input until the answer before it is complete, so answers leave in order. Requests
//! that no user code answers (404, constant routes, refusals) are answered here, on the thread that read them.

use std::sync::Arc;

use crate::app::{Constant, Job, Lane, Signal, Target};
use crate::files::conditions::Conditions;
use crate::http::cors::{self, Verdict};
use crate::http::head::{self, Head};
use crate::http::status;
use crate::router::{Match, Router};
use crate::server::connection::{Connection, HIGH_WATER, Phase, State};
use crate::server::exchange::{Exchange, Stop};
use crate::server::files::{self, Tried};
use crate::server::http2;
use crate::server::intake::IntakeError;
use crate::server::overload;
use crate::server::pace::Way;
use crate::server::reply::{Asked, Reply};
use crate::server::websocket;

pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Takes what the socket gave, and does all that can be done with it now.
pub(crate) fn absorb(connection: &Arc<Connection>, state: &mut State, mut bytes: &[u8]) {
    match state.phase {
        Phase::Busy => {
            bytes = &bytes[receive(connection, state, bytes)..];
            if matches!(state.phase, Phase::Head | Phase::Socket) {
                absorb(connection, state, bytes);
            } else if state.phase == Phase::Busy {
                state.input.extend_from_slice(bytes);
            }
        }
        Phase::Head => {
            if state.input.is_empty() {
                let used = advance(connection, state, bytes);
                if state.phase == Phase::Socket {
                    websocket::absorb(connection, state, &bytes[used..]);
                } else {
                    keep(connection, state, &bytes[used..]);
                }
                return;
            }
            // The bytes are moved out so that the parser and the state can be borrowed side by side.
            let mut input = std::mem::take(&mut state.input);
            input.extend_from_slice(bytes);
            let used = advance(connection, state, &input);
            if state.phase == Phase::Socket {
                websocket::absorb(connection, state, &input[used..]);
                return;
            }
            if state.phase == Phase::Closing || state.phase == Phase::Over {
                return;
            }
            input.drain(..used);
            // Most of the time all of it was used, and an idle connection keeps no room for more.
            state.input = if input.is_empty() { Vec::new() } else { input };
            // A head that comes byte by byte keeps the deadline its first byte set.
            if used > 0 {
                connection.rearm(state);
            }
        }
        Phase::Socket => websocket::absorb(connection, state, bytes),
        Phase::Multiplexed | Phase::Closing | Phase::Over => {}
    }
}

/// Keeps what could not be used yet.
fn keep(connection: &Connection, state: &mut State, rest: &[u8]) {
    if !rest.is_empty() && matches!(state.phase, Phase::Head | Phase::Busy | Phase::Multiplexed) {
        state.input.extend_from_slice(rest);
        connection.rearm(state);
    }
}

/// Begins as many requests as it may; says how many bytes they took.
fn advance(connection: &Arc<Connection>, state: &mut State, bytes: &[u8]) -> usize {
    let limits = &connection.server.config.head;
    let mut used = 0;
    while state.phase == Phase::Head && used < bytes.len() && state.out.len() < HIGH_WATER {
        let rest = &bytes[used..];
        // Over TLS the handshake has said what is spoken (RFC 9113 section 3.3).
        let may_begin = state.fresh && connection.secure.is_none() && connection.server.config.http2;
        if may_begin && rest[0] == b'P' {
            match http2::begins(rest) {
                None => {
                    state.searched = rest.len();
                    return used;
                }
                Some(true) => {
                    http2::begin(state);
                    return used;
                }
                Some(false) => {}
            }
        }
        match head::parse_from(rest, limits, std::mem::take(&mut state.searched)) {
            Ok(None) => {
                state.searched = rest.len();
                return used;
            }
            Ok(Some(head)) => {
                let (before, body) = rest.split_at(head.len);
                used += head.len;
                begin(connection, state, head, before);
                if state.phase == Phase::Busy {
                    used += receive(connection, state, body);
                }
            }
            Err(refusal) => {
                refuse(connection, state, refusal.status());
                return bytes.len();
            }
        }
    }
    used
}

/// A request has come: finds who answers it.
pub(crate) fn begin(connection: &Arc<Connection>, state: &mut State, head: Head, bytes: &[u8]) {
    let server = &connection.server;
    state.fresh = false;
    state.phase = Phase::Busy;
    state.current += 1;
    let asked = Asked {
        head_request: head.method(bytes) == b"HEAD",
        http10: head.version_minor == 0,
        keep_alive: head.keep_alive && !server.is_closing(),
        stream: head.http2,
        waits: head.expect_continue,
    };
    // Before anybody decides who answers.
    state.pace.begin_body();
    state.http.begin(head.framing, asked, server.config.max_body_size);
    if let Some(log) = &mut state.log {
        log.begin(&head, bytes, connection.client());
    }
    let preflight = match server.config.cors.judge(&head, bytes) {
        None => None,
        Some(Verdict::Preflight(answer)) => Some(answer),
        Some(Verdict::Lines(lines)) => {
            state.http.reply.lasting.set(cors::NAME, lines);
            None
        }
    };
    let domains = server.routes.load();
    let Some(routes) = connection.routes(&domains, || head.authority(bytes)) else {
        // RFC 9110 15.5.20: a new connection may find who answers.
        refuse(connection, state, 421);
        return;
    };
    if head.upgrade
        && let Some(found) = routes.find_websocket(head.path(bytes))
        && let Target::WebSocket(behavior) = found.value
        && !websocket::begin(connection, state, &head, bytes, behavior, &found.params)
    {
        connection.rearm(state);
        return;
    }
    if head.http2 && head.upgrade {
        // An answer that is a success would open a tunnel (RFC 8441 section 4).
        not_found(connection, state);
        return;
    }
    if let Some(answer) = preflight {
        if admit(connection, state, server.config.max_body_size) {
            state.http.reply.head = answer;
            whole(connection, state, b"");
            connection.settle(state);
        }
        connection.rearm(state);
        return;
    }
    let found = routes.find(head.method(bytes), head.path(bytes));
    match found {
        Some(Match { value: Target::Files(_), .. }) => begin_files(connection, state, routes, head, bytes),
        found => begin_at(connection, state, routes, found, 0, head, bytes),
    }
    connection.rearm(state);
}

/// A request comes to the route `found`, behind `skipped` others.
fn begin_at(
    connection: &Arc<Connection>,
    state: &mut State,
    routes: &Router<Target>,
    found: Option<Match<'_, Target>>,
    skipped: usize,
    head: Head,
    bytes: &[u8],
) {
    let limit = limit_of(connection, found.as_ref());
    let behind = (skipped + 1..).map_while(|place| routes.nth(head.method(bytes), head.path(bytes), place));
    if !admit_on_route(connection, state, limit, behind) {
        return;
    }
    match found {
        None => not_found(connection, state),
        Some(found) => match found.value {
            Target::Constant(constant) => {
                give_constant(connection, state, constant, head.header_block(bytes));
                connection.settle(state);
            }
            // Such routes are found by handshakes alone, or have been tried.
            Target::WebSocket(_) | Target::Files(_) => not_found(connection, state),
            Target::Handler { id, lane, lease, .. } => {
                let Some(place) = overload::admit(connection, state, bytes.len()) else { return };
                // It leaves at once: the flush that follows every read comes before any handler's cork.
                connection.ask_for_body(state);
                let stop = Stop::at_handler(*id, *lane, lease.clone(), found.params, skipped);
                let exchange = Exchange::new(Arc::clone(connection), state.current, head, bytes, stop, place);
                state.exchange = Some(Arc::clone(&exchange));
                dispatch(connection, state, exchange, *lane);
            }
        },
    }
}

/// A request comes to a directory of files first.
fn begin_files(
    connection: &Arc<Connection>,
    state: &mut State,
    routes: &Router<Target>,
    head: Head,
    bytes: &[u8],
) {
    let asked = Conditions::read(head.method(bytes), head.header_block(bytes));
    let mut skipped = 0;
    loop {
        let found = routes.nth(head.method(bytes), head.path(bytes), skipped);
        let Some(Match { value: Target::Files(directory), .. }) = found else {
            begin_at(connection, state, routes, found, skipped, head, bytes);
            return;
        };
        let target = (head.path(bytes), head.query(bytes));
        match files::answer_from(connection, state, directory, target, &asked) {
            Tried::Answered => return,
            Tried::Absent => skipped += 1,
            Tried::Wait => {
                let Some(place) = overload::admit(connection, state, bytes.len()) else { return };
                // Who takes it, and how much, is known when the disk has answered.
                state.http.intake.defer(connection.server.config.max_body_size);
                let directory = Arc::clone(directory);
                let stop = Stop::at_files(skipped, Lane::Turn);
                let exchange = Exchange::new(Arc::clone(connection), state.current, head, bytes, stop, place);
                state.exchange = Some(Arc::clone(&exchange));
                exchange.find_file(state, directory);
                return;
            }
        }
    }
}

/// How much of a body is taken on the way to `found`.
fn limit_of(connection: &Connection, found: Option<&Match<'_, Target>>) -> u64 {
    match found.map(|found| found.value) {
        Some(Target::Handler { max_body_size: Some(own), .. }) => *own,
        _ => connection.server.config.max_body_size,
    }
}

/// Whoever answers takes `limit` bytes of the body. False when it is more, which the client has been told.
pub(crate) fn admit(connection: &Arc<Connection>, state: &mut State, limit: u64) -> bool {
    let admitted = state.http.intake.admit(limit);
    admitted.inspect_err(|error| fail_body(connection, state, error)).is_ok()
}

/// The same for a route that may pass the request on to those `behind` it, which are asked only where the body may be too large
/// for this one: then it is refused if it is for them too, or when it is read here.
pub(crate) fn admit_on_route<'a>(
    connection: &Arc<Connection>,
    state: &mut State,
    limit: u64,
    mut behind: impl Iterator<Item = Match<'a, Target>>,
) -> bool {
    if let Some(needed) = state.http.intake.beyond(limit)
        && behind.any(|found| limit_of(connection, Some(&found)) >= needed)
    {
        state.http.intake.defer(limit);
        return true;
    }
    admit(connection, state, limit)
}

/// Hands a request to where its handler runs.
pub(crate) fn dispatch(connection: &Connection, state: &mut State, exchange: Arc<Exchange>, lane: Lane) {
    match lane {
        Lane::Turn => {
            // Nothing is pending but a 100 Continue; what the handler writes leaves together.
            state.corked = state.out.is_empty();
            connection.server.push(Job::Request(exchange));
        }
        Lane::Loop => {
            connection.server.post(Job::Request(exchange));
        }
    }
}

/// Takes what belongs to the body of the request in progress; says how many bytes that was.
fn receive(connection: &Arc<Connection>, state: &mut State, bytes: &[u8]) -> usize {
    if state.http.intake.is_complete() || bytes.is_empty() {
        return 0;
    }
    let used = match state.http.intake.feed(bytes) {
        Ok(used) => used,
        Err(error) => {
            fail_body(connection, state, &error);
            return bytes.len();
        }
    };
    connection.moved(state, Way::Body, used);
    if state.http.intake.wants_signal() {
        announce(connection, state);
    }
    // Answered before the body had come whole: the next request begins behind it.
    if state.http.intake.is_complete() && state.phase == Phase::Busy && is_answered(state) {
        state.phase = Phase::Head;
    }
    connection.rearm(state);
    used
}

/// Whether nothing of the answer is still to come.
fn is_answered(state: &State) -> bool {
    state.exchange.is_none() && !state.http.file_leaves
}

/// Whether the answer is complete and the body is not.
pub(crate) fn is_draining(state: &State) -> bool {
    state.phase == Phase::Busy && is_answered(state) && !state.http.intake.is_complete()
}

/// Tells the reader of the body that there is something to take.
pub(crate) fn announce(connection: &Connection, state: &mut State) {
    if let Some(exchange) = &state.exchange {
        state.http.intake.signalled = true;
        connection.server.app.signal(Arc::clone(exchange), Signal::Readable);
    }
}

/// The body cannot be taken: whoever was answering hears that the exchange is over, and the client why.
pub(crate) fn fail_body(connection: &Arc<Connection>, state: &mut State, error: &IntakeError) {
    connection.abandon(state);
    match error {
        // It has been answered, and what is left of it is thrown away no longer.
        _ if is_answered(state) && state.http.reply.is_done() => connection.begin_closing(state),
        // The answer is already under way: it can only be cut.
        _ if state.http.reply.is_started() => {
            state.cut = true;
            connection.begin_closing(state);
        }
        IntakeError::TooLarge(_) => refuse(connection, state, 413),
        IntakeError::Chunk(_) => refuse(connection, state, 400),
    }
}

/// Answers with an error that ends the connection: what follows on it cannot be trusted to be a request.
pub(crate) fn refuse(connection: &Arc<Connection>, state: &mut State, code: u16) {
    state.current += 1;
    if state.phase == Phase::Head {
        state.http.reply = Reply::new(Asked { stream: connection.is_stream(), ..Asked::default() });
        if let Some(log) = &mut state.log {
            log.begin_unread(connection.is_stream(), connection.client());
        }
    }
    state.http.reply.close = true;
    if !state.http.reply.is_started() {
        state.http.reply.head.clear();
        answer(connection, state, code);
    }
    connection.begin_closing(state);
}

fn not_found(connection: &Arc<Connection>, state: &mut State) {
    give_up(connection, state);
    connection.settle(state);
}

/// No route is left that would answer. The caller settles.
pub(crate) fn give_up(connection: &Arc<Connection>, state: &mut State) {
    state.http.reply.head.clear();
    answer(connection, state, 404);
}

/// A short answer of our own, whose body is the reason phrase.
pub(crate) fn answer(connection: &Connection, state: &mut State, code: u16) {
    let body = status::reason(code).unwrap_or("Error").as_bytes();
    // Neither can fail: both are ours and valid. Were they not, the answer would still be well-formed.
    let _ = state.http.reply.head.set_status(code);
    let _ = state.http.reply.head.header(b"Content-Type", b"text/plain");
    if code == 503 {
        let _ = state.http.reply.head.header(b"Retry-After", overload::RETRY_AFTER);
    }
    whole(connection, state, body);
}

/// A constant route answers a request with these header lines. The caller settles.
pub(crate) fn give_constant(
    connection: &Arc<Connection>,
    state: &mut State,
    constant: &Constant,
    headers: &[u8],
) {
    let (head, body) = constant.answer_to(headers);
    state.http.reply.head = head.clone();
    whole(connection, state, body);
}

fn whole(connection: &Connection, state: &mut State, body: &[u8]) {
    let out = state.out.tail();
    let place = state.http.reply.end(out, body.len(), connection.server.config.server_header.as_bytes());
    out.extend_from_slice(&body[..place.take]);
    out.extend_from_slice(place.suffix);
}
