//! The answer: status, headers and body, until it is complete.

use std::sync::atomic::Ordering;

use crate::http::cors::{self, Policy};
use crate::http::response::{HeadError, ResponseHead};
use crate::server::connection::{DIRECT, HIGH_WATER, Locked, Phase, State};
use crate::server::exchange::{Attempt, Exchange};

impl Exchange {
    /// The connection, locked, if it is this process's.
    fn lock(&self) -> Option<Locked<'_>> {
        (!self.server().is_abandoned()).then(|| self.connection.lock())
    }

    /// The connection, locked, if this exchange is still the one it serves, and user code has the say.
    pub(in crate::server) fn current(&self) -> Option<Locked<'_>> {
        let state = self.lock()?;
        (self.is_served_by(&state) && !state.http.reply.is_done() && !state.http.claimed).then_some(state)
    }

    /// The connection, locked, if this exchange is still the one it serves, and has left its answer to a file.
    pub(in crate::server) fn claimed(&self) -> Option<Locked<'_>> {
        let state = self.lock()?;
        (self.is_served_by(&state) && !state.http.reply.is_done() && state.http.claimed).then_some(state)
    }

    /// Whether the connection is busy with this exchange, be it only to send what its answer was.
    pub(in crate::server) fn is_served_by(&self, state: &State) -> bool {
        state.phase == Phase::Busy && state.current == self.number
    }

    pub(in crate::server) fn mark_responded(&self) {
        self.responded.store(true, Ordering::Release);
    }

    pub(super) fn server_name(&self) -> &[u8] {
        self.connection.server.config.server_header.as_bytes()
    }

    /// Whether the answer is complete.
    pub fn has_responded(&self) -> bool {
        self.responded.load(Ordering::Acquire)
    }

    /// Whether nothing can be done any more: answered, or the connection is gone.
    pub fn is_over(&self) -> bool {
        self.current().is_none()
    }

    /// Whether the head of the answer has been written.
    pub fn is_started(&self) -> bool {
        self.current().is_some_and(|state| state.http.reply.is_started())
    }

    /// Whether the client went away before the answer was complete.
    pub fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }

    /// Sets what [`Exchange::is_aborted`] gives; user code of the original does.
    pub fn set_aborted(&self, aborted: bool) {
        self.aborted.store(aborted, Ordering::Release);
    }

    pub(crate) fn mark_aborted(&self) {
        self.set_aborted(true);
    }

    /// Sets the status by number. The first explicit one wins.
    pub fn set_status(&self, code: u16) -> Result<(), HeadError> {
        self.current().map_or(Ok(()), |mut state| state.http.reply.head.set_status(code))
    }

    /// Sets the status line's text, such as `200 OK`. The first explicit one wins.
    pub fn set_status_text(&self, text: &[u8]) -> Result<(), HeadError> {
        self.current().map_or(Ok(()), |mut state| state.http.reply.head.set_status_text(text))
    }

    /// Adds a header.
    pub fn add_header(&self, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        self.current().map_or(Ok(()), |mut state| self.add_to(&mut state.http.reply.head, name, value))
    }

    fn add_to(&self, head: &mut ResponseHead, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        if self.head.http2 { head.header_of_stream(name, value) } else { head.header(name, value) }
    }

    /// Sets a header that goes with whatever the answer is, also if the head is reset; one that is added by
    /// [`Exchange::add_header`] goes in its place.
    pub fn keep_header(&self, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        let mut head = ResponseHead::default();
        self.add_to(&mut head, name, value)?;
        if let Some(mut state) = self.current() {
            state.http.reply.lasting.set(name.to_vec(), head.into_lines());
        }
        Ok(())
    }

    /// Sets the header lines of cross-origin resource sharing, which go with whatever the answer is.
    pub fn apply_cors(&self, policy: &Policy) {
        let origin = self.header(b"origin");
        let lines = policy.lines(origin.as_deref());
        if let Some(mut state) = self.current() {
            state.http.reply.lasting.set(cors::NAME, lines);
        }
    }

    /// Whether user code gave this header already.
    pub fn has_header(&self, known: crate::http::response::Known) -> bool {
        self.current().is_some_and(|state| state.http.reply.head.wrote(known))
    }

    /// Forgets status and headers that have not gone out, for an error answer in their place.
    pub fn reset_head(&self) {
        if let Some(mut state) = self.current()
            && !state.http.reply.is_started()
        {
            state.http.reply.head.clear();
        }
    }

    /// Ends the answer with `payload`; `close` ends the connection after it. False when the exchange is over.
    pub fn end(&self, payload: &[u8], close: bool) -> bool {
        if let Some(settings) = self.settings() {
            return self.end_encoded(settings, payload, close);
        }
        self.current().is_some_and(|state| self.end_plain(state, payload, close))
    }

    pub(super) fn end_plain(&self, mut guard: Locked<'_>, payload: &[u8], close: bool) -> bool {
        let state = &mut *guard;
        state.http.reply.close |= close;
        let place = state.http.reply.end(state.out.tail(), payload.len(), self.server_name());
        self.complete(guard, &payload[..place.take], place.suffix);
        true
    }

    /// Ends the answer without a body.
    pub fn end_empty(&self, close: bool) -> bool {
        let Some(mut guard) = self.current() else { return false };
        if let Some(settings) = self.settings()
            && guard.http.reply.coder.is_some()
        {
            drop(guard);
            return self.end_encoded(settings, b"", close);
        }
        let encoded = self.begin_empty(&mut guard.http.reply);
        let state = &mut *guard;
        state.http.reply.close |= close;
        let out = state.out.tail();
        let place = if encoded {
            state.http.reply.end_unseen(out, false, self.server_name())
        } else {
            state.http.reply.end_empty(out, self.server_name())
        };
        self.complete(guard, b"", place.suffix);
        true
    }

    /// Ends the answer to a HEAD request whose body would go in pieces, which nobody has made.
    pub fn end_pieces_unseen(&self) -> bool {
        let Some(mut guard) = self.current() else { return false };
        self.begin_pieces_unseen(&mut guard.http.reply);
        let state = &mut *guard;
        let place = state.http.reply.end_unseen(state.out.tail(), true, self.server_name());
        self.complete(guard, b"", place.suffix);
        true
    }

    fn complete(&self, mut state: Locked<'_>, payload: &[u8], suffix: &'static [u8]) {
        self.mark_responded();
        // Of a stream the end is known before its last piece leaves: one frame says both.
        let joined = payload.len() + suffix.len() > 0 && payload.len() < DIRECT;
        if joined || self.head.http2 {
            state.queue(payload, suffix);
            state.complete();
            state.send(b"", b"");
        } else {
            // The payload is not in the queue: the answer is complete when it is on its way, or closing would overtake it.
            state.send_on(payload, suffix);
            if self.is_served_by(&state) {
                state.complete();
                state.flush();
            }
        }
    }

    /// Writes a piece of the body. False when the exchange is over.
    pub fn write(&self, payload: &[u8]) -> bool {
        if let Some(settings) = self.settings() {
            return self.write_encoded(settings, payload);
        }
        self.current().is_some_and(|state| self.write_plain(state, payload, payload.len()))
    }

    /// Writes a piece that user code gave `given` bytes for.
    pub(super) fn write_plain(&self, mut guard: Locked<'_>, payload: &[u8], given: usize) -> bool {
        let state = &mut *guard;
        let offset = state.http.reply.offset;
        let place = state.http.reply.write(state.out.tail(), payload.len(), self.server_name());
        if given != payload.len() {
            state.http.reply.offset = offset + given as u64;
        }
        guard.send(&payload[..place.take], place.suffix);
        true
    }

    /// Holds what is written until [`Exchange::uncork`].
    /// True when that is new.
    pub fn cork(&self) -> bool {
        self.current().is_some_and(|mut state| !std::mem::replace(&mut state.corked, true))
    }

    /// Sends what a cork held.
    pub fn uncork(&self) {
        self.connection.uncork();
    }

    /// Writes an interim `100 Continue`, unless the answer has begun or the client speaks HTTP/1.0.
    pub fn write_continue(&self) {
        if self.head.version_minor == 0 {
            return;
        }
        if let Some(mut state) = self.current()
            && !state.http.reply.is_started()
        {
            state.http.reply.take_expectation();
            state.invite();
            state.flush();
        }
    }

    /// Writes as much of `payload` as the kernel takes, of an answer of `total` bytes (0: the length of `payload`).
    pub fn try_end(&self, payload: &[u8], total: u64, close: bool) -> Attempt {
        let Some(mut guard) = self.current() else { return Attempt { taken: false, over: true } };
        self.begin_as_is(&mut guard.http.reply);
        let state = &mut *guard;
        state.http.reply.close |= close;
        let total = if total == 0 { payload.len() as u64 } else { total };
        state.http.reply.begin_sized(state.out.tail(), total, self.server_name());
        let offered = usize::try_from(state.http.reply.room()).unwrap_or(usize::MAX).min(payload.len());
        let taken = if state.http.reply.is_mute() {
            // The lock is taken again below.
            guard.flush();
            offered
        } else {
            guard.write_through(&payload[..offered])
        };
        let Some(mut state) = self.current() else { return Attempt { taken: false, over: true } };
        let over = state.http.reply.took(taken as u64);
        if over {
            state.complete();
            state.flush();
        }
        self.attempted(taken == offered, over)
    }

    /// Queues `payload` as part of an answer of `total` bytes. `taken` says whether there is room for more.
    pub fn send_chunk(&self, payload: &[u8], total: u64) -> Attempt {
        let Some(mut guard) = self.current() else { return Attempt { taken: false, over: true } };
        self.begin_as_is(&mut guard.http.reply);
        let state = &mut *guard;
        state.http.reply.begin_sized(state.out.tail(), total, self.server_name());
        let offered = usize::try_from(state.http.reply.room()).unwrap_or(usize::MAX).min(payload.len());
        let mute = state.http.reply.is_mute();
        state.http.reply.count(offered as u64);
        guard.send(if mute { b"" } else { &payload[..offered] }, b"");
        let Some(mut state) = self.current() else { return Attempt { taken: false, over: true } };
        let over = state.http.reply.took(0);
        let taken = state.out.len() < HIGH_WATER;
        if over {
            state.complete();
            state.flush();
        }
        self.attempted(taken, over)
    }

    fn attempted(&self, taken: bool, over: bool) -> Attempt {
        self.refused.store(!taken && !over, Ordering::Release);
        Attempt { taken, over }
    }

    /// Whether there was no room for all of the last piece; asked once, it is forgotten.
    pub fn take_refused(&self) -> bool {
        self.refused.swap(false, Ordering::AcqRel)
    }

    /// Body bytes accepted so far; 0 once the exchange is over.
    pub fn write_offset(&self) -> u64 {
        self.current().map_or(0, |state| state.http.reply.offset)
    }

    /// Overrides the count of body bytes accepted.
    pub fn set_write_offset(&self, offset: u64) {
        if let Some(mut state) = self.current() {
            state.http.reply.offset = offset;
        }
    }

    /// Bytes that wait for the socket.
    pub fn buffered(&self) -> usize {
        self.current().map_or(0, |state| state.out.len())
    }

    /// Ends the connection at once.
    pub fn close(&self) {
        let Some(mut state) = self.lock() else { return };
        if self.is_served_by(&state) && (!state.http.reply.is_done() || state.http.file_leaves) {
            state.abort();
        }
    }

    /// If part of the answer is out, ends the connection so that the client does not take that part for the whole.
    /// True when it did.
    pub fn cut_if_started(&self) -> bool {
        let Some(mut state) = self.current() else { return false };
        if !state.http.reply.is_started() {
            return false;
        }
        state.cut = true;
        state.corked = false;
        state.abort_exchange();
        state.close_after_flush();
        state.flush();
        true
    }
}
