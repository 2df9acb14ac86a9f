//! The body of the response, until it is complete, and its other ends.

use std::sync::atomic::Ordering;

use crate::server::connection::{ActiveRequest, DIRECT, HIGH_WATER, LastAnswer, Locked};
use crate::server::exchange::{Attempt, Exchange};

impl Exchange {
    /// The connection, locked, if it belongs to this process.
    fn lock(&self) -> Option<Locked<'_>> {
        (!self.server().is_abandoned()).then(|| self.connection.lock())
    }

    /// The connection, locked, if it still serves this exchange, and user code makes the response.
    pub(in crate::server) fn current(&self) -> Option<Locked<'_>> {
        self.lock_unanswered(false)
    }

    /// The connection, locked, if it still serves this exchange, whose response is left to a file.
    pub(in crate::server) fn claimed(&self) -> Option<Locked<'_>> {
        self.lock_unanswered(true)
    }

    fn lock_unanswered(&self, claimed: bool) -> Option<Locked<'_>> {
        let mut state = self.lock()?;
        let request = state.request_numbered(self.number)?;
        (!request.reply.is_done() && request.claimed == claimed).then_some(state)
    }

    /// The result of `act` for the request, if the connection still serves this exchange; `over` otherwise.
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

    /// Whether the response is complete.
    pub fn has_responded(&self) -> bool {
        self.responded.load(Ordering::Acquire)
    }

    /// Whether the exchange is over: answered, or the connection is gone.
    pub fn is_over(&self) -> bool {
        self.current().is_none()
    }

    /// Whether the client went away before the response was complete.
    pub fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }

    /// Sets the result of [`Exchange::is_aborted`]; user code of the original does so.
    pub fn set_aborted(&self, aborted: bool) {
        self.aborted.store(aborted, Ordering::Release);
    }

    pub(crate) fn mark_aborted(&self) {
        self.set_aborted(true);
    }

    // ---- in one piece -------------------------------------------------------------------------------------------

    /// Ends the response with `payload`; `close` ends the connection after it. False if the exchange is over.
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

    /// Ends the response without a body.
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

    /// Ends the response to a HEAD request whose body would go in pieces; they are never made.
    pub fn end_pieces_unseen(&self) -> bool {
        let Some(mut state) = self.current() else { return false };
        let Some((request, out)) = state.request_and_out() else { return false };
        self.begin_pieces_unseen(&mut request.reply);
        let place = request.reply.end_unseen(out, true, self.server_header());
        self.complete(state, b"", place.suffix);
        true
    }

    pub(super) fn complete(&self, mut state: Locked<'_>, payload: &[u8], suffix: &'static [u8]) {
        self.mark_responded();
        // A stream's end is known before its last piece leaves: one frame carries both.
        let joined = payload.len() + suffix.len() > 0 && payload.len() < DIRECT;
        if joined || self.head.http2 {
            state.queue(payload, suffix);
            state.complete();
            state.send_queue();
        } else {
            // The payload is not in the queue: the response is complete when it is on its way, or closing
            // would overtake it.
            state.send_on(payload, suffix);
            if state.serves(self.number) {
                state.complete();
                state.flush();
            }
        }
    }

    // ---- in pieces ----------------------------------------------------------------------------------------------

    /// Writes a piece of the body. False if the exchange is over.
    pub fn write(&self, payload: &[u8]) -> bool {
        if let Some(settings) = self.settings() {
            return self.write_encoded(settings, payload);
        }
        self.current().is_some_and(|state| self.write_plain(state, payload, payload.len()))
    }

    /// Writes a piece, which user code gave as `given` bytes.
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

    /// Holds the output until [`Exchange::uncork`]. True if that is new.
    pub fn cork(&self) -> bool {
        self.current().is_some_and(|mut state| state.out.cork())
    }

    /// Sends the output that a cork held.
    pub fn uncork(&self) {
        self.connection.uncork();
    }

    /// Writes an interim `100 Continue`, unless the response has begun or the client speaks HTTP/1.0.
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

    /// Writes as much of `payload` as the kernel takes, of a response of `total` bytes (0: the length of
    /// `payload`).
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

    /// Queues `payload` as part of a response of `total` bytes. `taken`: there is room for more.
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

    /// Whether there was no room for all of the last piece; reading it resets it.
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

    /// Bytes of buffered output.
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

    /// If part of the response has been sent, ends the connection so that the client does not take that part
    /// for the whole. True if it did.
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
