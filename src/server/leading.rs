//! Who leads: one thread drives each shard, and one more stands by for those whose user code takes long.
//!
//! Some user code is to stay on one thread ([`App::stays_on_one_thread`]). Then the standby only lends a hand: it drives the sockets
//! and runs no user code, and the thread whose place it has takes that back.
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
    /// The thread that user code stays on wants its place back.
    recalled: AtomicBool,
    /// That thread, while it waits for the place.
    home: Mutex<Option<Thread>>,
}

/// Whose place a thread leads in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Its own: it runs user code between two looks at the sockets.
    Own,
    /// That of a thread that user code stays on, and that will want it back: it drives sockets alone.
    Lent,
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
        let post = || Post {
            led: AtomicBool::new(false),
            absences: AtomicU64::new(0),
            waker: AtomicWaker::new(),
            recalled: AtomicBool::new(false),
            home: Mutex::new(None),
        };
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
        for post in &self.posts {
            post.call_home();
        }
    }

    /// The place of the standby that has missed a leader.
    pub(crate) fn place(&self, app: &dyn App) -> Place {
        // Several leaders run user code in turn anyway.
        if self.posts.len() == 1 && app.stays_on_one_thread() { Place::Lent } else { Place::Own }
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
        (index, place): (usize, Place),
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
                let due = place == Place::Own && turn.is_due();
                let recalled = post.recalled.load(Ordering::SeqCst);
                if self.is_stopping() || due || recalled { Poll::Ready(()) } else { Poll::Pending }
            });
            if post.recalled.swap(false, Ordering::SeqCst) {
                // It is led by the other from now on.
                post.call_home();
                return;
            }
            self.step_out(post);
            if self.is_stopping() {
                return;
            }
            turn.run(app);
            if post.led.swap(true, Ordering::SeqCst) {
                if self.place(app) == Place::Lent {
                    while turn.is_due() && !self.is_stopping() {
                        batch::wake_left();
                        turn.run(app);
                    }
                    batch::wake_left();
                    let leads = self.take_back(post);
                    self.returns.fetch_add(1, Ordering::SeqCst);
                    if leads {
                        continue;
                    }
                    return;
                }
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

    /// Takes a place back that the standby has taken. False if the server stops.
    fn take_back(&self, post: &Post) -> bool {
        *post.home.lock() = Some(thread::current());
        post.recalled.store(true, Ordering::SeqCst);
        post.waker.wake();
        while post.recalled.load(Ordering::SeqCst) {
            if self.is_stopping() {
                return false;
            }
            thread::park();
        }
        true
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

impl Post {
    /// Wakes the thread that waits for its place, if one does.
    fn call_home(&self) {
        if let Some(home) = &*self.home.lock() {
            home.unpark();
        }
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
