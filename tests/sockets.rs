//! The sockets of WebSocket routes over real connections, with user code in Rust: the order of events, the
//! time of writes, and the end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::any::Any;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use socket2::SockRef;
use socketify::app::{App, Behavior, HandlerId, Job, Lane, Listener as To, Signal, Target};
use socketify::config::{Config, SocketConfig};
use socketify::net::{Endpoint, Listener};
use socketify::router::{Domains, Kind, Live, Router};
use socketify::server::{self, Event, Exchange, SendError, SendStatus, Server, WebSocket};
use socketify::websocket::OpCode;

use self::support::{Flag, PATIENCE, timed, until, with_threads};

const LANES: [Lane; 2] = [Lane::Turn, Lane::Loop];
const SHORT: Duration = Duration::from_millis(300);
/// Longest delay of a socket's end for earlier events.
const LINGER: Duration = Duration::from_secs(2);

// ---- user code ----------------------------------------------------------------------------------------------------------

type OnRequest = Box<dyn Fn(&Arc<Exchange>) + Send + Sync>;
type OnEvent = Box<dyn Fn(&Arc<WebSocket>, Event) -> Dealt + Send + Sync>;

/// Whether an event is finished when its listener returns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dealt {
    Now,
    /// A later call of [`WebSocket::finished`].
    Later,
}

enum Handler {
    Request(OnRequest),
    Event(OnEvent),
}

/// Jobs for the thread that acts as the event loop.
#[derive(Default)]
struct Posts {
    jobs: VecDeque<Job>,
    announced: bool,
    ended: bool,
}

/// User code: closures by handler number, some run in the turn, some on a thread that acts as the event loop.
struct Code {
    handlers: Vec<Handler>,
    posts: Mutex<Posts>,
    posted: Condvar,
    drained: Flag,
    /// Sockets whose listener runs.
    inside: Mutex<HashSet<u64>>,
    /// Observations that must never happen.
    faults: Mutex<Vec<String>>,
    /// How often [`Event::Room`] came.
    rooms: AtomicUsize,
}

impl Code {
    fn do_job(&self, job: Job, lane: Lane) {
        match job {
            Job::Request(exchange) => {
                if let Handler::Request(handler) = &self.handlers[exchange.handler() as usize] {
                    handler(&exchange);
                }
                exchange.uncork();
            }
            Job::Signal(..) | Job::ServerName(_) | Job::Note(_) => {}
            Job::Socket(socket) => self.converse(&socket, lane),
        }
    }

    fn converse(&self, socket: &Arc<WebSocket>, lane: Lane) {
        let mut done = 0;
        while let Some(event) = socket.next(lane, done) {
            done = event.weight();
            let Some(listener) = event.listener(socket.behavior()) else {
                if matches!(event, Event::Room) {
                    self.rooms.fetch_add(1, Ordering::SeqCst);
                }
                continue;
            };
            if listener.lane != lane {
                self.faults.lock().push(format!("{event:?} in {lane:?}"));
            }
            if !self.inside.lock().insert(socket.id()) {
                self.faults.lock().push(format!("{event:?} while another listener runs"));
            }
            if let Handler::Event(handler) = &self.handlers[listener.id as usize]
                && handler(socket, event) == Dealt::Later
            {
                done = 0;
            }
            self.inside.lock().remove(&socket.id());
        }
    }

    /// The thread that acts as the event loop. It sleeps until it is notified, and corks its jobs.
    fn run_loop(&self) {
        loop {
            let jobs = {
                let mut posts = self.posts.lock();
                while !posts.announced && !posts.ended {
                    self.posted.wait(&mut posts);
                }
                posts.announced = false;
                if posts.jobs.is_empty() && posts.ended {
                    return;
                }
                std::mem::take(&mut posts.jobs)
            };
            let _batch = server::open_batch();
            for job in jobs {
                self.do_job(job, Lane::Loop);
            }
        }
    }
}

impl App for Code {
    fn run(&self, jobs: &mut dyn Iterator<Item = Job>) {
        for job in jobs {
            self.do_job(job, Lane::Turn);
        }
    }

    fn post(&self, job: Job) {
        self.posts.lock().jobs.push_back(job);
    }

    fn posted(&self) {
        self.posts.lock().announced = true;
        self.posted.notify_all();
    }

    fn signal(&self, _: Arc<Exchange>, _: Signal) {}

    fn drained(&self) {
        self.drained.set();
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A future server, whose every path leads to one WebSocket route.
#[derive(Default)]
struct Site {
    behavior: Behavior,
    /// Requests to `/http`.
    http: Option<To>,
    handlers: Vec<Handler>,
}

fn site() -> Site {
    Site::default()
}

impl Site {
    fn add(&mut self, lane: Lane, handler: Handler) -> To {
        self.handlers.push(handler);
        To { id: HandlerId::try_from(self.handlers.len() - 1).unwrap(), lane }
    }

    fn listen(&mut self, lane: Lane, act: impl Fn(&Arc<WebSocket>, Event) + Send + Sync + 'static) -> To {
        let act = move |socket: &Arc<WebSocket>, event: Event| {
            act(socket, event);
            Dealt::Now
        };
        self.add(lane, Handler::Event(Box::new(act)))
    }

    fn config(mut self, config: SocketConfig) -> Self {
        self.behavior.config = config;
        self
    }

    fn http(mut self, lane: Lane, act: impl Fn(&Arc<Exchange>) + Send + Sync + 'static) -> Self {
        self.http = Some(self.add(lane, Handler::Request(Box::new(act))));
        self
    }

    fn upgrade(mut self, lane: Lane, act: impl Fn(&Arc<Exchange>) + Send + Sync + 'static) -> Self {
        self.behavior.upgrade = Some(self.add(lane, Handler::Request(Box::new(act))));
        self
    }

    fn open(mut self, lane: Lane, act: impl Fn(&Arc<WebSocket>) + Send + Sync + 'static) -> Self {
        self.behavior.open = Some(self.listen(lane, move |socket, _| act(socket)));
        self
    }

    fn message(mut self, lane: Lane, act: impl Fn(&Arc<WebSocket>, &[u8]) + Send + Sync + 'static) -> Self {
        self.behavior.message = Some(self.listen(lane, move |socket, event| act(socket, &payload(event))));
        self
    }

    /// Messages whose listener reports its end later.
    fn task(mut self, lane: Lane, act: impl Fn(&Arc<WebSocket>, Event) + Send + Sync + 'static) -> Self {
        let act = move |socket: &Arc<WebSocket>, event: Event| {
            act(socket, event);
            Dealt::Later
        };
        self.behavior.message = Some(self.add(lane, Handler::Event(Box::new(act))));
        self
    }

    fn drain(mut self, lane: Lane, act: impl Fn(&Arc<WebSocket>) + Send + Sync + 'static) -> Self {
        self.behavior.drain = Some(self.listen(lane, move |socket, _| act(socket)));
        self
    }

    fn ping(mut self, lane: Lane, act: impl Fn(&Arc<WebSocket>, &[u8]) + Send + Sync + 'static) -> Self {
        self.behavior.ping = Some(self.listen(lane, move |socket, event| act(socket, &payload(event))));
        self
    }

    fn subscription(
        mut self,
        lane: Lane,
        act: impl Fn(&Arc<WebSocket>, Event) + Send + Sync + 'static,
    ) -> Self {
        self.behavior.subscription = Some(self.listen(lane, act));
        self
    }

    fn close(
        mut self,
        lane: Lane,
        act: impl Fn(&Arc<WebSocket>, u16, &[u8]) + Send + Sync + 'static,
    ) -> Self {
        self.behavior.close = Some(self.listen(lane, move |socket, event| {
            let Event::Close { code, reason } = event else { panic!("{event:?} is no end") };
            act(socket, code, &reason.unwrap_or_default());
        }));
        self
    }

    /// Records each end.
    fn closes(self, lane: Lane, closes: &Closes) -> Self {
        let closes = Arc::clone(closes);
        self.close(lane, move |socket, code, reason| {
            let reason = String::from_utf8(reason.to_vec()).unwrap();
            closes.lock().entry(socket.id()).or_default().push((code, reason));
        })
    }

    fn serve(self, config: Config) -> Served {
        let code = Arc::new(Code {
            handlers: self.handlers,
            posts: Mutex::default(),
            posted: Condvar::new(),
            drained: Flag::default(),
            inside: Mutex::default(),
            faults: Mutex::default(),
            rooms: AtomicUsize::new(0),
        });
        let mut paths = Router::default();
        paths.insert(Kind::WebSocket, "/*", Target::WebSocket(Arc::new(self.behavior))).unwrap();
        if let Some(To { id, lane }) = self.http {
            paths
                .insert(Kind::any(), "/http", Target::Handler { id, lane, max_body_size: None, lease: None })
                .unwrap();
        }
        let event_loop = {
            let code = Arc::clone(&code);
            thread::spawn(move || code.run_loop())
        };
        let endpoint = Endpoint::Tcp { host: Some("127.0.0.1".into()), port: 0, exclusive: false };
        let listener = Listener::bind(&endpoint).unwrap();
        let port = listener.port();
        let app: Arc<dyn App> = Arc::<Code>::clone(&code);
        let routes = Arc::new(Live::from(Domains::from(paths)));
        let server = Server::start(config, app, routes, vec![listener]).unwrap();
        Served { server, code, port, event_loop: Some(event_loop) }
    }
}

/// The payload of a message or a control frame.
fn payload(event: Event) -> Vec<u8> {
    match event {
        Event::Text(bytes) | Event::Binary(bytes) | Event::Ping(bytes) | Event::Pong(bytes) => bytes,
        event => panic!("{event:?} carries nothing"),
    }
}

/// The ends of each socket, by its number.
type Closes = Arc<Mutex<HashMap<u64, Vec<(u16, String)>>>>;

/// A list that several threads write and a test reads.
type Log<T> = Arc<Mutex<Vec<T>>>;

fn end_of(closes: &Closes) -> Vec<(u16, String)> {
    closes.lock().values().flatten().cloned().collect()
}

/// A flag, with one handle for the test and one for user code.
fn flag() -> (Arc<Flag>, Arc<Flag>) {
    let flag = Arc::new(Flag::default());
    (Arc::clone(&flag), flag)
}

fn send(socket: &WebSocket, message: &[u8]) -> SendStatus {
    socket.send(message, OpCode::Binary, false, true).unwrap()
}

/// A running server. It ends when the value is dropped.
struct Served {
    server: Arc<Server>,
    code: Arc<Code>,
    port: u16,
    event_loop: Option<JoinHandle<()>>,
}

impl Served {
    /// A connection without any bytes sent.
    fn raw(&self) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, pending: Vec::new(), at: 0 }
    }

    /// A socket.
    fn client(&self) -> Client {
        let mut client = self.raw();
        client.write(HANDSHAKE);
        client.expect_handshake();
        client
    }

    /// A socket with a small buffer.
    fn slow_client(&self) -> Client {
        let mut client = self.raw();
        SockRef::from(&client.stream).set_recv_buffer_size(256 * 1024).unwrap();
        client.write(HANDSHAKE);
        client.expect_handshake();
        client
    }

    fn publish(&self, topic: &str, message: &[u8]) -> usize {
        self.server.publish(topic.as_bytes(), message, OpCode::Binary, false)
    }

    /// Ends the threads and runs the remaining jobs; true if all of them ended.
    fn end(&mut self) -> bool {
        let Some(event_loop) = self.event_loop.take() else { return true };
        let Some(mut jobs) = self.server.join(PATIENCE) else { return false };
        self.code.posts.lock().ended = true;
        self.code.posted.notify_all();
        let ended = event_loop.join().is_ok();
        // A job in one lane may leave a job for the other.
        loop {
            jobs.extend(self.server.join(Duration::ZERO).unwrap());
            let posts = std::mem::take(&mut self.code.posts.lock().jobs);
            if jobs.is_empty() && posts.is_empty() {
                return ended;
            }
            for job in jobs.drain(..) {
                self.code.do_job(job, Lane::Turn);
            }
            for job in posts {
                self.code.do_job(job, Lane::Loop);
            }
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let ended = self.end();
        if !thread::panicking() {
            assert!(ended, "the threads did not end");
            assert_eq!(*self.code.faults.lock(), Vec::<String>::new());
        }
    }
}

// ---- clients ------------------------------------------------------------------------------------------------------------

const HANDSHAKE: &[u8] =
    b"GET /socket HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: first, second\r\n\r\n";

/// A frame as a client receives it.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    fin: bool,
    opcode: OpCode,
    payload: Vec<u8>,
}

/// A whole frame of a client.
fn masked(fin: bool, opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = *b"\x12\x34\x56\x78";
    let mut out = Vec::new();
    socketify::websocket::encode_header(&mut out, fin, false, opcode, payload.len());
    out[1] |= 0x80;
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

fn text(payload: &str) -> Vec<u8> {
    masked(true, OpCode::Text, payload.as_bytes())
}

fn goodbye(code: u16, reason: &str) -> Vec<u8> {
    masked(true, OpCode::Close, &socketify::websocket::close_payload(code, reason.as_bytes()))
}

struct Client {
    stream: TcpStream,
    pending: Vec<u8>,
    /// Bytes of `pending` that have been read.
    at: usize,
}

impl Client {
    fn write(&mut self, bytes: &[u8]) -> &mut Self {
        self.stream.write_all(bytes).unwrap();
        self
    }

    fn text(&mut self, payload: &str) -> &mut Self {
        self.write(&text(payload))
    }

    /// The next bytes; none at the end or after a reset.
    fn receive(&mut self) -> usize {
        if self.at > 0 && self.at == self.pending.len() {
            self.pending.clear();
            self.at = 0;
        }
        let length = self.pending.len();
        self.pending.resize(length + 64 * 1024, 0);
        let read = self.stream.read(&mut self.pending[length..]);
        let count = match read {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("nothing arrives: {error}"),
        };
        self.pending.truncate(length + count);
        count
    }

    /// Reads without waiting; returns whether there is anything.
    fn has_received(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        self.at < self.pending.len() || peeked.is_ok()
    }

    fn unread(&self) -> &[u8] {
        &self.pending[self.at..]
    }

    fn expect_handshake(&mut self) {
        let end = loop {
            if let Some(end) = self.unread().windows(4).position(|window| window == b"\r\n\r\n") {
                break self.at + end + 4;
            }
            assert!(self.receive() > 0, "closed in the handshake");
        };
        let head = String::from_utf8(self.pending[self.at..end].to_vec()).unwrap();
        self.at = end;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        assert!(head.contains("Sec-WebSocket-Protocol: first\r\n"), "{head}");
    }

    /// The next frame; `None` at the end. Checks every rule for a server's frames.
    fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, size)) = parse(self.unread()) {
                self.at += size;
                return Some(frame);
            }
            if self.receive() == 0 {
                assert!(self.unread().is_empty(), "closed within a frame");
                return None;
            }
        }
    }

    fn frame(&mut self) -> Frame {
        self.next().expect("a frame, not the end")
    }

    /// The payload of the next frame, which is a whole message.
    fn message(&mut self) -> Vec<u8> {
        let frame = self.frame();
        assert!(frame.fin && !frame.opcode.is_control(), "{:?} is no message", frame.opcode);
        frame.payload
    }

    fn string(&mut self) -> String {
        String::from_utf8(self.message()).unwrap()
    }

    /// The server ends the socket like this, and the connection when the client does.
    fn expect_end(&mut self, code: u16, reason: &str) {
        let frame = self.frame();
        assert_eq!(frame.opcode, OpCode::Close, "{frame:?}");
        assert_eq!(frame.payload, socketify::websocket::close_payload(code, reason.as_bytes()));
        assert_eq!(self.next(), None);
    }

    /// Disconnects without a close frame.
    fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// The frame at the start of `bytes`, and its length.
fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(first & 0x70, 0, "a reserved bit");
    assert_eq!(second & 0x80, 0, "a mask");
    let opcode = OpCode::from_bits(first & 0x0f).expect("a known kind of frame");
    let (length, header) = match second {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())), 4),
        127 => (usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap())).unwrap(), 10),
        short => (usize::from(short), 2),
    };
    assert!(length < 1 << 24, "a length out of nowhere: {length}");
    let payload = bytes.get(header..header + length)?.to_vec();
    Some((Frame { fin: first & 0x80 != 0, opcode, payload }, header + length))
}

/// A message with its sender, its number, and bytes that follow from both.
fn stamped(who: usize, number: usize, length: usize) -> Vec<u8> {
    let mut message = format!("{who} {number} ").into_bytes();
    let seed = who * 131 + number * 17;
    message.extend((0..length).map(|at| (seed + at * 7 + at / 251).to_le_bytes()[0]));
    message
}

/// Reads the stamp of a message and checks its bytes.
fn stamp(message: &[u8]) -> (usize, usize) {
    let mut parts = message.splitn(3, |&byte| byte == b' ');
    let mut number = || std::str::from_utf8(parts.next().unwrap()).unwrap().parse::<usize>().unwrap();
    let (who, number) = (number(), number());
    let length = parts.next().unwrap().len();
    assert!(message == stamped(who, number, length), "message {number} of {who} has been altered");
    (who, number)
}

/// Checks that the messages of each sender come in the order of their numbers; counts them.
#[derive(Default)]
struct InOrder(HashMap<usize, usize>);

impl InOrder {
    fn take(&mut self, message: &[u8]) {
        let (who, number) = stamp(message);
        let next = self.0.entry(who).or_default();
        assert_eq!(number, *next, "of {who}");
        *next += 1;
    }

    fn count(&self) -> usize {
        self.0.values().sum()
    }
}

// ---- the handshake ------------------------------------------------------------------------------------------------------

const KEY: &[u8] = b"dGhlIHNhbXBsZSBub25jZQ==";

/// Upgrades with a value for the socket to keep.
fn upgrade(exchange: &Exchange) {
    let offered = exchange.header(b"sec-websocket-protocol").unwrap();
    let socket = exchange.upgrade(KEY, &offered, b"", Some(Box::new("kept"))).unwrap();
    assert!(socket.is_some_and(|socket| socket.is_open()));
}

fn echo(socket: &Arc<WebSocket>, message: &[u8]) {
    send(socket, message);
}

/// Greets with the socket's value, and echoes.
fn greeter(lane: Lane) -> Site {
    let greet = |socket: &Arc<WebSocket>| {
        let kept = socket.user().get().and_then(|user| user.downcast_ref::<&str>());
        send(socket, kept.copied().unwrap_or("nothing kept").as_bytes());
    };
    site().open(lane, greet).message(lane, echo)
}

/// The deciders on handshakes: the server itself, user code at once, and user code later on a thread of its
/// own.
fn deciders(lane: Lane) -> [(Site, &'static str); 3] {
    let later = |exchange: &Arc<Exchange>| {
        let exchange = Arc::clone(exchange);
        thread::spawn(move || upgrade(&exchange));
    };
    [
        (greeter(lane), "nothing kept"),
        (greeter(lane).upgrade(lane, |exchange| upgrade(exchange)), "kept"),
        (greeter(lane).upgrade(lane, later), "kept"),
    ]
}

#[test]
fn a_handshake_opens_a_socket() {
    for lane in LANES {
        for (site, greeting) in deciders(lane) {
            let served = site.serve(with_threads(2));
            for _ in 0..20 {
                let mut client = served.client();
                assert_eq!(client.string(), greeting);
                client.text("hello");
                assert_eq!(client.string(), "hello");
                client.write(&goodbye(1000, "bye")).expect_end(1000, "bye");
            }
        }
    }
}

#[test]
fn frames_may_come_with_the_handshake() {
    for lane in LANES {
        for (site, greeting) in deciders(lane) {
            let served = site.serve(with_threads(2));
            let mut bytes = HANDSHAKE.to_vec();
            for frame in [text("one"), masked(true, OpCode::Ping, b"?"), text("two"), goodbye(4000, "")] {
                bytes.extend_from_slice(&frame);
            }
            for cut in (0..bytes.len()).step_by(7) {
                let mut client = served.raw();
                client.write(&bytes[..cut]).write(&bytes[cut..]);
                client.expect_handshake();
                let (mut messages, mut pongs) = (Vec::new(), 0);
                let end = loop {
                    let frame = client.frame();
                    match frame.opcode {
                        OpCode::Pong => pongs += usize::from(frame.payload == b"?"),
                        OpCode::Close => break frame.payload,
                        _ => messages.push(String::from_utf8(frame.payload).unwrap()),
                    }
                };
                assert_eq!((messages, pongs), (vec![greeting.into(), "one".into(), "two".into()], 1));
                assert_eq!(end, 4000_u16.to_be_bytes());
                assert_eq!(client.next(), None);
            }
        }
    }
}

#[test]
fn a_refused_handshake_leaves_http() {
    for lane in LANES {
        let refuse = |exchange: &Arc<Exchange>| {
            exchange.set_status(401).unwrap();
            exchange.end(b"who?", false);
            let late = exchange.upgrade(KEY, b"", b"", None);
            assert!(matches!(late, Ok(None)));
        };
        let served = greeter(lane).upgrade(lane, refuse).serve(with_threads(1));
        let mut client = served.raw();
        for _ in 0..2 {
            client.write(HANDSHAKE);
            while !client.unread().ends_with(b"\r\n\r\nwho?") {
                assert!(client.receive() > 0);
            }
            assert!(client.unread().starts_with(b"HTTP/1.1 401 "));
            client.at = client.pending.len();
        }
    }
}

// ---- events -------------------------------------------------------------------------------------------------------------

#[test]
fn events_keep_their_order_across_lanes() {
    const SOCKETS: usize = 6;
    const MESSAGES: usize = 60;
    for (of_open, of_messages, of_pings, of_end) in [
        (Lane::Loop, Lane::Turn, Lane::Loop, Lane::Turn),
        (Lane::Turn, Lane::Loop, Lane::Turn, Lane::Loop),
        (Lane::Loop, Lane::Turn, Lane::Turn, Lane::Loop),
    ] {
        let heard: Log<(u64, String)> = Log::default();
        let note = || {
            let heard = Arc::clone(&heard);
            move |socket: &Arc<WebSocket>, what: &[u8]| {
                heard.lock().push((socket.id(), String::from_utf8(what.to_vec()).unwrap()));
            }
        };
        let (open, message, ping, close) = (note(), note(), note(), note());
        let slow = move |socket: &Arc<WebSocket>| {
            // The next events arrive before this returns.
            thread::sleep(Duration::from_millis(2));
            open(socket, b"open");
        };
        let served = site()
            .open(of_open, slow)
            .message(of_messages, message)
            .ping(of_pings, ping)
            .close(of_end, move |socket, code, reason| close(socket, format!("{code} {reason:?}").as_bytes()))
            .serve(with_threads(2));
        thread::scope(|scope| {
            for _ in 0..SOCKETS {
                scope.spawn(|| {
                    let mut client = served.raw();
                    let mut bytes = HANDSHAKE.to_vec();
                    for number in 0..MESSAGES {
                        let opcode = if number % 3 == 0 { OpCode::Ping } else { OpCode::Text };
                        bytes.extend(masked(true, opcode, number.to_string().as_bytes()));
                    }
                    bytes.extend(goodbye(1000, ""));
                    client.write(&bytes).expect_handshake();
                    while client.next().is_some() {}
                });
            }
        });
        until("everything is heard", || heard.lock().len() == SOCKETS * (MESSAGES + 2));
        let mut expected = vec!["open".to_owned()];
        expected.extend((0..MESSAGES).map(|number| number.to_string()));
        expected.push("1000 []".into());
        let mut by_socket: HashMap<u64, Vec<String>> = HashMap::new();
        for (id, what) in heard.lock().drain(..) {
            by_socket.entry(id).or_default().push(what);
        }
        assert_eq!(by_socket.len(), SOCKETS);
        for heard in by_socket.values() {
            assert_eq!(*heard, expected);
        }
    }
}

#[test]
fn a_goodbye_waits_for_what_came_before_it() {
    for lane in LANES {
        let (closes, (entered, enter), (open, wait)) = (Closes::default(), flag(), flag());
        let served = site()
            .message(lane, move |socket, message| {
                enter.set();
                wait.wait();
                assert_eq!(send(socket, message), SendStatus::Success);
            })
            .closes(lane, &closes)
            .serve(with_threads(2));
        let mut client = served.client();
        client.text("one").text("two").write(&goodbye(4001, "done"));
        entered.wait();
        // A response to the close frame would have to pass the ping, which the server must not read.
        client.write(&masked(true, OpCode::Ping, b""));
        assert!(!client.has_received() && closes.lock().is_empty());
        open.set();
        assert_eq!((client.string(), client.string()), ("one".into(), "two".into()));
        client.expect_end(4001, "done");
        until("the end is heard", || end_of(&closes) == [(4001, "done".into())]);
    }
}

#[test]
fn a_goodbye_waits_for_tasks() {
    for lane in LANES {
        let (closes, tasks) = (Closes::default(), Log::<(Arc<WebSocket>, Event)>::default());
        let begun = Arc::clone(&tasks);
        let served = site()
            .task(lane, move |socket, event| begun.lock().push((Arc::clone(socket), event)))
            .closes(lane, &closes)
            .serve(with_threads(2));
        let mut client = served.client();
        client.text("one").text("two").text("three").write(&goodbye(1000, ""));
        until("the tasks have begun", || tasks.lock().len() == 3);
        // Tasks end in any order, on any thread.
        for (socket, event) in tasks.lock().drain(..).rev() {
            assert!(socket.is_open() && !client.has_received());
            let weight = event.weight();
            send(&socket, &payload(event));
            assert_eq!(client.frame().opcode, OpCode::Binary);
            socket.finished(weight);
        }
        client.expect_end(1000, "");
        until("the end is heard", || end_of(&closes) == [(1000, String::new())]);
    }
}

#[test]
fn a_goodbye_waits_two_seconds_at_most() {
    let (closes, tasks) = (Closes::default(), Log::<(Arc<WebSocket>, usize)>::default());
    let begun = Arc::clone(&tasks);
    let served = site()
        .task(Lane::Turn, move |socket, event| begun.lock().push((Arc::clone(socket), event.weight())))
        .closes(Lane::Turn, &closes)
        .serve(with_threads(1));
    let mut client = served.client();
    let took = timed(|| client.text("never done").write(&goodbye(1000, "bye")).expect_end(1000, "bye"));
    assert!(took >= LINGER && took < LINGER * 2, "{took:?}");
    until("the end is heard", || end_of(&closes) == [(1000, "bye".into())]);
    for (socket, weight) in tasks.lock().drain(..) {
        assert_eq!(send(&socket, b"late"), SendStatus::Dropped);
        socket.finished(weight);
        assert!(!socket.end(1000, None));
    }
    drop(client);
    until("the connection is forgotten", || served.server.connection_count() == 0);
    assert_eq!(end_of(&closes).len(), 1);
}

#[test]
fn a_goodbye_is_believed_whatever_comes_after_it() {
    for lane in LANES {
        let (closes, (entered, enter), (open, wait)) = (Closes::default(), flag(), flag());
        let served = site()
            .message(lane, move |socket, message| {
                enter.set();
                wait.wait();
                // This meets the reset, if the kernel has not reported it before.
                for _ in 0..3 {
                    send(socket, message);
                }
            })
            .closes(lane, &closes)
            .serve(with_threads(2));
        let mut client = served.client();
        // In one piece, since the reset discards unread bytes.
        client.write(&[text("one"), goodbye(4002, "gone")].concat());
        entered.wait();
        client.reset();
        open.set();
        until("the end is heard", || end_of(&closes) == [(4002, "gone".into())]);
        until("the connection is forgotten", || served.server.connection_count() == 0);
    }
}

#[test]
fn an_end_drops_what_had_come() {
    for lane in LANES {
        let (closes, heard, (open, wait)) = (Closes::default(), Log::<Vec<u8>>::default(), flag());
        let hear = Arc::clone(&heard);
        let served = site()
            .message(lane, move |socket, message| {
                hear.lock().push(message.to_vec());
                wait.wait();
                assert!(socket.end(4003, Some(b"enough")));
                assert!(!socket.is_open() && !socket.end(4004, None) && !socket.close());
                assert_eq!(send(socket, b"late"), SendStatus::Dropped);
            })
            .closes(lane, &closes)
            .serve(with_threads(2));
        let mut client = served.client();
        for number in 0..50 {
            client.text(&number.to_string());
        }
        // The pong proves that all of it has been read.
        client.write(&masked(true, OpCode::Ping, b"last"));
        assert_eq!(client.frame().payload, b"last");
        open.set();
        client.text("more").expect_end(4003, "enough");
        drop(client);
        until("the end is heard", || end_of(&closes) == [(4003, "enough".into())]);
        until("the connection is forgotten", || served.server.connection_count() == 0);
        assert_eq!(*heard.lock(), [b"0"]);
    }
}

#[test]
fn the_end_comes_once() {
    const ROUNDS: usize = 200;
    const ENDERS: usize = 8;
    for (lane, other) in [(Lane::Turn, Lane::Loop), (Lane::Loop, Lane::Turn)] {
        let (closes, opened, late) =
            (Closes::default(), Log::<Arc<WebSocket>>::default(), Arc::new(Mutex::new(0)));
        let (open, ends, count) = (Arc::clone(&opened), Arc::clone(&closes), Arc::clone(&late));
        let served = site()
            .open(other, move |socket| open.lock().push(Arc::clone(socket)))
            .message(lane, move |socket, _| {
                *count.lock() += usize::from(ends.lock().contains_key(&socket.id()));
            })
            .closes(other, &closes)
            .serve(with_threads(2));
        for round in 0..ROUNDS / 2 {
            let mut client = served.client();
            until("the socket is open", || !opened.lock().is_empty());
            let socket = opened.lock().pop().unwrap();
            let (start, ended) = (Barrier::new(ENDERS + 1), AtomicUsize::new(0));
            thread::scope(|scope| {
                for number in 0..ENDERS {
                    let (socket, start, ended) = (&socket, &start, &ended);
                    scope.spawn(move || {
                        start.wait();
                        let did = match (round + number) % 8 {
                            0 => socket.close(),
                            1 => socket.end(1006, None),
                            _ => socket.end(4000, Some(b"mine")),
                        };
                        ended.fetch_add(usize::from(did), Ordering::SeqCst);
                    });
                }
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    if round % 2 == 0 {
                        let _ = client.stream.write_all(&text("still here"));
                    }
                    if round % 3 == 0 {
                        let _ = client.stream.write_all(&goodbye(1000, "mine too"));
                    }
                    client.reset();
                });
            });
            assert!(ended.load(Ordering::SeqCst) <= 1, "several have ended it");
            assert!(!socket.is_open());
            until("the end is heard", || closes.lock().len() == round + 1);
        }
        until("the connections are forgotten", || served.server.connection_count() == 0);
        assert!(closes.lock().values().all(|ends| ends.len() == 1), "{:?}", closes.lock());
        assert_eq!(*late.lock(), 0, "messages after the end");
    }
}

#[test]
fn a_socket_ends_in_any_way_that_ends_it() {
    let (closes, opened) = (Closes::default(), Log::<Arc<WebSocket>>::default());
    let open = Arc::clone(&opened);
    let served = site()
        .open(Lane::Turn, move |socket| open.lock().push(Arc::clone(socket)))
        .closes(Lane::Loop, &closes)
        .serve(with_threads(2));
    let next = || {
        let client = served.client();
        until("the socket is open", || !opened.lock().is_empty());
        (client, opened.lock().pop().unwrap())
    };
    let heard = |socket: &Arc<WebSocket>, code: u16, reason: &str| {
        until("the end is heard", || closes.lock().contains_key(&socket.id()));
        assert_eq!(closes.lock()[&socket.id()], [(code, reason.to_owned())]);
    };
    let (client, socket) = next();
    drop(client);
    heard(&socket, 1006, "");
    let (mut client, socket) = next();
    client.write(&masked(true, OpCode::Close, b"")).expect_end(0, "");
    heard(&socket, 1005, "");
    let (mut client, socket) = next();
    client.write(b"\x81\x05hello").expect_end(1002, "unmasked frame from a client");
    heard(&socket, 1006, "");
    let (mut client, socket) = next();
    client.write(&masked(true, OpCode::Text, &vec![b'x'; 20_000]));
    assert_eq!(client.frame().payload[..2], 1009_u16.to_be_bytes());
    heard(&socket, 1006, "Received too big message");
    let (mut client, socket) = next();
    assert!(socket.close());
    assert_eq!(client.next(), None);
    heard(&socket, 1006, "");
    let (mut client, socket) = next();
    assert!(socket.end(0, Some(b"for the listener alone")));
    client.expect_end(0, "");
    heard(&socket, 0, "for the listener alone");
}

// ---- sending ------------------------------------------------------------------------------------------------------------

/// A site that gives the test each socket that opens.
fn collected(lane: Lane) -> (Site, Log<Arc<WebSocket>>) {
    let opened: Log<Arc<WebSocket>> = Log::default();
    let open = Arc::clone(&opened);
    (site().open(lane, move |socket| open.lock().push(Arc::clone(socket))), opened)
}

/// The next socket that opens.
fn take(opened: &Log<Arc<WebSocket>>) -> Arc<WebSocket> {
    until("a socket is open", || !opened.lock().is_empty());
    opened.lock().pop().unwrap()
}

fn without_limit() -> SocketConfig {
    SocketConfig { max_backpressure: 0, ..SocketConfig::default() }
}

#[test]
fn frames_stay_whole_whoever_sends() {
    const SENDERS: usize = 6;
    const MESSAGES: usize = 120;
    let (site, opened) = collected(Lane::Loop);
    let served = site.config(without_limit()).serve(with_threads(2));
    let mut client = served.slow_client();
    let socket = take(&opened);
    socket.subscribe(b"all");
    let start = Barrier::new(SENDERS);
    thread::scope(|scope| {
        for who in 0..SENDERS {
            let (served, socket, start) = (&served, &socket, &start);
            scope.spawn(move || {
                start.wait();
                for number in 0..MESSAGES {
                    // Copied, shared, and given to the kernel in place.
                    let length = [3, 300, 5_000, 40_000][(who + number) % 4];
                    let message = stamped(who, number, length);
                    match (who + number) % 5 {
                        0 => assert_eq!(served.publish("all", &message), 1),
                        1 => {
                            let _batch = server::open_batch();
                            assert_ne!(send(socket, &message), SendStatus::Dropped);
                        }
                        _ => assert_ne!(send(socket, &message), SendStatus::Dropped),
                    }
                }
            });
        }
        let mut seen = InOrder::default();
        while seen.count() < SENDERS * MESSAGES {
            seen.take(&client.message());
        }
    });
    assert!(!client.has_received());
    assert_eq!((socket.buffered(), socket.dropped()), (0, 0));
}

#[test]
fn what_a_job_sends_leaves_when_it_ends() {
    for lane in LANES {
        let ((sent, tell), (open, wait)) = (flag(), flag());
        let served = site()
            .message(lane, move |socket, _| {
                for number in 0..10 {
                    assert_eq!(send(socket, &stamped(0, number, 100)), SendStatus::Success);
                }
                tell.set();
                wait.wait();
                for number in 10..20 {
                    assert_eq!(send(socket, &stamped(0, number, 100)), SendStatus::Success);
                }
            })
            .serve(with_threads(2));
        let mut client = served.client();
        client.text("go");
        sent.wait();
        assert!(!client.has_received(), "something left before the job had ended");
        open.set();
        client.receive();
        // One write is one segment here, and one read takes it.
        let mut seen = InOrder::default();
        while let Some((frame, size)) = parse(client.unread()) {
            client.at += size;
            seen.take(&frame.payload);
        }
        assert_eq!((seen.count(), client.unread()), (20, &b""[..]));
    }
}

#[test]
fn a_foreign_thread_waits_for_no_job() {
    for lane in LANES {
        let ((entered, enter), (open, wait)) = (flag(), flag());
        let (site, opened) = collected(lane);
        let served = site
            .message(lane, move |socket, _| {
                send(socket, b"first");
                enter.set();
                wait.wait();
                send(socket, b"last");
            })
            .serve(with_threads(2));
        let (mut other, mut client) = (served.client(), served.client());
        until("both are open", || opened.lock().len() == 2);
        let sockets: Vec<_> = opened.lock().drain(..).collect();
        for socket in &sockets {
            socket.subscribe(b"all");
        }
        client.text("go");
        entered.wait();
        // Output held by a cork leaves with messages from another thread: there is one order.
        for (round, sent) in ["sent", "published", "sent again"].into_iter().enumerate() {
            if round == 1 {
                assert_eq!(served.publish("all", sent.as_bytes()), 2);
            } else {
                for socket in &sockets {
                    assert_eq!(send(socket, sent.as_bytes()), SendStatus::Success);
                }
            }
            if round == 0 {
                assert_eq!(client.string(), "first");
            }
            assert_eq!(client.string(), sent);
            assert_eq!(other.string(), sent);
        }
        open.set();
        assert_eq!(client.string(), "last");
    }
}

#[test]
fn a_long_job_does_not_gather_without_end() {
    let ((sent, tell), (open, wait)) = (flag(), flag());
    let served = site()
        .message(Lane::Turn, move |socket, _| {
            for number in 0..100 {
                send(socket, &stamped(0, number, 1000));
            }
            tell.set();
            wait.wait();
        })
        .serve(with_threads(1));
    let mut client = served.client();
    client.text("go");
    sent.wait();
    let mut seen = InOrder::default();
    while seen.count() < 80 {
        seen.take(&client.message());
    }
    open.set();
    while seen.count() < 100 {
        seen.take(&client.message());
    }
}

#[test]
fn a_client_that_does_not_read_is_waited_for() {
    for (lane, length) in [(Lane::Turn, 1_000), (Lane::Loop, 9_000), (Lane::Turn, 40_000)] {
        let (drained, drain) = flag();
        let (site, opened) = collected(Lane::Turn);
        let served = site
            .drain(lane, move |socket| {
                assert_eq!(socket.buffered(), 0);
                drain.set();
            })
            .serve(with_threads(2));
        let mut client = served.slow_client();
        let socket = take(&opened);
        assert!(!socket.await_room());
        let mut sent = 0;
        while send(&socket, &stamped(0, sent, length)) == SendStatus::Success {
            sent += 1;
        }
        sent += 1;
        assert!(socket.buffered() > 0 && socket.await_room());
        loop {
            match send(&socket, &stamped(0, sent, length)) {
                SendStatus::Backpressure => sent += 1,
                SendStatus::Dropped => break,
                SendStatus::Success => panic!("nothing waits"),
            }
        }
        let limit = socket.behavior().config.max_backpressure;
        assert!((limit..limit + length + 20).contains(&(socket.buffered() - 1)), "{}", socket.buffered());
        socket.subscribe(b"all");
        assert_eq!(served.publish("all", b"dropped too"), 1);
        assert_eq!(socket.dropped(), 2);
        // A pong is not dropped: its client would take the server for dead.
        assert_eq!(socket.send(b"", OpCode::Pong, false, true), Ok(SendStatus::Backpressure));
        assert!(!drained.is_set());
        let mut seen = InOrder::default();
        while seen.count() < sent {
            seen.take(&client.message());
        }
        assert_eq!(client.frame().opcode, OpCode::Pong);
        drained.wait();
        until("whoever waited for room has heard", || served.code.rooms.load(Ordering::SeqCst) == 1);
        assert_eq!((socket.buffered(), socket.await_room()), (0, false));
        assert_eq!(send(&socket, b"1 0 "), SendStatus::Success);
        seen.take(&client.message());
        assert_eq!(socket.dropped(), 2);
    }
}

#[test]
fn a_client_that_does_not_read_may_be_cut() {
    for published in [false, true] {
        let config = SocketConfig { close_on_backpressure_limit: true, ..SocketConfig::default() };
        let closes = Closes::default();
        let (site, opened) = collected(Lane::Turn);
        let served = site.config(config).closes(Lane::Loop, &closes).serve(with_threads(2));
        let mut client = served.slow_client();
        let socket = take(&opened);
        socket.subscribe(b"all");
        let mut sent = 0;
        while socket.is_open() {
            let message = stamped(0, sent, 10_000);
            if published {
                served.publish("all", &message);
            } else {
                send(&socket, &message);
            }
            if socket.buffered() > 0 {
                socket.await_room();
            }
            sent += 1;
        }
        until("the end is heard", || end_of(&closes) == [(1006, "Backpressure limit reached".to_owned())]);
        assert_eq!(served.code.rooms.load(Ordering::SeqCst), 1);
        until("the topic is left", || served.server.subscriber_count(b"all") == 0);
        // Cut: the last frame may be torn.
        while client.receive() > 0 {}
    }
}

#[test]
fn backpressure_from_before_the_socket_counts() {
    // A response waits for the client when its handshake comes: a sender that has to wait is told when it may
    // go on.
    let ((blocked, block), drains) = (flag(), Arc::new(AtomicUsize::new(0)));
    let (statuses, drain) = (Log::<SendStatus>::default(), Arc::clone(&drains));
    let status = Arc::clone(&statuses);
    let served = site()
        .http(Lane::Turn, move |exchange| {
            // More than a cork holds back: the client has to read it.
            while exchange.buffered() < 20_000 {
                exchange.write(&[b'x'; 1000]);
            }
            exchange.end_empty(false);
            block.set();
        })
        .open(Lane::Turn, move |socket| {
            let sent = send(socket, b"hello");
            socket.await_room();
            status.lock().push(sent);
        })
        .drain(Lane::Turn, move |_| {
            drain.fetch_add(1, Ordering::SeqCst);
        })
        .serve(with_threads(1));
    let mut client = served.raw();
    client.write(b"GET /http HTTP/1.1\r\nHost: test\r\n\r\n");
    blocked.wait();
    client.write(HANDSHAKE);
    until("the socket is open", || !statuses.lock().is_empty());
    assert_eq!(*statuses.lock(), [SendStatus::Backpressure]);
    while !client.unread().ends_with(b"\x82\x05hello") {
        assert!(client.receive() > 0);
    }
    until("the drain is heard", || drains.load(Ordering::SeqCst) == 1);
    until("whoever waited for room has heard", || served.code.rooms.load(Ordering::SeqCst) == 1);
}

#[test]
fn nothing_comes_between_the_fragments_of_a_message() {
    const PUBLISHED: usize = 150;
    const FRAGMENTED: usize = 60;
    let (site, opened) = collected(Lane::Turn);
    let served = site.config(without_limit()).serve(with_threads(2));
    let mut client = served.client();
    let socket = take(&opened);
    socket.subscribe(b"all");
    let fragment = |socket: &WebSocket, payload: &[u8], opcode, fin| socket.send(payload, opcode, false, fin);
    assert_eq!(fragment(&socket, b"", OpCode::Continuation, true), Err(SendError::NothingBegun));
    assert_eq!(fragment(&socket, b"", OpCode::Ping, false), Err(SendError::FragmentedControl));
    let start = Barrier::new(3);
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            for number in 0..PUBLISHED {
                served.publish("all", &stamped(0, number, [10, 5_000][number % 2]));
            }
        });
        scope.spawn(|| {
            start.wait();
            for number in 0..PUBLISHED {
                assert_ne!(send(&socket, &stamped(1, number, [10, 20_000][number % 2])), SendStatus::Dropped);
            }
        });
        scope.spawn(|| {
            start.wait();
            for number in 0..FRAGMENTED {
                let message = stamped(2, number, 3_000);
                let parts: Vec<&[u8]> = message.chunks(800).collect();
                for (at, part) in parts.iter().enumerate() {
                    let opcode = if at == 0 { OpCode::Binary } else { OpCode::Continuation };
                    fragment(&socket, part, opcode, at + 1 == parts.len()).unwrap();
                    if at == 0 {
                        let another = fragment(&socket, b"", OpCode::Text, false);
                        assert_eq!(another, Err(SendError::NotEnded));
                        // A control frame may stand between them.
                        fragment(&socket, b"", OpCode::Ping, true).unwrap();
                    }
                }
            }
        });
        let (mut seen, mut pings) = (InOrder::default(), 0);
        let mut message: Option<Vec<u8>> = None;
        while seen.count() < 2 * PUBLISHED + FRAGMENTED {
            let frame = client.frame();
            match (frame.opcode, &mut message) {
                (OpCode::Ping, _) => pings += 1,
                (OpCode::Continuation, Some(begun)) => begun.extend_from_slice(&frame.payload),
                (OpCode::Binary, None) => message = Some(frame.payload),
                (opcode, _) => panic!("{opcode:?} between the fragments of a message"),
            }
            if frame.fin && !frame.opcode.is_control() {
                seen.take(&message.take().unwrap());
            }
        }
        assert_eq!(pings, FRAGMENTED);
    });
    assert_eq!(socket.dropped(), 0);
}

#[test]
fn a_message_whose_beginning_was_dropped_is_dropped_whole() {
    let (site, opened) = collected(Lane::Turn);
    let served = site.serve(with_threads(1));
    let mut client = served.slow_client();
    let socket = take(&opened);
    let fragment = |payload: &[u8], opcode, fin| socket.send(payload, opcode, false, fin);
    let mut sent = 0;
    while send(&socket, &stamped(0, sent, 10_000)) != SendStatus::Dropped {
        sent += 1;
    }
    assert_eq!(fragment(b"be", OpCode::Text, false), Ok(SendStatus::Dropped));
    assert_eq!(fragment(b"gin", OpCode::Continuation, false), Ok(SendStatus::Dropped));
    let mut seen = InOrder::default();
    while seen.count() < sent {
        seen.take(&client.message());
    }
    // There is room again, but not for the rest of a message without a beginning.
    until("nothing waits", || socket.buffered() == 0);
    assert_eq!(fragment(b"ning", OpCode::Continuation, true), Ok(SendStatus::Dropped));
    assert_eq!(fragment(b"", OpCode::Continuation, true), Err(SendError::NothingBegun));
    assert_eq!(send(&socket, b"whole"), SendStatus::Success);
    assert_eq!(client.string(), "whole");
}

// ---- receiving ----------------------------------------------------------------------------------------------------------

/// Unread bytes from `client`, as the kernel counts them.
#[cfg(target_os = "linux")]
fn in_the_kernel(client: &Client) -> usize {
    let (client, server) =
        (client.stream.local_addr().unwrap().port(), client.stream.peer_addr().unwrap().port());
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let mut sum = 0;
    for line in table.lines().skip(1) {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let port = |column: &str| u16::from_str_radix(column.rsplit(':').next().unwrap(), 16).unwrap();
        let (ours, theirs) = (port(columns[1]), port(columns[2]));
        let (sending, unread) = columns[4].split_once(':').unwrap();
        let bytes = |digits| usize::from_str_radix(digits, 16).unwrap();
        if (ours, theirs) == (client, server) {
            sum += bytes(sending);
        }
        if (ours, theirs) == (server, client) {
            sum += bytes(unread);
        }
    }
    sum
}

#[cfg(target_os = "linux")]
#[test]
fn a_listener_that_lags_holds_up_the_client() {
    /// Bytes of one read.
    const READ: usize = 128 * 1024;
    for (lane, length) in [(Lane::Turn, 500), (Lane::Loop, 16_000)] {
        let heard: Log<usize> = Log::default();
        let ((entered, enter), (open, wait), hear) = (flag(), flag(), Arc::clone(&heard));
        let served = site()
            .message(lane, move |_, message| {
                enter.set();
                wait.wait();
                hear.lock().push(stamp(message).1);
            })
            .serve(with_threads(2));
        let mut client = served.client();
        // More than the kernel has room for.
        let mut bytes = Vec::new();
        let mut count = 0;
        while bytes.len() < 16_000_000 {
            bytes.extend(masked(true, OpCode::Binary, &stamped(0, count, length)));
            count += 1;
        }
        let mut sent = masked(true, OpCode::Binary, &stamped(0, 0, length)).len();
        client.write(&bytes[..sent]);
        entered.wait();
        client.stream.set_write_timeout(Some(Duration::from_millis(150))).unwrap();
        while let Ok(taken) = client.stream.write(&bytes[sent..]) {
            sent += taken;
        }
        assert!(sent < bytes.len(), "the server reads whatever comes");
        let taken = sent - in_the_kernel(&client);
        let bound = SocketConfig::default().inbound_buffer + READ;
        assert!(taken <= bound, "{taken} bytes were read of messages of {length}");
        open.set();
        client.stream.set_write_timeout(None).unwrap();
        client.write(&bytes[sent..]);
        until("everything is heard", || heard.lock().len() == count);
        assert!(heard.lock().iter().copied().eq(0..count));
    }
}

#[test]
fn a_client_that_pings_and_does_not_read_is_left_alone() {
    let pings = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&pings);
    let served = site()
        .ping(Lane::Turn, move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
        })
        .message(Lane::Turn, echo)
        .serve(with_threads(1));
    let mut client = served.slow_client();
    let burst = masked(true, OpCode::Ping, &[b'p'; 125]).repeat(8_000);
    client.stream.set_write_timeout(Some(Duration::from_millis(150))).unwrap();
    let mut sent = 0;
    while let Ok(taken) = client.stream.write(&burst[sent % burst.len()..]) {
        sent += taken;
        assert!(sent < 200_000_000, "the pongs of a client that does not read pile up");
    }
    client.stream.set_write_timeout(None).unwrap();
    let mut sending = client.stream.try_clone().unwrap();
    let rest = sent.next_multiple_of(burst.len()) - sent;
    let sent = (sent + rest) / burst.len() * 8_000;
    let writer = thread::spawn(move || {
        sending.write_all(&burst[burst.len() - rest..]).unwrap();
        sending.write_all(&text("last")).unwrap();
    });
    for _ in 0..sent {
        let frame = client.frame();
        assert_eq!((frame.opcode, frame.payload.len()), (OpCode::Pong, 125));
    }
    assert_eq!(client.string(), "last");
    writer.join().unwrap();
    until("all pings are heard", || pings.load(Ordering::SeqCst) == sent);
}

// ---- topics -------------------------------------------------------------------------------------------------------------

#[test]
fn publishers_are_heard_by_all_in_their_order() {
    const SOCKETS: usize = 200;
    const PUBLISHERS: usize = 4;
    const MESSAGES: usize = 40;
    let served = site()
        .config(without_limit())
        .open(Lane::Turn, |socket| {
            socket.subscribe(b"all");
        })
        .serve(with_threads(2));
    let mut clients: Vec<Client> = (0..SOCKETS).map(|_| served.client()).collect();
    until("all have subscribed", || served.server.subscriber_count(b"all") == SOCKETS);
    thread::scope(|scope| {
        for who in 0..PUBLISHERS {
            let served = &served;
            scope.spawn(move || {
                for number in 0..MESSAGES {
                    // Sizes on both sides of the limit between copying and sharing.
                    let message = stamped(who, number, if number % 10 == who { 3_000 } else { 20 });
                    assert_eq!(served.publish("all", &message), SOCKETS);
                }
            });
        }
        for clients in clients.chunks_mut(SOCKETS / 2) {
            scope.spawn(move || {
                for client in clients {
                    let mut seen = InOrder::default();
                    while seen.count() < PUBLISHERS * MESSAGES {
                        seen.take(&client.message());
                    }
                    assert!(!client.has_received());
                }
            });
        }
    });
}

#[test]
fn large_frames_are_shared_by_slow_and_fast_readers() {
    const MESSAGES: usize = 12;
    let (site, opened) = collected(Lane::Turn);
    let served = site.config(without_limit()).serve(with_threads(2));
    let mut clients: Vec<(Client, bool)> = (0..5)
        .map(|at| if at < 2 { (served.slow_client(), true) } else { (served.client(), false) })
        .collect();
    until("all are open", || opened.lock().len() == clients.len());
    for socket in opened.lock().iter() {
        socket.subscribe(b"all");
    }
    let (published, publish) = flag();
    thread::scope(|scope| {
        for (client, slow) in &mut clients {
            let published = &published;
            scope.spawn(move || {
                if *slow {
                    published.wait();
                }
                let mut seen = InOrder::default();
                while seen.count() < MESSAGES + MESSAGES / 3 {
                    seen.take(&client.message());
                }
            });
        }
        for number in 0..MESSAGES {
            let length = [1_000_000, 3_000, 100][number % 3];
            assert_eq!(served.publish("all", &stamped(0, number, length)), 5);
            if number % 3 == 1 {
                for socket in opened.lock().iter() {
                    send(socket, &stamped(1, number / 3, 50_000));
                }
            }
        }
        publish.set();
    });
    for socket in opened.lock().iter() {
        assert_eq!(socket.dropped(), 0);
        until("nothing waits", || socket.buffered() == 0);
    }
}

#[test]
fn a_topic_has_those_who_say_that_they_are_subscribed() {
    const ROUNDS: usize = 5_000;
    let mut disagreed = 0;
    let (site, opened) = collected(Lane::Turn);
    let served = site.serve(with_threads(1));
    let client = served.client();
    let socket = take(&opened);
    let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let rush = |to: &AtomicUsize, count: usize| {
        while to.load(Ordering::SeqCst) < count {
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        // Other threads that use the socket meanwhile.
        for _ in 0..2 {
            scope.spawn(|| {
                while ended.load(Ordering::SeqCst) < ROUNDS {
                    for _ in 0..100 {
                        socket.buffered();
                    }
                }
            });
        }
        scope.spawn(|| {
            for round in 0..ROUNDS {
                rush(&begun, round + 1);
                socket.unsubscribe(b"all");
                ended.fetch_add(1, Ordering::SeqCst);
            }
        });
        for round in 0..ROUNDS {
            if round % 2 == 0 {
                socket.subscribe(b"all");
            } else {
                socket.unsubscribe(b"all");
            }
            begun.fetch_add(1, Ordering::SeqCst);
            for _ in 0..round % 64 {
                std::hint::spin_loop();
            }
            socket.subscribe(b"all");
            rush(&ended, round + 1);
            let count = usize::from(socket.is_subscribed(b"all"));
            if served.server.subscriber_count(b"all") != count {
                disagreed += 1;
            }
        }
    });
    assert_eq!(disagreed, 0, "the topic and the socket have disagreed");
    socket.subscribe(b"all");
    drop(client);
    until("the topic is left", || served.server.subscriber_count(b"all") == 0);
}

#[test]
fn topics_are_left_before_the_end_is_told() {
    for (of_topics, of_end) in [(Lane::Turn, Lane::Loop), (Lane::Loop, Lane::Turn), (Lane::Loop, Lane::Loop)]
    {
        let heard: Log<String> = Log::default();
        let (topics, ends) = (Arc::clone(&heard), Arc::clone(&heard));
        let (site, opened) = collected(Lane::Turn);
        let served = site
            .subscription(of_topics, move |socket, event| {
                let Event::Subscription { topic, count, before } = event else { panic!("{event:?}") };
                assert_eq!(socket.server().subscriber_count(&topic), count);
                topics.lock().push(format!("{} {before} {count}", String::from_utf8_lossy(&topic)));
            })
            .close(of_end, move |_, code, _| ends.lock().push(code.to_string()))
            .serve(with_threads(2));
        let client = served.client();
        let socket = take(&opened);
        for topic in [b"a", b"b"] {
            socket.subscribe(topic);
        }
        client.reset();
        until("the end is heard", || heard.lock().len() == 3);
        heard.lock()[..2].sort();
        assert_eq!(*heard.lock(), ["a 1 0", "b 1 0", "1006"]);
    }
}

// ---- timers -------------------------------------------------------------------------------------------------------------

/// Largest delay of a deadline: a sweep, and the delays of a loaded machine.
const LATE: Duration = Duration::from_secs(3);

#[test]
fn a_silent_socket_is_ended() {
    let told = "WebSocket timed out from inactivity";
    let config = SocketConfig { idle_timeout: SHORT, ..SocketConfig::default() };
    let closes = Closes::default();
    let served =
        site().config(config).message(Lane::Turn, echo).closes(Lane::Turn, &closes).serve(with_threads(1));
    let mut client = served.client();
    // A client that sends is not silent.
    let took = timed(|| {
        for _ in 0..6 {
            thread::sleep(SHORT / 4);
            client.text("here");
            assert_eq!(client.string(), "here");
        }
    });
    assert!(took > SHORT);
    let took = timed(|| client.expect_end(1001, told));
    assert!(took >= SHORT / 2 && took < SHORT + LATE, "{took:?}");
    until("the end is heard", || end_of(&closes) == [(1006, told.to_owned())]);
}

#[test]
fn pings_keep_a_silent_socket() {
    let config =
        SocketConfig { idle_timeout: SHORT * 2, send_pings_automatically: true, ..SocketConfig::default() };
    let served = site().config(config).serve(with_threads(1));
    let mut client = served.client();
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(client.frame(), Frame { fin: true, opcode: OpCode::Ping, payload: Vec::new() });
        client.write(&masked(true, OpCode::Pong, b""));
    }
    assert!(began.elapsed() >= SHORT * 2);
    // A dead client meets the timeout after its ping.
    assert_eq!(client.frame().opcode, OpCode::Ping);
    let took = timed(|| client.expect_end(1001, "WebSocket timed out from inactivity"));
    assert!(took >= SHORT / 2 && took < SHORT + LATE, "{took:?}");
}

#[test]
fn sending_counts_against_silence_where_asked_for() {
    let config =
        SocketConfig { idle_timeout: SHORT, reset_idle_timeout_on_send: true, ..SocketConfig::default() };
    let (site, opened) = collected(Lane::Turn);
    let served = site.config(config).serve(with_threads(1));
    let mut client = served.client();
    let socket = take(&opened);
    socket.subscribe(b"all");
    for number in 0..10 {
        thread::sleep(SHORT / 4);
        if number % 2 == 0 {
            assert_eq!(send(&socket, b"tick"), SendStatus::Success);
        } else {
            assert_eq!(served.publish("all", b"tick"), 1);
        }
        assert_eq!(client.string(), "tick");
    }
    client.expect_end(1001, "WebSocket timed out from inactivity");
}

#[test]
fn a_socket_has_its_lifetime() {
    let config =
        SocketConfig { max_lifetime: SHORT, idle_timeout: Duration::ZERO, ..SocketConfig::default() };
    let closes = Closes::default();
    let served =
        site().config(config).message(Lane::Turn, echo).closes(Lane::Loop, &closes).serve(with_threads(2));
    let mut client = served.client();
    let began = Instant::now();
    let reason = "please reconnect";
    let end = loop {
        client.text("busy");
        match client.frame() {
            Frame { opcode: OpCode::Close, payload, .. } => break payload,
            frame => assert_eq!(frame.payload, b"busy"),
        }
    };
    let took = began.elapsed();
    assert!(took >= SHORT / 2 && took < SHORT + LATE, "{took:?}");
    assert_eq!(end, socketify::websocket::close_payload(1000, reason.as_bytes()));
    assert_eq!(client.next(), None);
    until("the end is heard", || end_of(&closes) == [(1000, reason.to_owned())]);
}

#[test]
fn a_socket_without_timers_stays() {
    let config = SocketConfig { idle_timeout: Duration::ZERO, ..SocketConfig::default() };
    let config_of_http = Config { header_timeout: SHORT, keep_alive_timeout: SHORT, ..with_threads(1) };
    let served = site().config(config).message(Lane::Turn, echo).serve(config_of_http);
    let mut client = served.client();
    thread::sleep(SHORT * 3);
    client.text("still here");
    assert_eq!(client.string(), "still here");
}

// ---- the end of the server ----------------------------------------------------------------------------------------------

#[test]
fn closing_says_goodbye_to_every_socket() {
    const SOCKETS: usize = 40;
    for (lane, of_end) in [(Lane::Turn, Lane::Turn), (Lane::Loop, Lane::Turn), (Lane::Turn, Lane::Loop)] {
        let (closes, kept) = (Closes::default(), Log::<Weak<()>>::default());
        let keep = Arc::clone(&kept);
        let mut served = site()
            .open(lane, move |socket| {
                let value = Arc::new(());
                keep.lock().push(Arc::downgrade(&value));
                socket.user().set(Box::new(value)).unwrap();
                socket.subscribe(b"all");
                socket.subscribe(format!("own {}", socket.id()).as_bytes());
            })
            .message(of_end, echo)
            .closes(of_end, &closes)
            .serve(with_threads(2));
        let mut clients: Vec<Client> = (0..SOCKETS).map(|_| served.client()).collect();
        until("all have subscribed", || served.server.subscriber_count(b"all") == SOCKETS);
        until("all are kept", || kept.lock().len() == SOCKETS);
        assert!(kept.lock().iter().all(|value| value.strong_count() == 1));
        served.server.close(PATIENCE);
        served.server.close(Duration::ZERO);
        for mut client in clients.drain(..) {
            client.expect_end(1001, "");
        }
        served.code.drained.wait();
        assert_eq!(served.server.connection_count(), 0);
        until("every end is heard", || closes.lock().len() == SOCKETS);
        assert!(closes.lock().values().all(|ends| *ends == [(1001, String::new())]), "{:?}", closes.lock());
        assert_eq!(served.server.subscriber_count(b"all"), 0);
        until("what the sockets kept is gone", || kept.lock().iter().all(|value| value.strong_count() == 0));
        assert!(served.end());
        assert_eq!(Arc::strong_count(&served.server), 1);
    }
}

#[test]
fn closing_cuts_clients_that_do_not_answer() {
    let closes = Closes::default();
    let served = site().closes(Lane::Loop, &closes).serve(with_threads(2));
    let mut clients: Vec<Client> = (0..5).map(|_| served.client()).collect();
    let took = timed(|| {
        served.server.close(SHORT);
        served.code.drained.wait();
    });
    assert!(took >= SHORT && took < LINGER, "{took:?}");
    for client in &mut clients {
        client.expect_end(1001, "");
    }
    until("every end is heard", || closes.lock().len() == 5);
    assert!(closes.lock().values().all(|ends| *ends == [(1001, String::new())]));
}

#[test]
fn a_handshake_that_is_decided_while_closing_ends_at_once() {
    for lane in LANES {
        let ((entered, enter), (open, wait)) = (flag(), flag());
        let closes = Closes::default();
        let served = greeter(lane)
            .upgrade(lane, move |exchange| {
                enter.set();
                wait.wait();
                assert!(matches!(exchange.upgrade(KEY, b"first", b"", None), Ok(Some(_))));
            })
            .closes(lane, &closes)
            .serve(with_threads(2));
        let mut client = served.raw();
        client.write(HANDSHAKE);
        entered.wait();
        served.server.close(PATIENCE);
        open.set();
        client.expect_handshake();
        client.expect_end(1001, "");
        drop(client);
        served.code.drained.wait();
        until("the end is heard", || end_of(&closes) == [(1001, String::new())]);
    }
}

#[test]
fn joining_in_the_middle_of_everything_leaves_nothing() {
    for round in 0..20 {
        let (closes, kept) = (Closes::default(), Log::<Weak<()>>::default());
        let keep = Arc::clone(&kept);
        let (lane, other) = if round % 2 == 0 { (Lane::Turn, Lane::Loop) } else { (Lane::Loop, Lane::Turn) };
        let mut served = site()
            .open(lane, move |socket| {
                let value = Arc::new(());
                keep.lock().push(Arc::downgrade(&value));
                socket.user().set(Box::new(value)).unwrap();
                socket.subscribe(b"all");
            })
            .message(other, |socket, message| {
                socket.server().publish(b"all", message, OpCode::Binary, false);
            })
            .closes(lane, &closes)
            .serve(with_threads(2));
        let mut clients: Vec<Client> = (0..6).map(|_| served.client()).collect();
        for (at, client) in clients.iter_mut().enumerate() {
            for number in 0..30 {
                client.text(&number.to_string());
            }
            if at % 3 == 0 {
                client.write(&goodbye(1000, ""));
            }
        }
        if round % 3 == 0 {
            served.server.close(Duration::ZERO);
        }
        assert!(served.end());
        for client in &mut clients {
            while client.receive() > 0 {}
        }
        assert_eq!(Arc::strong_count(&served.server), 1, "in round {round}");
        assert_eq!(served.server.subscriber_count(b"all"), 0);
        assert!(kept.lock().iter().all(|value| value.strong_count() == 0));
        // All opened sockets have ended, once.
        assert_eq!(closes.lock().len(), 6);
        assert!(closes.lock().values().all(|ends| ends.len() == 1));
    }
}
