//! One request and its response, for user code: valid while it is referenced.
//!
//! Reading the request never fails. The response may be used from any thread and at any time; once the
//! exchange is over (answered, aborted, or replaced by the next request) every call is a no-op that reports
//! it.

mod answer;
mod body;
mod encoding;
mod interim;
mod passing;
mod prepared;
mod response_head;
mod upgrade;

use std::any::Any;
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

pub use self::body::{Demand, Pull};
pub use self::passing::Next;

use crate::app::Signal;
use crate::http::forwarded::Origin;
use crate::http::head::{self, Head, HeaderLines};
use crate::server::connection::Connection;
use crate::server::overload::{Seat, Slot};
use crate::server::preface::ProxiedFor;
use crate::server::routing::Stop;
use crate::server::stream::Peer;
use crate::server::tls::Secure;

/// A request that cannot be upgraded: its handler is not the upgrade handler of a WebSocket route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("only the upgrade handler of a WebSocket route can upgrade")]
pub struct NotAHandshake;

/// The end of a connection on this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local<'a> {
    /// The address and port at which it was accepted; `None` if the client had gone before they were asked for.
    Tcp(Option<SocketAddr>),
    /// The path of the Unix socket; `None` for an abstract name.
    Unix(Option<&'a Path>),
}

/// One request and its response.
pub struct Exchange {
    connection: Arc<Connection>,
    /// This exchange's number on its connection.
    number: u64,
    head: Head,
    /// The request head, as received.
    bytes: Box<[u8]>,
    stop: Mutex<Stop>,
    /// Its place among the requests in progress.
    slot: Slot,
    /// The part of the body that had arrived when the client went away.
    rest: Mutex<Vec<u8>>,
    /// User code asked for the next matching route.
    yielded: AtomicBool,
    /// The client went away, or user code has set this.
    aborted: AtomicBool,
    /// There was no room for all of the last unqueued piece.
    refused: AtomicBool,
    /// The response is complete.
    responded: AtomicBool,
    /// User code's data of the exchange; made at the first use.
    user: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let target = String::from_utf8_lossy(self.target());
        formatter.debug_struct("Exchange").field("target", &target).finish_non_exhaustive()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.release();
    }
}

/// The result of an attempt to write without queueing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Everything that was offered has been taken.
    pub taken: bool,
    /// The response is complete, or can never be.
    pub over: bool,
}

impl Exchange {
    pub(crate) fn new(
        connection: Arc<Connection>,
        number: u64,
        head: Head,
        bytes: &[u8],
        stop: Stop,
        slot: Slot,
    ) -> Arc<Self> {
        Arc::new(Self {
            connection,
            number,
            head,
            bytes: bytes.into(),
            stop: Mutex::new(stop),
            slot,
            rest: Mutex::default(),
            yielded: AtomicBool::new(false),
            aborted: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            responded: AtomicBool::new(false),
            user: OnceLock::new(),
        })
    }

    // ---- who works on it ------------------------------------------------------------------------------------------

    /// Work on the request begins, until [`Exchange::end_work`]; both count. False if its client has gone
    /// before any work began: then no work should begin.
    pub fn begin_work(&self) -> bool {
        self.slot.begin()
    }

    /// Work that was begun with [`Exchange::begin_work`] has ended.
    pub fn end_work(&self) {
        if self.server().is_abandoned() {
            return;
        }
        self.slot.end(&self.server().load);
    }

    /// Whether the client has gone, for good.
    pub fn is_gone(&self) -> bool {
        self.slot.is_gone()
    }

    /// The client has gone: code that works on the request hears so, and keeps the seat of the connection as long as that takes.
    pub(crate) fn give_up(self: Arc<Self>, seat: Option<Arc<Seat>>) {
        // The queued signal counts too.
        self.slot.begin();
        self.slot.give_up(&self.server().load, seat);
        self.server().signal(&self, Signal::Aborted);
        self.end_work();
    }

    /// The response is complete.
    pub(crate) fn release(&self) {
        if self.server().is_abandoned() {
            return;
        }
        self.slot.release(&self.server().load);
    }

    // ---- the request --------------------------------------------------------------------------------------------

    /// The method, as sent.
    pub fn method(&self) -> &[u8] {
        self.head.method(&self.bytes)
    }

    /// The path that was routed, as sent.
    pub fn path(&self) -> &[u8] {
        self.head.path(&self.bytes)
    }

    /// The request target, as sent.
    pub fn target(&self) -> &[u8] {
        self.head.target(&self.bytes)
    }

    /// The text after the `?`.
    pub fn query(&self) -> Option<&[u8]> {
        self.head.query(&self.bytes)
    }

    /// Path and query, without the scheme and authority that the client may have sent.
    pub fn path_and_query(&self) -> &[u8] {
        let end = self.head.query.as_ref().map_or(self.head.path.end, |query| query.end);
        &self.bytes[self.head.path.start as usize..end as usize]
    }

    /// Whether it came over HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.head.http2
    }

    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub fn version_minor(&self) -> u8 {
        self.head.version_minor
    }

    /// The header lines in wire order.
    pub fn headers(&self) -> HeaderLines<'_> {
        HeaderLines::new(self.head.header_block(&self.bytes))
    }

    /// The value of a header; those of a repeated one joined (RFC 9110 5.3).
    pub fn header(&self, name: &[u8]) -> Option<Cow<'_, [u8]>> {
        head::joined(self.head.header_block(&self.bytes), name)
    }

    /// The value of a parameter of the current route, by position.
    pub fn parameter(&self, index: usize) -> Option<&[u8]> {
        let range = self.stop.lock().params.get(index)?;
        self.path().get(range)
    }

    /// The value of a parameter of the current route, by name.
    pub fn parameter_named(&self, name: &str) -> Option<&[u8]> {
        let range = self.stop.lock().params.by_name(name)?;
        self.path().get(range)
    }

    /// The number of parameters of the current route.
    pub fn parameter_count(&self) -> usize {
        self.stop.lock().params.len()
    }

    /// The client's address; `None` on a Unix socket.
    pub fn peer(&self) -> Option<IpAddr> {
        self.connection.peer.ip()
    }

    /// The client's address and port; port 0 if a trusted proxy names a client without its port. `None` on a Unix socket whose
    /// peer names no client, and if the proxies do not know or hide the client.
    pub fn client(&self) -> Option<SocketAddr> {
        self.client_of(&self.origin())
    }

    /// The same, by what [`Exchange::origin`] has returned.
    pub fn client_of(&self, origin: &Origin) -> Option<SocketAddr> {
        let address = origin.address;
        let connected = match &self.connection.told {
            ProxiedFor::Addresses(told) => Some(told.source),
            ProxiedFor::Nobody => return self.connection.peer.client(),
            ProxiedFor::Nothing => self.connection.peer.client(),
        };
        match (address, connected) {
            (Some(address), Some(connected)) if connected.ip().to_canonical() == address.to_canonical() => {
                Some(connected)
            }
            (address, _) => address.map(|address| SocketAddr::new(address, 0)),
        }
    }

    /// The end of the connection on this side.
    pub fn local(&self) -> Local<'_> {
        match &self.connection.peer {
            Peer::Tcp { local, .. } => Local::Tcp(*local),
            Peer::Unix { local } => Local::Unix(local.as_deref()),
        }
    }

    /// The client's address from a PROXY preface.
    pub fn proxied_peer(&self) -> Option<IpAddr> {
        self.connection.proxied()
    }

    /// The client of the request, its scheme and its host, as far as trusted proxies give them.
    pub fn origin(&self) -> Origin {
        self.connection.origin(self.header_block())
    }

    /// The host that the request names, with its port if it has one.
    pub fn authority(&self) -> Option<&[u8]> {
        self.head.authority(&self.bytes)
    }

    /// What was agreed on in the TLS handshake. None if the request came in plain text.
    pub fn secure(&self) -> Option<&Secure> {
        self.connection.secure.as_deref()
    }

    /// The socket's descriptor number.
    pub fn descriptor(&self) -> i64 {
        self.connection.descriptor()
    }

    /// The header lines, as received.
    pub(crate) fn header_block(&self) -> &[u8] {
        self.head.header_block(&self.bytes)
    }

    /// Its number on the connection.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The server this exchange belongs to.
    pub fn server(&self) -> &Arc<crate::server::Server> {
        &self.connection.server
    }

    /// User code's data of the exchange.
    pub fn user(&self) -> &OnceLock<Box<dyn Any + Send + Sync>> {
        &self.user
    }
}
