//! Topics and their subscribers.
//!
//! [`Hub`] maps the name of a topic to its subscribers, each an id and a handle of any type. It owns the
//! bookkeeping and nothing else: it does not know sockets, frames or queues. The server holds one for all its
//! `WebSocket` routes. A socket subscribes and unsubscribes itself, any thread publishes, and a closing
//! socket calls [`Hub::remove_all`].
//!
//! ```
//! use std::sync::{Arc, Mutex};
//!
//! use socketify::pubsub::{Hub, Subscribed};
//!
//! let hub = Hub::default();
//! let (ann, bob) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
//! assert_eq!(hub.subscribe(b"news", 1, Arc::clone(&ann), |_| true), Subscribed::New { count: 1 });
//! assert_eq!(hub.subscribe(b"news", 2, Arc::clone(&bob), |_| true), Subscribed::New { count: 2 });
//! assert_eq!(hub.subscribe(b"news", 2, Arc::clone(&bob), |_| true), Subscribed::Already);
//!
//! assert_eq!(hub.publish(b"news", |queue| queue.lock().unwrap().push("hello")), 2);
//! assert_eq!(hub.unsubscribe(b"news", 1), Some(1));
//! assert_eq!(hub.publish(b"news", |queue| queue.lock().unwrap().push("bye")), 1);
//! assert_eq!(*ann.lock().unwrap(), ["hello"]);
//! assert_eq!(*bob.lock().unwrap(), ["hello", "bye"]);
//! ```
//!
//! # Rules
//!
//! * A topic is a string of bytes, compared exactly. There are no wildcards: `#`, `+` and `/` are bytes like
//!   others, and the empty topic is a topic.
//! * A topic exists while it has a subscriber. The last one frees its name and its memory.
//! * The publisher gets no special treatment: if it is subscribed, it gets the message as well.
//! * The subscribers of a topic have no order.
//!
//! # Locking
//!
//! One lock guards all topics. Publishers share it; a call that subscribes or unsubscribes holds it alone.
//! The callbacks that run under it (`admit`, `left` and `deliver`) may take locks of the caller, and must
//! never call the hub. Handles are never dropped under it, since a drop may run any code, also this hub's.
//!
//! # Cost
//!
//! Publishing to 1, 500 and 10 000 members takes 32 ns, 0.23 µs and 4.0 µs, the delivery itself apart: 30 ns and
//! 0.4 ns a member. Subscribing and unsubscribing do not depend on the number of members: both together take
//! 75 ns in a topic of 10, and 150 ns in one of 10 000, which has an index to keep (`benches/pubsub.rs`).
//!
//! A topic with one member costs its place in the table and its name: 100 000 of them with names of 16 bytes
//! take 75 bytes each when the handle is an `Arc`, and 0.11 µs each to fill in. A member of a topic of 10 000
//! takes 34 bytes (`tests/pubsub_memory.rs`). Tables and lists that have become mostly empty are made smaller.
//!
//! Names come from clients, so they are hashed with the standard library's keyed `SipHash`: nobody can choose
//! names that collide. Faster keyed hashers promise less and would save 8 ns of a publish, for a name of 16
//! bytes.

mod members;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use parking_lot::RwLock;

use self::members::{Member, Members, Removed};

/// A topic's name, shared by the hub and its subscribers' own lists.
pub type Topic = Arc<[u8]>;

/// Where a [`Hub`] looks for a topic. See [`Hub::key`].
#[derive(Clone, Copy, Debug)]
pub struct TopicKey(u64);

/// The result of a subscription.
///
/// ```
/// use socketify::pubsub::{Hub, Subscribed};
///
/// let hub = Hub::default();
/// assert_eq!(hub.subscribe(b"news", 1, (), |_| false), Subscribed::Refused);
/// assert_eq!(hub.subscribe(b"news", 1, (), |_| true), Subscribed::New { count: 1 });
/// assert_eq!(hub.subscribe(b"news", 1, (), |_| unreachable!("it is not asked again")), Subscribed::Already);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribed {
    /// It was stored.
    New {
        /// How many subscribers the topic has now.
        count: usize,
    },
    /// The id was already subscribed; the first handle stays.
    Already,
    /// `admit` refused it.
    Refused,
}

/// Topics and their subscribers. See the [module](self) for its rules and costs.
///
/// `S` is a cheap handle to a subscriber: an `Arc` in the server.
///
/// ```
/// use socketify::pubsub::Hub;
///
/// let hub = Hub::default();
/// hub.subscribe(b"sensors/+", 7, "seven", |_| true);
/// assert_eq!(hub.publish(b"sensors/1", |_| ()), 0); // names are equal or they are not
/// assert_eq!(hub.publish(b"sensors/+", |name| assert_eq!(*name, "seven")), 1);
/// ```
#[derive(Debug)]
pub struct Hub<S> {
    /// Every topic that has a subscriber, by the hash of its name.
    topics: RwLock<HashTable<Room<S>>>,
    /// Keys for the names and, in large topics, for the ids.
    keys: RandomState,
    /// How many subscriptions were removed.
    departures: AtomicU64,
}

/// A topic and its members, of which there is at least one.
#[derive(Debug)]
struct Room<S> {
    topic: Topic,
    members: Members<S>,
}

impl<S> Default for Hub<S> {
    fn default() -> Self {
        Self {
            topics: RwLock::new(HashTable::new()),
            keys: RandomState::new(),
            departures: AtomicU64::new(0),
        }
    }
}

impl<S> Hub<S> {
    /// Subscribes `id` to `topic`.
    ///
    /// Unless it is already subscribed, `admit` is called before anything is stored, under the hub's lock. A
    /// socket that has closed meanwhile refuses here; any other keeps the name for
    /// [`remove_all`](Hub::remove_all). No publish and no count sees the topic between the two. `admit` must
    /// not call the hub.
    ///
    /// ```
    /// # use socketify::pubsub::{Hub, Subscribed};
    /// # let hub = Hub::default();
    /// let mut own = Vec::new();
    /// let subscribed = hub.subscribe(b"news", 1, "handle", |topic| {
    ///     own.push(topic.clone());
    ///     true
    /// });
    /// assert_eq!(subscribed, Subscribed::New { count: 1 });
    /// assert_eq!(*own[0], *b"news");
    /// ```
    pub fn subscribe(
        &self,
        topic: &[u8],
        id: u64,
        subscriber: S,
        admit: impl FnOnce(&Topic) -> bool,
    ) -> Subscribed {
        // Declared before the lock is taken, and so dropped after its release, even by a panic.
        let mut subscriber = Some(subscriber);
        let hash = self.keys.hash_one(topic);
        let mut topics = self.topics.write();
        match topics.entry(hash, |room| *room.topic == *topic, |room| self.keys.hash_one(&*room.topic)) {
            Entry::Occupied(mut entry) => {
                let room = entry.get_mut();
                if room.members.contains(id, &self.keys) {
                    return Subscribed::Already;
                }
                if !admit(&room.topic) {
                    return Subscribed::Refused;
                }
                if let Some(subscriber) = subscriber.take() {
                    room.members.push(Member { id, subscriber }, &self.keys);
                }
                Subscribed::New { count: room.members.as_slice().len() }
            }
            Entry::Vacant(entry) => {
                let topic = Topic::from(topic);
                if !admit(&topic) {
                    return Subscribed::Refused;
                }
                if let Some(subscriber) = subscriber.take() {
                    entry.insert(Room { topic, members: Members::One(Member { id, subscriber }) });
                }
                Subscribed::New { count: 1 }
            }
        }
    }

    /// Removes a subscription. Returns the number of remaining subscribers if there was one, else `None`.
    ///
    /// ```
    /// # use socketify::pubsub::Hub;
    /// # let hub = Hub::default();
    /// hub.subscribe(b"news", 1, (), |_| true);
    /// assert_eq!(hub.unsubscribe(b"news", 2), None);
    /// assert_eq!(hub.unsubscribe(b"news", 1), Some(0));
    /// assert_eq!(hub.unsubscribe(b"news", 1), None);
    /// ```
    pub fn unsubscribe(&self, topic: &[u8], id: u64) -> Option<usize> {
        self.unsubscribe_with(topic, id, || {})
    }

    /// As [`Hub::unsubscribe`]. If there was a subscription, `forget` is called under the hub's lock, so that
    /// the subscriber's own list of topics never differs from the hub. It must not call the hub.
    pub fn unsubscribe_with(&self, topic: &[u8], id: u64, forget: impl FnOnce()) -> Option<usize> {
        let removed = {
            let mut topics = self.topics.write();
            let removed = self.remove(&mut topics, topic, id);
            if removed.is_some() {
                // Before the subscriber knows: a delivery under a lock that `forget` takes sees the new
                // number.
                self.departures.fetch_add(1, Ordering::Relaxed);
                forget();
            }
            removed
        };
        // The handle is dropped here, without the lock.
        removed.map(|(remaining, _handle)| remaining)
    }

    /// Removes the subscriptions of `id` to all of `topics`, for a closing socket: no subscriber and no
    /// publisher sees half of it. `removed` is called with each topic that `id` was subscribed to and the
    /// number of remaining subscribers, in the order of `topics`, after the lock's release.
    ///
    /// ```
    /// # use socketify::pubsub::{Hub, Topic};
    /// # let hub = Hub::default();
    /// let mut own: Vec<Topic> = Vec::new();
    /// for topic in ["news", "chat"] {
    ///     hub.subscribe(topic.as_bytes(), 1, (), |topic| {
    ///         own.push(topic.clone());
    ///         true
    ///     });
    /// }
    /// hub.subscribe(b"chat", 2, (), |_| true);
    /// hub.remove_all(own.into_iter(), 1, |topic, remaining| match &*topic {
    ///     b"news" => assert_eq!(remaining, 0),
    ///     _ => assert_eq!(remaining, 1),
    /// });
    /// assert_eq!(hub.topic_count(), 1);
    /// ```
    pub fn remove_all(
        &self,
        topics: impl Iterator<Item = Topic>,
        id: u64,
        mut removed: impl FnMut(Topic, usize),
    ) {
        // The iterator is the caller's code: it runs before the lock is taken.
        let mut gone: Vec<(Topic, Option<(usize, S)>)> = topics.map(|topic| (topic, None)).collect();
        if gone.is_empty() {
            return;
        }
        let mut table = self.topics.write();
        for (topic, result) in &mut gone {
            // A topic given twice is removed once: the second time there is nothing to remove.
            *result = self.remove(&mut table, topic, id);
        }
        drop(table);
        for (topic, result) in gone {
            if let Some((remaining, _handle)) = result {
                removed(topic, remaining);
            }
        }
    }

    /// Calls `deliver` for each subscriber, and returns their number. `deliver` must only queue: it runs
    /// under the lock, so every subscribe waits for it, and a call into the hub from there could deadlock.
    ///
    /// ```
    /// # use socketify::pubsub::Hub;
    /// # let hub = Hub::default();
    /// hub.subscribe(b"news", 1, "ann", |_| true);
    /// let mut names = Vec::new();
    /// assert_eq!(hub.publish(b"news", |name| names.push(*name)), 1);
    /// assert_eq!(hub.publish(b"chat", |name| names.push(*name)), 0);
    /// assert_eq!(names, ["ann"]);
    /// ```
    pub fn publish(&self, topic: &[u8], deliver: impl FnMut(&S)) -> usize {
        self.publish_at(topic, self.key(topic), deliver)
    }

    /// As [`Hub::publish`], with the key that [`Hub::key`] has made of `topic`.
    pub fn publish_at(&self, topic: &[u8], key: TopicKey, mut deliver: impl FnMut(&S)) -> usize {
        self.with_members(topic, key, |members| {
            for member in members {
                deliver(&member.subscriber);
            }
            members.len()
        })
    }

    /// The number of subscribers of `topic`.
    ///
    /// ```
    /// # use socketify::pubsub::Hub;
    /// # let hub = Hub::default();
    /// hub.subscribe(b"", 1, (), |_| true);
    /// assert_eq!(hub.count(b""), 1);
    /// assert_eq!(hub.count(b"news"), 0);
    /// ```
    pub fn count(&self, topic: &[u8]) -> usize {
        self.count_at(topic, self.key(topic))
    }

    /// As [`Hub::count`], with the key that [`Hub::key`] has made of `topic`.
    pub fn count_at(&self, topic: &[u8], key: TopicKey) -> usize {
        self.with_members(topic, key, <[_]>::len)
    }

    /// The subscribers of `topic`, for a publisher that must not hold the hub's lock while it delivers. `key` is what [`Hub::key`]
    /// has made of `topic`.
    ///
    /// ```
    /// # use socketify::pubsub::Hub;
    /// # let hub = Hub::default();
    /// hub.subscribe(b"news", 1, "ann", |_| true);
    /// assert_eq!(hub.subscribers_at(b"news", hub.key(b"news")), ["ann"]);
    /// ```
    pub fn subscribers_at(&self, topic: &[u8], key: TopicKey) -> Vec<S>
    where
        S: Clone,
    {
        self.with_members(topic, key, |members| {
            members.iter().map(|member| member.subscriber.clone()).collect()
        })
    }

    /// What finds `topic` here: made once, it serves for all that is asked about the topic. It hashes the name, which costs more
    /// than the rest of a look-up.
    pub fn key(&self, topic: &[u8]) -> TopicKey {
        TopicKey(self.keys.hash_one(topic))
    }

    /// How many subscriptions [`unsubscribe_with`](Hub::unsubscribe_with) has removed. A caller that delivers
    /// after [`publish`](Hub::publish) has returned reads it before publishing and again before each
    /// delivery: while the number is the same, no subscriber has left.
    ///
    /// ```
    /// # use socketify::pubsub::Hub;
    /// # let hub = Hub::default();
    /// hub.subscribe(b"news", 1, (), |_| true);
    /// let before = hub.departures();
    /// hub.unsubscribe(b"news", 2);
    /// assert_eq!(hub.departures(), before);
    /// hub.unsubscribe(b"news", 1);
    /// assert_ne!(hub.departures(), before);
    /// ```
    pub fn departures(&self) -> u64 {
        self.departures.load(Ordering::Relaxed)
    }

    /// The number of topics with a subscriber.
    ///
    /// ```
    /// # use socketify::pubsub::Hub;
    /// assert_eq!(Hub::<()>::default().topic_count(), 0);
    /// ```
    pub fn topic_count(&self) -> usize {
        self.topics.read().len()
    }

    /// Calls `look` with the members of `topic`, none if there is no such topic.
    fn with_members<R>(&self, topic: &[u8], key: TopicKey, look: impl FnOnce(&[Member<S>]) -> R) -> R {
        let topics = self.topics.read();
        let room = topics.find(key.0, |room| *room.topic == *topic);
        look(room.map_or(&[], |room| room.members.as_slice()))
    }

    /// Removes one subscription. The caller drops the handle after the lock's release.
    fn remove(&self, topics: &mut HashTable<Room<S>>, topic: &[u8], id: u64) -> Option<(usize, S)> {
        let hash = self.keys.hash_one(topic);
        let mut entry = topics.find_entry(hash, |room| *room.topic == *topic).ok()?;
        match entry.get_mut().members.remove(id, &self.keys) {
            Removed::Absent => None,
            Removed::Taken(subscriber) => Some((entry.get().members.as_slice().len(), subscriber)),
            Removed::IsLast => {
                let (Room { members, .. }, _) = entry.remove();
                shrink(topics, |room| self.keys.hash_one(&*room.topic));
                Some((0, members.into_one()?))
            }
        }
    }
}

/// Frees memory once a table that was large is an eighth full. Afterwards it is at most half full, so it does
/// not grow again soon. A small one is left alone, so that a topic that comes and goes allocates no table.
fn shrink<T>(table: &mut HashTable<T>, hasher: impl Fn(&T) -> u64) {
    if table.num_buckets() > 64 && table.len() * 8 < table.num_buckets() {
        table.shrink_to(table.len() * 2, hasher);
    }
}
