//! Latencies, in buckets that are never wider than 1 % of their values.

use std::time::Duration;

/// Steps between one power of two and the next.
const STEPS: usize = 128;
/// Up to 2^38 ns, more than four minutes.
const POWERS: usize = 32;

pub struct Latency {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: vec![0; STEPS * POWERS], count: 0 }
    }
}

impl Latency {
    pub fn clear(&mut self) {
        self.buckets.fill(0);
        self.count = 0;
    }

    pub fn add(&mut self, time: Duration) {
        let nanos = usize::try_from(time.as_nanos()).unwrap_or(usize::MAX);
        // Below the first power every nanosecond has its bucket; above it, each power is cut into equal steps.
        let power = (nanos / STEPS).checked_ilog2().map_or(0, |log| log as usize + 1);
        let bucket = if power == 0 { nanos } else { power * STEPS + (nanos >> (power - 1)) - STEPS };
        self.buckets[bucket.min(STEPS * POWERS - 1)] += 1;
        self.count += 1;
    }

    /// This quantile of all times, in microseconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn quantile(&self, part: f64) -> f64 {
        let wanted = (self.count as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted.max(1) {
                let (power, step) = (bucket / STEPS, bucket % STEPS);
                let nanos = if power == 0 { step } else { (step + STEPS) << (power - 1) };
                return nanos as f64 / 1e3;
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_hundredth() {
        let mut latency = Latency::default();
        for micros in 1..=10_000 {
            latency.add(Duration::from_micros(micros));
        }
        for (part, due) in [(0.0001, 1.0), (0.5, 5_000.0), (0.99, 9_900.0), (1.0, 10_000.0)] {
            let found = latency.quantile(part);
            assert!((found - due).abs() <= due / 100.0, "{found} where {due} was due");
        }
    }
}
