//! WebSocket on bytes (RFC 6455): the handshake's rules, frame headers, and messages put together from frames.
//!
//! Everything here is pure: no socket, no clock, no runtime, no Python. The session owns the buffers and calls in;
//! these modules say what the bytes mean or which bytes to send.
//!
//! - [`handshake`]: which request asks for a WebSocket, and the proof that it was understood;
//! - [`frame`]: frame headers both ways, masks, the payload of a close frame;
//! - [`deflate`]: permessage-deflate (RFC 7692);
//! - [`receive`]: the frames of one peer put together, and every rule a peer can break;
//! - [`utf8`]: UTF-8 that arrives in pieces.
//!
//! Only the server's side is here: what comes in is masked, what goes out is not (RFC 6455 section 5.1).

pub mod deflate;
pub mod frame;
pub mod handshake;
pub mod receive;
pub mod utf8;

pub use self::frame::{MAX_CONTROL, OpCode, close_payload, encode_header};
pub use self::receive::{Inflate, Received, Receiver, Violation};
