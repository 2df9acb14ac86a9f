//! The events of a socket for user code.

use crate::app::{Behavior, Callback, Lane};
use crate::pubsub::Topic;

/// The weight of an event, besides its bytes, against the bound of unhandled messages.
const EVENT_WEIGHT: usize = 64;

/// An event of a socket.
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
    /// All buffered output has been sent.
    Drain,
    /// The same, for callers of [`WebSocket::await_room`](super::WebSocket::await_room); also when the socket
    /// ends meanwhile.
    Room,
    /// The socket has joined or left a topic.
    Subscription {
        /// Its name.
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
    /// Its listener.
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
        if behavior.pulled {
            return Lane::Loop;
        }
        match (self, self.listener(behavior)) {
            (_, Some(listener)) => listener.lane,
            // Futures are completed on the loop's thread.
            (Self::Room, None) => Lane::Loop,
            // An end that only releases user code's data does so in the lane of its other listeners.
            (_, None) => {
                let other = behavior.message.or(behavior.open).or(behavior.upgrade);
                other.map_or(Lane::Turn, |listener| listener.lane)
            }
        }
    }

    /// Its weight until it has been handled.
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
