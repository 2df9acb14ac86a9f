//! Shared code of the floors and the load generators.

pub mod latency;
pub mod tls;
pub mod ws;
