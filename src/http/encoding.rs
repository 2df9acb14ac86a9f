//! Content codings for responses: which one a client accepts, which responses are worth it, and the encoders.
//!
//! [`Compression`] is the user's option. [`Compression::admits`] and [`Accepted::choose`] decide, and an
//! [`Encoder`] or [`encode`] does the work. [`ResponseHead`](super::response::ResponseHead) changes the head.
//!
//! # Libraries
//!
//! - gzip: flate2 on zlib-rs, which `websocket::deflate` uses too, and gives the reason;
//! - zstd: the reference library in C through the crate `zstd`, since no Rust encoder comes near it. It is
//!   built with the C compiler that Rust needs for linking anyway;
//! - br: the crate `brotli`, the reference library translated to safe Rust.

mod encoder;
mod negotiation;
mod types;

pub use self::encoder::{Encoder, encode};
pub use self::negotiation::Accepted;
pub use self::types::TypePattern;

/// A content coding (RFC 9110 section 8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// `gzip` (RFC 1952).
    Gzip,
    /// `br` (RFC 7932).
    Brotli,
    /// `zstd` (RFC 8878), with windows that every client has room for (RFC 9659).
    Zstd,
}

impl Coding {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// The name, as it stands in `Content-Encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    /// The coding of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|coding| coding.name() == name)
    }

    /// Its levels.
    pub const fn levels(self) -> std::ops::RangeInclusive<u32> {
        match self {
            Self::Gzip => 1..=9,
            Self::Brotli => 0..=11,
            Self::Zstd => 1..=19,
        }
    }
}

/// A coding to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodingLevel {
    /// The coding.
    pub coding: Coding,
    /// Its level, one of [`Coding::levels`].
    pub level: u32,
}

/// The user's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    /// The offers: among those that the client weighs alike, the first is chosen.
    pub offers: Vec<CodingLevel>,
    /// Smaller bodies are not compressed.
    pub minimum_size: usize,
    /// The media types that are compressed.
    pub types: Vec<TypePattern>,
}

impl Compression {
    /// Whether a body of this `Content-Type` is compressed; without one its first bytes decide.
    pub fn admits(&self, content_type: Option<&[u8]>, body: &[u8]) -> bool {
        match content_type {
            Some(value) => types::matches(&self.types, value),
            None => types::looks_like_text(body) && types::matches(&self.types, b"text/plain"),
        }
    }
}
