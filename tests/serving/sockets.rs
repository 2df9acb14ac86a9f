//! The sockets of WebSocket routes over real connections, with user code in Rust: the order of events, the
//! time of writes, and the end.

mod client;
mod closing;
mod events;
mod handshake;
mod receiving;
mod sending;
mod sites;
mod timers;
mod topics;

use std::any::Any;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use socket2::SockRef;
use socketify::app::{App, Behavior, Callback as To, HandlerId, Job, Lane, Responder, Signal};
use socketify::config::{Config, SocketConfig};
use socketify::router::{Kind, Router};
use socketify::server::{self, Event, Exchange, SendStatus, Server, WebSocket};
use socketify::websocket::OpCode;

use self::client::{Client, HANDSHAKE};
use crate::support::{Flag, PATIENCE, connect, start};

const LANES: [Lane; 2] = [Lane::Turn, Lane::Loop];
const SHORT: Duration = Duration::from_millis(300);
/// Longest delay of a socket's end for earlier events.
const LINGER: Duration = Duration::from_secs(2);

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
        paths.insert(Kind::WebSocket, "/*", Responder::WebSocket(Arc::new(self.behavior))).unwrap();
        if let Some(To { id, lane }) = self.http {
            paths
                .insert(
                    Kind::any(),
                    "/http",
                    Responder::Handler { id, lane, max_body_size: None, invites_late: false, lease: None },
                )
                .unwrap();
        }
        let event_loop = {
            let code = Arc::clone(&code);
            thread::spawn(move || code.run_loop())
        };
        let (server, port) = start(config, Arc::<Code>::clone(&code), paths);
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
        Client { stream: connect(self.port), pending: Vec::new(), at: 0 }
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
