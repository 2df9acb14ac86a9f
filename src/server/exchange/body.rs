//! The request's body, and the other signals for user code.

use crate::server::connection::{HIGH_WATER, Locked};
use crate::server::exchange::Exchange;
use crate::server::intake::Reader;

/// The demand for the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// No reader: bytes are kept up to the bound, and then the client has to wait.
    Nothing,
    /// The next piece.
    Pieces,
    /// All of it.
    Whole,
}

/// The result of a call for a piece of the body.
#[derive(Debug, PartialEq, Eq)]
pub enum Pull {
    /// A piece, and whether it is the last one.
    Piece(Vec<u8>, bool),
    /// Nothing has arrived since the last one.
    Later,
    /// The exchange is over.
    Over,
}

impl Exchange {
    // ---- events -------------------------------------------------------------------------------------------------

    /// Requests one [`Signal::Writable`](crate::app::Signal), when there is room for more output. False if
    /// there is room now, or never will be.
    pub fn watch_writable(&self) -> bool {
        let Some(mut state) = self.current() else { return false };
        let full = state.out.is_blocked() || state.out.len() >= HIGH_WATER;
        if let Some(request) = state.request_mut() {
            // Another caller may wait already, since there was no room a moment ago.
            request.watches_room |= full;
        }
        full
    }

    // ---- the request body ---------------------------------------------------------------------------------------

    /// Asks for the body in pieces: [`Signal::Readable`](crate::app::Signal) comes when there is one.
    pub fn read_pieces(&self) -> bool {
        self.read(Reader::Pieces)
    }

    /// Asks for the body as a whole: [`Signal::Readable`](crate::app::Signal) comes when it is complete.
    pub fn read_whole(&self) -> bool {
        self.read(Reader::Whole)
    }

    /// The connection, locked, for a reader of the body. The body is refused now if the present route does
    /// not allow it. A client that waits gets `100 Continue`.
    fn reading(&self) -> Option<Locked<'_>> {
        let mut state = self.current()?;
        let request = state.request_mut()?;
        let invited = !request.reply.waits_for_invitation() || request.intake.is_readable();
        if !request.intake.is_deferred() && invited {
            return Some(state);
        }
        if let Err(error) = request.intake.decide() {
            state.fail_body(&error);
            state.flush();
            return None;
        }
        state.ask_for_body();
        if state.out.has_any() && !state.out.is_corked() {
            state.flush();
            return self.current();
        }
        Some(state)
    }

    fn read(&self, reader: Reader) -> bool {
        let Some(mut state) = self.reading() else { return false };
        let Some(request) = state.request_mut() else { return false };
        request.intake.reader = reader;
        state.announce_body();
        state.rearm();
        self.connection.wake();
        true
    }

    /// The whole body, if it has arrived, without asking for a signal. A reader of pieces is signalled its
    /// end.
    pub fn take_complete(&self) -> Option<Vec<u8>> {
        let mut state = self.reading()?;
        let intake = &mut state.request_mut()?.intake;
        if !intake.is_complete() {
            return None;
        }
        let body = intake.take_all();
        state.announce_body();
        Some(body)
    }

    /// The whole body, for readers that waited with [`Exchange::read_whole`]; `pieces`: another reader takes
    /// pieces, and has to be signalled the end: [`Exchange::resume_body`] does that.
    pub fn take_whole(&self, pieces: bool) -> Option<Vec<u8>> {
        self.with_request(None, |request| {
            let intake = &mut request.intake;
            intake.is_complete().then(|| {
                intake.reader = if pieces { Reader::Pieces } else { Reader::None };
                intake.take_all()
            })
        })
    }

    /// Takes the received bytes of the body, and whether they were the last. `None` if the exchange is over,
    /// or paused. No further [`Signal::Readable`](crate::app::Signal) comes before [`Exchange::resume_body`].
    pub fn take_body(&self) -> Option<(Vec<u8>, bool)> {
        let mut state = self.current()?;
        let intake = &mut state.request_mut()?.intake;
        if intake.is_held_back() {
            // Paused while the signal was on its way: another comes when reading goes on.
            intake.signalled = false;
            return None;
        }
        let taken = intake.take();
        state.rearm();
        self.connection.wake();
        Some(taken)
    }

    /// The taken bytes have been handled: the next piece may come.
    pub fn resume_body(&self) {
        if let Some(mut state) = self.current()
            && let Some(request) = state.request_mut()
        {
            request.intake.signalled = false;
            state.announce_body();
            state.rearm();
        }
    }

    /// Takes the received bytes of the body, for a reader that pulls each piece: between its calls the client
    /// has to wait. After [`Pull::Later`] it calls [`Exchange::read_pieces`].
    pub fn pull(&self) -> Pull {
        let Some(mut state) = self.reading() else { return Pull::Over };
        let Some(request) = state.request_mut() else { return Pull::Over };
        let Some((bytes, last)) = request.intake.pull() else { return Pull::Later };
        state.rearm();
        self.connection.wake();
        Pull::Piece(bytes, last)
    }

    /// Whether there is a piece for a reader that pulls, or the end.
    pub fn is_readable(&self) -> bool {
        self.with_request(false, |request| request.intake.is_readable())
    }

    /// A reader has given up; `left` returns the demand of the others. It runs under the connection's lock,
    /// so that no new reader is forgotten, and must not take that lock.
    pub fn reconsider(&self, left: impl FnOnce() -> Demand) {
        let Some(mut state) = self.current() else { return };
        let Some(request) = state.request_mut() else { return };
        request.intake.reader = match left() {
            Demand::Nothing => Reader::None,
            Demand::Pieces => Reader::Pieces,
            Demand::Whole => Reader::Whole,
        };
        state.announce_body();
        state.rearm();
        // The remaining readers may want more than the one that gave up.
        self.connection.wake();
    }

    /// The [`Signal::Readable`](crate::app::Signal) for a piece has come, and no reader waits for it any
    /// more.
    pub fn stop_pulling(&self) {
        if let Some(mut state) = self.current()
            && let Some(request) = state.request_mut()
        {
            request.intake.stop_pieces();
            request.intake.signalled = false;
            state.rearm();
        }
    }

    /// The unread part of the body when the exchange was abandoned.
    pub fn take_rest(&self) -> Vec<u8> {
        std::mem::take(&mut *self.rest.lock())
    }

    pub(crate) fn keep_rest(&self, rest: Vec<u8>) {
        *self.rest.lock() = rest;
    }

    /// Stops reading from the client, or goes on. No received byte is lost.
    pub fn set_paused(&self, paused: bool) {
        if let Some(mut state) = self.current()
            && let Some(request) = state.request_mut()
        {
            request.intake.paused = paused;
            state.announce_body();
            state.rearm();
            if !paused {
                self.connection.wake();
            }
        }
    }
}
