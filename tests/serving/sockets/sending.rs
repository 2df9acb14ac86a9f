//! What is sent: whole, in order, and bounded.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use socketify::app::Lane;
use socketify::config::SocketConfig;
use socketify::server;
use socketify::server::{SendError, SendStatus, WebSocket};
use socketify::websocket::OpCode;

use super::client::{HANDSHAKE, InOrder, parse, stamped};
use super::sites::{collected, take, without_limit};
use super::{Closes, LANES, Log, end_of, flag, send, site};
use crate::support::{until, with_threads};

#[test]
fn frames_stay_whole_whoever_sends() {
    const SENDERS: usize = 6;
    const MESSAGES: usize = 120;
    let (site, opened) = collected(Lane::Loop);
    let served = site.config(without_limit()).serve(with_threads(2));
    let mut client = served.slow_client();
    let socket = take(&opened);
    socket.subscribe(b"all");
    let start = Barrier::new(SENDERS);
    thread::scope(|scope| {
        for who in 0..SENDERS {
            let (served, socket, start) = (&served, &socket, &start);
            scope.spawn(move || {
                start.wait();
                for number in 0..MESSAGES {
                    // Copied, shared, and given to the kernel in place.
                    let length = [3, 300, 5_000, 40_000][(who + number) % 4];
                    let message = stamped(who, number, length);
                    match (who + number) % 5 {
                        0 => assert_eq!(served.publish("all", &message), 1),
                        1 => {
                            let _batch = server::open_batch();
                            assert_ne!(send(socket, &message), SendStatus::Dropped);
                        }
                        _ => assert_ne!(send(socket, &message), SendStatus::Dropped),
                    }
                }
            });
        }
        let mut seen = InOrder::default();
        while seen.count() < SENDERS * MESSAGES {
            seen.take(&client.message());
        }
    });
    assert!(!client.has_received());
    assert_eq!((socket.buffered(), socket.dropped()), (0, 0));
}

#[test]
fn what_a_job_sends_leaves_when_it_ends() {
    for lane in LANES {
        let ((sent, tell), (open, wait)) = (flag(), flag());
        let served = site()
            .message(lane, move |socket, _| {
                for number in 0..10 {
                    assert_eq!(send(socket, &stamped(0, number, 100)), SendStatus::Success);
                }
                tell.set();
                wait.wait();
                for number in 10..20 {
                    assert_eq!(send(socket, &stamped(0, number, 100)), SendStatus::Success);
                }
            })
            .serve(with_threads(2));
        let mut client = served.client();
        client.text("go");
        sent.wait();
        assert!(!client.has_received(), "something left before the job had ended");
        open.set();
        client.receive();
        // One write is one segment here, and one read takes it.
        let mut seen = InOrder::default();
        while let Some((frame, size)) = parse(client.unread()) {
            client.at += size;
            seen.take(&frame.payload);
        }
        assert_eq!((seen.count(), client.unread()), (20, &b""[..]));
    }
}

#[test]
fn a_foreign_thread_waits_for_no_job() {
    for lane in LANES {
        let ((entered, enter), (open, wait)) = (flag(), flag());
        let (site, opened) = collected(lane);
        let served = site
            .message(lane, move |socket, _| {
                send(socket, b"first");
                enter.set();
                wait.wait();
                send(socket, b"last");
            })
            .serve(with_threads(2));
        let (mut other, mut client) = (served.client(), served.client());
        until("both are open", || opened.lock().len() == 2);
        let sockets: Vec<_> = opened.lock().drain(..).collect();
        for socket in &sockets {
            socket.subscribe(b"all");
        }
        client.text("go");
        entered.wait();
        // Output held by a cork leaves with messages from another thread: there is one order.
        for (round, sent) in ["sent", "published", "sent again"].into_iter().enumerate() {
            if round == 1 {
                assert_eq!(served.publish("all", sent.as_bytes()), 2);
            } else {
                for socket in &sockets {
                    assert_eq!(send(socket, sent.as_bytes()), SendStatus::Success);
                }
            }
            if round == 0 {
                assert_eq!(client.string(), "first");
            }
            assert_eq!(client.string(), sent);
            assert_eq!(other.string(), sent);
        }
        open.set();
        assert_eq!(client.string(), "last");
    }
}

#[test]
fn a_long_job_does_not_gather_without_end() {
    let ((sent, tell), (open, wait)) = (flag(), flag());
    let served = site()
        .message(Lane::Turn, move |socket, _| {
            for number in 0..100 {
                send(socket, &stamped(0, number, 1000));
            }
            tell.set();
            wait.wait();
        })
        .serve(with_threads(1));
    let mut client = served.client();
    client.text("go");
    sent.wait();
    let mut seen = InOrder::default();
    while seen.count() < 80 {
        seen.take(&client.message());
    }
    open.set();
    while seen.count() < 100 {
        seen.take(&client.message());
    }
}

#[test]
fn a_client_that_does_not_read_is_waited_for() {
    for (lane, length) in [(Lane::Turn, 1_000), (Lane::Loop, 9_000), (Lane::Turn, 40_000)] {
        let (drained, drain) = flag();
        let (site, opened) = collected(Lane::Turn);
        let served = site
            .drain(lane, move |socket| {
                assert_eq!(socket.buffered(), 0);
                drain.set();
            })
            .serve(with_threads(2));
        let mut client = served.slow_client();
        let socket = take(&opened);
        assert!(!socket.await_room());
        let mut sent = 0;
        while send(&socket, &stamped(0, sent, length)) == SendStatus::Success {
            sent += 1;
        }
        sent += 1;
        assert!(socket.buffered() > 0 && socket.await_room());
        loop {
            match send(&socket, &stamped(0, sent, length)) {
                SendStatus::Backpressure => sent += 1,
                SendStatus::Dropped => break,
                SendStatus::Success => panic!("nothing waits"),
            }
        }
        let limit = socket.behavior().config.max_backpressure;
        assert!((limit..limit + length + 20).contains(&(socket.buffered() - 1)), "{}", socket.buffered());
        socket.subscribe(b"all");
        assert_eq!(served.publish("all", b"dropped too"), 1);
        assert_eq!(socket.dropped(), 2);
        // A pong is not dropped: its client would take the server for dead.
        assert_eq!(socket.send(b"", OpCode::Pong, false, true), Ok(SendStatus::Backpressure));
        assert!(!drained.is_set());
        let mut seen = InOrder::default();
        while seen.count() < sent {
            seen.take(&client.message());
        }
        assert_eq!(client.frame().opcode, OpCode::Pong);
        drained.wait();
        until("whoever waited for room has heard", || served.code.rooms.load(Ordering::SeqCst) == 1);
        assert_eq!((socket.buffered(), socket.await_room()), (0, false));
        assert_eq!(send(&socket, b"1 0 "), SendStatus::Success);
        seen.take(&client.message());
        assert_eq!(socket.dropped(), 2);
    }
}

#[test]
fn a_client_that_does_not_read_may_be_cut() {
    for published in [false, true] {
        let config = SocketConfig { close_on_backpressure_limit: true, ..SocketConfig::default() };
        let closes = Closes::default();
        let (site, opened) = collected(Lane::Turn);
        let served = site.config(config).closes(Lane::Loop, &closes).serve(with_threads(2));
        let mut client = served.slow_client();
        let socket = take(&opened);
        socket.subscribe(b"all");
        let mut sent = 0;
        while socket.is_open() {
            let message = stamped(0, sent, 10_000);
            if published {
                served.publish("all", &message);
            } else {
                send(&socket, &message);
            }
            if socket.buffered() > 0 {
                socket.await_room();
            }
            sent += 1;
        }
        until("the end is heard", || end_of(&closes) == [(1006, "Backpressure limit reached".to_owned())]);
        assert_eq!(served.code.rooms.load(Ordering::SeqCst), 1);
        until("the topic is left", || served.server.subscriber_count(b"all") == 0);
        // Cut: the last frame may be torn.
        while client.receive() > 0 {}
    }
}

#[test]
fn backpressure_from_before_the_socket_counts() {
    // A response waits for the client when its handshake comes: a sender that has to wait is told when it may
    // go on.
    let ((blocked, block), drains) = (flag(), Arc::new(AtomicUsize::new(0)));
    let (statuses, drain) = (Log::<SendStatus>::default(), Arc::clone(&drains));
    let status = Arc::clone(&statuses);
    let served = site()
        .http(Lane::Turn, move |exchange| {
            // More than a cork holds back: the client has to read it.
            while exchange.buffered() < 20_000 {
                exchange.write(&[b'x'; 1000]);
            }
            exchange.end_empty(false);
            block.set();
        })
        .open(Lane::Turn, move |socket| {
            let sent = send(socket, b"hello");
            socket.await_room();
            status.lock().push(sent);
        })
        .drain(Lane::Turn, move |_| {
            drain.fetch_add(1, Ordering::SeqCst);
        })
        .serve(with_threads(1));
    let mut client = served.raw();
    client.write(b"GET /http HTTP/1.1\r\nHost: test\r\n\r\n");
    blocked.wait();
    client.write(HANDSHAKE);
    until("the socket is open", || !statuses.lock().is_empty());
    assert_eq!(*statuses.lock(), [SendStatus::Backpressure]);
    while !client.unread().ends_with(b"\x82\x05hello") {
        assert!(client.receive() > 0);
    }
    until("the drain is heard", || drains.load(Ordering::SeqCst) == 1);
    until("whoever waited for room has heard", || served.code.rooms.load(Ordering::SeqCst) == 1);
}

#[test]
fn nothing_comes_between_the_fragments_of_a_message() {
    const PUBLISHED: usize = 150;
    const FRAGMENTED: usize = 60;
    let (site, opened) = collected(Lane::Turn);
    let served = site.config(without_limit()).serve(with_threads(2));
    let mut client = served.client();
    let socket = take(&opened);
    socket.subscribe(b"all");
    let fragment = |socket: &WebSocket, payload: &[u8], opcode, fin| socket.send(payload, opcode, false, fin);
    assert_eq!(fragment(&socket, b"", OpCode::Continuation, true), Err(SendError::NothingBegun));
    assert_eq!(fragment(&socket, b"", OpCode::Ping, false), Err(SendError::FragmentedControl));
    let start = Barrier::new(3);
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            for number in 0..PUBLISHED {
                served.publish("all", &stamped(0, number, [10, 5_000][number % 2]));
            }
        });
        scope.spawn(|| {
            start.wait();
            for number in 0..PUBLISHED {
                assert_ne!(send(&socket, &stamped(1, number, [10, 20_000][number % 2])), SendStatus::Dropped);
            }
        });
        scope.spawn(|| {
            start.wait();
            for number in 0..FRAGMENTED {
                let message = stamped(2, number, 3_000);
                let parts: Vec<&[u8]> = message.chunks(800).collect();
                for (at, part) in parts.iter().enumerate() {
                    let opcode = if at == 0 { OpCode::Binary } else { OpCode::Continuation };
                    fragment(&socket, part, opcode, at + 1 == parts.len()).unwrap();
                    if at == 0 {
                        let another = fragment(&socket, b"", OpCode::Text, false);
                        assert_eq!(another, Err(SendError::NotEnded));
                        // A control frame may stand between them.
                        fragment(&socket, b"", OpCode::Ping, true).unwrap();
                    }
                }
            }
        });
        let (mut seen, mut pings) = (InOrder::default(), 0);
        let mut message: Option<Vec<u8>> = None;
        while seen.count() < 2 * PUBLISHED + FRAGMENTED {
            let frame = client.frame();
            match (frame.opcode, &mut message) {
                (OpCode::Ping, _) => pings += 1,
                (OpCode::Continuation, Some(begun)) => begun.extend_from_slice(&frame.payload),
                (OpCode::Binary, None) => message = Some(frame.payload),
                (opcode, _) => panic!("{opcode:?} between the fragments of a message"),
            }
            if frame.fin && !frame.opcode.is_control() {
                seen.take(&message.take().unwrap());
            }
        }
        assert_eq!(pings, FRAGMENTED);
    });
    assert_eq!(socket.dropped(), 0);
}

#[test]
fn a_message_whose_beginning_was_dropped_is_dropped_whole() {
    let (site, opened) = collected(Lane::Turn);
    let served = site.serve(with_threads(1));
    let mut client = served.slow_client();
    let socket = take(&opened);
    let fragment = |payload: &[u8], opcode, fin| socket.send(payload, opcode, false, fin);
    let mut sent = 0;
    while send(&socket, &stamped(0, sent, 10_000)) != SendStatus::Dropped {
        sent += 1;
    }
    assert_eq!(fragment(b"be", OpCode::Text, false), Ok(SendStatus::Dropped));
    assert_eq!(fragment(b"gin", OpCode::Continuation, false), Ok(SendStatus::Dropped));
    let mut seen = InOrder::default();
    while seen.count() < sent {
        seen.take(&client.message());
    }
    // There is room again, but not for the rest of a message without a beginning.
    until("nothing waits", || socket.buffered() == 0);
    assert_eq!(fragment(b"ning", OpCode::Continuation, true), Ok(SendStatus::Dropped));
    assert_eq!(fragment(b"", OpCode::Continuation, true), Err(SendError::NothingBegun));
    assert_eq!(send(&socket, b"whole"), SendStatus::Success);
    assert_eq!(client.string(), "whole");
}
