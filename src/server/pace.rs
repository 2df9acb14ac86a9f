//! The time that a client has let the server wait, and the bytes that pay for it.
//!
//! Time spent waiting for a client is a debt. Each byte that it moves pays for `1 / min_rate` seconds of it,
//! and each second without waiting pays for a second. A client whose debt reaches the timeout is late. So a
//! silent client is late after the timeout, one that keeps the rate never is, and a slower one is late a
//! little later than a silent one. Paying in advance is impossible: a burst buys no more than the timeout.

use std::time::Duration;

/// The awaited action of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To send more of a body.
    Body,
    /// To read the output.
    Room,
}

/// The debts of one client. All zero: it owes nothing.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    waits: Option<Way>,
    /// In microseconds.
    body: u64,
    room: u64,
    /// The times of the last settlement of the debts, and of the client's last bytes, in milliseconds of the
    /// server's clock.
    since: u64,
    heard: u64,
    /// Bytes that have moved, and the number of settled ones.
    total: u64,
    settled: u64,
}

impl Pace {
    /// Whether the server waits for the client.
    pub(crate) fn is_running(&self) -> bool {
        self.waits.is_some()
    }

    /// The client has moved `count` bytes. They count if the server waits for this direction.
    pub(crate) fn moved(&mut self, way: Way, count: u64) {
        if self.waits == Some(way) {
            self.total += count;
        }
    }

    /// The number of bytes moved since the connection began.
    pub(crate) fn reached(&mut self, total: u64) {
        self.total = total;
    }

    /// Another body begins: the debt of the last one is cleared.
    pub(crate) fn begin_body(&mut self) {
        self.body = 0;
    }

    /// The client has read all buffered output.
    pub(crate) fn took_all(&mut self) {
        self.room = 0;
    }

    fn debt(&mut self, way: Way) -> &mut u64 {
        match way {
            Way::Body => &mut self.body,
            Way::Room => &mut self.room,
        }
    }

    fn settle(&mut self, rate: u32, now: u64) {
        let passed = now.saturating_sub(self.since).saturating_mul(1000);
        let paid = self.total.saturating_sub(self.settled).saturating_mul(1_000_000) / u64::from(rate.max(1));
        for way in [Way::Body, Way::Room] {
            let waits = self.waits;
            let debt = self.debt(way);
            *debt = match waits {
                Some(waits) if waits == way => debt.saturating_add(passed).saturating_sub(paid),
                Some(_) => debt.saturating_sub(passed),
                None => debt.saturating_sub(passed).saturating_sub(paid),
            };
        }
        (self.since, self.settled) = (now, self.total);
    }

    /// From now on the server waits for the client in this direction, or in none.
    pub(crate) fn begin(&mut self, way: Option<Way>, rate: u32, now: u64) {
        self.settle(rate, now);
        (self.waits, self.heard) = (way, now);
    }

    /// The time at which it is late if nothing more moves; `limit` is the largest debt.
    pub(crate) fn due(&mut self, rate: u32, limit: Duration, now: u64) -> u64 {
        self.settle(rate, now);
        let Some(way) = self.waits else { return now };
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let left = limit.saturating_sub(*self.debt(way) / 1000);
        now.saturating_add(left).min(self.heard.saturating_add(limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 100;
    const LIMIT: Duration = Duration::from_secs(10);

    fn waiting(way: Way) -> Pace {
        let mut pace = Pace::default();
        pace.begin(Some(way), RATE, 1000);
        pace
    }

    #[test]
    fn silence_has_the_whole_limit() {
        assert_eq!(waiting(Way::Body).due(RATE, LIMIT, 1000), 11_000);
        assert_eq!(waiting(Way::Room).due(RATE, LIMIT, 9000), 11_000);
    }

    #[test]
    fn a_byte_buys_its_share_of_a_second() {
        let mut pace = waiting(Way::Body);
        for second in 2..=10 {
            pace.moved(Way::Body, 1);
            pace.begin(Some(Way::Body), RATE, second * 1000);
        }
        // Nine bytes: 90 ms.
        assert_eq!(pace.due(RATE, LIMIT, 10_000), 11_090);
    }

    #[test]
    fn who_keeps_the_rate_is_never_late_and_saves_nothing() {
        let mut pace = waiting(Way::Room);
        for second in 2..1000 {
            pace.moved(Way::Room, 100);
            pace.begin(Some(Way::Room), RATE, second * 1000);
            assert_eq!(pace.due(RATE, LIMIT, second * 1000), second * 1000 + 10_000);
        }
        pace.moved(Way::Room, 1_000_000);
        pace.begin(Some(Way::Room), RATE, 1_000_000);
        assert_eq!(pace.due(RATE, LIMIT, 1_000_000), 1_010_000);
    }

    #[test]
    fn each_way_has_a_debt_of_its_own() {
        let mut pace = waiting(Way::Body);
        // Bytes in the other direction pay for nothing.
        pace.moved(Way::Room, 1_000_000);
        pace.begin(Some(Way::Room), RATE, 6000);
        assert_eq!(pace.due(RATE, LIMIT, 6000), 16_000);
        // Meanwhile the server does not wait for the body, and its debt of 5 s shrinks.
        pace.begin(Some(Way::Body), RATE, 8000);
        assert_eq!(pace.due(RATE, LIMIT, 8000), 15_000);
        pace.begin(None, RATE, 8000);
        pace.begin(Some(Way::Body), RATE, 18_000);
        assert_eq!(pace.due(RATE, LIMIT, 18_000), 28_000);
    }

    #[test]
    fn others_pay_for_the_rate_and_not_for_silence() {
        let mut pace = waiting(Way::Room);
        pace.reached(1_000_000);
        assert_eq!(pace.due(RATE, LIMIT, 6000), 11_000);
        pace.begin(Some(Way::Room), RATE, 6000);
        assert_eq!(pace.due(RATE, LIMIT, 6000), 16_000);
    }
}
