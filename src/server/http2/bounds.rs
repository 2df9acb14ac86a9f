//! The bounds of one client: the settings of a connection, and the number of streams that it may cancel.
//!
//! `h2` bounds what it queues, and ends connections that reset streams before they are accepted
//! (CVE-2023-44487), have us reset them (`MadeYouReset`), go on without end with a header block, or send
//! small or empty frames, pings and settings faster than they read the replies; clients that read them have a
//! budget ([`Meter`](super::meter::Meter)). A stream that is cancelled later has cost a handler, which only
//! we know.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use h2::server::Builder;

use crate::config::Config;
use crate::server::connection::Connection;

/// Bytes of a request body that a stream may send ahead of its reader, beside `body_buffer`.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all streams of a connection: as much as they may send together, so that unread streams block
/// no other. With more streams than usual it is shared.
const CONNECTION_WINDOW: u32 = 32 * 1024 * 1024;
/// The cost of unread frames beside their bytes: `h2` charges 256 bytes for one, less its length. Messages of
/// a few bytes for a socket that is paused fill the window of their stream with no more than half of this.
const UNREAD_FRAMES: usize = 8 * 1024 * 1024;
/// Bytes of one response that wait for the connection to be written. For a client that reads nothing all
/// streams wait like this.
const SEND_BUFFER: usize = 32 * 1024;
/// Streams that a client has reset and we have not seen yet: browsers cancel all streams of a page.
const PENDING_RESETS: usize = 100;
/// Streams that we had to reset because of the client, in the life of a connection. Refused streams count, so
/// it grows with the number of streams that may be open.
const OUR_RESETS: usize = 1024;
/// Streams that are remembered after a reset, for frames still on their way, and how long: a frame for a
/// forgotten one counts as another reset.
const REMEMBERED: usize = 64;
const REMEMBERED_FOR: Duration = Duration::from_secs(30);
/// Streams that a client may cancel after they were begun, within [`WINDOW`]. More are a flood if they are
/// most of its streams: a reverse proxy has many clients, some of which go away.
const GIVEN_UP: u32 = 1000;
const WINDOW: Duration = Duration::from_secs(30);
/// The bounds above grow with this multiple of the streams that may be open.
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

/// The reports of the streams to their connection.
pub(super) struct Streams {
    connection: Arc<Connection>,
    begun: AtomicU32,
    /// The number of cancelled ones.
    given_up: AtomicU32,
    /// The number of those without a complete response.
    alive: AtomicUsize,
    /// Bytes of written responses, except small ones.
    written: AtomicU64,
    /// Bytes of received bodies, and of responses that `h2` has taken.
    moved: Arc<AtomicU64>,
    /// The client has sent too many frames that carry nothing.
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

    /// A stream begins, and lives as long as the result.
    pub(super) fn enter(self: &Arc<Self>) -> Alive {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.alive.fetch_add(1, Ordering::SeqCst);
        Alive { streams: Arc::clone(self), wakes: false }
    }

    /// A stream was cancelled before any work for it began.
    pub(super) fn add_unbegun(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.given_up.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether all streams have their response: the rest waits in `h2` for the client.
    pub(super) fn are_answered(&self) -> bool {
        self.alive.load(Ordering::SeqCst) == 0
    }

    /// The client has sent too many frames that carry nothing.
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

/// Held for a stream without a complete response.
pub(super) struct Alive {
    streams: Arc<Streams>,
    wakes: bool,
}

impl Alive {
    /// It ends outside the task of the connection, which has to be woken.
    pub(super) fn set_waking(&mut self) {
        self.wakes = true;
    }

    /// The bytes that the streams of this connection have moved.
    pub(super) fn moved(&self) -> &Arc<AtomicU64> {
        &self.streams.moved
    }

    /// The client has cancelled it.
    pub(super) fn give_up(&self) {
        self.streams.given_up.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        if self.streams.alive.fetch_sub(1, Ordering::SeqCst) == 1 && self.wakes {
            // The rest now has a time limit.
            self.streams.connection.wake();
        }
    }
}

/// The start of the count of streams.
pub(super) struct Watch {
    since: Instant,
    limit: u32,
}

impl Watch {
    pub(super) fn new(config: &Config) -> Self {
        let limit = GIVEN_UP.max(config.max_concurrent_streams.saturating_mul(ROUNDS));
        Self { since: Instant::now(), limit }
    }

    /// Whether the client has cancelled too many streams.
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
