//! The state of a socket between its handshake and its end, all of it under the connection's lock.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::app::{Behavior, Lane};
use crate::config::SocketConfig;
use crate::pubsub::Topic;
use crate::server::connection::Locked;
use crate::server::overload::Seat;
use crate::server::websocket::ending::Finish;
use crate::server::websocket::event::Event;
use crate::server::websocket::timers::Timers;
use crate::server::websocket::{GOING_AWAY, SERVICE_RESTART, WebSocket};
use crate::websocket::deflate::Codec;
use crate::websocket::{OpCode, Receiver, encode_header};

/// Bytes of pongs that may wait for a client; then its pings are left unread.
const PONG_BOUND: usize = 64 * 1024;

/// The topics of a socket. Most sockets have none, so they hold only a pointer.
#[derive(Default)]
pub(super) struct Topics(pub(super) HashSet<Topic>);

/// One socket's state.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own; together they are no state machine"
)]
pub(crate) struct SocketState {
    behavior: Arc<Behavior>,
    /// The socket itself, until it ends.
    pub(super) handle: Option<Arc<WebSocket>>,
    /// A partly received message.
    pub(super) receiver: Option<Box<Receiver>>,
    pub(in crate::server) codec: Option<Box<Codec>>,
    /// Made when it first subscribes: most sockets that are idle hold little more than this struct.
    topics: Option<Box<Topics>>,
    pub(super) events: VecDeque<Event>,
    /// The weight of unhandled messages.
    load: usize,
    /// That was too much: reading goes on when half of it has been handled, and not for each event.
    paused: bool,
    /// User code that takes the messages itself has one, and may be replying to it: until it asks for the next one a client that
    /// has ended its side is not answered with the end.
    replying: bool,
    /// A job for this socket is queued or running.
    pub(super) scheduled: bool,
    /// Output has been buffered since the last [`Event::Drain`].
    pub(crate) full: bool,
    /// A caller waits for [`Event::Room`].
    pub(super) awaited: bool,
    pub(super) timers: Timers,
    /// Messages dropped for backpressure.
    pub(super) dropped: u64,
    /// Bytes of pongs sent since the client last read everything.
    pongs: usize,
    /// The client's side has ended; its earlier messages are being handled.
    pub(super) finish: Option<Box<Finish>>,
    /// A fragmented message is being sent; other messages wait here until it is complete.
    pub(super) fragments: Option<Box<super::send::Fragments>>,
    /// The seat of the connection, which is gone: kept until user code has handled the earlier messages.
    seat: Option<Arc<Seat>>,
}

impl SocketState {
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
            replying: false,
            scheduled: false,
            full: false,
            awaited: false,
            dropped: 0,
            pongs: 0,
            finish: None,
            fragments: None,
            seat: None,
        }
    }

    pub(in crate::server) fn config(&self) -> &SocketConfig {
        &self.behavior.config
    }

    /// Whether user code takes its events itself.
    pub(super) fn is_pulled(&self) -> bool {
        self.behavior.pulled
    }

    /// The code for the end of the server.
    pub(crate) fn code_of_shutdown(&self) -> u16 {
        if self.behavior.pulled { SERVICE_RESTART } else { GOING_AWAY }
    }

    /// Whether neither side has ended it.
    pub(crate) fn is_open(&self) -> bool {
        self.handle.is_some()
    }

    /// The time of the sweeper's next check.
    pub(crate) fn due(&self) -> u64 {
        self.timers.due()
    }

    /// Whether more may be read.
    pub(crate) fn wants_more(&self) -> bool {
        self.finish.is_none() && !self.paused && self.pongs < PONG_BOUND
    }

    /// Bytes came from the client, or were sent to it.
    pub(super) fn hear(&mut self, now: u64) {
        // A deferred end has a limit of its own.
        if self.finish.is_none() {
            self.timers.hear(&self.behavior.config, now);
        }
    }

    pub(super) fn count_pong(&mut self, length: usize) {
        self.pongs += length;
    }

    /// Whether all received messages have been handled.
    pub(super) fn is_caught_up(&self) -> bool {
        self.events.is_empty() && self.load == 0 && !self.replying
    }

    /// User code asks for the next message: it has replied to the one before.
    pub(super) fn ask_for_message(&mut self) {
        self.replying = false;
    }

    /// Whether the client's side has ended.
    pub(super) fn is_finishing(&self) -> bool {
        self.finish.is_some()
    }

    /// Takes the deferred end, once it is due.
    pub(super) fn take_finish(&mut self) -> Option<Box<Finish>> {
        if self.is_caught_up() { self.finish.take() } else { None }
    }

    /// Later output and received messages are pointless; false if it had ended before.
    pub(super) fn abort(&mut self) -> bool {
        self.finish = None;
        let load = &mut self.load;
        self.events.retain(|event| {
            let kept = !event.is_moot();
            *load = load.saturating_sub(if kept { 0 } else { event.weight() });
            kept
        });
        self.is_open()
    }

    /// The client has reset its connection: nobody waits for what it sent last. A client that has said goodbye before is believed.
    pub(crate) fn forget_unheard(&mut self) {
        if self.finish.is_none() {
            self.abort();
        }
    }

    /// The connection is gone; its seat stays taken until user code has handled its messages.
    pub(crate) fn keep_seat(&mut self, seat: Option<Arc<Seat>>) {
        self.seat = seat;
        self.give_seat_back();
    }

    fn give_seat_back(&mut self) {
        if self.seat.is_some() && self.is_caught_up() && !self.is_open() {
            self.seat = None;
        }
    }

    /// Bytes of buffered output; `outside` of them are beyond the kernel's buffer.
    pub(in crate::server) fn waiting(&self, outside: usize) -> usize {
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

    pub(in crate::server) fn has_joined(&self, topic: &[u8]) -> bool {
        self.is_open() && self.topics.as_ref().is_some_and(|topics| topics.0.contains(topic))
    }

    pub(super) fn topics(&self) -> Vec<Topic> {
        match &self.topics {
            Some(topics) if self.is_open() => topics.0.iter().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// The topics of a socket that has ended, whatever is left to deliver.
    pub(super) fn take_topics_of_ended(&mut self) -> Option<Box<Topics>> {
        if self.is_open() { None } else { self.topics.take() }
    }

    /// The topics to leave, if only the end is left to deliver (C-C-09).
    pub(super) fn take_topics_at_end(&mut self) -> Option<(Box<Topics>, Option<Event>)> {
        let topics = self.topics.take_if(|_| matches!(self.events.front(), Some(Event::Close { .. })))?;
        // No other thread must find the end meanwhile.
        Some((topics, self.events.pop_front()))
    }

    /// Queues the events of topics left at the end, before the end itself.
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

    /// Queues an event, if there is a listener, and schedules the socket.
    pub(super) fn push(&mut self, event: Event) {
        if self.is_open() {
            self.keep(event);
            self.schedule();
        }
    }

    /// Queues the socket behind the others, for its next event.
    pub(super) fn requeue(&mut self, handle: &Arc<WebSocket>) {
        match self.events.front() {
            Some(event) => {
                self.scheduled = true;
                handle.dispatch(event.lane(&self.behavior));
            }
            None => self.scheduled = false,
        }
    }

    /// Queues an event without scheduling the socket.
    pub(super) fn keep(&mut self, event: Event) {
        let wanted = match &event {
            // Behind messages that nobody takes it would come too late.
            Event::Room if self.behavior.pulled => {
                if let Some(handle) = &self.handle {
                    handle.dispatch(Lane::Loop);
                }
                false
            }
            Event::Room => true,
            Event::Text(_) | Event::Binary(_) if self.behavior.pulled => true,
            // The topics have to be left, and user code's data released, now or by an event on its way.
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

    /// Schedules the socket, if it has events and is not scheduled.
    pub(super) fn schedule(&mut self) {
        if !self.scheduled
            && let (Some(event), Some(handle)) = (self.events.front(), &self.handle)
        {
            self.scheduled = true;
            handle.dispatch(event.lane(&self.behavior));
        }
    }

    /// Counts an event as handled; true if reading may go on.
    pub(super) fn finish(&mut self, weight: usize) -> bool {
        self.load = self.load.saturating_sub(weight);
        self.give_seat_back();
        let resumes = self.paused && self.load <= self.config().inbound_buffer / 2;
        self.paused &= !resumes;
        resumes
    }

    pub(super) fn next_event(&mut self, handle: &Arc<WebSocket>, lane: Lane) -> Option<Event> {
        match self.events.front() {
            Some(event) if event.lane(&self.behavior) == lane => {
                self.replying = self.behavior.pulled && !matches!(event, Event::Close { .. });
                return self.events.pop_front();
            }
            Some(_) => self.requeue(handle),
            None => {
                self.scheduled = false;
                self.give_seat_back();
                // Most sockets are idle most of the time: their queue allocates on demand.
                self.events = VecDeque::new();
            }
        }
        None
    }
}

impl Locked<'_> {
    /// The client has read everything.
    pub(crate) fn socket_has_room(&mut self) {
        let connection = self.connection;
        let Some(socket) = &mut self.socket else { return };
        let held_back = !socket.wants_more();
        socket.pongs = 0;
        if held_back && socket.wants_more() {
            connection.wake();
        }
        if std::mem::take(&mut socket.awaited) {
            socket.push(Event::Room);
        }
        if std::mem::take(&mut socket.full) {
            socket.hear(connection.server.deadlines.now());
            socket.push(Event::Drain);
            self.rearm();
        }
    }

    /// A deadline has passed.
    pub(crate) fn expire_socket(&mut self) {
        let now = self.connection.server.deadlines.now();
        let Some(socket) = &mut self.socket else { return };
        if let Some(finish) = socket.finish.take() {
            self.perform_finish(*finish);
        } else if socket.timers.life <= now {
            self.end_socket(1000, Some(b"please reconnect"));
        } else if socket.timers.idle <= now && socket.paused {
            // Reading is paused on our side.
            socket.hear(now);
        } else if socket.timers.idle <= now {
            if socket.config().send_pings_automatically && !socket.timers.pinged {
                socket.timers.ping(&socket.behavior.config, now);
                self.out.append_with(|out| encode_header(out, true, false, OpCode::Ping, 0));
            } else {
                let text = "WebSocket timed out from inactivity";
                self.finish_socket(Finish::Failed { code: GOING_AWAY, text: text.into(), told: Some(text) });
            }
        }
        self.rearm();
    }

    /// Counts an event as handled. If it was the last of a client whose side has ended, the end comes now.
    pub(super) fn finish_event(&mut self, weight: usize) {
        let connection = self.connection;
        let Some(socket) = &mut self.socket else { return };
        if socket.finish(weight) {
            // While reading was paused no byte could arrive.
            socket.hear(connection.server.deadlines.now());
            connection.wake();
        }
        if let Some(finish) = socket.take_finish() {
            self.perform_finish(*finish);
            self.flush_on();
        }
    }
}
