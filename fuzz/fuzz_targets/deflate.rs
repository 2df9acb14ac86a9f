//! Compressed messages: any payload is inflated or refused, and each side reads the other's compressed
//! messages.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use socketify::websocket::deflate::{Codec, InflateError, deflate_shared};
use socketify_fuzz::{Direction, agree};

#[path = "../../tests/core/deflate/reference.rs"]
mod reference;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    server: Direction,
    client: Direction,
    limit: u16,
    /// The messages of a conversation, or arbitrary payloads of a client.
    task: Task<'a>,
}

#[derive(Arbitrary, Debug)]
enum Task<'a> {
    /// Two of them: the length of the first.
    Payloads {
        first: u16,
        bytes: &'a [u8],
    },
    Messages(Vec<Message<'a>>),
}

/// A message from a few bytes: long ones too, some of which repeat bytes beyond the window.
#[derive(Arbitrary, Debug)]
struct Message<'a> {
    times: u8,
    /// No two repetitions are equal.
    numbered: bool,
    from_client: bool,
    pattern: &'a [u8],
}

impl Message<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut state = 1_u32;
        for _ in 0..self.times {
            bytes.extend_from_slice(self.pattern);
            if self.numbered {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                bytes.extend_from_slice(&state.to_be_bytes());
            }
            if bytes.len() > 40_000 {
                break;
            }
        }
        bytes
    }
}

/// `Codec::inflate` on a buffer that is not empty.
fn inflate(codec: &mut Codec, payload: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
    let mut out = b"before".to_vec();
    let result = codec.inflate(payload, limit, &mut out);
    let message = out.split_off(6);
    assert_eq!(out, b"before");
    assert!(result.is_ok() || message.is_empty(), "an error leaves something behind");
    assert!(message.len() <= limit);
    result.map(|()| message)
}

fn payloads(input: &Input<'_>, payloads: &[&[u8]]) {
    let new = || Codec::new(agree(input.server, input.client));
    let (mut codec, mut exact, limit) = (new(), new(), usize::from(input.limit));
    for (place, payload) in payloads.iter().enumerate() {
        let message = match inflate(&mut codec, payload, limit) {
            Ok(message) => message,
            Err(error) => {
                assert!(matches!(error, InflateError::Corrupt) || error == InflateError::TooBig { limit });
                break;
            }
        };
        // The limit is exact to the byte.
        assert_eq!(inflate(&mut exact, payload, message.len()).as_ref(), Ok(&message));
        if let Some(less) = message.len().checked_sub(1) {
            let mut short = new();
            for earlier in &payloads[..place] {
                assert!(inflate(&mut short, earlier, limit).is_ok());
            }
            assert_eq!(inflate(&mut short, payload, less), Err(InflateError::TooBig { limit: less }));
        }
        let window = if input.client.takeover { 1 << input.client.bits() } else { 0 };
        assert!(codec.heap_bytes() <= window, "{} bytes kept", codec.heap_bytes());
    }
    // The context of the thread still works.
    assert_eq!(inflate(&mut new(), b"\xf2\x48\xcd\xc9\xc9\x07\x00", 5).as_deref(), Ok(&b"Hello"[..]));
}

fn messages(input: &Input<'_>, messages: &[Message<'_>]) {
    let (server, client) = (input.server, input.client);
    let (mut ours, mut theirs) = (Codec::new(agree(server, client)), Codec::new(agree(client, server)));
    let mut references = [reference::Inflater::default(), reference::Inflater::default()];
    let mut total = 0;
    for message in messages {
        let bytes = message.bytes();
        // Twice the largest window is enough, and slow enough for the reference.
        total += bytes.len();
        if total > 1 << 16 {
            break;
        }
        let (sender, receiver, direction) = if message.from_client {
            (&mut theirs, &mut ours, client)
        } else {
            (&mut ours, &mut theirs, server)
        };
        let mut payload = Vec::new();
        sender.deflate(&bytes, &mut payload);
        assert_eq!(inflate(receiver, &payload, bytes.len()).as_ref(), Ok(&bytes));
        if !direction.takeover {
            let mut shared = Vec::new();
            deflate_shared(sender.agreed(), &bytes, &mut shared);
            assert_eq!(shared, payload);
            references[usize::from(message.from_client)] = reference::Inflater::default();
        }
        let reference = &mut references[usize::from(message.from_client)];
        assert_eq!(reference.message(&payload), Some(bytes));
        assert!(reference.farthest <= 1 << direction.bits(), "{} bytes back", reference.farthest);
    }
}

fuzz_target!(|input: Input<'_>| {
    match &input.task {
        Task::Payloads { first, bytes } => {
            let (first, second) = bytes.split_at(bytes.len().min((*first).into()));
            payloads(&input, &[first, second]);
        }
        Task::Messages(some) => messages(&input, &some[..some.len().min(8)]),
    }
});
