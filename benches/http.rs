//! The cost of one request in this layer: parsing its head, and writing the head of its response.
//!
//! Both are a small part of the two system calls around them: a change of less than 50 ns here does not show
//! in requests a second.
#![allow(missing_docs)] // `criterion_group!` writes a function without any

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use socketify::http::date;
use socketify::http::head::{HeadLimits, find, parse};
use socketify::http::response::{BodyKind, RequestInfo, ResponseHead};

const BROWSER: &[u8] = b"GET /user/10?theme=dark HTTP/1.1\r\n\
    Host: localhost:3000\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Site: same-origin\r\n\r\n";

const HELLO: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost:3000\r\n\r\n";

fn request_head(criterion: &mut Criterion) {
    let limits = HeadLimits::default();
    let mut group = criterion.benchmark_group("parse a request head");
    for (name, input) in [("of a browser, 400 bytes", BROWSER), ("of a load generator, 40 bytes", HELLO)] {
        group.throughput(Throughput::Bytes(input.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| parse(black_box(input), &limits)));
    }
    group.finish();
    criterion.bench_function("find the ninth header in its block", |bencher| {
        let head = parse(BROWSER, &limits).ok().flatten().map(|head| head.header_block(BROWSER));
        let block = head.unwrap_or_default();
        bencher.iter(|| find(black_box(block), b"sec-fetch-site"));
    });
}

fn response_head(criterion: &mut Criterion) {
    let mut out = Vec::with_capacity(1024);
    let mut bench = |name: &str, fill: fn(&mut ResponseHead)| {
        criterion.bench_function(name, |bencher| {
            let mut head = ResponseHead::default();
            bencher.iter(|| {
                head.clear();
                fill(&mut head);
                out.clear();
                let body = BodyKind::Sized(black_box(13));
                head.write_to(&mut out, RequestInfo::default(), body, &date::now(), b"socketify", true);
                out.len()
            });
        });
    };
    bench("write the head of a hello", |_| {});
    bench("write a 404 with two headers", |head| {
        let _ = head.set_status(404);
        let _ = head.header(b"Content-Type", b"application/json");
        let _ = head.header(b"Cache-Control", b"no-store");
    });
    criterion.bench_function("tell the date", |bencher| bencher.iter(date::now));
}

criterion_group!(benches, request_head, response_head);
criterion_main!(benches);
