//! Clients that are late.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use socketify::app::Lane;
use socketify::config::Config;

use super::{SHORT, Site, ok, site};
use crate::support::{Flag, PATIENCE, timed, until, with_threads};

#[test]
fn a_head_that_does_not_come_whole_gets_408() {
    let served = site().serve(Config { header_timeout: SHORT, ..with_threads(1) });
    let mut client = served.client();
    client.send(b"GET / HTTP/1.1\r\nHost: te");
    let took = timed(|| assert_eq!(client.answer().0, 408));
    assert!(took >= SHORT && took < PATIENCE);
    assert!(client.is_closed());
}

#[test]
fn a_client_that_sends_nothing_is_closed() {
    let served = site().serve(Config { header_timeout: SHORT, ..with_threads(1) });
    let mut client = served.client();
    let took = timed(|| assert!(client.is_closed()));
    assert!(took >= SHORT / 2 && took < PATIENCE);
    until("the connection is forgotten", || served.server.connection_count() == 0);
}

#[test]
fn an_idle_connection_is_closed() {
    let served = site().serve(Config { keep_alive_timeout: SHORT, ..with_threads(2) });
    let mut client = served.client();
    assert_eq!(client.get("/turn/1"), ok("/turn/1"));
    let took = timed(|| assert!(client.is_closed()));
    assert!(took >= SHORT / 2 && took < PATIENCE);
}

#[test]
fn a_body_that_does_not_come_gets_408() {
    let served = Site::default()
        .route("/*", Lane::Turn, |exchange| {
            exchange.read_whole();
        })
        .serve(Config { body_timeout: SHORT, ..with_threads(1) });
    let mut client = served.client();
    client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nfour");
    assert_eq!(client.answer().0, 408);
    assert!(client.is_closed());
    until("the handler hears of it", || served.code.signals.load(Ordering::SeqCst) > 0);
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    let served = Site::default()
        .route("/*", Lane::Turn, |exchange| {
            exchange.end(&vec![b'x'; 50_000_000], false);
        })
        .serve(Config { write_timeout: SHORT, ..with_threads(1) });
    let mut client = served.client();
    client.ask("/");
    until("the connection is cut", || served.server.connection_count() == 0);
    assert_eq!(served.client().get("/nothing").0, 200);
}

#[test]
fn a_pending_request_has_all_the_time() {
    let open = Arc::new(Flag::default());
    let wait = Arc::clone(&open);
    let served = Site::default()
        .route("/*", Lane::Loop, move |exchange| {
            let (exchange, wait) = (Arc::clone(exchange), Arc::clone(&wait));
            thread::spawn(move || {
                wait.wait();
                exchange.end(b"late", false);
            });
        })
        .serve(Config {
            header_timeout: SHORT,
            keep_alive_timeout: SHORT,
            body_timeout: SHORT,
            write_timeout: SHORT,
            ..with_threads(1)
        });
    let mut client = served.client();
    client.ask("/");
    thread::sleep(SHORT * 3);
    open.set();
    assert_eq!(client.answer(), ok("late"));
}
