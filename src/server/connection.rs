//! One client connection: the socket, its workers, and the lock of its state.
//!
//! Any thread may act on a connection. Its [`State`] is behind one lock, which is never held across a system
//! call: the thread that flushes takes the output out first and marks the connection as being flushed, so
//! that the order on the wire is the order of the calls. [`Locked`] is that lock and what can be done under
//! it. A thread leaves waiting for the socket to the task, by waking it.

mod attention;
mod ends;
mod input;
mod locked;
mod request;
mod sending;
mod state;
mod timeouts;

use std::io;
use std::net::{IpAddr, Shutdown};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, Waker};

use atomic_waker::AtomicWaker;
use parking_lot::{Mutex, RwLock};

pub(crate) use self::attention::Todo;
pub(crate) use self::ends::LastAnswer;
pub(crate) use self::locked::{Locked, Owed};
pub(crate) use self::request::ActiveRequest;
pub(crate) use self::state::{Closing, Multiplexed, Phase, State};

use crate::app::Responder;
use crate::http::forwarded::{self, Origin};
use crate::http::head::Head;
use crate::router::{Domains, Router};
use crate::server::Server;
use crate::server::access::Log;
use crate::server::deadlines::NEVER;
use crate::server::overload::Seat;
use crate::server::preface::ProxiedFor;
use crate::server::routing::Candidates;
use crate::server::stream::{Peer, Writing};
use crate::server::tls::Secure;

/// A payload this large goes to the kernel in place, not through the output buffer.
pub(crate) const DIRECT: usize = 16 * 1024;
/// A corked connection writes once this much has gathered: a response of many pieces does not grow in memory.
pub(crate) const CORK_LIMIT: usize = 16 * 1024;
/// Beyond this much unsent output no further pipelined request is started and `Writable` waits.
pub(crate) const HIGH_WATER: usize = 64 * 1024;

/// One client connection, shared by its task, its exchange and Python's objects.
pub(crate) struct Connection {
    pub(crate) server: Arc<Server>,
    pub(crate) id: u64,
    pub(crate) peer: Peer,
    /// The client that the peer's PROXY preface names.
    pub(crate) told: ProxiedFor,
    /// What was agreed on in the TLS handshake. None for plain text.
    pub(crate) secure: Option<Arc<Secure>>,
    /// The writing half, until the task ends: an exchange that is kept keeps no socket open. Held for reading while one
    /// call that cannot block writes. With it goes the right to have a socket open, unless somebody still works for it.
    writing: RwLock<Option<(Writing, Option<Arc<Seat>>)>>,
    /// It is a stream of HTTP/2, with one request.
    stream: bool,
    waker: AtomicWaker,
    state: Mutex<State>,
    /// The time of the sweeper's next action, in milliseconds of the server's clock.
    pub(crate) deadline: AtomicU64,
}

impl Connection {
    pub(crate) fn new(
        server: Arc<Server>,
        id: u64,
        peer: Peer,
        told: ProxiedFor,
        secure: Option<Arc<Secure>>,
        writing: Writing,
        seat: Option<Arc<Seat>>,
    ) -> Arc<Self> {
        let log = server.access.as_ref().map(Log::new);
        Arc::new(Self {
            server,
            id,
            peer,
            told,
            secure,
            stream: matches!(writing, Writing::Stream(_)),
            writing: RwLock::new(Some((writing, seat))),
            waker: AtomicWaker::new(),
            state: Mutex::new(State::new(log)),
            deadline: AtomicU64::new(NEVER),
        })
    }

    /// The socket's descriptor number.
    pub(crate) fn descriptor(&self) -> i64 {
        self.writing.read().as_ref().map_or(-1, |(writing, _)| writing.descriptor())
    }

    /// The candidate routes of a request; `domains` are those of the server.
    pub(crate) fn candidates<'a>(
        &self,
        domains: &'a Domains<Responder>,
        head: &Head,
        bytes: &'a [u8],
    ) -> Candidates<'a> {
        let routes = self.routes(domains, || head.authority(bytes));
        Candidates::new(routes, head, bytes, self.server.config.max_body_size)
    }

    /// The router for a request with this authority. A connection that was opened under a server name with a
    /// router of its own is routed there alone; `None` if that name has been removed since, even if it was
    /// registered anew: this client has not been checked against the new rules for certificates.
    ///
    /// `None` also for a stream of HTTP/2 whose authority would have selected other routes in a handshake of
    /// its own. Clients send requests for all hosts that a certificate covers over one connection (RFC 9113
    /// 9.1.1), and open another on 421.
    fn routes<'a, 'b>(
        &self,
        domains: &'a Domains<Responder>,
        authority: impl FnOnce() -> Option<&'b [u8]>,
    ) -> Option<&'a Router<Responder>> {
        let Some(secure) = &self.secure else { return Some(domains.select(authority)) };
        let Some(name) = &secure.server_name else {
            if !self.stream {
                return Some(domains.select(|| authority().filter(|host| !self.is_guarded(host))));
            }
            let host = authority();
            let guarded = host.is_some_and(|host| self.is_guarded(host));
            return (!guarded).then(|| domains.select(|| host));
        };
        let host = if self.stream { authority() } else { None };
        let certificates = self.server.config.certificates.as_ref()?;
        if certificates.stands_for(name, host) { domains.named(name) } else { None }
    }

    /// The client's address from a PROXY preface.
    pub(crate) fn proxied(&self) -> Option<IpAddr> {
        self.told.source()
    }

    /// The client's address as far as the connection knows it; `None` on a Unix socket.
    pub(crate) fn client(&self) -> Option<IpAddr> {
        self.proxied().or(self.peer.ip())
    }

    /// The client of a request with these header lines, its scheme and its host, as far as trusted proxies give them.
    pub(crate) fn origin(&self, block: &[u8]) -> Origin {
        let trust = &self.server.config.trusted_proxies;
        match &self.told {
            // It speaks for another client, whose headers these are.
            ProxiedFor::Nobody => Origin::default(),
            ProxiedFor::Nothing => forwarded::origin(block, self.peer.ip(), trust),
            ProxiedFor::Addresses(told) => forwarded::origin(block, Some(told.source.ip()), trust),
        }
    }

    /// Whether a host is only for clients that have named it in their handshake, and this one has not: the
    /// host may require a client certificate, for which this client was never asked.
    fn is_guarded(&self, host: &[u8]) -> bool {
        let names = self.server.config.certificates.as_ref().filter(|names| names.has_names());
        names.is_some_and(|names| std::str::from_utf8(host).is_ok_and(|host| names.knows(host)))
    }

    /// Whether it is a stream of HTTP/2.
    pub(crate) fn is_stream(&self) -> bool {
        self.stream
    }

    /// Waits for the client to cancel a stream.
    pub(crate) fn poll_reset(&self, context: &mut Context<'_>) -> Poll<()> {
        match &*self.writing.read() {
            Some((Writing::Stream(stream), _)) => stream.poll_reset(context),
            _ => Poll::Pending,
        }
    }

    /// Stores the waker of the task's last poll.
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Waits for the kernel to have room.
    pub(crate) fn poll_room(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &*self.writing.read() {
            Some((writing, _)) => writing.poll_ready(context),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    pub(super) fn with_socket<T>(&self, act: impl FnOnce(&Writing) -> io::Result<T>) -> io::Result<T> {
        self.writing
            .read()
            .as_ref()
            .map_or_else(|| Err(io::ErrorKind::NotConnected.into()), |(writing, _)| act(writing))
    }

    /// Ends the connection at once: the client may have less than the promised length.
    fn shut_down(&self) {
        if let Some((writing, _)) = &*self.writing.read() {
            writing.shutdown(Shutdown::Both);
        }
    }

    /// Whether the session under HTTP has output that no thread is sending.
    pub(super) fn owes(&self) -> bool {
        self.secure.is_some() && self.writing.read().as_ref().is_some_and(|(writing, _)| writing.owes())
    }

    /// Announces the end, then shuts the socket. False if that is left to the task, like waiting for room.
    pub(super) fn say_end(&self, how: Shutdown) -> bool {
        self.writing.read().as_ref().is_none_or(|(writing, _)| writing.close(how))
    }

    /// Closes the socket. The task has ended.
    pub(crate) fn release(self: &Arc<Self>) {
        let writing = self.writing.write().take();
        // A waiting `close_notify` leaves now or never.
        if let Some((writing, seat)) = writing {
            let _ = writing.try_flush();
            let mut state = self.lock();
            if let Some(socket) = &mut state.socket {
                socket.keep_seat(seat);
            }
        }
    }

    /// The right to have a socket open, while there is one.
    pub(crate) fn seat(&self) -> Option<Arc<Seat>> {
        self.writing.read().as_ref().and_then(|(_, seat)| seat.clone())
    }

    /// The number of handlers that still run for cancelled requests of this stream's client, on all its
    /// streams.
    pub(crate) fn abandoned(&self) -> usize {
        // Any other connection ends with the cancelled request.
        if !self.stream {
            return 0;
        }
        let writing = self.writing.read();
        writing.as_ref().and_then(|(_, seat)| seat.as_ref()).map_or(0, |seat| seat.abandoned())
    }

    /// Makes the task look at the state again.
    pub(crate) fn wake(&self) {
        self.waker.wake();
    }
}
