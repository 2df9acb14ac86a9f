//! The access log: what was answered, told to the code that writes it down.
//!
//! A connection has a [`Log`] only if the log is enabled; all others pay one branch. The end of a response is
//! recorded when the kernel has taken its last byte. Entries go through one bounded [`AccessQueue`]: if its
//! reader cannot keep up, they are dropped and counted, since neither a client nor memory must pay for a slow
//! disk.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex};

use crate::http::head::{self, Head};
use crate::server::reply::Reply;

/// Bytes of entries that may wait; further ones are dropped.
const LIMIT: usize = 16 * 1024 * 1024;
/// Bytes of entries from which the reader is woken at once.
const EAGER: usize = 256 * 1024;
/// How long entries are gathered: a wake-up for each would cost more than the entry.
const GATHER: Duration = Duration::from_millis(50);
/// Responses of one connection that may wait for their last byte to leave; beyond that the first counts as
/// sent.
const UNSENT: usize = 64;
/// The status of a request whose connection ended before the response began. It is nginx's: no RFC has one.
const NO_ANSWER: u16 = 499;

/// The kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A request and its response.
    Request,
    /// A handshake that has become a WebSocket.
    Opened,
    /// The end of a WebSocket.
    Closed,
}

/// The traffic of a WebSocket: messages, and their bytes before compression.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// The close code; 1005 and 1006 as for user code.
    pub code: u16,
    /// Messages from the client.
    pub messages_in: u64,
    /// Messages to the client.
    pub messages_out: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Their bytes.
    pub bytes_out: u64,
}

/// One line of the log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its kind.
    pub what: What,
    /// The time of its end.
    pub at: SystemTime,
    /// From the end of the request head until the kernel has taken the last byte of the response; for a
    /// WebSocket, from its opening to its end.
    pub duration: Duration,
    /// The client, from the PROXY preface if there is one; `None` on a Unix socket.
    pub peer: Option<IpAddr>,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub version_minor: u8,
    /// It came over HTTP/2.
    pub http2: bool,
    /// The status sent, or 499 if none was.
    pub status: u16,
    /// Bytes of body sent, in their content coding, without framing.
    pub bytes: u64,
    /// The client has not got all of it.
    pub aborted: bool,
    /// Of a WebSocket.
    pub traffic: Option<Traffic>,
    started: Instant,
    /// Method, path with query, referer and user agent, one after the other.
    text: Box<[u8]>,
    /// The end of each of those; `None` for a missing header.
    ends: [Option<u32>; 4],
}

impl Entry {
    fn new(parts: [Option<&[u8]>; 4], version_minor: u8, http2: bool, peer: Option<IpAddr>) -> Self {
        let mut text = Vec::with_capacity(parts.iter().flatten().map(|part| part.len()).sum());
        let ends = parts.map(|part| {
            text.extend_from_slice(part?);
            u32::try_from(text.len()).ok()
        });
        Self {
            what: What::Request,
            at: SystemTime::UNIX_EPOCH,
            duration: Duration::ZERO,
            peer,
            version_minor,
            http2,
            status: NO_ANSWER,
            bytes: 0,
            aborted: false,
            traffic: None,
            started: Instant::now(),
            text: text.into(),
            ends,
        }
    }

    fn part(&self, index: usize) -> Option<&[u8]> {
        let end = self.ends[index]? as usize;
        let start = self.ends[..index].iter().rev().flatten().next().map_or(0, |end| *end as usize);
        self.text.get(start..end)
    }

    /// The method; `None` without a readable head.
    pub fn method(&self) -> Option<&[u8]> {
        self.part(0)
    }

    /// The path with its query; `None` without a readable head.
    pub fn path(&self) -> Option<&[u8]> {
        self.part(1)
    }

    /// `Referer`.
    pub fn referer(&self) -> Option<&[u8]> {
        self.part(2)
    }

    /// `User-Agent`.
    pub fn user_agent(&self) -> Option<&[u8]> {
        self.part(3)
    }

    fn weight(&self) -> usize {
        size_of::<Self>() + self.text.len()
    }
}

#[derive(Default)]
struct QueuedEntries {
    entries: Vec<Entry>,
    bytes: usize,
    dropped: u64,
    /// The reader sleeps until there is an entry.
    idle: bool,
    closed: bool,
}

/// From connections to the one reader.
#[derive(Default)]
pub struct AccessQueue {
    waiting: Mutex<QueuedEntries>,
    ready: Condvar,
}

impl std::fmt::Debug for AccessQueue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("AccessQueue")
            .field("entries", &self.waiting.lock().entries.len())
            .finish_non_exhaustive()
    }
}

impl AccessQueue {
    fn push(&self, entry: Entry) {
        let weight = entry.weight();
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return;
        }
        if waiting.bytes + weight > LIMIT {
            waiting.dropped += 1;
            return;
        }
        let hurry = waiting.bytes < EAGER && waiting.bytes + weight >= EAGER;
        waiting.bytes += weight;
        waiting.entries.push(entry);
        let wake = std::mem::take(&mut waiting.idle) || hurry;
        drop(waiting);
        if wake {
            self.ready.notify_one();
        }
    }

    /// Waits for entries, and returns them in the order in which they ended, with the number of later dropped
    /// ones. `None` when the queue is closed and empty.
    pub fn take(&self) -> Option<(Vec<Entry>, u64)> {
        let mut waiting = self.waiting.lock();
        while waiting.entries.is_empty() && !waiting.closed {
            waiting.idle = true;
            self.ready.wait(&mut waiting);
        }
        waiting.idle = false;
        if !waiting.closed && waiting.bytes < EAGER {
            self.ready.wait_for(&mut waiting, GATHER);
        }
        waiting.bytes = 0;
        let taken = (std::mem::take(&mut waiting.entries), std::mem::take(&mut waiting.dropped));
        (!taken.0.is_empty()).then_some(taken)
    }

    /// No more entries are accepted; the reader ends after the rest.
    pub fn close(&self) {
        self.waiting.lock().closed = true;
        self.ready.notify_one();
    }
}

/// The log of a connection.
pub(crate) struct Log {
    queue: Arc<AccessQueue>,
    /// The request in progress, or the WebSocket.
    current: Option<Entry>,
    /// Responses that are complete and not sent.
    unsent: VecDeque<Entry>,
}

impl Log {
    pub(crate) fn new(queue: &Arc<AccessQueue>) -> Box<Self> {
        Box::new(Self { queue: Arc::clone(queue), current: None, unsent: VecDeque::new() })
    }

    fn tell(&self, mut entry: Entry) {
        entry.at = SystemTime::now();
        entry.duration = entry.started.elapsed();
        self.queue.push(entry);
    }

    /// A request has come.
    pub(crate) fn begin(&mut self, head: &Head, bytes: &[u8], peer: Option<IpAddr>) {
        let block = head.header_block(bytes);
        let end = head.query.as_ref().map_or(head.path.end, |query| query.end);
        let path = bytes.get(head.path.start as usize..end as usize);
        let parts =
            [Some(head.method(bytes)), path, head::find(block, b"referer"), head::find(block, b"user-agent")];
        self.current = Some(Entry::new(parts, head.version_minor, head.http2, peer));
    }

    /// Bytes that are no request have arrived.
    pub(crate) fn begin_unread(&mut self, http2: bool, peer: Option<IpAddr>) {
        self.current = Some(Entry::new([None; 4], 1, http2, peer));
    }

    /// The request has become a WebSocket.
    pub(crate) fn opened(&mut self) {
        let Some(mut entry) = self.current.take() else { return };
        entry.what = What::Opened;
        // RFC 8441 section 5: over HTTP/2 no protocol is switched.
        entry.status = if entry.http2 { 200 } else { 101 };
        self.tell(entry.clone());
        entry.what = What::Closed;
        entry.started = Instant::now();
        entry.traffic = Some(Traffic::default());
        self.current = Some(entry);
    }

    fn traffic(&mut self) -> Option<&mut Traffic> {
        self.current.as_mut()?.traffic.as_mut()
    }

    /// A message has come.
    pub(crate) fn received(&mut self, bytes: usize) {
        if let Some(traffic) = self.traffic() {
            traffic.messages_in += 1;
            traffic.bytes_in += bytes as u64;
        }
    }

    /// A message, or a part of one that is not its `last`, has been sent.
    pub(crate) fn sent(&mut self, bytes: usize, last: bool) {
        if let Some(traffic) = self.traffic() {
            traffic.messages_out += u64::from(last);
            traffic.bytes_out += bytes as u64;
        }
    }

    /// The WebSocket has ended.
    pub(crate) fn closed(&mut self, code: u16) {
        if let Some(traffic) = self.traffic() {
            traffic.code = code;
            if let Some(entry) = self.current.take() {
                self.tell(entry);
            }
        }
    }

    /// The response is complete, or is cut if it is not; `partly`: not all of it was written. `left`: the
    /// kernel has taken all of it.
    pub(crate) fn answered(&mut self, reply: &Reply, partly: bool, left: bool) {
        let Some(mut entry) = self.current.take_if(|entry| entry.traffic.is_none()) else { return };
        if reply.is_started() {
            entry.status = reply.head.status();
        }
        entry.bytes = reply.sent;
        entry.aborted = partly || !reply.is_done() || reply.is_short();
        self.unsent.push_back(entry);
        if left {
            self.all_left();
        } else if let Some(first) = (self.unsent.len() > UNSENT).then(|| self.unsent.pop_front()).flatten() {
            self.tell(first);
        }
    }

    /// Everything has been sent.
    pub(crate) fn all_left(&mut self) {
        while let Some(entry) = self.unsent.pop_front() {
            self.tell(entry);
        }
    }

    /// Unsent responses are lost with the connection.
    pub(crate) fn lost(&mut self) {
        for entry in &mut self.unsent {
            entry.aborted = true;
        }
    }
}
