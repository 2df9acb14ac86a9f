//! HTTP: user code that is closures by handler number, and a client.

mod closing;
mod interleavings;
mod requests;
mod timeouts;
mod turn;

use std::any::Any;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use socketify::app::{App, Behavior, Constant, HandlerId, Job, Lane, Responder, Signal};
use socketify::config::Config;
use socketify::files::types::Types;
use socketify::files::{Directory, Options};
use socketify::http::response::ResponseHead;
use socketify::router::{Kind, Router};
use socketify::server::{Exchange, Server};

use crate::support::{Flag, PATIENCE, connect, start};

const SHORT: Duration = Duration::from_millis(200);

/// Often enough to lose a race that can be lost.
const ROUNDS_OF_A_RACE: usize = 20_000;

type Handler = Box<dyn Fn(&Arc<Exchange>) + Send + Sync>;
type OnSignal = Box<dyn Fn(&Arc<Exchange>, Signal) + Send + Sync>;

/// Jobs for the thread that acts as the event loop.
enum Posted {
    Request(Arc<Exchange>),
    Signal(Arc<Exchange>, Signal),
}

/// User code: closures by handler number, some run in the turn, some on a thread that acts as the event loop.
struct Code {
    handlers: Vec<Handler>,
    on_signal: OnSignal,
    post: Mutex<Option<mpsc::Sender<Posted>>>,
    drained: Flag,
    /// A thread is in the turn.
    inside: AtomicBool,
    overlaps: AtomicUsize,
    signals: AtomicUsize,
    io_threads: AtomicUsize,
}

impl Code {
    fn call(&self, exchange: &Arc<Exchange>) {
        self.handlers[exchange.handler() as usize](exchange);
        exchange.uncork();
    }
}

impl App for Code {
    fn run(&self, jobs: &mut dyn Iterator<Item = Job>) {
        for job in jobs {
            if self.inside.swap(true, Ordering::SeqCst) {
                self.overlaps.fetch_add(1, Ordering::SeqCst);
            }
            match job {
                Job::Request(exchange) => self.call(&exchange),
                Job::Signal(exchange, signal) => (self.on_signal)(&exchange, signal),
                Job::Socket(_) | Job::ServerName(_) | Job::Note(_) => {}
            }
            self.inside.store(false, Ordering::SeqCst);
        }
    }

    fn post(&self, job: Job) {
        if let (Some(post), Job::Request(exchange)) = (&*self.post.lock(), job) {
            post.send(Posted::Request(exchange)).unwrap();
        }
    }

    fn posted(&self) {}

    fn signal(&self, exchange: Arc<Exchange>, signal: Signal) {
        self.signals.fetch_add(1, Ordering::SeqCst);
        if let Some(post) = &*self.post.lock() {
            post.send(Posted::Signal(exchange, signal)).unwrap();
        }
    }

    fn drained(&self) {
        self.drained.set();
    }

    fn on_thread(&self, body: &mut (dyn FnMut() + Send)) {
        self.io_threads.fetch_add(1, Ordering::SeqCst);
        body();
        self.io_threads.fetch_sub(1, Ordering::SeqCst);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Routes and handlers of a future server.
#[derive(Default)]
struct Site {
    router: Router<Responder>,
    handlers: Vec<Handler>,
    on_signal: Option<OnSignal>,
}

impl Site {
    fn route(
        mut self,
        pattern: &str,
        lane: Lane,
        handler: impl Fn(&Arc<Exchange>) + Send + Sync + 'static,
    ) -> Self {
        let id = HandlerId::try_from(self.handlers.len()).unwrap();
        self.handlers.push(Box::new(handler));
        self.router
            .insert(
                Kind::any(),
                pattern,
                Responder::Handler { id, lane, max_body_size: None, invites_late: false, lease: None },
            )
            .unwrap();
        self
    }

    fn constant(mut self, pattern: &str, body: &[u8]) -> Self {
        let mut head = ResponseHead::default();
        head.set_status(200).unwrap();
        let constant = Arc::new(Constant::new(head, body.into(), None));
        self.router.insert(Kind::any(), pattern, Responder::Constant(constant)).unwrap();
        self
    }

    fn files(mut self, route: &str, directory: &Path) -> Self {
        let depth = route.matches('/').count();
        let directory = Directory::new(directory, depth, Options::default(), Types::default()).unwrap();
        self.router
            .insert(Kind::Files, &format!("{route}/*"), Responder::Files(Arc::new(directory)))
            .unwrap();
        self
    }

    fn websocket(mut self, pattern: &str) -> Self {
        self.router
            .insert(Kind::WebSocket, pattern, Responder::WebSocket(Arc::new(Behavior::default())))
            .unwrap();
        self
    }

    fn on_signal(mut self, act: impl Fn(&Arc<Exchange>, Signal) + Send + Sync + 'static) -> Self {
        self.on_signal = Some(Box::new(act));
        self
    }

    fn serve(self, config: Config) -> Served {
        let (sender, receiver) = mpsc::channel();
        let code = Arc::new(Code {
            handlers: self.handlers,
            on_signal: self.on_signal.unwrap_or_else(|| Box::new(|_, _| {})),
            post: Mutex::new(Some(sender)),
            drained: Flag::default(),
            inside: AtomicBool::new(false),
            overlaps: AtomicUsize::new(0),
            signals: AtomicUsize::new(0),
            io_threads: AtomicUsize::new(0),
        });
        let event_loop = {
            let code = Arc::clone(&code);
            thread::spawn(move || {
                for posted in receiver {
                    match posted {
                        Posted::Request(exchange) => code.call(&exchange),
                        Posted::Signal(exchange, signal) => (code.on_signal)(&exchange, signal),
                    }
                }
            })
        };
        let (server, port) = start(config, Arc::<Code>::clone(&code), self.router);
        Served { server, code, port, event_loop: Some(event_loop) }
    }
}

/// A running server. It ends when the value is dropped.
struct Served {
    server: Arc<Server>,
    code: Arc<Code>,
    port: u16,
    event_loop: Option<JoinHandle<()>>,
}

impl Served {
    fn client(&self) -> Client {
        Client { stream: connect(self.port), pending: Vec::new() }
    }

    fn refuses(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_err()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let jobs = self.server.join(PATIENCE);
        *self.code.post.lock() = None;
        if let Some(event_loop) = self.event_loop.take() {
            let ended = event_loop.join();
            if !thread::panicking() {
                ended.unwrap();
                assert!(jobs.is_some(), "the threads did not end");
                assert_eq!(self.code.overlaps.load(Ordering::SeqCst), 0, "jobs of the turn have overlapped");
                assert_eq!(self.code.io_threads.load(Ordering::SeqCst), 0);
            }
        }
    }
}

struct Client {
    stream: TcpStream,
    pending: Vec<u8>,
}

impl Client {
    fn send(&mut self, bytes: &[u8]) -> &mut Self {
        self.stream.write_all(bytes).unwrap();
        self
    }

    fn ask(&mut self, path: &str) -> &mut Self {
        self.send(request(path).as_bytes())
    }

    fn get(&mut self, path: &str) -> (u16, String) {
        self.ask(path).answer()
    }

    /// The next bytes; none at the end or after a reset.
    fn receive(&mut self) -> usize {
        let mut bytes = vec![0; 65536];
        match self.stream.read(&mut bytes) {
            Ok(count) => {
                self.pending.extend_from_slice(&bytes[..count]);
                count
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("nothing arrives: {error}"),
        }
    }

    fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.pending.windows(end.len()).position(|window| window == end) {
                return self.pending.drain(..at + end.len()).collect();
            }
            assert!(self.receive() > 0, "closed after {:?}", String::from_utf8_lossy(&self.pending));
        }
    }

    /// Reads one response with a declared length, or in chunks.
    fn answer(&mut self) -> (u16, String) {
        let head = String::from_utf8(self.until(b"\r\n\r\n")).unwrap().to_ascii_lowercase();
        let status = head[9..12].parse().unwrap();
        if head.contains("transfer-encoding: chunked") {
            let mut body = String::new();
            loop {
                let line = String::from_utf8(self.until(b"\r\n")).unwrap();
                let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
                let chunk = self.exactly(size + 2);
                body.push_str(chunk[..size].to_str());
                if size == 0 {
                    return (status, body);
                }
            }
        }
        let length =
            head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
        (status, self.exactly(length).to_str().to_owned())
    }

    fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.pending.len() < count {
            assert!(self.receive() > 0, "closed early");
        }
        self.pending.drain(..count).collect()
    }

    fn is_closed(&mut self) -> bool {
        self.pending.is_empty() && self.receive() == 0
    }
}

/// Bytes that are text in these tests.
trait Text {
    fn to_str(&self) -> &str;
}

impl Text for [u8] {
    fn to_str(&self) -> &str {
        std::str::from_utf8(self).unwrap()
    }
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
}

fn ok(body: &str) -> (u16, String) {
    (200, body.to_owned())
}

fn echo(exchange: &Arc<Exchange>) {
    exchange.end(exchange.path(), false);
}

/// One route of each kind: `/turn/*` and `/loop/*` send their path, `/constant` sends that word.
fn site() -> Site {
    Site::default()
        .route("/turn/*", Lane::Turn, echo)
        .route("/loop/*", Lane::Loop, echo)
        .constant("/constant", b"constant")
}
