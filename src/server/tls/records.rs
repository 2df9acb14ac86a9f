//! TLS records: decrypted to plaintext, and encrypted from it.
//!
//! rustls keeps the keys and nothing else (its "unbuffered" interface): received bytes are decrypted in
//! place, and output goes to the kernel from one buffer of the thread.

use std::cell::RefCell;
use std::io;

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};

/// The most plaintext that one write encrypts: beyond it the kernel has to show first that it has room.
pub(super) const WRITE: usize = 64 * 1024;
/// The overhead of a record, generously: header, nonce, tag (RFC 8446 5.2, RFC 5246 6.2.3).
pub(super) const OVERHEAD: usize = 64;
/// Buffers larger than this are given back to the allocator.
const KEEP: usize = 2 * WRITE;

thread_local! {
    /// Records on their way: an idle connection holds no buffer.
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Records that the kernel has not taken.
#[derive(Debug, Default)]
pub(super) struct Records {
    bytes: Vec<u8>,
    /// The number of bytes it has taken.
    sent: usize,
}

impl Records {
    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// The unsent bytes.
    pub(super) fn waiting(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// So many bytes have left.
    pub(super) fn advance(&mut self, count: usize) {
        self.sent += count;
    }

    /// A buffer to append to, with the unsent bytes in front.
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

    /// Has `write` fill `room` bytes behind what is there. It says how many it has used, or how many it needs, or by
    /// None that it cannot. False then.
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

    /// Empty: another queue may use its buffer.
    pub(super) fn give_back(mut self) {
        if (1..=KEEP).contains(&self.bytes.capacity()) {
            self.bytes.clear();
            SPARE.replace(self.bytes);
        }
    }
}

/// The result of a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Decrypted {
    /// Bytes of text.
    pub(super) text: usize,
    /// Bytes of records that were used.
    pub(super) used: usize,
    /// The client has sent `close_notify`.
    pub(super) closed: bool,
}

/// Feeds `records` to the session until it needs more of them. Plaintext goes to `take`, with the amount
/// before it; replies, and the alert after an error, are queued in `out`.
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
                // The alert. A failed session must not be asked for more.
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

/// Queues records that `write` makes of plaintext, or of its end. `rest` are received and unused bytes.
pub(super) fn seal(
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
            // Both sides have sent `close_notify`.
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

/// Queues the `close_notify` of a session.
pub(super) fn say_end(
    traffic: &mut WriteTraffic<'_, ServerConnectionData>,
    room: &mut [u8],
) -> Result<usize, EncryptError> {
    traffic.queue_close_notify(room)
}
