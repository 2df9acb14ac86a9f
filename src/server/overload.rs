//! The bounds of queues, and the behaviour at each bound: the one place that counts. `docs/limits.md` has the
//! same for users.
//!
//! | what waits | bound | at the bound |
//! |---|---|---|
//! | connections | `max_connections`, by [`Seat`]s | nobody is accepted: clients wait in the kernel |
//! | requests in progress, queued ones included | `max_requests`, and `max_header_memory` for their heads, by [`Slot`]s | 503 with `Retry-After`, closed |
//! | requests of one connection whose clients have given them up and whose handlers still run | `max_concurrent_streams` | 503 |
//! | jobs for the turn and for the loop | what they are of: requests, sockets, handshakes (a [`Backlog`](super::Backlog) each) | |
//! | requests for the threads of a WSGI application | requests in progress | |
//! | messages of a socket | `inbound_buffer` | its socket is not read |
//! | questions for server names | the connections in their handshake | |
//! | frames of HTTP/2 that bring nothing | `http2/meter.rs` | GOAWAY |
//! | notes | `notes::MOST` | dropped and counted |
//! | files that the disk has to be asked for | [`DISK`] | 503 |
//!
//! What is dropped first is the work of clients that have gone. A request that waits is held by its connection alone, and a
//! queue knows it by a weak reference: when the client goes, the request goes at once, with its head, and the thread that comes to its turn
//! finds nothing. What has begun runs on, as `on_aborted` has it, and keeps its seat until its handler has ended: a client
//! cannot have more work done by leaving than by staying.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use crate::config::{Config, Quota};
use crate::server::Server;

/// The position of the count of requests in the word that counts them and their bytes.
const COUNT: u32 = 40;
const BYTES: u64 = (1 << COUNT) - 1;
/// Pieces of work that wait for the disk.
const DISK: usize = 4096;
/// Seconds after which a refused client may come again.
pub(crate) const RETRY_AFTER: &[u8] = b"1";

// ---- connections --------------------------------------------------------------------------------------------------------

/// The right to have a socket open. Held by the connection, its streams, and by handlers of a client that has
/// gone.
pub(crate) struct Seat {
    _permit: OwnedSemaphorePermit,
    /// Cancelled requests whose handlers still run.
    abandoned: AtomicUsize,
}

impl Seat {
    pub(crate) fn new(permit: OwnedSemaphorePermit) -> Arc<Self> {
        Arc::new(Self { _permit: permit, abandoned: AtomicUsize::new(0) })
    }

    /// The number of handlers that run for cancelled requests.
    pub(crate) fn abandoned(&self) -> usize {
        self.abandoned.load(Ordering::Relaxed)
    }
}

/// A seat that is kept by handlers of a client that has gone.
struct Kept(Arc<Seat>);

impl Kept {
    fn new(seat: Arc<Seat>) -> Self {
        seat.abandoned.fetch_add(1, Ordering::Relaxed);
        Self(seat)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.abandoned.fetch_sub(1, Ordering::Relaxed);
    }
}

// ---- requests -----------------------------------------------------------------------------------------------------------

/// Counts the requests in progress on one server.
#[derive(Debug)]
pub(crate) struct Load {
    /// Requests, and the bytes that they take: one addition counts both.
    requests: AtomicU64,
    most: u64,
    most_bytes: u64,
    /// Pieces of work that wait for the disk.
    disk: AtomicUsize,
    /// Requests that have been admitted so far, where somebody wants to know.
    quota: Option<(Quota, AtomicU64)>,
}

impl Load {
    pub(crate) fn new(config: &Config) -> Self {
        let default = config.max_connections.max(Config::REQUESTS);
        let most = config.max_requests.unwrap_or(default) as u64;
        Self {
            requests: AtomicU64::new(0),
            // Both fit their part of the word, with room for those that are about to be refused.
            most: most.min((1 << 23) - 1),
            most_bytes: (config.max_header_memory as u64).min(BYTES / 2),
            disk: AtomicUsize::new(0),
            quota: config.quota.clone().map(|quota| (quota, AtomicU64::new(0))),
        }
    }

    /// A place for a request with a head of `head` bytes; `None` if it is one too many.
    pub(crate) fn enter(&self, head: usize) -> Option<Slot> {
        let weight = (1 << COUNT) | (head as u64).min(u64::from(u32::MAX));
        let after = self.requests.fetch_add(weight, Ordering::Relaxed) + weight;
        // At least one is admitted, of any size: its size has a limit of its own.
        if after >> COUNT > self.most || (after & BYTES > self.most_bytes && after >> COUNT > 1) {
            self.requests.fetch_sub(weight, Ordering::Relaxed);
            return None;
        }
        if let Some((quota, admitted)) = &self.quota
            && admitted.fetch_add(1, Ordering::Relaxed) + 1 == quota.requests
        {
            // Who has gone need not know.
            let _ = rustix::io::write(&quota.told, b"spent\n");
        }
        Some(Slot { weight, state: AtomicU32::new(0), seat: Mutex::new(None) })
    }

    /// Requests in progress.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed) >> COUNT
    }
}

/// The client has gone.
const GONE: u32 = 1 << 30;
/// The request counts no longer.
const LEFT: u32 = 1 << 31;

/// The place of a request among those in progress: from its head until its response is complete, or, if its
/// client goes before, until all work on it has ended.
pub(crate) struct Slot {
    weight: u64,
    /// The count of its work (a running handler, a queued event), and the two flags above.
    state: AtomicU32,
    seat: Mutex<Option<Kept>>,
}

impl Slot {
    /// Work on the request begins. False if its client has gone, and no work has begun.
    pub(crate) fn begin(&self) -> bool {
        let before = self.state.fetch_add(1, Ordering::AcqRel);
        before & GONE == 0 || before & !(GONE | LEFT) > 0
    }

    /// The client has gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.state.load(Ordering::Acquire) & GONE != 0
    }

    /// Work has ended. One end too many is a fault of ours, and must not refuse all later requests.
    pub(crate) fn end(&self, load: &Load) {
        let count = |state: u32| (state & !(GONE | LEFT) > 0).then(|| state - 1);
        let Ok(before) = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, count) else {
            debug_assert!(false, "more has ended than had begun");
            return;
        };
        if before & GONE != 0 && before & !(GONE | LEFT) == 1 {
            self.release(load);
            drop(self.seat.lock().take());
        }
    }

    /// The client goes. `seat` is kept until the work on the request ends.
    pub(crate) fn give_up(&self, load: &Load, seat: Option<Arc<Seat>>) {
        if self.state.load(Ordering::Acquire) & !(GONE | LEFT) > 0 {
            // First kept and then told, so that work that ends now finds it.
            *self.seat.lock() = seat.map(Kept::new);
        }
        let before = self.state.fetch_or(GONE, Ordering::AcqRel);
        if before & !(GONE | LEFT) == 0 {
            self.release(load);
            drop(self.seat.lock().take());
        }
    }

    /// The response is complete, or there is no client any more.
    pub(crate) fn release(&self, load: &Load) {
        if self.state.fetch_or(LEFT, Ordering::AcqRel) & LEFT == 0 {
            load.requests.fetch_sub(self.weight, Ordering::Relaxed);
        }
    }
}

// ---- the disk -----------------------------------------------------------------------------------------------------------

/// One piece of work that waits for the disk, or is done there.
struct DiskWork(Arc<Server>);

impl Drop for DiskWork {
    fn drop(&mut self) {
        self.0.load.disk.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Server {
    /// Has `work` done where it may wait for the disk. False when too much waits there, or no thread can be made: it may not
    /// be done then, and the caller has to say so to the client.
    pub(crate) fn on_disk(self: &Arc<Self>, work: impl FnOnce() + Send + 'static) -> bool {
        if self.load.disk.fetch_add(1, Ordering::Relaxed) >= DISK {
            self.load.disk.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        let counted = DiskWork(Arc::clone(self));
        let work = move || {
            let _counted = counted;
            work();
        };
        // The pool panics if the kernel refuses its first thread.
        let spawn = || drop(self.threads.first().spawn_blocking(work));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(spawn)).is_ok()
    }
}
#[cfg(all(test, not(feature = "models")))]
mod tests {
    use std::any::Any;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::path::Path;
    use std::thread;
    use std::time::{Duration, Instant};

    use parking_lot::Condvar;

    use super::*;
    use crate::app::{App, Job, Responder, Signal};
    use crate::files::types::Types;
    use crate::files::{Directory, Options};
    use crate::net::{Endpoint, Listener};
    use crate::router::{Domains, Kind, Live, Router};
    use crate::server::Exchange;

    /// An application that answers by its files alone.
    struct Nobody;

    impl App for Nobody {
        fn run(&self, _: &mut dyn Iterator<Item = Job>) {}
        fn post(&self, _: Job) {}
        fn posted(&self) {}
        fn signal(&self, _: Arc<Exchange>, _: Signal) {}
        fn drained(&self) {}
        fn as_any(&self) -> &dyn Any {
            self
        }
    }

    /// A server of the files in `directory`, and its port.
    fn serve(directory: &Path) -> (Arc<Server>, u16) {
        let files = Directory::new(directory, 0, Options::default(), Types::default()).unwrap();
        let mut table = Router::default();
        table.insert(Kind::Files, "/*", Responder::Files(Arc::new(files))).unwrap();
        let endpoint = Endpoint::Tcp { host: Some("127.0.0.1".into()), port: 0, exclusive: true };
        let listener = Listener::bind(&endpoint).unwrap();
        let port = listener.port();
        let config = Config { io_threads: 1, ..Config::default() };
        let routes = Arc::new(Live::from(Domains::from(table)));
        (Server::start(config, Arc::new(Nobody), routes, vec![listener]).unwrap(), port)
    }

    /// The status, and all of the answer.
    fn ask(port: u16, path: &str) -> (String, String) {
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(client, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        (answer[9..12].to_owned(), answer)
    }

    #[test]
    fn the_request_that_meets_the_quota_is_told_once() {
        let (told, mut heard) = std::os::unix::net::UnixStream::pair().unwrap();
        heard.set_nonblocking(true).unwrap();
        let quota = Some(Quota { requests: 3, told: Arc::new(told.into()) });
        let load = Load::new(&Config { quota, max_requests: Some(2), ..Config::default() });
        let mut text = String::new();
        let enter = |load: &Load| load.enter(1).map(|slot| slot.give_up(load, None)).is_some();
        assert!(enter(&load));
        let held = (load.enter(1), load.enter(0));
        assert!(held.0.is_some() && held.1.is_some());
        // One that is refused does not count, nor does any one that comes later.
        assert!(!enter(&load));
        held.0.unwrap().give_up(&load, None);
        assert!(enter(&load) && enter(&load));
        // Nothing more comes, and nothing ends the stream.
        assert!(heard.read_to_string(&mut text).is_err());
        assert_eq!(text, "spent\n");
    }

    #[test]
    fn what_waits_for_the_disk_is_bounded() {
        let directory = std::env::temp_dir().join(format!("socketify-disk-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("known"), "known").unwrap();
        let (server, port) = serve(&directory);
        // From now on the system knows the name without its disk.
        assert_eq!(ask(port, "/known").0, "200");

        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        // As many as docs/limits.md promises.
        for _ in 0..4096 {
            let gate = Arc::clone(&gate);
            assert!(server.on_disk(move || {
                let mut open = gate.0.lock();
                while !*open {
                    gate.1.wait(&mut open);
                }
            }));
        }
        assert!(!server.on_disk(|| ()), "one more is taken");
        // A name that nobody has asked for has to be looked for on the disk.
        let (status, answer) = ask(port, "/nobody-has-asked-for-this");
        assert_eq!(status, "503");
        assert!(answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
        assert_eq!(ask(port, "/known").0, "200");

        *gate.0.lock() = true;
        gate.1.notify_all();
        let deadline = Instant::now() + Duration::from_secs(20);
        while server.load.disk.load(Ordering::SeqCst) > 0 {
            assert!(Instant::now() < deadline, "what is done still counts");
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(ask(port, "/nobody-has-asked-for-that").0, "404");
        assert!(server.join(Duration::from_secs(20)).is_some());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
