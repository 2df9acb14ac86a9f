//! The session of one connection: plaintext goes in on any thread, records come out in the order of their
//! making.
//!
//! The lock is held during encryption and decryption, never during a write to the socket: the thread that
//! writes takes the records out first and marks them as leaving.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::Shutdown;

use parking_lot::Mutex;
use rustls::server::UnbufferedServerConnection;

use crate::files::{Disk, File};
use crate::server::stream::Writing;
use crate::server::tls::records::{Decrypted, OVERHEAD, Records, WRITE, decrypt, say_end, seal};

/// Text of a full record (RFC 8446 5.1).
const RECORD: usize = 16 * 1024;

thread_local! {
    /// Plaintext in pieces that has to fill one record.
    static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The session of a connection, shared by its two halves.
pub(crate) struct Session {
    inner: Mutex<Inner>,
}

struct Inner {
    tls: UnbufferedServerConnection,
    /// Received, not used: the start of a record, or of a message in several. rustls has to see it at every
    /// call, also for encryption.
    rest: Vec<u8>,
    out: Records,
    /// A thread is writing the bytes that it took from `out`.
    leaving: bool,
    /// The shutdown of the socket after `out`.
    end: Option<Shutdown>,
    /// `close_notify` has been queued: nothing may follow.
    closed: bool,
}

impl Session {
    /// The session of a finished handshake.
    pub(super) fn new(tls: UnbufferedServerConnection, rest: Vec<u8>) -> Self {
        Self {
            inner: Mutex::new(Inner {
                tls,
                rest,
                out: Records::default(),
                leaving: false,
                end: None,
                closed: false,
            }),
        }
    }

    /// The number of received and unused bytes.
    pub(super) fn held(&self) -> usize {
        self.inner.lock().rest.len()
    }

    /// Decrypts the bytes in `records` from `fresh` on into `text`, which is at least as long as all of
    /// `records`; before `fresh` there is room for the held bytes. After an error the alert for the client
    /// waits to be sent.
    pub(super) fn read(&self, records: &mut [u8], fresh: usize, text: &mut [u8]) -> io::Result<Decrypted> {
        let mut inner = self.inner.lock();
        let Inner { tls, rest, out, closed, .. } = &mut *inner;
        let Some(start) = fresh.checked_sub(rest.len()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let records = &mut records[start..];
        records[..rest.len()].copy_from_slice(rest);
        let take = |piece: &[u8], at: usize| text[at..at + piece.len()].copy_from_slice(piece);
        let read = decrypt(tls, records, out, take);
        rest.clear();
        match &read {
            Ok(read) => rest.extend_from_slice(&records[read.used..]),
            // Only the alert can still be sent.
            Err(_) => *closed = true,
        }
        if rest.is_empty() {
            *rest = Vec::new();
        }
        read.map_err(io::Error::other)
    }

    /// Whether records, or the end, wait without a writer.
    pub(super) fn owes(&self) -> bool {
        let inner = self.inner.lock();
        !inner.leaving && (!inner.out.is_empty() || inner.end.is_some())
    }

    /// Encrypts the bytes at the start of `slices` and writes them; returns their number. `WouldBlock` if
    /// earlier records have not been sent: so at most one write of them is ever held.
    pub(super) fn write(&self, socket: &Writing, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.flush(socket)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = match slices {
            [] => 0,
            [only] => self.encrypt(&only[..only.len().min(WRITE)])?,
            [first, ..] if first.len() >= WRITE => self.encrypt(&first[..WRITE])?,
            _ => TEXT.with_borrow_mut(|text| {
                text.clear();
                for slice in slices {
                    let room = WRITE - text.len();
                    text.extend_from_slice(&slice[..slice.len().min(room)]);
                }
                self.encrypt(text)
            })?,
        };
        self.flush(socket)?;
        Ok(taken)
    }

    /// Queues `text` as records: full ones and one with the rest.
    fn encrypt(&self, text: &[u8]) -> io::Result<usize> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let Inner { tls, rest, out, .. } = &mut *inner;
        let room = text.len() + (text.len() / RECORD + 2) * OVERHEAD;
        seal(tls, rest, out, room, |traffic, room| traffic.encrypt(text, room))?;
        Ok(text.len())
    }

    /// Writes the records that wait. False when the kernel has no room for all of them.
    ///
    /// One thread at a time comes here: it has marked the connection as being flushed, or is the task of
    /// HTTP/2. A second one would find a writer, which also sends the records queued meanwhile.
    pub(super) fn flush(&self, socket: &Writing) -> io::Result<bool> {
        loop {
            let mut records = {
                let mut inner = self.inner.lock();
                if inner.leaving {
                    return Ok(true);
                }
                if inner.out.is_empty() {
                    std::mem::take(&mut inner.out).give_back();
                    if let Some(how) = inner.end.take() {
                        drop(inner);
                        socket.shutdown(how);
                    }
                    return Ok(true);
                }
                inner.leaving = true;
                std::mem::take(&mut inner.out)
            };
            let result = loop {
                match socket.try_write(records.waiting()) {
                    Ok(count) => records.advance(count),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => break Err(error),
                }
                if records.is_empty() {
                    break Ok(());
                }
            };
            let mut inner = self.inner.lock();
            inner.leaving = false;
            if records.is_empty() {
                records.give_back();
            } else {
                let later = std::mem::replace(&mut inner.out, records);
                inner.out.tail().extend_from_slice(later.waiting());
            }
            match result {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Queues `close_notify` (RFC 8446 6.1), then shuts the socket after the earlier records.
    pub(super) fn close(&self, how: Shutdown) {
        let mut inner = self.inner.lock();
        inner.end = Some(how);
        if !std::mem::replace(&mut inner.closed, true) {
            let Inner { tls, rest, out, .. } = &mut *inner;
            // A session that cannot send it any more ends without.
            let _ = seal(tls, rest, out, 2 * OVERHEAD, say_end);
        }
    }

    /// The same as [`Session::write`] with bytes of a file, which the kernel cannot encrypt.
    pub(super) fn write_file(
        &self,
        socket: &Writing,
        file: &File,
        offset: u64,
        count: usize,
    ) -> io::Result<usize> {
        if !self.flush(socket)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = TEXT.with_borrow_mut(|text| {
            text.clear();
            file.read(text, offset, count.min(WRITE), Disk::Wait);
            self.encrypt(text)
        })?;
        self.flush(socket)?;
        Ok(taken)
    }

    /// Bytes of records that wait.
    pub(super) fn backlog(&self) -> usize {
        self.inner.lock().out.waiting().len()
    }
}
