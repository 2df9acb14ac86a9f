//! What one client may cost: the settings of a connection, and how many streams it may give up.
//!
//! `h2` bounds what it queues, and ends connections that reset streams before they are accepted (CVE-2023-44487), have us
//! reset them (`MadeYouReset`), go on without end with a header block, or send small or empty frames, pings and settings
//! faster than they take the answers. A stream that is given up later has cost a handler, which only we know.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use h2::server::Builder;

use crate::config::Config;

/// Bytes of a request body that a stream may send ahead of whoever reads it, beside `body_buffer`.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all streams of a connection.
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// Bytes of an answer that wait for the connection to be written.
const SEND_BUFFER: usize = 128 * 1024;
/// Streams that a client has reset and we have not seen yet: browsers give up a page's worth of them.
const PENDING_RESETS: usize = 100;
/// Streams that we had to reset for what the client did on them.
const OUR_RESETS: usize = 256;
/// Streams that are remembered after a reset, for what is still on its way.
const REMEMBERED: usize = 64;
/// Streams that a client may give up after they were begun, within [`WINDOW`].
const GIVEN_UP: u32 = 1000;
const WINDOW: Duration = Duration::from_secs(30);

/// Settings of a connection.
pub(super) fn settings(config: &Config) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(config.max_concurrent_streams)
        .max_header_list_size(u32::try_from(config.head.max_bytes).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(OUR_RESETS))
        .max_concurrent_reset_streams(REMEMBERED)
        .enable_connect_protocol();
    builder
}

/// Counts the streams that a client gives up after they were begun.
pub(super) struct GivenUp {
    count: AtomicU32,
}

/// What was counted, and since when.
pub(super) struct Watch {
    since: Instant,
}

impl GivenUp {
    pub(super) fn new() -> Self {
        Self { count: AtomicU32::new(0) }
    }

    pub(super) fn add(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { since: Instant::now() }
    }

    /// Whether the client has given up more streams than is usual.
    pub(super) fn is_flooded(&mut self, given_up: &GivenUp) -> bool {
        match given_up.count.load(Ordering::Relaxed) {
            0 => false,
            _ if self.since.elapsed() > WINDOW => {
                given_up.count.store(0, Ordering::Relaxed);
                self.since = Instant::now();
                false
            }
            count => count > GIVEN_UP,
        }
    }
}
