//! A task that never suspends is made to give the loop a turn now and then, so that it does not hold up the others.

use std::time::{Duration, Instant};

/// Bytes that may be moved without a turn of the loop.
const BYTES: usize = 1024 * 1024;
/// The same for time.
const TIME: Duration = Duration::from_millis(10);

/// What has been moved since the loop's last turn.
#[derive(Default)]
pub(super) struct Burst {
    turn: u64,
    bytes: usize,
    since: Option<Instant>,
}

impl Burst {
    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Whether it is time for a turn of the loop, whose present one is number `turn`. Then a new burst begins.
    pub(super) fn is_long(&mut self, turn: u64) -> bool {
        let Some(since) = self.since.filter(|_| self.turn == turn) else {
            *self = Self { turn, bytes: 0, since: Some(Instant::now()) };
            return false;
        };
        let long = self.bytes >= BYTES || since.elapsed() >= TIME;
        if long {
            self.since = None;
        }
        long
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_one_turn_are_bounded() {
        let mut burst = Burst::default();
        assert!(!burst.is_long(1));
        burst.add(BYTES);
        assert!(burst.is_long(1));
        assert!(!burst.is_long(1));
        burst.add(BYTES);
        assert!(!burst.is_long(2), "another turn has come by itself");
    }
}
