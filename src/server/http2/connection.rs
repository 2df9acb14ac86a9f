//! The frames of a connection: streams begin here, and GOAWAY ends them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use ::http::Request;
use bytes::Bytes;
use h2::server::{Connection as Frames, Handshake, SendResponse};
use h2::{Reason, RecvStream};
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::server::batch;
use crate::server::connection::Connection;
use crate::server::http2::bounds::{Streams, Watch, settings};
use crate::server::http2::request::{self, Young};
use crate::server::http2::task::Task;
use crate::server::http2::wire::Wire;
use crate::server::stream::Reading;

/// The HTTP/2 session, which the task of a connection drives.
pub(crate) struct Http2 {
    connection: Arc<Connection>,
    reading: Arc<Mutex<Reading>>,
    speaking: Speaking,
    /// Streams that began when this was last polled.
    young: Vec<Young>,
    streams: Arc<Streams>,
    watch: Watch,
    /// Buffer in which heads are assembled.
    scratch: Vec<u8>,
    goodbye: Goodbye,
    /// The task's waker, and the one that is passed on in its place.
    waker: Option<(Waker, Waker)>,
    /// Streams were open when this was last polled.
    streaming: bool,
    /// They wait only in `h2`, for the client to read the rest: the number of bytes written when they last
    /// moved.
    leaving: Option<u64>,
}

enum Speaking {
    Preface(Box<Handshake<Wire, Bytes>>),
    Frames(Box<Frames<Wire, Bytes>>),
}

impl Http2 {
    /// Takes over a connection, with the bytes read so far.
    pub(crate) fn new(connection: &Arc<Connection>, reading: &mut Reading) -> Box<Self> {
        let mut state = connection.lock();
        let early = Bytes::from(state.input.take());
        state.rearm();
        drop(state);
        let reading = Arc::new(Mutex::new(std::mem::replace(reading, Reading::Gone)));
        let streams = Streams::new(connection);
        let wire = Wire::new(Arc::clone(connection), Arc::clone(&reading), early, Arc::clone(&streams));
        let handshake = settings(&connection.server.config).handshake(wire);
        Box::new(Self {
            connection: Arc::clone(connection),
            reading,
            speaking: Speaking::Preface(Box::new(handshake)),
            young: Vec::new(),
            streams,
            watch: Watch::new(&connection.server.config),
            scratch: Vec::new(),
            goodbye: Goodbye::No,
            waker: None,
            streaming: false,
            leaving: None,
        })
    }

    /// Ready at the end: the connection is over, or only waits for the client to disconnect.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let waker = self.waker_for(context.waker());
        let context = &mut Context::from_waker(&waker);
        self.grow_up();
        if let Speaking::Preface(handshake) = &mut self.speaking {
            match Pin::new(&mut **handshake).poll(context) {
                Poll::Ready(Ok(frames)) => self.speaking = Speaking::Frames(Box::new(frames)),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                // No stream has begun that needs a response.
                Poll::Pending if self.is_over() => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        let Speaking::Frames(frames) = &mut self.speaking else { return Poll::Ready(()) };
        let flooded = self.watch.is_flooded(&self.streams);
        self.goodbye.say(&self.connection, frames, flooded);
        // All of them before the first is begun: immediate responses leave in one piece at the next poll.
        let mut begun = SmallVec::<[_; 4]>::new();
        loop {
            match frames.poll_accept(context) {
                Poll::Ready(Some(Ok(stream))) => begun.push(stream),
                // The client is gone, has broken a rule, or has got its last response.
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        let streaming = !begun.is_empty() || frames.has_streams();
        for stream in begun {
            self.begin(stream, context);
        }
        self.note(streaming);
        self.limit(streaming);
        Poll::Pending
    }

    /// Whether the connection has been silent for too long.
    fn is_over(&self) -> bool {
        self.connection.lock().multiplexed().is_some_and(|multiplexed| multiplexed.expired)
    }

    /// Gives the reading half back.
    pub(crate) fn give_back_reading(&self) -> Reading {
        std::mem::replace(&mut *self.reading.lock(), Reading::Gone)
    }

    /// A waker that wakes the task of this connection once for a batch of responses.
    fn waker_for(&mut self, own: &Waker) -> Waker {
        match &self.waker {
            Some((known, waker)) if known.will_wake(own) => waker.clone(),
            _ => {
                let waker = Waker::from(Arc::new(Later(own.clone())));
                self.waker = Some((own.clone(), waker.clone()));
                waker
            }
        }
    }

    /// Gives a task to each stream that is not over yet: it may have to wait.
    fn grow_up(&mut self) {
        for young in self.young.drain(..) {
            if young.is_over() {
                young.connection.release();
            } else {
                tokio::spawn(Task::new(young));
            }
        }
    }

    fn begin(&mut self, mut stream: (Request<RecvStream>, SendResponse<Bytes>), context: &mut Context<'_>) {
        if stream.1.poll_reset(context).is_ready() {
            // No handler has to run for a cancelled stream.
            self.streams.add_unbegun();
            return;
        }
        let young =
            request::begin(&self.connection, stream, self.streams.enter(), &mut self.scratch, context);
        if young.is_over() {
            young.connection.release();
        } else if young.needs_task() {
            tokio::spawn(Task::new(young));
        } else {
            self.young.push(young);
        }
    }

    /// Records whether streams are open: without one the connection has an idle timeout.
    fn note(&mut self, streaming: bool) {
        if self.streaming != streaming {
            self.streaming = streaming;
            let mut state = self.connection.lock();
            if let Some(multiplexed) = state.multiplexed() {
                multiplexed.fresh &= !streaming;
                multiplexed.streaming = streaming;
                // A stream that has begun since the timeout takes precedence.
                multiplexed.expired &= !(streaming && self.goodbye != Goodbye::Said);
            }
            state.rearm();
            if !streaming && self.connection.server.is_closing() {
                // The last response has been sent.
                drop(state);
                self.connection.wake();
            }
        }
    }
}

impl Http2 {
    /// Limits how long finished streams may wait in `h2`: their client has closed a window, or reads nothing.
    fn limit(&mut self, streaming: bool) {
        let written = self.streams.written();
        let leaving = match self.leaving {
            _ if !streaming || !self.streams.are_answered() => None,
            Some(before) if written == before => return,
            _ => Some(written),
        };
        if self.leaving != leaving {
            self.leaving = leaving;
            let mut state = self.connection.lock();
            if let Some(multiplexed) = state.multiplexed() {
                multiplexed.answered = leaving.is_some();
            }
            state.pace.reached(written);
            state.rearm();
        }
    }
}

/// Wakes at the end of a batch if one is open.
struct Later(Waker);

impl Wake for Later {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !batch::wake_later(&self.0) {
            self.0.wake_by_ref();
        }
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        for young in self.young.drain(..) {
            young.end();
        }
    }
}

/// The state of announcing the end of the connection (RFC 9113 section 6.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Goodbye {
    #[default]
    No,
    /// The client must begin no more streams.
    Announced,
    /// The final GOAWAY was sent.
    Said,
}

impl Goodbye {
    fn say(&mut self, connection: &Arc<Connection>, frames: &mut Frames<Wire, Bytes>, flooded: bool) {
        let idle = !frames.has_streams();
        let closing = connection.server.is_closing();
        let reason = if flooded { Reason::ENHANCE_YOUR_CALM } else { Reason::NO_ERROR };
        if *self == Self::Said {
            return;
        }
        let over = || {
            // A new client may have its first stream on the way.
            let mut state = connection.lock();
            state
                .multiplexed()
                .is_some_and(|multiplexed| multiplexed.expired || (closing && !multiplexed.fresh))
        };
        if flooded || (idle && over()) {
            *self = Self::Said;
            frames.abrupt_shutdown(reason);
        } else if closing && *self == Self::No {
            *self = Self::Announced;
            frames.graceful_shutdown();
        }
    }
}
