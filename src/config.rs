//! Every limit and timeout of the server, with its default, unit and cost.
//!
//! Each queue and buffer of the core is bounded by a field of this struct, which also says what happens when the
//! bound is met. The package has its defaults from here
//! (`_core.DEFAULTS`), and the range of each option in `python/socketify/settings.py`.

use std::sync::Arc;
use std::time::Duration;

use crate::http::cors::Policies;
use crate::http::encoding::Compression as ContentCompression;
use crate::http::head::HeadLimits;
use crate::http::trust::Trust;
use crate::tls::Certificates;
use crate::websocket::deflate::Compression;

/// Options of one server. `Default` gives what a server on the open internet should run with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Threads that drive sockets. One more always stands by, to take over while another runs user code.
    /// Default: half the cores, 1 to 4. More helps TLS, files and fan-out; `def` handlers take turns regardless.
    pub io_threads: usize,
    /// Sockets open at the same time; at the limit accepting pauses, and new clients wait in the kernel's backlog.
    /// Default 65 536. Each idle connection costs about 1 KiB.
    pub max_connections: usize,
    /// Requests in progress at the same time, those included that wait for their handler: beyond them 503 and close. A request
    /// whose client has gone counts until its handler has ended, and not at all when that has not begun. None: 65 536, or
    /// `max_connections` where that is more. What it costs is up to handlers.
    pub max_requests: Option<usize>,
    /// Bytes that the heads of all these requests take together: beyond them 503 and close. HTTP/2 makes 64 KiB of head from
    /// 75 bytes. Default 128 MiB.
    pub max_header_memory: usize,
    /// Bytes and lines of a request head: beyond them 431 and close. Default 64 KiB and 100 lines.
    pub head: HeadLimits,
    /// Bytes of a request body, counted as they arrive: beyond them 413 and close. A route may have its own.
    /// Default 100 MiB.
    pub max_body_size: u64,
    /// Bytes of a request body held for a handler that has not asked for them yet; at the limit reading the
    /// socket pauses, so the client's own sending stops. Default 64 KiB.
    pub body_buffer: usize,
    /// From the first byte of a request head (or from accepting) to its last; then 408 and close. Default 10 s.
    pub header_timeout: Duration,
    /// From accepting, or from the end of the PROXY preface where one is waited for (which has `header_timeout`), to the end of the
    /// TLS handshake; then the connection is closed. Default 10 s.
    pub handshake_timeout: Duration,
    /// How long a connection may stay silent between two requests; then it is closed. Default 75 s.
    pub keep_alive_timeout: Duration,
    /// How long a client may send nothing of a body that a handler waits for; then 408 and close. Default 30 s.
    pub body_timeout: Duration,
    /// How long a client may take nothing of an answer that waits for it; then the connection is reset.
    /// Default 30 s.
    pub write_timeout: Duration,
    /// Bytes a second that a client has to move while it is waited for, to send a body or to take an answer: one that moves less
    /// counts as silent for the time that is missing. HTTP/2: by all its streams together. 0: a byte is enough. Default 240,
    /// a tenth of what the slowest mobile networks carry.
    pub min_rate: u32,
    /// Value of the `Server` header; empty sends none.
    pub server_header: Box<str>,
    /// Whether connections begin with a PROXY preface. Default: those of trusted peers may.
    pub proxy_protocol: ProxyProtocol,
    /// Peers that are believed when they say whom they speak for, in a PROXY preface or in headers. Default: this machine.
    pub trusted_proxies: Trust,
    /// What the server proves its names with: every connection speaks TLS. None: none does.
    pub certificates: Option<Arc<Certificates>>,
    /// Whether clients may speak HTTP/2: over TLS those that choose `h2` (RFC 7301), else those that begin with its
    /// preface (RFC 9113 section 3.3). Default yes.
    pub http2: bool,
    /// Streams of HTTP/2 that a client may have open on one connection; it is told, and those beyond are refused
    /// (`REFUSED_STREAM`). Default 128. Each holds up to 512 KiB at worst, beside what its handler keeps.
    pub max_concurrent_streams: u32,
    /// Which answers are compressed, and how; none: none.
    pub compression: Option<Arc<ContentCompression>>,
    /// Which pages of other origins may read answers. Default none.
    pub cors: Policies,
}

/// What is done about PROXY prefaces. Whoever is not trusted is never asked for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Nobody sends one: it is no more than a malformed request.
    Off,
    /// Trusted peers may send one.
    #[default]
    Optional,
    /// Trusted peers have to send one, and nobody else is let in.
    Required,
}

impl Config {
    /// The default of `max_requests`, where there are not more connections.
    pub const REQUESTS: usize = 65_536;
}

impl Default for Config {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            io_threads: (cores / 2).clamp(1, 4),
            max_connections: 65_536,
            max_requests: None,
            max_header_memory: 128 * 1024 * 1024,
            head: HeadLimits::default(),
            max_body_size: 100 * 1024 * 1024,
            body_buffer: 64 * 1024,
            header_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            min_rate: 240,
            server_header: "socketify".into(),
            proxy_protocol: ProxyProtocol::default(),
            trusted_proxies: Trust::default(),
            certificates: None,
            http2: true,
            max_concurrent_streams: 128,
            compression: None,
            cors: Policies::default(),
        }
    }
}

/// Limits of the sockets of one WebSocket route. `Default` gives those of the public API.
#[derive(Clone, Debug)]
pub struct SocketConfig {
    /// Bytes of a message that is received, put together and inflated: beyond them the socket is closed with 1009.
    /// Default 16 KiB.
    pub max_payload_length: usize,
    /// How long a socket may receive nothing; then it is closed. Zero: for ever. Default 120 s.
    pub idle_timeout: Duration,
    /// Bytes that may wait for a client: while more do, messages to it are dropped. One message may go beyond.
    /// 0: no limit, and a client that stops reading costs what is sent to it. Default 64 KiB.
    pub max_backpressure: usize,
    /// Whether a socket is cut off when a message to it is dropped.
    pub close_on_backpressure_limit: bool,
    /// Whether sending counts against the idle timeout as receiving does.
    pub reset_idle_timeout_on_send: bool,
    /// Whether a ping is sent some seconds before the idle timeout, so that only a dead client meets it.
    pub send_pings_automatically: bool,
    /// How long a socket may stay open; then it is closed with 1000 and the advice to reconnect. Zero: for ever.
    pub max_lifetime: Duration,
    /// permessage-deflate (RFC 7692); none: not agreed to.
    pub compression: Option<Compression>,
    /// Bytes of messages that were received and have not been dealt with, 64 added for each; at the limit reading the
    /// socket pauses, so the client's own sending stops. Default 64 KiB.
    pub inbound_buffer: usize,
}

impl Default for SocketConfig {
    fn default() -> Self {
        Self {
            max_payload_length: 16 * 1024,
            idle_timeout: Duration::from_secs(120),
            max_backpressure: 64 * 1024,
            close_on_backpressure_limit: false,
            reset_idle_timeout_on_send: false,
            send_pings_automatically: false,
            max_lifetime: Duration::ZERO,
            compression: None,
            inbound_buffer: 64 * 1024,
        }
    }
}
