//! The task of a connection: it waits for the socket, takes what arrives, and does what needs waiting.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::app::Signal;
use crate::server::connection::{Connection, HIGH_WATER, LastAnswer, Phase, Request};
use crate::server::http2::Http2;
use crate::server::stream::{READ_SIZE, Reading};

/// Bytes of pipelined requests kept while one is in progress; then the socket is left alone.
const PIPELINE_BOUND: usize = 64 * 1024;

/// The task of a connection: it waits for the socket, and does what needs waiting.
pub(crate) struct Drive {
    connection: Arc<Connection>,
    reading: Reading,
    /// What reads instead, once the client speaks HTTP/2.
    http2: Option<Box<Http2>>,
}

impl Drive {
    pub(crate) fn new(connection: Arc<Connection>, reading: Reading) -> Self {
        connection.lock().rearm();
        Self { connection, reading, http2: None }
    }
}

thread_local! {
    /// One read buffer a thread: an idle connection holds none.
    static SCRATCH: std::cell::RefCell<Box<[u8]>> = std::cell::RefCell::new(vec![0; READ_SIZE].into_boxed_slice());
}

/// Room to read into, for as long as `read` runs.
pub(super) fn with_scratch<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| read(scratch))
}

/// What the task should wait for.
#[expect(clippy::struct_excessive_bools, reason = "independent questions, answered under one lock")]
pub(super) struct Wants {
    pub(super) over: bool,
    /// The client speaks HTTP/2.
    multiplexed: bool,
    /// The client sends no more, and what it had sent is dealt with.
    ended: bool,
    room: bool,
    read: bool,
    parse: bool,
    /// A file that has had its share is to go on.
    file: bool,
}

/// What the task does next.
pub(super) enum Step {
    /// Something has changed: it looks again.
    Again,
    /// It takes what the client sends.
    Read,
    /// It waits to be woken.
    Wait,
}

impl Future for Drive {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { connection, reading, http2 } = self.get_mut();
        connection.register(context.waker());
        loop {
            let wants = connection.wants();
            if wants.over {
                return Poll::Ready(());
            }
            if wants.multiplexed {
                ready!(http2.get_or_insert_with(|| Http2::new(connection, reading)).poll(context));
                if let Some(http2) = http2.take() {
                    *reading = http2.give_back_reading();
                }
                connection.part();
                continue;
            }
            match connection.attend(&wants, context) {
                Step::Again => continue,
                Step::Wait => return Poll::Pending,
                Step::Read => {}
            }
            let read = SCRATCH.with_borrow_mut(|scratch| {
                let read = reading.poll_read(context, scratch);
                if let Poll::Ready(Ok(count @ 1..)) = read {
                    connection.received(&scratch[..count]);
                }
                read
            });
            if reading.owes() {
                connection.answer_session();
            }
            match read {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => connection.end_of_input(),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => connection.vanish(),
            }
        }
    }
}

impl Drop for Drive {
    /// However the task ends, a panic included, nobody waits for this connection any longer.
    fn drop(&mut self) {
        self.connection.lock().abort();
        self.connection.release();
        self.connection.server.forget(self.connection.id);
    }
}

impl Connection {
    /// Does what is wanted before anything is read; the task of a stream does the same.
    pub(super) fn attend(self: &Arc<Self>, wants: &Wants, context: &mut Context<'_>) -> Step {
        if wants.room {
            match self.poll_room(context) {
                Poll::Ready(Ok(())) => {
                    self.room();
                    return Step::Again;
                }
                Poll::Ready(Err(_)) => {
                    self.lock().abort();
                    return Step::Again;
                }
                Poll::Pending => {}
            }
        }
        if wants.file {
            self.lock().flush();
            // Others on this thread have their turn in between.
            context.waker().wake_by_ref();
        }
        if wants.parse {
            self.received(b"");
            return Step::Again;
        }
        if wants.ended {
            self.end_of_input();
            return Step::Again;
        }
        if wants.read { Step::Read } else { Step::Wait }
    }

    pub(super) fn wants(self: &Arc<Self>) -> Wants {
        let mut state = self.lock();
        let has_room = state.out.len() < HIGH_WATER;
        // Where the kernel has no room it is this task that waits for some. Otherwise another thread is writing, and wakes it.
        let held_up = state.is_head() && !has_room && !state.out.is_blocked();
        state.out.set_held_up(held_up);
        // Whether what comes would begin something, and whether it is read.
        let (idle, read) = match state.phase() {
            Phase::Head(_) => (has_room, has_room),
            Phase::Busy(request) if request.intake.is_complete() => {
                (false, state.input.len() < PIPELINE_BOUND)
            }
            Phase::Busy(request) => (false, request.intake.wants_more(self.server.config.body_buffer)),
            Phase::Socket => {
                let wants_more = state.socket.as_ref().is_some_and(|session| session.wants_more());
                (wants_more, wants_more)
            }
            Phase::Closing(_) => (false, true),
            Phase::Multiplexed(_) | Phase::Over => (false, false),
        };
        let has_ended = state.input.has_ended();
        // What would be thrown away of a body that has been answered does not come any more.
        let drained = has_ended && state.request().is_some_and(Request::is_draining);
        let parse = idle && state.input.has_unsearched();
        Wants {
            over: state.is_over(),
            multiplexed: matches!(state.phase(), Phase::Multiplexed(_)),
            ended: (idle && !parse && has_ended) || drained,
            room: state.out.is_blocked(),
            read: read && !has_ended,
            parse,
            file: state.has_file() && state.out.may_flush() && !state.out.is_corked(),
        }
    }

    /// Sends what the TLS session has to say of its own.
    fn answer_session(self: &Arc<Self>) {
        let mut state = self.lock();
        // A thread that is writing looks for it when done; where room is waited for, it leaves with what waits.
        if state.out.may_flush() {
            state.transmit(b"", b"");
        }
    }

    /// HTTP/2 has ended, and said why. A client that has sent more than was read would see a reset instead.
    fn part(self: &Arc<Self>) {
        self.lock().close_multiplexed();
    }

    pub(super) fn received(self: &Arc<Self>, bytes: &[u8]) {
        let mut state = self.lock();
        state.receive(bytes);
        state.flush();
    }

    /// The client has reset the connection.
    fn vanish(self: &Arc<Self>) {
        let mut state = self.lock();
        if let Some(session) = &mut state.socket {
            session.forget_unheard();
        }
        state.abort();
    }

    pub(super) fn end_of_input(self: &Arc<Self>) {
        let mut state = self.lock();
        state.input.end();
        let (sending, unsearched) = (state.out.is_sending(), state.input.has_unsearched());
        match state.phase() {
            // The file that is the answer leaves.
            Phase::Busy(request) if request.file_leaves => {}
            // The request can still be answered; user code is told that the client may be gone.
            Phase::Busy(request) if request.intake.is_complete() && !self.server.is_closing() => {
                if let Some(exchange) = request.exchange.clone() {
                    exchange.mark_aborted();
                    self.server.app.signal(exchange, Signal::Aborted);
                }
                state.rearm();
            }
            // Requests that came before the end, or messages that wait for their handlers: another thread may have
            // completed the answer before them since the socket was read.
            Phase::Head(_) | Phase::Socket if unsearched => {}
            // What was answered still has to leave.
            Phase::Head(_) if sending => state.close_after_flush(LastAnswer::Whole),
            Phase::Busy(request) if request.is_draining() && sending => {
                state.close_after_flush(LastAnswer::Whole);
            }
            Phase::Closing(_) if sending => {}
            _ => state.abort(),
        }
    }

    pub(super) fn room(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.out.is_flushing() {
            state.out.unblock();
        } else {
            // What waits counts as waiting until the kernel has taken it.
            state.transmit(b"", b"");
        }
        state.rearm();
        if state.is_head() && !state.input.is_empty() {
            state.receive(b"");
            state.flush();
        }
    }
}
