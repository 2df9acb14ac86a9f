//! Sends on a socket, from any thread, with one order for its own messages and the published ones.

use std::cell::RefCell;
use std::sync::Arc;

use crate::server::connection::{CORK_LIMIT, Connection, DIRECT, Locked};
use crate::server::output::Output;
use crate::server::publish;
use crate::server::websocket::state::SocketState;
use crate::server::websocket::{ABNORMAL, WebSocket};
use crate::websocket::{MAX_CONTROL, OpCode, encode_header};

/// The result of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SendStatus {
    /// Queued: the client has to read earlier messages first.
    Backpressure = 0,
    /// On its way.
    Success = 1,
    /// Not sent: too much output is buffered already, or the socket has ended.
    Dropped = 2,
}

/// The reason why a message cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// RFC 6455 5.5: the payload of a control frame.
    #[error("a ping or pong carries at most {MAX_CONTROL} bytes, not {length}")]
    ControlTooLong {
        /// Its length.
        length: usize,
    },
    /// RFC 6455 5.5: control frames are whole.
    #[error("a ping or pong cannot be sent in fragments")]
    FragmentedControl,
    /// Closing is more than a frame.
    #[error("a close frame is sent by end()")]
    Close,
    /// RFC 6455 5.4: a continuation continues something.
    #[error("no fragmented message has been begun: expected send_first_fragment()")]
    NothingBegun,
    /// RFC 6455 5.4: one fragmented message at a time.
    #[error("another fragmented message has not been ended: expected send_last_fragment()")]
    NotEnded,
}

/// A started fragmented message.
#[derive(Default)]
pub(crate) struct Fragments {
    /// Its beginning was dropped, so the rest is dropped too. Nothing waits for it.
    dropped: bool,
    /// Frames of other messages, which have to wait for its end.
    pub(super) held: Vec<u8>,
}

thread_local! {
    /// Buffer for compression.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Size of that buffer which a thread keeps.
const KEEP_SCRATCH: usize = 256 * 1024;

pub(in crate::server) fn with_scratch<R>(act: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        let result = act(scratch);
        if scratch.capacity() > KEEP_SCRATCH {
            *scratch = Vec::new();
        }
        result
    })
}

/// Appends a whole frame.
pub(in crate::server) fn write_frame(
    out: &mut Vec<u8>,
    fin: bool,
    compressed: bool,
    opcode: OpCode,
    payload: &[u8],
) {
    encode_header(out, fin, compressed, opcode, payload.len());
    out.extend_from_slice(payload);
}

impl SocketState {
    /// Writes a whole data frame: after a started fragmented message, since nothing may come between its
    /// parts.
    pub(in crate::server) fn write(&mut self, out: &mut Output, write: impl FnOnce(&mut Vec<u8>)) {
        match self.held() {
            Some(held) => write(held),
            None => out.append_with(write),
        }
    }

    /// The buffer for whole messages during a fragmented one.
    pub(in crate::server) fn held(&mut self) -> Option<&mut Vec<u8>> {
        self.fragments.as_mut().filter(|fragments| !fragments.dropped).map(|fragments| &mut fragments.held)
    }

    pub(in crate::server) fn write_compressed(&mut self, out: &mut Output, opcode: OpCode, payload: &[u8]) {
        with_scratch(|scratch| {
            if let Some(codec) = &mut self.codec {
                codec.deflate(payload, scratch);
            }
            self.write(out, |out| write_frame(out, true, true, opcode, scratch));
        });
    }

    /// Whether the buffered output exceeds its limit. Counts the message that meets it.
    pub(in crate::server) fn refuses(&mut self, waiting: usize) -> bool {
        let limit = self.config().max_backpressure;
        let refuses = limit > 0 && waiting > limit;
        self.dropped += u64::from(refuses);
        refuses
    }

    /// Writes a part of a fragmented message. Parts are not compressed: that would have to be one stream (C-F-11).
    fn write_fragment(&mut self, out: &mut Output, opcode: OpCode, payload: &[u8], fin: bool) {
        out.append_with(|out| write_frame(out, fin, false, opcode, payload));
        if fin {
            self.end_fragments(out);
        } else if opcode != OpCode::Continuation {
            self.fragments = Some(Box::default());
        }
    }

    fn end_fragments(&mut self, out: &mut Output) {
        if let Some(fragments) = self.fragments.take() {
            out.append(&fragments.held);
        }
    }

    /// Drops a part of a message whose beginning was dropped; false if it was not.
    fn drop_fragment(&mut self, out: &mut Output, fin: bool) -> bool {
        let dropped = self.fragments.as_ref().is_some_and(|fragments| fragments.dropped);
        if dropped && fin {
            self.end_fragments(out);
        }
        dropped
    }
}

impl WebSocket {
    /// Sends a message, or a part of one: `fin` false begins a fragmented message, [`OpCode::Continuation`]
    /// goes on with it and with `fin` ends it. `compress` applies to whole messages, with negotiated
    /// compression.
    pub fn send(
        &self,
        payload: &[u8],
        opcode: OpCode,
        compress: bool,
        fin: bool,
    ) -> Result<SendStatus, SendError> {
        if self.server().is_abandoned() {
            return Ok(SendStatus::Dropped);
        }
        publish::queue_pending();
        let mut guard = self.connection.lock();
        let state = &mut *guard;
        let outside = state.out.waiting();
        let Some(socket) = state.socket.as_mut().filter(|socket| socket.is_open()) else {
            return Ok(SendStatus::Dropped);
        };
        if opcode.is_control() {
            check_control(opcode, payload.len(), fin)?;
            self.connection.touch(socket);
            // Not counted against the limit: without its pong a slow client takes the server for dead.
            state.out.append_with(|out| write_frame(out, true, false, opcode, payload));
            return Ok(self.leave(guard));
        }
        let continues = opcode == OpCode::Continuation;
        match &socket.fragments {
            None if continues => return Err(SendError::NothingBegun),
            Some(begun) if !continues && !fin && !begun.dropped => return Err(SendError::NotEnded),
            _ => {}
        }
        if continues && socket.drop_fragment(&mut state.out, fin) {
            return Ok(SendStatus::Dropped);
        }
        // Held messages wait for the parts of the fragmented one, and not for the client.
        let waiting = if continues { outside } else { socket.waiting(outside) };
        if socket.refuses(waiting) {
            if !continues && !fin {
                socket.fragments = Some(Box::new(Fragments { dropped: true, ..Fragments::default() }));
            }
            // After half of a message the client could only wait for the rest for ever.
            let cut = continues || socket.config().close_on_backpressure_limit;
            drop(guard);
            if cut {
                self.connection.abort_for_backpressure();
            }
            return Ok(SendStatus::Dropped);
        }
        self.connection.touch(socket);
        if let Some(log) = &mut state.log {
            log.sent(payload.len(), fin);
        }
        if continues || !fin {
            socket.write_fragment(&mut state.out, opcode, payload, fin);
        } else if compress && !payload.is_empty() && socket.codec.is_some() {
            socket.write_compressed(&mut state.out, opcode, payload);
        } else if payload.len() >= DIRECT && socket.held().is_none() && state.out.may_flush() {
            // It goes to the kernel in place.
            state.out.append_with(|out| encode_header(out, true, false, opcode, payload.len()));
            let all = guard.transmit(payload, b"");
            drop(guard);
            return Ok(self.status(all));
        } else {
            socket.write(&mut state.out, |out| write_frame(out, true, false, opcode, payload));
        }
        Ok(self.leave(guard))
    }

    /// Sends the queue, unless a batch does so soon.
    fn leave(&self, state: Locked<'_>) -> SendStatus {
        if state.out.is_blocked() {
            return SendStatus::Backpressure;
        }
        let all = if state.out.len() < CORK_LIMIT { state.flush_with_batch() } else { state.flush() };
        self.status(all)
    }

    /// The status of a written message: `all` of it, or not.
    fn status(&self, all: bool) -> SendStatus {
        match all {
            true => SendStatus::Success,
            false if self.is_open() => SendStatus::Backpressure,
            false => SendStatus::Dropped,
        }
    }
}

impl Connection {
    /// Resets the idle timeout for sending, if the option is set.
    pub(in crate::server) fn touch(&self, socket: &mut SocketState) {
        if socket.config().reset_idle_timeout_on_send {
            socket.hear(self.server.deadlines.now());
            self.server.deadlines.set(&self.deadline, socket.due());
        }
    }

    /// Ends a socket with a dropped message (C-K-04).
    pub(in crate::server) fn abort_for_backpressure(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.socket.as_mut().is_some_and(|socket| socket.abort()) {
            state.close_socket(ABNORMAL, Some(b"Backpressure limit reached"));
            state.abort();
        }
    }
}

fn check_control(opcode: OpCode, length: usize, fin: bool) -> Result<(), SendError> {
    match opcode {
        OpCode::Close => Err(SendError::Close),
        _ if length > MAX_CONTROL => Err(SendError::ControlTooLong { length }),
        _ if !fin => Err(SendError::FragmentedControl),
        _ => Ok(()),
    }
}
