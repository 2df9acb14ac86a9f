//! A slow inflater written from RFC 1951 for the tests: it shares no line with the one of the server, keeps every
//! byte it ever saw, and notes how far back a stream reaches.

/// One direction of a connection.
#[derive(Default)]
pub(crate) struct Inflater {
    seen: Vec<u8>,
    /// The largest distance of any match.
    pub(crate) farthest: usize,
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Option<usize> {
        let mut value = 0;
        for place in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value |= usize::from(byte >> (self.at % 8) & 1) << place;
            self.at += 1;
        }
        Some(value)
    }
}

/// Codes in the order of RFC 1951 section 3.2.2: how many of each length, and their symbols.
struct Codes {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Codes {
    fn new(lengths: &[usize]) -> Self {
        let mut counts = [0; 16];
        for &length in lengths {
            counts[length] += 1;
        }
        counts[0] = 0;
        let mut symbols: Vec<usize> = (0..lengths.len()).filter(|&symbol| lengths[symbol] > 0).collect();
        symbols.sort_by_key(|&symbol| lengths[symbol]);
        Self { counts, symbols }
    }

    fn decode(&self, bits: &mut Bits<'_>) -> Option<usize> {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            code = code << 1 | bits.take(1)?;
            if code < first + count {
                return self.symbols.get(index + code - first).copied();
            }
            index += count;
            first = (first + count) << 1;
        }
        None
    }
}

impl Inflater {
    /// The message of a payload to which the tail is still to be added; none: it is not valid.
    pub(crate) fn message(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        let whole = [payload, &[0, 0, 0xff, 0xff]].concat();
        let start = self.seen.len();
        let mut bits = Bits { bytes: &whole, at: 0 };
        while bits.at < whole.len() * 8 {
            if bits.take(1)? == 1 {
                return None; // the server never sets BFINAL
            }
            match bits.take(2)? {
                0 => self.stored(&mut bits)?,
                1 => {
                    let lengths: Vec<usize> = (0..288)
                        .map(|symbol| match symbol {
                            0..=143 | 280.. => 8,
                            144..=255 => 9,
                            _ => 7,
                        })
                        .collect();
                    self.block(&mut bits, &Codes::new(&lengths), &Codes::new(&[5; 30]))?;
                }
                2 => {
                    let (literals, distances) = dynamic(&mut bits)?;
                    self.block(&mut bits, &literals, &distances)?;
                }
                _ => return None,
            }
        }
        Some(self.seen[start..].to_vec())
    }

    fn stored(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        bits.at = bits.at.next_multiple_of(8);
        let (len, complement) = (bits.take(16)?, bits.take(16)?);
        if len ^ complement != 0xffff {
            return None;
        }
        for _ in 0..len {
            self.seen.push(u8::try_from(bits.take(8)?).ok()?);
        }
        Some(())
    }

    fn block(&mut self, bits: &mut Bits<'_>, literals: &Codes, distances: &Codes) -> Option<()> {
        loop {
            let symbol = literals.decode(bits)?;
            match symbol {
                0..=255 => self.seen.push(u8::try_from(symbol).ok()?),
                256 => return Some(()),
                257..=264 => self.copy(bits, distances, symbol - 254)?,
                265..=284 => {
                    let extra = (symbol - 261) / 4;
                    let base = ((4 + (symbol - 265) % 4) << extra) + 3;
                    let len = base + bits.take(u32::try_from(extra).ok()?)?;
                    self.copy(bits, distances, len)?;
                }
                285 => self.copy(bits, distances, 258)?,
                _ => return None,
            }
        }
    }

    fn copy(&mut self, bits: &mut Bits<'_>, distances: &Codes, len: usize) -> Option<()> {
        let symbol = distances.decode(bits)?;
        let distance = if symbol < 4 {
            symbol + 1
        } else {
            let extra = symbol / 2 - 1;
            ((2 + symbol % 2) << extra) + 1 + bits.take(u32::try_from(extra).ok()?)?
        };
        self.farthest = self.farthest.max(distance);
        for _ in 0..len {
            let from = self.seen.len().checked_sub(distance)?;
            self.seen.push(self.seen[from]);
        }
        Some(())
    }
}

/// The codes of a block that brings its own (RFC 1951 section 3.2.7).
fn dynamic(bits: &mut Bits<'_>) -> Option<(Codes, Codes)> {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let (literals, distances, count) = (bits.take(5)? + 257, bits.take(5)? + 1, bits.take(4)? + 4);
    let mut lengths = [0; 19];
    for &place in &ORDER[..count] {
        lengths[place] = bits.take(3)?;
    }
    let codes = Codes::new(&lengths);
    let mut lengths = Vec::new();
    while lengths.len() < literals + distances {
        let (length, times) = match codes.decode(bits)? {
            16 => (*lengths.last()?, 3 + bits.take(2)?),
            17 => (0, 3 + bits.take(3)?),
            18 => (0, 11 + bits.take(7)?),
            length => (length, 1),
        };
        lengths.extend(std::iter::repeat_n(length, times));
    }
    Some((Codes::new(&lengths[..literals]), Codes::new(lengths.get(literals..)?)))
}
