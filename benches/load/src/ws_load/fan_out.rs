//! One connection publishes and all of them, itself included, must receive.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Outcome;
use crate::echo::{Line, lines};
use crate::options::Options;
use crate::report::Figures;
use crate::socket::{PATIENCE, Poll, READ};
use crate::traffic::Traffic;

/// The time that a server may need after its last handshake until all are subscribed.
const SETTLING: Duration = Duration::from_millis(500);

/// A message that some subscribers have not received.
struct Publish {
    sent_at: Instant,
    received: usize,
}

pub fn run(options: &Options) -> Outcome<Vec<Line>> {
    let mut traffic = Traffic::new(options);
    let mut poll = Poll::new().map_err(|error| error.to_string())?;
    let mut lines = lines(options, &poll, false)?;
    thread::sleep(SETTLING);
    let mut figures = Figures::new(options);
    let mut scratch = vec![0; READ];
    let mut under_way: VecDeque<Publish> = VecDeque::new();
    // The number of complete publishes, and the number of messages of each connection.
    let mut complete = 0;
    let mut received = vec![0; lines.len()];
    let mut due = options.in_flight;
    loop {
        if due > 0 {
            let now = Instant::now();
            under_way.extend((0..due).map(|_| Publish { sent_at: now, received: 0 }));
            lines[0].sending.queued += std::mem::take(&mut due);
            lines[0].send(&traffic, &poll, 0)?;
        }
        if figures.is_over() {
            break;
        }
        let count = poll.wait(PATIENCE).map_err(|error| error.to_string())?;
        if count == 0 {
            let most = under_way.front().map_or(0, |publish| publish.received);
            return Err(format!("{most} of {} have received a message after {PATIENCE:?}", lines.len()));
        }
        for at in 0..count {
            let (number, has_room) = poll.ready(at);
            if has_room {
                lines[number].send(&traffic, &poll, number)?;
            }
            let messages = lines[number].receive(&mut traffic, &mut scratch)?;
            for _ in 0..messages {
                let publish = under_way
                    .get_mut(received[number] - complete)
                    .ok_or("more has been received than was published")?;
                publish.received += 1;
                received[number] += 1;
            }
            figures.messages += messages as u64;
            while under_way.front().is_some_and(|publish| publish.received == lines.len()) {
                if let Some(publish) = under_way.pop_front() {
                    figures.latency.add(publish.sent_at.elapsed());
                }
                complete += 1;
                figures.others += 1;
                due += 1;
            }
        }
    }
    figures.print(json!({ "connections": options.connections, "publishes": figures.others }));
    Ok(lines)
}
