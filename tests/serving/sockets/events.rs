//! The order of what listeners are told.

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use socketify::app::Lane;
use socketify::server::{Event, SendStatus, WebSocket};
use socketify::websocket::OpCode;

use super::client::{HANDSHAKE, goodbye, masked, text};
use super::{Closes, LANES, LINGER, Log, end_of, flag, payload, send, site};
use crate::support::{timed, until, with_threads};

#[test]
fn events_keep_their_order_across_lanes() {
    const SOCKETS: usize = 6;
    const MESSAGES: usize = 60;
    for (of_open, of_messages, of_pings, of_end) in [
        (Lane::Loop, Lane::Turn, Lane::Loop, Lane::Turn),
        (Lane::Turn, Lane::Loop, Lane::Turn, Lane::Loop),
        (Lane::Loop, Lane::Turn, Lane::Turn, Lane::Loop),
    ] {
        let heard: Log<(u64, String)> = Log::default();
        let note = || {
            let heard = Arc::clone(&heard);
            move |socket: &Arc<WebSocket>, what: &[u8]| {
                heard.lock().push((socket.id(), String::from_utf8(what.to_vec()).unwrap()));
            }
        };
        let (open, message, ping, close) = (note(), note(), note(), note());
        let slow = move |socket: &Arc<WebSocket>| {
            // The next events arrive before this returns.
            thread::sleep(Duration::from_millis(2));
            open(socket, b"open");
        };
        let served = site()
            .open(of_open, slow)
            .message(of_messages, message)
            .ping(of_pings, ping)
            .close(of_end, move |socket, code, reason| close(socket, format!("{code} {reason:?}").as_bytes()))
            .serve(with_threads(2));
        thread::scope(|scope| {
            for _ in 0..SOCKETS {
                scope.spawn(|| {
                    let mut client = served.raw();
                    let mut bytes = HANDSHAKE.to_vec();
                    for number in 0..MESSAGES {
                        let opcode = if number % 3 == 0 { OpCode::Ping } else { OpCode::Text };
                        bytes.extend(masked(true, opcode, number.to_string().as_bytes()));
                    }
                    bytes.extend(goodbye(1000, ""));
                    client.write(&bytes).expect_handshake();
                    while client.next().is_some() {}
                });
            }
        });
        until("everything is heard", || heard.lock().len() == SOCKETS * (MESSAGES + 2));
        let mut expected = vec!["open".to_owned()];
        expected.extend((0..MESSAGES).map(|number| number.to_string()));
        expected.push("1000 []".into());
        let mut by_socket: HashMap<u64, Vec<String>> = HashMap::new();
        for (id, what) in heard.lock().drain(..) {
            by_socket.entry(id).or_default().push(what);
        }
        assert_eq!(by_socket.len(), SOCKETS);
        for heard in by_socket.values() {
            assert_eq!(*heard, expected);
        }
    }
}

#[test]
fn a_goodbye_waits_for_what_came_before_it() {
    for lane in LANES {
        let (closes, (entered, enter), (open, wait)) = (Closes::default(), flag(), flag());
        let served = site()
            .message(lane, move |socket, message| {
                enter.set();
                wait.wait();
                assert_eq!(send(socket, message), SendStatus::Success);
            })
            .closes(lane, &closes)
            .serve(with_threads(2));
        let mut client = served.client();
        client.text("one").text("two").write(&goodbye(4001, "done"));
        entered.wait();
        // A response to the close frame would have to pass the ping, which the server must not read.
        client.write(&masked(true, OpCode::Ping, b""));
        assert!(!client.has_received() && closes.lock().is_empty());
        open.set();
        assert_eq!((client.string(), client.string()), ("one".into(), "two".into()));
        client.expect_end(4001, "done");
        until("the end is heard", || end_of(&closes) == [(4001, "done".into())]);
    }
}

#[test]
fn a_goodbye_waits_for_tasks() {
    for lane in LANES {
        let (closes, tasks) = (Closes::default(), Log::<(Arc<WebSocket>, Event)>::default());
        let begun = Arc::clone(&tasks);
        let served = site()
            .task(lane, move |socket, event| begun.lock().push((Arc::clone(socket), event)))
            .closes(lane, &closes)
            .serve(with_threads(2));
        let mut client = served.client();
        client.text("one").text("two").text("three").write(&goodbye(1000, ""));
        until("the tasks have begun", || tasks.lock().len() == 3);
        // Tasks end in any order, on any thread.
        for (socket, event) in tasks.lock().drain(..).rev() {
            assert!(socket.is_open() && !client.has_received());
            let weight = event.weight();
            send(&socket, &payload(event));
            assert_eq!(client.frame().opcode, OpCode::Binary);
            socket.finished(weight);
        }
        client.expect_end(1000, "");
        until("the end is heard", || end_of(&closes) == [(1000, String::new())]);
    }
}

#[test]
fn a_goodbye_waits_two_seconds_at_most() {
    let (closes, tasks) = (Closes::default(), Log::<(Arc<WebSocket>, usize)>::default());
    let begun = Arc::clone(&tasks);
    let served = site()
        .task(Lane::Turn, move |socket, event| begun.lock().push((Arc::clone(socket), event.weight())))
        .closes(Lane::Turn, &closes)
        .serve(with_threads(1));
    let mut client = served.client();
    let took = timed(|| client.text("never done").write(&goodbye(1000, "bye")).expect_end(1000, "bye"));
    assert!(took >= LINGER && took < LINGER * 2, "{took:?}");
    until("the end is heard", || end_of(&closes) == [(1000, "bye".into())]);
    for (socket, weight) in tasks.lock().drain(..) {
        assert_eq!(send(&socket, b"late"), SendStatus::Dropped);
        socket.finished(weight);
        assert!(!socket.end(1000, None));
    }
    drop(client);
    until("the connection is forgotten", || served.server.connection_count() == 0);
    assert_eq!(end_of(&closes).len(), 1);
}

#[test]
fn a_goodbye_is_believed_whatever_comes_after_it() {
    for lane in LANES {
        let (closes, (entered, enter), (open, wait)) = (Closes::default(), flag(), flag());
        let served = site()
            .message(lane, move |socket, message| {
                enter.set();
                wait.wait();
                // This meets the reset, if the kernel has not reported it before.
                for _ in 0..3 {
                    send(socket, message);
                }
            })
            .closes(lane, &closes)
            .serve(with_threads(2));
        let mut client = served.client();
        // In one piece, since the reset discards unread bytes.
        client.write(&[text("one"), goodbye(4002, "gone")].concat());
        entered.wait();
        client.reset();
        open.set();
        until("the end is heard", || end_of(&closes) == [(4002, "gone".into())]);
        until("the connection is forgotten", || served.server.connection_count() == 0);
    }
}

#[test]
fn an_end_drops_what_had_come() {
    for lane in LANES {
        let (closes, heard, (open, wait)) = (Closes::default(), Log::<Vec<u8>>::default(), flag());
        let hear = Arc::clone(&heard);
        let served = site()
            .message(lane, move |socket, message| {
                hear.lock().push(message.to_vec());
                wait.wait();
                assert!(socket.end(4003, Some(b"enough")));
                assert!(!socket.is_open() && !socket.end(4004, None) && !socket.close());
                assert_eq!(send(socket, b"late"), SendStatus::Dropped);
            })
            .closes(lane, &closes)
            .serve(with_threads(2));
        let mut client = served.client();
        for number in 0..50 {
            client.text(&number.to_string());
        }
        // The pong proves that all of it has been read.
        client.write(&masked(true, OpCode::Ping, b"last"));
        assert_eq!(client.frame().payload, b"last");
        open.set();
        client.text("more").expect_end(4003, "enough");
        drop(client);
        until("the end is heard", || end_of(&closes) == [(4003, "enough".into())]);
        until("the connection is forgotten", || served.server.connection_count() == 0);
        assert_eq!(*heard.lock(), [b"0"]);
    }
}

#[test]
fn the_end_comes_once() {
    const ROUNDS: usize = 200;
    const ENDERS: usize = 8;
    for (lane, other) in [(Lane::Turn, Lane::Loop), (Lane::Loop, Lane::Turn)] {
        let (closes, opened, late) =
            (Closes::default(), Log::<Arc<WebSocket>>::default(), Arc::new(Mutex::new(0)));
        let (open, ends, count) = (Arc::clone(&opened), Arc::clone(&closes), Arc::clone(&late));
        let served = site()
            .open(other, move |socket| open.lock().push(Arc::clone(socket)))
            .message(lane, move |socket, _| {
                *count.lock() += usize::from(ends.lock().contains_key(&socket.id()));
            })
            .closes(other, &closes)
            .serve(with_threads(2));
        for round in 0..ROUNDS / 2 {
            let mut client = served.client();
            until("the socket is open", || !opened.lock().is_empty());
            let socket = opened.lock().pop().unwrap();
            let (start, ended) = (Barrier::new(ENDERS + 1), AtomicUsize::new(0));
            thread::scope(|scope| {
                for number in 0..ENDERS {
                    let (socket, start, ended) = (&socket, &start, &ended);
                    scope.spawn(move || {
                        start.wait();
                        let did = match (round + number) % 8 {
                            0 => socket.close(),
                            1 => socket.end(1006, None),
                            _ => socket.end(4000, Some(b"mine")),
                        };
                        ended.fetch_add(usize::from(did), Ordering::SeqCst);
                    });
                }
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    if round % 2 == 0 {
                        let _ = client.stream.write_all(&text("still here"));
                    }
                    if round % 3 == 0 {
                        let _ = client.stream.write_all(&goodbye(1000, "mine too"));
                    }
                    client.reset();
                });
            });
            assert!(ended.load(Ordering::SeqCst) <= 1, "several have ended it");
            assert!(!socket.is_open());
            until("the end is heard", || closes.lock().len() == round + 1);
        }
        until("the connections are forgotten", || served.server.connection_count() == 0);
        assert!(closes.lock().values().all(|ends| ends.len() == 1), "{:?}", closes.lock());
        assert_eq!(*late.lock(), 0, "messages after the end");
    }
}

#[test]
fn a_socket_ends_in_any_way_that_ends_it() {
    let (closes, opened) = (Closes::default(), Log::<Arc<WebSocket>>::default());
    let open = Arc::clone(&opened);
    let served = site()
        .open(Lane::Turn, move |socket| open.lock().push(Arc::clone(socket)))
        .closes(Lane::Loop, &closes)
        .serve(with_threads(2));
    let next = || {
        let client = served.client();
        until("the socket is open", || !opened.lock().is_empty());
        (client, opened.lock().pop().unwrap())
    };
    let heard = |socket: &Arc<WebSocket>, code: u16, reason: &str| {
        until("the end is heard", || closes.lock().contains_key(&socket.id()));
        assert_eq!(closes.lock()[&socket.id()], [(code, reason.to_owned())]);
    };
    let (client, socket) = next();
    drop(client);
    heard(&socket, 1006, "");
    let (mut client, socket) = next();
    client.write(&masked(true, OpCode::Close, b"")).expect_end(0, "");
    heard(&socket, 1005, "");
    let (mut client, socket) = next();
    client.write(b"\x81\x05hello").expect_end(1002, "unmasked frame from a client");
    heard(&socket, 1006, "");
    let (mut client, socket) = next();
    client.write(&masked(true, OpCode::Text, &vec![b'x'; 20_000]));
    assert_eq!(client.frame().payload[..2], 1009_u16.to_be_bytes());
    heard(&socket, 1006, "Received too big message");
    let (mut client, socket) = next();
    assert!(socket.close());
    assert_eq!(client.next(), None);
    heard(&socket, 1006, "");
    let (mut client, socket) = next();
    assert!(socket.end(0, Some(b"for the listener alone")));
    client.expect_end(0, "");
    heard(&socket, 0, "for the listener alone");
}
