//! The cost of a message in this layer: taking it out of its frame, unmasking and checking it.
//!
//! Small ones are measured by the message, since a session gets many in one read. Large ones are measured by
//! the byte, where only the mask and the UTF-8 matter.
#![allow(missing_docs)] // `criterion_group!` writes a function without any

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use socketify::websocket::Receiver;
use socketify::websocket::frame::unmask_into;
use socketify::websocket::handshake::accept;
use socketify::websocket::utf8::Validator;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const SMALL: usize = 20;
const LARGE: usize = 64 * 1024;

/// A client's text frame of `length` bytes, up to 125 or from 65,536.
fn frame(length: usize) -> Vec<u8> {
    let mut wire = match u8::try_from(length) {
        Ok(short) => vec![0x81, 0x80 | short],
        Err(_) => [&[0x81, 0xff][..], &(length as u64).to_be_bytes()].concat(),
    };
    wire.extend(MASK);
    wire.extend((0..length).map(|at| b'a' ^ MASK[at % 4]));
    wire
}

fn receive(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("receive");
    for (name, wire, count, cut) in [
        ("100 texts of 20 bytes", frame(SMALL).repeat(100), 100, usize::MAX),
        ("a text of 64 KiB", frame(LARGE), 1, usize::MAX),
        ("a text of 64 KiB in reads of 16 KiB", frame(LARGE), 1, 16 * 1024),
    ] {
        if count > 1 {
            group.throughput(Throughput::Elements(count));
        } else {
            group.throughput(Throughput::Bytes(wire.len() as u64));
        }
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let (mut receiver, mut messages) = (Receiver::default(), 0);
                for read in black_box(&wire[..]).chunks(cut) {
                    let mut emit = |message| {
                        black_box(message);
                        messages += 1;
                        true
                    };
                    let _ = receiver.feed(read, LARGE, None, &mut emit);
                }
                assert_eq!(messages, count);
            });
        });
    }
    group.finish();
}

fn parts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("64 KiB");
    group.throughput(Throughput::Bytes(LARGE as u64));
    let mut out = Vec::with_capacity(LARGE);
    let payload = vec![b'a'; LARGE];
    group.bench_function("unmasked", |bencher| {
        bencher.iter(|| {
            out.clear();
            unmask_into(&mut out, black_box(&payload), MASK, 1);
        });
    });
    for (name, text) in [("of ASCII", "a".repeat(LARGE)), ("of German", "Bär und ".repeat(LARGE / 9))] {
        group.bench_function(format!("{name} checked"), |bencher| {
            bencher.iter(|| Validator::default().push(black_box(text.as_bytes())));
        });
    }
    group.finish();
    criterion.bench_function("accept a key", |bencher| {
        bencher.iter(|| accept(black_box(b"dGhlIHNhbXBsZSBub25jZQ==")));
    });
}

criterion_group!(benches, receive, parts);
criterion_main!(benches);
