//! `floor-ws`: WebSocket echo and fan-out with no Python and no safety.
//!
//! The reference of the WebSocket works. The handshake is correct, and after it nothing is checked: no UTF-8,
//! no reserved bits, no masks, no limits, no timers, no compression. It parses all bytes of a read at once,
//! and sends the results with one write a socket.
//!
//! `--on epoll` is the least that a server can do: system calls and nothing else. `--on tokio` is the same in
//! the shape of this project: a task a connection on tokio's runtime of one thread.
//!
//! `/topic` sends every message to every connection on that path; any other path echoes.

mod epoll;
mod on_tokio;
mod session;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};

/// The largest queue of connections not yet accepted, for the works that open thousands at once.
const BACKLOG: i32 = 4096;

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn run() -> Result<(), String> {
    let mut address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut serve: fn(TcpListener) -> io::Result<()> = epoll::serve;
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let refused = || format!("{name} cannot be {value:?}");
        match (name.as_str(), value.as_str()) {
            ("--host", host) => address.set_ip(host.parse().map_err(|_| refused())?),
            ("--port", port) => address.set_port(port.parse().map_err(|_| refused())?),
            ("--on", "epoll") => serve = epoll::serve,
            ("--on", "tokio") => serve = on_tokio::serve,
            ("--on", _) => return Err(refused()),
            _ => return Err(format!("unknown option {name}")),
        }
    }
    let listener = listener(address).map_err(|error| format!("{address}: {error}"))?;
    let bound = listener.local_addr().map_err(|error| error.to_string())?;
    println!("READY {}", bound.port());
    // It does not matter whether the line is read.
    let _ = io::stdout().flush();
    serve(listener).map_err(|error| error.to_string())
}

fn main() -> io::Result<()> {
    run().map_err(io::Error::other)
}
