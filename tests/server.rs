//! The server over real sockets, with user code that is Rust: requests, pipelines, timeouts, the turn and the end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::any::Any;
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;
use socketify::app::{App, Behavior, Constant, HandlerId, Job, Lane, Signal, Target};
use socketify::config::Config;
use socketify::files::types::Types;
use socketify::files::{Directory, Options};
use socketify::http::response::ResponseHead;
use socketify::net::{Endpoint, Listener};
use socketify::router::{Domains, Kind, Live, Router};
use socketify::server::{Exchange, Server};

use self::support::{Flag, PATIENCE, timed, until, with_threads};

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
    router: Router<Target>,
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
            .insert(Kind::any(), pattern, Target::Handler { id, lane, max_body_size: None, lease: None })
            .unwrap();
        self
    }

    fn constant(mut self, pattern: &str, body: &[u8]) -> Self {
        let mut head = ResponseHead::default();
        head.set_status(200).unwrap();
        let constant = Arc::new(Constant::new(head, body.into(), None));
        self.router.insert(Kind::any(), pattern, Target::Constant(constant)).unwrap();
        self
    }

    fn files(mut self, route: &str, directory: &Path) -> Self {
        let depth = route.matches('/').count();
        let directory = Directory::new(directory, depth, Options::default(), Types::default()).unwrap();
        self.router.insert(Kind::Files, &format!("{route}/*"), Target::Files(Arc::new(directory))).unwrap();
        self
    }

    fn websocket(mut self, pattern: &str) -> Self {
        self.router
            .insert(Kind::WebSocket, pattern, Target::WebSocket(Arc::new(Behavior::default())))
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
        let endpoint = Endpoint::Tcp { host: Some("127.0.0.1".into()), port: 0, exclusive: false };
        let listener = Listener::bind(&endpoint).unwrap();
        let port = listener.port();
        let routes = Arc::new(Live::from(Domains::from(self.router)));
        let app: Arc<dyn App> = Arc::<Code>::clone(&code);
        let server = Server::start(config, app, routes, vec![listener]).unwrap();
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
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, pending: Vec::new() }
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

#[test]
fn requests_are_answered_on_every_lane() {
    for threads in 1..4 {
        let served = site().serve(with_threads(threads));
        let mut client = served.client();
        for _ in 0..50 {
            assert_eq!(client.get("/turn/1"), ok("/turn/1"));
            assert_eq!(client.get("/loop/1"), ok("/loop/1"));
            assert_eq!(client.get("/constant"), ok("constant"));
            assert_eq!(client.get("/nothing"), (404, "Not Found".into()));
        }
    }
}

#[test]
fn a_pipeline_is_answered_in_order() {
    let served = site().serve(with_threads(2));
    let paths: Vec<String> = (0..2000)
        .map(|number| match number % 4 {
            0 => format!("/turn/{number}"),
            1 => format!("/loop/{number}"),
            2 => "/constant".to_owned(),
            _ => format!("/nothing/{number}"),
        })
        .collect();
    let mut client = served.client();
    let mut sending = client.stream.try_clone().unwrap();
    let requests: String = paths.iter().map(|path| request(path)).collect();
    let writer = thread::spawn(move || sending.write_all(requests.as_bytes()).unwrap());
    for path in &paths {
        let expected = match path.as_str() {
            "/constant" => ok("constant"),
            _ if path.starts_with("/nothing") => (404, "Not Found".into()),
            _ => ok(path),
        };
        assert_eq!(client.answer(), expected);
    }
    writer.join().unwrap();
}

/// The server sees the end of the input while another thread completes the first response: the second request
/// still counts. As many connections as it takes for the two to meet.
#[test]
fn a_client_that_shuts_its_side_gets_all_it_asked_for() {
    let served = site().serve(with_threads(2));
    for _ in 0..ROUNDS_OF_A_RACE {
        let mut client = served.client();
        client.ask("/loop/1").ask("/loop/2").stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.answer(), ok("/loop/1"));
        assert_eq!(client.answer(), ok("/loop/2"));
        assert!(client.is_closed());
    }
}

/// For any request and any refusal or response: its body is not the next request. The next request gets its
/// response, or nothing does.
#[test]
fn a_body_is_never_the_next_request() {
    const INNER: &str = "GET /loop/smuggled HTTP/1.1\r\nHost: test\r\n\r\n";
    let directory = std::env::temp_dir().join(format!("socketify-framing-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("file"), "file").unwrap();
    let served = site().files("/files", &directory).websocket("/socket").serve(with_threads(2));
    let framings = [
        format!("Content-Length: {}\r\n\r\n{INNER}", INNER.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{INNER}\r\n0\r\n\r\n", INNER.len()),
        "\r\n".to_owned(),
    ];
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let kinds = [
        String::new(),
        "Expect: 100-continue\r\n".to_owned(),
        format!("{upgrade}{key}Sec-WebSocket-Version: 13\r\n"),
        format!("{upgrade}{key}Sec-WebSocket-Version: 12\r\n"),
        format!("{upgrade}Sec-WebSocket-Version: 13\r\n"),
    ];
    for method in ["GET", "POST", "OPTIONS"] {
        for path in ["/turn/x", "/loop/x", "/constant", "/files/file", "/files/none", "/socket", "/nowhere"] {
            for (kind, framing) in kinds.iter().flat_map(|kind| framings.iter().map(move |how| (kind, how))) {
                let mut client = served.client();
                let first = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{kind}{framing}");
                client.send(first.as_bytes()).ask("/turn/next").stream.shutdown(Shutdown::Write).unwrap();
                while client.receive() > 0 {}
                let text = String::from_utf8_lossy(&client.pending).into_owned();
                let answers = text.matches("HTTP/1.1 ").count() - text.matches("HTTP/1.1 100").count();
                let ended = text.contains("Connection: close") || text.contains("HTTP/1.1 101");
                assert_eq!(answers, if ended { 1 } else { 2 }, "{first}{text}");
                assert_eq!(text.contains("/turn/next"), !ended, "{first}{text}");
                assert!(!text.contains("smuggled"), "{first}{text}");
            }
        }
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

/// A client that sends no more gets the responses to all its requests, from routes of every kind.
#[test]
fn a_client_that_sends_no_more_gets_every_answer() {
    let served = site().route("/slow/*", Lane::Loop, |exchange| {
        thread::sleep(Duration::from_millis(1));
        echo(exchange);
    });
    let served = served.serve(with_threads(2));
    let requests = [
        ("/slow/x", ok("/slow/x")),
        ("/turn/x", ok("/turn/x")),
        ("/constant", ok("constant")),
        ("/nowhere", (404, "Not Found".to_owned())),
    ];
    for choice in 0..requests.len().pow(4) {
        let picked: Vec<_> =
            (0..4).map(|place| &requests[choice / requests.len().pow(place) % requests.len()]).collect();
        let mut client = served.client();
        let wire: String = picked.iter().map(|(path, _)| request(path)).collect();
        client.send(wire.as_bytes()).stream.shutdown(Shutdown::Write).unwrap();
        for (_, answer) in &picked {
            assert_eq!(&client.answer(), answer);
        }
        assert!(client.is_closed());
    }
}

/// A thread that still writes one response also writes the next one, larger than the buffer's limit: the
/// request after them goes on when that has been sent. As many pipelines as it takes for the threads to meet.
#[test]
fn a_pipeline_goes_on_when_another_thread_has_written() {
    let large = "L".repeat(200_000);
    let answer = large.clone();
    let small = Site::default().route("/small", Lane::Loop, |exchange| {
        let exchange = Arc::clone(exchange);
        thread::spawn(move || exchange.end(b"small", false));
    });
    let served = small.route("/large", Lane::Turn, move |exchange| {
        exchange.end(answer.as_bytes(), false);
    });
    let served = served.route("/last", Lane::Turn, echo).serve(with_threads(2));
    let mut client = served.client();
    for _ in 0..ROUNDS_OF_A_RACE / 20 {
        client.ask("/small").ask("/large").ask("/last");
        assert_eq!(client.answer(), ok("small"));
        assert_eq!(client.answer(), ok(&large));
        assert_eq!(client.answer(), ok("/last"));
    }
}

/// Files need no user code: here is only their route, and then one for missing files.
#[test]
fn files_are_served_without_user_code() {
    let directory = std::env::temp_dir().join(format!("socketify-files-{}", std::process::id()));
    std::fs::create_dir_all(directory.join("below")).unwrap();
    let large = "0123456789abcdef".repeat(200_000);
    for (name, content) in [("small.txt", "small"), ("below/large.txt", &large), ("empty.txt", "")] {
        std::fs::write(directory.join(name), content).unwrap();
    }
    let served = Site::default().files("/files", &directory).route("/files/*", Lane::Loop, echo);
    let served = served.serve(with_threads(2));
    let mut client = served.client();
    for _ in 0..20 {
        assert_eq!(client.get("/files/small.txt"), ok("small"));
        assert_eq!(client.get("/files/below/large.txt"), ok(&large));
        assert_eq!(client.get("/files/empty.txt"), ok(""));
        assert_eq!(client.get("/files/nothing.txt"), ok("/files/nothing.txt"));
        assert_eq!(client.get("/files/../small.txt"), ok("/files/../small.txt"));
        assert_eq!(client.get("/small.txt").0, 404);
    }
    let paths =
        ["/files/below/large.txt", "/files/small.txt", "/files/nothing.txt", "/files/below/large.txt"];
    for path in paths {
        client.ask(path);
    }
    for body in [large.as_str(), "small", "/files/nothing.txt", large.as_str()] {
        assert_eq!(client.answer(), ok(body));
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_request_may_arrive_byte_by_byte() {
    let served = site().serve(with_threads(1));
    let mut client = served.client();
    for byte in request("/turn/slow").bytes() {
        client.send(&[byte]);
    }
    assert_eq!(client.answer(), ok("/turn/slow"));
}

#[test]
fn an_answer_may_come_from_any_thread() {
    let served = Site::default()
        .route("/*", Lane::Turn, |exchange| {
            let exchange = Arc::clone(exchange);
            thread::spawn(move || {
                exchange.write(b"one ");
                exchange.write(b"two ");
                exchange.end(exchange.path(), false);
                assert!(exchange.has_responded());
                assert!(!exchange.end(b"again", false));
            });
        })
        .serve(with_threads(2));
    let mut client = served.client();
    for number in 0..200 {
        let path = format!("/{number}");
        assert_eq!(client.get(&path), ok(&format!("one two {path}")));
    }
}

#[test]
fn a_body_is_read_through_signals() {
    let served = Site::default()
        .route("/*", Lane::Loop, |exchange| {
            exchange.read_whole();
        })
        .on_signal(|exchange, signal| {
            if signal == Signal::Readable {
                let (body, last) = exchange.take_body().unwrap();
                assert!(last);
                exchange.end(body.len().to_string().as_bytes(), false);
            }
        })
        .serve(with_threads(2));
    let mut client = served.client();
    for size in [0_usize, 1, 1000, 1_000_000] {
        client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {size}\r\n\r\n").as_bytes());
        client.send(&vec![b'x'; size]);
        assert_eq!(client.answer(), ok(&size.to_string()));
    }
}

// ---- the turn -----------------------------------------------------------------------------------------------------------

#[test]
fn jobs_of_the_turn_never_overlap() {
    for threads in 1..5 {
        let state = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&state);
        let served = Site::default()
            .route("/*", Lane::Turn, move |exchange| {
                // A read and a write with a pause between them: overlapping calls would lose counts.
                let seen = counted.load(Ordering::SeqCst);
                thread::yield_now();
                counted.store(seen + 1, Ordering::SeqCst);
                exchange.end(b"x", false);
            })
            .serve(with_threads(threads));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut client = served.client();
                    for _ in 0..250 {
                        assert_eq!(client.get("/"), ok("x"));
                    }
                });
            }
        });
        assert_eq!(state.load(Ordering::SeqCst), 2000);
    }
}

#[test]
fn the_standby_serves_while_a_job_is_slow() {
    for threads in 1..4 {
        let (entered, open) = (Arc::new(Flag::default()), Arc::new(Flag::default()));
        let (enter, wait) = (Arc::clone(&entered), Arc::clone(&open));
        let served = site()
            .route("/slow", Lane::Turn, move |exchange| {
                enter.set();
                wait.wait();
                exchange.end(b"slow", false);
            })
            .serve(with_threads(threads));
        let mut slow = served.client();
        let mut existing: Vec<Client> = (0..8).map(|_| served.client()).collect();
        for client in &mut existing {
            assert_eq!(client.get("/turn/1"), ok("/turn/1"));
        }
        slow.ask("/slow");
        entered.wait();
        let mut queued = served.client();
        queued.ask("/turn/queued");
        for _ in 0..50 {
            for client in &mut existing {
                assert_eq!(client.get("/constant"), ok("constant"));
                assert_eq!(client.get("/nothing").0, 404);
                assert_eq!(client.get("/loop/1"), ok("/loop/1"));
            }
            assert_eq!(served.client().get("/constant"), ok("constant"));
        }
        open.set();
        assert_eq!(slow.answer(), ok("slow"));
        assert_eq!(queued.answer(), ok("/turn/queued"));
        assert_eq!(slow.get("/turn/after"), ok("/turn/after"));
    }
}

#[test]
fn the_turn_goes_on_after_each_of_many_slow_jobs() {
    for threads in 1..4 {
        let served = site()
            .route("/slow", Lane::Turn, |exchange| {
                // Longer than the standby waits, so that the shard changes hands each time.
                thread::sleep(Duration::from_millis(4));
                exchange.end(b"slow", false);
            })
            .serve(with_threads(threads));
        thread::scope(|scope| {
            for number in 0..4 {
                let served = &served;
                scope.spawn(move || {
                    let mut client = served.client();
                    for turn in 0..60 {
                        let path = if (number + turn) % 2 == 0 { "/slow" } else { "/turn/quick" };
                        assert_eq!(client.get(path).0, 200);
                    }
                });
            }
        });
    }
}

#[test]
fn a_panic_in_user_code_ends_no_thread() {
    // The trait forbids it; if it still happens, the process serves on. More panics than threads.
    let served =
        site().route("/panic", Lane::Turn, |_| panic!("this panic is part of a test")).serve(with_threads(2));
    let mut clients: Vec<Client> = (0..10).map(|_| served.client()).collect();
    for client in &mut clients {
        client.ask("/panic");
        served.code.inside.store(false, Ordering::SeqCst);
        assert_eq!(served.client().get("/turn/1"), ok("/turn/1"));
        served.code.inside.store(false, Ordering::SeqCst);
    }
    assert_eq!(served.code.io_threads.load(Ordering::SeqCst), 3);
    served.code.overlaps.store(0, Ordering::SeqCst);
}

// ---- timeouts -----------------------------------------------------------------------------------------------------------

const SHORT: Duration = Duration::from_millis(200);

#[test]
fn a_head_that_does_not_come_whole_gets_408() {
    let served = site().serve(Config { header_timeout: SHORT, ..with_threads(1) });
    let mut client = served.client();
    client.send(b"GET / HTTP/1.1\r\nHost: te");
    let took = timed(|| assert_eq!(client.answer().0, 408));
    assert!(took >= SHORT && took < PATIENCE);
    assert!(client.is_closed());
}

#[test]
fn a_client_that_sends_nothing_is_closed() {
    let served = site().serve(Config { header_timeout: SHORT, ..with_threads(1) });
    let mut client = served.client();
    let took = timed(|| assert!(client.is_closed()));
    assert!(took >= SHORT / 2 && took < PATIENCE);
    until("the connection is forgotten", || served.server.connection_count() == 0);
}

#[test]
fn an_idle_connection_is_closed() {
    let served = site().serve(Config { keep_alive_timeout: SHORT, ..with_threads(2) });
    let mut client = served.client();
    assert_eq!(client.get("/turn/1"), ok("/turn/1"));
    let took = timed(|| assert!(client.is_closed()));
    assert!(took >= SHORT / 2 && took < PATIENCE);
}

#[test]
fn a_body_that_does_not_come_gets_408() {
    let served = Site::default()
        .route("/*", Lane::Turn, |exchange| {
            exchange.read_whole();
        })
        .serve(Config { body_timeout: SHORT, ..with_threads(1) });
    let mut client = served.client();
    client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nfour");
    assert_eq!(client.answer().0, 408);
    assert!(client.is_closed());
    until("the handler hears of it", || served.code.signals.load(Ordering::SeqCst) > 0);
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    let served = Site::default()
        .route("/*", Lane::Turn, |exchange| {
            exchange.end(&vec![b'x'; 50_000_000], false);
        })
        .serve(Config { write_timeout: SHORT, ..with_threads(1) });
    let mut client = served.client();
    client.ask("/");
    until("the connection is cut", || served.server.connection_count() == 0);
    assert_eq!(served.client().get("/nothing").0, 200);
}

#[test]
fn a_pending_request_has_all_the_time() {
    let open = Arc::new(Flag::default());
    let wait = Arc::clone(&open);
    let served = Site::default()
        .route("/*", Lane::Loop, move |exchange| {
            let (exchange, wait) = (Arc::clone(exchange), Arc::clone(&wait));
            thread::spawn(move || {
                wait.wait();
                exchange.end(b"late", false);
            });
        })
        .serve(Config {
            header_timeout: SHORT,
            keep_alive_timeout: SHORT,
            body_timeout: SHORT,
            write_timeout: SHORT,
            ..with_threads(1)
        });
    let mut client = served.client();
    client.ask("/");
    thread::sleep(SHORT * 3);
    open.set();
    assert_eq!(client.answer(), ok("late"));
}

// ---- the end ------------------------------------------------------------------------------------------------------------

#[test]
fn close_lets_requests_finish() {
    for lane in [Lane::Turn, Lane::Loop] {
        let (entered, open) = (Arc::new(Flag::default()), Arc::new(Flag::default()));
        let (enter, wait) = (Arc::clone(&entered), Arc::clone(&open));
        let served = site()
            .route("/slow", lane, move |exchange| {
                enter.set();
                wait.wait();
                exchange.end(b"finished", false);
            })
            .serve(with_threads(2));
        let (mut slow, mut idle) = (served.client(), served.client());
        assert_eq!(idle.get("/constant"), ok("constant"));
        slow.ask("/slow").ask("/constant");
        entered.wait();
        served.server.close(PATIENCE);
        served.server.close(Duration::ZERO);
        assert!(idle.is_closed());
        until("the port is closed", || served.refuses());
        assert!(!served.code.drained.is_set());
        open.set();
        let head = slow.until(b"\r\n\r\n").to_str().to_ascii_lowercase();
        assert!(head.contains("connection: close"), "{head}");
        assert_eq!(slow.exactly(8), b"finished");
        assert!(slow.is_closed());
        served.code.drained.wait();
        assert_eq!(served.server.connection_count(), 0);
    }
}

#[test]
fn close_cuts_what_does_not_finish() {
    let kept: Arc<Mutex<Vec<Arc<Exchange>>>> = Arc::default();
    let keep = Arc::clone(&kept);
    let served = Site::default()
        .route("/*", Lane::Turn, move |exchange| keep.lock().push(Arc::clone(exchange)))
        .serve(with_threads(2));
    let mut clients: Vec<Client> = (0..5).map(|_| served.client()).collect();
    for client in &mut clients {
        client.ask("/");
    }
    until("the handlers have run", || kept.lock().len() == 5);
    let took = timed(|| {
        served.server.close(SHORT);
        served.code.drained.wait();
    });
    assert!(took >= SHORT && took < PATIENCE);
    for client in &mut clients {
        assert!(client.is_closed());
    }
    assert!(kept.lock().iter().all(|exchange| exchange.is_aborted() && exchange.is_over()));
    assert_eq!(served.code.signals.load(Ordering::SeqCst), 5);
}

#[test]
fn close_of_an_idle_server_is_immediate() {
    let served = site().serve(with_threads(2));
    let mut clients: Vec<Client> = (0..20).map(|_| served.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/turn/1"), ok("/turn/1"));
    }
    let took = timed(|| {
        served.server.close(PATIENCE);
        served.code.drained.wait();
    });
    assert!(took < PATIENCE / 2);
    for client in &mut clients {
        assert!(client.is_closed());
    }
}

#[test]
fn a_client_that_shuts_its_side_does_not_hold_up_the_end() {
    let entered = Arc::new(Flag::default());
    let enter = Arc::clone(&entered);
    let served = Site::default().route("/*", Lane::Turn, move |_| enter.set()).serve(with_threads(1));
    let mut client = served.client();
    client.ask("/");
    entered.wait();
    served.server.close(PATIENCE);
    client.stream.shutdown(Shutdown::Write).unwrap();
    let took = timed(|| served.code.drained.wait());
    assert!(took < PATIENCE / 2);
}

#[test]
fn join_leaves_a_stuck_thread_behind() {
    let (entered, open) = (Arc::new(Flag::default()), Arc::new(Flag::default()));
    let (enter, wait) = (Arc::clone(&entered), Arc::clone(&open));
    let served = Site::default()
        .route("/*", Lane::Turn, move |_| {
            enter.set();
            wait.wait();
        })
        .serve(with_threads(2));
    let mut client = served.client();
    client.ask("/");
    entered.wait();
    assert!(served.server.join(SHORT).is_none());
    assert!(client.is_closed());
    open.set();
    until("the thread ends", || served.code.io_threads.load(Ordering::SeqCst) == 0);
    until("the turn is left", || !served.code.inside.load(Ordering::SeqCst));
}

#[test]
fn a_server_is_gone_after_its_end() {
    for _ in 0..20 {
        let served = site().serve(with_threads(2));
        let mut clients: Vec<Client> = (0..4).map(|_| served.client()).collect();
        for client in &mut clients {
            client.ask("/turn/1").ask("/loop/1");
        }
        assert!(served.server.join(PATIENCE).is_some());
        for client in &mut clients {
            while client.receive() > 0 {}
        }
        until("nothing holds the server but the test", || {
            // Queued requests of the event loop's thread hold it as well.
            Arc::strong_count(&served.server) == 1
        });
    }
}

// ---- interleavings ------------------------------------------------------------------------------------------------------

/// The next step of one of several clients.
#[derive(Clone, Debug)]
enum Step {
    /// Sends the next bytes of its requests.
    Send(usize),
    /// Reads one response, if one is due.
    Read,
    /// Disconnects, and comes back as a new client.
    Leave,
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let step = prop_oneof![
        6 => (1..120_usize).prop_map(Step::Send),
        5 => Just(Step::Read),
        1 => Just(Step::Leave),
    ];
    (0..4_usize, step)
}

/// A client, its remaining requests, and its remaining responses.
struct Player {
    client: Client,
    unsent: Vec<u8>,
    /// End of each request in the bytes sent, with its path.
    ends: Vec<(usize, String)>,
    sent: usize,
    next: usize,
}

impl Player {
    fn new(served: &Served, seed: usize) -> Self {
        let (mut unsent, mut ends) = (Vec::new(), Vec::new());
        for number in 0..12 {
            let path = match (seed * 7 + number * 5) % 6 {
                0 | 1 => format!("/turn/{seed}/{number}"),
                2 => format!("/loop/{seed}/{number}"),
                3 => format!("/thread/{seed}/{number}"),
                4 => format!("/sleep/{seed}/{number}"),
                _ => "/constant".to_owned(),
            };
            unsent.extend_from_slice(request(&path).as_bytes());
            ends.push((unsent.len(), path));
        }
        Self { client: served.client(), unsent, ends, sent: 0, next: 0 }
    }

    fn send(&mut self, count: usize) {
        let count = count.min(self.unsent.len());
        let bytes: Vec<u8> = self.unsent.drain(..count).collect();
        self.client.send(&bytes);
        self.sent += count;
    }

    fn read(&mut self) {
        let Some((end, path)) = self.ends.get(self.next) else { return };
        if *end <= self.sent {
            let expected = if path == "/constant" { "constant" } else { path };
            assert_eq!(self.client.answer(), ok(expected));
            self.next += 1;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn answers_keep_their_order_whatever_clients_do(
        threads in 1..4_usize,
        close_at in 0..400_usize,
        steps in proptest::collection::vec(step(), 1..160),
    ) {
        let served = site()
            .route("/thread/*", Lane::Turn, |exchange| {
                let exchange = Arc::clone(exchange);
                thread::spawn(move || exchange.end(exchange.path(), false));
            })
            .route("/sleep/*", Lane::Turn, |exchange| {
                thread::sleep(Duration::from_micros(2500));
                echo(exchange);
            })
            .serve(with_threads(threads));
        let mut players: Vec<Player> = (0..4).map(|seed| Player::new(&served, seed)).collect();
        for (at, (who, step)) in steps.iter().enumerate() {
            if at == close_at {
                // In the middle of everything: it ends, and the threads with it.
                served.server.close(SHORT);
                served.code.drained.wait();
                return Ok(());
            }
            match step {
                Step::Send(count) => players[*who].send(*count),
                Step::Read => players[*who].read(),
                Step::Leave => players[*who] = Player::new(&served, who + 4 * at),
            }
        }
        for player in &mut players {
            player.send(usize::MAX);
        }
        for player in &mut players {
            while player.next < player.ends.len() {
                player.read();
            }
        }
    }
}

#[test]
fn a_crowd_of_clients_on_every_lane() {
    const CLIENTS: usize = 24;
    let served = Site::default()
        .route("/turn/*", Lane::Turn, echo)
        .route("/loop/*", Lane::Loop, echo)
        .route("/thread/*", Lane::Turn, |exchange| {
            let exchange = Arc::clone(exchange);
            thread::spawn(move || exchange.end(exchange.path(), false));
        })
        .route("/sleep/*", Lane::Turn, |exchange| {
            thread::sleep(Duration::from_millis(3));
            echo(exchange);
        })
        .constant("/constant", b"constant")
        .serve(with_threads(3));
    let start = Barrier::new(CLIENTS);
    let counts: Mutex<HashMap<&str, usize>> = Mutex::default();
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (served, start, counts) = (&served, &start, &counts);
            scope.spawn(move || {
                let mut client = served.client();
                start.wait();
                for turn in 0..60 {
                    let kind = ["turn", "loop", "thread", "sleep"][(number + turn) % 4];
                    let path = format!("/{kind}/{number}/{turn}");
                    if turn % 10 == 9 {
                        // Leaves in the middle of a request, so that the response has no client.
                        client.ask(&path);
                        client = served.client();
                    } else {
                        assert_eq!(client.get(&path), ok(&path));
                        *counts.lock().entry(kind).or_default() += 1;
                    }
                    assert_eq!(client.get("/constant"), ok("constant"));
                }
            });
        }
    });
    assert_eq!(counts.lock().values().sum::<usize>(), CLIENTS * 54);
    until("all connections are gone", || served.server.connection_count() == 0);
}
