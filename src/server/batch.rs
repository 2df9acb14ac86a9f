//! Corking: what is sent to sockets while a batch is open on this thread leaves when it closes, each socket's share in one
//! system call.
//!
//! The turn opens one around the user code it runs, the event loop one around each of its turns. A batch delays a socket,
//! never another: whoever sends to the same socket from elsewhere flushes it at once, or at the end of a batch of its own.
//! What is published in a batch waits in one place, and is given to all subscribers in one pass at its end: each is locked
//! once, gets all of it in a buffer that is still warm, and is written to at once. Whatever else is done to a socket first
//! queues what was published before, so nothing overtakes anything.
//!
//! Tasks that have something to write in the end, those of HTTP/2, are woken when the batch closes too: once for all that
//! it has for them, and without a system call where the same thread goes on to drive them.
//!
//! And it delays it by little: between two jobs what has been held for a millisecond is sent, and a job that takes longer
//! has its batch flushed from outside.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::task::Waker;

use crate::server::Server;
use crate::server::connection::{CORK_LIMIT, Connection, Locked};
use crate::server::output::NO_BATCH;
use crate::server::websocket::{Message, follow_up};
use crate::sync::{AtomicBool, Mutex, Ordering, thread_local};

/// Messages to one topic that have been published one after the other.
#[derive(Default)]
struct Published {
    server: Option<Arc<Server>>,
    topic: Vec<u8>,
    messages: Vec<Message>,
    bytes: usize,
}

impl Published {
    fn is_to(&self, server: &Arc<Server>, topic: &[u8]) -> bool {
        self.topic == topic && self.server.as_ref().is_some_and(|other| Arc::ptr_eq(other, server))
    }
}

/// What the batch of one thread holds back.
pub(crate) struct Held {
    /// Names the thread in the connections that it has marked.
    token: u32,
    marked: Mutex<Vec<Arc<Connection>>>,
    published: Mutex<Published>,
    /// Whether there is any: asked before each message that is sent.
    has_published: AtomicBool,
    /// Tasks to be woken.
    wakers: Mutex<Vec<Waker>>,
}

impl Held {
    /// Sends it. For the thread whose batch it is.
    pub(crate) fn flush(&self) {
        self.fan_out();
        self.flush_marked();
        self.wake();
    }

    /// Sends it, from another thread.
    pub(crate) fn hurry(&self) {
        self.settle();
        self.flush_marked();
        self.wake();
    }

    fn wake(&self) {
        let wakers = std::mem::take(&mut *self.wakers.lock());
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Gives subscribers what was published, and writes it.
    fn fan_out(&self) {
        if self.has_published.load(Ordering::Relaxed) {
            let mut published = std::mem::take(&mut *self.published.lock());
            self.has_published.store(false, Ordering::Release);
            if let Some(server) = &published.server {
                server.fan_out(&published.topic, &mut published.messages);
            }
        }
    }

    /// Queues what was published on its subscribers, in front of what is sent to them from now on.
    fn settle(&self) {
        if !self.has_published.load(Ordering::Acquire) {
            return;
        }
        // Locked until it is queued, and not denied before: whoever comes meanwhile must find it here or there.
        let mut guard = self.published.lock();
        let mut published = std::mem::take(&mut *guard);
        let rest = match &published.server {
            Some(server) => server.queue(&published.topic, &mut published.messages),
            None => Vec::new(),
        };
        self.has_published.store(false, Ordering::Release);
        drop(guard);
        follow_up(rest);
    }

    fn flush_marked(&self) {
        let mut marked = std::mem::take(&mut *self.marked.lock());
        for connection in marked.drain(..) {
            connection.leave_batch(self.token);
        }
        let mut next = self.marked.lock();
        if next.is_empty() {
            // The room is kept for the next batch.
            *next = marked;
        }
    }

    fn is_empty(&self) -> bool {
        !self.has_published.load(Ordering::Relaxed)
            && self.marked.lock().is_empty()
            && self.wakers.lock().is_empty()
    }
}

struct Batches {
    held: Arc<Held>,
    /// How many are open, one within the other.
    depth: Cell<u32>,
    /// This thread drives sockets when its batch is over, and wakes their tasks then.
    leads: Cell<bool>,
    /// Nobody says when the batch is over: see [`set_prompt`].
    prompt: Cell<bool>,
}

thread_local! {
    static BATCHES: Batches = {
        static TOKENS: AtomicU32 = AtomicU32::new(NO_BATCH + 1);
        let held = Held {
            token: TOKENS.fetch_add(1, Ordering::Relaxed),
            marked: Mutex::default(),
            published: Mutex::default(),
            has_published: AtomicBool::new(false),
            wakers: Mutex::default(),
        };
        Batches { held: Arc::new(held), depth: Cell::new(0), leads: Cell::new(false), prompt: Cell::new(false) }
    };
}

/// Opens a batch on this thread until the guard is dropped. They nest; the outermost flushes.
pub fn open() -> Batch {
    BATCHES.with(|batches| batches.depth.set(batches.depth.get() + 1));
    Batch(PhantomData)
}

/// An open batch; see [`open`]. It belongs to the thread that opened it.
#[derive(Debug)]
pub struct Batch(PhantomData<*const ()>);

impl Drop for Batch {
    fn drop(&mut self) {
        BATCHES.with(|batches| {
            batches.depth.set(batches.depth.get() - 1);
            if batches.depth.get() == 0 {
                batches.held.fan_out();
                batches.held.flush_marked();
                if !batches.leads.get() {
                    batches.held.wake();
                }
            }
        });
    }
}

/// What the batch of this thread holds back, for others to flush.
pub(crate) fn held() -> Arc<Held> {
    BATCHES.with(|batches| Arc::clone(&batches.held))
}

/// Leaves a task to be woken at the end of this thread's batch. False when there is none: wake it now.
pub(crate) fn wake_later(waker: &Waker) -> bool {
    BATCHES.with(|batches| {
        let later = batches.depth.get() > 0 && !batches.prompt.get();
        if later {
            batches.held.wakers.lock().push(waker.clone());
        }
        later
    })
}

/// Whether tasks are woken at once on this thread, although a batch is open. For the thread of a loop that does not ask before
/// it sleeps: it is told of what is sent to sockets, but not of each answer that wakes a task.
pub fn set_prompt(prompt: bool) {
    BATCHES.with(|batches| batches.prompt.set(prompt));
}

/// This thread drives sockets from now on, or no more: it wakes with [`wake_left`] what a batch has left to be woken.
pub(crate) fn set_leading(leads: bool) {
    BATCHES.with(|batches| batches.leads.set(leads));
    wake_left();
}

/// Wakes the tasks that the last batch of this thread has left.
pub(crate) fn wake_left() {
    BATCHES.with(|batches| batches.held.wake());
}

/// Whether something waits for the batch of this thread to end.
pub fn is_pending() -> bool {
    BATCHES.with(|batches| !batches.held.is_empty())
}

/// Sends what was held back on this thread; a batch that is open stays open.
pub fn flush() {
    BATCHES.with(|batches| batches.held.flush());
}

/// Gives subscribers what was published in the batch of this thread, and writes it.
pub(crate) fn fan_out() {
    BATCHES.with(|batches| batches.held.fan_out());
}

/// Queues what was published in the batch of this thread. To be called before anything else is done to a socket, and without
/// any lock.
pub(crate) fn settle() {
    BATCHES.with(|batches| batches.held.settle());
}

/// Leaves a message to the batch of this thread. None: it has been left; the message, when there is no batch.
pub(crate) fn publish(server: &Arc<Server>, topic: &[u8], message: Message) -> Option<Message> {
    BATCHES.with(|batches| {
        if batches.depth.get() == 0 {
            return Some(message);
        }
        let held = &batches.held;
        let mut published = held.published.lock();
        if published.server.is_some() && !published.is_to(server, topic) {
            drop(published);
            held.settle();
            published = held.published.lock();
        }
        if published.server.is_none() {
            published.server = Some(Arc::clone(server));
            published.topic = topic.to_vec();
        }
        published.bytes += message.len();
        published.messages.push(message);
        held.has_published.store(true, Ordering::Relaxed);
        let full = published.bytes >= CORK_LIMIT;
        drop(published);
        if full {
            held.fan_out();
        }
        None
    })
}

impl Locked<'_> {
    /// Has the connection flushed at the end of this thread's batch. False when there is none: flush it now.
    pub(crate) fn join_batch(&mut self) -> bool {
        BATCHES.with(|batches| {
            if batches.depth.get() == 0 {
                return false;
            }
            if self.out.join_batch(batches.held.token) {
                batches.held.marked.lock().push(Arc::clone(self.connection));
            }
            true
        })
    }
}
