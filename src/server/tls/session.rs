//! The record layer of one connection: text goes in on any thread, records come out in the order they were made.
//!
//! rustls keeps the keys and nothing else (its "unbuffered" interface): what arrives is decrypted where it was read to, and
//! what leaves goes to the kernel from one buffer of the thread. The lock is held while something is encrypted or
//! decrypted, never while the socket is written to: whoever writes takes the records out first and marks `leaving`.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};

use crate::files::{Disk, File};
use crate::server::stream::{Reading, Writing};

/// Text that one write encrypts at most: beyond it the kernel is asked first whether it has room.
const WRITE: usize = 64 * 1024;
/// What a record takes beside its text, generously: header, nonce, tag (RFC 8446 5.2, RFC 5246 6.2.3).
const OVERHEAD: usize = 64;
/// Text of a full record (RFC 8446 5.1).
const RECORD: usize = 16 * 1024;
/// Buffers larger than this are given back to the allocator.
const KEEP: usize = 2 * WRITE;

thread_local! {
    /// Records on their way: an idle connection holds no buffer.
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// Text that lay in pieces and is to fill one record.
    static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The session of a connection, shared by its two halves.
pub(crate) struct Session {
    inner: Mutex<Inner>,
}

struct Inner {
    tls: UnbufferedServerConnection,
    /// Received, not used: the start of a record, or of a message in several. rustls counts on seeing it at every call, also
    /// when it is to encrypt.
    rest: Vec<u8>,
    out: Records,
    /// A thread is writing what it took from `out`.
    leaving: bool,
    /// What becomes of the socket once `out` has left.
    end: Option<Shutdown>,
    /// `close_notify` has been queued: nothing may follow.
    closed: bool,
}

/// Records that the kernel has not taken.
#[derive(Debug, Default)]
pub(super) struct Records {
    bytes: Vec<u8>,
    /// How much of them it has.
    sent: usize,
}

impl Records {
    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// What is still to leave.
    pub(super) fn waiting(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// So many bytes have left.
    pub(super) fn advance(&mut self, count: usize) {
        self.sent += count;
    }

    /// A buffer to append to, with what is still to leave in front.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = SPARE.take();
        }
        if self.is_empty() {
            self.bytes.clear();
            self.sent = 0;
        }
        &mut self.bytes
    }

    /// Has `write` fill `room` bytes behind what is there. It says how many it has used, or how many it needs; none: that it
    /// cannot. False then.
    fn append(
        &mut self,
        room: usize,
        mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
    ) -> bool {
        let bytes = self.tail();
        let start = bytes.len();
        let mut room = room;
        loop {
            bytes.resize(start + room, 0);
            match write(&mut bytes[start..]) {
                Ok(count) => {
                    bytes.truncate(start + count);
                    return true;
                }
                Err(Some(needed)) if needed > room => room = needed,
                Err(_) => {
                    bytes.truncate(start);
                    return false;
                }
            }
        }
    }

    /// Empty: another may use its buffer.
    pub(super) fn give_back(mut self) {
        if (1..=KEEP).contains(&self.bytes.capacity()) {
            self.bytes.clear();
            SPARE.replace(self.bytes);
        }
    }
}

/// What a read came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Decrypted {
    /// Bytes of text.
    pub(super) text: usize,
    /// Bytes of records that were used.
    pub(super) used: usize,
    /// The client has said that it sends no more.
    pub(super) closed: bool,
}

impl Session {
    /// The session that a handshake has opened.
    fn new(tls: UnbufferedServerConnection, rest: Vec<u8>) -> Self {
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

    /// How much has been received and not used.
    fn held(&self) -> usize {
        self.inner.lock().rest.len()
    }

    /// Decrypts what lies in `records` from `fresh` on into `text`, which is at least as long as all of `records`; before
    /// `fresh` there is room for what is held. After an error the alert for the client waits to leave.
    fn read(&self, records: &mut [u8], fresh: usize, text: &mut [u8]) -> io::Result<Decrypted> {
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
            // Nothing can be said any more but the alert.
            Err(_) => *closed = true,
        }
        if rest.is_empty() {
            *rest = Vec::new();
        }
        read.map_err(io::Error::other)
    }

    /// Whether records, or the end, wait to leave and nobody is at it.
    fn owes(&self) -> bool {
        let inner = self.inner.lock();
        !inner.leaving && (!inner.out.is_empty() || inner.end.is_some())
    }

    /// Encrypts what lies at the start of `slices` and writes it; says how much that was. `WouldBlock` when earlier records
    /// have not left: so no more than one write of them is ever held.
    fn write(&self, socket: &Writing, slices: &[IoSlice<'_>]) -> io::Result<usize> {
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
    /// One thread at a time comes here: it has marked the connection as being flushed, or is the task of HTTP/2. Were there
    /// another, it would find that somebody is writing, who takes along what has been queued meanwhile.
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
                inner.out.bytes.extend_from_slice(later.waiting());
            }
            match result {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Says that no more comes (RFC 8446 6.1), then shuts the socket that way once the records before it have left.
    fn close(&self, how: Shutdown) {
        let mut inner = self.inner.lock();
        inner.end = Some(how);
        if !std::mem::replace(&mut inner.closed, true) {
            let Inner { tls, rest, out, .. } = &mut *inner;
            // A session that cannot say it any more ends without.
            let _ = seal(tls, rest, out, 2 * OVERHEAD, say_end);
        }
    }
}

/// The reading half of a socket that speaks TLS.
pub(crate) struct TlsReading {
    socket: Reading,
    session: Arc<Session>,
    /// The client has said that it sends no more.
    closed: bool,
}

/// The writing half of a socket that speaks TLS.
pub(crate) struct TlsWriting {
    socket: Writing,
    session: Arc<Session>,
}

/// The halves of a connection whose handshake is done. `rest` is what came behind it, `closed` whether that was the end.
pub(super) fn halves(
    (reading, writing): (Reading, Writing),
    tls: UnbufferedServerConnection,
    rest: Vec<u8>,
    closed: bool,
) -> (Reading, Writing) {
    let session = Arc::new(Session::new(tls, rest));
    let reading = TlsReading { socket: reading, session: Arc::clone(&session), closed };
    (Reading::Tls(Box::new(reading)), Writing::Tls(Box::new(TlsWriting { socket: writing, session })))
}

impl TlsReading {
    /// Reads text into the first half of `into`; the other half is for the records, and holds two at least.
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let (text, records) = into.split_at_mut(into.len() / 2);
        while !self.closed {
            let held = self.session.held();
            let Some(fresh) = records.get_mut(held..).filter(|fresh| !fresh.is_empty()) else {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            };
            // The end of the stream without the end of the session: the framing of HTTP tells whether anything is missing.
            let count = match ready!(self.socket.poll_read(context, fresh))? {
                0 => break,
                count => held + count,
            };
            let read = self.session.read(&mut records[..count], held, text)?;
            self.closed = read.closed;
            if read.text > 0 {
                return Poll::Ready(Ok(read.text));
            }
            if self.session.owes() {
                // The caller sees to that first. It is not asked for often: a change of keys, the farewell.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(0))
    }

    /// Whether what was read has to be answered by the session itself: [`TlsWriting::flush`] does that.
    pub(crate) fn owes(&self) -> bool {
        self.session.owes()
    }
}

impl TlsWriting {
    /// Encrypts and writes what lies at the start of `slices`; see [`Session::write`].
    pub(crate) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.session.write(&self.socket, slices)
    }

    /// The same with bytes of a file, which the kernel cannot encrypt.
    pub(crate) fn write_file(&self, file: &File, offset: u64, count: usize) -> io::Result<usize> {
        if !self.session.flush(&self.socket)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = TEXT.with_borrow_mut(|text| {
            text.clear();
            file.read(text, offset, count.min(WRITE), Disk::Wait);
            self.session.encrypt(text)
        })?;
        self.session.flush(&self.socket)?;
        Ok(taken)
    }

    /// Writes the records that wait; false when the kernel has no room for all of them.
    pub(crate) fn flush(&self) -> io::Result<bool> {
        self.session.flush(&self.socket)
    }

    /// Says that no more comes, and has the socket shut once that has left, which [`TlsWriting::flush`] sees to.
    pub(crate) fn close(&self, how: Shutdown) {
        self.session.close(how);
    }

    /// Whether records wait to leave that nobody is writing.
    pub(crate) fn owes(&self) -> bool {
        self.session.owes()
    }

    /// Bytes of records that wait.
    pub(crate) fn backlog(&self) -> usize {
        self.session.inner.lock().out.waiting().len()
    }

    /// The socket under the session.
    pub(crate) fn socket(&self) -> &Writing {
        &self.socket
    }
}

/// Feeds `records` to the session until it wants more of them. Text goes to `take`, with how much of it came before; what is
/// to be sent, after an error the alert, is queued in `out`.
pub(super) fn decrypt(
    tls: &mut UnbufferedServerConnection,
    records: &mut [u8],
    out: &mut Records,
    mut take: impl FnMut(&[u8], usize),
) -> Result<Decrypted, rustls::Error> {
    let mut done = Decrypted::default();
    loop {
        let UnbufferedStatus { mut discard, state } = tls.process_tls_records(&mut records[done.used..]);
        let wants_more = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    take(record.payload, done.text);
                    done.text += record.payload.len();
                    discard += record.discard;
                }
                false
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                encode(&mut data, out);
                false
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                false
            }
            Ok(ConnectionState::PeerClosed) => {
                done.closed = true;
                false
            }
            Ok(ConnectionState::Closed) => {
                done.closed = true;
                true
            }
            // Early data is never offered, so that a replayed request cannot reach a handler (RFC 8446 8).
            Ok(_) => true,
            Err(error) => {
                // The alert. More must not be asked of a session that has failed.
                while tls.wants_write() {
                    let state = tls.process_tls_records(&mut []).state;
                    let Ok(ConnectionState::EncodeTlsData(mut data)) = state else { break };
                    encode(&mut data, out);
                }
                return Err(error);
            }
        };
        done.used += discard;
        if wants_more {
            return Ok(done);
        }
    }
}

/// Queues a message of the session.
fn encode(data: &mut EncodeTlsData<'_, ServerConnectionData>, out: &mut Records) {
    out.append(OVERHEAD, |room| match data.encode(room) {
        Ok(count) => Ok(count),
        Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
        Err(EncodeError::AlreadyEncoded) => Err(None),
    });
}

/// Queues records that `write` makes of text, or of the end of it. `rest` is what was received and not used.
fn seal(
    tls: &mut UnbufferedServerConnection,
    rest: &mut Vec<u8>,
    out: &mut Records,
    room: usize,
    mut write: impl FnMut(&mut WriteTraffic<'_, ServerConnectionData>, &mut [u8]) -> Result<usize, EncryptError>,
) -> io::Result<()> {
    loop {
        let UnbufferedStatus { discard, state } = tls.process_tls_records(rest);
        let sealed = match state.map_err(io::Error::other)? {
            ConnectionState::WriteTraffic(mut traffic) => {
                Some(out.append(room, |room| match write(&mut traffic, room) {
                    Ok(count) => Ok(count),
                    Err(EncryptError::InsufficientSize(size)) => Err(Some(size.required_size)),
                    Err(EncryptError::EncryptExhausted) => Err(None),
                }))
            }
            ConnectionState::EncodeTlsData(mut data) => {
                encode(&mut data, out);
                None
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                None
            }
            // Both sides have said that nothing more comes.
            _ => Some(false),
        };
        rest.drain(..discard);
        match sealed {
            None => {}
            Some(true) => return Ok(()),
            Some(false) => return Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

fn say_end(
    traffic: &mut WriteTraffic<'_, ServerConnectionData>,
    room: &mut [u8],
) -> Result<usize, EncryptError> {
    traffic.queue_close_notify(room)
}
