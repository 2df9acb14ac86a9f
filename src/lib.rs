//! socketify: HTTP, WebSocket and pub/sub for Python, with the sockets in Rust.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod http;
pub mod router;
