//! Whether a logger reads the faults of connections: its level may change while the server runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often Python is asked again after a negative reply.
const AGAIN: Duration = Duration::from_secs(1);

/// Whether there are readers, by Python's last reply.
#[derive(Default)]
pub(crate) struct Readers {
    there: AtomicBool,
    asked: Mutex<Option<Instant>>,
}

impl Readers {
    /// Stores Python's reply, which each note returns.
    pub(crate) fn are_there(&self, there: bool) {
        self.there.store(there, Ordering::Relaxed);
    }

    /// Whether to pass a note on. Without readers, one a second is still passed on, to ask Python again.
    pub(crate) fn may_be_there(&self) -> bool {
        self.there.load(Ordering::Relaxed) || self.is_due(Instant::now())
    }

    fn is_due(&self, now: Instant) -> bool {
        let mut asked = self.asked.lock();
        let due = asked.is_none_or(|asked| now.saturating_duration_since(asked) >= AGAIN);
        if due {
            *asked = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asked_once_a_second() {
        let (readers, now) = (Readers::default(), Instant::now());
        assert!(readers.is_due(now));
        assert!(!readers.is_due(now + AGAIN / 2));
        assert!(readers.is_due(now + AGAIN));
        readers.are_there(true);
        assert!(readers.may_be_there() && readers.may_be_there());
    }
}
