//! Content codings for answers: which one a client takes, which answers are worth it, and the encoders.
//!
//! [`Compression`] is what the user asked for. [`Compression::admits`] and [`Accepted::choose`] decide, and an
//! [`Encoder`] or [`encode`] does the work. What becomes of the head is [`ResponseHead`](super::response::ResponseHead)'s
//! to say.
//!
//! # Libraries
//!
//! - gzip: flate2 on zlib-rs, which `websocket::deflate` uses already, and says why;
//! - zstd: the reference library in C through the crate `zstd`, for there is no Rust encoder that comes near it. It is
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

    /// The levels it has.
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
pub struct Offer {
    /// Which.
    pub coding: Coding,
    /// How hard it tries, one of [`Coding::levels`].
    pub level: u32,
}

/// The user's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    /// What is offered: the first is preferred, where the client does not mind.
    pub offers: Vec<Offer>,
    /// Bodies smaller than this are left alone.
    pub minimum_size: usize,
    /// The media types that are compressed.
    pub types: Vec<TypePattern>,
}

impl Compression {
    /// Whether a body of this `Content-Type` is compressed; one without is judged by its first bytes.
    pub fn admits(&self, content_type: Option<&[u8]>, body: &[u8]) -> bool {
        match content_type {
            Some(value) => types::matches(&self.types, value),
            None => types::looks_like_text(body) && types::matches(&self.types, b"text/plain"),
        }
    }
}
