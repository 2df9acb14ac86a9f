//! The command line.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::Outcome;

const USAGE: &str = "ws-load (echo|fanout|idle|churn) --port PORT [--host ADDRESS] [--path PATH] [--connections N] \
                     [--size BYTES] [--in-flight K] [--seconds S] [--warm-up S] [--text] [--deflate]";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Echo,
    FanOut,
    Idle,
    Churn,
}

pub struct Options {
    pub mode: Mode,
    pub address: SocketAddr,
    pub path: String,
    pub connections: usize,
    pub size: usize,
    pub in_flight: usize,
    pub seconds: Duration,
    pub warm_up: Duration,
    pub text: bool,
    pub deflate: bool,
}

impl Options {
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let mode = match arguments.next().as_deref() {
            Some("echo") => Mode::Echo,
            Some("fanout") => Mode::FanOut,
            Some("idle") => Mode::Idle,
            Some("churn") => Mode::Churn,
            _ => return Err(USAGE.to_owned()),
        };
        let mut options = Self {
            mode,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            path: String::new(),
            connections: 64,
            size: if mode == Mode::FanOut { 128 } else { 32 },
            in_flight: 1,
            seconds: Duration::from_secs(3),
            warm_up: Duration::from_secs(1),
            text: false,
            deflate: false,
        };
        while let Some(name) = arguments.next() {
            match name.as_str() {
                "--text" => options.text = true,
                "--deflate" => options.deflate = true,
                _ => {
                    let value = arguments.next().ok_or_else(|| format!("{name} needs a value\n{USAGE}"))?;
                    options.set(&name, &value).ok_or_else(|| format!("no {name} {value}\n{USAGE}"))?;
                }
            }
        }
        if options.address.port() == 0 {
            return Err(format!("--port is missing\n{USAGE}"));
        }
        if options.path.is_empty() {
            let path = match mode {
                Mode::FanOut => "/topic",
                _ if options.deflate => "/deflate",
                _ => "/echo",
            };
            path.clone_into(&mut options.path);
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        let seconds = || value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let positive = || value.parse().ok().filter(|&count: &usize| count > 0);
        match name {
            "--host" => self.address.set_ip(value.parse().ok()?),
            "--port" => self.address.set_port(value.parse().ok()?),
            "--path" => value.clone_into(&mut self.path),
            "--connections" => self.connections = positive()?,
            "--size" => self.size = positive()?,
            "--in-flight" => self.in_flight = positive()?,
            "--seconds" => self.seconds = seconds()?,
            "--warm-up" => self.warm_up = seconds()?,
            _ => return None,
        }
        Some(())
    }
}
