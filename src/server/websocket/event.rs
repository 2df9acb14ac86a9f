//! What happens on a socket, as user code hears of it.

use crate::app::{Behavior, Callback, Lane};
use crate::pubsub::Topic;

/// What an event counts for, besides its bytes, against the bound of what was received and not dealt with.
const EVENT_WEIGHT: usize = 64;

/// Something that happened on a socket.
#[derive(Debug)]
pub enum Event {
    /// The handshake is complete.
    Open,
    /// A text message; it is valid UTF-8.
    Text(Vec<u8>),
    /// A binary message.
    Binary(Vec<u8>),
    /// A ping, which has been answered.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// Something had to wait for the client, and nothing does any more.
    Drain,
    /// The same, for those who asked with [`WebSocket::await_room`](super::WebSocket::await_room); also when the socket ends meanwhile.
    Room,
    /// The socket has joined or left a topic.
    Subscription {
        /// Which.
        topic: Topic,
        /// Subscribers now.
        count: usize,
        /// Subscribers before.
        before: usize,
    },
    /// The end: nothing follows.
    Close {
        /// The code, from the client or from the code that ended the socket here; 1005 without one, 1006 without a close frame.
        code: u16,
        /// The reason.
        reason: Option<Box<[u8]>>,
    },
}

impl Event {
    /// Who listens.
    pub fn listener(&self, behavior: &Behavior) -> Option<Callback> {
        match self {
            Self::Open => behavior.open,
            Self::Text(_) | Self::Binary(_) => behavior.message,
            Self::Ping(_) => behavior.ping,
            Self::Pong(_) => behavior.pong,
            Self::Drain => behavior.drain,
            Self::Room => None,
            Self::Subscription { .. } => behavior.subscription,
            Self::Close { .. } => behavior.close,
        }
    }

    pub(super) fn lane(&self, behavior: &Behavior) -> Lane {
        match (self, self.listener(behavior)) {
            (_, Some(listener)) => listener.lane,
            // Futures are completed on the loop's thread.
            (Self::Room, None) => Lane::Loop,
            // An end that only lets go of what user code keeps does so where its other listeners run.
            (_, None) => {
                let other = behavior.message.or(behavior.open).or(behavior.upgrade);
                other.map_or(Lane::Turn, |listener| listener.lane)
            }
        }
    }

    /// What it counts for until it has been dealt with.
    pub fn weight(&self) -> usize {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => {
                EVENT_WEIGHT + bytes.len()
            }
            _ => 0,
        }
    }

    /// Whether it is pointless once this side has ended the socket.
    pub(super) fn is_moot(&self) -> bool {
        !matches!(self, Self::Open | Self::Room | Self::Subscription { .. } | Self::Close { .. })
    }
}
