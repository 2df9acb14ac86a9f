//! The request's body, and what else user code may hear of.

use crate::server::connection::{HIGH_WATER, Locked};
use crate::server::exchange::Exchange;
use crate::server::intake::Reader;

/// What those who wait for the body want of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Nobody waits: what comes is kept up to the bound, and then the client has to wait.
    Nothing,
    /// The next piece.
    Pieces,
    /// All of it.
    Whole,
}

/// What became of asking for a piece of the body.
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

    /// Whether the client is known to be there: an abort will still be signalled when it goes.
    pub fn is_watched(&self) -> bool {
        self.current().is_some_and(|state| !state.peer_closed)
    }

    /// Has [`Signal::Writable`](crate::app::Signal) sent once, when there is room for more output.
    /// False when there is room now, or never will be.
    pub fn watch_writable(&self) -> bool {
        let Some(mut state) = self.current() else { return false };
        let full = state.blocked || state.out.len() >= HIGH_WATER;
        state.watch_writable = full;
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

    /// The connection, locked, for whoever wants the body. It is refused now if the present route does not take it, and is asked
    /// for if the client waits for that.
    fn reading(&self) -> Option<Locked<'_>> {
        let mut state = self.current()?;
        if !state.http.intake.is_deferred() {
            return Some(state);
        }
        if let Err(error) = state.http.intake.decide() {
            state.fail_body(&error);
            state.flush();
            return None;
        }
        state.ask_for_body();
        if state.has_output() && !state.corked {
            state.flush();
            return self.current();
        }
        Some(state)
    }

    fn read(&self, reader: Reader) -> bool {
        let Some(mut state) = self.reading() else { return false };
        state.http.intake.reader = reader;
        if state.http.intake.wants_signal() {
            state.announce_body();
        }
        state.rearm();
        self.connection.wake();
        true
    }

    /// The whole body, if it has arrived, without asking for a signal. Whoever reads pieces is told of its end.
    pub fn take_complete(&self) -> Option<Vec<u8>> {
        let mut state = self.reading()?;
        if !state.http.intake.is_complete() {
            return None;
        }
        let body = state.http.intake.take_all();
        if state.http.intake.wants_signal() {
            state.announce_body();
        }
        Some(body)
    }

    /// The whole body, for those who waited for it with [`Exchange::read_whole`]; `pieces` says whether somebody else
    /// reads pieces, and is to be told of its end: [`Exchange::resume_body`] does.
    pub fn take_whole(&self, pieces: bool) -> Option<Vec<u8>> {
        let mut state = self.current()?;
        if !state.http.intake.is_complete() {
            return None;
        }
        state.http.intake.reader = if pieces { Reader::Pieces } else { Reader::None };
        Some(state.http.intake.take_all())
    }

    /// Takes what has arrived of the body, and whether that was the last. None when the exchange is over, or paused.
    /// No further [`Signal::Readable`](crate::app::Signal) comes before [`Exchange::resume_body`].
    pub fn take_body(&self) -> Option<(Vec<u8>, bool)> {
        let mut state = self.current()?;
        if state.http.intake.is_held_back() {
            // Paused while the signal was on its way: another comes when reading goes on.
            state.http.intake.signalled = false;
            return None;
        }
        let taken = state.http.intake.take();
        state.rearm();
        self.connection.wake();
        Some(taken)
    }

    /// What was taken has been dealt with: the next piece may come.
    pub fn resume_body(&self) {
        if let Some(mut state) = self.current() {
            state.http.intake.signalled = false;
            if state.http.intake.wants_signal() {
                state.announce_body();
            }
            state.rearm();
        }
    }

    /// Takes what has arrived of the body, for whoever asks for each piece when it is ready for it: until it asks, nobody
    /// waits, and the client does. After [`Pull::Later`] it calls [`Exchange::read_pieces`].
    pub fn pull(&self) -> Pull {
        let Some(mut state) = self.reading() else { return Pull::Over };
        let Some((bytes, last)) = state.http.intake.pull() else { return Pull::Later };
        state.rearm();
        self.connection.wake();
        Pull::Piece(bytes, last)
    }

    /// Whether there is a piece for whoever pulls, or the end.
    pub fn is_readable(&self) -> bool {
        self.current().is_some_and(|state| state.http.intake.is_readable())
    }

    /// Somebody has given up waiting; `left` says what the others want. It is asked under the connection's lock, so that
    /// nobody who comes meanwhile is forgotten, and must not take that.
    pub fn reconsider(&self, left: impl FnOnce() -> Demand) {
        let Some(mut state) = self.current() else { return };
        state.http.intake.reader = match left() {
            Demand::Nothing => Reader::None,
            Demand::Pieces => Reader::Pieces,
            Demand::Whole => Reader::Whole,
        };
        if state.http.intake.wants_signal() {
            state.announce_body();
        }
        state.rearm();
        // Those who are left may want more than it was that gave up.
        self.connection.wake();
    }

    /// The [`Signal::Readable`](crate::app::Signal) for a piece has come, and nobody waits for it any more.
    pub fn stop_pulling(&self) {
        if let Some(mut state) = self.current() {
            state.http.intake.stop_pieces();
            state.http.intake.signalled = false;
            state.rearm();
        }
    }

    /// What had arrived of the body, unread, when the exchange was abandoned.
    pub fn take_rest(&self) -> Vec<u8> {
        std::mem::take(&mut *self.rest.lock())
    }

    pub(crate) fn keep_rest(&self, rest: Vec<u8>) {
        *self.rest.lock() = rest;
    }

    /// Stops reading from the client, or goes on. Nothing that was received is lost.
    pub fn set_paused(&self, paused: bool) {
        if let Some(mut state) = self.current() {
            state.http.intake.paused = paused;
            if state.http.intake.wants_signal() {
                state.announce_body();
            }
            state.rearm();
            if !paused {
                self.connection.wake();
            }
        }
    }
}
