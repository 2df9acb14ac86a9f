//! A running server: sockets in, [`App`] calls out.
//!
//! Knows nothing of Python. It owns the I/O threads, the connections and the order of a shutdown: stop
//! accepting, let requests in progress finish, end the rest, tell the [`App`], and only then stop the
//! threads.
//!
//! | what | where |
//! |---|---|
//! | from a listening socket to a connection | `accept`, `preface`, `tls` |
//! | a connection, its lock and its ends | `connection`, `output`, `intake`, `reply`, `pace`, `deadlines` |
//! | the task of a connection | `drive`, `stream`; `waits` lists what each part waits for |
//! | protocols: bytes in, requests and messages out | `http1`, `http2`, `websocket` |
//! | from a request to what answers it | `requests`, `request_body`, `routing`, `builtin`, `files` |
//! | a request and a socket, as user code holds them | `exchange`, `websocket` |
//! | messages to many sockets, and what leaves together | `publish`, `batch` |
//! | the connections of the server | `roster` |
//! | threads, and the right to run user code | `threads`, `turn`, `backlog`, `stack` |
//! | what is bounded, what is told | `overload`, `access`, `notes` |

mod accept;
mod access;
mod backlog;
mod batch;
mod builtin;
mod connection;
mod deadlines;
mod drive;
mod exchange;
mod files;
mod http1;
mod http2;
mod intake;
mod leading;
#[cfg(all(test, feature = "models"))]
mod models;
mod notes;
mod output;
mod overload;
mod pace;
mod preface;
mod publish;
mod reply;
mod request_body;
mod requests;
mod roster;
mod routing;
mod stack;
mod stream;
mod threads;
mod tls;
mod turn;
mod waits;
mod websocket;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

pub use self::access::{AccessQueue, Entry, Traffic, What};
pub use self::backlog::Backlog;
pub use self::batch::{
    Batch, flush as flush_batch, is_pending as is_batch_pending, open as open_batch,
    set_prompt as set_batch_prompt,
};
pub use self::exchange::{Attempt, Demand, Exchange, Local, Next, NotAHandshake, Pull};
pub use self::files::Sending;
pub use self::notes::Note;
pub use self::stack::stack_size;
pub use self::tls::{Secure, ServerName};
pub use self::websocket::{Event, SendError, SendStatus, WebSocket};

use crate::app::{App, Job, Responder, Signal};
use crate::config::Config;
use crate::net::Listener;
use crate::pubsub::Hub;
use crate::router::{Domains, Live};

/// The routes of a server, which may change while it runs.
pub type Routes = Arc<Live<Domains<Responder>>>;

/// One server, from binding to the last closed connection.
pub struct Server {
    pub(crate) config: Config,
    pub(crate) app: Arc<dyn App>,
    pub(crate) routes: Routes,
    /// The queue of the access log, if there is one.
    pub(crate) access: Option<Arc<AccessQueue>>,
    pub(crate) turn: turn::Turn,
    /// The requests in progress.
    pub(crate) load: overload::Load,
    pub(crate) threads: threads::Threads,
    pub(crate) deadlines: deadlines::Deadlines,
    /// Topics of the sockets.
    pub(crate) hub: Hub<Arc<connection::Connection>>,
    notes: Arc<notes::Notes>,
    connections: Mutex<HashMap<u64, Arc<connection::Connection>>>,
    /// The number of those that are streams of HTTP/2.
    streams: AtomicUsize,
    numbers: AtomicU64,
    /// One permit an open socket.
    permits: Arc<Semaphore>,
    /// Listening sockets, and accepted clients without a connection.
    arriving: AtomicUsize,
    closing: AtomicBool,
    /// Responses announce that the connection closes, though connections are accepted.
    parting: AtomicBool,
    /// This process was forked from the one that owns the server.
    abandoned: AtomicBool,
    /// A task that will wake the event loop is queued.
    announced: AtomicBool,
    /// Wakes the acceptors, so that they end.
    stop_accepting: Notify,
    /// Wakes the drain when a connection has ended.
    ended: Notify,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Server").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Server {
    /// Starts to serve on `listeners`. Call it after any fork.
    pub fn start(
        config: Config,
        app: Arc<dyn App>,
        routes: Routes,
        listeners: Vec<Listener>,
    ) -> io::Result<Arc<Self>> {
        let server = Self::new(config, app, routes)?;
        server.serve(listeners)?;
        Ok(server)
    }

    /// A server that does not serve yet, for callers that have to know it before its first thread does. Call it after any fork.
    pub fn new(config: Config, app: Arc<dyn App>, routes: Routes) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            threads: threads::Threads::new(config.io_threads)?,
            load: overload::Load::new(&config),
            permits: Arc::new(Semaphore::new(config.max_connections.clamp(1, Semaphore::MAX_PERMITS))),
            config,
            access: app.access_log(),
            app,
            routes,
            turn: turn::Turn::default(),
            deadlines: deadlines::Deadlines::new(),
            hub: Hub::default(),
            notes: Arc::default(),
            connections: Mutex::default(),
            streams: AtomicUsize::new(0),
            numbers: AtomicU64::new(0),
            arriving: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            parting: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            announced: AtomicBool::new(false),
            stop_accepting: Notify::new(),
            ended: Notify::new(),
        }))
    }

    /// Starts the threads and serves on `listeners`. When it fails, the threads have ended.
    fn serve(self: &Arc<Self>, listeners: Vec<Listener>) -> io::Result<()> {
        self.begin()?;
        listeners.into_iter().try_for_each(|listener| self.listen(listener)).inspect_err(|_| {
            self.join(threads::FAREWELL);
        })
    }

    /// Starts the threads; [`listen`](Self::listen) has them serve. When one cannot be made, the others have ended.
    ///
    /// Must not be called while attached to Python: threads that have to end may wait for the interpreter.
    pub fn begin(self: &Arc<Self>) -> io::Result<()> {
        threads::start(self)?;
        let server = Arc::downgrade(self);
        self.threads.first().spawn(accept::keep_up(move || accept::sweep(Weak::clone(&server))));
        Ok(())
    }

    /// Accepts on one more listener.
    pub fn listen(self: &Arc<Self>, listener: Listener) -> io::Result<()> {
        let runtime = self.threads.first();
        let acceptor = {
            let _inside = runtime.enter();
            listener.into_acceptor()?
        };
        runtime.spawn(accept::serve(Arc::clone(self), acceptor));
        Ok(())
    }

    /// Queues a job for the turn.
    pub fn push(&self, job: Job) {
        if self.is_abandoned() {
            std::mem::forget(job);
        } else {
            self.turn.push(job, &self.threads.leaders);
        }
    }

    /// Tells of something that went wrong on a connection, if notes are taken.
    pub(crate) fn note(&self, write: impl FnOnce() -> String) {
        if !self.is_abandoned()
            && self.app.takes_notes()
            && let Some(note) = self.notes.take(write)
        {
            self.push(Job::Note(note));
        }
    }

    /// Queues a job for the event loop's thread.
    pub(crate) fn post(self: &Arc<Self>, job: Job) {
        self.app.post(job);
        self.announce_posts();
    }

    /// Wakes the event loop after all readable sockets have been read.
    ///
    /// If the first request of a burst woke it, it would run, and sleep again, for each of the others.
    pub(crate) fn announce_posts(self: &Arc<Self>) {
        if self.announced.swap(true, Ordering::SeqCst) {
            return;
        }
        let server = Arc::clone(self);
        let announce = move || {
            server.announced.store(false, Ordering::SeqCst);
            server.app.posted();
            // If this thread and the loop's share a core, the loop runs its batch now, and is not interrupted
            // for each request that its responses bring in: a fifth of the context switches. With a free core
            // it costs nothing.
            std::thread::yield_now();
        };
        match Handle::try_current() {
            // The task queues behind those of the connections that are ready.
            Ok(runtime) => drop(runtime.spawn(async move { announce() })),
            Err(_) => announce(),
        }
    }

    /// The user code of this server.
    pub fn app(&self) -> &dyn App {
        &*self.app
    }

    /// Passes an event on as the core does.
    pub fn signal(&self, exchange: &Arc<Exchange>, signal: Signal) {
        self.app.signal(Arc::clone(exchange), signal);
    }

    /// For a process that was forked from the serving one: its threads are not here, its sockets belong to
    /// the other, and a lock may be held for ever. From now on the server does nothing here, and waits for no
    /// lock. It is never dropped: a drop would remove its registrations with the kernel from the other
    /// process as well.
    pub fn abandon(self: &Arc<Self>) {
        self.abandoned.store(true, Ordering::Relaxed);
        std::mem::forget(Arc::clone(self));
    }

    /// Whether it belongs to another process.
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Whether the server has been asked to close.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Has responses announce that their connection closes, for a server that will soon be closed.
    pub fn part(&self) {
        self.parting.store(true, Ordering::Relaxed);
    }

    /// Whether it is closing, or will soon.
    pub(crate) fn is_parting(&self) -> bool {
        self.parting.load(Ordering::Relaxed) || self.is_closing()
    }

    /// Returns when the server has been closing for so long.
    async fn parted(&self, limit: Duration) {
        let closing = self.stop_accepting.notified();
        if !self.is_closing() {
            closing.await;
        }
        tokio::time::sleep(limit).await;
    }

    /// Stops accepting and lets requests in progress finish for up to `grace`; then [`App::drained`] is called.
    /// Returns at once, from any thread. A second call does nothing.
    pub fn close(self: &Arc<Self>, grace: Duration) {
        if self.closing.swap(true, Ordering::SeqCst) {
            return;
        }
        self.stop_accepting.notify_waiters();
        // Earlier messages go before the close frames.
        publish::queue_pending();
        // Here and not only in the drain: responses from now on announce that the connection closes.
        self.retire(false);
        self.threads.first().spawn(accept::drain(Arc::clone(self), grace));
    }

    /// Ends the threads and waits up to `patience` for them. Remaining connections are cut. Returns the jobs
    /// that were not run; `None` if user code did not return in time: its thread is abandoned, and ends when
    /// the code returns. Running them may queue others, since a socket has listeners in both lanes: another
    /// call returns those.
    ///
    /// Must not be called with the GIL: a thread may be waiting for it.
    pub fn join(&self, patience: Duration) -> Option<Vec<Job>> {
        self.closing.store(true, Ordering::SeqCst);
        self.stop_accepting.notify_waiters();
        self.retire(true);
        self.threads.leaders.stop();
        let ended = self.threads.join(patience);
        let jobs = self.turn.take_all();
        ended.then_some(jobs)
    }
}
