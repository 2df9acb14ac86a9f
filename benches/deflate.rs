//! The cost of a compressed WebSocket message of 1 KB: the JSON of a chat, a typical message.
//!
//! The levels of the library are measured to choose one (`websocket::deflate`).
#![allow(missing_docs)] // `criterion_group!` writes a function without any
#![allow(
    clippy::decimal_bitwise_operands,
    reason = "the numbers are those of CompressOptions, in its notation"
)]

use std::fmt::Write;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use flate2::{Compress, Compression as Level, FlushCompress};
use socketify::websocket::deflate::{Agreed, Codec, Compression, deflate_shared, negotiate};

const WORDS: [&str; 24] = [
    "the",
    "server",
    "sends",
    "a",
    "message",
    "to",
    "every",
    "subscriber",
    "of",
    "this",
    "topic",
    "when",
    "somebody",
    "writes",
    "hello",
    "what",
    "do",
    "you",
    "think",
    "about",
    "lunch",
    "tomorrow",
    "maybe",
    "later",
];

/// 256 messages of about 1 KB with different texts.
fn messages() -> Vec<Vec<u8>> {
    let mut state = 12345_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap_or(0)
    };
    let message = |number: usize| {
        let mut text = String::from(r#"{"type":"chat.message","room":"general","messages":["#);
        for part in 0.. {
            let words: Vec<_> = (0..6 + random(12)).map(|_| WORDS[random(WORDS.len())]).collect();
            let _ = write!(
                text,
                r#"{{"id":{},"user":"{}","sent_at":"2026-11-22T18:{:02}:{:02}.{:06}+00:00","text":"{}"}}"#,
                number * 100 + part,
                ["alice", "bob", "carol", "dave"][random(4)],
                random(60),
                random(60),
                random(1_000_000),
                words.join(" "),
            );
            if text.len() > 900 {
                break;
            }
            text.push(',');
        }
        (text + "]}").into_bytes()
    };
    (0..256).map(message).collect()
}

fn agreed(option: u32) -> Option<Agreed> {
    let wanted = Compression::from_options(option).ok().flatten()?;
    negotiate(&wanted, b"permessage-deflate; client_max_window_bits")
}

fn deflate(criterion: &mut Criterion) {
    let messages = messages();
    let mut out = Vec::with_capacity(4096);
    let mut group = criterion.benchmark_group("deflate 1 KB of JSON");
    for (name, option) in [("shared", 1), ("3KB", 145), ("32KB", 197), ("64KB", 214), ("256KB", 248)] {
        let Some(agreed) = agreed(option) else { continue };
        let mut codec = Codec::new(agreed);
        let mut at = 0;
        let mut bytes = (0, 0);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                at = (at + 1) % messages.len();
                codec.deflate(black_box(&messages[at]), &mut out);
                bytes = (bytes.0 + messages[at].len(), bytes.1 + out.len());
            });
        });
        assert!(bytes.1 <= bytes.0 * 6 / 10, "{name}: {bytes:?}");
    }
    for level in 1..=6 {
        let mut context = Compress::new(Level::new(level), false);
        let mut at = 0;
        group.bench_function(format!("on its own, level {level}"), |bencher| {
            bencher.iter(|| {
                out.clear();
                at = (at + 1) % messages.len();
                context.reset();
                context.compress_vec(black_box(&messages[at]), &mut out, FlushCompress::Sync)
            });
        });
    }
    group.finish();
}

fn inflate(criterion: &mut Criterion) {
    let messages = messages();
    let mut group = criterion.benchmark_group("inflate 1 KB of JSON");
    for (name, option) in [("shared", 1 | 256), ("512B", 1 | 2304), ("32KB", 1 | 3840)] {
        let Some(agreed) = agreed(option) else { continue };
        let payloads: Vec<_> = messages
            .iter()
            .map(|message| {
                let mut payload = Vec::new();
                deflate_shared(&agreed, message, &mut payload);
                payload
            })
            .collect();
        let mut codec = Codec::new(agreed);
        let (mut at, mut out) = (0, Vec::with_capacity(4096));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                at = (at + 1) % payloads.len();
                codec.inflate(black_box(&payloads[at]), 16 * 1024, &mut out)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, deflate, inflate);
criterion_main!(benches);
