//! Who gets what is published.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use socketify::app::Lane;
use socketify::server::Event;

use super::client::{Client, InOrder, stamped};
use super::sites::{collected, take, without_limit};
use super::{Log, flag, send, site};
use crate::support::{until, with_threads};

#[test]
fn publishers_are_heard_by_all_in_their_order() {
    const SOCKETS: usize = 200;
    const PUBLISHERS: usize = 4;
    const MESSAGES: usize = 40;
    let served = site()
        .config(without_limit())
        .open(Lane::Turn, |socket| {
            socket.subscribe(b"all");
        })
        .serve(with_threads(2));
    let mut clients: Vec<Client> = (0..SOCKETS).map(|_| served.client()).collect();
    until("all have subscribed", || served.server.subscriber_count(b"all") == SOCKETS);
    thread::scope(|scope| {
        for who in 0..PUBLISHERS {
            let served = &served;
            scope.spawn(move || {
                for number in 0..MESSAGES {
                    // Sizes on both sides of the limit between copying and sharing.
                    let message = stamped(who, number, if number % 10 == who { 3_000 } else { 20 });
                    assert_eq!(served.publish("all", &message), SOCKETS);
                }
            });
        }
        for clients in clients.chunks_mut(SOCKETS / 2) {
            scope.spawn(move || {
                for client in clients {
                    let mut seen = InOrder::default();
                    while seen.count() < PUBLISHERS * MESSAGES {
                        seen.take(&client.message());
                    }
                    assert!(!client.has_received());
                }
            });
        }
    });
}

#[test]
fn large_frames_are_shared_by_slow_and_fast_readers() {
    const MESSAGES: usize = 12;
    let (site, opened) = collected(Lane::Turn);
    let served = site.config(without_limit()).serve(with_threads(2));
    let mut clients: Vec<(Client, bool)> = (0..5)
        .map(|at| if at < 2 { (served.slow_client(), true) } else { (served.client(), false) })
        .collect();
    until("all are open", || opened.lock().len() == clients.len());
    for socket in opened.lock().iter() {
        socket.subscribe(b"all");
    }
    let (published, publish) = flag();
    thread::scope(|scope| {
        for (client, slow) in &mut clients {
            let published = &published;
            scope.spawn(move || {
                if *slow {
                    published.wait();
                }
                let mut seen = InOrder::default();
                while seen.count() < MESSAGES + MESSAGES / 3 {
                    seen.take(&client.message());
                }
            });
        }
        for number in 0..MESSAGES {
            let length = [1_000_000, 3_000, 100][number % 3];
            assert_eq!(served.publish("all", &stamped(0, number, length)), 5);
            if number % 3 == 1 {
                for socket in opened.lock().iter() {
                    send(socket, &stamped(1, number / 3, 50_000));
                }
            }
        }
        publish.set();
    });
    for socket in opened.lock().iter() {
        assert_eq!(socket.dropped(), 0);
        until("nothing waits", || socket.buffered() == 0);
    }
}

#[test]
fn a_topic_has_those_who_say_that_they_are_subscribed() {
    const ROUNDS: usize = 5_000;
    let mut disagreed = 0;
    let (site, opened) = collected(Lane::Turn);
    let served = site.serve(with_threads(1));
    let client = served.client();
    let socket = take(&opened);
    let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let rush = |to: &AtomicUsize, count: usize| {
        while to.load(Ordering::SeqCst) < count {
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        // Other threads that use the socket meanwhile.
        for _ in 0..2 {
            scope.spawn(|| {
                while ended.load(Ordering::SeqCst) < ROUNDS {
                    for _ in 0..100 {
                        socket.buffered();
                    }
                }
            });
        }
        scope.spawn(|| {
            for round in 0..ROUNDS {
                rush(&begun, round + 1);
                socket.unsubscribe(b"all");
                ended.fetch_add(1, Ordering::SeqCst);
            }
        });
        for round in 0..ROUNDS {
            if round % 2 == 0 {
                socket.subscribe(b"all");
            } else {
                socket.unsubscribe(b"all");
            }
            begun.fetch_add(1, Ordering::SeqCst);
            for _ in 0..round % 64 {
                std::hint::spin_loop();
            }
            socket.subscribe(b"all");
            rush(&ended, round + 1);
            let count = usize::from(socket.is_subscribed(b"all"));
            if served.server.subscriber_count(b"all") != count {
                disagreed += 1;
            }
        }
    });
    assert_eq!(disagreed, 0, "the topic and the socket have disagreed");
    socket.subscribe(b"all");
    drop(client);
    until("the topic is left", || served.server.subscriber_count(b"all") == 0);
}

#[test]
fn topics_are_left_before_the_end_is_told() {
    for (of_topics, of_end) in [(Lane::Turn, Lane::Loop), (Lane::Loop, Lane::Turn), (Lane::Loop, Lane::Loop)]
    {
        let heard: Log<String> = Log::default();
        let (topics, ends) = (Arc::clone(&heard), Arc::clone(&heard));
        let (site, opened) = collected(Lane::Turn);
        let served = site
            .subscription(of_topics, move |socket, event| {
                let Event::Subscription { topic, count, before } = event else { panic!("{event:?}") };
                assert_eq!(socket.server().subscriber_count(&topic), count);
                topics.lock().push(format!("{} {before} {count}", String::from_utf8_lossy(&topic)));
            })
            .close(of_end, move |_, code, _| ends.lock().push(code.to_string()))
            .serve(with_threads(2));
        let client = served.client();
        let socket = take(&opened);
        for topic in [b"a", b"b"] {
            socket.subscribe(topic);
        }
        client.reset();
        until("the end is heard", || heard.lock().len() == 3);
        heard.lock()[..2].sort();
        assert_eq!(*heard.lock(), ["a 1 0", "b 1 0", "1006"]);
    }
}
