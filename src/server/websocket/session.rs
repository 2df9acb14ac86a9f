//! What a socket is between its handshake and its end: everything here is under the connection's lock.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::app::{Behavior, Lane, Listener};
use crate::config::SocketConfig;
use crate::pubsub::Topic;
use crate::server::connection::{Connection, NEVER, Phase, State};
use crate::server::websocket::{GOING_AWAY, WebSocket};
use crate::websocket::deflate::Codec;
use crate::websocket::{OpCode, Receiver, close_payload, encode_header};

/// What an event counts for, besides its bytes, against the bound of what was received and not dealt with.
const EVENT_WEIGHT: usize = 64;
/// Bytes of pongs that may wait for a client; then its pings are left unread.
const PONG_BOUND: usize = 64 * 1024;
/// The most milliseconds that a timer may be late, so that many sockets share a sweep.
const GRAIN: u64 = 4000;
/// How long the end of a socket is put off for what came before it.
const LINGER: Duration = Duration::from_secs(2);

/// Something that happened on a socket.
#[derive(Debug)]
pub enum Event {
    /// The handshake is complete.
    Open,
    /// A text message; it is valid UTF-8.
    Text(Vec<u8>),
    /// A binary message.
    Binary(Vec<u8>),
    /// A ping, which has been answered.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// Something had to wait for the client, and nothing does any more.
    Drain,
    /// The same, for those who asked with [`WebSocket::await_room`]; also when the socket ends meanwhile.
    Room,
    /// The socket has joined or left a topic.
    Subscription {
        /// Which.
        topic: Topic,
        /// Subscribers now.
        count: usize,
        /// Subscribers before.
        before: usize,
    },
    /// The end: nothing follows.
    Close {
        /// The code, from the client or from whoever ended the socket here; 1005 without one, 1006 without a close frame.
        code: u16,
        /// The reason.
        reason: Option<Box<[u8]>>,
    },
}

impl Event {
    /// Who listens.
    pub fn listener(&self, behavior: &Behavior) -> Option<Listener> {
        match self {
            Self::Open => behavior.open,
            Self::Text(_) | Self::Binary(_) => behavior.message,
            Self::Ping(_) => behavior.ping,
            Self::Pong(_) => behavior.pong,
            Self::Drain => behavior.drain,
            Self::Room => None,
            Self::Subscription { .. } => behavior.subscription,
            Self::Close { .. } => behavior.close,
        }
    }

    fn lane(&self, behavior: &Behavior) -> Lane {
        match (self, self.listener(behavior)) {
            (_, Some(listener)) => listener.lane,
            // Futures are completed on the loop's thread.
            (Self::Room, None) => Lane::Loop,
            // An end that only lets go of what user code keeps does so where its other listeners run.
            (_, None) => {
                let other = behavior.message.or(behavior.open).or(behavior.upgrade);
                other.map_or(Lane::Turn, |listener| listener.lane)
            }
        }
    }

    /// What it counts for until it has been dealt with.
    pub fn weight(&self) -> usize {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => {
                EVENT_WEIGHT + bytes.len()
            }
            _ => 0,
        }
    }

    /// Whether it is pointless once this side has ended the socket.
    fn is_moot(&self) -> bool {
        !matches!(self, Self::Open | Self::Room | Self::Subscription { .. } | Self::Close { .. })
    }
}

/// How a client's part of a socket came to its end.
#[derive(Debug)]
pub(super) enum Finish {
    /// It sent a close frame, which is answered with the same (RFC 6455 5.5.1).
    Closed {
        /// None for a close frame without one.
        code: Option<u16>,
        reason: Vec<u8>,
    },
    /// It broke a rule, or was silent for too long: it learns `code` and `text`, user code hears 1006 (C-C-07).
    Failed { code: u16, text: String, told: Option<&'static str> },
}

/// When the sweeper has to look at a socket, in milliseconds of the server's clock.
#[derive(Debug)]
pub(crate) struct Timers {
    idle: u64,
    life: u64,
    /// A ping was sent that nothing has come after.
    pinged: bool,
}

impl Timers {
    fn new(config: &SocketConfig, now: u64) -> Self {
        let life = if config.max_lifetime.is_zero() { NEVER } else { after(now, config.max_lifetime) };
        let mut timers = Self { idle: NEVER, life, pinged: false };
        timers.hear(config, now);
        timers
    }

    pub(crate) fn due(&self) -> u64 {
        self.idle.min(self.life)
    }

    /// Something came.
    fn hear(&mut self, config: &SocketConfig, now: u64) {
        self.pinged = false;
        if !config.idle_timeout.is_zero() {
            let silence = if config.send_pings_automatically {
                config.idle_timeout.saturating_sub(margin(config.idle_timeout))
            } else {
                config.idle_timeout
            };
            self.idle = after(now, silence);
        }
    }
}

/// `after` from `now`, rounded up so that many sockets fall due together: by no more than a sixteenth.
fn after(now: u64, after: Duration) -> u64 {
    let after = u64::try_from(after.as_millis()).unwrap_or(NEVER);
    let grain = (after / 16).clamp(1, GRAIN);
    now.saturating_add(after).checked_next_multiple_of(grain).unwrap_or(NEVER - 1).min(NEVER - 1)
}

/// How long before the idle timeout a ping is sent (C-F-06): 4 s, doubled up to 16 while a quarter of the timeout allows.
fn margin(idle_timeout: Duration) -> Duration {
    let mut margin = Duration::from_secs(4);
    while margin < Duration::from_secs(16) && idle_timeout >= 4 * margin {
        margin *= 2;
    }
    margin.min(idle_timeout / 2)
}

/// The topics of a socket. Most sockets that are many have none or are idle, so they hold a pointer only.
#[derive(Default)]
pub(super) struct Topics(pub(super) HashSet<Topic>);

/// One socket's state.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own; together they are no state machine"
)]
pub(crate) struct Session {
    behavior: Arc<Behavior>,
    /// The socket itself, until it ends.
    handle: Option<Arc<WebSocket>>,
    /// A message that has come in part.
    pub(super) receiver: Option<Box<Receiver>>,
    pub(super) codec: Option<Box<Codec>>,
    /// Made when it first subscribes: most sockets that are idle hold little more than this struct.
    topics: Option<Box<Topics>>,
    events: VecDeque<Event>,
    /// What was received and not dealt with weighs.
    load: usize,
    /// That was too much: reading goes on when half of it has been dealt with, and not for each event.
    paused: bool,
    /// A job for this socket is queued or running.
    scheduled: bool,
    /// Something had to wait for the client since [`Event::Drain`] was last sent.
    pub(crate) full: bool,
    /// Somebody waits for [`Event::Room`].
    pub(super) awaited: bool,
    pub(crate) timers: Timers,
    /// Messages dropped for backpressure.
    pub(super) dropped: u64,
    /// Bytes of pongs sent since the client last took everything.
    pongs: usize,
    /// The client has come to its end; what it sent before is being dealt with.
    finish: Option<Box<Finish>>,
    /// A fragmented message is being sent; what else is sent waits here until it is complete.
    pub(super) fragments: Option<Box<super::send::Fragments>>,
}

impl Session {
    pub(super) fn new(
        behavior: Arc<Behavior>,
        handle: Arc<WebSocket>,
        codec: Option<Box<Codec>>,
        now: u64,
    ) -> Self {
        Self {
            timers: Timers::new(&behavior.config, now),
            behavior,
            handle: Some(handle),
            receiver: None,
            codec,
            topics: None,
            events: VecDeque::new(),
            load: 0,
            paused: false,
            scheduled: false,
            full: false,
            awaited: false,
            dropped: 0,
            pongs: 0,
            finish: None,
            fragments: None,
        }
    }

    pub(super) fn config(&self) -> &SocketConfig {
        &self.behavior.config
    }

    /// Whether neither side has ended it.
    pub(crate) fn is_open(&self) -> bool {
        self.handle.is_some()
    }

    /// Whether more may be read.
    pub(crate) fn wants_more(&self) -> bool {
        self.finish.is_none() && !self.paused && self.pongs < PONG_BOUND
    }

    /// Something came from the client, or left for it.
    pub(super) fn hear(&mut self, now: u64) {
        // An end that is put off has a limit of its own.
        if self.finish.is_none() {
            self.timers.hear(&self.behavior.config, now);
        }
    }

    pub(super) fn count_pong(&mut self, length: usize) {
        self.pongs += length;
    }

    /// Whether everything that came has been dealt with.
    fn is_settled(&self) -> bool {
        self.events.is_empty() && self.load == 0
    }

    /// Takes the end that was put off, once it is due.
    pub(super) fn take_finish(&mut self) -> Option<Box<Finish>> {
        self.finish.take_if(|_| self.events.is_empty() && self.load == 0)
    }

    /// Whatever is sent from now on and whatever has come is pointless; false when it had ended before.
    pub(super) fn cut(&mut self) -> bool {
        self.finish = None;
        self.events.retain(|event| !event.is_moot());
        self.is_open()
    }

    /// Bytes that wait for the client, `outside` of them beyond what the kernel has taken.
    pub(super) fn waiting(&self, outside: usize) -> usize {
        outside + self.fragments.as_ref().map_or(0, |fragments| fragments.held.len())
    }

    // ---- topics -------------------------------------------------------------------------------------------------

    pub(super) fn join(&mut self, topic: &Topic) -> bool {
        if self.is_open() {
            self.topics.get_or_insert_default().0.insert(Topic::clone(topic));
        }
        self.is_open()
    }

    pub(super) fn leave(&mut self, topic: &[u8]) {
        if let Some(topics) = &mut self.topics {
            topics.0.remove(topic);
        }
        self.topics.take_if(|topics| topics.0.is_empty());
    }

    pub(super) fn has_joined(&self, topic: &[u8]) -> bool {
        self.is_open() && self.topics.as_ref().is_some_and(|topics| topics.0.contains(topic))
    }

    pub(super) fn topics(&self) -> Vec<Topic> {
        match &self.topics {
            Some(topics) if self.is_open() => topics.0.iter().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// The topics to leave, when the end is all that is left to tell (C-C-09).
    pub(super) fn take_topics_at_end(&mut self) -> Option<(Box<Topics>, Option<Event>)> {
        let topics = self.topics.take_if(|_| matches!(self.events.front(), Some(Event::Close { .. })))?;
        // Nobody else is to find the end meanwhile.
        Some((topics, self.events.pop_front()))
    }

    /// Tells of topics left at the end, before the end itself.
    pub(super) fn announce_leaving(&mut self, left: Vec<(Topic, usize)>, end: Option<Event>) {
        self.events.extend(end);
        if self.behavior.subscription.is_none() {
            return;
        }
        for (topic, count) in left.into_iter().rev() {
            self.events.push_front(Event::Subscription { topic, count, before: count + 1 });
        }
    }

    // ---- events -------------------------------------------------------------------------------------------------

    /// Queues an event, if anybody listens, and has the socket run.
    pub(super) fn push(&mut self, event: Event) {
        if self.is_open() {
            self.keep(event);
            self.schedule();
        }
    }

    /// Has the socket queue behind the others, for its next event.
    pub(super) fn requeue(&mut self, handle: &Arc<WebSocket>) {
        match self.events.front() {
            Some(event) => {
                self.scheduled = true;
                handle.dispatch(event.lane(&self.behavior));
            }
            None => self.scheduled = false,
        }
    }

    /// Queues an event without having the socket run.
    pub(super) fn keep(&mut self, event: Event) {
        let wanted = match &event {
            Event::Room => true,
            // Somebody has to leave the topics, and to let go of what user code keeps, or will by an event on its way.
            Event::Close { .. } => {
                self.behavior.close.is_some()
                    || self.scheduled
                    || self.topics.is_some()
                    || self.handle.as_ref().is_some_and(|handle| handle.user().get().is_some())
            }
            event => event.listener(&self.behavior).is_some(),
        };
        if wanted {
            self.load += event.weight();
            self.paused |= self.load >= self.config().inbound_buffer;
            self.events.push_back(event);
        }
    }

    /// Has the socket run, if it has events and does not.
    pub(super) fn schedule(&mut self) {
        if !self.scheduled
            && let (Some(event), Some(handle)) = (self.events.front(), &self.handle)
        {
            self.scheduled = true;
            handle.dispatch(event.lane(&self.behavior));
        }
    }

    /// Counts an event as dealt with; true when reading may go on.
    pub(super) fn finish(&mut self, weight: usize) -> bool {
        self.load = self.load.saturating_sub(weight);
        let resumes = self.paused && self.load <= self.config().inbound_buffer / 2;
        self.paused &= !resumes;
        resumes
    }

    pub(super) fn next_event(&mut self, handle: &Arc<WebSocket>, lane: Lane) -> Option<Event> {
        match self.events.front() {
            Some(event) if event.lane(&self.behavior) == lane => {
                return self.events.pop_front();
            }
            Some(_) => self.requeue(handle),
            None => {
                self.scheduled = false;
                // Most sockets are idle most of the time: their queue takes its room when it is needed.
                self.events = VecDeque::new();
            }
        }
        None
    }
}

/// The socket is over: nothing is sent or received on it any more, and user code will hear so, once. False when it was
/// over before.
pub(crate) fn closed(state: &mut State, code: u16, reason: Option<&[u8]>) -> bool {
    let Some(session) = &mut state.socket else { return false };
    if !session.is_open() {
        return false;
    }
    if std::mem::take(&mut session.awaited) {
        session.keep(Event::Room);
    }
    session.keep(Event::Close { code, reason: reason.map(Into::into) });
    session.schedule();
    session.receiver = None;
    session.codec = None;
    session.fragments = None;
    let handle = session.handle.take();
    if session.events.is_empty() && !session.scheduled {
        state.socket = None;
    }
    // Whoever has yet to hear of it holds it too, so nothing is dropped here but a count.
    drop(handle);
    true
}

/// This side ends the socket: a close frame leaves, what had come and was not dealt with is dropped.
pub(crate) fn end(connection: &Arc<Connection>, state: &mut State, code: u16, reason: Option<&[u8]>) -> bool {
    if !state.socket.as_mut().is_some_and(|session| session.cut()) {
        return false;
    }
    write_close(state, code, reason.unwrap_or_default());
    closed(state, code, reason);
    connection.begin_closing(state);
    true
}

/// The client has come to its end: the socket ends when what it sent before has been dealt with, for answers to that
/// still reach it; but no later than [`LINGER`].
pub(super) fn finish(connection: &Arc<Connection>, state: &mut State, finish: Finish) {
    let Some(session) = &mut state.socket else { return };
    if session.is_settled() && !session.scheduled {
        perform(connection, state, finish);
        return;
    }
    session.finish = Some(Box::new(finish));
    session.timers =
        Timers { idle: NEVER, life: after(connection.server.deadlines.now(), LINGER), pinged: false };
    connection.rearm(state);
}

pub(super) fn perform(connection: &Arc<Connection>, state: &mut State, finish: Finish) {
    match finish {
        Finish::Closed { code, reason } => {
            write_close(state, code.unwrap_or_default(), &reason);
            tell_closed(state, code, &reason);
        }
        Finish::Failed { code, text, told } => {
            write_close(state, code, text.as_bytes());
            closed(state, super::ABNORMAL, told.map(str::as_bytes));
        }
    }
    connection.begin_closing(state);
}

fn tell_closed(state: &mut State, code: Option<u16>, reason: &[u8]) -> bool {
    match code {
        Some(code) => closed(state, code, Some(reason)),
        None => closed(state, super::NO_STATUS, None),
    }
}

/// The connection is lost. A client that has said goodbye is believed.
pub(crate) fn lost(state: &mut State) {
    match state.socket.as_mut().and_then(|session| session.finish.take()).map(|finish| *finish) {
        Some(Finish::Closed { code, reason }) => tell_closed(state, code, &reason),
        Some(Finish::Failed { told, .. }) => closed(state, super::ABNORMAL, told.map(str::as_bytes)),
        None => closed(state, super::ABNORMAL, None),
    };
}

fn write_close(state: &mut State, code: u16, reason: &[u8]) {
    let payload = close_payload(code, reason);
    state.out.append_with(|out| {
        encode_header(out, true, false, OpCode::Close, payload.len());
        out.extend_from_slice(&payload);
    });
}

/// The client has taken everything.
pub(crate) fn has_room(connection: &Connection, state: &mut State) {
    let Some(session) = &mut state.socket else { return };
    let held_back = !session.wants_more();
    session.pongs = 0;
    if held_back && session.wants_more() {
        connection.wake();
    }
    if std::mem::take(&mut session.full) || session.awaited {
        session.hear(connection.server.deadlines.now());
        if std::mem::take(&mut session.awaited) {
            session.keep(Event::Room);
        }
        session.push(Event::Drain);
        connection.rearm(state);
    }
}

/// A deadline has passed.
pub(crate) fn expire(connection: &Arc<Connection>, state: &mut State) {
    let now = connection.server.deadlines.now();
    let Some(session) = &mut state.socket else { return };
    if let Some(finish) = session.finish.take() {
        perform(connection, state, *finish);
    } else if session.timers.life <= now {
        end(connection, state, 1000, Some(b"please reconnect"));
    } else if session.timers.idle <= now && session.paused {
        // It is we who do not listen.
        session.hear(now);
    } else if session.timers.idle <= now {
        let idle_timeout = session.config().idle_timeout;
        if session.config().send_pings_automatically && !session.timers.pinged {
            session.timers.pinged = true;
            session.timers.idle = after(now, margin(idle_timeout));
            state.out.append_with(|out| encode_header(out, true, false, OpCode::Ping, 0));
        } else {
            let text = "WebSocket timed out from inactivity";
            finish(
                connection,
                state,
                Finish::Failed { code: GOING_AWAY, text: text.into(), told: Some(text) },
            );
        }
    }
    connection.rearm(state);
}

impl State {
    /// Whether the connection speaks WebSocket and neither side has ended that.
    pub(super) fn speaks(&self) -> bool {
        self.phase == Phase::Socket
    }
}
