//! The lowest floor: one thread, epoll, and the fewest possible system calls.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::session::{READ, Session};

struct Connection {
    stream: TcpStream,
    session: Session,
    /// Whether epoll was asked to report room.
    waits_for_room: bool,
}

struct Server {
    epoll: OwnedFd,
    listener: TcpListener,
    /// By file descriptor.
    connections: Vec<Option<Connection>>,
    scratch: Box<[u8]>,
    answers: Vec<u8>,
    topic: Vec<u8>,
}

pub fn serve(listener: TcpListener) -> io::Result<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, data_of(&listener), EventFlags::IN)?;
    let mut server = Server {
        epoll,
        listener,
        connections: Vec::new(),
        scratch: vec![0; READ].into_boxed_slice(),
        answers: Vec::new(),
        topic: Vec::new(),
    };
    let listening = data_of(&server.listener).u64();
    let mut events = Vec::<Event>::with_capacity(1024);
    loop {
        events.clear();
        epoll::wait(&server.epoll, spare_capacity(&mut events), None)?;
        for event in &events {
            let at = event.data.u64();
            if at == listening {
                server.accept()?;
            } else {
                server.turn(usize::try_from(at).unwrap_or_default(), event.flags);
            }
        }
        server.publish();
    }
}

fn data_of(socket: &impl AsRawFd) -> EventData {
    EventData::new_u64(u64::try_from(socket.as_raw_fd()).unwrap_or_default())
}

impl Server {
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The client has already gone: the listener is fine.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let data = data_of(&stream);
            epoll::add(&self.epoll, &stream, data, EventFlags::IN)?;
            let at = usize::try_from(data.u64()).unwrap_or_default();
            if self.connections.len() <= at {
                self.connections.resize_with(at + 1, || None);
            }
            self.connections[at] =
                Some(Connection { stream, session: Session::new(), waits_for_room: false });
        }
    }

    /// Reads and writes a ready socket, and closes it at its end.
    fn turn(&mut self, at: usize, flags: EventFlags) {
        let Some(connection) = self.connections[at].as_mut() else { return };
        let mut alive = true;
        if flags.contains(EventFlags::OUT) {
            let stream = &mut connection.stream;
            alive = connection.session.send_rest(|bytes| stream.write(bytes)).is_ok();
        }
        if alive && flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            alive = connection.read(&mut self.scratch, &mut self.answers, &mut self.topic).is_ok();
        }
        if !alive || connection.settle(&self.epoll).is_err() {
            self.connections[at] = None;
        }
    }

    /// Sends every subscriber the messages that all reads of this iteration have published.
    fn publish(&mut self) {
        if self.topic.is_empty() {
            return;
        }
        for slot in &mut self.connections {
            let Some(connection) = slot else { continue };
            if connection.session.is_subscribed() {
                let stream = &mut connection.stream;
                let sent = connection.session.send(&self.topic, |bytes| stream.write(bytes));
                if sent.is_err() || connection.settle(&self.epoll).is_err() {
                    *slot = None;
                }
            }
        }
        self.topic.clear();
    }
}

impl Connection {
    fn read(&mut self, scratch: &mut [u8], answers: &mut Vec<u8>, topic: &mut Vec<u8>) -> io::Result<()> {
        let received = if self.session.rest.is_empty() {
            match self.stream.read(scratch) {
                Ok(received) => {
                    self.session.receive(&scratch[..received], answers, topic);
                    received
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        } else {
            self.session.rest.reserve(READ);
            let received = match rustix::io::read(&self.stream, spare_capacity(&mut self.session.rest)) {
                Ok(received) => received,
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            self.session.receive_rest(answers, topic);
            received
        };
        if received == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let stream = &mut self.stream;
        let sent = self.session.send(answers, |bytes| stream.write(bytes));
        answers.clear();
        sent
    }

    /// Updates epoll's events if they have changed. Fails if the connection has to end.
    fn settle(&mut self, epoll: &OwnedFd) -> io::Result<()> {
        let waits = self.session.has_unsent();
        if !waits && self.session.ending {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if waits != self.waits_for_room {
            self.waits_for_room = waits;
            let flags = if waits { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            epoll::modify(epoll, &self.stream, data_of(&self.stream), flags)?;
        }
        Ok(())
    }
}
