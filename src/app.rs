//! The seam between the core and user code.
//!
//! The core owns sockets, protocol and routing, and asks an [`App`] to do what only user code can: run a handler.
//! In wheels the implementation is Python (`src/py/`); in cargo's tests it is a Rust closure. ASGI, WSGI and the
//! native API are fronts of this one trait.

use std::any::Any;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::config::SocketConfig;
use crate::files::Directory;
use crate::http::encoding::{Accepted, Compression, Offer, encode};
use crate::http::head;
use crate::http::response::ResponseHead;
use crate::server::{AccessQueue, Exchange, Note, ServerName, WebSocket};

/// Number of a registered handler; what it stands for is the implementation's business.
pub type HandlerId = u32;

/// Where a handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// On an I/O thread that holds the turn: one at a time in the process, without a wake-up.
    Turn,
    /// On the thread of the application's event loop.
    Loop,
}

/// What keeps the handlers of a route: those are nobody's once the last clone is gone, and their numbers may come to mean
/// others.
pub type Lease = Arc<dyn Any + Send + Sync>;

/// What a route leads to.
#[derive(Clone, Debug)]
pub enum Target {
    /// User code.
    Handler {
        /// Which.
        id: HandlerId,
        /// Where it runs.
        lane: Lane,
        /// Bytes of request body this route takes, in place of the server's limit.
        max_body_size: Option<u64>,
        /// Kept by whoever may still come to the handler.
        lease: Option<Lease>,
    },
    /// An answer known beforehand: served without user code.
    Constant(Arc<Constant>),
    /// The files of a directory: served without user code. A request for what is not there goes to the next route.
    Files(Arc<Directory>),
    /// A WebSocket.
    WebSocket(Arc<Behavior>),
}

/// User code that is called, and where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Which.
    pub id: HandlerId,
    /// Where it runs.
    pub lane: Lane,
}

/// What the sockets of a WebSocket route do, and what user code hears of them.
#[derive(Clone, Debug, Default)]
pub struct Behavior {
    /// Limits and timeouts.
    pub config: SocketConfig,
    /// Decides on handshakes; without it every valid one is accepted, with the first subprotocol offered.
    pub upgrade: Option<Listener>,
    /// Hears that a socket has been opened.
    pub open: Option<Listener>,
    /// Hears of messages.
    pub message: Option<Listener>,
    /// Hears that what waited for the client has left.
    pub drain: Option<Listener>,
    /// Hears of pings, which have been answered before.
    pub ping: Option<Listener>,
    /// Hears of pongs.
    pub pong: Option<Listener>,
    /// Hears of the end; exactly once for each open.
    pub close: Option<Listener>,
    /// Hears of topics that a socket joins or leaves.
    pub subscription: Option<Listener>,
    /// Kept by whoever may still come to one of these.
    pub lease: Option<Lease>,
}

/// A whole answer that never changes, but for its date.
#[derive(Debug)]
pub struct Constant {
    head: ResponseHead,
    body: Box<[u8]>,
    /// The same in other codings, made once.
    coded: Vec<(Offer, ResponseHead, Box<[u8]>)>,
}

impl Constant {
    /// An answer of these, compressed beforehand where `compression` says so.
    pub fn new(mut head: ResponseHead, body: Box<[u8]>, compression: Option<&Compression>) -> Self {
        let mut coded = Vec::new();
        if let Some(settings) = compression
            && !head.take_identity()
            && body.len() >= settings.minimum_size
            && head.may_encode(settings, &body)
        {
            head.vary_on_encoding();
            for offer in &settings.offers {
                if let Some(bytes) = encode(*offer, &body).filter(|bytes| bytes.len() < body.len()) {
                    let mut head = head.clone();
                    head.encoded(offer.coding.name());
                    coded.push((*offer, head, bytes.into()));
                }
            }
        }
        Self { head, body, coded }
    }

    /// Head and body for a request with these header lines.
    pub(crate) fn answer_to(&self, headers: &[u8]) -> (&ResponseHead, &[u8]) {
        if !self.coded.is_empty() {
            let accepted = Accepted::parse(head::joined(headers, b"accept-encoding").as_deref());
            let offers: SmallVec<[Offer; 3]> = self.coded.iter().map(|(offer, ..)| *offer).collect();
            let chosen = accepted.choose(&offers);
            if let Some((_, head, body)) = self.coded.iter().find(|(offer, ..)| Some(*offer) == chosen) {
                return (head, body);
            }
        }
        (&self.head, &self.body)
    }
}

/// Something happened to an exchange that user code had asked to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The client went away before the answer was whole.
    Aborted,
    /// Bytes of the request body, or its end, can be taken.
    Readable,
    /// What was written has left for the kernel: there is room for more.
    Writable,
    /// The file that was the answer has left, or as much of it as there was.
    Sent,
}

/// One thing for user code to do.
#[derive(Debug)]
pub enum Job {
    /// Run the handler of a request.
    Request(Arc<Exchange>),
    /// Tell user code of an event.
    Signal(Arc<Exchange>, Signal),
    /// Tell user code of what happened on a socket: [`WebSocket::next`] gives it, one event after the other.
    Socket(Arc<WebSocket>),
    /// Tell user code of a server name that has no certificate of its own: it may add one before it drops this.
    ServerName(ServerName),
    /// Tell of what went wrong on a connection, for whoever looks for the cause; see [`App::takes_notes`].
    Note(Note),
}

/// User code, as the core sees it.
pub trait App: Send + Sync + 'static {
    /// Runs jobs, in order. Called on an I/O thread that holds the turn and does not drive sockets meanwhile, so it
    /// may take as long as it likes. Must not panic.
    fn run(&self, jobs: &mut dyn Iterator<Item = Job>);

    /// Hands a job to the event loop's thread. Called in the middle of the core's work: must only queue.
    fn post(&self, job: Job);

    /// Jobs have been posted: wakes the event loop if it sleeps. Called once for a burst of them.
    fn posted(&self);

    /// Passes an event on. Called on any thread, in the middle of its work: must only queue. The implementation chooses the
    /// lane and may use [`crate::server::Server::push`].
    fn signal(&self, exchange: Arc<Exchange>, signal: Signal);

    /// The last connection has ended, or the deadline of the shutdown has passed. Must only queue.
    fn drained(&self);

    /// Where the core tells of each answer; none: nobody wants to hear. Asked once, before the first connection.
    fn access_log(&self) -> Option<Arc<AccessQueue>> {
        None
    }

    /// Whether anybody hears of what went wrong before there was a request. Asked each time, before the note is written.
    fn takes_notes(&self) -> bool {
        false
    }

    /// Where user code is asked for server names that are not known, if it wants to be.
    fn missing_server_name(&self) -> Option<Lane> {
        None
    }

    /// Runs the body of an I/O thread, with whatever user code needs around it.
    fn on_thread(&self, body: &mut (dyn FnMut() + Send)) {
        body();
    }

    /// For implementations that need their own type back.
    fn as_any(&self) -> &dyn Any;
}
