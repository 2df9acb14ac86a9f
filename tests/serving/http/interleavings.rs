//! Any order of what clients do, and a crowd of them.

use std::collections::HashMap;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;
use socketify::app::Lane;

use super::{Client, SHORT, Served, Site, echo, ok, request, site};
use crate::support::{until, with_threads};

/// The next step of one of several clients.
#[derive(Clone, Debug)]
enum Step {
    /// Sends the next bytes of its requests.
    Send(usize),
    /// Reads one response, if one is due.
    Read,
    /// Disconnects, and comes back as a new client.
    Leave,
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let step = prop_oneof![
        6 => (1..120_usize).prop_map(Step::Send),
        5 => Just(Step::Read),
        1 => Just(Step::Leave),
    ];
    (0..4_usize, step)
}

/// A client, its remaining requests, and its remaining responses.
struct Player {
    client: Client,
    unsent: Vec<u8>,
    /// End of each request in the bytes sent, with its path.
    ends: Vec<(usize, String)>,
    sent: usize,
    next: usize,
}

impl Player {
    fn new(served: &Served, seed: usize) -> Self {
        let (mut unsent, mut ends) = (Vec::new(), Vec::new());
        for number in 0..12 {
            let path = match (seed * 7 + number * 5) % 6 {
                0 | 1 => format!("/turn/{seed}/{number}"),
                2 => format!("/loop/{seed}/{number}"),
                3 => format!("/thread/{seed}/{number}"),
                4 => format!("/sleep/{seed}/{number}"),
                _ => "/constant".to_owned(),
            };
            unsent.extend_from_slice(request(&path).as_bytes());
            ends.push((unsent.len(), path));
        }
        Self { client: served.client(), unsent, ends, sent: 0, next: 0 }
    }

    fn send(&mut self, count: usize) {
        let count = count.min(self.unsent.len());
        let bytes: Vec<u8> = self.unsent.drain(..count).collect();
        self.client.send(&bytes);
        self.sent += count;
    }

    fn read(&mut self) {
        let Some((end, path)) = self.ends.get(self.next) else { return };
        if *end <= self.sent {
            let expected = if path == "/constant" { "constant" } else { path };
            assert_eq!(self.client.answer(), ok(expected));
            self.next += 1;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn answers_keep_their_order_whatever_clients_do(
        threads in 1..4_usize,
        close_at in 0..400_usize,
        steps in proptest::collection::vec(step(), 1..160),
    ) {
        let served = site()
            .route("/thread/*", Lane::Turn, |exchange| {
                let exchange = Arc::clone(exchange);
                thread::spawn(move || exchange.end(exchange.path(), false));
            })
            .route("/sleep/*", Lane::Turn, |exchange| {
                thread::sleep(Duration::from_micros(2500));
                echo(exchange);
            })
            .serve(with_threads(threads));
        let mut players: Vec<Player> = (0..4).map(|seed| Player::new(&served, seed)).collect();
        for (at, (who, step)) in steps.iter().enumerate() {
            if at == close_at {
                // In the middle of everything: it ends, and the threads with it.
                served.server.close(SHORT);
                served.code.drained.wait();
                return Ok(());
            }
            match step {
                Step::Send(count) => players[*who].send(*count),
                Step::Read => players[*who].read(),
                Step::Leave => players[*who] = Player::new(&served, who + 4 * at),
            }
        }
        for player in &mut players {
            player.send(usize::MAX);
        }
        for player in &mut players {
            while player.next < player.ends.len() {
                player.read();
            }
        }
    }
}

#[test]
fn a_crowd_of_clients_on_every_lane() {
    const CLIENTS: usize = 24;
    let served = Site::default()
        .route("/turn/*", Lane::Turn, echo)
        .route("/loop/*", Lane::Loop, echo)
        .route("/thread/*", Lane::Turn, |exchange| {
            let exchange = Arc::clone(exchange);
            thread::spawn(move || exchange.end(exchange.path(), false));
        })
        .route("/sleep/*", Lane::Turn, |exchange| {
            thread::sleep(Duration::from_millis(3));
            echo(exchange);
        })
        .constant("/constant", b"constant")
        .serve(with_threads(3));
    let start = Barrier::new(CLIENTS);
    let counts: Mutex<HashMap<&str, usize>> = Mutex::default();
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (served, start, counts) = (&served, &start, &counts);
            scope.spawn(move || {
                let mut client = served.client();
                start.wait();
                for turn in 0..60 {
                    let kind = ["turn", "loop", "thread", "sleep"][(number + turn) % 4];
                    let path = format!("/{kind}/{number}/{turn}");
                    if turn % 10 == 9 {
                        // Leaves in the middle of a request, so that the response has no client.
                        client.ask(&path);
                        client = served.client();
                    } else {
                        assert_eq!(client.get(&path), ok(&path));
                        *counts.lock().entry(kind).or_default() += 1;
                    }
                    assert_eq!(client.get("/constant"), ok("constant"));
                }
            });
        }
    });
    assert_eq!(counts.lock().values().sum::<usize>(), CLIENTS * 54);
    until("all connections are gone", || served.server.connection_count() == 0);
}
