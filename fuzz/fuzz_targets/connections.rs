//! Whole connections of HTTP/1.1 against a model that counts responses: one for each request, in order, and
//! not one more.
//!
//! A server in this process gets any bytes in any pieces over a socket. The model parses the same bytes as a
//! whole, with the parsers that have targets of their own, and assigns each response to its request. It knows
//! this target's own requests without a parser.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use socketify::http::chunked::ChunkedDecoder;
use socketify::http::head::{Framing, HeadLimits, parse};
use socketify::net::proxy::{self, Preface};
use socketify_fuzz::answers::{self, Answer};
use socketify_fuzz::ends;
use socketify_fuzz::serving::{Client, LARGE, LIMIT};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    sizes: [u8; 4],
    /// The client shuts its side as soon as it has sent everything, and not after the responses.
    is_hasty: bool,
    pieces: Vec<Piece<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Piece<'a> {
    Request(Request<'a>),
    Raw(&'a [u8]),
}

#[derive(Arbitrary, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a header line of its own")]
struct Request<'a> {
    method: Method,
    route: Route,
    framing: Body,
    is_old: bool,
    expects: bool,
    upgrades: bool,
    closes: bool,
    body: &'a [u8],
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Get,
    Head,
    Post,
    Options,
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Turn,
    Loop,
    Whole,
    WholeInTurn,
    Pieces,
    Stream,
    Limited,
    Constant,
    SmallFile,
    LargeFile,
    NoFile,
    Socket,
    Nothing,
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    None,
    Length,
    Chunked,
}

impl Request<'_> {
    fn path(&self) -> &'static str {
        match self.route {
            Route::Turn => "/turn",
            Route::Loop => "/loop",
            Route::Whole => "/whole",
            Route::WholeInTurn => "/whole-in-turn",
            Route::Pieces => "/pieces",
            Route::Stream => "/stream",
            Route::Limited => "/limited",
            Route::Constant => "/constant",
            Route::SmallFile => "/files/small",
            Route::LargeFile => "/files/large",
            Route::NoFile => "/files/none",
            Route::Socket => "/socket",
            Route::Nothing => "/nothing",
        }
    }

    /// HTTP/1.0 has no chunks.
    fn framing(&self) -> Body {
        if self.is_old && self.framing == Body::Chunked { Body::Length } else { self.framing }
    }

    fn write(&self, wire: &mut Vec<u8>) {
        let method = match self.method {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Options => "OPTIONS",
        };
        let version = u8::from(!self.is_old);
        wire.extend(format!("{method} {} HTTP/1.{version}\r\nHost: h\r\n", self.path()).bytes());
        if self.expects {
            wire.extend_from_slice(b"Expect: 100-continue\r\n");
        }
        if self.upgrades {
            wire.extend_from_slice(
                b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            );
        }
        let option = if self.closes { "close" } else { "keep-alive" };
        wire.extend(
            format!("Connection: {option}{}\r\n", if self.upgrades { ", Upgrade" } else { "" }).bytes(),
        );
        match self.framing() {
            Body::None => wire.extend_from_slice(b"\r\n"),
            Body::Length => {
                wire.extend(format!("Content-Length: {}\r\n\r\n", self.body.len()).bytes());
                wire.extend_from_slice(self.body);
            }
            Body::Chunked => {
                wire.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in self.body.chunks(5) {
                    wire.extend(format!("{:x}\r\n", chunk.len()).bytes());
                    wire.extend_from_slice(chunk);
                    wire.extend_from_slice(b"\r\n");
                }
                wire.extend_from_slice(b"0\r\n\r\n");
            }
        }
    }
}

/// The meaning of a client's next bytes.
#[derive(Debug)]
enum Next {
    Nothing,
    /// The start of a head.
    Partial,
    /// A request that gets this status, and ends the connection.
    Refused(u16),
    Request(Facts),
}

/// The model's facts about a request.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Facts {
    is_head: bool,
    keep_alive: bool,
    upgrade: bool,
    /// The client waits for `100 Continue`, so the body may or may not come after another response.
    expects: bool,
    path: Vec<u8>,
    /// Bytes of head and body, and those of the body's data; `None` if the body is incomplete.
    whole: Option<(usize, u64)>,
    /// The body breaks a rule of its framing, or it may exceed the route's limit.
    may_be_refused: bool,
}

fn next(bytes: &[u8]) -> Next {
    if bytes.is_empty() {
        return Next::Nothing;
    }
    let head = match parse(bytes, &HeadLimits::default()) {
        Ok(None) => return Next::Partial,
        Err(refusal) => return Next::Refused(refusal.status()),
        Ok(Some(head)) => head,
    };
    let body = &bytes[head.len..];
    let (mut data, mut is_broken) = (0, false);
    let length = match head.framing {
        Framing::None => Some(0),
        Framing::Length(length) => {
            data = length;
            usize::try_from(length).ok().filter(|&length| length <= body.len())
        }
        Framing::Chunked => {
            let decoded = ChunkedDecoder::default().decode(body, &mut |run| data += run.len() as u64);
            is_broken = decoded.is_err();
            decoded.ok().and_then(|(used, done)| done.then_some(used))
        }
        Framing::Stream(_) => unreachable!("HTTP/1.1 has no streams"),
    };
    let path = head.path(bytes).to_vec();
    let limit = if path == b"/limited" { LIMIT } else { 100 << 20 };
    Next::Request(Facts {
        is_head: head.method(bytes) == b"HEAD",
        keep_alive: head.keep_alive,
        upgrade: head.upgrade,
        expects: head.expect_continue,
        may_be_refused: is_broken || data > limit,
        whole: length.map(|length| (head.len + length, data)),
        path,
    })
}

/// The walk over a client's requests and its responses.
struct Walk<'a> {
    sent: &'a [u8],
    received: &'a [u8],
    /// The client had shut its side before it read responses.
    is_hasty: bool,
    /// No more responses may come.
    is_over: bool,
}

/// Checks a response, as far as the model knows it.
fn check(facts: &Facts, answer: &Answer) {
    let body = String::from_utf8_lossy(&answer.body);
    assert!(!answer.until_close || answer.closes || !facts.keep_alive, "nothing ends it: {answer:?}");
    if answer.status != 200 || facts.is_head {
        return;
    }
    let size = facts.whole.map(|(_, size)| size.to_string());
    match &*facts.path {
        b"/turn" | b"/loop" => assert_eq!(body.as_bytes(), facts.path),
        b"/whole" | b"/whole-in-turn" | b"/pieces" | b"/limited" => {
            assert_eq!(Some(&*body), size.as_deref(), "of {facts:?}");
        }
        b"/stream" => assert_eq!(body, "onetwothree"),
        b"/constant" => assert_eq!(body, "constant"),
        b"/files/small" => assert_eq!(body, "xxxxx"),
        b"/files/large" => assert!(answer.body.len() == LARGE || answer.body.len() < 10),
        path => panic!("nobody answers {:?} with {body:?}", String::from_utf8_lossy(path)),
    }
}

impl Walk<'_> {
    /// Goes past one request and its response; false if there is no further response.
    fn step(&mut self) -> bool {
        let next = next(self.sent);
        let is_head = matches!(&next, Next::Request(facts) if facts.is_head);
        let answer = loop {
            let Some((answer, length)) = answers::next(self.received, is_head) else {
                self.expect_none(&next);
                return false;
            };
            self.received = &self.received[length..];
            if answer.status != 100 {
                break answer;
            }
            assert!(matches!(next, Next::Request(_)), "an invitation to nobody");
        };
        assert!(!self.is_over, "an answer too many: {answer:?}");
        match next {
            Next::Nothing => panic!("an answer to nothing: {answer:?}"),
            Next::Partial => {
                assert!(matches!(answer.status, 400 | 408), "an answer to half a request: {answer:?}");
                self.is_over = true;
            }
            Next::Refused(status) => {
                assert_eq!(answer.status, status);
                self.is_over = true;
            }
            Next::Request(facts) => self.answered(&facts, &answer),
        }
        true
    }

    fn answered(&mut self, facts: &Facts, answer: &Answer) {
        check(facts, answer);
        if answer.status == 101 {
            assert!(facts.upgrade && facts.path == b"/socket" && facts.whole.is_some());
            // Frames follow.
            (self.sent, self.received, self.is_over) = (b"", b"", true);
            return;
        }
        let rest = facts.whole.map_or(&b""[..], |(length, _)| &self.sent[length..]);
        let is_last = self.is_hasty && matches!(next(rest), Next::Nothing | Next::Partial);
        // In HTTP/1.0 only the end of the connection ends a body of unknown length.
        let must_close = !facts.keep_alive || answer.until_close;
        let may_close =
            is_last || must_close || facts.expects || facts.may_be_refused || answer.status >= 400;
        assert!(!answer.closes || may_close || facts.whole.is_none(), "{answer:?} ends {facts:?}");
        assert!(facts.keep_alive || answer.closes, "{answer:?} does not say that it is the last");
        self.is_over = answer.closes || facts.whole.is_none();
        self.sent = rest;
    }

    /// All responses have been checked: the remaining requests need not have one.
    fn expect_none(&self, next: &Next) {
        assert!(self.received.is_empty(), "no whole answer: {:?}", String::from_utf8_lossy(self.received));
        let is_owed = match next {
            Next::Nothing | Next::Partial => false,
            Next::Refused(_) => true,
            Next::Request(facts) => facts.whole.is_some(),
        };
        assert!(self.is_over || !is_owed, "no answer to {next:?}");
    }
}

/// The number of responses that a client may wait for before it shuts its side.
fn count_owed(mut sent: &[u8]) -> usize {
    let mut count = 0;
    loop {
        match next(sent) {
            Next::Request(Facts {
                whole: Some((length, _)), keep_alive, upgrade, may_be_refused, ..
            }) => {
                count += 1;
                if !keep_alive || upgrade || may_be_refused {
                    return count;
                }
                sent = &sent[length..];
            }
            Next::Refused(_) => return count + 1,
            Next::Request(_) | Next::Nothing | Next::Partial => return count,
        }
    }
}

/// The number of complete responses, at most `owed`.
fn count_received(mut sent: &[u8], mut received: &[u8], owed: usize) -> usize {
    let mut count = 0;
    while count < owed {
        let next = next(sent);
        let is_head = matches!(&next, Next::Request(facts) if facts.is_head);
        let Some((answer, length)) = answers::next(received, is_head) else { break };
        received = &received[length..];
        if answer.status == 100 {
            continue;
        }
        count += 1;
        if let Next::Request(Facts { whole: Some((length, _)), .. }) = next {
            sent = &sent[length..];
        }
        if answer.closes || answer.status == 101 {
            return owed;
        }
    }
    count
}

/// The bytes of all pieces. The parsers have to agree with this target's own requests.
fn wire(pieces: &[Piece<'_>]) -> Vec<u8> {
    let mut wire = Vec::new();
    for piece in pieces.iter().take(40) {
        match piece {
            Piece::Raw(bytes) => {
                wire.extend_from_slice(bytes);
            }
            Piece::Request(request) => {
                let start = wire.len();
                request.write(&mut wire);
                let facts = match next(&wire[start..]) {
                    Next::Request(facts) => facts,
                    other => panic!("{request:?} is {other:?}"),
                };
                let data = if request.framing() == Body::None { 0 } else { request.body.len() as u64 };
                assert_eq!(facts.whole, Some((wire.len() - start, data)));
                assert_eq!(facts.keep_alive, !request.closes);
            }
        }
    }
    wire
}

fuzz_target!(|input: Input<'_>| {
    let wire = wire(&input.pieces);
    // An abstract socket's peers are trusted, so a preface may come first.
    let sent = match proxy::parse(&wire) {
        Preface::Absent => &wire[..],
        Preface::Present(length, _) => &wire[length..],
        Preface::Partial | Preface::Invalid => b"",
    };
    let is_http2 = sent.starts_with(b"PRI * HTTP/2.0\r\n");
    let mut client = Client::new();
    let mut start = 0;
    for end in ends(&wire, input.sizes).take(400) {
        client.send(&wire[start..end]);
        start = end;
    }
    client.send(&wire[start..]);
    if !input.is_hasty && !is_http2 {
        let owed = count_owed(sent);
        while count_received(sent, &client.received, owed) < owed && client.receive() {}
    }
    client.finish();
    while client.receive() {}
    if is_http2 {
        return;
    }
    let mut walk = Walk { sent, received: &client.received, is_hasty: input.is_hasty, is_over: false };
    while walk.step() {}
});
