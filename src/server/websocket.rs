//! A WebSocket, for user code: valid while it is referenced.
//!
//! Every method may be called from any thread at any time; after the end it does nothing and reports it. User
//! code gets [`Event`]s, one after the other in the order of their causes, each in the lane of its listener:
//! a socket is in at most one queue of jobs at a time.

mod ending;
mod event;
mod receive;
mod send;
mod state;
mod timers;
mod upgrade;

use std::any::Any;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

pub(super) use self::send::{with_scratch, write_frame};
pub(crate) use self::state::SocketState;
pub(crate) use self::upgrade::HandshakeFields;

pub use self::event::Event;
pub use self::send::{SendError, SendStatus};

use crate::app::{Behavior, Job, Lane};
use crate::pubsub::{Subscribed, Topic};
use crate::server::connection::{Connection, Locked};
use crate::server::{Secure, Server, publish};

/// The server or the client is going away (RFC 6455 7.4.1).
pub(crate) const GOING_AWAY: u16 = 1001;
/// The server ends, and clients may come back to another (RFC 6455 11.7, IANA's registry).
pub(crate) const SERVICE_RESTART: u16 = 1012;
/// No close frame came with a code; never on the wire.
pub(crate) const NO_STATUS: u16 = 1005;
/// No close frame came at all; never on the wire.
pub(crate) const ABNORMAL: u16 = 1006;

/// One WebSocket.
pub struct WebSocket {
    connection: Arc<Connection>,
    behavior: Arc<Behavior>,
    /// User code's data of the socket; made at the first use.
    user: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl std::fmt::Debug for WebSocket {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("WebSocket").field("id", &self.connection.id).finish_non_exhaustive()
    }
}

impl WebSocket {
    /// Number of the connection within its server.
    pub fn id(&self) -> u64 {
        self.connection.id
    }

    /// The server this socket belongs to.
    pub fn server(&self) -> &Arc<Server> {
        &self.connection.server
    }

    /// The behaviour of its route.
    pub fn behavior(&self) -> &Behavior {
        &self.behavior
    }

    /// User code's data of the socket.
    pub fn user(&self) -> &OnceLock<Box<dyn Any + Send + Sync>> {
        &self.user
    }

    /// The connection, locked, if it belongs to this process.
    fn lock(&self) -> Option<Locked<'_>> {
        (!self.server().is_abandoned()).then(|| self.connection.lock())
    }

    /// Whether neither side has ended it.
    pub fn is_open(&self) -> bool {
        self.lock().is_some_and(|state| state.socket.as_ref().is_some_and(|socket| socket.is_open()))
    }

    /// The client's address; `None` on a Unix socket and after the end.
    pub fn peer(&self) -> Option<IpAddr> {
        self.connection.peer.ip().filter(|_| self.is_open())
    }

    /// The client's address from a PROXY preface; `None` after the end.
    pub fn proxied_peer(&self) -> Option<IpAddr> {
        self.connection.proxied().filter(|_| self.is_open())
    }

    /// What was agreed on in the TLS handshake. None if the socket speaks in plain text.
    pub fn secure(&self) -> Option<&Secure> {
        self.connection.secure.as_deref()
    }

    /// The socket's descriptor number; -1 after the end.
    pub fn descriptor(&self) -> i64 {
        self.connection.descriptor()
    }

    /// Bytes of buffered output, beyond the kernel's buffer.
    pub fn buffered(&self) -> usize {
        if self.server().is_abandoned() {
            return 0;
        }
        publish::queue_pending();
        let state = self.connection.lock();
        state
            .socket
            .as_ref()
            .filter(|socket| socket.is_open())
            .map_or(0, |socket| socket.waiting(state.out.waiting()))
    }

    /// Messages that were dropped because too much output was buffered.
    pub fn dropped(&self) -> u64 {
        if self.server().is_abandoned() {
            return 0;
        }
        publish::queue_pending();
        self.connection.lock().socket.as_ref().map_or(0, |socket| socket.dropped)
    }

    // ---- ending -------------------------------------------------------------------------------------------------

    /// Sends a close frame and ends the socket. Codes 0, 1005, 1006 and 1015 are not on the wire; the
    /// listener gets `code` and `reason` unchanged. Received and unhandled messages are dropped. False if it
    /// had ended before.
    pub fn end(&self, code: u16, reason: Option<&[u8]>) -> bool {
        if self.server().is_abandoned() {
            return false;
        }
        publish::queue_pending();
        let mut state = self.connection.lock();
        let ended = state.end_socket(code, reason);
        if ended {
            // Not left to a batch: nothing follows it.
            state.flush();
        }
        ended
    }

    /// Drops the connection without a close frame. False when the socket had ended before.
    pub fn close(&self) -> bool {
        let Some(mut state) = self.lock() else { return false };
        let open = state.socket.as_mut().is_some_and(|socket| socket.abort());
        if open {
            state.abort();
        }
        open
    }

    // ---- topics -------------------------------------------------------------------------------------------------

    /// Subscribes to a topic.
    pub fn subscribe(self: &Arc<Self>, topic: &[u8]) -> Subscribed {
        // A socket that joins now does not get earlier messages.
        if self.server().is_abandoned() {
            return Subscribed::Refused;
        }
        publish::queue_pending();
        let admit = |topic: &Topic| {
            let mut state = self.connection.lock();
            state.socket.as_mut().is_some_and(|socket| socket.join(topic))
        };
        self.server().hub.subscribe(topic, self.id(), Arc::clone(&self.connection), admit)
    }

    /// Leaves a topic; returns the number of remaining subscribers. `None` if it was not subscribed.
    pub fn unsubscribe(&self, topic: &[u8]) -> Option<usize> {
        // A socket that leaves now gets the earlier messages (C-P-11).
        if self.server().is_abandoned() {
            return None;
        }
        publish::queue_pending();
        let forget = || {
            if let Some(socket) = &mut self.connection.lock().socket {
                socket.leave(topic);
            }
        };
        self.server().hub.unsubscribe_with(topic, self.id(), forget)
    }

    /// Whether it is subscribed to a topic.
    pub fn is_subscribed(&self, topic: &[u8]) -> bool {
        self.lock().is_some_and(|state| state.socket.as_ref().is_some_and(|socket| socket.has_joined(topic)))
    }

    /// The topics it is subscribed to.
    pub fn topics(&self) -> Vec<Topic> {
        self.lock().and_then(|state| state.socket.as_ref().map(|socket| socket.topics())).unwrap_or_default()
    }

    // ---- events -------------------------------------------------------------------------------------------------

    /// Takes the next event, if its listener runs in `lane`; an event of the other lane moves the socket
    /// there. `done` is the argument of [`WebSocket::finished`] for the event before.
    pub fn next(self: &Arc<Self>, lane: Lane, done: usize) -> Option<Event> {
        if self.behavior.pulled
            && let Some(socket) = &mut self.lock()?.socket
        {
            socket.ask_for_message();
        }
        let mut guard = self.finish_event(done)?;
        let socket = guard.socket.as_mut()?;
        let Some((topics, end)) = socket.take_topics_at_end() else { return socket.next_event(self, lane) };
        drop(guard);
        // The hub is never called under the lock of a socket: it locks sockets itself.
        let mut left = Vec::with_capacity(topics.0.len());
        self.server()
            .hub
            .remove_all(topics.0.into_iter(), self.id(), |topic, count| left.push((topic, count)));
        let mut guard = self.connection.lock();
        let socket = guard.socket.as_mut()?;
        socket.announce_leaving(left, end);
        socket.next_event(self, lane)
    }

    /// Leaves the topics of a socket that has ended, which its user code may not take the end of for long.
    pub fn leave_topics(&self) {
        let topics = self.lock().and_then(|mut state| state.socket.as_mut()?.take_topics_of_ended());
        if let Some(topics) = topics {
            self.server().hub.remove_all(topics.0.into_iter(), self.id(), |_, _| {});
        }
    }

    /// In place of [`WebSocket::next`]: queues the socket behind the others for its next event.
    pub fn put_off(self: &Arc<Self>, done: usize) {
        if let Some(socket) = self.finish_event(done).as_mut().and_then(|state| state.socket.as_mut()) {
            socket.requeue(self);
        }
    }

    /// An event from [`WebSocket::next`] with this weight has been handled.
    pub fn finished(&self, weight: usize) {
        drop(self.finish_event(weight));
    }

    /// The connection, locked, after an event has been counted as handled.
    fn finish_event(&self, weight: usize) -> Option<Locked<'_>> {
        let mut state = self.lock()?;
        if state.socket.as_ref().is_some_and(|socket| socket.is_finishing()) {
            // A listener's published messages go before the end.
            drop(state);
            publish::queue_pending();
            state = self.connection.lock();
        }
        state.finish_event(weight);
        Some(state)
    }

    /// Queues an event that did not come from the client.
    pub fn push(&self, event: Event) {
        if let Some(socket) = self.lock().as_mut().and_then(|state| state.socket.as_mut()) {
            socket.push(event);
        }
    }

    /// Requests an [`Event::Room`] once no output is buffered. False if none is.
    pub fn await_room(&self) -> bool {
        let Some(mut state) = self.lock() else { return false };
        let outside = state.out.waiting();
        match &mut state.socket {
            Some(socket) if socket.is_open() && socket.waiting(outside) > 0 => {
                socket.awaited = true;
                true
            }
            _ => false,
        }
    }

    fn dispatch(self: &Arc<Self>, lane: Lane) {
        let job = Job::Socket(Arc::clone(self));
        match lane {
            Lane::Turn => self.server().push(job),
            Lane::Loop => self.server().post(job),
        }
    }
}
