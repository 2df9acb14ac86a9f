//! The timers of a socket: silence and lifetime. A message costs its timers one store: the sweeper does the
//! rest.

use std::time::Duration;

use crate::config::SocketConfig;
use crate::server::deadlines::NEVER;

/// The most milliseconds that a timer may be late, so that many sockets share a sweep.
const GRAIN: u64 = 4000;
/// Longest delay of a socket's end for earlier messages.
const LINGER: Duration = Duration::from_secs(2);

/// When the sweeper has to look at a socket, in milliseconds of the server's clock.
#[derive(Debug)]
pub(super) struct Timers {
    pub(super) idle: u64,
    pub(super) life: u64,
    /// A ping was sent, and nothing has arrived since.
    pub(super) pinged: bool,
}

impl Timers {
    pub(super) fn new(config: &SocketConfig, now: u64) -> Self {
        let life = if config.max_lifetime.is_zero() { NEVER } else { after(now, config.max_lifetime) };
        let mut timers = Self { idle: NEVER, life, pinged: false };
        timers.hear(config, now);
        timers
    }

    /// Those of a socket whose end is deferred by at most [`LINGER`].
    pub(super) fn of_an_end(now: u64) -> Self {
        Self { idle: NEVER, life: after(now, LINGER), pinged: false }
    }

    pub(super) fn due(&self) -> u64 {
        self.idle.min(self.life)
    }

    /// Bytes have arrived.
    pub(super) fn hear(&mut self, config: &SocketConfig, now: u64) {
        self.pinged = false;
        if !config.idle_timeout.is_zero() {
            let silence = if config.send_pings_automatically {
                config.idle_timeout.saturating_sub(margin(config.idle_timeout))
            } else {
                config.idle_timeout
            };
            self.idle = after(now, silence);
        }
    }

    /// A ping has been sent: the rest of the idle timeout is for its pong.
    pub(super) fn ping(&mut self, config: &SocketConfig, now: u64) {
        self.pinged = true;
        self.idle = after(now, margin(config.idle_timeout));
    }
}

/// `after` from `now`, rounded up so that many sockets fall due together: by no more than a sixteenth.
fn after(now: u64, after: Duration) -> u64 {
    let after = u64::try_from(after.as_millis()).unwrap_or(NEVER);
    let grain = (after / 16).clamp(1, GRAIN);
    now.saturating_add(after).checked_next_multiple_of(grain).unwrap_or(NEVER - 1).min(NEVER - 1)
}

/// How long before the idle timeout a ping is sent (C-F-06): 4 s, doubled up to 16 while a quarter of the timeout allows.
fn margin(idle_timeout: Duration) -> Duration {
    let mut margin = Duration::from_secs(4);
    while margin < Duration::from_secs(16) && idle_timeout >= 4 * margin {
        margin *= 2;
    }
    margin.min(idle_timeout / 2)
}
