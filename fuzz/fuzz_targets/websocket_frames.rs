//! Frames of a client: any bytes give the same events and the same violation, independently of their pieces.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use socketify::websocket::deflate::Codec;
use socketify::websocket::frame::is_valid_close_code;
use socketify::websocket::{Inflate, MAX_CONTROL, Received, Receiver, Violation};
use socketify_fuzz::{Direction, agree, ends};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// 0xffff means no limit.
    limit: u16,
    sizes: [u8; 4],
    /// Stop at each message.
    stop: bool,
    compressed: bool,
    client: Direction,
    wire: &'a [u8],
}

/// The result of a connection.
#[derive(Debug, PartialEq)]
struct Outcome {
    events: Vec<Received>,
    /// Used bytes of all received ones.
    end: Result<usize, Violation>,
}

/// Feeds the wire as a session does: with the rest of the piece before.
fn receive(input: &Input<'_>, limit: usize, pieces: impl Iterator<Item = usize>) -> Outcome {
    let mut receiver = Receiver::default();
    let mut codec = input.compressed.then(|| Codec::new(agree(Direction::default(), input.client)));
    let (mut events, mut used) = (Vec::new(), 0);
    for end in pieces {
        loop {
            let before = events.len();
            let inflate = codec.as_mut().map(|codec| codec as &mut dyn Inflate);
            let piece = &input.wire[used..end];
            let mut emit = |what| {
                events.push(what);
                !input.stop
            };
            match receiver.feed(piece, limit, inflate, &mut emit) {
                Ok(count) => {
                    assert!(count <= piece.len(), "{count} bytes of {} used", piece.len());
                    used += count;
                }
                Err(violation) => {
                    let after = receiver.feed(b"\x81\x80abcd", limit, None, &mut |_| unreachable!());
                    assert_eq!(after, Ok(0), "a violation is not final");
                    return Outcome { events, end: Err(violation) };
                }
            }
            if events.len() == before || !input.stop {
                break;
            }
            assert_eq!(events.len(), before + 1, "it does not stop");
        }
    }
    Outcome { events, end: Ok(used) }
}

fn check(events: &[Received], limit: usize) {
    for (place, what) in events.iter().enumerate() {
        match what {
            Received::Text(text) => {
                assert!(text.len() <= limit);
                assert!(std::str::from_utf8(text).is_ok());
            }
            Received::Binary(bytes) => assert!(bytes.len() <= limit),
            Received::Ping(payload) | Received::Pong(payload) => assert!(payload.len() <= MAX_CONTROL),
            Received::Close { code, reason } => {
                assert!(code.map_or(reason.is_empty(), is_valid_close_code));
                assert!(reason.len() + 2 <= MAX_CONTROL);
                assert!(std::str::from_utf8(reason).is_ok());
                assert_eq!(place + 1, events.len(), "something follows a close frame");
            }
        }
    }
}

fuzz_target!(|input: Input<'_>| {
    let limit = if input.limit == u16::MAX { usize::MAX } else { input.limit.into() };
    // A payload of 1 KB inflates to 1 MB.
    let limit = if input.compressed { limit.min(1 << 20) } else { limit };
    let whole = receive(&Input { stop: false, ..input }, limit, [input.wire.len()].into_iter());
    check(&whole.events, limit);
    assert_eq!(receive(&input, limit, ends(input.wire, input.sizes)), whole);
});
