//! The budget for frames that cost work and carry nothing: SETTINGS, PING, PRIORITY, `WINDOW_UPDATE`,
//! `RST_STREAM` and those of unknown kinds.
//!
//! Each costs a credit. Requests and sent data return some, since clients that read data return windows; time
//! returns some too. `h2` does not report such frames, so they are counted where bytes pass: the nine bytes
//! of each frame header are examined.

use crate::server::deadlines::Deadlines;
use crate::server::http2::PREFACE;

/// Credits that a client has at most.
const MOST: u32 = 10_000;
/// Credits for a second.
const EACH_SECOND: u64 = 500;
/// Credits for a request, and for a sent frame of data: usual clients reply to one with two `WINDOW_UPDATE`.
const EARNED: u32 = 4;
/// Bytes in front of the payload of a frame (RFC 9113 section 4.1).
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// Finds the frames in the bytes of one direction.
#[derive(Default)]
struct Frames {
    /// Bytes up to the next head.
    skip: usize,
    /// The received part of the next head.
    head: [u8; HEAD],
    have: usize,
}

impl Frames {
    /// Calls `note` with the kind of each frame whose head ends in `bytes`.
    fn feed(&mut self, mut bytes: &[u8], mut note: impl FnMut(u8)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let count = (HEAD - self.have).min(bytes.len());
            self.head[self.have..self.have + count].copy_from_slice(&bytes[..count]);
            self.have += count;
            bytes = &bytes[count..];
            if self.have < HEAD {
                return;
            }
            let [high, middle, low, kind, ..] = self.head;
            self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            self.have = 0;
            note(kind);
        }
    }
}

/// Counts the frames of a connection.
pub(super) struct Meter {
    received: Frames,
    sent: Frames,
    credit: u32,
    /// The time up to which credits were given, in milliseconds of the server's clock.
    since: u64,
}

impl Meter {
    pub(super) fn new(deadlines: &Deadlines) -> Self {
        let received = Frames { skip: PREFACE.len(), ..Frames::default() };
        Self { received, sent: Frames::default(), credit: MOST, since: deadlines.now() }
    }

    /// The client has sent these bytes. False if the budget is exceeded.
    pub(super) fn received(&mut self, bytes: &[u8], deadlines: &Deadlines) -> bool {
        let mut costs = 0_u32;
        let mut earned = 0_u32;
        self.received.feed(bytes, |kind| match kind {
            HEADERS => earned += EARNED,
            DATA | CONTINUATION => {}
            _ => costs += 1,
        });
        self.earn(earned);
        if costs > self.credit {
            // The clock is read only now.
            let now = deadlines.now();
            let gained = now.saturating_sub(self.since).saturating_mul(EACH_SECOND) / 1000;
            if gained > 0 {
                self.since = now;
                self.earn(u32::try_from(gained).unwrap_or(MOST));
            }
        }
        let enough = costs <= self.credit;
        self.credit = self.credit.saturating_sub(costs);
        enough
    }

    /// These bytes were sent to the client.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        let mut earned = 0_u32;
        self.sent.feed(bytes, |kind| earned += if kind == DATA { EARNED } else { 0 });
        self.earn(earned);
    }

    fn earn(&mut self, credit: u32) {
        self.credit = self.credit.saturating_add(credit).min(MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, 0, 0, 0, 0, 0];
        frame.resize(HEAD + usize::from(length), 0xff);
        frame
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let bytes: Vec<u8> = [(1, 30), (0, 0), (PING, 8), (9, 200), (0, 1)]
            .iter()
            .flat_map(|&(kind, length)| frame(kind, length))
            .collect();
        for size in 1..=bytes.len() {
            let mut frames = Frames::default();
            let mut kinds = Vec::new();
            for piece in bytes.chunks(size) {
                frames.feed(piece, |kind| kinds.push(kind));
            }
            assert_eq!(kinds, [1, 0, PING, 9, 0], "in pieces of {size}");
        }
    }

    #[test]
    fn requests_and_data_earn_what_pings_cost() {
        let deadlines = Deadlines::new();
        let mut meter = Meter::new(&deadlines);
        assert!(meter.received(PREFACE, &deadlines));
        let pings = frame(PING, 8).repeat(4);
        for _ in 0..MOST {
            assert!(meter.received(&[frame(HEADERS, 10), pings.clone()].concat(), &deadlines));
            meter.sent(&frame(DATA, 10));
            assert!(meter.received(&pings, &deadlines));
        }
        assert!(!meter.received(&frame(PING, 8).repeat(MOST as usize + 5000), &deadlines));
    }
}
