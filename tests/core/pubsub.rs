//! The rules of topics, row by row of the specification, and the hub against a map of sets.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use socketify::pubsub::{Hub, Subscribed, Topic};

/// A hub whose handles are the ids, with one subscription for each pair.
fn hub(subscriptions: &[(&str, u64)]) -> Hub<u64> {
    let hub = Hub::default();
    for (topic, id) in subscriptions {
        assert!(matches!(hub.subscribe(topic.as_bytes(), *id, *id, |_| true), Subscribed::New { .. }));
    }
    hub
}

/// The receivers, sorted.
fn delivered(hub: &Hub<u64>, topic: &[u8]) -> Vec<u64> {
    let mut found = Vec::new();
    assert_eq!(hub.publish(topic, |id| found.push(*id)), found.len());
    found.sort_unstable();
    found
}

#[test]
fn topics_are_compared_byte_by_byte() {
    let rows = [
        ("C-P-01 equal", "news", "news", true),
        ("C-P-01 case", "news", "News", false),
        ("C-P-01 prefix", "news", "new", false),
        ("C-P-01 longer", "news", "news/", false),
        ("C-P-01 many levels", "news/#", "news/a/b", false),
        ("C-P-01 one level", "news/+", "news/a", false),
        ("C-P-01 all", "#", "news", false),
        ("C-P-01 signs are bytes", "a/+/#", "a/+/#", true),
        ("C-P-01 blanks", "news", " news", false),
        ("C-P-10 empty", "", "", true),
        ("C-P-10 empty is not all", "", "news", false),
        ("C-P-10 a zero byte", "a\0", "a", false),
        ("C-P-10 beyond ASCII", "nöws", "nöws", true),
        ("C-P-10 another way to write it", "nöws", "no\u{308}ws", false),
    ];
    for (row, subscribed, published, matches) in rows {
        let hub = hub(&[(subscribed, 7)]);
        assert_eq!(delivered(&hub, published.as_bytes()), if matches { vec![7] } else { vec![] }, "{row}");
        assert_eq!(hub.count(published.as_bytes()), usize::from(matches), "{row}, C-P-12");
        assert_eq!(hub.unsubscribe(published.as_bytes(), 7), matches.then_some(0), "{row}");
    }
}

#[test]
fn a_topic_may_be_bytes_that_are_no_text() {
    let hub = Hub::default();
    hub.subscribe(b"\xff\xfe", 1, 1, |topic| **topic == *b"\xff\xfe");
    assert_eq!(delivered(&hub, b"\xff\xfe"), [1], "C-P-10");
    assert_eq!(delivered(&hub, "\u{fffd}\u{fffd}".as_bytes()), [0; 0], "C-P-10");
}

#[test]
fn a_publish_reaches_all_subscribers_once_and_the_publisher_is_not_special() {
    let hub = hub(&[("a", 1), ("a", 2), ("b", 2), ("b", 3)]);
    assert_eq!(delivered(&hub, b"a"), [1, 2], "C-P-03, C-P-04");
    assert_eq!(delivered(&hub, b"b"), [2, 3], "C-P-03, C-P-04");
    assert_eq!(hub.publish(b"c", |_| unreachable!("nobody is there")), 0, "C-P-03");
}

#[test]
fn hubs_share_nothing() {
    let (one, other) = (hub(&[("a", 1)]), hub(&[("a", 2)]));
    assert_eq!((delivered(&one, b"a"), delivered(&other, b"a")), (vec![1], vec![2]), "C-P-02");
}

#[test]
fn the_counts_for_the_subscription_callback() {
    let hub = Hub::default();
    let subscribe = |id| hub.subscribe(b"a", id, id, |_| true);
    assert_eq!(subscribe(1), Subscribed::New { count: 1 }, "C-P-09");
    assert_eq!(subscribe(2), Subscribed::New { count: 2 }, "C-P-09");
    assert_eq!(subscribe(1), Subscribed::Already, "C-P-09");
    assert_eq!(hub.unsubscribe(b"a", 3), None, "C-P-09");
    assert_eq!(hub.unsubscribe(b"b", 1), None, "C-P-09");
    assert_eq!(hub.unsubscribe(b"a", 1), Some(1), "C-P-09");
    assert_eq!(hub.unsubscribe(b"a", 1), None, "C-P-09");
    assert_eq!(hub.unsubscribe(b"a", 2), Some(0), "C-P-09");
    assert_eq!((hub.count(b"a"), hub.topic_count()), (0, 0), "C-P-12");
}

#[test]
fn a_closing_socket_hears_of_each_topic_once() {
    let hub = hub(&[("a", 1), ("b", 1), ("b", 2), ("c", 2)]);
    let own = ["b", "a", "b", "c", "unknown"].map(|topic| Topic::from(topic.as_bytes()));
    let mut heard = Vec::new();
    hub.remove_all(own.into_iter(), 1, |topic, remaining| {
        // The lock is free again.
        assert_eq!((hub.count(&topic), hub.topic_count()), (remaining, 2));
        heard.push((topic.to_vec(), remaining));
    });
    assert_eq!(heard, [(b"b".to_vec(), 1), (b"a".to_vec(), 0)], "C-P-09");
    hub.remove_all(std::iter::empty(), 2, |_, _| unreachable!("nothing was given"));
    assert_eq!(delivered(&hub, b"b"), [2]);
}

#[test]
fn what_was_published_before_unsubscribing_is_delivered() {
    let hub = Hub::default();
    let queue = Arc::new(Mutex::new(Vec::new()));
    hub.subscribe(b"a", 1, Arc::clone(&queue), |_| true);
    hub.publish(b"a", |queue| queue.lock().expect("no panic").push("last words"));
    assert_eq!(hub.unsubscribe(b"a", 1), Some(0));
    assert_eq!(*queue.lock().expect("no panic"), ["last words"], "C-P-11");
}

#[test]
fn a_refused_subscription_leaves_nothing() {
    let hub = hub(&[("a", 1)]);
    for topic in ["a", "b"] {
        let mut asked = None;
        let refused = hub.subscribe(topic.as_bytes(), 2, 2, |topic| {
            asked = Some(Topic::clone(topic));
            false
        });
        assert_eq!(refused, Subscribed::Refused);
        assert_eq!(asked.as_deref(), Some(topic.as_bytes()));
    }
    assert_eq!((hub.topic_count(), delivered(&hub, b"a"), delivered(&hub, b"b")), (1, vec![1], vec![]));
}

#[test]
fn the_name_is_shared_by_all_who_subscribe() {
    let (hub, mut names) = (Hub::default(), Vec::new());
    for id in 0..100_u64 {
        hub.subscribe(b"a", id, id, |topic| {
            names.push(Topic::clone(topic));
            true
        });
    }
    assert!(names.iter().all(|name| Topic::ptr_eq(name, &names[0])));
    assert_eq!(Arc::strong_count(&names[0]), 101);
}

#[test]
fn large_topics_lose_members_in_any_order() {
    for count in [2, 15, 16, 17, 31, 32, 33, 34, 100, 1009] {
        let hub = Hub::default();
        // Ids far apart and in no order, as in long-lived servers.
        let id = |number: u64| number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for number in 0..count {
            hub.subscribe(b"a", id(number), id(number), |_| true);
        }
        let mut left: BTreeSet<u64> = (0..count).map(id).collect();
        let step = if count % 37 == 0 { 1 } else { 37 };
        for number in (0..count).map(|turn| turn * step % count) {
            assert_eq!(hub.subscribe(b"a", id(number), 0, |_| true), Subscribed::Already);
            left.remove(&id(number));
            assert_eq!(hub.unsubscribe(b"a", id(number)), Some(left.len()));
            assert_eq!(hub.unsubscribe(b"a", id(number)), None);
            assert_eq!(delivered(&hub, b"a"), left.iter().copied().collect::<Vec<_>>());
        }
        assert_eq!(hub.topic_count(), 0);
    }
}

/// A handle whose drop changes the hub: a deadlock if the lock is held.
struct Asks(Arc<Hub<Asks>>, Arc<AtomicUsize>);

impl Drop for Asks {
    fn drop(&mut self) {
        self.0.unsubscribe(b"unknown", 0);
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn handles_are_dropped_without_the_lock() {
    let (done, finished) = mpsc::channel();
    thread::spawn(move || {
        let (hub, drops) = (Arc::new(Hub::default()), Arc::new(AtomicUsize::new(0)));
        let handle = || Asks(Arc::clone(&hub), Arc::clone(&drops));
        for id in 1..4 {
            hub.subscribe(b"a", id, handle(), |_| true);
        }
        hub.subscribe(b"a", 1, handle(), |_| true);
        hub.subscribe(b"a", 4, handle(), |_| false);
        hub.unsubscribe(b"a", 1);
        hub.unsubscribe(b"a", 2);
        hub.remove_all([Topic::from(*b"a")].into_iter(), 3, |_, _| ());
        done.send((hub.topic_count(), drops.load(Ordering::Relaxed))).expect("somebody waits");
    });
    let (topics, drops) = finished.recv_timeout(Duration::from_secs(10)).expect("a drop waits for the lock");
    assert_eq!((topics, drops), (0, 5));
}

#[test]
fn a_panic_in_a_callback_leaves_the_hub_usable() {
    let hub = hub(&[("a", 1)]);
    let panics = |run: &dyn Fn()| {
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
    };
    panics(&|| {
        hub.subscribe(b"a", 2, 2, |_| panic!("admit"));
    });
    panics(&|| {
        hub.subscribe(b"b", 2, 2, |_| panic!("admit"));
    });
    panics(&|| {
        hub.publish(b"a", |_| panic!("deliver"));
    });
    assert_eq!((delivered(&hub, b"a"), hub.topic_count()), (vec![1], 1));
    panics(&|| hub.remove_all([Topic::from(*b"a")].into_iter(), 1, |_, _| panic!("removed")));
    assert_eq!(hub.topic_count(), 0);
}

#[test]
fn threads_that_come_and_go_leave_what_they_should() {
    const THREADS: u64 = 4; // and one that publishes
    const ROUNDS: u64 = 300;
    let hub = Hub::default();
    let (start, stop, seen) = (Barrier::new(5), AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (hub, start) = (&hub, &start);
                scope.spawn(move || {
                    start.wait();
                    for round in 0..ROUNDS {
                        // Each thread has ids of its own in shared topics, and keeps every tenth.
                        let id = round * THREADS + thread;
                        let topics = [b"all".as_slice(), &[b'0' + (id % 7) as u8], b"rare"];
                        let mut own = Vec::new();
                        for topic in topics {
                            let subscribed = hub.subscribe(topic, id, id, |topic| {
                                own.push(Topic::clone(topic));
                                true
                            });
                            assert!(matches!(subscribed, Subscribed::New { .. }));
                        }
                        assert!(hub.unsubscribe(b"rare", id).is_some());
                        if round % 10 != 0 {
                            let mut left = 0;
                            hub.remove_all(own.into_iter(), id, |_, _| left += 1);
                            assert_eq!(left, 2);
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            start.wait();
            while !stop.load(Ordering::Relaxed) {
                let mut ids = BTreeSet::new();
                let count = hub.publish(b"all", |id| assert!(ids.insert(*id), "delivered twice"));
                assert_eq!(count, ids.len());
                seen.fetch_max(count, Ordering::Relaxed);
                thread::yield_now();
            }
        });
        let ended = workers.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>();
        stop.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok), "a worker failed");
    });
    let kept: Vec<u64> = (0..ROUNDS * THREADS).filter(|id| (id / THREADS).is_multiple_of(10)).collect();
    assert_eq!(delivered(&hub, b"all"), kept);
    for digit in 0..7_u8 {
        let kept: Vec<u64> = kept.iter().copied().filter(|id| id % 7 == u64::from(digit)).collect();
        assert_eq!(delivered(&hub, &[b'0' + digit]), kept);
    }
    assert_eq!((hub.count(b"rare"), hub.topic_count()), (0, 8));
    assert!(seen.into_inner() <= kept.len() + 4);
}

#[derive(Clone, Debug)]
enum Operation {
    /// With the result of `admit`.
    Subscribe(Vec<u8>, u64, bool),
    Unsubscribe(Vec<u8>, u64),
    Close(u64),
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    // Few topics and more ids than a topic scans, so that all three sizes occur.
    let topic =
        || prop::sample::select(vec!["", "a", "a", "a", "b"]).prop_map(|name| name.as_bytes().to_vec());
    let operation = prop_oneof![
        6 => (topic(), 0..60_u64, prop::bool::weighted(0.9)).prop_map(|(a, b, c)| Operation::Subscribe(a, b, c)),
        3 => (topic(), 0..60_u64).prop_map(|(topic, id)| Operation::Unsubscribe(topic, id)),
        1 => (0..60_u64).prop_map(Operation::Close),
    ];
    prop::collection::vec(operation, 0..400)
}

proptest! {
    #[test]
    fn the_hub_agrees_with_a_map_of_sets(operations in operations()) {
        let (hub, mut model) = (Hub::default(), HashMap::<Vec<u8>, BTreeSet<u64>>::new());
        for operation in operations {
            match operation {
                Operation::Subscribe(topic, id, admitted) => {
                    let found = hub.subscribe(&topic, id, id, |_| admitted);
                    let known = model.get(&topic).is_some_and(|ids| ids.contains(&id));
                    let expected = if known {
                        Subscribed::Already
                    } else if admitted {
                        let ids = model.entry(topic).or_default();
                        ids.insert(id);
                        Subscribed::New { count: ids.len() }
                    } else {
                        Subscribed::Refused
                    };
                    prop_assert_eq!(found, expected);
                }
                Operation::Unsubscribe(topic, id) => {
                    let known = model.get_mut(&topic).is_some_and(|ids| ids.remove(&id));
                    let remaining = model.get(&topic).map_or(0, BTreeSet::len);
                    prop_assert_eq!(hub.unsubscribe(&topic, id), known.then_some(remaining));
                }
                Operation::Close(id) => {
                    let (mut found, mut expected) = (Vec::new(), Vec::new());
                    let own: Vec<_> = model.keys().map(|topic| Topic::from(topic.as_slice())).collect();
                    for topic in &own {
                        if let Some(ids) = model.get_mut(&**topic) && ids.remove(&id) {
                            expected.push((Topic::clone(topic), ids.len()));
                        }
                    }
                    hub.remove_all(own.into_iter(), id, |topic, remaining| found.push((topic, remaining)));
                    prop_assert_eq!(found, expected);
                }
            }
            model.retain(|_, ids| !ids.is_empty());
            prop_assert_eq!(hub.topic_count(), model.len());
        }
        for topic in [&b""[..], b"a", b"b", b"c"] {
            let expected: Vec<u64> = model.get(topic).into_iter().flatten().copied().collect();
            prop_assert_eq!(hub.count(topic), expected.len());
            prop_assert_eq!(delivered(&hub, topic), expected);
        }
    }
}
