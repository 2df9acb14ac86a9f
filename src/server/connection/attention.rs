//! The checks of a connection's task at each wake-up, and its actions. The task of an HTTP/2 stream makes the
//! same checks.

use std::sync::Arc;
use std::task::{Context, Poll};

use crate::app::Signal;
use crate::server::connection::{ActiveRequest, Connection, HIGH_WATER, LastAnswer, Locked, Phase};
use crate::server::stream::{Departure, Watch};

/// Bytes of pipelined requests kept while one is in progress; then the server stops reading the socket.
const PIPELINE_BOUND: usize = 64 * 1024;

/// The conditions that the task waits for.
#[expect(clippy::struct_excessive_bools, reason = "independent questions, answered under one lock")]
pub(crate) struct Wants {
    pub(in crate::server) over: bool,
    /// The client speaks HTTP/2.
    pub(in crate::server) multiplexed: bool,
    /// The client sends no more, and its earlier bytes are handled.
    ended: bool,
    room: bool,
    read: bool,
    /// The departure of a client that is not read.
    pub(in crate::server) watch: Option<Watch>,
    parse: bool,
    /// A file whose share was sent has to go on.
    file: bool,
}

/// The task's next action.
pub(crate) enum Todo {
    /// The state has changed: it looks again.
    Again,
    /// It reads from the client.
    Read,
    /// It waits to be woken.
    Wait,
}

impl Connection {
    /// Acts before anything is read; the task of a stream does the same.
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
            // Other tasks on this thread run in between.
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
        // If the kernel has no room, this task waits for it. Otherwise another thread is writing, and wakes
        // it.
        let held_up = state.is_head() && !has_room && !state.out.is_blocked();
        state.out.set_held_up(held_up);
        // Whether new bytes would begin a request, and whether they are read.
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
        // The unread rest of an answered body does not come any more.
        let drained = has_ended && state.request().is_some_and(ActiveRequest::is_draining);
        let parse = idle && state.input.has_unsearched();
        let watch = match state.phase() {
            _ if read || has_ended => None,
            Phase::Busy(_) if !state.input.is_shut() => Some(Watch::Both),
            // The messages of a socket come before its end.
            Phase::Busy(_) | Phase::Socket => Some(Watch::Reset),
            _ => None,
        };
        Wants {
            over: state.is_over(),
            multiplexed: matches!(state.phase(), Phase::Multiplexed(_)),
            ended: (idle && !parse && has_ended) || drained,
            room: state.out.is_blocked(),
            read: read && !has_ended,
            watch,
            parse,
            file: state.has_file() && state.out.may_flush() && !state.out.is_corked(),
        }
    }

    /// Sends the TLS session's own records.
    pub(in crate::server) fn answer_session(self: &Arc<Self>) {
        let mut state = self.lock();
        // A writing thread checks for it at its end; while room is awaited, it leaves with the waiting
        // output.
        if state.out.may_flush() {
            state.transmit(b"", b"");
        }
    }

    /// HTTP/2 has ended, with a reason. A client that has sent more than was read would see a reset instead.
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
            // The response's file is being sent.
            Phase::Busy(request) if request.file_leaves => {}
            // A response is still possible; user code is told that the client may be gone.
            Phase::Busy(request) if request.intake.is_complete() && !self.server.is_closing() => {
                state.presume_gone();
            }
            // Requests from before the end, or messages that wait for their handlers: another thread may have
            // completed the earlier response since the socket was read.
            Phase::Head(_) | Phase::Socket if unsearched => {}
            // The responses still have to leave.
            // Over TLS also if nothing waits: `close_notify` may have to wait for room.
            Phase::Head(_) if sending || self.secure.is_some() => state.close_after_flush(LastAnswer::Whole),
            Phase::Busy(request) if request.is_draining() && sending => {
                state.close_after_flush(LastAnswer::Whole);
            }
            Phase::Closing(_) if sending => {}
            _ => state.abort(),
        }
    }

    /// The client has gone, and bytes of it may be unread.
    pub(in crate::server) fn departed(self: &Arc<Self>, how: Departure) {
        if how == Departure::Reset {
            self.abort_unheard();
            return;
        }
        let mut state = self.lock();
        state.input.shut();
        match state.phase() {
            // The response's file is being sent.
            Phase::Busy(request) if request.file_leaves => {}
            Phase::Busy(_) if self.server.is_closing() => state.abort(),
            Phase::Busy(_) => state.presume_gone(),
            _ => {}
        }
    }

    pub(in crate::server) fn room(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.out.is_flushing() {
            state.out.unblock();
        } else {
            // Waiting output counts as waiting until the kernel has taken it.
            state.transmit(b"", b"");
        }
        state.rearm();
        if state.is_head() && !state.input.is_empty() {
            state.receive(b"");
            state.flush();
        }
    }
}

impl Locked<'_> {
    /// The client has shut its sending side, as one that has gone: user code is told, and a response is still possible.
    fn presume_gone(&mut self) {
        if let Some(exchange) = self.request().and_then(|request| request.exchange.clone()) {
            exchange.mark_aborted();
            self.connection.server.app.signal(exchange, Signal::Aborted);
        }
        self.rearm();
    }
}
