//! The timeouts of a connection, and their effects.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::server::connection::{Closing, Connection, Locked, Multiplexed, Phase};
use crate::server::deadlines::{NEVER, PARTING};
use crate::server::pace::Way;
use crate::server::stream::Writing;
use crate::server::websocket;

/// How long the rest of a refused request is read, so that our response is not lost to a reset (RFC 9112
/// 9.6).
const LINGER: Duration = Duration::from_secs(2);
/// How long a client that has shut its sending side may wait for the response to a request in progress.
const HALF_CLOSED: Duration = Duration::from_secs(5);

/// What a connection waits for.
enum Waiting {
    /// The first byte of a request.
    Request,
    /// The rest of a head.
    Head,
    /// More of a body that a handler reads.
    Body,
    /// The response to a client that has shut its sending side.
    Answer,
    /// The client to read the output.
    Room,
    /// The client to close, after we have.
    End,
}

struct Patience {
    kind: Waiting,
    limit: Duration,
}

impl Patience {
    /// The direction in which the client has to move bytes; `None` if the time is a total.
    fn way(&self) -> Option<Way> {
        match self.kind {
            Waiting::Body => Some(Way::Body),
            Waiting::Room => Some(Way::Room),
            Waiting::Request | Waiting::Head | Waiting::Answer | Waiting::End => None,
        }
    }
}

impl Locked<'_> {
    /// The present wait, if it has a limit.
    fn patience(&self) -> Option<Patience> {
        let server = &self.connection.server;
        let config = &server.config;
        let (kind, limit) = match self.phase() {
            Phase::Over | Phase::Socket => return None,
            _ if self.out.is_blocked() => (Waiting::Room, config.write_timeout),
            Phase::Closing(_) | Phase::Multiplexed(Multiplexed { expired: true, .. }) => {
                (Waiting::End, LINGER)
            }
            Phase::Multiplexed(Multiplexed { streaming: true, answered: true, .. }) => {
                (Waiting::Room, config.write_timeout)
            }
            Phase::Multiplexed(Multiplexed { streaming: true, .. }) => return None,
            Phase::Head(_) if !self.input.is_empty() => (Waiting::Head, config.header_timeout),
            Phase::Head(_) if server.is_closing() => (Waiting::Request, PARTING),
            Phase::Multiplexed(Multiplexed { fresh: true, .. }) if server.is_closing() => {
                (Waiting::Request, PARTING)
            }
            Phase::Head(_) | Phase::Multiplexed(_) if self.is_fresh() => {
                (Waiting::Request, config.header_timeout)
            }
            Phase::Head(_) | Phase::Multiplexed(_) => (Waiting::Request, config.keep_alive_timeout),
            Phase::Busy(request) if self.input.is_shut() && !request.reply.is_started() => {
                (Waiting::Answer, HALF_CLOSED)
            }
            Phase::Busy(request) if request.intake.is_waited_for() => (Waiting::Body, config.body_timeout),
            Phase::Busy(_) => return None,
        };
        Some(Patience { kind, limit })
    }

    /// Sets the deadline of the present state, counted from now.
    pub(crate) fn rearm(&mut self) {
        let deadlines = &self.connection.server.deadlines;
        let patience = self.patience();
        let way = patience.as_ref().and_then(Patience::way);
        let rate = self.connection.server.config.min_rate;
        if rate > 0 && (way.is_some() || self.pace.is_running()) {
            if self.connection.stream {
                let total = self.connection.moved_beside();
                self.pace.reached(total);
            }
            self.pace.begin(way, rate, deadlines.now());
            // The kernel tells of room when there is much of it, so a client that made some has taken more than we see.
            if !self.connection.stream
                && !self.out.is_blocked()
                && !matches!(self.phase(), Phase::Multiplexed(_))
            {
                self.pace.took_all();
            }
        }
        match patience {
            _ if self.is_socket() => {
                let due = self.socket.as_ref().map_or(NEVER, |socket| socket.due());
                deadlines.set(&self.connection.deadline, due);
            }
            Some(patience) if rate > 0 && way.is_some() => {
                deadlines
                    .set(&self.connection.deadline, self.pace.due(rate, patience.limit, deadlines.now()));
            }
            Some(patience) => deadlines.arm(&self.connection.deadline, patience.limit),
            None => self.connection.deadline.store(NEVER, Ordering::Relaxed),
        }
    }

    /// The client has moved `count` bytes.
    pub(in crate::server) fn count_moved(&mut self, way: Way, count: usize) {
        // The bytes of a stream count with those of the others of its connection.
        if !self.connection.stream {
            self.pace.moved(way, count as u64);
        }
    }

    /// Whether the client of a stream is not late, because others of its connection have moved enough.
    fn is_spared(&mut self) -> bool {
        let rate = self.connection.server.config.min_rate;
        let Some(patience) = self.patience().filter(|patience| rate > 0 && patience.way().is_some()) else {
            return false;
        };
        if self.connection.stream {
            let total = self.connection.moved_beside();
            self.pace.reached(total);
        }
        let now = self.connection.server.deadlines.now();
        let due = self.pace.due(rate, patience.limit, now);
        if due > now {
            self.connection.server.deadlines.set(&self.connection.deadline, due);
        }
        due > now
    }

    /// The server closes: whether a connection without a request has been silent for so long that none is on its way. If not,
    /// it has the rest of that time.
    fn is_silent(&self) -> bool {
        let connection = self.connection;
        let config = &connection.server.config;
        let limit = if self.is_fresh() { config.header_timeout } else { config.keep_alive_timeout };
        let milliseconds = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(NEVER);
        let now = connection.server.deadlines.now();
        let deadline = connection.deadline.load(Ordering::SeqCst);
        if deadline <= now.saturating_add(milliseconds(PARTING)) {
            // It was checked before, or ends soon anyway.
            return false;
        }
        // Its deadline was set when it fell silent.
        let since = deadline.saturating_sub(milliseconds(limit)).min(now);
        let due = since.saturating_add(milliseconds(PARTING));
        if due > now {
            connection.server.deadlines.set(&connection.deadline, due);
        }
        due <= now
    }
}

impl Connection {
    /// Bytes that the streams of the connection have moved together: a slow client divides its rate among
    /// them.
    fn moved_beside(&self) -> u64 {
        match &*self.writing.read() {
            Some((Writing::Stream(stream), _)) => stream.moved(),
            _ => 0,
        }
    }

    /// The deadline has passed.
    pub(crate) fn expire(self: &Arc<Self>) {
        let mut state = self.lock();
        if !self.server.deadlines.is_due(&self.deadline) {
            return;
        }
        if state.is_socket() {
            state.expire_socket();
            state.flush();
            return;
        }
        // Output that only waits for a batch is on its way.
        if let Phase::Closing(Closing { shut: false, .. }) = state.phase()
            && !state.out.is_blocked()
        {
            state.flush_on();
            state.rearm();
            return;
        }
        if state.is_spared() {
            return;
        }
        match state.patience().map(|patience| patience.kind) {
            // A part of a request is there: the client gets the reason (RFC 9110 15.5.9).
            Some(Waiting::Head) => {
                state.refuse(408);
                state.flush();
            }
            Some(Waiting::Body) if state.request().is_some_and(|request| !request.reply.is_started()) => {
                state.abort_exchange();
                state.refuse(408);
                state.flush();
            }
            // No stream is open: the client is told the last one (RFC 9113 section 6.8).
            Some(Waiting::Request) if matches!(state.phase(), Phase::Multiplexed(_)) => {
                if let Some(multiplexed) = state.multiplexed() {
                    multiplexed.expired = true;
                }
                state.rearm();
                self.wake();
            }
            Some(_) => state.abort(),
            None => state.rearm(),
        }
    }

    /// The server is closing: idle connections end now, or soon, busy ones after their response. `force` ends
    /// those too.
    pub(crate) fn retire(self: &Arc<Self>, force: bool) {
        let mut state = self.lock();
        let unread = !state.input.is_empty();
        match state.phase() {
            _ if force => state.abort(),
            // Nothing is unread, so no client sees a reset.
            Phase::Head(_) if !unread && !state.out.is_sending() => {
                if state.is_silent() {
                    state.abort();
                }
            }
            // The response is being sent at this moment, without `Connection: close`.
            Phase::Head(_) if !unread && state.out.is_empty() => state.rearm(),
            Phase::Busy(request) if state.input.is_shut() && !request.reply.is_started() => state.abort(),
            Phase::Busy(_) => {
                if let Some(request) = state.request_mut() {
                    // A head that has left without `Connection: close` lets the client go on: behind this response the
                    // connection is an idle one, and has the time of those.
                    request.reply.close |= !request.reply.is_started();
                }
            }
            Phase::Socket => {
                let code = state.socket.as_ref().map(|socket| socket.code_of_shutdown());
                state.end_socket(code.unwrap_or(websocket::GOING_AWAY), None);
                state.flush();
            }
            // It sends GOAWAY, and ends with its last stream.
            Phase::Multiplexed(multiplexed) => {
                if multiplexed.fresh {
                    state.rearm();
                }
                self.wake();
            }
            // A head that has begun to arrive gets its response, with `Connection: close`.
            Phase::Head(_) | Phase::Closing(_) | Phase::Over => {}
        }
    }
}
