//! The cost of a publish without the delivery, and the effect of a topic's size on subscribing.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput};
use socketify::pubsub::Hub;

/// A topic of `count` members among a thousand others.
fn hub(count: u64) -> Hub<Arc<u64>> {
    let hub = Hub::default();
    for other in 0..1000_u64 {
        hub.subscribe(format!("user/{other:011}").as_bytes(), other, Arc::new(other), |_| true);
    }
    for id in 0..count {
        hub.subscribe(b"everyone in here", id, Arc::new(id), |_| true);
    }
    hub
}

fn publish(criterion: &mut Criterion, count: u64) {
    let hub = hub(count);
    let mut group = criterion.benchmark_group("publish");
    group.throughput(Throughput::Elements(count));
    group.bench_function(format!("{count} members"), |bencher| {
        // Only the handle's address: the delivery reads its target.
        bencher.iter(|| {
            hub.publish(black_box(b"everyone in here"), |handle| {
                black_box(Arc::as_ptr(handle));
            })
        });
    });
    group.finish();
}

fn subscribe(criterion: &mut Criterion, count: u64) {
    let hub = hub(count);
    let handle = Arc::new(0);
    // A new member, and one from the middle of the topic, whose gap the last one fills.
    criterion.bench_function(&format!("subscribe and unsubscribe, {count} members"), |bencher| {
        bencher.iter(|| {
            hub.subscribe(black_box(b"everyone in here"), u64::MAX, Arc::clone(&handle), |_| true);
            hub.unsubscribe(black_box(b"everyone in here"), u64::MAX)
        });
    });
    let mut next = 0;
    criterion.bench_function(&format!("unsubscribe and subscribe, {count} members"), |bencher| {
        bencher.iter(|| {
            next = (next + 7919) % count;
            hub.unsubscribe(black_box(b"everyone in here"), next);
            hub.subscribe(black_box(b"everyone in here"), next, Arc::clone(&handle), |_| true)
        });
    });
}

fn many_topics(criterion: &mut Criterion) {
    let names: Vec<String> = (0..100_000).map(|number| format!("user/{number:011}")).collect();
    let handle = Arc::new(0);
    let fill = || {
        let hub = Hub::default();
        for name in &names {
            hub.subscribe(name.as_bytes(), 1, Arc::clone(&handle), |_| true);
        }
        hub
    };
    let mut group = criterion.benchmark_group("100 000 topics of one");
    group.sample_size(20).throughput(Throughput::Elements(100_000));
    group.bench_function("subscribe", |bencher| bencher.iter_with_large_drop(fill));
    group.bench_function("unsubscribe", |bencher| {
        let empty = |hub: Hub<Arc<u64>>| {
            for name in &names {
                hub.unsubscribe(name.as_bytes(), 1);
            }
            hub
        };
        bencher.iter_batched(fill, empty, BatchSize::LargeInput);
    });
    let hub = fill();
    group.bench_function("publish to each", |bencher| {
        bencher.iter(|| names.iter().map(|name| hub.publish(name.as_bytes(), |_| ())).sum::<usize>());
    });
    group.finish();
}

// Without criterion's macros: a plain `main` lists the benchmarks in order.
fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for count in [1, 500, 10_000] {
        publish(&mut criterion, count);
    }
    for count in [10, 10_000] {
        subscribe(&mut criterion, count);
    }
    many_topics(&mut criterion);
    criterion.final_summary();
}
