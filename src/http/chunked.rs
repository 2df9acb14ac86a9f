//! The chunked transfer coding (RFC 9112 section 7.1).
//!
//! [`ChunkedDecoder`] takes a body in the pieces of the socket and gives out the data within them without
//! copying. It is strict, since a body that ends elsewhere for the proxy in front smuggles a request: no bare
//! LF, whitespace only where the grammar has it, no size beyond 64 bits. Chunk extensions and trailers are
//! checked, bounded and dropped.

use super::is_token_byte;

/// Hexadecimal digits of a 64-bit size, leading zeros included.
const MAX_SIZE_DIGITS: u8 = 16;
/// Bytes of chunk extensions in one body. RFC 9112 section 7.1.1 asks for such a bound: without it a client
/// can send a gigabyte of extensions around one byte of data.
const MAX_EXTENSION_BYTES: u16 = 4 * 1024;
/// Bytes of trailers after one body.
const MAX_TRAILER_BYTES: u16 = 8 * 1024;

/// The chunk that ends a body, with an empty trailer section.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// The end of every chunk's data.
pub const CHUNK_END: &[u8] = b"\r\n";

/// The rule a chunked body breaks. The start of the next request is then unknown: respond with 400 and close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// A chunk does not begin with a hexadecimal digit, or its size is followed by something other than an
    /// extension.
    #[error("malformed chunk size")]
    Size,
    /// A chunk size has more digits than 64 bits need.
    #[error("chunk size has more than {MAX_SIZE_DIGITS} digits")]
    SizeTooLong,
    /// A chunk extension has a control byte in it.
    #[error("malformed chunk extension")]
    Extension,
    /// The extensions of the body are too long.
    #[error("chunk extensions of more than {MAX_EXTENSION_BYTES} bytes")]
    ExtensionsTooLong,
    /// A line ends in LF without CR, or in CR without LF.
    #[error("chunk line does not end in CRLF")]
    LineEnd,
    /// Chunk data is not followed by CRLF: it is longer than its size.
    #[error("chunk data does not end in CRLF")]
    DataEnd,
    /// A trailer line is no header line.
    #[error("malformed trailer")]
    Trailer,
    /// The trailer section is too long.
    #[error("trailers of more than {MAX_TRAILER_BYTES} bytes")]
    TrailersTooLong,
}

/// The part to which the next byte belongs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// The first digit of a size.
    #[default]
    SizeStart,
    /// Further digits.
    Size,
    /// Whitespace after the size or an extension; only `;` may follow them.
    Blank,
    /// A chunk extension.
    Extension,
    /// The LF of a size line.
    SizeLineFeed,
    /// Chunk data.
    Data,
    /// The CR after chunk data.
    DataReturn,
    /// The LF after chunk data.
    DataLineFeed,
    /// The start of a trailer line, or of the empty line.
    TrailerStart,
    /// A trailer name.
    TrailerName,
    /// A trailer value.
    TrailerValue,
    /// The LF of a trailer line.
    TrailerLineFeed,
    /// The LF of the empty line.
    EndLineFeed,
    /// Past the body.
    Done,
}

/// Decodes one chunked body that arrives in pieces.
///
/// ```
/// use socketify::http::chunked::ChunkedDecoder;
///
/// let mut body = Vec::new();
/// let mut decoder = ChunkedDecoder::default();
/// let input = b"5\r\nhello\r\n0\r\n\r\nGET /next";
/// let (consumed, done) = decoder.decode(input, &mut |data: &[u8]| body.extend_from_slice(data))?;
/// assert!(done);
/// assert_eq!(body, b"hello");
/// assert_eq!(&input[consumed..], b"GET /next");
/// # Ok::<(), socketify::http::chunked::ChunkError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct ChunkedDecoder {
    /// Bytes of data left in this chunk; while its size is read, the size so far.
    remaining: u64,
    /// Bytes of extensions so far, over the whole body.
    extension_bytes: u16,
    /// Bytes of trailers so far.
    trailer_bytes: u16,
    /// Digits of this size so far.
    digits: u8,
    state: State,
}

impl ChunkedDecoder {
    /// Decodes as much of `input` as belongs to the body and calls `out` with each run of data in it. Returns
    /// the number of consumed bytes, which is all of them unless the body ended, and whether it ended. An
    /// error is final: the decoder must not be used again.
    pub fn decode(&mut self, input: &[u8], out: &mut impl FnMut(&[u8])) -> Result<(usize, bool), ChunkError> {
        let mut rest = input;
        while self.state != State::Done {
            if self.state == State::Data {
                // A chunk larger than the address space is certainly larger than `rest`.
                let wanted = usize::try_from(self.remaining).unwrap_or(usize::MAX);
                let (data, after) = rest.split_at(wanted.min(rest.len()));
                if !data.is_empty() {
                    out(data);
                }
                self.remaining -= data.len() as u64;
                rest = after;
                if self.remaining > 0 {
                    break;
                }
                self.state = State::DataReturn;
            }
            let Some((&byte, after)) = rest.split_first() else { break };
            rest = after;
            self.state = self.step(byte)?;
        }
        Ok((input.len() - rest.len(), self.state == State::Done))
    }

    /// Whether the whole body has been decoded.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// One byte outside the data.
    fn step(&mut self, byte: u8) -> Result<State, ChunkError> {
        use State as S;
        match (self.state, byte) {
            (S::SizeStart | S::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => self.size_digit(byte),
            // RFC 9112 section 7.1.1: a recipient MUST ignore extensions it does not know; we know none.
            (S::Size | S::Blank, b';') | (S::Extension, b'\t' | b' '..=b'~' | 0x80..) => {
                self.extension(S::Extension)
            }
            (S::Size | S::Blank, b' ' | b'\t') => self.extension(S::Blank),
            (S::Size | S::Extension, b'\r') => Ok(S::SizeLineFeed),
            (S::Size | S::Extension | S::TrailerValue, b'\n') => Err(ChunkError::LineEnd),
            (S::SizeStart | S::Size | S::Blank, _) => Err(ChunkError::Size),
            (S::Extension, _) => Err(ChunkError::Extension),
            (S::SizeLineFeed, b'\n') => Ok(self.size_end()),
            (S::DataReturn, b'\r') => Ok(S::DataLineFeed),
            (S::DataLineFeed, b'\n') => Ok(S::SizeStart),
            (S::DataReturn | S::DataLineFeed, _) => Err(ChunkError::DataEnd),
            (S::TrailerStart, b'\r') => Ok(S::EndLineFeed),
            // RFC 9112 section 7.1.2: trailer fields may be discarded. A line begins with a name: no folding.
            (S::TrailerStart | S::TrailerName, byte) if is_token_byte(byte) => self.trailer(S::TrailerName),
            (S::TrailerName, b':') | (S::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => {
                self.trailer(S::TrailerValue)
            }
            (S::TrailerValue, b'\r') => self.trailer(S::TrailerLineFeed),
            (S::TrailerLineFeed, b'\n') => self.trailer(S::TrailerStart),
            (S::EndLineFeed, b'\n') => Ok(S::Done),
            (S::SizeLineFeed | S::TrailerLineFeed | S::EndLineFeed, _) => Err(ChunkError::LineEnd),
            (S::TrailerStart | S::TrailerName | S::TrailerValue, _) => Err(ChunkError::Trailer),
            // `decode` calls this in neither state.
            (state @ (S::Data | S::Done), _) => Ok(state),
        }
    }

    fn size_digit(&mut self, byte: u8) -> Result<State, ChunkError> {
        if self.digits == MAX_SIZE_DIGITS {
            return Err(ChunkError::SizeTooLong);
        }
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            _ => (byte | 0x20) - b'a' + 10,
        };
        // 16 digits of 4 bits each: nothing is shifted out.
        self.remaining = self.remaining << 4 | u64::from(digit);
        self.digits += 1;
        Ok(State::Size)
    }

    /// The size line is over. RFC 9112 section 7.1: the chunk of size 0 is the last one. The trailers follow
    /// it.
    fn size_end(&mut self) -> State {
        self.digits = 0;
        if self.remaining == 0 { State::TrailerStart } else { State::Data }
    }

    fn extension(&mut self, next: State) -> Result<State, ChunkError> {
        self.extension_bytes += 1;
        if self.extension_bytes > MAX_EXTENSION_BYTES { Err(ChunkError::ExtensionsTooLong) } else { Ok(next) }
    }

    fn trailer(&mut self, next: State) -> Result<State, ChunkError> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > MAX_TRAILER_BYTES { Err(ChunkError::TrailersTooLong) } else { Ok(next) }
    }
}

/// Appends the size line of a chunk of `len` bytes. The data and [`CHUNK_END`] follow it. `len` is not 0: a
/// chunk of size 0 ends the body, so the caller omits an empty piece.
///
/// ```
/// use socketify::http::chunked::encode_chunk_header;
///
/// let mut out = Vec::new();
/// encode_chunk_header(0x1a2b, &mut out);
/// assert_eq!(out, b"1a2b\r\n");
/// ```
pub fn encode_chunk_header(len: usize, out: &mut Vec<u8>) {
    debug_assert_ne!(len, 0, "a chunk of size 0 ends the body");
    let digits = len.max(1).ilog2() / 4;
    for place in (0..=digits).rev() {
        out.push(b"0123456789abcdef"[len >> (4 * place) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}
