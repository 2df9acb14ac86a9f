//! Publishing: one message to all sockets of a topic, encoded once.
//!
//! What is published in a batch waits in one place, and is given to all subscribers in one pass at the end of the batch: each is
//! locked once, gets all of it in a buffer that is still warm, and is written to at once. Before anything else is done to a socket,
//! what was published before is queued ([`queue_pending`]), so nothing overtakes anything.

use std::sync::Arc;

use bytes::Bytes;

use crate::pubsub::TopicKey;
use crate::server::connection::{CORK_LIMIT, Connection, Locked, Owed};
use crate::server::output::Output;
use crate::server::websocket::{SocketState, with_scratch, write_frame};
use crate::server::{Server, batch};
use crate::sync::{AtomicBool, Mutex, Ordering};
use crate::websocket::OpCode;
use crate::websocket::deflate::{Agreed, deflate_shared};

/// A published frame this large is queued as a reference instead of a copy.
const SHARE: usize = 2 * 1024;

// ---- messages -----------------------------------------------------------------------------------------------------------

fn frame(compressed: bool, opcode: OpCode, payload: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(10 + payload.len());
    write_frame(&mut frame, true, compressed, opcode, payload);
    frame.into()
}

/// A message for many sockets, encoded once for all that share its form.
pub(super) struct Message {
    /// As it is sent where it is not compressed.
    plain: Bytes,
    /// Where the payload begins in it.
    start: usize,
    opcode: OpCode,
    compress: bool,
    compressed: Vec<(u8, Bytes)>,
}

impl Message {
    fn new(payload: &[u8], opcode: OpCode, compress: bool) -> Self {
        let compress = compress && !payload.is_empty() && !opcode.is_control();
        let plain = frame(false, opcode, payload);
        Self { start: plain.len() - payload.len(), plain, opcode, compress, compressed: Vec::new() }
    }

    fn len(&self) -> usize {
        self.plain.len()
    }

    /// Queues the message on one socket.
    fn queue(&mut self, socket: &mut SocketState, out: &mut Output) {
        let encoded = match &mut socket.codec {
            Some(codec) if self.compress => {
                let agreed = *codec.agreed();
                let Some(key) = agreed.shared_key() else {
                    socket.write_compressed(out, self.opcode, &self.plain[self.start..]);
                    return;
                };
                self.shared(key, agreed)
            }
            _ => &self.plain,
        };
        if encoded.len() < SHARE || socket.held().is_some() {
            socket.write(out, |out| out.extend_from_slice(encoded));
        } else {
            out.share(encoded.clone());
        }
    }

    /// The frame for all sockets of this key.
    fn shared(&mut self, key: u8, agreed: Agreed) -> &Bytes {
        let found = self.compressed.iter().position(|(other, _)| *other == key);
        let place = found.unwrap_or_else(|| {
            let bytes = with_scratch(|scratch| {
                deflate_shared(&agreed, &self.plain[self.start..], scratch);
                frame(true, self.opcode, scratch)
            });
            self.compressed.push((key, bytes));
            self.compressed.len() - 1
        });
        &self.compressed[place].1
    }
}

// ---- what waits for the end of a batch ------------------------------------------------------------------------------------

/// Messages to one topic that have been published one after the other.
#[derive(Default)]
struct Published {
    to: Option<(Arc<Server>, TopicKey)>,
    topic: Vec<u8>,
    messages: Vec<Message>,
    bytes: usize,
}

/// What the batch of one thread has published and not yet given to subscribers.
#[derive(Default)]
pub(super) struct Pending {
    published: Mutex<Published>,
    /// Whether there is any: asked before each message that is sent.
    any: AtomicBool,
}

impl Pending {
    /// Adds a message; what was published to another topic before is queued first.
    fn add(&self, server: &Arc<Server>, topic: &[u8], key: TopicKey, message: Message) {
        let mut published = self.published.lock();
        let is_same = |(other, _): &(Arc<Server>, TopicKey)| Arc::ptr_eq(other, server);
        if published.to.as_ref().is_some_and(|to| published.topic != topic || !is_same(to)) {
            drop(published);
            self.queue();
            published = self.published.lock();
        }
        if published.to.is_none() {
            published.to = Some((Arc::clone(server), key));
            published.topic = topic.to_vec();
        }
        published.bytes += message.len();
        published.messages.push(message);
        self.any.store(true, Ordering::Relaxed);
        let full = published.bytes >= CORK_LIMIT;
        drop(published);
        if full {
            self.fan_out();
        }
    }

    /// Gives subscribers what was published, and writes it.
    pub(super) fn fan_out(&self) {
        if self.any.load(Ordering::Relaxed) {
            let mut published = std::mem::take(&mut *self.published.lock());
            self.any.store(false, Ordering::Release);
            if let Some((server, key)) = &published.to {
                server.fan_out(&published.topic, *key, &mut published.messages);
            }
        }
    }

    /// Queues what was published on its subscribers, in front of what is sent to them from now on.
    pub(super) fn queue(&self) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        // Locked until it is queued, and not denied before: a thread that comes meanwhile must find it here or there.
        let mut guard = self.published.lock();
        let mut published = std::mem::take(&mut *guard);
        let rest = match &published.to {
            Some((server, key)) => server.queue(&published.topic, *key, &mut published.messages),
            None => Vec::new(),
        };
        self.any.store(false, Ordering::Release);
        drop(guard);
        rest.into_iter().for_each(Owing::pay);
    }

    /// Whether nothing waits. For the thread whose batch it is.
    pub(super) fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Relaxed)
    }
}

/// Queues what was published in the batch of this thread. To be called before anything else is done to a socket, and without
/// any lock.
pub(super) fn queue_pending() {
    batch::with_pending(Pending::queue);
}

// ---- delivery -----------------------------------------------------------------------------------------------------------

/// What has to follow a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Followup {
    Nothing,
    /// Nobody else will write it.
    Flush,
    /// The message was dropped, and the socket is to end for it.
    Abort,
}

/// A delivery that something has to follow, once the hub is free again.
struct Owing {
    owed: Owed,
    followup: Followup,
}

impl Owing {
    fn pay(self) {
        match self.followup {
            Followup::Abort => self.owed.abort(),
            Followup::Nothing | Followup::Flush => self.owed.flush(),
        }
    }
}

impl Server {
    /// Sends a message to every socket that is subscribed to `topic`; says how many there are. Those for which too much
    /// waits already do not get it. In a batch it leaves at the end of that.
    pub fn publish(self: &Arc<Self>, topic: &[u8], payload: &[u8], opcode: OpCode, compress: bool) -> usize {
        if self.is_abandoned() {
            return 0;
        }
        let key = self.hub.key(topic);
        let left = batch::with_open(|pending| {
            let count = self.hub.count_at(topic, key);
            if count > 0 {
                pending.add(self, topic, key, Message::new(payload, opcode, compress));
            }
            count
        });
        left.unwrap_or_else(|| {
            let departures = self.hub.departures();
            let members = self.hub.subscribers_at(topic, key);
            let count = members.len();
            if count > 0 {
                let mut message = [Message::new(payload, opcode, compress)];
                self.deliver_to(members, departures, topic, &mut message);
            }
            count
        })
    }

    /// Gives messages to every subscriber, and writes them.
    fn fan_out(&self, topic: &[u8], key: TopicKey, messages: &mut [Message]) {
        if self.is_abandoned() {
            return;
        }
        let departures = self.hub.departures();
        // Nobody is written to under the hub's lock.
        let members = self.hub.subscribers_at(topic, key);
        self.deliver_to(members, departures, topic, messages);
    }

    /// Gives messages to `members`, who were the subscribers when the hub had counted so many `departures`.
    fn deliver_to(
        &self,
        members: Vec<Arc<Connection>>,
        departures: u64,
        topic: &[u8],
        messages: &mut [Message],
    ) {
        for connection in members {
            let mut state = connection.lock();
            // Who has left meanwhile gets nothing more behind what is sent next.
            if self.hub.departures() != departures
                && !state.socket.as_ref().is_some_and(|socket| socket.has_joined(topic))
            {
                continue;
            }
            match state.deliver(messages) {
                Followup::Nothing => {}
                Followup::Flush => {
                    state.flush();
                }
                Followup::Abort => state.owe().abort(),
            }
        }
    }

    /// Queues messages on every subscriber, to be written at the end of this thread's batch. Gives what has to follow.
    fn queue(&self, topic: &[u8], key: TopicKey, messages: &mut [Message]) -> Vec<Owing> {
        let mut rest = Vec::new();
        if self.is_abandoned() {
            return rest;
        }
        self.hub.publish_at(topic, key, |connection| {
            let mut state = connection.lock();
            match state.deliver(messages) {
                Followup::Nothing => {}
                Followup::Flush if state.out.len() < CORK_LIMIT && state.join_batch() => {}
                followup => rest.push(Owing { owed: state.owe(), followup }),
            }
        });
        rest
    }

    /// How many sockets are subscribed to `topic`.
    pub fn subscriber_count(&self, topic: &[u8]) -> usize {
        if self.is_abandoned() { 0 } else { self.hub.count(topic) }
    }
}

impl Locked<'_> {
    /// Queues published messages on the socket that this connection is. Writes nothing, so it may run under the hub's lock.
    fn deliver(&mut self, messages: &mut [Message]) -> Followup {
        let connection = self.connection;
        let state = &mut **self;
        for message in messages {
            let outside = state.out.waiting();
            let Some(socket) = state.socket.as_mut().filter(|socket| socket.is_open()) else {
                return Followup::Nothing;
            };
            if socket.refuses(socket.waiting(outside)) {
                if socket.config().close_on_backpressure_limit {
                    return Followup::Abort;
                }
                continue;
            }
            connection.touch(socket);
            if let Some(log) = &mut state.log {
                log.sent(message.plain.len() - message.start, true);
            }
            message.queue(socket, &mut state.out);
        }
        if state.out.is_blocked() { Followup::Nothing } else { Followup::Flush }
    }
}
