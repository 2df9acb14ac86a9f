//! A server in this process, with routes of every kind, and its clients.
//!
//! It listens on an abstract Unix socket: a target opens thousands of connections a second, and TCP would run out of ports.

use std::any::Any;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use socketify::app::{App, Behavior, Constant, HandlerId, Job, Lane, Responder, Signal};
use socketify::config::Config;
use socketify::files::types::Types;
use socketify::files::{Directory, Options};
use socketify::http::response::ResponseHead;
use socketify::net::{Endpoint, Listener};
use socketify::router::{Domains, Kind, Live, Router};
use socketify::server::{Exchange, Server};

/// Longer than any wait, and shorter than each timeout of the server: a wait that only a timeout would end
/// counts as a hang.
const PATIENCE: Duration = Duration::from_secs(6);
/// Largest body of the limited route, in bytes.
pub const LIMIT: u64 = 8;
/// Bytes of the large file: more than a socket takes at once.
pub const LARGE: usize = 400_000;

/// The actions of the handlers, in the order of the routes below.
const ROUTES: [(&str, Act, Lane, Option<u64>); 7] = [
    ("/turn", Act::Echo, Lane::Turn, None),
    ("/loop", Act::Echo, Lane::Loop, None),
    ("/whole", Act::Whole, Lane::Loop, None),
    ("/whole-in-turn", Act::Whole, Lane::Turn, None),
    ("/pieces", Act::Pieces, Lane::Loop, None),
    ("/stream", Act::Stream, Lane::Loop, None),
    ("/limited", Act::Whole, Lane::Loop, Some(LIMIT)),
];

#[derive(Clone, Copy)]
enum Act {
    /// Sends the path, and does not read the body.
    Echo,
    /// Sends the size of the body.
    Whole,
    /// The same, read piece by piece.
    Pieces,
    /// Sends chunks.
    Stream,
}

enum Posted {
    Request(Arc<Exchange>),
    Signal(Arc<Exchange>, Signal),
}

struct Code {
    post: Mutex<mpsc::Sender<Posted>>,
}

impl Code {
    fn post(&self, posted: Posted) {
        self.post.lock().expect("nobody panics with it").send(posted).expect("the event loop lives on");
    }
}

fn call(exchange: &Arc<Exchange>) {
    match ROUTES[exchange.handler() as usize].1 {
        Act::Echo => {
            exchange.end(exchange.path(), false);
        }
        Act::Whole => {
            exchange.read_whole();
        }
        Act::Pieces => {
            let _ = exchange.user().set(Box::new(Mutex::new(0_usize)));
            exchange.read_pieces();
        }
        Act::Stream => {
            exchange.write(b"one");
            exchange.write(b"two");
            exchange.end(b"three", false);
        }
    }
    exchange.uncork();
}

fn hear(exchange: &Arc<Exchange>, signal: Signal) {
    if signal != Signal::Readable {
        return;
    }
    let Some((bytes, last)) = exchange.take_body() else { return };
    let mut total = bytes.len();
    if let Some(count) = exchange.user().get().and_then(|user| user.downcast_ref::<Mutex<usize>>()) {
        let mut count = count.lock().expect("nobody panics with it");
        *count += total;
        total = *count;
    }
    if last {
        exchange.end(total.to_string().as_bytes(), false);
    } else {
        exchange.resume_body();
    }
}

impl App for Code {
    fn run(&self, jobs: &mut dyn Iterator<Item = Job>) {
        for job in jobs {
            match job {
                Job::Request(exchange) => call(&exchange),
                Job::Signal(exchange, signal) => hear(&exchange, signal),
                Job::Socket(_) | Job::ServerName(_) | Job::Note(_) => {}
            }
        }
    }

    fn post(&self, job: Job) {
        if let Job::Request(exchange) = job {
            self.post(Posted::Request(exchange));
        }
    }

    fn posted(&self) {}

    fn signal(&self, exchange: Arc<Exchange>, signal: Signal) {
        self.post(Posted::Signal(exchange, signal));
    }

    fn drained(&self) {}

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A directory with a small and a large file.
fn files() -> PathBuf {
    let directory = std::env::temp_dir().join(format!("socketify-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("there is room for files");
    for (name, size) in [("small", 5), ("large", LARGE)] {
        std::fs::write(directory.join(name), vec![b'x'; size]).expect("there is room for files");
    }
    directory
}

fn routes() -> Router<Responder> {
    let mut router = Router::default();
    let mut add =
        |kind, pattern: &str, target| router.insert(kind, pattern, target).expect("it is a pattern");
    for (id, (pattern, _, lane, max_body_size)) in ROUTES.into_iter().enumerate() {
        let id = HandlerId::try_from(id).expect("they are few");
        add(
            Kind::any(),
            pattern,
            Responder::Handler { id, lane, max_body_size, invites_late: false, lease: None },
        );
    }
    let mut head = ResponseHead::default();
    head.set_status(200).expect("it is a status");
    let constant = Constant::new(head, b"constant"[..].into(), None);
    add(Kind::any(), "/constant", Responder::Constant(Arc::new(constant)));
    let directory = Directory::new(&files(), 1, Options::default(), Types::default());
    add(Kind::Files, "/files/*", Responder::Files(Arc::new(directory.expect("it is a path"))));
    add(Kind::WebSocket, "/socket", Responder::WebSocket(Arc::new(Behavior::default())));
    router
}

/// The server's address. The first call starts the server.
fn address() -> &'static SocketAddr {
    static SERVER: OnceLock<(Arc<Server>, SocketAddr)> = OnceLock::new();
    let (_, address) = SERVER.get_or_init(|| {
        let name = format!("socketify-fuzz-{}", std::process::id());
        let endpoint = Endpoint::Unix { path: format!("@{name}").into(), mode: 0o700 };
        let listener = Listener::bind(&endpoint).expect("the name is free");
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for posted in receiver {
                match posted {
                    Posted::Request(exchange) => call(&exchange),
                    Posted::Signal(exchange, signal) => hear(&exchange, signal),
                }
            }
        });
        let hour = Duration::from_secs(3600);
        let config = Config {
            io_threads: 1,
            header_timeout: hour,
            keep_alive_timeout: hour,
            body_timeout: hour,
            write_timeout: hour,
            ..Config::default()
        };
        let routes = Arc::new(Live::from(Domains::from(routes())));
        let code = Arc::new(Code { post: Mutex::new(sender) });
        let server = Server::start(config, code, routes, vec![listener]).expect("it starts");
        (server, SocketAddr::from_abstract_name(name).expect("it is short"))
    });
    address
}

/// A client of the server.
pub struct Client {
    stream: UnixStream,
    /// The received bytes.
    pub received: Vec<u8>,
    ended: bool,
}

impl Client {
    /// Connects.
    #[expect(clippy::new_without_default, reason = "it is no value but a connection")]
    pub fn new() -> Self {
        let stream = UnixStream::connect_addr(address()).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("it is a time");
        Self { stream, received: Vec::new(), ended: false }
    }

    /// Sends a piece, and lets the server read it. A server that has closed need not read it.
    pub fn send(&mut self, piece: &[u8]) {
        let _ = self.stream.write_all(piece);
        thread::yield_now();
    }

    /// Sends no more.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Waits for more; false at the end.
    pub fn receive(&mut self) -> bool {
        let mut bytes = [0; 16384];
        self.ended = self.ended
            || match self.stream.read(&mut bytes) {
                Ok(count) => {
                    self.received.extend_from_slice(&bytes[..count]);
                    count == 0
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
                // The fuzzer's timer has fired.
                Err(error) if error.kind() == ErrorKind::Interrupted => false,
                Err(error) => {
                    panic!("hangs after {:?}: {error}", String::from_utf8_lossy(&self.received))
                }
            };
        !self.ended
    }
}
