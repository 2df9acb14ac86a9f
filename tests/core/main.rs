//! The parts of the core that have no sockets: bytes in, values out.

mod deflate;
mod encoding;
mod forms;
mod hosts;
mod http;
mod layering;
mod pubsub;
mod router;
mod tls;
mod websocket;
