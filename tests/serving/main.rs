//! The server over real TCP connections, with user code in Rust: requests, sockets and TLS.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod http;
mod sockets;
mod support;
mod tls;
