//! Shared code of the tests over real sockets: waiting for a condition, and no longer.

use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use socketify::app::{App, Responder};
use socketify::config::Config;
use socketify::net::{Endpoint, Listener};
use socketify::router::{Domains, Live, Router};
use socketify::server::Server;

/// Longer than any wait of a test, on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A flag to wait for.
#[derive(Default)]
pub(crate) struct Flag {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Flag {
    pub(crate) fn set(&self) {
        *self.set.lock() = true;
        self.changed.notify_all();
    }

    pub(crate) fn wait(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut set = self.set.lock();
        while !*set {
            assert!(!self.changed.wait_until(&mut set, deadline).timed_out(), "the flag was not set");
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.set.lock()
    }
}

/// Waits for `condition` to hold.
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The duration of `act`.
pub(crate) fn timed(act: impl FnOnce()) -> Duration {
    let began = Instant::now();
    act();
    began.elapsed()
}

pub(crate) fn with_threads(io_threads: usize) -> Config {
    Config { io_threads, ..Config::default() }
}

/// Starts a server on a free port of this machine; returns the port too.
pub(crate) fn start(config: Config, app: Arc<dyn App>, routes: Router<Responder>) -> (Arc<Server>, u16) {
    let endpoint = Endpoint::Tcp { host: Some("127.0.0.1".into()), port: 0, exclusive: false };
    let listener = Listener::bind(&endpoint).unwrap();
    let port = listener.port();
    let routes = Arc::new(Live::from(Domains::from(routes)));
    (Server::start(config, app, routes, vec![listener]).unwrap(), port)
}

/// A connection without any bytes sent.
pub(crate) fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}
