//! Threads that wake each other, under as many orders of their steps as a few seconds hold.
//!
//! `cargo test --lib --features models models`. What runs here is the code of the server, with a scheduler in place of the
//! system's (`sync.rs`). An order in which somebody waits for what nobody ends is found as a deadlock, and printed; the order is
//! seen again with `shuttle::replay`.

use std::any::Any;
use std::cell::Cell;
use std::future::poll_fn;
use std::sync::{Arc, PoisonError};
use std::task::{Wake, Waker};

use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::{Condvar, Mutex, MutexGuard};
use shuttle::thread::ThreadId;
use shuttle::{Config, MaxSteps, Runner, thread};

use crate::app::{App, Job, Signal};
use crate::server::batch;
use crate::server::exchange::Exchange;
use crate::server::leading::{Leaders, Place};
use crate::server::notes::Notes;
use crate::server::turn::Turn;

/// Orders that each scheduler tries. The first chooses at random, the second by priorities that change a few times: rare
/// orders in which one thread stands still for long are found by it.
const ORDERS: usize = 300;
const CHANGES: usize = 3;
/// Jobs that are queued in one order.
const JOBS: usize = 2;

fn check(model: impl Fn() + Send + Sync + 'static) {
    let model = Arc::new(model);
    let config = |max_steps| {
        let mut config = Config::new();
        config.stack_size = 256 * 1024;
        config.max_steps = max_steps;
        config.silence_warnings = true;
        config
    };
    let again = Arc::clone(&model);
    let random = RandomScheduler::new_from_seed(7, ORDERS);
    Runner::new(random, config(MaxSteps::FailAfter(100_000))).run(move || again());
    // This one is not fair: a standby may tick for as long as it has the highest priority.
    let by_priority = PctScheduler::new_from_seed(7, CHANGES, ORDERS);
    Runner::new(by_priority, config(MaxSteps::ContinueAfter(3_000))).run(move || model());
}

shuttle::thread_local! {
    /// The shard that this thread has driven last.
    static SHARD: Cell<usize> = Cell::new(0);
}

/// What a job of a model does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Nothing more than to be run.
    Run,
    /// It leaves a task to be woken at the end of its batch.
    Leave,
    /// It waits until somebody else has driven its shard.
    WaitForShard,
    /// It leaves a task to be woken, and waits until it has been.
    WaitForTask,
}

/// What has happened.
#[derive(Default)]
struct Seen {
    ended: usize,
    woken: usize,
    /// How many threads drive each shard at the moment.
    driving: Vec<usize>,
    /// The threads that have run user code.
    ran: Vec<ThreadId>,
}

struct Site {
    act: Act,
    /// User code stays on one thread.
    stays: bool,
    turn: Turn,
    leaders: Leaders,
    notes: Arc<Notes>,
    seen: Mutex<Seen>,
    changed: Condvar,
}

impl Site {
    fn new(act: Act, shards: usize, stays: bool) -> Arc<Self> {
        let leaders = Leaders::new(shards);
        (0..shards).for_each(|index| leaders.expect(index));
        Arc::new(Self {
            act,
            stays,
            turn: Turn::default(),
            leaders,
            notes: Arc::default(),
            seen: Mutex::new(Seen { driving: vec![0; shards], ..Seen::default() }),
            changed: Condvar::new(),
        })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen());
        self.changed.notify_all();
    }

    fn wait(&self, until: impl Fn(&Seen) -> bool) {
        let mut seen = self.seen();
        while !until(&seen) {
            seen = self.changed.wait(seen).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The life of an I/O thread, as that of `threads.rs`.
    fn live(self: &Arc<Self>, first: Option<usize>) {
        let code = Code(Arc::clone(self));
        let mut shard = first.map(|index| (index, Place::Own));
        while !self.leaders.is_stopping() {
            shard = if let Some((index, place)) = shard {
                self.leaders.lead((index, place), &self.turn, &code, |ready| {
                    SHARD.with(|shard| shard.set(index));
                    self.note(|seen| seen.driving[index] += 1);
                    shuttle::future::block_on(poll_fn(ready));
                    self.note(|seen| seen.driving[index] -= 1);
                });
                None
            } else {
                let missed = self.leaders.stand_by();
                if let Some(missed) = missed {
                    let site = Arc::clone(self);
                    thread::spawn(move || {
                        site.turn.hurry();
                        while site.leaders.is_out(missed) && !site.leaders.is_stopping() {
                            thread::yield_now();
                            site.turn.hurry();
                        }
                    });
                }
                missed.map(|missed| (missed.index, self.leaders.place(&code)))
            };
        }
    }

    fn push(self: &Arc<Self>) {
        let note = self.notes.take(String::new).expect("they are few");
        self.turn.push(Job::Note(note), &self.leaders);
    }
}

struct Code(Arc<Site>);

impl App for Code {
    fn run(&self, jobs: &mut dyn Iterator<Item = Job>) {
        let site = &self.0;
        for _ in jobs {
            let mine = SHARD.with(Cell::get);
            let woken = site.seen().woken;
            if matches!(site.act, Act::Leave | Act::WaitForTask) {
                assert!(batch::wake_later(&Waker::from(Arc::new(Task(Arc::clone(site))))));
            }
            match site.act {
                Act::Run | Act::Leave => thread::yield_now(),
                Act::WaitForShard => site.wait(|seen| seen.driving[mine] > 0),
                Act::WaitForTask => site.wait(|seen| seen.woken > woken),
            }
            site.note(|seen| {
                seen.ended += 1;
                seen.ran.push(thread::current().id());
            });
        }
    }

    fn stays_on_one_thread(&self) -> bool {
        self.0.stays
    }

    fn post(&self, _: Job) {}

    fn posted(&self) {}

    fn signal(&self, _: Arc<Exchange>, _: Signal) {}

    fn drained(&self) {}

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct Task(Arc<Site>);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.note(|seen| seen.woken += 1);
    }
}

/// A thread queues two jobs now and then, for some shards and their standby.
fn queue(act: Act, shards: usize, until: fn(&Seen) -> bool) {
    queue_for(act, shards, false, until);
    if shards == 1 {
        queue_for(act, shards, true, until);
    }
}

fn queue_for(act: Act, shards: usize, stays: bool, until: fn(&Seen) -> bool) {
    check(move || {
        let site = Site::new(act, shards, stays);
        let lives: Vec<_> = (0..=shards)
            .map(|index| {
                let site = Arc::clone(&site);
                thread::spawn(move || site.live((index < shards).then_some(index)))
            })
            .collect();
        for _ in 0..JOBS {
            // The standby may have fallen asleep.
            for _ in 0..thread_rng().gen_range(0..30) {
                thread::yield_now();
            }
            site.push();
        }
        site.wait(until);
        site.leaders.stop();
        for thread in lives {
            thread.join().expect("nobody panics");
        }
        assert!(site.turn.is_idle());
        let seen = site.seen();
        assert!(!stays || seen.ran.iter().all(|thread| *thread == seen.ran[0]), "user code has moved");
    });
}

#[test]
fn every_job_is_run() {
    queue(Act::Run, 1, |seen| seen.ended == JOBS);
    queue(Act::Run, 2, |seen| seen.ended == JOBS);
}

#[test]
fn a_shard_is_driven_while_user_code_is_slow() {
    queue(Act::WaitForShard, 1, |seen| seen.ended == JOBS);
    queue(Act::WaitForShard, 2, |seen| seen.ended == JOBS);
}

#[test]
fn every_task_that_a_batch_has_left_is_woken() {
    queue(Act::Leave, 1, |seen| seen.woken == JOBS);
    queue(Act::Leave, 2, |seen| seen.woken == JOBS);
}

#[test]
fn what_a_slow_job_holds_back_is_hurried() {
    queue(Act::WaitForTask, 1, |seen| seen.ended == JOBS);
    queue(Act::WaitForTask, 2, |seen| seen.ended == JOBS);
}
