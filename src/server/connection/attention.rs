//! What the task of a connection looks at each time that it is woken, and what it does then. A stream of HTTP/2 has a task of its
//! own, which asks the same.

use std::sync::Arc;
use std::task::{Context, Poll};

use crate::app::Signal;
use crate::server::connection::{ActiveRequest, Connection, HIGH_WATER, LastAnswer, Phase};

/// Bytes of pipelined requests kept while one is in progress; then the socket is left alone.
const PIPELINE_BOUND: usize = 64 * 1024;

/// What the task should wait for.
#[expect(clippy::struct_excessive_bools, reason = "independent questions, answered under one lock")]
pub(crate) struct Wants {
    pub(in crate::server) over: bool,
    /// The client speaks HTTP/2.
    pub(in crate::server) multiplexed: bool,
    /// The client sends no more, and what it had sent is dealt with.
    ended: bool,
    room: bool,
    read: bool,
    parse: bool,
    /// A file that has had its share is to go on.
    file: bool,
}

/// What the task does next.
pub(crate) enum Todo {
    /// Something has changed: it looks again.
    Again,
    /// It takes what the client sends.
    Read,
    /// It waits to be woken.
    Wait,
}

impl Connection {
    /// Does what is wanted before anything is read; the task of a stream does the same.
    pub(in crate::server) fn attend(self: &Arc<Self>, wants: &Wants, context: &mut Context<'_>) -> Todo {
        if wants.room {
            match self.poll_room(context) {
                Poll::Ready(Ok(())) => {
                    self.room();
                    return Todo::Again;
                }
                Poll::Ready(Err(_)) => {
                    self.lock().abort();
                    return Todo::Again;
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
            return Todo::Again;
        }
        if wants.ended {
            self.end_of_input();
            return Todo::Again;
        }
        if wants.read { Todo::Read } else { Todo::Wait }
    }

    pub(in crate::server) fn wants(self: &Arc<Self>) -> Wants {
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
                let wants_more = state.socket.as_ref().is_some_and(|socket| socket.wants_more());
                (wants_more, wants_more)
            }
            Phase::Closing(_) => (false, true),
            Phase::Multiplexed(_) | Phase::Over => (false, false),
        };
        let has_ended = state.input.has_ended();
        // What would be thrown away of a body that has been answered does not come any more.
        let drained = has_ended && state.request().is_some_and(ActiveRequest::is_draining);
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
    pub(in crate::server) fn answer_session(self: &Arc<Self>) {
        let mut state = self.lock();
        // A thread that is writing looks for it when done; where room is waited for, it leaves with what waits.
        if state.out.may_flush() {
            state.transmit(b"", b"");
        }
    }

    /// HTTP/2 has ended, and said why. A client that has sent more than was read would see a reset instead.
    pub(in crate::server) fn part(self: &Arc<Self>) {
        self.lock().close_multiplexed();
    }

    pub(in crate::server) fn received(self: &Arc<Self>, bytes: &[u8]) {
        let mut state = self.lock();
        state.receive(bytes);
        state.flush();
    }

    /// The client has reset the connection.
    pub(in crate::server) fn abort_unheard(self: &Arc<Self>) {
        let mut state = self.lock();
        if let Some(socket) = &mut state.socket {
            socket.forget_unheard();
        }
        state.abort();
    }

    pub(in crate::server) fn end_of_input(self: &Arc<Self>) {
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

    pub(in crate::server) fn room(self: &Arc<Self>) {
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
