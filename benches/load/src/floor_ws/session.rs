//! The input and output of one connection, independent of the transport.

use std::io::{self, Write};

use floor::ws::{self, Frame, Head};

/// Bytes of one read.
pub const READ: usize = 256 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Echo,
    Topic,
}

/// One connection.
pub struct Session {
    kind: Kind,
    /// The start of an incomplete message.
    pub rest: Vec<u8>,
    /// Output that the socket did not take.
    unsent: Vec<u8>,
    /// Nothing more is read, and the connection ends after the output.
    pub ending: bool,
}

impl Session {
    pub const fn new() -> Self {
        Self { kind: Kind::Http, rest: Vec::new(), unsent: Vec::new(), ending: false }
    }

    pub fn is_subscribed(&self) -> bool {
        self.kind == Kind::Topic
    }

    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Takes the bytes of a read. Appends replies to `answers`, and messages for all subscribers to `topic`.
    pub fn receive(&mut self, input: &[u8], answers: &mut Vec<u8>, topic: &mut Vec<u8>) {
        if self.rest.is_empty() {
            let used = self.take(input, answers, topic);
            self.rest.extend_from_slice(&input[used..]);
        } else {
            self.rest.extend_from_slice(input);
            self.receive_rest(answers, topic);
        }
    }

    /// The same for a read that went straight to the end of `rest`.
    pub fn receive_rest(&mut self, answers: &mut Vec<u8>, topic: &mut Vec<u8>) {
        let mut rest = std::mem::take(&mut self.rest);
        let used = self.take(&rest, answers, topic);
        rest.drain(..used);
        self.rest = rest;
    }

    fn take(&mut self, input: &[u8], answers: &mut Vec<u8>, topic: &mut Vec<u8>) -> usize {
        let mut used = 0;
        while self.kind == Kind::Http {
            let Some(head) = Head::find(&input[used..]) else { return used };
            used += head.length;
            self.answer(head, answers);
        }
        while !self.ending
            && let Some(frame) = Frame::find(&input[used..])
        {
            used += frame.length;
            let (first, output) = match frame.opcode() {
                ws::PING => (frame.first + 1, &mut *answers),
                ws::CLOSE => {
                    self.ending = true;
                    (frame.first, &mut *answers)
                }
                0..ws::CLOSE if self.kind == Kind::Topic => (frame.first, &mut *topic),
                0..ws::CLOSE => (frame.first, &mut *answers),
                _ => continue,
            };
            ws::append_header(output, first, frame.payload.len());
            frame.append_payload(output);
        }
        used
    }

    fn answer(&mut self, head: Head<'_>, answers: &mut Vec<u8>) {
        let Some(key) = head.header("sec-websocket-key") else {
            answers.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, World!");
            return;
        };
        self.kind = if head.second_word() == "/topic" { Kind::Topic } else { Kind::Echo };
        answers.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
        );
        answers.extend_from_slice(ws::accept_key(key).as_bytes());
        answers.extend_from_slice(b"\r\n\r\n");
    }

    /// Sends as much as the socket takes and keeps the rest.
    pub fn send(
        &mut self,
        mut output: &[u8],
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        if self.has_unsent() {
            self.unsent.extend_from_slice(output);
            return Ok(());
        }
        while !output.is_empty() {
            match write(output) {
                Ok(sent) => output = &output[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.unsent.write_all(output);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends more of the rest.
    pub fn send_rest(&mut self, write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        let unsent = std::mem::take(&mut self.unsent);
        self.send(&unsent, write)
    }
}
