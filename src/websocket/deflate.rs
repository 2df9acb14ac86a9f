//! permessage-deflate, the compression of WebSocket messages (RFC 7692).
//!
//! [`Compression`] is the user's option. [`negotiate`] makes an [`Agreed`] from it and from a client's
//! offers, and a [`Codec`] compresses and inflates the messages of that client. The caller handles frames and
//! their RSV1 bit, and chooses the messages to compress.
//!
//! # Memory
//!
//! A deflate context is large with any window: 250 to 380 KB to compress and 47 KB to inflate. A message
//! needs only the last bytes of earlier messages, one window of them. So the contexts belong to the thread,
//! one for each window in use, and a connection keeps those bytes. The context gets them as its dictionary
//! before each message. This table is measured, with full windows (`tests/core/deflate.rs`). An idle connection
//! owns nothing on the heap, and one that has sent 1 KB so far owns that 1 KB.
//!
//! | Compressor | window | heap | | Decompressor | heap |
//! |---|---|---|---|---|---|
//! | `SHARED_COMPRESSOR` | 32 KB | 0 | | `SHARED_DECOMPRESSOR` | 0 |
//! | `DEDICATED_COMPRESSOR_3KB`, `_4KB` | 512 B | 512 B | | `DEDICATED_DECOMPRESSOR_512B` | 512 B |
//! | `DEDICATED_COMPRESSOR_8KB` | 1 KB | 1 KB | | `DEDICATED_DECOMPRESSOR_1KB` | 1 KB |
//! | `DEDICATED_COMPRESSOR_16KB` | 2 KB | 2 KB | | `DEDICATED_DECOMPRESSOR_2KB` | 2 KB |
//! | `DEDICATED_COMPRESSOR_32KB` | 4 KB | 4 KB | | `DEDICATED_DECOMPRESSOR_4KB` | 4 KB |
//! | `DEDICATED_COMPRESSOR_64KB` | 8 KB | 8 KB | | `DEDICATED_DECOMPRESSOR_8KB` | 8 KB |
//! | `DEDICATED_COMPRESSOR_128KB` | 16 KB | 16 KB | | `DEDICATED_DECOMPRESSOR_16KB` | 16 KB |
//! | `DEDICATED_COMPRESSOR_256KB` | 32 KB | 32 KB | | `DEDICATED_DECOMPRESSOR_32KB` | 32 KB |
//!
//! The sizes in the names of the compressors are those of zlib, which are generous upper bounds: its
//! `memLevel`, the low digit of the option, sizes a hash table that no connection owns here, and is not used.

mod contexts;
mod history;
mod negotiation;

use super::receive::{Inflate, Violation};
use history::History;
pub use negotiation::{Agreed, negotiate};

/// The largest window of deflate, 32 KB (RFC 1951 section 2).
const MAX_BITS: u8 = 15;
/// The smallest window that can be compressed with.
const MIN_BITS: u8 = 9;

/// An invalid `compression` option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// The compressor, the low 8 bits, is not one of `CompressOptions`.
    #[error(
        "compression {value} has no such compressor: expected one of CompressOptions, or two joined by |"
    )]
    Compressor {
        /// The whole option.
        value: u32,
    },
    /// The decompressor, all bits above those, is not one of `CompressOptions`.
    #[error(
        "compression {value} has no such decompressor: expected one of CompressOptions, or two joined by |"
    )]
    Decompressor {
        /// The whole option.
        value: u32,
    },
}

/// The user's `compression` option: an OR of one compressor and one decompressor.
///
/// ```
/// use socketify::websocket::deflate::Compression;
///
/// assert_eq!(Compression::from_options(0), Ok(None));
/// assert!(Compression::from_options(1 | 256).is_ok_and(|wanted| wanted.is_some()));
/// assert!(Compression::from_options(1 | 248).is_err(), "two compressors");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// Window of a dedicated compressor, 9 to 15 bits. `None`: each message is compressed alone.
    compressor: Option<u8>,
    /// Window of a dedicated decompressor, 9 to 15 bits. `None`: each message is inflated alone.
    decompressor: Option<u8>,
}

impl Compression {
    /// Reads the option. The low 8 bits are the compressor: window bits and zlib's memory level, or 1 for the
    /// shared one. The next 4 are the window bits of the decompressor, or 1 for the shared one. A missing
    /// part is shared. 0 disables compression: `Ok(None)`.
    pub fn from_options(value: u32) -> Result<Option<Self>, CompressionError> {
        if value == 0 {
            return Ok(None);
        }
        let compressor = match (value >> 4 & 0xf, value & 0xf) {
            (0, 0 | 1) => None,
            (bits, 1..=8) => Some(window(bits).ok_or(CompressionError::Compressor { value })?),
            _ => return Err(CompressionError::Compressor { value }),
        };
        let decompressor = match value >> 8 {
            0 | 1 => None,
            bits => Some(window(bits).ok_or(CompressionError::Decompressor { value })?),
        };
        Ok(Some(Self { compressor, decompressor }))
    }
}

/// The window bits of a dedicated context, if they are valid.
fn window(bits: u32) -> Option<u8> {
    u8::try_from(bits).ok().filter(|bits| (MIN_BITS..=MAX_BITS).contains(bits))
}

/// Why a compressed message is refused. The connection has to close: the next message would refer to unknown
/// bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// The message exceeds its limit. Close with 1009 (RFC 6455 section 7.4.1).
    #[error("message inflates to more than {limit} bytes")]
    TooBig {
        /// The limit it exceeds, in bytes.
        limit: usize,
    },
    /// The payload is no deflate stream, ends within a block, or refers to more than the agreed window holds. Close
    /// with 1007 (RFC 6455 section 7.4.1).
    #[error("message is not valid compressed data")]
    Corrupt,
}

/// Both directions of one connection.
///
/// Messages go through it in their order on the wire, each once; otherwise the two sides disagree about the
/// earlier bytes. It belongs to no thread: only the contexts that it borrows do.
///
/// ```
/// use socketify::websocket::deflate::{Codec, Compression, negotiate};
///
/// let wanted = Compression::from_options(1 | 256)?.ok_or("no compression")?;
/// let agreed = negotiate(&wanted, b"permessage-deflate; client_max_window_bits").ok_or("declined")?;
/// let mut answer = Vec::new();
/// agreed.write_to(&mut answer);
/// assert_eq!(answer, b"permessage-deflate; server_no_context_takeover; client_no_context_takeover");
///
/// let (mut codec, mut wire, mut text) = (Codec::new(agreed), Vec::new(), Vec::new());
/// codec.deflate(b"Hello", &mut wire);
/// assert_eq!(wire, b"\xf2\x48\xcd\xc9\xc9\x07\x00"); // RFC 7692 section 7.2.3.1
/// codec.inflate(&wire, 5, &mut text)?;
/// assert_eq!(text, b"Hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Codec {
    agreed: Agreed,
    /// The end of the compressed messages, as the client remembers it; empty without context takeover.
    sent: History,
    /// The end of the inflated messages; empty without context takeover.
    received: History,
}

impl Codec {
    /// The codec of a new connection. It owns no heap memory before the first message.
    pub fn new(agreed: Agreed) -> Self {
        Self { agreed, sent: History::default(), received: History::default() }
    }

    /// The result of the negotiation with the client.
    pub fn agreed(&self) -> &Agreed {
        &self.agreed
    }

    /// Bytes of memory it keeps beyond itself, for statistics. At most the two negotiated windows.
    pub fn heap_bytes(&self) -> usize {
        self.sent.capacity() + self.received.capacity()
    }

    /// Appends the compressed payload of one whole message to `out`, without the tail `00 00 FF FF` (RFC 7692
    /// section 7.2.1). The payload of an empty message is one byte 00 (section 7.2.3.6).
    pub fn deflate(&mut self, message: &[u8], out: &mut Vec<u8>) {
        let bits = self.agreed.server_bits();
        contexts::deflate(bits, self.sent.last(reach(message.len())), message, out);
        if self.agreed.server_takeover() {
            self.sent.push(message, 1 << bits);
        }
    }

    /// Inflates the payload of one whole message and appends it to `out`, which an error leaves unchanged. It
    /// takes memory beyond the capacity of `out` for at most `limit` bytes and one more. After an error the
    /// codec must not inflate again.
    pub fn inflate(&mut self, message: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), InflateError> {
        let start = out.len();
        contexts::inflate(self.received.last(usize::MAX), message, limit, out)?;
        if self.agreed.client_takeover() {
            self.received.push(&out[start..], 1 << self.agreed.client_bits());
        }
        Ok(())
    }
}

/// Compresses a message on its own with a context of this thread: for one message to many sockets, whose
/// [`Agreed::shared_key`] is equal. Appends what [`Codec::deflate`] appends.
pub fn deflate_shared(agreed: &Agreed, message: &[u8], out: &mut Vec<u8>) {
    contexts::deflate(agreed.server_bits(), &[], message, out);
}

/// How many earlier bytes the compressor gets before a message of `len` bytes. Each costs a tenth of
/// compressing a byte, so four times the message adds less than half to its time. Small messages gain more
/// from 8 KB than they lose: 1 KB of JSON takes 10 us more and half the bytes. The whole window of 32 KB
/// would take 60 us, and saves 4 % more.
fn reach(len: usize) -> usize {
    len.saturating_mul(4).max(8 * 1024)
}

impl Inflate for Codec {
    fn inflate(&mut self, message: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), Violation> {
        Self::inflate(self, message, limit, out).map_err(|error| match error {
            InflateError::TooBig { limit } => Violation::InflatedTooBig { limit },
            InflateError::Corrupt => Violation::Inflate,
        })
    }
}
