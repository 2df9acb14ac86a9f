//! socketify: HTTP, WebSocket and pub/sub for Python, with the sockets in Rust.
//!
//! # Layout
//!
//! * [`config`]: every limit and timeout.
//! * [`router`]: method and path to route; pure.
//! * [`pubsub`]: topics and their subscribers; pure.
//! * [`http`]: request heads, chunks, response heads, dates, queries; pure: bytes in, values out.
//! * [`websocket`]: handshakes, frames and messages; pure in the same way.
//! * [`files`]: files as answers: names, conditions, ranges; the disk, but no socket.
//! * [`tls`]: certificates, keys and the names they are for; files, but no socket.
//! * [`net`]: listening sockets and the PROXY preface.
//! * [`server`]: connections, I/O threads, timeouts and shutdown, on tokio.
//! * [`app`]: the one trait between the core and user code.
//! * `py` (feature `python`): the only part that knows Python: that trait for Python handlers, and the module `_core`.
//!
//! # Life of a request
//!
//! `server::accept` takes a socket and gives it to a shard; `server::connection` reads it there; `server::session` parses
//! a head and asks the router. No route, a constant route or a refusal is answered on the spot. A `def` handler's
//! request goes to the turn, an `async def` handler's to the event loop; both get an [`server::Exchange`], which any thread
//! may answer. The answer is written to the socket by the thread that gives it; only when the kernel has no room does the
//! connection's task do the waiting.
//!
//! # Cancel safety
//!
//! Dropping a connection's task ends the connection and tells its exchange that it was aborted. Dropping an exchange does
//! nothing to the connection: the request stays unanswered until the client leaves or a timeout ends it.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod app;
pub mod config;
pub mod files;
pub mod http;
pub mod net;
pub mod pubsub;
pub mod router;
pub mod server;
pub mod tls;
pub mod websocket;

#[cfg(feature = "python")]
mod py;
