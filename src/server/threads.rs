//! The I/O threads: they drive the sockets while user code runs.
//!
//! Each shard is a single-threaded runtime with its connections. A thread leads a shard: it drives its
//! sockets until user code is due, then steps out of the runtime, runs the code, and steps in again. There is
//! no hand-over to another thread, so a request costs no wake-up. One more thread stands by: when a leader
//! has been out for two ticks (a slow handler, a busy GIL), the standby leads in its place, and the late
//! leader becomes the standby. So sockets, timers and responses without user code wait milliseconds at most,
//! even behind slow handlers.
//!
//! The standby ticks only while user code runs; an idle server wakes no thread.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::server::leading::{Leaders, Missed, Place, Ready, TICK};
use crate::server::{Server, stack_size};

/// How long threads that cannot all be made may take to end. They run no user code yet.
pub(crate) const FAREWELL: Duration = Duration::from_secs(5);

/// A single-threaded runtime.
pub(crate) struct Shard {
    handle: Handle,
    /// Removed when the threads have ended, since its tasks hold the server, which holds it.
    runtime: Mutex<Option<Arc<Runtime>>>,
}

/// The shared state of a server's threads.
pub(crate) struct Threads {
    shards: Vec<Shard>,
    /// Who leads them.
    pub(crate) leaders: Leaders,
    handles: Mutex<Vec<JoinHandle<()>>>,
    /// Threads that have not ended.
    alive: Mutex<usize>,
    /// Wakes `join` when one has.
    ended: Condvar,
    /// The shard of the next connection.
    next: AtomicUsize,
}

impl Threads {
    /// Makes the runtimes. Threads start with [`start`].
    pub(crate) fn new(count: usize) -> io::Result<Self> {
        let shard = || {
            // The event interval is tokio's default doubled: a burst of connections is read before user code runs.
            let runtime = Builder::new_current_thread()
                .enable_all()
                .event_interval(128)
                .thread_stack_size(stack_size())
                .build()?;
            Ok(Shard { handle: runtime.handle().clone(), runtime: Mutex::new(Some(Arc::new(runtime))) })
        };
        let shards = (0..count.max(1)).map(|_| shard()).collect::<io::Result<Vec<_>>>()?;
        Ok(Self {
            leaders: Leaders::new(shards.len()),
            shards,
            handles: Mutex::new(Vec::new()),
            alive: Mutex::new(0),
            ended: Condvar::new(),
            next: AtomicUsize::new(0),
        })
    }

    /// The runtime that accepts, sweeps and stops.
    pub(crate) fn first(&self) -> &Handle {
        &self.shards[0].handle
    }

    /// The runtime of the next connection, and whether that is the first.
    pub(crate) fn pick(&self) -> (&Handle, bool) {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        (&self.shards[index].handle, index == 0)
    }

    /// Waits up to `patience` for every thread to end, and drops the remaining work. False if a thread is
    /// still busy with user code. Must not be called with the GIL, nor on one of the threads.
    pub(crate) fn join(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut alive = self.alive.lock();
        while *alive > 0 && !self.ended.wait_until(&mut alive, deadline).timed_out() {}
        let all = *alive == 0;
        drop(alive);
        let handles = std::mem::take(&mut *self.handles.lock());
        for handle in handles {
            if all || handle.is_finished() {
                // A panic has already been reported.
                let _ = handle.join();
            }
        }
        for shard in &self.shards {
            let runtime = shard.runtime.lock().take();
            drop(runtime);
        }
        all
    }
}

/// Starts one thread a shard and the standby. When one of them cannot be made, those before it have ended.
pub(crate) fn start(server: &Arc<Server>) -> io::Result<()> {
    let threads = &server.threads;
    let mut handles = threads.handles.lock();
    for index in 0..=threads.shards.len() {
        let server = Arc::clone(server);
        let first = (index < server.threads.shards.len()).then_some(index);
        if let Some(index) = first {
            threads.leaders.expect(index);
        }
        *threads.alive.lock() += 1;
        let body = move || {
            let _end = End(&server.threads);
            let app = Arc::clone(&server.app);
            app.on_thread(&mut || run(&server, first));
        };
        let thread = thread::Builder::new().name(format!("socketify-io-{index}")).stack_size(stack_size());
        match thread.spawn(body) {
            Ok(handle) => handles.push(handle),
            Err(error) => {
                drop(handles);
                *threads.alive.lock() -= 1;
                threads.leaders.stop();
                threads.join(FAREWELL);
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Reports the end of a thread, also after a panic.
struct End<'a>(&'a Threads);

impl Drop for End<'_> {
    fn drop(&mut self) {
        *self.0.alive.lock() -= 1;
        self.0.ended.notify_all();
    }
}

/// The life of one I/O thread.
fn run(server: &Arc<Server>, first: Option<usize>) {
    let Threads { shards, leaders, .. } = &server.threads;
    let mut shard = first.map(|index| (index, Place::Own));
    loop {
        shard = if let Some((index, place)) = shard {
            let runtime = shards[index].runtime.lock().clone();
            if let Some(runtime) = runtime {
                let drive = |ready: &mut Ready<'_>| runtime.block_on(poll_fn(ready));
                leaders.lead((index, place), &server.turn, &*server.app, drive);
            }
            None
        } else {
            let missed = leaders.stand_by();
            if let Some(missed) = missed {
                // What the late one sends is not to wait for it.
                shards[missed.index].handle.spawn(hurry(Arc::downgrade(server), missed));
            }
            missed.map(|missed| (missed.index, leaders.place(&*server.app)))
        };
        if leaders.is_stopping() {
            return;
        }
    }
}

/// Sends what a slow run of the turn holds back, until the leader that was missed has come back from it.
async fn hurry(server: Weak<Server>, missed: Missed) {
    while server.upgrade().is_some_and(|server| {
        server.turn.hurry();
        server.threads.leaders.is_out(missed)
    }) {
        tokio::time::sleep(2 * TICK).await;
    }
}
