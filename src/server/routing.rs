//! Choosing the route of a request: a position among the candidates in, the next step out.
//!
//! The routes that match a request are tried one after the other, those for handshakes first; a handler may
//! pass the request on, and a directory may have no such file. Only this file decides the next step, for a
//! new request and for one that is passed on. The callers take the step.

use std::sync::Arc;

use crate::app::{Behavior, Constant, HandlerId, Lane, Lease, Responder};
use crate::files::Directory;
use crate::http::head::Head;
use crate::router::{Params, Router};

/// A place among the routes that match a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// Among those for handshakes, which come first.
    Handshake(usize),
    /// Among the others.
    Http(usize),
}

impl Position {
    /// The start of a handshake.
    pub(crate) const HANDSHAKE: Self = Self::Handshake(0);
    /// The start of any other request.
    pub(crate) const HTTP: Self = Self::Http(0);

    /// The next place.
    pub(crate) fn next(self) -> Self {
        match self {
            Self::Handshake(place) => Self::Handshake(place + 1),
            Self::Http(place) => Self::Http(place + 1),
        }
    }
}

/// The present route of a request, in its exchange.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(super) position: Position,
    pub(super) handler: HandlerId,
    pub(super) lane: Lane,
    pub(super) params: Params,
    /// The behaviour to upgrade to, if the handler is the upgrade handler of a WebSocket route.
    pub(super) behavior: Option<Arc<Behavior>>,
    /// The lease that keeps the handler until it is called, unless the behavior does.
    pub(super) lease: Option<Lease>,
}

impl Stop {
    /// At a route that has no handler.
    pub(crate) fn without_handler(position: Position, lane: Lane) -> Self {
        Self { position, handler: 0, lane, params: Params::default(), behavior: None, lease: None }
    }
}

/// The next step of a request.
pub(crate) enum Step<'r> {
    /// A handler responds, and allows at most `limit` bytes of the body. `invites_late`: see [`Responder::Handler`].
    Handler { stop: Stop, limit: u64, invites_late: bool },
    /// The response is constant.
    Constant(&'r Constant),
    /// The response is a file of this directory, if there is such a file.
    Files(&'r Arc<Directory>),
    /// A handler decides on the handshake.
    Upgrade(Stop),
    /// Every valid handshake is accepted.
    Accept(&'r Arc<Behavior>),
    /// No route is left.
    NotFound,
}

/// The candidate routes of one request.
pub(crate) struct Candidates<'r> {
    /// `None` if another connection has to be used: see [`Connection::candidates`](super::connection::Connection::candidates).
    routes: Option<&'r Router<Responder>>,
    method: &'r [u8],
    path: &'r [u8],
    /// The extended CONNECT of HTTP/2 asks for a tunnel, which no HTTP route opens: a success would (RFC 8441 section 4).
    tunnel: bool,
    /// Default limit of a route for a body, in bytes.
    limit: u64,
}

impl<'r> Candidates<'r> {
    /// Those of `routes` for a request. `limit` is the default limit of a route for a body, in bytes.
    pub(crate) fn new(
        routes: Option<&'r Router<Responder>>,
        head: &Head,
        bytes: &'r [u8],
        limit: u64,
    ) -> Self {
        Self {
            routes,
            method: head.method(bytes),
            path: head.path(bytes),
            tunnel: head.http2 && head.upgrade,
            limit,
        }
    }

    /// Whether another connection may reach the route (RFC 9110 15.5.20).
    pub(crate) fn are_elsewhere(&self) -> bool {
        self.routes.is_none()
    }

    /// The step of a request at `position`, and its position: the other routes follow the last route for
    /// handshakes.
    #[inline]
    pub(crate) fn step(&self, position: Position) -> (Position, Step<'r>) {
        let Some(routes) = self.routes else { return (position, Step::NotFound) };
        let place = match position {
            Position::Handshake(place) => {
                if let Some(found) = routes.nth_websocket(self.path, place)
                    && let Responder::WebSocket(behavior) = found.value
                {
                    return (position, Self::handshake(position, behavior, found.params));
                }
                0
            }
            Position::Http(place) => place,
        };
        let position = Position::Http(place);
        let found = if self.tunnel { None } else { routes.nth(self.method, self.path, place) };
        let Some(found) = found else { return (position, Step::NotFound) };
        let step = match found.value {
            Responder::Handler { id, lane, lease, max_body_size, invites_late } => {
                let (handler, lane, lease) = (*id, *lane, lease.clone());
                let stop = Stop { position, handler, lane, params: found.params, behavior: None, lease };
                Step::Handler {
                    stop,
                    limit: max_body_size.unwrap_or(self.limit),
                    invites_late: *invites_late,
                }
            }
            Responder::Constant(constant) => Step::Constant(constant),
            Responder::Files(directory) => Step::Files(directory),
            // Such routes are found by handshakes alone.
            Responder::WebSocket(_) => Step::NotFound,
        };
        (position, step)
    }

    fn handshake(position: Position, behavior: &'r Arc<Behavior>, params: Params) -> Step<'r> {
        match behavior.upgrade {
            None => Step::Accept(behavior),
            Some(listener) => Step::Upgrade(Stop {
                position,
                handler: listener.id,
                lane: listener.lane,
                params,
                behavior: Some(Arc::clone(behavior)),
                lease: None,
            }),
        }
    }

    /// Whether a route for HTTP has the method.
    pub(crate) fn has_http(&self) -> bool {
        !matches!(self.step(Position::HTTP), (_, Step::NotFound))
    }

    /// Whether a route after `position` allows a body of `needed` bytes.
    pub(crate) fn take_behind(&self, mut position: Position, needed: u64) -> bool {
        loop {
            let step;
            (position, step) = self.step(position.next());
            match step {
                Step::NotFound => return false,
                Step::Handler { limit, .. } if limit >= needed => return true,
                Step::Handler { .. } => {}
                _ if self.limit >= needed => return true,
                _ => {}
            }
        }
    }
}
