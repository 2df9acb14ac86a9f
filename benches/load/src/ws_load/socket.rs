//! Connections to the server.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use floor::ws::{self, Head};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::Outcome;
use crate::options::Options;

/// The longest silence.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of one read.
pub const READ: usize = 256 * 1024;
/// The number of connections from one local address: it has about 28 000 ports.
const PER_ADDRESS: usize = 20_000;

/// Opens a TCP connection. `number` counts them, since there may be more than the ports of one address.
pub fn open(address: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let place = u8::try_from(1 + number / PER_ADDRESS).unwrap_or(u8::MAX);
    let stream = if place > 1 && address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &SocketAddr::from(([127, 0, 0, place], 0)))?;
        connect(&socket, &address)?;
        TcpStream::from(socket)
    } else {
        TcpStream::connect(address)?
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The request that asks for the upgrade.
pub fn request(options: &Options, key: &str) -> String {
    let offer = if options.deflate {
        "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover\r\n"
    } else {
        ""
    };
    format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n\
         Sec-WebSocket-Version: 13\r\n{offer}\r\n",
        options.path, options.address
    )
}

/// Checks the response to that request.
pub fn check(options: &Options, key: &str, head: Head<'_>) -> Outcome<()> {
    if head.second_word() != "101" {
        return Err(format!("{}: {}", options.path, head.first_line()));
    }
    if head.header("sec-websocket-accept") != Some(&ws::accept_key(key)) {
        return Err(format!("{}: Sec-WebSocket-Accept is wrong", options.path));
    }
    let agreed = head.header("sec-websocket-extensions");
    let due = |word: &str| agreed.is_some_and(|text| text.split(';').any(|part| part.trim() == word));
    match (options.deflate, agreed) {
        (false, None) => Ok(()),
        (false, Some(extension)) => Err(format!("an extension nobody has offered: {extension}")),
        (true, _) if due("permessage-deflate") && due("server_no_context_takeover") => Ok(()),
        (true, _) => {
            Err(format!("permessage-deflate as offered is refused: {}", agreed.unwrap_or("no extension")))
        }
    }
}

/// Opens a WebSocket, and waits until it is open.
pub fn connect_and_upgrade(options: &Options, number: usize) -> Outcome<TcpStream> {
    let failed = |error: io::Error| format!("connection {number}: {error}");
    let mut stream = open(options.address, number).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let key = ws::key(number as u64);
    stream.write_all(request(options, &key).as_bytes()).map_err(failed)?;
    let mut received = Vec::new();
    let mut piece = [0; 1024];
    let head = loop {
        let count = stream.read(&mut piece).map_err(failed)?;
        if count == 0 {
            return Err(format!("connection {number}: closed during the handshake"));
        }
        received.extend_from_slice(&piece[..count]);
        if let Some(head) = Head::find(&received) {
            break head;
        }
    };
    check(options, &key, head)?;
    if head.length != received.len() {
        return Err(format!("connection {number}: frames before anything was sent"));
    }
    Ok(stream)
}

/// Opens all of them.
pub fn connect_all(options: &Options) -> Outcome<Vec<TcpStream>> {
    (0..options.connections).map(|number| connect_and_upgrade(options, number)).collect()
}

/// Waits for sockets, which it knows by their number.
pub struct Poll {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poll {
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, events: Vec::with_capacity(1024) })
    }

    /// Begins to watch a socket, which is non-blocking from now on.
    pub fn add(&self, stream: &TcpStream, number: usize) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        Ok(epoll::add(&self.epoll, stream, EventData::new_u64(number as u64), EventFlags::IN)?)
    }

    /// Sets whether to wait for room as well.
    pub fn wait_for_room(&self, stream: &TcpStream, number: usize, wanted: bool) -> io::Result<()> {
        let flags = if wanted { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        Ok(epoll::modify(&self.epoll, stream, EventData::new_u64(number as u64), flags)?)
    }

    /// Waits until something is ready or the time is over.
    pub fn wait(&mut self, time: Duration) -> io::Result<usize> {
        self.events.clear();
        let time = Timespec::try_from(time).map_err(io::Error::other)?;
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&time)) {
            Ok(count) => Ok(count),
            Err(rustix::io::Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// A ready socket: its number, and whether there is room.
    pub fn ready(&self, at: usize) -> (usize, bool) {
        let event = self.events[at];
        let flags = event.flags;
        (usize::try_from(event.data.u64()).unwrap_or(usize::MAX), flags.contains(EventFlags::OUT))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn more_connections_than_ports_come_from_more_addresses() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        for (number, due) in [(0, 1), (PER_ADDRESS - 1, 1), (PER_ADDRESS, 2), (3 * PER_ADDRESS, 4)] {
            let stream = open(address, number).expect("somebody listens");
            let local = stream.local_addr().expect("it is connected").ip();
            assert_eq!(local, IpAddr::V4(Ipv4Addr::new(127, 0, 0, due)));
        }
    }
}
