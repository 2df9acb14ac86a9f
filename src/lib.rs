//! socketify: HTTP, WebSocket and pub/sub for Python, with the sockets in Rust.
//!
//! # Layout
//!
//! * [`config`]: the options of a server: limits, timeouts, behaviour.
//! * [`router`]: method and path to route; pure.
//! * [`pubsub`]: topics and their subscribers; pure.
//! * [`http`]: request heads, chunks, response heads, dates, queries; pure: bytes in, values out.
//! * [`websocket`]: handshakes, frames and messages; pure in the same way.
//! * [`files`]: files as responses: names, conditions, ranges; the disk, but no socket.
//! * [`tls`]: certificates, keys and their names; files, but no socket.
//! * [`net`]: listening sockets and the PROXY preface.
//! * [`server`]: connections, I/O threads, timeouts and shutdown, on tokio.
//! * `sync`: the locks and atomics by which threads wake each other, which tests replace by those of a model.
//! * [`app`]: the one trait between the core and user code.
//! * `py` (feature `python`): the only part that knows Python: the trait for Python handlers, and the module
//!   `_core`.
//!
//! # Life of a request
//!
//! `server::accept` takes a socket and gives it to a shard, where `server::drive` reads it. `server::http1`
//! parses the head, and `server::routing` says which route answers. The server itself answers requests without a route,
//! constant routes and refused requests. A `def` handler's request goes to the turn (the right to run plain
//! handlers), an `async def` handler's to the event loop. Both get an [`server::Exchange`], which any thread
//! may answer. The thread that makes the response writes it to the socket; the connection's task waits only
//! if the kernel has no room.
//!
//! # Cancel safety
//!
//! Dropping a connection's task ends the connection and aborts its exchange. Dropping an exchange does
//! nothing to the connection: the request has no response until the client leaves or a timeout ends it.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod app;
pub mod config;
pub mod files;
pub mod http;
pub mod net;
pub mod pubsub;
pub mod router;
pub mod server;
mod sync;
pub mod tls;
pub mod websocket;

#[cfg(feature = "python")]
mod py;
