//! Whole connections of HTTP/2 against a model that counts answers: one for each request, on its stream, and none too many.
//!
//! A server in this process gets requests in any order and any pieces, with their bodies interleaved, windows of any size and
//! streams that are given up. As long as all of that obeys RFC 9113 the model knows each answer. Behind frames that do not, it
//! knows what must hold of every connection: that no stream is answered twice, that none goes on behind its end, that no more
//! is sent than was allowed, and that the connection ends when its client does.
#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use socketify_fuzz::ends;
use socketify_fuzz::frames::{self, PREFACE, WINDOW, field, flag, kind};
use socketify_fuzz::serving::{Client, LARGE, LIMIT};

/// The least room that a client gives at a time: with less the large file would take a round for each byte.
const GRANT: u32 = 4096;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    sizes: [u8; 4],
    /// The window of each stream at the beginning.
    window: u16,
    /// Room that is given again when a window is used up.
    grant: u16,
    /// Frames that may break rules are sent too.
    is_rude: bool,
    steps: Vec<Step<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Request(Request<'a>),
    /// More of a body whose stream was left open.
    Data {
        of: u8,
        bytes: &'a [u8],
        ends: bool,
    },
    /// Trailers, which end a stream.
    Trailers {
        of: u8,
    },
    Reset {
        of: u8,
        code: u8,
    },
    Window {
        of: u8,
        room: u16,
    },
    Settings {
        window: u16,
    },
    Ping,
    Priority {
        of: u8,
    },
    /// A frame of any kind, which may break any rule.
    Frame {
        kind: u8,
        flags: u8,
        stream: u8,
        payload: &'a [u8],
    },
    Raw(&'a [u8]),
}

#[derive(Arbitrary, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each changes the frames in a way of its own")]
struct Request<'a> {
    method: Method,
    route: Route,
    body: &'a [u8],
    /// The stream stays open behind the body.
    is_open: bool,
    /// The body has a length, which is known beforehand where the stream does not stay open.
    says_length: bool,
    expects: bool,
    /// The header section comes in two frames.
    is_split: bool,
    padding: Option<u8>,
    has_priority: bool,
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
    /// A WebSocket (RFC 8441), whatever the method says.
    Socket,
    Nothing,
}

impl Route {
    fn path(self) -> &'static str {
        match self {
            Self::Turn => "/turn",
            Self::Loop => "/loop",
            Self::Whole => "/whole",
            Self::WholeInTurn => "/whole-in-turn",
            Self::Pieces => "/pieces",
            Self::Stream => "/stream",
            Self::Limited => "/limited",
            Self::Constant => "/constant",
            Self::SmallFile => "/files/small",
            Self::LargeFile => "/files/large",
            Self::NoFile => "/files/none",
            Self::Socket => "/socket",
            Self::Nothing => "/nothing",
        }
    }
}

/// What the model knows of a stream.
#[derive(Debug)]
struct Facts {
    method: Method,
    route: Route,
    /// Bytes of the body so far.
    size: usize,
    /// All of it that was promised; none where nothing was.
    length: Option<usize>,
    /// The client has sent all of it.
    is_whole: bool,
    /// The client has given it up.
    is_reset: bool,
    /// Room that the client has given beyond the window that each stream has.
    room: u64,
}

impl Facts {
    fn is_socket(&self) -> bool {
        self.route == Route::Socket
    }

    /// Whether an answer has to come, and to end.
    fn is_owed(&self) -> bool {
        self.is_whole && !self.is_reset && !self.is_socket() && !self.is_lie()
    }

    /// The body is not as long as was said.
    fn is_lie(&self) -> bool {
        self.length.is_some_and(|length| self.size > length || self.is_whole && self.size != length)
    }
}

/// What has been sent.
struct Sent {
    wire: Vec<u8>,
    streams: BTreeMap<u32, Facts>,
    /// The largest window that each stream has ever had.
    window: u32,
    /// Room on the connection.
    room: u64,
    /// Nothing has broken a rule.
    is_lawful: bool,
}

impl Sent {
    fn new(window: u16) -> Self {
        let mut wire = PREFACE.to_vec();
        // No table for header sections: then a status can be read without one.
        let settings = [[0, 1, 0, 0, 0, 0], setting_of_window(window)].concat();
        frames::write(&mut wire, kind::SETTINGS, 0, 0, &settings);
        let window = WINDOW.max(window.into());
        Self { wire, streams: BTreeMap::new(), window, room: WINDOW.into(), is_lawful: true }
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        frames::write(&mut self.wire, kind, flags, stream, payload);
    }

    /// One of the streams that have begun and that `may` be chosen.
    fn pick(&self, of: u8, may: impl Fn(&Facts) -> bool) -> Option<u32> {
        let streams: Vec<u32> =
            self.streams.iter().filter(|(_, facts)| may(facts)).map(|(&id, _)| id).collect();
        (!streams.is_empty()).then(|| streams[usize::from(of) % streams.len()])
    }

    fn facts(&mut self, stream: u32) -> &mut Facts {
        self.streams.get_mut(&stream).expect("it was picked")
    }

    fn step(&mut self, step: &Step<'_>) {
        let open = |facts: &Facts| !facts.is_whole && !facts.is_reset;
        match step {
            Step::Request(request) => self.request(request),
            Step::Data { of, bytes, ends } => {
                if let Some(stream) = self.pick(*of, open) {
                    self.data(stream, bytes, *ends, None);
                }
            }
            Step::Trailers { of } => {
                if let Some(stream) = self.pick(*of, |facts| open(facts) && !facts.is_socket()) {
                    let mut section = Vec::new();
                    field(&mut section, "x-trailer", "1");
                    self.frame(kind::HEADERS, flag::END_STREAM | flag::END_HEADERS, stream, &section);
                    self.facts(stream).is_whole = true;
                }
            }
            Step::Reset { of, code } => {
                if let Some(stream) = self.pick(*of, |facts| !facts.is_reset) {
                    self.frame(kind::RST_STREAM, 0, stream, &u32::from(*code).to_be_bytes());
                    self.facts(stream).is_reset = true;
                }
            }
            Step::Window { of, room } => {
                let room = u32::from(*room) + 1;
                // Each fourth time the connection's.
                match self.pick(of / 4, |facts| !facts.is_reset).filter(|_| of % 4 > 0) {
                    Some(stream) => self.give_stream(stream, room),
                    None => self.give(room),
                }
            }
            Step::Settings { window } => {
                self.window = self.window.max((*window).into());
                self.frame(kind::SETTINGS, 0, 0, &setting_of_window(*window));
            }
            Step::Ping => self.frame(kind::PING, 0, 0, b"12345678"),
            Step::Priority { of } => {
                if let Some(stream) = self.pick(*of, |_| true) {
                    self.frame(kind::PRIORITY, 0, stream, &[0, 0, 0, 0, *of]);
                }
            }
            Step::Frame { kind, flags, stream, payload } => {
                self.is_lawful = false;
                self.frame(*kind, *flags, (*stream).into(), payload);
            }
            Step::Raw(bytes) => {
                self.is_lawful = false;
                self.wire.extend_from_slice(bytes);
            }
        }
    }

    /// Room on a stream.
    fn give_stream(&mut self, stream: u32, room: u32) {
        self.frame(kind::WINDOW_UPDATE, 0, stream, &room.to_be_bytes());
        self.facts(stream).room += u64::from(room);
    }

    /// Room on the connection.
    fn give(&mut self, room: u32) {
        self.frame(kind::WINDOW_UPDATE, 0, 0, &room.to_be_bytes());
        self.room += u64::from(room);
    }

    fn data(&mut self, stream: u32, bytes: &[u8], ends: bool, padding: Option<u8>) {
        let facts = self.facts(stream);
        facts.size += bytes.len();
        // A socket ends by its frames.
        facts.is_whole = ends && !facts.is_socket();
        let flags = if facts.is_whole { flag::END_STREAM } else { 0 };
        let (flags, payload) = padded(flags, bytes.to_vec(), padding);
        self.frame(kind::DATA, flags, stream, &payload);
    }

    fn request(&mut self, request: &Request<'_>) {
        let stream = self.streams.last_key_value().map_or(1, |(&last, _)| last + 2);
        let is_socket = request.route == Route::Socket;
        let is_bare = request.body.is_empty() && !request.is_open && !is_socket;
        let length =
            (request.says_length && !is_socket).then_some(request.body.len() + usize::from(request.is_open));
        let mut section = Vec::new();
        let method = match request.method {
            _ if is_socket => "CONNECT",
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Options => "OPTIONS",
        };
        field(&mut section, ":method", method);
        field(&mut section, ":scheme", "http");
        field(&mut section, ":path", request.route.path());
        field(&mut section, ":authority", "h");
        if is_socket {
            field(&mut section, ":protocol", "websocket");
            field(&mut section, "sec-websocket-version", "13");
        }
        if request.expects {
            field(&mut section, "expect", "100-continue");
        }
        if let Some(length) = length {
            field(&mut section, "content-length", &length.to_string());
        }
        let mut flags = if is_bare { flag::END_STREAM } else { 0 };
        let rest = if request.is_split { section.split_off(section.len() / 2) } else { Vec::new() };
        if request.has_priority {
            section.splice(..0, [0, 0, 0, 0, 9]);
            flags |= flag::PRIORITY;
        }
        if !request.is_split {
            flags |= flag::END_HEADERS;
        }
        let (flags, section) = padded(flags, section, request.padding);
        self.frame(kind::HEADERS, flags, stream, &section);
        if request.is_split {
            self.frame(kind::CONTINUATION, flag::END_HEADERS, stream, &rest);
        }
        let facts = Facts {
            method: if is_socket { Method::Get } else { request.method },
            route: request.route,
            size: 0,
            length,
            is_whole: is_bare,
            is_reset: false,
            room: 0,
        };
        self.streams.insert(stream, facts);
        if !request.body.is_empty() {
            self.data(stream, request.body, !request.is_open, request.padding);
        }
    }
}

fn setting_of_window(window: u16) -> [u8; 6] {
    let [high, low] = window.to_be_bytes();
    [0, 4, 0, 0, high, low]
}

fn padded(flags: u8, payload: Vec<u8>, padding: Option<u8>) -> (u8, Vec<u8>) {
    match padding {
        Some(length) => (flags | flag::PADDED, [vec![length], payload, vec![0; length.into()]].concat()),
        None => (flags, payload),
    }
}

/// What has come on a stream.
#[derive(Debug, Default)]
struct Answer {
    /// Final ones.
    statuses: Vec<u16>,
    body: Vec<u8>,
    has_ended: bool,
    /// The server has given it up, with this code.
    reset: Option<u32>,
}

/// What has come in all.
#[derive(Default)]
struct Received {
    /// Bytes looked at.
    used: usize,
    streams: BTreeMap<u32, Answer>,
    /// Content on all streams.
    total: u64,
    /// A header section that goes on, and whether it ends its stream.
    section: Option<(u32, bool, Vec<u8>)>,
    /// Settings of the server that nobody has acknowledged.
    settings: usize,
    /// The connection ends, with this code.
    goodbye: Option<u32>,
}

impl Received {
    /// Looks at the whole frames among what has come; says whether all obeys the rules.
    fn look(&mut self, bytes: &[u8], sent: &Sent) {
        while let Some((frame, length)) = frames::next(&bytes[self.used..]) {
            self.used += length;
            self.frame(&frame, sent);
        }
    }

    fn frame(&mut self, frame: &frames::Frame<'_>, sent: &Sent) {
        let stream = frame.stream;
        assert!(
            self.section.is_none() || frame.kind == kind::CONTINUATION,
            "a header section is interrupted by {frame:?}"
        );
        if matches!(frame.kind, kind::DATA | kind::HEADERS) {
            assert!(
                stream % 2 == 1 && (sent.streams.contains_key(&stream) || !sent.is_lawful),
                "{frame:?} answers nothing"
            );
            let answer = self.streams.entry(stream).or_default();
            assert!(!answer.has_ended && answer.reset.is_none(), "{frame:?} behind the end of its stream");
        }
        match frame.kind {
            kind::DATA => {
                let answer = self.streams.entry(stream).or_default();
                assert!(!answer.statuses.is_empty(), "content before the header section: {frame:?}");
                answer.body.extend_from_slice(frame.payload);
                answer.has_ended = frame.flags & flag::END_STREAM != 0;
                self.total += frame.payload.len() as u64;
                if sent.is_lawful {
                    let room = u64::from(sent.window) + sent.streams[&stream].room;
                    assert!(answer.body.len() as u64 <= room, "more than stream {stream} has room for");
                    assert!(self.total <= sent.room, "more than the connection has room for");
                }
            }
            kind::HEADERS | kind::CONTINUATION => {
                let ends = frame.flags & flag::END_STREAM != 0 && frame.kind == kind::HEADERS;
                let (of, _, section) = self.section.get_or_insert_with(|| (stream, ends, Vec::new()));
                assert_eq!(*of, stream, "a header section goes on elsewhere");
                section.extend_from_slice(frame.payload);
                if frame.flags & flag::END_HEADERS != 0 {
                    let (_, ends, section) = self.section.take().expect("it is there");
                    self.headers(stream, ends, &section);
                }
            }
            kind::RST_STREAM => {
                let code = frame.payload.try_into().expect("a code has four bytes");
                self.streams.entry(stream).or_default().reset = Some(u32::from_be_bytes(code));
            }
            kind::SETTINGS if frame.flags & flag::ACK == 0 => self.settings += 1,
            kind::GOAWAY => {
                let code = frame.payload[4..8].try_into().expect("a code has four bytes");
                self.goodbye = Some(u32::from_be_bytes(code));
            }
            _ => {}
        }
    }

    fn headers(&mut self, stream: u32, ends: bool, section: &[u8]) {
        let status = frames::status(section);
        let answer = self.streams.entry(stream).or_default();
        if status < 200 {
            assert!(answer.statuses.is_empty() && !ends, "{status} in the middle of {answer:?}");
            return;
        }
        answer.statuses.push(status);
        assert_eq!(answer.statuses.len(), 1, "stream {stream} is answered twice");
        answer.has_ended = ends;
    }

    /// A stream that is owed its answer and has not had all of it.
    fn missing(&self, sent: &Sent) -> Option<u32> {
        let is_missing = |stream: &u32| {
            self.streams.get(stream).is_none_or(|answer| !answer.has_ended && answer.reset.is_none())
        };
        sent.streams
            .iter()
            .find(|(stream, facts)| facts.is_owed() && is_missing(stream))
            .map(|(&stream, _)| stream)
    }
}

/// What an answer is to be.
fn check(facts: &Facts, answer: &Answer) {
    let [status] = *answer.statuses else { panic!("{facts:?} is not answered: {answer:?}") };
    // The server may let go of a stream whose client has more to say than anybody reads.
    assert!(matches!(answer.reset, None | Some(0)), "{facts:?} is given up: {answer:?}");
    assert!(answer.has_ended, "{facts:?} has only a part of its answer");
    let is_head = facts.method == Method::Head;
    assert!(!is_head || answer.body.is_empty(), "an answer to HEAD with content");
    let expected = match facts.route {
        Route::Nothing | Route::NoFile => 404,
        Route::Limited if facts.size as u64 > LIMIT => 413,
        Route::SmallFile | Route::LargeFile if !matches!(facts.method, Method::Get | Method::Head) => {
            assert!(status >= 400 || status == 204, "{status} for {facts:?}");
            return;
        }
        _ => 200,
    };
    assert_eq!(status, expected, "{facts:?} is answered with {answer:?}");
    if status != 200 || is_head {
        return;
    }
    let body = String::from_utf8_lossy(&answer.body);
    match facts.route {
        Route::Turn | Route::Loop => assert_eq!(body, facts.route.path()),
        Route::Whole | Route::WholeInTurn | Route::Pieces | Route::Limited => {
            assert_eq!(body, facts.size.to_string(), "of {facts:?}");
        }
        Route::Stream => assert_eq!(body, "onetwothree"),
        Route::Constant => assert_eq!(body, "constant"),
        Route::SmallFile => assert_eq!(body, "xxxxx"),
        Route::LargeFile => assert_eq!(answer.body.len(), LARGE),
        Route::NoFile | Route::Nothing | Route::Socket => unreachable!("it has no content of its own"),
    }
}

/// Reads until every answer that is owed has come, and gives room for them.
fn wait(client: &mut Client, sent: &mut Sent, received: &mut Received, grant: u32) {
    loop {
        received.look(&client.received, sent);
        let start = sent.wire.len();
        for _ in 0..std::mem::take(&mut received.settings) {
            sent.frame(kind::SETTINGS, flag::ACK, 0, b"");
        }
        let Some(missing) = received.missing(sent) else { break };
        assert!(received.goodbye.is_none(), "the connection ends before stream {missing} is answered");
        let has = received.streams.get(&missing).map_or(0, |answer| answer.body.len() as u64);
        // Settings may have made the window smaller than it ever was.
        if has + u64::from(grant) > sent.streams[&missing].room {
            sent.give_stream(missing, grant);
        }
        if received.total + u64::from(grant) > sent.room {
            sent.give(grant);
        }
        client.send(&sent.wire[start..]);
        assert!(client.receive(), "the connection ends before stream {missing} is answered");
    }
}

fuzz_target!(|input: Input<'_>| {
    let mut sent = Sent::new(input.window);
    for step in input.steps.iter().take(40) {
        if input.is_rude || !matches!(step, Step::Frame { .. } | Step::Raw(_)) {
            sent.step(step);
        }
    }
    let mut client = Client::new();
    let mut start = 0;
    for end in ends(&sent.wire, input.sizes).take(400) {
        client.send(&sent.wire[start..end]);
        start = end;
    }
    client.send(&sent.wire[start..]);
    let mut received = Received::default();
    if sent.is_lawful {
        wait(&mut client, &mut sent, &mut received, GRANT.max(input.grant.into()));
    }
    client.finish();
    while client.receive() {}
    received.look(&client.received, &sent);
    if sent.is_lawful {
        assert!(
            matches!(received.goodbye, None | Some(0)),
            "the connection ends with {:?}",
            received.goodbye
        );
        for (stream, facts) in sent.streams.iter().filter(|(_, facts)| facts.is_owed()) {
            check(facts, &received.streams[stream]);
        }
    }
});
