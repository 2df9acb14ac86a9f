//! The deflate contexts of a thread, and one message through them.
//!
//! A context is taken out of its slot, reset, given the history of a connection, used for one whole message
//! and put back. A failed one is dropped instead. No byte of a message stays visible to another connection: a
//! compressor starts from an empty window, and an inflater refuses to look behind the history.
//!
//! The library is flate2 on zlib-rs, all of it behind a safe interface with windows and dictionaries. C zlib
//! takes as long for 1 KB of JSON in its large contexts and more than twice as long in its smallest, the only
//! reason for its memory level; `miniz_oxide` has no windows.
//!
//! Level 4: of 996 bytes of such JSON the levels 1 to 6 make 515, 412, 408, 406, 405 and 405 in 6, 17, 18, 18, 18
//! and 18 us, and with 8 KB before it 265, 230, 222, 212, 211 and 210. Level 1 has no Huffman codes of its own and
//! puts a quarter more on the wire; levels above 4 try harder, for long messages only, and gain 1 % (the times are
//! those of `benches/deflate.rs`).

use std::cell::Cell;

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

use super::history::tail;
use super::{InflateError, MAX_BITS, MIN_BITS};

const LEVEL: u32 = 4;
/// The end of a flush, which is not sent (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// Inflated after a payload: the tail (RFC 7692 section 7.2.2), and an empty last block. The stream ends at
/// the end of it only if the payload ends at the end of a block.
const END: [u8; 9] = [0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];
/// Deflate streams in one payload. A sender that ends its blocks with BFINAL starts one with each flush (RFC
/// 7692 section 7.2.3.4). Each costs an inflater reset and up to 32 KB of dictionary, for two bytes of the
/// sender.
const MAX_STREAMS: u32 = 256;
/// Least room for a flush; with less it writes its tail twice.
const FLUSH_ROOM: usize = 64;
const SLOTS: usize = (MAX_BITS - MIN_BITS + 1) as usize;

thread_local! {
    /// One compressor a window size, made at the first use: 250 to 380 KB each.
    static COMPRESSORS: [Cell<Option<Compress>>; SLOTS] = const { [const { Cell::new(None) }; SLOTS] };
    /// One inflater of the largest window, for all: 47 KB.
    static INFLATER: Cell<Option<Decompress>> = const { Cell::new(None) };
}

/// Appends the payload of one message to `out`; it may repeat parts of `history`, at most one window.
pub(super) fn deflate(bits: u8, history: &[u8], message: &[u8], out: &mut Vec<u8>) {
    if message.is_empty() {
        // RFC 7692 section 7.2.3.6.
        out.push(0);
        return;
    }
    let bits = bits.clamp(MIN_BITS, MAX_BITS);
    let slot = usize::from(bits - MIN_BITS);
    // An ending thread has no slots any more: then this message gets a context of its own.
    let mut context = match COMPRESSORS.try_with(|slots| slots[slot].take()) {
        Ok(Some(mut context)) => {
            context.reset();
            context
        }
        _ => Compress::new_with_window_bits(flate2::Compression::new(LEVEL), false, bits),
    };
    let start = out.len();
    if compress(&mut context, history, message, out).is_some() {
        let _ = COMPRESSORS.try_with(|slots| slots[slot].set(Some(context)));
    } else {
        out.truncate(start);
        store(message, out);
    }
}

/// `None` if the library refuses, for which it has no reason.
fn compress(context: &mut Compress, history: &[u8], message: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if !history.is_empty() {
        context.set_dictionary(history).ok()?;
    }
    let start = out.len();
    let mut rest = message;
    loop {
        out.reserve(rest.len() / 2 + FLUSH_ROOM);
        let before = context.total_in();
        context.compress_vec(rest, out, FlushCompress::Sync).ok()?;
        rest = rest.get(usize::try_from(context.total_in() - before).ok()?..)?;
        // It stops only at a full buffer.
        if out.len() < out.capacity() {
            break;
        }
    }
    let payload = out.get(start..)?.strip_suffix(&TAIL).filter(|_| rest.is_empty())?.len();
    out.truncate(start + payload);
    Some(())
}

/// The message as blocks without compression (RFC 7692 section 7.2.3.3), and the header byte of the empty
/// block at the end of a flush.
fn store(message: &[u8], out: &mut Vec<u8>) {
    for block in message.chunks(usize::from(u16::MAX)) {
        let len = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.push(0);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&(!len).to_le_bytes());
        out.extend_from_slice(block);
    }
    out.push(0);
}

/// Appends the message of one payload to `out`; it may refer to `history`.
pub(super) fn inflate(
    history: &[u8],
    payload: &[u8],
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), InflateError> {
    // RFC 7692 section 7.2.1 requires the sender to remove the tail. A payload with its tail is accepted too:
    // no payload without its tail ends in FF, since its last three bits and their padding are zeros, except
    // BFINAL.
    let payload = payload.strip_suffix(&TAIL).unwrap_or(payload);
    if payload.is_empty() {
        return Ok(());
    }
    let mut context = match INFLATER.try_with(Cell::take) {
        Ok(Some(mut context)) => {
            context.reset(false);
            context
        }
        _ => Decompress::new(false),
    };
    let start = out.len();
    let result = Inflating { context: &mut context, history, start, limit, out }.run(payload);
    match result {
        Ok(()) => {
            let _ = INFLATER.try_with(|slot| slot.set(Some(context)));
        }
        Err(_) => out.truncate(start),
    }
    result
}

/// One payload on its way through an inflater.
struct Inflating<'a> {
    context: &'a mut Decompress,
    history: &'a [u8],
    /// Where the message begins in `out`.
    start: usize,
    limit: usize,
    out: &'a mut Vec<u8>,
}

impl Inflating<'_> {
    fn run(&mut self, payload: &[u8]) -> Result<(), InflateError> {
        self.show_history()?;
        let mut rest = payload;
        let mut streams = 1;
        // RFC 7692 section 7.2.3.4: a block with BFINAL ends a stream, not the message; another stream over
        // the same window follows.
        while self.feed(&mut rest)? {
            if rest.is_empty() {
                // The 00 that should follow is missing, and no data is.
                return Ok(());
            }
            streams += 1;
            if streams > MAX_STREAMS {
                return Err(InflateError::Corrupt);
            }
            self.context.reset(false);
            self.show_history()?;
        }
        let mut end = &END[..];
        // The tail alone ends the stream if the payload ends in the header of an empty block with BFINAL.
        let ended = self.feed(&mut end)? && matches!(end.len(), 0 | 5);
        if ended { Ok(()) } else { Err(InflateError::Corrupt) }
    }

    /// Fills the window: the end of the earlier messages, then that of this message so far.
    fn show_history(&mut self) -> Result<(), InflateError> {
        for bytes in [self.history, tail(&self.out[self.start..], 1 << MAX_BITS)] {
            if !bytes.is_empty() {
                self.context.set_dictionary(bytes).map_err(|_| InflateError::Corrupt)?;
            }
        }
        Ok(())
    }

    /// Inflates `input` to its end or to that of a stream within, removes the consumed part, and returns
    /// whether the stream ended.
    fn feed(&mut self, input: &mut &[u8]) -> Result<bool, InflateError> {
        loop {
            let produced = self.out.len() - self.start;
            if self.out.len() == self.out.capacity() {
                // The byte beyond the limit reveals a message that is too long.
                let room = self.limit.saturating_sub(produced).saturating_add(1);
                let wanted = produced.max(input.len().saturating_mul(4)).max(512);
                self.out.reserve_exact(wanted.min(room));
            }
            let before = self.context.total_in();
            let status = self.context.decompress_vec(input, self.out, FlushDecompress::Sync);
            let status = status.map_err(|_| InflateError::Corrupt)?;
            if self.out.len() - self.start > self.limit {
                return Err(InflateError::TooBig { limit: self.limit });
            }
            let taken = usize::try_from(self.context.total_in() - before).unwrap_or(usize::MAX);
            *input = input.get(taken..).unwrap_or_default();
            if status == Status::StreamEnd {
                return Ok(true);
            }
            // It stops at a full buffer and at the end of its input.
            if self.out.len() < self.out.capacity() {
                return if input.is_empty() { Ok(false) } else { Err(InflateError::Corrupt) };
            }
        }
    }
}
