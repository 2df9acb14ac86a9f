//! How bytes leave a connection: from any thread that sends some, and never under its lock.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::Arc;

use crate::app::Signal;
use crate::server::batch;
use crate::server::connection::{CORK_LIMIT, Connection, DIRECT, HIGH_WATER, Locked, Phase};
use crate::server::output::{Output, SLICES};
use crate::server::pace::Way;
use crate::server::stream::Writing;

impl Connection {
    /// The batch `token` closes.
    pub(crate) fn leave_batch(self: &Arc<Self>, token: u32) {
        // In a process that was forked from this one the socket is the parent's.
        if self.server.is_abandoned() {
            return;
        }
        let mut state = self.lock();
        if state.batch == token {
            state.batch = batch::NONE;
        }
        state.flush();
    }

    /// Ends a cork.
    pub(crate) fn uncork(self: &Arc<Self>) {
        // In a process that was forked from this one the socket is the parent's.
        if self.server.is_abandoned() {
            return;
        }
        let mut state = self.lock();
        state.corked = false;
        state.flush();
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
}

impl Locked<'_> {
    /// Queues `payload` and `suffix` behind what waits, and sends it unless a cork holds it back.
    pub(crate) fn send(mut self, payload: &[u8], suffix: &'static [u8]) {
        self.send_on(payload, suffix);
    }

    /// The same where more follows under the lock, which is given back meanwhile.
    pub(crate) fn send_on(&mut self, payload: &[u8], suffix: &'static [u8]) {
        if payload.len() >= DIRECT && !self.flushing && !self.blocked && self.phase != Phase::Over {
            self.transmit(payload, suffix);
            return;
        }
        self.queue(payload, suffix);
        if !self.corked || self.out.len() >= CORK_LIMIT {
            self.flush_on();
        }
    }

    /// Queues `payload` and `suffix` behind what waits.
    pub(crate) fn queue(&mut self, payload: &[u8], suffix: &'static [u8]) {
        let out = self.out.tail();
        out.extend_from_slice(payload);
        out.extend_from_slice(suffix);
    }

    /// Sends what is queued, as far as the kernel takes it. False when the kernel has no room.
    pub(crate) fn flush(mut self) -> bool {
        self.flush_on()
    }

    /// The same where more follows under the lock, which is given back meanwhile.
    pub(crate) fn flush_on(&mut self) -> bool {
        let anything = || {
            self.has_output()
                || self.http.has_file()
                || self.phase == Phase::Closing
                || self.connection.owes()
        };
        if !self.flushing && !self.blocked && anything() {
            return self.transmit(b"", b"");
        }
        !self.blocked
    }

    /// Writes what is queued and then `payload` and `suffix`, and queues what the kernel does not take. False when it
    /// has no room.
    pub(crate) fn transmit(&mut self, mut payload: &[u8], mut suffix: &[u8]) -> bool {
        let connection = self.connection;
        self.flushing = true;
        loop {
            let mut output = std::mem::take(&mut self.out);
            self.leaving = output.len();
            let mut file = self.http.take_file();
            let frame = self.frame(output.len() + payload.len() + suffix.len(), file.is_some());
            let before = output.len() + payload.len() + suffix.len();
            let (result, sealed, progress) = self.unlocked(|| {
                connection.open_with(frame);
                let result = connection.write_out(&mut output, &mut payload, &mut suffix, file.is_some());
                let sealed = connection.sealed_of(&result);
                let file = if matches!(result, Ok(true)) { file.take() } else { None };
                (result, sealed, file.map(|file| connection.send_file(file)))
            });
            let taken = before - output.len() - payload.len() - suffix.len();
            self.leaving = 0;
            let taken = taken + self.sealed.saturating_sub(sealed);
            self.count_moved(Way::Room, taken);
            self.sealed = sealed;
            if file.is_some() && self.phase == Phase::Busy {
                self.http.file = file;
            }
            // What the kernel did not take waits in front of what was queued meanwhile.
            if !payload.is_empty() || !suffix.is_empty() {
                output.append(payload);
                output.append(suffix);
                (payload, suffix) = (b"", b"");
            }
            self.out.put_back(output);
            if self.phase == Phase::Over {
                self.out.clear();
                break;
            }
            self.blocked &= result.is_err();
            if let Some(progress) = progress {
                self.file_progressed(progress);
                if self.out.is_empty() {
                    // Others on this thread have their turn before the file goes on.
                    break;
                }
                continue;
            }
            match result {
                Ok(true) if !self.has_output() && !self.http.has_file() && !connection.owes() => break,
                // Others queued while this thread wrote, or the TLS session has to answer: both count on this thread.
                Ok(true) => {}
                Ok(false) => {
                    self.blocked = true;
                    if let Some(socket) = &mut self.socket {
                        socket.full = true;
                    }
                    self.rearm();
                    connection.wake();
                    break;
                }
                Err(_) => {
                    self.flushing = false;
                    self.abort();
                    return false;
                }
            }
        }
        self.flushing = false;
        self.after_flush();
        !self.blocked
    }

    /// Writes as much of `payload` as the kernel takes behind what is queued, and queues none of it; says how much.
    pub(crate) fn write_through(mut self, payload: &[u8]) -> usize {
        if self.flushing || self.blocked || self.phase == Phase::Over {
            return 0;
        }
        let connection = self.connection;
        self.flushing = true;
        let mut output = std::mem::take(&mut self.out);
        let frame = self.frame_of_last(output.len(), payload.len());
        let (mut rest, mut nothing): (&[u8], &[u8]) = (payload, b"");
        let (result, sealed) = self.unlocked(|| {
            connection.open_with(frame);
            let result = connection.write_out(&mut output, &mut rest, &mut nothing, false);
            let sealed = connection.sealed_of(&result);
            (result, sealed)
        });
        self.flushing = false;
        self.out.put_back(output);
        match result {
            Ok(true) => {}
            Ok(false) => {
                self.blocked = true;
                self.sealed = sealed;
                connection.wake();
            }
            Err(_) => {
                self.abort();
                return 0;
            }
        }
        let count = payload.len() - rest.len();
        self.rearm();
        // Those who queued while this thread wrote count on it, and so do those who wait for what has left.
        self.after_flush();
        self.flush();
        count
    }

    /// Something has left, or all of it: tells those who waited for that.
    pub(crate) fn after_flush(&mut self) {
        if self.out.is_empty() && self.sealed == 0 {
            self.log_sent();
        }
        if self.watch_writable && !self.blocked && self.out.len() < HIGH_WATER {
            self.watch_writable = false;
            if let Some(exchange) = &self.exchange {
                self.connection.server.app.signal(Arc::clone(exchange), Signal::Writable);
            }
        }
        if self.held_up && self.out.len() < HIGH_WATER {
            self.held_up = false;
            self.connection.wake();
        }
        if self.phase == Phase::Socket && !self.blocked && self.out.is_empty() {
            self.socket_has_room();
        }
        if self.phase == Phase::Closing && !self.has_output() && !self.blocked {
            self.after_last();
        }
    }

    /// The last answer has left, or since then the farewell.
    fn after_last(&mut self) {
        if self.finished {
            // A client that has gone before is not waited for.
            if self.peer_closed {
                self.phase = Phase::Over;
                self.connection.wake();
            }
            return;
        }
        self.finished = true;
        if self.connection.is_stream() {
            self.phase = Phase::Over;
            // Neither waits: `h2` queues what it takes.
            let _ = self.connection.with_socket(|stream| {
                if self.cut {
                    stream.fail();
                } else {
                    stream.close(Shutdown::Write);
                }
                Ok(())
            });
        } else if self.cut {
            self.phase = Phase::Over;
            self.connection.cut();
        } else {
            // A client that has sent more than we read would see a reset instead of our answer: shut our side, and read on
            // until it shuts its own (RFC 9112 9.6).
            let how = if self.peer_closed { Shutdown::Both } else { Shutdown::Write };
            if !self.connection.say_end(how) {
                self.blocked = true;
            } else if self.peer_closed {
                self.phase = Phase::Over;
            }
        }
        self.rearm();
        self.connection.wake();
    }
}
