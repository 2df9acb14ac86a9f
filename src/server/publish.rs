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
    /// The uncompressed frame.
    plain: Bytes,
    /// The start of the payload in it.
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

/// Consecutive messages to one topic.
#[derive(Default)]
struct Published {
    to: Option<(Arc<Server>, TopicKey)>,
    topic: Vec<u8>,
    messages: Vec<Message>,
    bytes: usize,
}

/// The messages that one thread's batch has published and not yet delivered.
#[derive(Default)]
pub(super) struct Pending {
    published: Mutex<Published>,
    /// Whether there is any: checked before each sent message.
    any: AtomicBool,
}

impl Pending {
    /// Adds a message; earlier messages to another topic are queued first.
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

    /// Delivers the published messages, and writes them.
    pub(super) fn fan_out(&self) {
        if self.any.load(Ordering::Relaxed) {
            let mut published = std::mem::take(&mut *self.published.lock());
            self.any.store(false, Ordering::Release);
            if let Some((server, key)) = &published.to {
                server.fan_out(&published.topic, *key, &mut published.messages);
            }
        }
    }

    /// Queues the published messages on their subscribers, before later messages to them.
    pub(super) fn queue(&self) {
        if !self.any.load(Ordering::Acquire) {
            return;
        }
        // Locked until it is queued, and `any` stays set until then: another thread must find it here or
        // there.
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

    /// Whether nothing waits. For the thread of the batch.
    pub(super) fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Relaxed)
    }
}

/// Queues the messages published in this thread's batch. To be called before any other operation on a socket,
/// and without any lock.
pub(super) fn queue_pending() {
    batch::with_pending(Pending::queue);
}

// ---- delivery -----------------------------------------------------------------------------------------------------------

/// The action that has to follow a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Followup {
    Nothing,
    /// No other thread will write it.
    Flush,
    /// The message was dropped, and the socket has to end for it.
    Abort,
}

/// A delivery with a pending action, once the hub is free again.
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
    /// Sends a message to all subscribers of `topic`; returns their number. A subscriber with too much
    /// buffered output does not get it. In a batch it leaves at the end of the batch.
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

    /// Delivers messages to every subscriber, and writes them.
    fn fan_out(&self, topic: &[u8], key: TopicKey, messages: &mut [Message]) {
        if self.is_abandoned() {
            return;
        }
        let departures = self.hub.departures();
        // No write happens under the hub's lock.
        let members = self.hub.subscribers_at(topic, key);
        self.deliver_to(members, departures, topic, messages);
    }

    /// Delivers messages to `members`, the subscribers at the time of so many `departures`.
    fn deliver_to(
        &self,
        members: Vec<Arc<Connection>>,
        departures: u64,
        topic: &[u8],
        messages: &mut [Message],
    ) {
        for connection in members {
            let mut state = connection.lock();
            // A socket that has left meanwhile gets nothing more after its next message.
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

    /// Queues messages on every subscriber, to be written at the end of this thread's batch. Returns the
    /// pending actions.
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

    /// The number of subscribers of `topic`.
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
