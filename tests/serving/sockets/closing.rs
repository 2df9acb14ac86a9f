//! How the server ends its sockets.

use std::sync::{Arc, Weak};
use std::time::Duration;

use socketify::app::Lane;
use socketify::websocket::OpCode;

use super::client::{Client, HANDSHAKE, goodbye};
use super::sites::{KEY, echo, greeter};
use super::{Closes, LANES, LINGER, Log, SHORT, end_of, flag, site};
use crate::support::{PATIENCE, timed, until, with_threads};

#[test]
fn closing_says_goodbye_to_every_socket() {
    const SOCKETS: usize = 40;
    for (lane, of_end) in [(Lane::Turn, Lane::Turn), (Lane::Loop, Lane::Turn), (Lane::Turn, Lane::Loop)] {
        let (closes, kept) = (Closes::default(), Log::<Weak<()>>::default());
        let keep = Arc::clone(&kept);
        let mut served = site()
            .open(lane, move |socket| {
                let value = Arc::new(());
                keep.lock().push(Arc::downgrade(&value));
                socket.user().set(Box::new(value)).unwrap();
                socket.subscribe(b"all");
                socket.subscribe(format!("own {}", socket.id()).as_bytes());
            })
            .message(of_end, echo)
            .closes(of_end, &closes)
            .serve(with_threads(2));
        let mut clients: Vec<Client> = (0..SOCKETS).map(|_| served.client()).collect();
        until("all have subscribed", || served.server.subscriber_count(b"all") == SOCKETS);
        until("all are kept", || kept.lock().len() == SOCKETS);
        assert!(kept.lock().iter().all(|value| value.strong_count() == 1));
        served.server.close(PATIENCE);
        served.server.close(Duration::ZERO);
        for mut client in clients.drain(..) {
            client.expect_end(1001, "");
        }
        served.code.drained.wait();
        assert_eq!(served.server.connection_count(), 0);
        until("every end is heard", || closes.lock().len() == SOCKETS);
        assert!(closes.lock().values().all(|ends| *ends == [(1001, String::new())]), "{:?}", closes.lock());
        assert_eq!(served.server.subscriber_count(b"all"), 0);
        until("what the sockets kept is gone", || kept.lock().iter().all(|value| value.strong_count() == 0));
        assert!(served.end());
        assert_eq!(Arc::strong_count(&served.server), 1);
    }
}

#[test]
fn closing_cuts_clients_that_do_not_answer() {
    let closes = Closes::default();
    let served = site().closes(Lane::Loop, &closes).serve(with_threads(2));
    let mut clients: Vec<Client> = (0..5).map(|_| served.client()).collect();
    let took = timed(|| {
        served.server.close(SHORT);
        served.code.drained.wait();
    });
    assert!(took >= SHORT && took < LINGER, "{took:?}");
    for client in &mut clients {
        client.expect_end(1001, "");
    }
    until("every end is heard", || closes.lock().len() == 5);
    assert!(closes.lock().values().all(|ends| *ends == [(1001, String::new())]));
}

#[test]
fn a_handshake_that_is_decided_while_closing_ends_at_once() {
    for lane in LANES {
        let ((entered, enter), (open, wait)) = (flag(), flag());
        let closes = Closes::default();
        let served = greeter(lane)
            .upgrade(lane, move |exchange| {
                enter.set();
                wait.wait();
                assert!(matches!(exchange.upgrade(KEY, b"first", b"", None), Ok(Some(_))));
            })
            .closes(lane, &closes)
            .serve(with_threads(2));
        let mut client = served.raw();
        client.write(HANDSHAKE);
        entered.wait();
        served.server.close(PATIENCE);
        open.set();
        client.expect_handshake();
        client.expect_end(1001, "");
        drop(client);
        served.code.drained.wait();
        until("the end is heard", || end_of(&closes) == [(1001, String::new())]);
    }
}

#[test]
fn joining_in_the_middle_of_everything_leaves_nothing() {
    for round in 0..20 {
        let (closes, kept) = (Closes::default(), Log::<Weak<()>>::default());
        let keep = Arc::clone(&kept);
        let (lane, other) = if round % 2 == 0 { (Lane::Turn, Lane::Loop) } else { (Lane::Loop, Lane::Turn) };
        let mut served = site()
            .open(lane, move |socket| {
                let value = Arc::new(());
                keep.lock().push(Arc::downgrade(&value));
                socket.user().set(Box::new(value)).unwrap();
                socket.subscribe(b"all");
            })
            .message(other, |socket, message| {
                socket.server().publish(b"all", message, OpCode::Binary, false);
            })
            .closes(lane, &closes)
            .serve(with_threads(2));
        let mut clients: Vec<Client> = (0..6).map(|_| served.client()).collect();
        for (at, client) in clients.iter_mut().enumerate() {
            for number in 0..30 {
                client.text(&number.to_string());
            }
            if at % 3 == 0 {
                client.write(&goodbye(1000, ""));
            }
        }
        if round % 3 == 0 {
            served.server.close(Duration::ZERO);
        }
        assert!(served.end());
        for client in &mut clients {
            while client.receive() > 0 {}
        }
        assert_eq!(Arc::strong_count(&served.server), 1, "in round {round}");
        assert_eq!(served.server.subscriber_count(b"all"), 0);
        assert!(kept.lock().iter().all(|value| value.strong_count() == 0));
        // All opened sockets have ended, once.
        assert_eq!(closes.lock().len(), 6);
        assert!(closes.lock().values().all(|ends| ends.len() == 1));
    }
}
