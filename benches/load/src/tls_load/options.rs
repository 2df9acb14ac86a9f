//! The command line.

use std::net::{Ipv4Addr, SocketAddr};

use crate::Outcome;

const USAGE: &str = "tls-load (handshake|idle) --port PORT [--host ADDRESS] [--count N] [--at-once N] [--warm-up N] \
                     [--resume]";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Handshake,
    Idle,
}

pub struct Options {
    pub mode: Mode,
    pub address: SocketAddr,
    /// The number of connections in all.
    pub count: usize,
    /// The number of connections that are made at a time.
    pub at_once: usize,
    /// The number of connections before the measurement.
    pub warm_up: usize,
    /// Whether a connection resumes the session of the one before.
    pub resume: bool,
}

impl Options {
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let mode = match arguments.next().as_deref() {
            Some("handshake") => Mode::Handshake,
            Some("idle") => Mode::Idle,
            _ => return Err(USAGE.to_owned()),
        };
        let mut options = Self {
            mode,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            count: 10_000,
            at_once: 16,
            warm_up: 200,
            resume: false,
        };
        while let Some(name) = arguments.next() {
            if name == "--resume" {
                options.resume = true;
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value\n{USAGE}"))?;
            options.set(&name, &value).ok_or_else(|| format!("no {name} {value}\n{USAGE}"))?;
        }
        if options.address.port() == 0 {
            return Err(format!("--port is missing\n{USAGE}"));
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        let positive = || value.parse().ok().filter(|&count: &usize| count > 0);
        match name {
            "--host" => self.address.set_ip(value.parse().ok()?),
            "--port" => self.address.set_port(value.parse().ok()?),
            "--count" => self.count = positive()?,
            "--at-once" => self.at_once = positive()?,
            "--warm-up" => self.warm_up = value.parse().ok()?,
            _ => return None,
        }
        Some(())
    }
}
