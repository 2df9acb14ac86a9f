//! How a request becomes a socket.

use std::sync::Arc;
use std::thread;

use socketify::app::Lane;
use socketify::server::Exchange;
use socketify::websocket::OpCode;

use super::client::{HANDSHAKE, goodbye, masked, text};
use super::sites::{KEY, greeter, upgrade};
use super::{LANES, Site};
use crate::support::with_threads;

/// The deciders on handshakes: the server itself, user code at once, and user code later on a thread of its
/// own.
fn deciders(lane: Lane) -> [(Site, &'static str); 3] {
    let later = |exchange: &Arc<Exchange>| {
        let exchange = Arc::clone(exchange);
        thread::spawn(move || upgrade(&exchange));
    };
    [
        (greeter(lane), "nothing kept"),
        (greeter(lane).upgrade(lane, |exchange| upgrade(exchange)), "kept"),
        (greeter(lane).upgrade(lane, later), "kept"),
    ]
}

#[test]
fn a_handshake_opens_a_socket() {
    for lane in LANES {
        for (site, greeting) in deciders(lane) {
            let served = site.serve(with_threads(2));
            for _ in 0..20 {
                let mut client = served.client();
                assert_eq!(client.string(), greeting);
                client.text("hello");
                assert_eq!(client.string(), "hello");
                client.write(&goodbye(1000, "bye")).expect_end(1000, "bye");
            }
        }
    }
}

#[test]
fn frames_may_come_with_the_handshake() {
    for lane in LANES {
        for (site, greeting) in deciders(lane) {
            let served = site.serve(with_threads(2));
            let mut bytes = HANDSHAKE.to_vec();
            for frame in [text("one"), masked(true, OpCode::Ping, b"?"), text("two"), goodbye(4000, "")] {
                bytes.extend_from_slice(&frame);
            }
            for cut in (0..bytes.len()).step_by(7) {
                let mut client = served.raw();
                client.write(&bytes[..cut]).write(&bytes[cut..]);
                client.expect_handshake();
                let (mut messages, mut pongs) = (Vec::new(), 0);
                let end = loop {
                    let frame = client.frame();
                    match frame.opcode {
                        OpCode::Pong => pongs += usize::from(frame.payload == b"?"),
                        OpCode::Close => break frame.payload,
                        _ => messages.push(String::from_utf8(frame.payload).unwrap()),
                    }
                };
                assert_eq!((messages, pongs), (vec![greeting.into(), "one".into(), "two".into()], 1));
                assert_eq!(end, 4000_u16.to_be_bytes());
                assert_eq!(client.next(), None);
            }
        }
    }
}

#[test]
fn a_refused_handshake_leaves_http() {
    for lane in LANES {
        let refuse = |exchange: &Arc<Exchange>| {
            exchange.set_status(401).unwrap();
            exchange.end(b"who?", false);
            let late = exchange.upgrade(KEY, b"", b"", None);
            assert!(matches!(late, Ok(None)));
        };
        let served = greeter(lane).upgrade(lane, refuse).serve(with_threads(1));
        let mut client = served.raw();
        for _ in 0..2 {
            client.write(HANDSHAKE);
            while !client.unread().ends_with(b"\r\n\r\nwho?") {
                assert!(client.receive() > 0);
            }
            assert!(client.unread().starts_with(b"HTTP/1.1 401 "));
            client.at = client.pending.len();
        }
    }
}
