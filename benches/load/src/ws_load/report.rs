//! The time of the measurement, and the line with its result.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use floor::latency::Latency;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::options::Options;

/// The CPU time that this process has used, in seconds.
fn cpu_seconds() -> f64 {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default().as_secs_f64()
}

/// Prints a line at once.
pub fn say(line: impl std::fmt::Display) {
    println!("{line}");
    // If nobody reads any more, only the figures are lost.
    let _ = io::stdout().flush();
}

/// The warm-up, and the measurement after it.
pub struct Figures {
    begin: Instant,
    end: Instant,
    seconds: Duration,
    measuring: bool,
    cpu: f64,
    pub messages: u64,
    /// A mode's own count: complete publishes, or connections that stayed open.
    pub others: u64,
    pub latency: Latency,
}

impl Figures {
    pub fn new(options: &Options) -> Self {
        let begin = Instant::now() + options.warm_up;
        Self {
            begin,
            end: begin + options.seconds,
            seconds: options.seconds,
            measuring: false,
            cpu: 0.0,
            messages: 0,
            others: 0,
            latency: Latency::default(),
        }
    }

    /// Begins the measurement in time; true when it is over.
    pub fn is_over(&mut self) -> bool {
        let now = Instant::now();
        if !self.measuring && now >= self.begin {
            self.measuring = true;
            self.messages = 0;
            self.others = 0;
            self.latency.clear();
            say("MEASURING");
            self.cpu = cpu_seconds();
            self.begin = Instant::now();
            self.end = self.begin + self.seconds;
        }
        self.measuring && now >= self.end
    }

    /// Prints the result, with this mode's own values.
    #[expect(clippy::cast_precision_loss, reason = "nobody sends 2^53 messages")]
    pub fn print(&self, more: Value) {
        let seconds = self.begin.elapsed().as_secs_f64();
        let mut line = json!({
            "messages": self.messages,
            "seconds": seconds,
            "messages_per_second": self.messages as f64 / seconds,
            "p50_us": self.latency.quantile(0.5),
            "p99_us": self.latency.quantile(0.99),
            "errors": 0,
            "client_cpu_seconds": cpu_seconds() - self.cpu,
        });
        if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
            line.extend(more);
        }
        say(line);
    }
}
