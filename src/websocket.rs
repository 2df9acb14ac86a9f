//! WebSocket: what its frames carry.

pub mod deflate;
