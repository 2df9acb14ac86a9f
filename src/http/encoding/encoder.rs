//! The encoders: a whole body at once, or a body in pieces.
//!
//! # Memory
//!
//! A whole body is compressed in a context that belongs to the thread. A body in pieces needs one of its own
//! until it ends, and a slow client may make that long, so windows and tables are bounded there. Measured,
//! after a piece of 100 bytes and after 100 KB of JSON more:
//!
//! | Coding | by default at that level | here |
//! |---|---|---|
//! | gzip 4 | 315 KB, 341 KB | the same |
//! | br 4 | 73 KB, 1.4 MB; level 5: 26 MB | at most level 3: 22 KB, 740 KB |
//! | zstd 3 | 814 KB, 932 KB; level 5: 2.7 MB | 300 KB, 420 KB |
//!
//! # Time
//!
//! 10 KB of JSON as a whole: zstd 3 takes 29 us for 1125 bytes, br 4 takes 278 us for 1041, gzip 4 takes 108
//! us for 1488. So zstd is offered first.

use std::cell::RefCell;
use std::io::{self, Write};

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use flate2::write::GzEncoder;
use flate2::{Compress, FlushCompress, Status};
use zstd::stream::raw::CParameter;

use super::{Coding, CodingLevel};

/// The window of br and zstd for a body in pieces, as a power of two.
const STREAM_WINDOW: u8 = 16;
/// Entries of zstd's tables for such a body, as a power of two.
const STREAM_TABLE: u32 = 15;
/// The highest level of br for such a body: each higher one takes twice the memory, or twenty times.
const STREAM_BROTLI: u32 = 3;
/// The largest window of br and zstd for a whole body: 1 MB.
const WHOLE_WINDOW: u8 = 20;
/// The smallest window of br (RFC 7932 section 9.1).
const LEAST_WINDOW: u8 = 10;
/// Bytes that br writes at a time.
const BROTLI_BUFFER: usize = 4096;
/// The window of gzip, which has no other.
const GZIP_WINDOW: u8 = 15;

thread_local! {
    /// A context and the level it was made for.
    static GZIP: RefCell<Option<(u32, Compress)>> = const { RefCell::new(None) };
    static ZSTD: RefCell<Option<(u32, zstd::bulk::Compressor<'static>)>> = const { RefCell::new(None) };
}

/// Compresses a whole body. `None` if the library refuses, for lack of memory.
pub fn encode(offer: CodingLevel, body: &[u8]) -> Option<Vec<u8>> {
    match offer.coding {
        Coding::Gzip => gzip(offer.level, body),
        Coding::Brotli => {
            let window = usize::BITS - body.len().saturating_add(16).leading_zeros();
            let window =
                i32::from(u8::try_from(window).unwrap_or(WHOLE_WINDOW).clamp(LEAST_WINDOW, WHOLE_WINDOW));
            let mut writer = brotli(offer.level, window, body.len());
            writer.write_all(body).ok()?;
            Some(writer.into_inner())
        }
        Coding::Zstd => {
            let make = || zstd_whole(offer.level);
            with_context(&ZSTD, offer.level, make, |context| context.compress(body)).ok()
        }
    }
}

/// Lends the thread's context of this level to `act`. An ending thread has none any more.
fn with_context<C, R>(
    slot: &'static std::thread::LocalKey<RefCell<Option<(u32, C)>>>,
    level: u32,
    make: impl FnOnce() -> io::Result<C>,
    act: impl FnOnce(&mut C) -> io::Result<R>,
) -> io::Result<R> {
    let kept = slot.try_with(|slot| slot.borrow_mut().take()).unwrap_or_default();
    let mut context = match kept {
        Some((made_for, context)) if made_for == level => context,
        _ => make()?,
    };
    // A failed context is dropped.
    let result = act(&mut context)?;
    let _ = slot.try_with(|slot| *slot.borrow_mut() = Some((level, context)));
    Ok(result)
}

fn gzip(level: u32, body: &[u8]) -> Option<Vec<u8>> {
    let make = || Ok(Compress::new_gzip(flate2::Compression::new(level), GZIP_WINDOW));
    let compress = |context: &mut Compress| {
        context.reset();
        let mut out = Vec::with_capacity(body.len() / 4 + 64);
        let mut rest = body;
        loop {
            let before = context.total_in();
            let status = context.compress_vec(rest, &mut out, FlushCompress::Finish)?;
            if status == Status::StreamEnd {
                return Ok(out);
            }
            let taken = usize::try_from(context.total_in() - before).unwrap_or(usize::MAX);
            rest = rest.get(taken..).unwrap_or_default();
            // It stops only at a full buffer.
            out.reserve(out.len() / 2 + 64);
        }
    };
    with_context(&GZIP, level, make, compress).ok()
}

fn brotli(level: u32, window: i32, size: usize) -> CompressorWriter<Vec<u8>> {
    let parameters = BrotliEncoderParams {
        quality: i32::try_from(level).unwrap_or(4),
        lgwin: window,
        size_hint: size,
        ..BrotliEncoderParams::default()
    };
    CompressorWriter::with_params(Vec::with_capacity(size / 4 + 64), BROTLI_BUFFER, &parameters)
}

fn zstd_whole(level: u32) -> io::Result<zstd::bulk::Compressor<'static>> {
    let mut context = zstd::bulk::Compressor::new(i32::try_from(level).unwrap_or(3))?;
    // The library shrinks the window for a smaller body.
    context.set_parameter(CParameter::WindowLog(u32::from(WHOLE_WINDOW)))?;
    Ok(context)
}

/// A body that is compressed in pieces.
pub struct Encoder(Kind);

enum Kind {
    // In boxes, since each is large and gets moved.
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self.0 {
            Kind::Gzip(_) => "Encoder(gzip)",
            Kind::Brotli(_) => "Encoder(br)",
            Kind::Zstd(_) => "Encoder(zstd)",
        })
    }
}

impl Encoder {
    /// Begins a body.
    pub fn new(offer: CodingLevel) -> io::Result<Self> {
        Ok(Self(match offer.coding {
            Coding::Gzip => {
                let level = flate2::Compression::new(offer.level);
                Kind::Gzip(Box::new(GzEncoder::new(Vec::new(), level)))
            }
            Coding::Brotli => {
                let level = offer.level.min(STREAM_BROTLI);
                Kind::Brotli(Box::new(brotli(level, i32::from(STREAM_WINDOW), 0)))
            }
            Coding::Zstd => {
                let level = i32::try_from(offer.level).unwrap_or(3);
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level)?;
                encoder.set_parameter(CParameter::WindowLog(u32::from(STREAM_WINDOW)))?;
                encoder.set_parameter(CParameter::HashLog(STREAM_TABLE))?;
                encoder.set_parameter(CParameter::ChainLog(STREAM_TABLE))?;
                Kind::Zstd(Box::new(encoder))
            }
        }))
    }

    fn writer(&mut self) -> &mut dyn Write {
        match &mut self.0 {
            Kind::Gzip(encoder) => encoder,
            Kind::Brotli(encoder) => encoder,
            Kind::Zstd(encoder) => encoder,
        }
    }

    /// Compresses a piece and flushes, so that a client with this output can decode the whole piece.
    pub fn write(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        let writer = self.writer();
        writer.write_all(piece)?;
        writer.flush()?;
        Ok(std::mem::take(match &mut self.0 {
            Kind::Gzip(encoder) => encoder.get_mut(),
            Kind::Brotli(encoder) => encoder.get_mut(),
            Kind::Zstd(encoder) => encoder.get_mut(),
        }))
    }

    /// Compresses the last piece, which may be empty, and ends the body.
    pub fn finish(mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        self.writer().write_all(piece)?;
        match self.0 {
            Kind::Gzip(encoder) => encoder.finish(),
            Kind::Brotli(encoder) => Ok(encoder.into_inner()),
            Kind::Zstd(encoder) => encoder.finish(),
        }
    }
}
