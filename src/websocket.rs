//! WebSocket on bytes (RFC 6455): the handshake's rules, frame headers, and messages reassembled from frames.
//!
//! Everything here is pure: no socket, no clock, no runtime, no Python. The session owns the buffers and
//! calls these modules, which interpret bytes or choose the bytes to send.
//!
//! - [`handshake`]: which request asks for a WebSocket, and the proof that the server understood it;
//! - [`frame`]: frame headers both ways, masks, the payload of a close frame;
//! - [`deflate`]: permessage-deflate (RFC 7692);
//! - [`receive`]: reassembly of one peer's frames, and every rule that a peer can break;
//! - [`utf8`]: UTF-8 that arrives in pieces.
//!
//! Only the server's side is here: incoming frames are masked, outgoing frames are not (RFC 6455 section
//! 5.1).

pub mod deflate;
pub mod frame;
pub mod handshake;
pub mod receive;
pub mod utf8;

pub use self::frame::{MAX_CONTROL, OpCode, close_payload, encode_header};
pub use self::receive::{Inflate, Received, Receiver, Violation};
