//! What one client may cost: the settings of a connection, and how many streams it may give up.
//!
//! `h2` bounds what it queues, and ends connections that reset streams before they are accepted (CVE-2023-44487), have us
//! reset them (`MadeYouReset`), go on without end with a header block, or send small or empty frames, pings and settings
//! faster than they take the answers; those who do take them have a budget ([`Meter`](super::meter::Meter)). A stream that is given up later has cost a handler, which only we know.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use h2::server::Builder;

use crate::config::Config;
use crate::server::connection::Connection;

/// Bytes of a request body that a stream may send ahead of its reader, beside `body_buffer`.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all streams of a connection: as much as they may send together, so that those which nobody reads hold up no
/// other. With more streams than usual it is shared.
const CONNECTION_WINDOW: u32 = 32 * 1024 * 1024;
/// What frames that nobody has read yet may cost beside their bytes: `h2` charges 256 bytes for one, less its length. Messages
/// of a few bytes for a socket that is paused fill the window of their stream with no more than half of this.
const UNREAD_FRAMES: usize = 8 * 1024 * 1024;
/// Bytes of one answer that wait for the connection to be written. A client that reads nothing has all streams wait so.
const SEND_BUFFER: usize = 32 * 1024;
/// Streams that a client has reset and we have not seen yet: browsers give up a page's worth of them.
const PENDING_RESETS: usize = 100;
/// Streams that we had to reset for what the client did on them, in the life of a connection. Those that were refused for
/// being too many count, so it grows with how many may be open.
const OUR_RESETS: usize = 1024;
/// Streams that are remembered after a reset, for what is still on its way, and how long: what comes for one that has been
/// forgotten counts as if it had to be reset again.
const REMEMBERED: usize = 64;
const REMEMBERED_FOR: Duration = Duration::from_secs(30);
/// Streams that a client may give up after they were begun, within [`WINDOW`]. More are a flood if they are most of those that
/// it has begun: behind a reverse proxy are many clients, some of which go away.
const GIVEN_UP: u32 = 1000;
const WINDOW: Duration = Duration::from_secs(30);
/// With so many times the streams that may be open, the bounds above grow.
const ROUNDS: u32 = 8;

/// Settings of a connection.
pub(super) fn settings(config: &Config) -> Builder {
    let streams = config.max_concurrent_streams;
    let count = usize::try_from(streams).unwrap_or(usize::MAX);
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(streams)
        .max_header_list_size(u32::try_from(config.head.max_header_bytes).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(
            STREAM_WINDOW.saturating_mul(streams).clamp(STREAM_WINDOW, CONNECTION_WINDOW),
        )
        .data_frame_budget(UNREAD_FRAMES)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(OUR_RESETS.max(count.saturating_mul(ROUNDS as usize))))
        .max_concurrent_reset_streams(REMEMBERED.max(count))
        .reset_stream_duration(REMEMBERED_FOR)
        .enable_connect_protocol();
    builder
}

/// What the streams of a connection tell it.
pub(super) struct Streams {
    connection: Arc<Connection>,
    begun: AtomicU32,
    /// Those of them that the client has given up.
    given_up: AtomicU32,
    /// Those that somebody may still answer.
    alive: AtomicUsize,
    /// Bytes of answers that have been written, but for small ones.
    written: AtomicU64,
    /// Bytes of bodies that have come, and of answers that `h2` has taken.
    moved: Arc<AtomicU64>,
    /// The client has sent more frames that bring nothing than is usual.
    pestered: AtomicBool,
}

impl Streams {
    pub(super) fn new(connection: &Arc<Connection>) -> Arc<Self> {
        Arc::new(Self {
            connection: Arc::clone(connection),
            begun: AtomicU32::new(0),
            given_up: AtomicU32::new(0),
            alive: AtomicUsize::new(0),
            written: AtomicU64::new(0),
            moved: Arc::default(),
            pestered: AtomicBool::new(false),
        })
    }

    /// A stream begins, and lives as long as what this gives.
    pub(super) fn enter(self: &Arc<Self>) -> Alive {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.alive.fetch_add(1, Ordering::SeqCst);
        Alive { streams: Arc::clone(self), wakes: false }
    }

    /// A stream was given up before anything was begun for it.
    pub(super) fn add_unbegun(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.given_up.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether nobody answers any stream: what is left of them waits in `h2` for the client to take it.
    pub(super) fn are_answered(&self) -> bool {
        self.alive.load(Ordering::SeqCst) == 0
    }

    /// The client has sent too many frames that bring nothing.
    pub(super) fn pester(&self) {
        self.pestered.store(true, Ordering::Relaxed);
    }

    /// Whether it has.
    pub(super) fn is_pestered(&self) -> bool {
        self.pestered.load(Ordering::Relaxed)
    }

    pub(super) fn wrote(&self, count: usize) {
        self.written.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

/// Held for a stream that somebody may still answer.
pub(super) struct Alive {
    streams: Arc<Streams>,
    wakes: bool,
}

impl Alive {
    /// It ends elsewhere than in the task of the connection, which has to be told.
    pub(super) fn set_waking(&mut self) {
        self.wakes = true;
    }

    /// What the streams of this connection have moved.
    pub(super) fn moved(&self) -> &Arc<AtomicU64> {
        &self.streams.moved
    }

    /// The client has given it up.
    pub(super) fn give_up(&self) {
        self.streams.given_up.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if self.streams.alive.fetch_sub(1, Ordering::SeqCst) == 1 && self.wakes {
            // What is left now has a limit.
            self.streams.connection.wake();
        }
    }
}

/// Since when streams are counted.
pub(super) struct Watch {
    since: Instant,
    limit: u32,
}

impl Watch {
    pub(super) fn new(config: &Config) -> Self {
        let limit = GIVEN_UP.max(config.max_concurrent_streams.saturating_mul(ROUNDS));
        Self { since: Instant::now(), limit }
    }

    /// Whether the client has given up more streams than is usual.
    pub(super) fn is_flooded(&mut self, streams: &Streams) -> bool {
        let begun = streams.begun.load(Ordering::Relaxed);
        match streams.given_up.load(Ordering::Relaxed) {
            _ if streams.is_pestered() => true,
            0 if begun == 0 => false,
            _ if self.since.elapsed() > WINDOW => {
                streams.begun.store(0, Ordering::Relaxed);
                streams.given_up.store(0, Ordering::Relaxed);
                self.since = Instant::now();
                false
            }
            given_up => given_up > self.limit && given_up > begun / 2,
        }
    }
}
