//! The turn: one thread at a time runs plain handlers, and a slow one delays nobody else's bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use socketify::app::Lane;

use super::{Client, Site, ok, site};
use crate::support::{Flag, with_threads};

#[test]
fn jobs_of_the_turn_never_overlap() {
    for threads in 1..5 {
        let state = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&state);
        let served = Site::default()
            .route("/*", Lane::Turn, move |exchange| {
                // A read and a write with a pause between them: overlapping calls would lose counts.
                let seen = counted.load(Ordering::SeqCst);
                thread::yield_now();
                counted.store(seen + 1, Ordering::SeqCst);
                exchange.end(b"x", false);
            })
            .serve(with_threads(threads));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let mut client = served.client();
                    for _ in 0..250 {
                        assert_eq!(client.get("/"), ok("x"));
                    }
                });
            }
        });
        assert_eq!(state.load(Ordering::SeqCst), 2000);
    }
}

#[test]
fn the_standby_serves_while_a_job_is_slow() {
    for threads in 1..4 {
        let (entered, open) = (Arc::new(Flag::default()), Arc::new(Flag::default()));
        let (enter, wait) = (Arc::clone(&entered), Arc::clone(&open));
        let served = site()
            .route("/slow", Lane::Turn, move |exchange| {
                enter.set();
                wait.wait();
                exchange.end(b"slow", false);
            })
            .serve(with_threads(threads));
        let mut slow = served.client();
        let mut existing: Vec<Client> = (0..8).map(|_| served.client()).collect();
        for client in &mut existing {
            assert_eq!(client.get("/turn/1"), ok("/turn/1"));
        }
        slow.ask("/slow");
        entered.wait();
        let mut queued = served.client();
        queued.ask("/turn/queued");
        for _ in 0..50 {
            for client in &mut existing {
                assert_eq!(client.get("/constant"), ok("constant"));
                assert_eq!(client.get("/nothing").0, 404);
                assert_eq!(client.get("/loop/1"), ok("/loop/1"));
            }
            assert_eq!(served.client().get("/constant"), ok("constant"));
        }
        open.set();
        assert_eq!(slow.answer(), ok("slow"));
        assert_eq!(queued.answer(), ok("/turn/queued"));
        assert_eq!(slow.get("/turn/after"), ok("/turn/after"));
    }
}

#[test]
fn the_turn_goes_on_after_each_of_many_slow_jobs() {
    for threads in 1..4 {
        let served = site()
            .route("/slow", Lane::Turn, |exchange| {
                // Longer than the standby waits, so that the shard changes hands each time.
                thread::sleep(Duration::from_millis(4));
                exchange.end(b"slow", false);
            })
            .serve(with_threads(threads));
        thread::scope(|scope| {
            for number in 0..4 {
                let served = &served;
                scope.spawn(move || {
                    let mut client = served.client();
                    for turn in 0..60 {
                        let path = if (number + turn) % 2 == 0 { "/slow" } else { "/turn/quick" };
                        assert_eq!(client.get(path).0, 200);
                    }
                });
            }
        });
    }
}

#[test]
fn a_panic_in_user_code_ends_no_thread() {
    // The trait forbids it; if it still happens, the process serves on. More panics than threads.
    let served =
        site().route("/panic", Lane::Turn, |_| panic!("this panic is part of a test")).serve(with_threads(2));
    let mut clients: Vec<Client> = (0..10).map(|_| served.client()).collect();
    for client in &mut clients {
        client.ask("/panic");
        served.code.inside.store(false, Ordering::SeqCst);
        assert_eq!(served.client().get("/turn/1"), ok("/turn/1"));
        served.code.inside.store(false, Ordering::SeqCst);
    }
    assert_eq!(served.code.io_threads.load(Ordering::SeqCst), 3);
    served.code.overlaps.store(0, Ordering::SeqCst);
}
