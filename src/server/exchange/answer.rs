//! The body of the answer, until it is complete, and what else ends it.

use std::sync::atomic::Ordering;

use crate::server::connection::{ActiveRequest, DIRECT, HIGH_WATER, LastAnswer, Locked};
use crate::server::exchange::{Attempt, Exchange};

impl Exchange {
    /// The connection, locked, if it is this process's.
    fn lock(&self) -> Option<Locked<'_>> {
        (!self.server().is_abandoned()).then(|| self.connection.lock())
    }

    /// The connection, locked, if this exchange is still the one it serves, and user code has the say.
    pub(in crate::server) fn current(&self) -> Option<Locked<'_>> {
        self.lock_unanswered(false)
    }

    /// The connection, locked, if this exchange is still the one it serves, and has left its answer to a file.
    pub(in crate::server) fn claimed(&self) -> Option<Locked<'_>> {
        self.lock_unanswered(true)
    }

    fn lock_unanswered(&self, claimed: bool) -> Option<Locked<'_>> {
        let mut state = self.lock()?;
        let request = state.request_numbered(self.number)?;
        (!request.reply.is_done() && request.claimed == claimed).then_some(state)
    }

    /// What `act` gives of the request, if this exchange is still the one that the connection serves; `over` otherwise.
    pub(in crate::server) fn with_request<T>(&self, over: T, act: impl FnOnce(&mut ActiveRequest) -> T) -> T {
        match self.current().as_mut().and_then(|state| state.request_mut()) {
            Some(request) => act(request),
            None => over,
        }
    }

    pub(in crate::server) fn mark_responded(&self) {
        self.responded.store(true, Ordering::Release);
    }

    pub(super) fn server_header(&self) -> &[u8] {
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

    // ---- in one piece -------------------------------------------------------------------------------------------

    /// Ends the answer with `payload`; `close` ends the connection after it. False when the exchange is over.
    pub fn end(&self, payload: &[u8], close: bool) -> bool {
        if let Some(settings) = self.settings() {
            return self.end_encoded(settings, payload, close);
        }
        self.current().is_some_and(|state| self.end_plain(state, payload, close))
    }

    pub(super) fn end_plain(&self, mut state: Locked<'_>, payload: &[u8], close: bool) -> bool {
        let Some((request, out)) = state.request_and_out() else { return false };
        request.reply.close |= close;
        let place = request.reply.end(out, payload.len(), self.server_header());
        self.complete(state, &payload[..place.take], place.suffix);
        true
    }

    /// Ends the answer without a body.
    pub fn end_empty(&self, close: bool) -> bool {
        let Some(mut state) = self.current() else { return false };
        let Some((request, out)) = state.request_and_out() else { return false };
        if let Some(settings) = self.settings()
            && request.reply.coder.is_some()
        {
            drop(state);
            return self.end_encoded(settings, b"", close);
        }
        let encoded = self.begin_empty(&mut request.reply);
        request.reply.close |= close;
        let place = if encoded {
            request.reply.end_unseen(out, false, self.server_header())
        } else {
            request.reply.end_empty(out, self.server_header())
        };
        self.complete(state, b"", place.suffix);
        true
    }

    /// Ends the answer to a HEAD request whose body would go in pieces, which nobody has made.
    pub fn end_pieces_unseen(&self) -> bool {
        let Some(mut state) = self.current() else { return false };
        let Some((request, out)) = state.request_and_out() else { return false };
        self.begin_pieces_unseen(&mut request.reply);
        let place = request.reply.end_unseen(out, true, self.server_header());
        self.complete(state, b"", place.suffix);
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
            if state.serves(self.number) {
                state.complete();
                state.flush();
            }
        }
    }

    // ---- in pieces ----------------------------------------------------------------------------------------------

    /// Writes a piece of the body. False when the exchange is over.
    pub fn write(&self, payload: &[u8]) -> bool {
        if let Some(settings) = self.settings() {
            return self.write_encoded(settings, payload);
        }
        self.current().is_some_and(|state| self.write_plain(state, payload, payload.len()))
    }

    /// Writes a piece that user code gave `given` bytes for.
    pub(super) fn write_plain(&self, mut state: Locked<'_>, payload: &[u8], given: usize) -> bool {
        let Some((request, out)) = state.request_and_out() else { return false };
        let offset = request.reply.offset;
        let place = request.reply.write(out, payload.len(), self.server_header());
        if given != payload.len() {
            request.reply.offset = offset + given as u64;
        }
        state.send(&payload[..place.take], place.suffix);
        true
    }

    /// Holds what is written until [`Exchange::uncork`].
    /// True when that is new.
    pub fn cork(&self) -> bool {
        self.current().is_some_and(|mut state| state.out.cork())
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
            && let Some(request) = state.request_mut()
            && !request.reply.is_started()
        {
            request.reply.take_expectation();
            state.invite();
            state.flush();
        }
    }

    /// Writes as much of `payload` as the kernel takes, of an answer of `total` bytes (0: the length of `payload`).
    pub fn try_end(&self, payload: &[u8], total: u64, close: bool) -> Attempt {
        const OVER: Attempt = Attempt { taken: false, over: true };
        let Some(mut state) = self.current() else { return OVER };
        let Some((request, out)) = state.request_and_out() else { return OVER };
        let reply = &mut request.reply;
        self.begin_as_is(reply);
        reply.close |= close;
        let total = if total == 0 { payload.len() as u64 } else { total };
        reply.begin_sized(out, total, self.server_header());
        let offered = usize::try_from(reply.room()).unwrap_or(usize::MAX).min(payload.len());
        let taken = if reply.is_mute() {
            // The lock is taken again below.
            state.flush();
            offered
        } else {
            state.write_through(&payload[..offered])
        };
        let Some(mut state) = self.current() else { return OVER };
        let over = state.request_mut().is_some_and(|request| request.reply.took(taken as u64));
        if over {
            state.complete();
            state.flush();
        }
        self.attempted(taken == offered, over)
    }

    /// Queues `payload` as part of an answer of `total` bytes. `taken` says whether there is room for more.
    pub fn send_chunk(&self, payload: &[u8], total: u64) -> Attempt {
        const OVER: Attempt = Attempt { taken: false, over: true };
        let Some(mut state) = self.current() else { return OVER };
        let Some((request, out)) = state.request_and_out() else { return OVER };
        let reply = &mut request.reply;
        self.begin_as_is(reply);
        reply.begin_sized(out, total, self.server_header());
        let offered = usize::try_from(reply.room()).unwrap_or(usize::MAX).min(payload.len());
        let mute = reply.is_mute();
        reply.count(offered as u64);
        state.send(if mute { b"" } else { &payload[..offered] }, b"");
        let Some(mut state) = self.current() else { return OVER };
        let over = state.request_mut().is_some_and(|request| request.reply.took(0));
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
        self.with_request(0, |request| request.reply.offset)
    }

    /// Overrides the count of body bytes accepted.
    pub fn set_write_offset(&self, offset: u64) {
        self.with_request((), |request| request.reply.offset = offset);
    }

    /// Bytes that wait for the socket.
    pub fn buffered(&self) -> usize {
        self.current().map_or(0, |state| state.out.len())
    }

    // ---- ended otherwise ----------------------------------------------------------------------------------------

    /// Ends the connection at once.
    pub fn close(&self) {
        let Some(mut state) = self.lock() else { return };
        let Some(request) = state.request_numbered(self.number) else { return };
        if !request.reply.is_done() || request.file_leaves {
            state.abort();
        }
    }

    /// If part of the answer is out, ends the connection so that the client does not take that part for the whole.
    /// True when it did.
    pub fn abort_if_started(&self) -> bool {
        let Some(mut state) = self.current() else { return false };
        if !state.request().is_some_and(|request| request.reply.is_started()) {
            return false;
        }
        state.out.uncork();
        state.abort_exchange();
        state.close_after_flush(LastAnswer::Cut);
        state.flush();
        true
    }
}
