//! Silence, pings and age.

use std::thread;
use std::time::{Duration, Instant};

use socketify::app::Lane;
use socketify::config::{Config, SocketConfig};
use socketify::server::SendStatus;
use socketify::websocket::OpCode;

use super::client::{Frame, masked};
use super::sites::{collected, echo, take};
use super::{Closes, SHORT, end_of, send, site};
use crate::support::{timed, until, with_threads};

/// Largest delay of a deadline: a sweep, and the delays of a loaded machine.
const LATE: Duration = Duration::from_secs(3);

#[test]
fn a_silent_socket_is_ended() {
    let told = "WebSocket timed out from inactivity";
    let config = SocketConfig { idle_timeout: SHORT, ..SocketConfig::default() };
    let closes = Closes::default();
    let served =
        site().config(config).message(Lane::Turn, echo).closes(Lane::Turn, &closes).serve(with_threads(1));
    let mut client = served.client();
    // A client that sends is not silent.
    let took = timed(|| {
        for _ in 0..6 {
            thread::sleep(SHORT / 4);
            client.text("here");
            assert_eq!(client.string(), "here");
        }
    });
    assert!(took > SHORT);
    let took = timed(|| client.expect_end(1001, told));
    assert!(took >= SHORT / 2 && took < SHORT + LATE, "{took:?}");
    until("the end is heard", || end_of(&closes) == [(1006, told.to_owned())]);
}

#[test]
fn pings_keep_a_silent_socket() {
    let config =
        SocketConfig { idle_timeout: SHORT * 2, send_pings_automatically: true, ..SocketConfig::default() };
    let served = site().config(config).serve(with_threads(1));
    let mut client = served.client();
    let began = Instant::now();
    for _ in 0..3 {
        assert_eq!(client.frame(), Frame { fin: true, opcode: OpCode::Ping, payload: Vec::new() });
        client.write(&masked(true, OpCode::Pong, b""));
    }
    assert!(began.elapsed() >= SHORT * 2);
    // A dead client meets the timeout after its ping.
    assert_eq!(client.frame().opcode, OpCode::Ping);
    let took = timed(|| client.expect_end(1001, "WebSocket timed out from inactivity"));
    assert!(took >= SHORT / 2 && took < SHORT + LATE, "{took:?}");
}

#[test]
fn sending_counts_against_silence_where_asked_for() {
    let config =
        SocketConfig { idle_timeout: SHORT, reset_idle_timeout_on_send: true, ..SocketConfig::default() };
    let (site, opened) = collected(Lane::Turn);
    let served = site.config(config).serve(with_threads(1));
    let mut client = served.client();
    let socket = take(&opened);
    socket.subscribe(b"all");
    for number in 0..10 {
        thread::sleep(SHORT / 4);
        if number % 2 == 0 {
            assert_eq!(send(&socket, b"tick"), SendStatus::Success);
        } else {
            assert_eq!(served.publish("all", b"tick"), 1);
        }
        assert_eq!(client.string(), "tick");
    }
    client.expect_end(1001, "WebSocket timed out from inactivity");
}

#[test]
fn a_socket_has_its_lifetime() {
    let config =
        SocketConfig { max_lifetime: SHORT, idle_timeout: Duration::ZERO, ..SocketConfig::default() };
    let closes = Closes::default();
    let served =
        site().config(config).message(Lane::Turn, echo).closes(Lane::Loop, &closes).serve(with_threads(2));
    let mut client = served.client();
    let began = Instant::now();
    let reason = "please reconnect";
    let end = loop {
        client.text("busy");
        match client.frame() {
            Frame { opcode: OpCode::Close, payload, .. } => break payload,
            frame => assert_eq!(frame.payload, b"busy"),
        }
    };
    let took = began.elapsed();
    assert!(took >= SHORT / 2 && took < SHORT + LATE, "{took:?}");
    assert_eq!(end, socketify::websocket::close_payload(1000, reason.as_bytes()));
    assert_eq!(client.next(), None);
    until("the end is heard", || end_of(&closes) == [(1000, reason.to_owned())]);
}

#[test]
fn a_socket_without_timers_stays() {
    let config = SocketConfig { idle_timeout: Duration::ZERO, ..SocketConfig::default() };
    let config_of_http = Config { header_timeout: SHORT, keep_alive_timeout: SHORT, ..with_threads(1) };
    let served = site().config(config).message(Lane::Turn, echo).serve(config_of_http);
    let mut client = served.client();
    thread::sleep(SHORT * 3);
    client.text("still here");
    assert_eq!(client.string(), "still here");
}
