//! Sending the bytes of a connection: from any thread, and never under its lock.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::Arc;

use crate::app::Signal;
use crate::server::connection::{CORK_LIMIT, Closing, Connection, DIRECT, HIGH_WATER, Locked, Phase};
use crate::server::output::{ByteQueue, SLICES};
use crate::server::pace::Way;
use crate::server::stream::Writing;

impl Connection {
    /// The batch `token` closes.
    pub(crate) fn leave_batch(self: &Arc<Self>, token: u32) {
        // In a forked child the socket belongs to the parent.
        if self.server.is_abandoned() {
            return;
        }
        let mut state = self.lock();
        state.out.leave_batch(token);
        state.flush();
    }

    /// Ends a cork.
    pub(crate) fn uncork(self: &Arc<Self>) {
        // In a forked child the socket belongs to the parent.
        if self.server.is_abandoned() {
            return;
        }
        let mut state = self.lock();
        state.out.uncork();
        state.flush();
    }

    /// True if all of it was taken, false if the kernel has no room. `more`: a file follows.
    fn write_out(
        &self,
        output: &mut ByteQueue,
        payload: &mut &[u8],
        suffix: &mut &[u8],
        more: bool,
    ) -> io::Result<bool> {
        loop {
            let left = output.len() + payload.len() + suffix.len();
            if left == 0 {
                // A TLS session accepts plaintext for which the kernel then has no room.
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

    /// The bytes of a write without room that a TLS session holds.
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
    /// Queues `payload` and `suffix`, and sends the queue unless a cork holds it back.
    pub(crate) fn send(mut self, payload: &[u8], suffix: &'static [u8]) {
        self.send_on(payload, suffix);
    }

    /// Sends what is queued, unless a handler still holds it together and it is little.
    pub(crate) fn send_queue(mut self) {
        if !self.out.is_corked() || self.out.len() >= CORK_LIMIT {
            self.flush_on();
        }
    }

    /// The same as [`Locked::send`] if the lock is needed afterwards; it is released meanwhile.
    pub(crate) fn send_on(&mut self, payload: &[u8], suffix: &'static [u8]) {
        if payload.len() >= DIRECT && self.out.may_flush() && !self.is_over() {
            self.transmit(payload, suffix);
            return;
        }
        self.queue(payload, suffix);
        if !self.out.is_corked() || self.out.len() >= CORK_LIMIT {
            self.flush_on();
        }
    }

    /// Queues `payload` and `suffix`.
    pub(crate) fn queue(&mut self, payload: &[u8], suffix: &'static [u8]) {
        let tail = self.out.tail();
        tail.extend_from_slice(payload);
        tail.extend_from_slice(suffix);
    }

    /// Sends the queue, as far as the kernel takes it. False if the kernel has no room.
    pub(crate) fn flush(mut self) -> bool {
        self.flush_on()
    }

    /// The same if the lock is needed afterwards; it is released meanwhile.
    pub(crate) fn flush_on(&mut self) -> bool {
        let anything =
            || self.out.has_any() || self.has_file() || self.is_closing() || self.connection.owes();
        if self.out.may_flush() && anything() {
            return self.transmit(b"", b"");
        }
        !self.out.is_blocked()
    }

    /// Writes the queue and then `payload` and `suffix`, and queues the rest that the kernel does not take.
    /// False if it has no room.
    pub(crate) fn transmit(&mut self, mut payload: &[u8], mut suffix: &[u8]) -> bool {
        let connection = self.connection;
        self.out.begin_flush();
        loop {
            let mut queue = self.out.take();
            let mut file = self.request_mut().and_then(|request| request.file.take());
            let before = queue.len() + payload.len() + suffix.len();
            let frame = self.frame(before, file.is_some());
            let (result, sealed, progress) = self.unlocked(|| {
                connection.open_with(frame);
                let result = connection.write_out(&mut queue, &mut payload, &mut suffix, file.is_some());
                let sealed = connection.sealed_of(&result);
                let file = if matches!(result, Ok(true)) { file.take() } else { None };
                (result, sealed, file.map(|file| connection.send_file(file)))
            });
            let taken = before - queue.len() - payload.len() - suffix.len();
            if let (Some(_), Some(request)) = (&file, self.request_mut()) {
                request.file = file;
            }
            // Bytes that the kernel did not take go before those queued meanwhile.
            if !payload.is_empty() || !suffix.is_empty() {
                queue.append(payload);
                queue.append(suffix);
                (payload, suffix) = (b"", b"");
            }
            let unsealed = self.out.put_back(queue, sealed);
            self.count_moved(Way::Room, taken + unsealed);
            if self.is_over() {
                self.out.clear();
                break;
            }
            if result.is_ok() {
                self.out.unblock();
            }
            if let Some(progress) = progress {
                self.file_progressed(progress);
                if self.out.is_empty() {
                    // Other tasks on this thread run before the file goes on.
                    break;
                }
                continue;
            }
            match result {
                Ok(true) if !self.out.has_any() && !self.has_file() && !connection.owes() => break,
                // Others queued while this thread wrote, or the TLS session has to reply: both rely on this
                // thread.
                Ok(true) => {}
                Ok(false) => {
                    self.out.block();
                    if let Some(socket) = &mut self.socket {
                        socket.full = true;
                    }
                    self.rearm();
                    connection.wake();
                    break;
                }
                Err(_) => {
                    self.out.end_flush();
                    self.abort();
                    return false;
                }
            }
        }
        self.out.end_flush();
        self.after_flush();
        !self.out.is_blocked()
    }

    /// Writes the queue and as much of `payload` as the kernel takes, and queues none of it; returns how
    /// much.
    pub(crate) fn write_through(mut self, payload: &[u8]) -> usize {
        if !self.out.may_flush() || self.is_over() {
            return 0;
        }
        let connection = self.connection;
        self.out.begin_flush();
        let mut queue = self.out.take();
        let frame = self.frame_of_last(queue.len(), payload.len());
        let (mut rest, mut nothing): (&[u8], &[u8]) = (payload, b"");
        let (result, sealed) = self.unlocked(|| {
            connection.open_with(frame);
            let result = connection.write_out(&mut queue, &mut rest, &mut nothing, false);
            let sealed = connection.sealed_of(&result);
            (result, sealed)
        });
        self.out.end_flush();
        self.out.put_back(queue, sealed);
        match result {
            Ok(true) => {}
            Ok(false) => {
                self.out.block();
                connection.wake();
            }
            Err(_) => {
                self.abort();
                return 0;
            }
        }
        let count = payload.len() - rest.len();
        self.rearm();
        // Others that queued while this thread wrote rely on it, and so do waits for sent output.
        self.after_flush();
        self.flush();
        count
    }

    /// Output has been sent: ends the waits for that.
    pub(crate) fn after_flush(&mut self) {
        let connection = self.connection;
        if self.out.has_left() {
            self.log_sent();
        }
        let has_room = self.out.len() < HIGH_WATER;
        if has_room
            && !self.out.is_blocked()
            && let Some(request) = self.request_mut()
            && std::mem::take(&mut request.watches_room)
            && let Some(exchange) = &request.exchange
        {
            connection.server.app.signal(Arc::clone(exchange), Signal::Writable);
        }
        if has_room && self.out.is_held_up() {
            self.out.set_held_up(false);
            connection.wake();
        }
        if self.is_socket() && !self.out.is_blocked() && self.out.is_empty() {
            self.socket_has_room();
        }
        if !self.out.has_any() && !self.out.is_blocked() {
            self.after_last();
        }
    }

    /// Everything has been sent. If that was the last response, or the `close_notify` after it, the
    /// connection ends.
    fn after_last(&mut self) {
        let Phase::Closing(Closing { cut, shut }) = *self.phase() else { return };
        let connection = self.connection;
        let gone = self.input.has_ended();
        if shut {
            // The server does not wait for a client that has gone.
            if gone {
                self.enter_over();
                connection.wake();
            }
            return;
        }
        self.enter_closing(cut, true);
        if connection.is_stream() {
            self.enter_over();
            // Neither waits: `h2` queues what it takes.
            let _ = connection.with_socket(|stream| {
                if cut {
                    stream.fail();
                } else {
                    stream.close(Shutdown::Write);
                }
                Ok(())
            });
        } else if cut {
            self.enter_over();
            connection.shut_down();
        } else {
            // A client that has sent more than we read would see a reset instead of our response: shut our
            // side, and read on until it shuts its own (RFC 9112 9.6).
            let how = if gone { Shutdown::Both } else { Shutdown::Write };
            if !connection.say_end(how) {
                self.out.block();
            } else if gone {
                self.enter_over();
            }
        }
        self.rearm();
        connection.wake();
    }
}
