//! The sent messages, the expected ones, and their comparison.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use floor::ws::{self, BINARY, FIN, Frame, RSV1, TEXT};

use crate::Outcome;
use crate::options::Options;

/// The number of different messages. A connection sends them one after the other, repeatedly.
const VARIANTS: usize = 8;
/// The end of every flush, which is left out of every message.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Frames one after the other in one piece of memory.
struct Frames {
    bytes: Vec<u8>,
    /// Where each begins, and where the last one ends.
    starts: Vec<usize>,
}

impl Frames {
    /// Repeats the frames up to this count.
    fn new(frames: &[Vec<u8>], count: usize) -> Self {
        let mut made = Self { bytes: Vec::new(), starts: vec![0] };
        for frame in frames.iter().cycle().take(count) {
            made.bytes.extend_from_slice(frame);
            made.starts.push(made.bytes.len());
        }
        made
    }

    fn range(&self, first: usize, count: usize) -> &[u8] {
        &self.bytes[self.starts[first]..self.starts[first + count]]
    }
}

/// The messages of all connections.
pub struct Traffic {
    sent: Frames,
    due: Frames,
    /// The number of messages that a connection may send at once.
    at_once: usize,
    deflate: Option<Deflate>,
}

/// The compressed messages, as the server compresses them.
struct Deflate {
    first: u8,
    payloads: Vec<Vec<u8>>,
    /// The compressed form of each payload from the server, once it was verified.
    known: Vec<Vec<u8>>,
    inflated: Vec<u8>,
}

/// The position of a connection in its output.
#[derive(Default)]
pub struct Sending {
    /// The present frame, and the number of its bytes that were sent.
    number: usize,
    offset: usize,
    /// The number of remaining messages, including this one.
    pub queued: usize,
}

/// The position of a connection in its input.
#[derive(Default)]
pub struct Receiving {
    number: usize,
    offset: usize,
    /// The start of a compressed frame.
    rest: Vec<u8>,
}

impl Sending {
    pub fn starting_at(number: usize) -> Self {
        Self { number: number % VARIANTS, ..Self::default() }
    }
}

impl Receiving {
    pub fn starting_at(number: usize) -> Self {
        Self { number: number % VARIANTS, ..Self::default() }
    }
}

impl Traffic {
    pub fn new(options: &Options) -> Self {
        let opcode = if options.text || options.deflate { TEXT } else { BINARY };
        let payloads: Vec<Vec<u8>> = (0..VARIANTS)
            .map(|variant| if options.deflate { json(variant) } else { letters(variant, options.size) })
            .collect();
        let mut first = FIN | opcode;
        if options.deflate {
            first |= RSV1;
        }
        let sent: Vec<Vec<u8>> = payloads
            .iter()
            .enumerate()
            .map(|(variant, payload)| {
                let mask = [0x37, 0xfa, 0x21, 0x3d ^ u8::try_from(variant).unwrap_or_default()];
                if options.deflate {
                    ws::client_frame(first, mask, &deflate(payload))
                } else {
                    ws::client_frame(first, mask, payload)
                }
            })
            .collect();
        let due: Vec<Vec<u8>> = payloads.iter().map(|payload| ws::server_frame(first, payload)).collect();
        let deflate = options.deflate.then(|| Deflate {
            first,
            known: vec![Vec::new(); VARIANTS],
            inflated: Vec::with_capacity(64 * 1024),
            payloads,
        });
        Self {
            sent: Frames::new(&sent, VARIANTS + options.in_flight),
            due: Frames::new(&due, VARIANTS),
            at_once: options.in_flight,
            deflate,
        }
    }

    /// The output of a connection.
    pub fn to_send(&self, sending: &Sending) -> &[u8] {
        let count = sending.queued.min(self.at_once);
        self.sent.range(sending.number, count).get(sending.offset..).unwrap_or_default()
    }

    /// Records the number of sent bytes.
    pub fn has_sent(&self, sending: &mut Sending, bytes: usize) {
        sending.offset += bytes;
        while sending.queued > 0 {
            let length = self.sent.range(sending.number, 1).len();
            if sending.offset < length {
                return;
            }
            sending.offset -= length;
            sending.number = (sending.number + 1) % VARIANTS;
            sending.queued -= 1;
        }
    }

    /// Compares the received bytes with the expected ones, and counts complete messages.
    pub fn receive(&mut self, receiving: &mut Receiving, mut input: &[u8]) -> Outcome<usize> {
        if let Some(deflate) = &mut self.deflate {
            return deflate.receive(receiving, input);
        }
        let mut messages = 0;
        while !input.is_empty() {
            let due = &self.due.range(receiving.number, 1)[receiving.offset..];
            let count = due.len().min(input.len());
            if input[..count] != due[..count] {
                return Err(describe(&input[..count.max(input.len().min(64))], due));
            }
            input = &input[count..];
            receiving.offset += count;
            if count == due.len() {
                receiving.offset = 0;
                receiving.number = (receiving.number + 1) % VARIANTS;
                messages += 1;
            }
        }
        Ok(messages)
    }
}

impl Deflate {
    fn receive(&mut self, receiving: &mut Receiving, input: &[u8]) -> Outcome<usize> {
        if receiving.rest.is_empty() {
            let (messages, used) = self.take(&mut receiving.number, input)?;
            receiving.rest.extend_from_slice(&input[used..]);
            return Ok(messages);
        }
        receiving.rest.extend_from_slice(input);
        let (messages, used) = self.take(&mut receiving.number, &receiving.rest)?;
        receiving.rest.drain(..used);
        Ok(messages)
    }

    fn take(&mut self, number: &mut usize, input: &[u8]) -> Outcome<(usize, usize)> {
        let (mut messages, mut used) = (0, 0);
        while let Some(frame) = Frame::find(&input[used..]) {
            if frame.first != self.first || frame.mask.is_some() {
                return Err(format!("a frame begins with {:#04x}: not a compressed message", frame.first));
            }
            // Nothing is carried from one message to the next, so a verified form stays right. A server that
            // compresses differently each time only makes the check slower.
            if self.known[*number] != frame.payload {
                self.check(*number, frame.payload)?;
            }
            used += frame.length;
            messages += 1;
            *number = (*number + 1) % VARIANTS;
        }
        Ok((messages, used))
    }

    fn check(&mut self, number: usize, compressed: &[u8]) -> Outcome<()> {
        let input = [compressed, &TAIL].concat();
        self.inflated.clear();
        Decompress::new(false)
            .decompress_vec(&input, &mut self.inflated, FlushDecompress::Sync)
            .map_err(|error| format!("a message does not inflate: {error}"))?;
        if self.inflated != self.payloads[number] {
            return Err(describe(&self.inflated, &self.payloads[number]));
        }
        self.known[number] = compressed.to_vec();
        Ok(())
    }
}

fn describe(found: &[u8], due: &[u8]) -> String {
    let shown = |bytes: &[u8]| bytes[..bytes.len().min(64)].escape_ascii().to_string();
    format!("received \"{}\" where \"{}\" was due", shown(found), shown(due))
}

/// A payload that looks random and is still text.
fn letters(variant: usize, size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(variant as u64 + 1);
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b'a' + u8::try_from((state >> 33) % 26).unwrap_or_default()
    };
    (0..size).map(|_| letter()).collect()
}

/// About 1 KB of JSON, as a service might send it.
fn json(variant: usize) -> Vec<u8> {
    let words =
        ["amber", "basil", "cedar", "delta", "ember", "fjord", "grove", "heron", "inlet", "jetty", "kayak"];
    let items: Vec<_> = (0..11)
        .map(|item| {
            let number = (variant * 7919 + item * 104_729) % 9973;
            serde_json::json!({
                "id": 100_000 + number,
                "name": format!("{} {}", words[item], words[number % words.len()]),
                "price": format!("{}.{:02}", number % 300, number % 100),
                "in_stock": !number.is_multiple_of(3),
            })
        })
        .collect();
    serde_json::json!({ "order": 7000 + variant, "customer": "Ada Lovelace", "items": items })
        .to_string()
        .into_bytes()
}

fn deflate(payload: &[u8]) -> Vec<u8> {
    let mut compressed = Vec::with_capacity(payload.len() + 64);
    Compress::new(Compression::default(), false)
        .compress_vec(payload, &mut compressed, FlushCompress::Sync)
        .expect("a flush of a fresh compressor into enough room cannot fail");
    assert!(compressed.ends_with(&TAIL), "a flush ends with an empty block");
    compressed.truncate(compressed.len() - TAIL.len());
    compressed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(arguments: &str) -> Traffic {
        let arguments = format!("echo --port 1 --in-flight 3 {arguments}");
        Traffic::new(
            &Options::parse(arguments.split_whitespace().map(str::to_owned)).expect("they are right"),
        )
    }

    /// The echoes of a server with the same compression for all messages of a connection.
    fn echoes(traffic: &Traffic, count: usize) -> Vec<u8> {
        let mut sending = Sending::starting_at(5);
        let mut echoes = Vec::new();
        let mut sent = Vec::new();
        sending.queued = count;
        while sending.queued > 0 {
            // In pieces, as with a full socket.
            let piece = &traffic.to_send(&sending)[..1];
            sent.extend_from_slice(piece);
            traffic.has_sent(&mut sending, 1);
        }
        let mut rest = &sent[..];
        while let Some(frame) = Frame::find(rest) {
            ws::append_header(&mut echoes, frame.first, frame.payload.len());
            frame.append_payload(&mut echoes);
            rest = &rest[frame.length..];
        }
        echoes
    }

    #[test]
    fn echoes_are_recognised_however_they_are_cut() {
        for arguments in ["--size 32", "--size 300 --text", "--deflate"] {
            let mut traffic = traffic(arguments);
            let echoes = echoes(&traffic, 20);
            for piece in [1, 7, 100, echoes.len()] {
                let mut receiving = Receiving::starting_at(5);
                let found: Outcome<Vec<usize>> =
                    echoes.chunks(piece).map(|piece| traffic.receive(&mut receiving, piece)).collect();
                assert_eq!(found.expect("nothing is wrong").iter().sum::<usize>(), 20);
            }
        }
    }

    #[test]
    fn a_changed_byte_or_a_lost_message_is_noticed() {
        for arguments in ["--size 32", "--deflate"] {
            let mut traffic = traffic(arguments);
            let echoes = echoes(&traffic, 3);
            for at in (0..echoes.len()).step_by(5) {
                let mut changed = echoes.clone();
                changed[at] ^= 4;
                let found = traffic.receive(&mut Receiving::starting_at(5), &changed);
                assert_ne!(found, Ok(3), "byte {at}");
            }
            let lost = Frame::find(&echoes).expect("there are three").length;
            assert!(traffic.receive(&mut Receiving::starting_at(5), &echoes[lost..]).is_err());
        }
    }
}
