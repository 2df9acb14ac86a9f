//! What the WebSocket floors and the load generator share.

pub mod ws;
