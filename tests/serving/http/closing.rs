//! How a server ends.

use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use socketify::app::Lane;
use socketify::server::Exchange;

use super::{Client, SHORT, Site, Text, ok, site};
use crate::support::{Flag, PATIENCE, timed, until, with_threads};

#[test]
fn a_server_that_will_be_closed_says_so_and_accepts() {
    let served = site().serve(with_threads(1));
    let mut kept = served.client();
    assert_eq!(kept.get("/constant"), ok("constant"));
    served.server.part();
    for client in [&mut kept, &mut served.client()] {
        client.ask("/constant");
        let head = client.until(b"\r\n\r\n").to_str().to_ascii_lowercase();
        assert!(head.contains("connection: close"), "{head}");
        assert_eq!(client.exactly(8), b"constant");
        assert!(client.is_closed());
    }
    assert!(!served.refuses());
}

#[test]
fn close_lets_requests_finish() {
    for lane in [Lane::Turn, Lane::Loop] {
        let (entered, open) = (Arc::new(Flag::default()), Arc::new(Flag::default()));
        let (enter, wait) = (Arc::clone(&entered), Arc::clone(&open));
        let served = site()
            .route("/slow", lane, move |exchange| {
                enter.set();
                wait.wait();
                exchange.end(b"finished", false);
            })
            .serve(with_threads(2));
        let (mut slow, mut idle) = (served.client(), served.client());
        assert_eq!(idle.get("/constant"), ok("constant"));
        slow.ask("/slow").ask("/constant");
        entered.wait();
        served.server.close(PATIENCE);
        served.server.close(Duration::ZERO);
        assert!(idle.is_closed());
        until("the port is closed", || served.refuses());
        assert!(!served.code.drained.is_set());
        open.set();
        let head = slow.until(b"\r\n\r\n").to_str().to_ascii_lowercase();
        assert!(head.contains("connection: close"), "{head}");
        assert_eq!(slow.exactly(8), b"finished");
        assert!(slow.is_closed());
        served.code.drained.wait();
        assert_eq!(served.server.connection_count(), 0);
    }
}

#[test]
fn close_cuts_what_does_not_finish() {
    let kept: Arc<Mutex<Vec<Arc<Exchange>>>> = Arc::default();
    let keep = Arc::clone(&kept);
    let served = Site::default()
        .route("/*", Lane::Turn, move |exchange| keep.lock().push(Arc::clone(exchange)))
        .serve(with_threads(2));
    let mut clients: Vec<Client> = (0..5).map(|_| served.client()).collect();
    for client in &mut clients {
        client.ask("/");
    }
    until("the handlers have run", || kept.lock().len() == 5);
    let took = timed(|| {
        served.server.close(SHORT);
        served.code.drained.wait();
    });
    assert!(took >= SHORT && took < PATIENCE);
    for client in &mut clients {
        assert!(client.is_closed());
    }
    assert!(kept.lock().iter().all(|exchange| exchange.is_aborted() && exchange.is_over()));
    assert_eq!(served.code.signals.load(Ordering::SeqCst), 5);
}

#[test]
fn close_of_an_idle_server_is_immediate() {
    let served = site().serve(with_threads(2));
    let mut clients: Vec<Client> = (0..20).map(|_| served.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/turn/1"), ok("/turn/1"));
    }
    let took = timed(|| {
        served.server.close(PATIENCE);
        served.code.drained.wait();
    });
    assert!(took < PATIENCE / 2);
    for client in &mut clients {
        assert!(client.is_closed());
    }
}

#[test]
fn a_client_that_shuts_its_side_does_not_hold_up_the_end() {
    let entered = Arc::new(Flag::default());
    let enter = Arc::clone(&entered);
    let served = Site::default().route("/*", Lane::Turn, move |_| enter.set()).serve(with_threads(1));
    let mut client = served.client();
    client.ask("/");
    entered.wait();
    served.server.close(PATIENCE);
    client.stream.shutdown(Shutdown::Write).unwrap();
    let took = timed(|| served.code.drained.wait());
    assert!(took < PATIENCE / 2);
}

#[test]
fn join_leaves_a_stuck_thread_behind() {
    let (entered, open) = (Arc::new(Flag::default()), Arc::new(Flag::default()));
    let (enter, wait) = (Arc::clone(&entered), Arc::clone(&open));
    let served = Site::default()
        .route("/*", Lane::Turn, move |_| {
            enter.set();
            wait.wait();
        })
        .serve(with_threads(2));
    let mut client = served.client();
    client.ask("/");
    entered.wait();
    assert!(served.server.join(SHORT).is_none());
    assert!(client.is_closed());
    open.set();
    until("the thread ends", || served.code.io_threads.load(Ordering::SeqCst) == 0);
    until("the turn is left", || !served.code.inside.load(Ordering::SeqCst));
}

#[test]
fn a_server_is_gone_after_its_end() {
    for _ in 0..20 {
        let served = site().serve(with_threads(2));
        let mut clients: Vec<Client> = (0..4).map(|_| served.client()).collect();
        for client in &mut clients {
            client.ask("/turn/1").ask("/loop/1");
        }
        assert!(served.server.join(PATIENCE).is_some());
        for client in &mut clients {
            while client.receive() > 0 {}
        }
        until("nothing holds the server but the test", || {
            // Queued requests of the event loop's thread hold it as well.
            Arc::strong_count(&served.server) == 1
        });
    }
}
