//! Short connections: connect, upgrade, one message, the close handshake, and again.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use floor::ws::{self, CLOSE, FIN, Frame, Head};
use serde_json::json;

use crate::Outcome;
use crate::options::Options;
use crate::report::Figures;
use crate::socket::{PATIENCE, Poll, check, open, request};
use crate::traffic::{Receiving, Sending, Traffic};

/// How long the server may take to close the connection after the close handshake. After that the cycle
/// counts, and so does the lapse.
const LINGER: Duration = Duration::from_millis(250);
/// Interval between two checks of the waiting ones.
const TICK: Duration = Duration::from_millis(50);

#[derive(PartialEq, Eq)]
enum Step {
    Upgrade,
    Message,
    Close,
    End,
}

struct Cycle {
    stream: TcpStream,
    step: Step,
    number: usize,
    key: String,
    received: Vec<u8>,
    began: Instant,
    since: Instant,
}

impl Cycle {
    fn begin(options: &Options, poll: &Poll, slot: usize, number: usize) -> Outcome<Self> {
        let failed = |error: io::Error| format!("cycle {number}: {error}");
        let began = Instant::now();
        // Always from the same address: no port stays taken for long if the server closes first.
        let mut stream = open(options.address, 0).map_err(failed)?;
        poll.add(&stream, slot).map_err(failed)?;
        let key = ws::key(number as u64);
        stream.write_all(request(options, &key).as_bytes()).map_err(failed)?;
        let (step, received) = (Step::Upgrade, Vec::new());
        Ok(Self { stream, step, number, key, received, began, since: began })
    }

    /// Reads once and goes on; true at the end of the cycle.
    fn turn(&mut self, options: &Options, traffic: &mut Traffic, close: &[u8]) -> Outcome<bool> {
        let mut piece = [0; 4096];
        let count = match self.stream.read(&mut piece) {
            Ok(0) if self.step == Step::End => return Ok(true),
            // It has closed with our frame unread, which is an end too.
            Err(error) if self.step == Step::End && error.kind() == io::ErrorKind::ConnectionReset => {
                return Ok(true);
            }
            Ok(0) => return Err("closed without a close frame".to_owned()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.to_string()),
        };
        self.since = Instant::now();
        self.received.extend_from_slice(&piece[..count]);
        if self.step == Step::Upgrade {
            let Some(head) = Head::find(&self.received) else { return Ok(false) };
            check(options, &self.key, head)?;
            let mut sending = Sending::starting_at(self.number);
            sending.queued = 1;
            self.stream.write_all(traffic.to_send(&sending)).map_err(|error| error.to_string())?;
            self.received.drain(..head.length);
            self.step = Step::Message;
        }
        while let Some(frame) = Frame::find(&self.received) {
            match (&self.step, frame.opcode()) {
                (Step::Message, opcode) if opcode < CLOSE => {
                    traffic
                        .receive(&mut Receiving::starting_at(self.number), &self.received[..frame.length])?;
                    self.stream.write_all(close).map_err(|error| error.to_string())?;
                    self.step = Step::Close;
                }
                (Step::Close, CLOSE) => self.step = Step::End,
                (_, opcode) => return Err(format!("a frame of opcode {opcode} out of turn")),
            }
            let length = frame.length;
            self.received.drain(..length);
        }
        Ok(false)
    }
}

pub fn run(options: &Options) -> Outcome<()> {
    let mut traffic = Traffic::new(options);
    let mut poll = Poll::new().map_err(|error| error.to_string())?;
    let close = ws::client_frame(FIN | CLOSE, [9, 8, 7, 6], &1000_u16.to_be_bytes());
    let mut figures = Figures::new(options);
    let mut cycles = Vec::with_capacity(options.connections);
    for slot in 0..options.connections {
        cycles.push(Cycle::begin(options, &poll, slot, slot)?);
    }
    let mut number = options.connections;
    let mut looked = Instant::now();
    while !figures.is_over() {
        let mut ended = Vec::new();
        for at in 0..poll.wait(TICK).map_err(|error| error.to_string())? {
            let (slot, _) = poll.ready(at);
            let cycle = &mut cycles[slot];
            if cycle
                .turn(options, &mut traffic, &close)
                .map_err(|error| format!("cycle {}: {error}", cycle.number))?
            {
                ended.push(slot);
            }
        }
        if looked.elapsed() > TICK {
            looked = Instant::now();
            for (slot, cycle) in cycles.iter().enumerate() {
                let waited = looked.saturating_duration_since(cycle.since);
                if cycle.step == Step::End && waited > LINGER && !ended.contains(&slot) {
                    figures.others += 1;
                    ended.push(slot);
                } else if waited > PATIENCE {
                    return Err(format!("cycle {}: nothing for {waited:?}", cycle.number));
                }
            }
        }
        for slot in ended {
            figures.latency.add(cycles[slot].began.elapsed());
            figures.messages += 1;
            cycles[slot] = Cycle::begin(options, &poll, slot, number)?;
            number += 1;
        }
    }
    figures.print(json!({ "connections": options.connections, "left_open": figures.others }));
    Ok(())
}
