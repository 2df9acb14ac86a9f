//! The seam between the core and user code.
//!
//! The core owns sockets, protocol and routing, and asks an [`App`] to run user code. In wheels the
//! implementation is Python (`src/py/`); in cargo's tests it is a Rust closure.

use std::any::Any;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::config::SocketConfig;
use crate::files::Directory;
use crate::http::encoding::{Accepted, CodingLevel, Compression, encode};
use crate::http::head;
use crate::http::response::ResponseHead;
use crate::server::{AccessQueue, Exchange, Note, ServerName, WebSocket};

/// Number of a registered handler; only the implementation knows its meaning.
pub type HandlerId = u32;

/// Where a handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// On an I/O thread that holds the turn: one at a time in the process, without a wake-up.
    Turn,
    /// On the thread of the application's event loop.
    Loop,
}

/// Keeps the handlers of a route alive: the last clone frees them, and their numbers may then be given to
/// other handlers.
pub type Lease = Arc<dyn Any + Send + Sync>;

/// The target of a route.
#[derive(Clone, Debug)]
pub enum Responder {
    /// User code.
    Handler {
        /// Its number.
        id: HandlerId,
        /// Where it runs.
        lane: Lane,
        /// Largest request body of this route, in bytes, in place of the server's limit.
        max_body_size: Option<u64>,
        /// A client that waits for `100 Continue` gets it when the body is read, and not when the request comes.
        invites_late: bool,
        /// Kept while the handler may still be called.
        lease: Option<Lease>,
    },
    /// A response known beforehand: served without user code.
    Constant(Arc<Constant>),
    /// The files of a directory: served without user code. A request for a missing file goes to the next
    /// route.
    Files(Arc<Directory>),
    /// A WebSocket.
    WebSocket(Arc<Behavior>),
}

/// A callback, and where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Callback {
    /// Its number.
    pub id: HandlerId,
    /// Where it runs.
    pub lane: Lane,
}

/// The limits of a WebSocket route's sockets, and their listeners.
#[derive(Clone, Debug, Default)]
pub struct Behavior {
    /// Limits and timeouts.
    pub config: SocketConfig,
    /// Accepts or refuses handshakes. Without it every valid one is accepted, with the first subprotocol
    /// offered.
    pub upgrade: Option<Callback>,
    /// Called when a socket has been opened.
    pub open: Option<Callback>,
    /// Called for messages.
    pub message: Option<Callback>,
    /// Called when all buffered output has been sent.
    pub drain: Option<Callback>,
    /// Called for pings, after the pong.
    pub ping: Option<Callback>,
    /// Called for pongs.
    pub pong: Option<Callback>,
    /// Called at the end; exactly once for each open.
    pub close: Option<Callback>,
    /// Called when a socket joins or leaves a topic.
    pub subscription: Option<Callback>,
    /// User code takes the messages and the end itself, by [`WebSocket::next`] in [`Lane::Loop`], when it wants them: a
    /// [`Job::Socket`] only says that there are some, or that there is room again. Then there is no listener but `upgrade`.
    pub pulled: bool,
    /// Kept while one of these may still be called.
    pub lease: Option<Lease>,
}

/// A whole response that never changes, except for its date.
#[derive(Debug)]
pub struct Constant {
    head: ResponseHead,
    body: Box<[u8]>,
    /// The same in other content codings, made once.
    coded: Vec<(CodingLevel, ResponseHead, Box<[u8]>)>,
}

impl Constant {
    /// A response of these parts, compressed beforehand if `compression` asks for it.
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

    /// The head and the body for a request with these header lines.
    pub(crate) fn answer_to(&self, headers: &[u8]) -> (&ResponseHead, &[u8]) {
        if !self.coded.is_empty() {
            let accepted = Accepted::parse(head::joined(headers, b"accept-encoding").as_deref());
            let offers: SmallVec<[CodingLevel; 3]> = self.coded.iter().map(|(offer, ..)| *offer).collect();
            let chosen = accepted.choose(&offers);
            if let Some((_, head, body)) = self.coded.iter().find(|(offer, ..)| Some(*offer) == chosen) {
                return (head, body);
            }
        }
        (&self.head, &self.body)
    }
}

/// An event of an exchange that user code has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The client went away before the response was complete.
    Aborted,
    /// Bytes of the request body, or its end, can be read.
    Readable,
    /// The kernel has taken the output: there is room for more.
    Writable,
    /// The response's file has been sent, or as much of it as there was.
    Sent,
}

/// One call of user code.
#[derive(Debug)]
pub enum Job {
    /// Run the handler of a request.
    Request(Arc<Exchange>),
    /// Pass an event on.
    Signal(Arc<Exchange>, Signal),
    /// Pass the events of a socket on: [`WebSocket::next`] gives them, one after the other.
    Socket(Arc<WebSocket>),
    /// Report a server name without a certificate of its own: user code may add one before it drops this.
    ServerName(ServerName),
    /// Report the fault of a connection, for the log; see [`App::takes_notes`].
    Note(Note),
}

/// User code, from the core's point of view.
pub trait App: Send + Sync + 'static {
    /// Runs jobs, in order. Called on an I/O thread that holds the turn and does not drive sockets meanwhile, so it
    /// may take as long as it likes. Must not panic.
    fn run(&self, jobs: &mut dyn Iterator<Item = Job>);

    /// Hands a job to the event loop's thread. The core calls it while it works: it must only queue.
    fn post(&self, job: Job);

    /// Jobs have been posted: wakes the event loop if it sleeps. Called once for a burst of them.
    fn posted(&self);

    /// Passes an event on. Any thread calls it, in the middle of its work: it must only queue. The
    /// implementation chooses the lane and may use [`crate::server::Server::push`].
    fn signal(&self, exchange: Arc<Exchange>, signal: Signal);

    /// The last connection has ended, or the deadline of the shutdown has passed. Must only queue.
    fn drained(&self);

    /// Where the core logs each response; `None` disables the log. Asked once, before the first connection.
    fn access_log(&self) -> Option<Arc<AccessQueue>> {
        None
    }

    /// Whether anybody reads notes on faults before a request. Asked each time, before the note is written.
    fn takes_notes(&self) -> bool {
        false
    }

    /// The lane in which user code is asked for unknown server names; `None` if it is not.
    fn missing_server_name(&self) -> Option<Lane> {
        None
    }

    /// Whether the user code of the turn is to stay on one thread, if one thread drives the sockets. Asked often.
    fn stays_on_one_thread(&self) -> bool {
        false
    }

    /// Runs the body of an I/O thread, in the environment that user code needs.
    fn on_thread(&self, body: &mut (dyn FnMut() + Send)) {
        body();
    }

    /// For implementations that need their own type back.
    fn as_any(&self) -> &dyn Any;
}
