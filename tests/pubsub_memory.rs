//! The memory of topics, counted at the allocator. A program of its own, because it replaces the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use socketify::pubsub::Hub;

thread_local! {
    /// Bytes that this thread has allocated and not freed: only those of the test.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[expect(unsafe_code, reason = "the trait is unsafe; nothing else sees every allocation")]
// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get().wrapping_add(layout.size()));
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.set(HELD.get().wrapping_sub(layout.size()));
        // SAFETY: the caller's promises are the same.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn held() -> usize {
    HELD.get()
}

#[test]
fn a_topic_of_one_is_its_place_and_its_name_and_all_is_given_back() {
    const TOPICS: usize = 100_000;
    let subscriber = Arc::new(());
    let name = |number: usize| format!("user/{number:011}");
    let before = held();
    let hub = Hub::default();
    let empty = held();
    for number in 0..TOPICS {
        hub.subscribe(name(number).as_bytes(), 1, Arc::clone(&subscriber), |_| true);
    }
    let each = (held() - empty) / TOPICS;
    // The name with the two counts of its `Arc` is 32 bytes, and a place is 32 and one for its hash, in a table
    // that is at most seven eighths full and at least half of that.
    assert!((32 + 33 * 8 / 7..=32 + 33 * 16 / 7).contains(&each), "{each} bytes a topic");
    assert_eq!(each, 75, "the documentation of the module says so");

    for number in 0..TOPICS {
        hub.unsubscribe(name(number).as_bytes(), 1);
    }
    assert_eq!(hub.topic_count(), 0);
    assert!(held() - empty < 4096, "{} bytes left", held() - empty);
    drop(hub);
    assert_eq!(held(), before);
}

#[test]
fn a_large_topic_is_its_members_and_their_places() {
    let subscriber = Arc::new(());
    let hub = Hub::default();
    hub.subscribe(b"all", 0, Arc::clone(&subscriber), |_| true);
    let alone = held();
    for id in 1..10_000 {
        hub.subscribe(b"all", id, Arc::clone(&subscriber), |_| true);
    }
    let each = (held() - alone) / 10_000;
    assert!(each <= 16 * 2 + 5 * 16 / 7, "{each} bytes a member");
    assert_eq!(each, 34, "the documentation of the module says so");
    for id in 1..10_000 {
        hub.unsubscribe(b"all", id);
    }
    assert_eq!(held(), alone);
}
