//! A client of raw frames, and messages that can be told apart.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use socket2::SockRef;
use socketify::websocket::OpCode;

pub(super) const HANDSHAKE: &[u8] =
    b"GET /socket HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: first, second\r\n\r\n";

/// A frame as a client receives it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) fin: bool,
    pub(super) opcode: OpCode,
    pub(super) payload: Vec<u8>,
}

/// A whole frame of a client.
pub(super) fn masked(fin: bool, opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = *b"\x12\x34\x56\x78";
    let mut out = Vec::new();
    socketify::websocket::encode_header(&mut out, fin, false, opcode, payload.len());
    out[1] |= 0x80;
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

pub(super) fn text(payload: &str) -> Vec<u8> {
    masked(true, OpCode::Text, payload.as_bytes())
}

pub(super) fn goodbye(code: u16, reason: &str) -> Vec<u8> {
    masked(true, OpCode::Close, &socketify::websocket::close_payload(code, reason.as_bytes()))
}

pub(super) struct Client {
    pub(super) stream: TcpStream,
    pub(super) pending: Vec<u8>,
    /// Bytes of `pending` that have been read.
    pub(super) at: usize,
}

impl Client {
    pub(super) fn write(&mut self, bytes: &[u8]) -> &mut Self {
        self.stream.write_all(bytes).unwrap();
        self
    }

    pub(super) fn text(&mut self, payload: &str) -> &mut Self {
        self.write(&text(payload))
    }

    /// The next bytes; none at the end or after a reset.
    pub(super) fn receive(&mut self) -> usize {
        if self.at > 0 && self.at == self.pending.len() {
            self.pending.clear();
            self.at = 0;
        }
        let length = self.pending.len();
        self.pending.resize(length + 64 * 1024, 0);
        let read = self.stream.read(&mut self.pending[length..]);
        let count = match read {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("nothing arrives: {error}"),
        };
        self.pending.truncate(length + count);
        count
    }

    /// Reads without waiting; returns whether there is anything.
    pub(super) fn has_received(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        self.at < self.pending.len() || peeked.is_ok()
    }

    pub(super) fn unread(&self) -> &[u8] {
        &self.pending[self.at..]
    }

    pub(super) fn expect_handshake(&mut self) {
        let end = loop {
            if let Some(end) = self.unread().windows(4).position(|window| window == b"\r\n\r\n") {
                break self.at + end + 4;
            }
            assert!(self.receive() > 0, "closed in the handshake");
        };
        let head = String::from_utf8(self.pending[self.at..end].to_vec()).unwrap();
        self.at = end;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        assert!(head.contains("Sec-WebSocket-Protocol: first\r\n"), "{head}");
    }

    /// The next frame; `None` at the end. Checks every rule for a server's frames.
    pub(super) fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, size)) = parse(self.unread()) {
                self.at += size;
                return Some(frame);
            }
            if self.receive() == 0 {
                assert!(self.unread().is_empty(), "closed within a frame");
                return None;
            }
        }
    }

    pub(super) fn frame(&mut self) -> Frame {
        self.next().expect("a frame, not the end")
    }

    /// The payload of the next frame, which is a whole message.
    pub(super) fn message(&mut self) -> Vec<u8> {
        let frame = self.frame();
        assert!(frame.fin && !frame.opcode.is_control(), "{:?} is no message", frame.opcode);
        frame.payload
    }

    pub(super) fn string(&mut self) -> String {
        String::from_utf8(self.message()).unwrap()
    }

    /// The server ends the socket like this, and the connection when the client does.
    pub(super) fn expect_end(&mut self, code: u16, reason: &str) {
        let frame = self.frame();
        assert_eq!(frame.opcode, OpCode::Close, "{frame:?}");
        assert_eq!(frame.payload, socketify::websocket::close_payload(code, reason.as_bytes()));
        assert_eq!(self.next(), None);
    }

    /// Disconnects without a close frame.
    pub(super) fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// The frame at the start of `bytes`, and its length.
pub(super) fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(first & 0x70, 0, "a reserved bit");
    assert_eq!(second & 0x80, 0, "a mask");
    let opcode = OpCode::from_bits(first & 0x0f).expect("a known kind of frame");
    let (length, header) = match second {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())), 4),
        127 => (usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap())).unwrap(), 10),
        short => (usize::from(short), 2),
    };
    assert!(length < 1 << 24, "a length out of nowhere: {length}");
    let payload = bytes.get(header..header + length)?.to_vec();
    Some((Frame { fin: first & 0x80 != 0, opcode, payload }, header + length))
}

/// A message with its sender, its number, and bytes that follow from both.
pub(super) fn stamped(who: usize, number: usize, length: usize) -> Vec<u8> {
    let mut message = format!("{who} {number} ").into_bytes();
    let seed = who * 131 + number * 17;
    message.extend((0..length).map(|at| (seed + at * 7 + at / 251).to_le_bytes()[0]));
    message
}

/// Reads the stamp of a message and checks its bytes.
pub(super) fn stamp(message: &[u8]) -> (usize, usize) {
    let mut parts = message.splitn(3, |&byte| byte == b' ');
    let mut number = || std::str::from_utf8(parts.next().unwrap()).unwrap().parse::<usize>().unwrap();
    let (who, number) = (number(), number());
    let length = parts.next().unwrap().len();
    assert!(message == stamped(who, number, length), "message {number} of {who} has been altered");
    (who, number)
}

/// Checks that the messages of each sender come in the order of their numbers; counts them.
#[derive(Default)]
pub(super) struct InOrder(HashMap<usize, usize>);

impl InOrder {
    pub(super) fn take(&mut self, message: &[u8]) {
        let (who, number) = stamp(message);
        let next = self.0.entry(who).or_default();
        assert_eq!(number, *next, "of {who}");
        *next += 1;
    }

    pub(super) fn count(&self) -> usize {
        self.0.values().sum()
    }
}
