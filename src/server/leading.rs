//! Who leads: one thread drives each shard, and one more stands by for those whose user code takes long.
//!
//! The protocol alone, without the sockets that are driven: `models.rs` runs it under every order of its steps.

use std::task::{Context, Poll};
use std::time::Duration;

use crate::app::App;
use crate::server::batch;
use crate::server::turn::Turn;
use crate::sync::thread::{self, Thread};
use crate::sync::{AtomicBool, AtomicU64, AtomicWaker, Mutex, Ordering};

/// How often the standby looks at the leaders.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// Ticks without any leader stepping out after which the standby sleeps until woken.
const CALM: u32 = 4;

/// What a leader waits for while it drives sockets: ready when it has to step out.
pub(crate) type Ready<'a> = dyn FnMut(&mut Context<'_>) -> Poll<()> + 'a;

/// The place of a leader.
struct Post {
    led: AtomicBool,
    /// Counts the times a leader stepped out, so that the standby can distinguish one long absence from many
    /// short ones.
    absences: AtomicU64,
    /// Wakes the leader out of the runtime.
    waker: AtomicWaker,
}

/// The places of all leaders, and the standby.
pub(crate) struct Leaders {
    posts: Vec<Post>,
    stopping: AtomicBool,
    /// The standby sleeps without ticking.
    dormant: AtomicBool,
    standby: Mutex<Option<Thread>>,
    /// How often a leader has come back after its place was lost. At most one at a time is out: it is the next standby.
    returns: AtomicU64,
}

/// A leader that the standby has missed.
#[derive(Clone, Copy)]
pub(crate) struct Missed {
    /// Its place, which is the standby's now.
    pub(crate) index: usize,
    /// How many had come back when it was out.
    returns: u64,
}

impl Leaders {
    pub(crate) fn new(count: usize) -> Self {
        let post =
            || Post { led: AtomicBool::new(false), absences: AtomicU64::new(0), waker: AtomicWaker::new() };
        Self {
            posts: (0..count).map(|_| post()).collect(),
            stopping: AtomicBool::new(false),
            dormant: AtomicBool::new(false),
            standby: Mutex::new(None),
            returns: AtomicU64::new(0),
        }
    }

    /// A thread that leads is about to start: until it does, the standby has nobody to miss.
    pub(crate) fn expect(&self, index: usize) {
        self.posts[index].led.store(true, Ordering::SeqCst);
    }

    /// Makes a leader step out to run user code.
    pub(crate) fn wake(&self) {
        for post in &self.posts {
            post.waker.wake();
        }
    }

    /// Makes every thread end.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.wake();
        self.wake_standby();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Whether a leader that was missed has not come back yet. It may be about to run user code, and not have begun.
    pub(crate) fn is_out(&self, missed: Missed) -> bool {
        self.returns.load(Ordering::SeqCst) == missed.returns
    }

    fn wake_standby(&self) {
        self.dormant.store(false, Ordering::SeqCst);
        if let Some(thread) = &*self.standby.lock() {
            thread.unpark();
        }
    }

    fn step_out(&self, post: &Post) {
        post.absences.fetch_add(1, Ordering::SeqCst);
        post.led.store(false, Ordering::SeqCst);
        if self.dormant.load(Ordering::SeqCst) {
            self.wake_standby();
        }
    }

    /// Leads until the place is lost to the standby or the server stops. `drive` drives the sockets of the shard until what
    /// it is given is ready.
    pub(crate) fn lead(
        &self,
        index: usize,
        turn: &Turn,
        app: &dyn App,
        mut drive: impl FnMut(&mut Ready<'_>),
    ) {
        let post = &self.posts[index];
        let _leading = Leading::begin();
        loop {
            drive(&mut |context| {
                // In here waking a task only queues it: from outside it takes a system call.
                batch::wake_left();
                post.waker.register(context.waker());
                if self.is_stopping() || turn.is_due() { Poll::Ready(()) } else { Poll::Pending }
            });
            self.step_out(post);
            if self.is_stopping() {
                return;
            }
            turn.run(app);
            if post.led.swap(true, Ordering::SeqCst) {
                self.returns.fetch_add(1, Ordering::SeqCst);
                // The present leader slept through what was queued while this thread held the turn, and only this thread knows that
                // the turn is free again.
                if turn.is_due() {
                    self.wake();
                }
                return;
            }
        }
    }

    /// Waits until a leader is missed, whose place is this thread's then; none when the server stops.
    pub(crate) fn stand_by(&self) -> Option<Missed> {
        *self.standby.lock() = Some(thread::current());
        let mut seen: Vec<Option<u64>> = vec![None; self.posts.len()];
        let mut calm = 0;
        while !self.is_stopping() {
            let mut quiet = true;
            for (index, post) in self.posts.iter().enumerate() {
                let absences = post.absences.load(Ordering::SeqCst);
                let out = !post.led.load(Ordering::SeqCst);
                let returns = self.returns.load(Ordering::SeqCst);
                if out && seen[index] == Some(absences) && !post.led.swap(true, Ordering::SeqCst) {
                    return Some(Missed { index, returns });
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
            self.dormant.store(true, Ordering::SeqCst);
            // A leader that stepped out before it could see `dormant` must be seen here.
            let missed = self.posts.iter().zip(&seen).any(|(post, seen)| {
                *seen != Some(post.absences.load(Ordering::SeqCst)) || !post.led.load(Ordering::SeqCst)
            });
            if missed {
                self.dormant.store(false, Ordering::SeqCst);
            }
            while self.dormant.load(Ordering::SeqCst) && !self.is_stopping() {
                thread::park();
            }
        }
        None
    }
}

/// A thread drives sockets while this lives.
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
