//! How bytes leave a connection: from whichever thread sends them, and never under its lock.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::Arc;

use crate::app::Signal;
use crate::server::connection::{CORK_LIMIT, Connection, DIRECT, HIGH_WATER, Locked, Phase, State};
use crate::server::output::{Output, SLICES};
use crate::server::pace::Way;
use crate::server::stream::Writing;
use crate::server::{batch, websocket};

impl Connection {
    /// Queues `payload` and `suffix` behind what is in `out`, and sends unless a cork holds it back.
    pub(crate) fn send(self: &Arc<Self>, mut state: Locked<'_>, payload: &[u8], suffix: &'static [u8]) {
        if payload.len() >= DIRECT && !state.flushing && !state.blocked && state.phase != Phase::Over {
            self.transmit(state, payload, suffix);
            return;
        }
        let out = state.out.tail();
        out.extend_from_slice(payload);
        out.extend_from_slice(suffix);
        if !state.corked || state.out.len() >= CORK_LIMIT {
            self.flush(state);
        }
    }

    /// Sends what is queued, as far as the kernel takes it. False when the kernel has no room.
    pub(crate) fn flush(self: &Arc<Self>, state: Locked<'_>) -> bool {
        let anything =
            || state.has_output() || state.http.has_file() || state.phase == Phase::Closing || self.owes();
        if !state.flushing && !state.blocked && anything() {
            return self.transmit(state, b"", b"");
        }
        !state.blocked
    }

    /// The batch `token` closes.
    pub(crate) fn leave_batch(self: &Arc<Self>, token: u32) {
        // In a process that was forked from this one the socket is the parent's.
        if self.server.is_abandoned() {
            return;
        }
        let mut state = self.state.lock();
        if state.batch == token {
            state.batch = batch::NONE;
        }
        self.flush(state);
    }

    /// Ends a cork.
    pub(crate) fn uncork(self: &Arc<Self>) {
        // In a process that was forked from this one the socket is the parent's.
        if self.server.is_abandoned() {
            return;
        }
        let mut state = self.state.lock();
        state.corked = false;
        self.flush(state);
    }

    /// Writes what is queued and then `payload` and `suffix`, and queues what the kernel does not take. False when it
    /// has no room.
    pub(crate) fn transmit<'a>(
        self: &'a Arc<Self>,
        mut state: Locked<'a>,
        mut payload: &[u8],
        mut suffix: &[u8],
    ) -> bool {
        state.flushing = true;
        loop {
            let mut output = std::mem::take(&mut state.out);
            state.leaving = output.len();
            let mut file = state.http.take_file();
            let frame = self.frame(&mut state, output.len() + payload.len() + suffix.len(), file.is_some());
            drop(state);
            self.open_with(frame);
            let before = output.len() + payload.len() + suffix.len();
            let result = self.write_out(&mut output, &mut payload, &mut suffix, file.is_some());
            let sealed = self.sealed_of(&result);
            let taken = before - output.len() - payload.len() - suffix.len();
            let mut progress = None;
            if matches!(result, Ok(true)) {
                progress = file.take().map(|file| self.send_file(file));
            }
            state = self.state.lock();
            state.leaving = 0;
            let taken = taken + state.sealed.saturating_sub(sealed);
            self.moved(&mut state, Way::Room, taken);
            state.sealed = sealed;
            if file.is_some() && state.phase == Phase::Busy {
                state.http.file = file;
            }
            // What the kernel did not take waits in front of what was queued meanwhile.
            if !payload.is_empty() || !suffix.is_empty() {
                output.append(payload);
                output.append(suffix);
                (payload, suffix) = (b"", b"");
            }
            state.out.put_back(output);
            if state.phase == Phase::Over {
                state.out.clear();
                break;
            }
            state.blocked &= result.is_err();
            if let Some(progress) = progress {
                self.progressed(&mut state, progress);
                if state.out.is_empty() {
                    // Others on this thread have their turn before the file goes on.
                    break;
                }
                continue;
            }
            match result {
                Ok(true) if !state.has_output() && !state.http.has_file() && !self.owes() => break,
                // Others queued while we wrote, or the session has to answer: they count on us.
                Ok(true) => {}
                Ok(false) => {
                    state.blocked = true;
                    if let Some(session) = &mut state.socket {
                        session.full = true;
                    }
                    self.rearm(&mut state);
                    self.wake();
                    break;
                }
                Err(_) => {
                    state.flushing = false;
                    self.lose(&mut state);
                    return false;
                }
            }
        }
        state.flushing = false;
        self.after_flush(&mut state);
        !state.blocked
    }

    /// True when all of it was taken, false when the kernel has no room. `more` says that a file follows.
    fn write_out(
        &self,
        output: &mut Output,
        payload: &mut &[u8],
        suffix: &mut &[u8],
        more: bool,
    ) -> io::Result<bool> {
        loop {
            let left = output.len() + payload.len() + suffix.len();
            if left == 0 {
                // A TLS session takes text for which the kernel then has no room.
                return if self.secure.is_some() { self.with_socket(Writing::try_flush) } else { Ok(true) };
            }
            let written = match output.as_slice() {
                Some(bytes) if left == bytes.len() && more => {
                    self.with_socket(|socket| socket.try_write_more(bytes))
                }
                Some(bytes) if left == bytes.len() => self.with_socket(|socket| socket.try_write(bytes)),
                _ => {
                    let mut slices = [IoSlice::new(b""); SLICES + 2];
                    let mut count = output.fill(&mut slices[..SLICES]);
                    if slices[..count].iter().map(|slice| slice.len()).sum::<usize>() == output.len() {
                        slices[count] = IoSlice::new(payload);
                        slices[count + 1] = IoSlice::new(suffix);
                        count += 2;
                    }
                    self.with_socket(|socket| socket.try_write_vectored(&slices[..count]))
                }
            };
            match written {
                Ok(count) => {
                    let from_output = count.min(output.len());
                    let from_payload = (count - from_output).min(payload.len());
                    output.advance(from_output);
                    *payload = &payload[from_payload..];
                    *suffix = &suffix[count - from_output - from_payload..];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What a TLS session holds of what a write has found no room for.
    fn sealed_of(&self, result: &io::Result<bool>) -> usize {
        match result {
            Ok(false) if self.secure.is_some() => {
                self.with_socket(|socket| Ok(socket.backlog())).unwrap_or_default()
            }
            _ => 0,
        }
    }

    /// Writes as much of `payload` as the kernel takes behind what is queued, and queues none of it; says how much.
    pub(crate) fn write_through(self: &Arc<Self>, mut state: Locked<'_>, payload: &[u8]) -> usize {
        if state.flushing || state.blocked || state.phase == Phase::Over {
            return 0;
        }
        state.flushing = true;
        let mut output = std::mem::take(&mut state.out);
        let frame = self.frame_of_last(&mut state, output.len(), payload.len());
        drop(state);
        self.open_with(frame);
        let (mut rest, mut nothing): (&[u8], &[u8]) = (payload, b"");
        let result = self.write_out(&mut output, &mut rest, &mut nothing, false);
        let sealed = self.sealed_of(&result);
        let mut state = self.state.lock();
        state.flushing = false;
        state.out.put_back(output);
        match result {
            Ok(true) => {}
            Ok(false) => {
                state.blocked = true;
                state.sealed = sealed;
                self.wake();
            }
            Err(_) => {
                self.lose(&mut state);
                return 0;
            }
        }
        let count = payload.len() - rest.len();
        self.rearm(&mut state);
        // Whoever queued while we wrote counts on us, and so does whoever waits for what has left.
        self.after_flush(&mut state);
        self.flush(state);
        count
    }

    pub(crate) fn after_flush(self: &Arc<Self>, state: &mut State) {
        if state.out.is_empty() && state.sealed == 0 {
            state.log_sent();
        }
        if state.watch_writable && !state.blocked && state.out.len() < HIGH_WATER {
            state.watch_writable = false;
            if let Some(exchange) = &state.exchange {
                self.server.app.signal(Arc::clone(exchange), Signal::Writable);
            }
        }
        if state.held_up && state.out.len() < HIGH_WATER {
            state.held_up = false;
            self.wake();
        }
        if state.phase == Phase::Socket && !state.blocked && state.out.is_empty() {
            websocket::has_room(self, state);
        }
        if state.phase == Phase::Closing && !state.has_output() && !state.blocked {
            self.after_last(state);
        }
    }

    /// The last answer has left, or since then the farewell.
    fn after_last(self: &Arc<Self>, state: &mut State) {
        if state.finished {
            // A client that has gone before is not waited for.
            if state.peer_closed {
                state.phase = Phase::Over;
                self.wake();
            }
            return;
        }
        state.finished = true;
        if self.is_stream() {
            state.phase = Phase::Over;
            // Neither waits: `h2` queues what it takes.
            let _ = self.with_socket(|stream| {
                if state.cut {
                    stream.fail();
                } else {
                    stream.close(Shutdown::Write);
                }
                Ok(())
            });
        } else if state.cut {
            state.phase = Phase::Over;
            self.cut();
        } else {
            // A client that has sent more than we read would see a reset instead of our answer: shut our side, and read on
            // until it shuts its own (RFC 9112 9.6).
            let how = if state.peer_closed { Shutdown::Both } else { Shutdown::Write };
            if !self.say_end(how) {
                state.blocked = true;
            } else if state.peer_closed {
                state.phase = Phase::Over;
            }
        }
        self.rearm(state);
        self.wake();
    }
}
