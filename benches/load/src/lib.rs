//! What the floors and the load generators share.

pub mod latency;
pub mod tls;
pub mod ws;
