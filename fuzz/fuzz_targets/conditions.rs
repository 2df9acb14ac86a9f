//! Headers that select the response: conditions, ranges, content codings and origins.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use socketify::files::conditions::{Conditions, Decision, Validators, decide};
use socketify::http::cors::{Policy, Verdict, Wildcard};
use socketify::http::encoding::{Accepted, Coding, CodingLevel};
use socketify::http::head::{Head, HeadLimits, find, joined, parse};

#[derive(Arbitrary, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
struct Input<'a> {
    method: Method,
    size: u64,
    modified: Option<u32>,
    is_weak: bool,
    is_dated: bool,
    any_origin: bool,
    credentials: bool,
    lines: &'a [u8],
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Method {
    Get,
    Head,
    Post,
    Options,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Options => "OPTIONS",
        }
    }
}

fn file(input: &Input<'_>, block: &[u8]) {
    let has = |name: &str| find(block, name.as_bytes()).is_some();
    let asked = Conditions::read(input.method.name().as_bytes(), block);
    let etag: &[u8] = if input.is_weak { b"W/\"5-1\"" } else { b"\"5-1\"" };
    let validators = Validators { etag, modified: input.modified.map(u64::from), is_dated: input.is_dated };
    let decision = decide(&asked, &validators, input.size);
    match &decision {
        Decision::Whole => {}
        Decision::Part(part) => {
            assert!(part.start < part.end && part.end <= input.size);
            assert!(has("range"));
        }
        Decision::Parts(parts) => {
            assert!(parts.len() > 1 && parts.len() <= 16);
            assert!(parts.iter().all(|part| part.start < part.end && part.end <= input.size));
            let total = parts.iter().map(|part| u128::from(part.end - part.start)).sum::<u128>();
            assert!(total <= input.size.into(), "an answer that is longer than the file");
            assert!(has("range"));
        }
        Decision::NotModified => assert!(has("if-none-match") || has("if-modified-since")),
        Decision::Failed => assert!(has("if-match") || has("if-unmodified-since")),
        Decision::Unsatisfiable => assert!(has("range")),
    }
    if !matches!(input.method, Method::Get | Method::Head) {
        assert_eq!(decision, Decision::Whole);
    }
    if !matches!(input.method, Method::Get) {
        assert!(!matches!(decision, Decision::Part(_) | Decision::Parts(_) | Decision::Unsatisfiable));
    }
}

fn codings(block: &[u8]) {
    let value = joined(block, b"accept-encoding");
    let accepted = Accepted::parse(value.as_deref());
    let offers = [Coding::Brotli, Coding::Zstd, Coding::Gzip].map(|coding| CodingLevel { coding, level: 1 });
    let Some(chosen) = accepted.choose(&offers) else { return };
    let text = value.expect("nothing is chosen without the header").to_ascii_lowercase();
    let named = |name: &[u8]| text.windows(name.len()).any(|window| window == name);
    assert!(named(chosen.coding.name().as_bytes()) || named(b"*"), "{chosen:?}");
    assert!(offers.contains(&chosen));
    // From one offer, no other is chosen.
    for offer in offers {
        assert!(accepted.choose(&[offer]).is_none_or(|only| only == offer));
    }
}

fn origins(input: &Input<'_>, head: &Head, wire: &[u8], block: &[u8]) {
    let boxed = |text: &str| Box::<[u8]>::from(text.as_bytes());
    let policy = Policy {
        any: input.any_origin,
        origins: vec![boxed("https://a.example")],
        wildcards: vec![Wildcard { before: boxed("https://"), after: boxed(".b.example") }],
        credentials: input.credentials && !input.any_origin,
        private_network: true,
        ..Policy::default()
    };
    let origin = joined(block, b"origin");
    match policy.judge(head, wire) {
        Ok(Verdict::Preflight(_)) => {
            assert_eq!(input.method.name(), "OPTIONS");
            assert!(origin.is_some() && find(block, b"access-control-request-method").is_some());
        }
        Ok(Verdict::Lines(lines)) => {
            // They stand in a response: a client's bytes must not start a line there.
            let text = lines.strip_suffix(b"\r\n").unwrap_or(&lines);
            for line in text.split(|&byte| byte == b'\n') {
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                assert!(!line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
                assert!(line.is_empty() || line.starts_with(b"Access-Control-") || line == b"Vary: Origin");
            }
            if let Some(allowed) = find(&lines, b"access-control-allow-origin") {
                let is_named = allowed == b"https://a.example"
                    || allowed.starts_with(b"https://") && allowed.ends_with(b".b.example");
                assert!(if input.any_origin { allowed == b"*" } else { is_named });
            }
        }
        Err(error) => panic!("a preflight that nobody can send: {error}"),
    }
}

fuzz_target!(|input: Input<'_>| {
    let start = format!("{} / HTTP/1.1\r\nHost: h\r\n", input.method.name());
    let wire = [start.as_bytes(), input.lines, b"\r\n\r\n"].concat();
    let limits = HeadLimits { max_header_bytes: 1 << 16, max_headers: 100 };
    let Ok(Some(head)) = parse(&wire, &limits) else { return };
    let block = head.header_block(&wire);
    file(&input, block);
    codings(block);
    origins(&input, &head, &wire, block);
});
