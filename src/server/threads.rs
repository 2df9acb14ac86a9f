//! The I/O threads: who drives which sockets while user code runs.
//!
//! Each shard is a single-threaded runtime with its connections. A thread leads a shard: it drives its sockets until user
//! code is due, then steps out of the runtime, runs the code, and steps in again. Nothing is handed to another thread, so
//! a request costs no wake-up. One more thread stands by: when a leader has been out for two ticks (a slow handler, a
//! busy interpreter), the standby leads in its place, and the late leader becomes the standby. So sockets, timers and
//! answers that need no user code wait milliseconds at most, whatever handlers do.
//!
//! The standby ticks only while user code runs; an idle server wakes nobody.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use parking_lot::{Condvar, Mutex};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::server::{Server, batch, stack_size};

/// How often the standby looks at the leaders.
const TICK: Duration = Duration::from_millis(1);
/// Ticks without any leader stepping out after which the standby sleeps until woken.
const CALM: u32 = 4;

/// A single-threaded runtime and the bookkeeping of who leads it.
pub(crate) struct Shard {
    handle: Handle,
    /// Taken away when the threads have ended, for its tasks hold the server that holds it.
    runtime: Mutex<Option<Arc<Runtime>>>,
    led: AtomicBool,
    /// Counts the times a leader stepped out, so that the standby can tell one long absence from many short ones.
    absences: AtomicU64,
    /// Wakes the leader out of the runtime.
    waker: AtomicWaker,
}

/// What all threads of a server share about themselves.
pub(crate) struct Threads {
    shards: Vec<Shard>,
    stopping: AtomicBool,
    /// The standby sleeps without ticking.
    dormant: AtomicBool,
    standby: Mutex<Option<Thread>>,
    handles: Mutex<Vec<JoinHandle<()>>>,
    /// Threads that have not come to their end.
    alive: Mutex<usize>,
    /// Wakes whoever joins when one has.
    ended: Condvar,
    /// Which shard gets the next connection.
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
            Ok(Shard {
                handle: runtime.handle().clone(),
                runtime: Mutex::new(Some(Arc::new(runtime))),
                led: AtomicBool::new(false),
                absences: AtomicU64::new(0),
                waker: AtomicWaker::new(),
            })
        };
        Ok(Self {
            shards: (0..count.max(1)).map(|_| shard()).collect::<io::Result<_>>()?,
            stopping: AtomicBool::new(false),
            dormant: AtomicBool::new(false),
            standby: Mutex::new(None),
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

    /// Has a leader step out to run user code.
    pub(crate) fn wake_leader(&self) {
        for shard in &self.shards {
            shard.waker.wake();
        }
    }

    /// Has every thread end.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.wake_leader();
        self.wake_standby();
    }

    /// Waits up to `patience` for every thread to end, and drops what was left to do. False when a thread is still busy with
    /// user code. Must not be called while attached to Python, nor on one of the threads.
    pub(crate) fn join(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut alive = self.alive.lock();
        while *alive > 0 && !self.ended.wait_until(&mut alive, deadline).timed_out() {}
        let all = *alive == 0;
        drop(alive);
        let handles = std::mem::take(&mut *self.handles.lock());
        for handle in handles {
            if all || handle.is_finished() {
                // A thread that panicked has already said so.
                let _ = handle.join();
            }
        }
        for shard in &self.shards {
            let runtime = shard.runtime.lock().take();
            drop(runtime);
        }
        all
    }

    fn wake_standby(&self) {
        self.dormant.store(false, Ordering::SeqCst);
        if let Some(thread) = &*self.standby.lock() {
            thread.unpark();
        }
    }

    fn step_out(&self, shard: &Shard) {
        shard.absences.fetch_add(1, Ordering::SeqCst);
        shard.led.store(false, Ordering::SeqCst);
        if self.dormant.load(Ordering::SeqCst) {
            self.wake_standby();
        }
    }
}

/// Starts one thread a shard and the standby.
pub(crate) fn start(server: &Arc<Server>) -> io::Result<()> {
    let threads = &server.threads;
    let mut handles = threads.handles.lock();
    for index in 0..=threads.shards.len() {
        let server = Arc::clone(server);
        let first = (index < server.threads.shards.len()).then_some(index);
        if let Some(index) = first {
            server.threads.shards[index].led.store(true, Ordering::SeqCst);
        }
        *threads.alive.lock() += 1;
        let body = move || {
            let _end = End(&server.threads);
            let app = Arc::clone(&server.app);
            app.on_thread(&mut || run(&server, first));
        };
        let thread = thread::Builder::new().name(format!("socketify-io-{index}")).stack_size(stack_size());
        handles.push(thread.spawn(body)?);
    }
    Ok(())
}

/// Says that a thread has come to its end, also when it panics.
struct End<'a>(&'a Threads);

impl Drop for End<'_> {
    fn drop(&mut self) {
        *self.0.alive.lock() -= 1;
        self.0.ended.notify_all();
    }
}

/// The life of one I/O thread.
fn run(server: &Arc<Server>, first: Option<usize>) {
    let threads = &server.threads;
    let mut shard = first;
    loop {
        shard = if let Some(index) = shard {
            lead(server, &threads.shards[index]);
            None
        } else {
            let missed = stand_by(threads);
            if let Some(index) = missed {
                // What the late one has sent so far is not to wait for it.
                threads.shards[index].handle.spawn(hurry(Arc::downgrade(server)));
            }
            missed
        };
        if threads.stopping.load(Ordering::SeqCst) {
            return;
        }
    }
}

/// Sends what a slow run of the turn holds back, until it has ended.
async fn hurry(server: Weak<Server>) {
    while server.upgrade().is_some_and(|server| server.turn.hurry()) {
        tokio::time::sleep(2 * TICK).await;
    }
}

/// Drives a shard until it is lost to the standby or the server stops.
fn lead(server: &Arc<Server>, shard: &Shard) {
    let threads = &server.threads;
    let Some(runtime) = shard.runtime.lock().clone() else { return };
    let _leading = Leading::begin();
    loop {
        runtime.block_on(poll_fn(|context| {
            // In here a task that is woken is merely queued: from outside it takes a system call.
            batch::wake_left();
            shard.waker.register(context.waker());
            if threads.stopping.load(Ordering::SeqCst) || server.turn.is_due() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }));
        threads.step_out(shard);
        if threads.stopping.load(Ordering::SeqCst) {
            return;
        }
        server.turn.run(&*server.app);
        if shard.led.swap(true, Ordering::SeqCst) {
            // Whoever leads now slept through what was queued while we held the turn: only we know that it is free again.
            if server.turn.is_due() {
                threads.wake_leader();
            }
            return;
        }
    }
}

/// A thread drives sockets for as long as this lives.
struct Leading;

impl Leading {
    fn begin() -> Self {
        batch::set_leading(true);
        Self
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        batch::set_leading(false);
    }
}

/// Waits until a leader is missed; gives the shard to lead, or none when the server stops.
fn stand_by(threads: &Threads) -> Option<usize> {
    *threads.standby.lock() = Some(thread::current());
    let mut seen: Vec<Option<u64>> = vec![None; threads.shards.len()];
    let mut calm = 0;
    while !threads.stopping.load(Ordering::SeqCst) {
        let mut quiet = true;
        for (index, shard) in threads.shards.iter().enumerate() {
            let absences = shard.absences.load(Ordering::SeqCst);
            let out = !shard.led.load(Ordering::SeqCst);
            if out && seen[index] == Some(absences) && !shard.led.swap(true, Ordering::SeqCst) {
                return Some(index);
            }
            quiet &= seen[index] == Some(absences) && !out;
            seen[index] = Some(absences);
        }
        calm = if quiet { calm + 1 } else { 0 };
        if calm < CALM {
            thread::park_timeout(TICK);
            continue;
        }
        calm = 0;
        threads.dormant.store(true, Ordering::SeqCst);
        // A leader that stepped out before it could see `dormant` must be seen here.
        let missed = threads.shards.iter().zip(&seen).any(|(shard, seen)| {
            *seen != Some(shard.absences.load(Ordering::SeqCst)) || !shard.led.load(Ordering::SeqCst)
        });
        if missed {
            threads.dormant.store(false, Ordering::SeqCst);
        }
        while threads.dormant.load(Ordering::SeqCst) && !threads.stopping.load(Ordering::SeqCst) {
            thread::park();
        }
    }
    None
}
