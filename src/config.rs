//! The options of a server, each with its default, unit and cost.
//!
//! Each field says what happens at its limit. Bounds that are not options stand beside their use, and
//! `docs/limits.md` lists both. The package has its defaults from here (`_core.DEFAULTS`), and the range of
//! each option in `python/socketify/settings.py`.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::http::cors::Policies;
use crate::http::encoding::Compression as ContentCompression;
use crate::http::head::HeadLimits;
use crate::http::trust::Trust;
use crate::tls::Certificates;
use crate::websocket::deflate::Compression;

/// Options of one server. `Default` suits a server on the open internet.
#[derive(Clone, Debug)]
pub struct Config {
    /// Threads that drive sockets. One more always stands by, to take over while another runs user code.
    /// Default: half the cores, 1 to 4. More helps TLS, files and fan-out; `def` handlers still run one at a
    /// time.
    pub io_threads: usize,
    /// Sockets open at the same time; at the limit accepting pauses, and new clients wait in the kernel's backlog.
    /// Default 65 536. Each idle connection costs about 1 KiB.
    pub max_connections: usize,
    /// Requests in progress at the same time, including those that wait for their handler: beyond them 503
    /// and close. A request whose client has gone counts until its handler has ended, and not at all if that
    /// has not begun. `None`: 65 536, or `max_connections` if that is more. Handlers determine the cost.
    pub max_requests: Option<usize>,
    /// Bytes of the heads of all these requests together: beyond them 503 and close. HTTP/2 makes 64 KiB of
    /// head from 75 bytes. Default 128 MiB.
    pub max_header_memory: usize,
    /// Bytes and lines of a request head: beyond them 431 and close. Default 64 KiB and 100 lines.
    pub head: HeadLimits,
    /// Bytes of a request body, counted as they arrive: beyond them 413 and close. A route may have its own.
    /// Default 100 MiB.
    pub max_body_size: u64,
    /// Bytes of a request body held until its handler asks for them. At the limit the server stops reading
    /// the socket, so the client stops sending. Default 64 KiB.
    pub body_buffer: usize,
    /// From the first byte of a request head (or from accepting) to its last; then 408 and close. Default 10 s.
    pub header_timeout: Duration,
    /// From accepting, or from the end of an expected PROXY preface (which has `header_timeout`), to the end
    /// of the TLS handshake; then the connection is closed. Default 10 s.
    pub handshake_timeout: Duration,
    /// Longest silence of a connection between two requests; then it is closed. Default 75 s.
    pub keep_alive_timeout: Duration,
    /// Longest silence of a client while a handler waits for its body; then 408 and close. Default 30 s.
    pub body_timeout: Duration,
    /// Longest time in which a client reads nothing of its response; then the connection is reset. Default 30
    /// s.
    pub write_timeout: Duration,
    /// Bytes a second that a client has to move while the server waits for it to send a body or to read a
    /// response. A slower client counts as silent for the missing time. HTTP/2: all its streams together. 0
    /// disables it: any byte is enough. Default 240, a tenth of the slowest mobile networks.
    pub min_rate: u32,
    /// Value of the `Server` header; an empty one is not sent.
    pub server_header: Box<str>,
    /// Whether responses without a `Date` get one. Default yes; RFC 9110 section 6.6.1 asks for it.
    pub date_header: bool,
    /// Headers for every response. A header that the application writes goes before those of its name.
    pub headers: Vec<AddedHeader>,
    /// Who is told when so many requests have been admitted. `None` counts nothing.
    pub quota: Option<Quota>,
    /// Whether connections begin with a PROXY preface. Default: trusted peers may send one.
    pub proxy_protocol: ProxyProtocol,
    /// Peers whose PROXY prefaces and forwarding headers are believed. Default: this machine.
    pub trusted_proxies: Trust,
    /// Certificates of the server's names: every connection speaks TLS. `None` disables TLS.
    pub certificates: Option<Arc<Certificates>>,
    /// Whether clients may speak HTTP/2: over TLS those that choose `h2` (RFC 7301), else those that begin with its
    /// preface (RFC 9113 section 3.3). Default yes.
    pub http2: bool,
    /// Streams of HTTP/2 that a client may have open on one connection. The client is told, and more are
    /// refused (`REFUSED_STREAM`). Default 128. Each holds up to 512 KiB at worst, beside the memory of its
    /// handler.
    pub max_concurrent_streams: u32,
    /// Which responses are compressed, and how. `None` disables compression.
    pub compression: Option<Arc<ContentCompression>>,
    /// Which pages of other origins may read responses. Default: none of them.
    pub cors: Policies,
}

/// A header that is known to be valid.
#[derive(Clone, Debug)]
pub struct AddedHeader {
    /// The name.
    pub name: Box<[u8]>,
    /// Its lines, each with its CRLF.
    pub lines: Box<[u8]>,
}

/// A number of requests, after which somebody is told.
#[derive(Clone, Debug)]
pub struct Quota {
    /// The number.
    pub requests: u64,
    /// Where `spent` and a line feed are written, once.
    pub told: Arc<OwnedFd>,
}

/// How the server handles PROXY prefaces. It never reads one from an untrusted peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// No peer may send one: a preface is a malformed request.
    Off,
    /// Trusted peers may send one.
    #[default]
    Optional,
    /// Trusted peers have to send one, and all other peers are refused.
    Required,
}

impl Config {
    /// The default of `max_requests`, unless there may be more connections.
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
            date_header: true,
            headers: Vec::new(),
            quota: None,
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
    /// Bytes of a received message, reassembled and inflated: beyond them the socket is closed with 1009.
    /// Default 16 KiB.
    pub max_payload_length: usize,
    /// Longest time in which a socket receives nothing; then it is closed. Zero disables it. Default 120 s.
    pub idle_timeout: Duration,
    /// Bytes of buffered output: above it, messages to the client are dropped. One message may exceed it. 0
    /// disables it, and a client that stops reading costs the size of all its messages. Default 64 KiB.
    pub max_backpressure: usize,
    /// Whether a socket is cut off when a message to it is dropped.
    pub close_on_backpressure_limit: bool,
    /// Whether sending resets the idle timeout as receiving does.
    pub reset_idle_timeout_on_send: bool,
    /// Whether a ping is sent some seconds before the idle timeout, so that only a dead client meets it.
    pub send_pings_automatically: bool,
    /// Longest life of a socket; then it is closed with 1000 and `please reconnect`. Zero disables it.
    pub max_lifetime: Duration,
    /// permessage-deflate (RFC 7692). `None` disables it.
    pub compression: Option<Compression>,
    /// Bytes of received messages that are not handled yet, with 64 added for each. At the limit the server
    /// stops reading the socket, so the client stops sending. Default 64 KiB.
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
