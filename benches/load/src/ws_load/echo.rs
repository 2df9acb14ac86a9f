//! Every connection keeps a number of messages in flight, and each must come back unchanged.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use serde_json::json;

use crate::Outcome;
use crate::options::Options;
use crate::report::Figures;
use crate::socket::{PATIENCE, Poll, READ, connect_all};
use crate::traffic::{Receiving, Sending, Traffic};

/// A connection and its messages in flight.
pub struct Line {
    stream: TcpStream,
    pub sending: Sending,
    receiving: Receiving,
    waits_for_room: bool,
}

impl Line {
    pub fn new(stream: TcpStream, start: usize) -> Self {
        Self {
            stream,
            sending: Sending::starting_at(start),
            receiving: Receiving::starting_at(start),
            waits_for_room: false,
        }
    }

    /// Reads once and counts the messages that are complete.
    pub fn receive(&mut self, traffic: &mut Traffic, scratch: &mut [u8]) -> Outcome<usize> {
        match self.stream.read(scratch) {
            Ok(0) => Err("the server has closed a connection".to_owned()),
            Ok(count) => traffic.receive(&mut self.receiving, &scratch[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Sends what is queued, as far as there is room.
    pub fn send(&mut self, traffic: &Traffic, poll: &Poll, number: usize) -> Outcome<()> {
        let mut full = false;
        while self.sending.queued > 0 && !full {
            match self.stream.write(traffic.to_send(&self.sending)) {
                Ok(count) => traffic.has_sent(&mut self.sending, count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => full = true,
                Err(error) => return Err(error.to_string()),
            }
        }
        if full != self.waits_for_room {
            self.waits_for_room = full;
            poll.wait_for_room(&self.stream, number, full).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// Opens all connections, ready to be polled. Each begins with another message if they should differ.
pub fn lines(options: &Options, poll: &Poll, differ: bool) -> Outcome<Vec<Line>> {
    let mut lines = Vec::with_capacity(options.connections);
    for (number, stream) in connect_all(options)?.into_iter().enumerate() {
        poll.add(&stream, number).map_err(|error| error.to_string())?;
        lines.push(Line::new(stream, if differ { number } else { 0 }));
    }
    Ok(lines)
}

pub fn run(options: &Options) -> Outcome<Vec<Line>> {
    let mut traffic = Traffic::new(options);
    let mut poll = Poll::new().map_err(|error| error.to_string())?;
    let mut lines = lines(options, &poll, true)?;
    let mut sent_at: Vec<VecDeque<Instant>> = Vec::with_capacity(lines.len());
    let mut scratch = vec![0; READ];
    let mut figures = Figures::new(options);
    for (number, line) in lines.iter_mut().enumerate() {
        sent_at.push(VecDeque::from(vec![Instant::now(); options.in_flight]));
        line.sending.queued = options.in_flight;
        line.send(&traffic, &poll, number)?;
    }
    while !figures.is_over() {
        let count = poll.wait(PATIENCE).map_err(|error| error.to_string())?;
        if count == 0 {
            return Err(format!("nothing has come back for {PATIENCE:?}"));
        }
        for at in 0..count {
            let (number, has_room) = poll.ready(at);
            let line = &mut lines[number];
            let messages = line.receive(&mut traffic, &mut scratch)?;
            if messages > 0 {
                let now = Instant::now();
                let times = &mut sent_at[number];
                if messages > times.len() {
                    return Err("more has come back than was sent".to_owned());
                }
                for time in times.drain(..messages) {
                    figures.latency.add(now - time);
                }
                times.extend(std::iter::repeat_n(now, messages));
                figures.messages += messages as u64;
                line.sending.queued += messages;
            }
            if messages > 0 || has_room {
                line.send(&traffic, &poll, number)?;
            }
        }
    }
    figures.print(json!({ "connections": options.connections }));
    if let Some(late) = sent_at.iter().filter_map(VecDeque::front).map(Instant::elapsed).max()
        && late > PATIENCE
    {
        return Err(format!("a message has not come back for {late:?}"));
    }
    Ok(lines)
}
