//! Shared code of the targets: negotiated compression and pieces of a wire, drawn from their input; a server,
//! and its responses.

pub mod answers;
pub mod frames;
pub mod serving;

use arbitrary::Arbitrary;
use socketify::websocket::deflate::{Agreed, Compression, negotiate};

/// One direction of a compressed connection.
#[derive(Arbitrary, Clone, Copy, Debug, Default)]
pub struct Direction {
    /// Messages may repeat parts of earlier ones.
    pub takeover: bool,
    window: u8,
}

impl Direction {
    /// The window, 9 to 15 bits.
    pub fn bits(self) -> u8 {
        9 + self.window % 7
    }
}

/// The result of the negotiation between a server that sends by `server` and a client that sends by `client`.
pub fn agree(server: Direction, client: Direction) -> Agreed {
    let compressor = if server.takeover { u32::from(server.bits()) << 4 | 8 } else { 1 };
    let decompressor = if client.takeover { u32::from(client.bits()) } else { 1 };
    let wanted = Compression::from_options(decompressor << 8 | compressor);
    let wanted = wanted.expect("it is an option").expect("it is one that compresses");
    let offer =
        format!("permessage-deflate; client_max_window_bits; server_max_window_bits={}", server.bits());
    let agreed = negotiate(&wanted, offer.as_bytes()).expect("nothing about the offer is wrong");
    assert_eq!(agreed.shared_key(), (!server.takeover).then_some(server.bits()));
    agreed
}

/// The ends of the pieces that `wire` arrives in: with the lengths in `sizes`, in turn; whole if all of them
/// are 0.
pub fn ends(wire: &[u8], sizes: [u8; 4]) -> impl Iterator<Item = usize> {
    let is_whole = sizes == [0; 4];
    let mut sizes = sizes.into_iter().cycle();
    let mut end = 0;
    std::iter::from_fn(move || {
        if end == wire.len() {
            return None;
        }
        let size = if is_whole { wire.len() } else { sizes.next()?.into() };
        end = wire.len().min(end + size);
        Some(end)
    })
}
