//! The two halves of a socket that speaks TLS, with the session between them.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::server::UnbufferedServerConnection;

use crate::files::File;
use crate::server::stream::{Departure, Reading, Watch, Writing};
use crate::server::tls::session::Session;

/// The reading half of a socket that speaks TLS.
pub(crate) struct TlsReading {
    socket: Reading,
    session: Arc<Session>,
    /// The client has sent `close_notify`.
    closed: bool,
}

/// The writing half of a socket that speaks TLS.
pub(crate) struct TlsWriting {
    socket: Writing,
    session: Arc<Session>,
}

/// The halves of a connection whose handshake is done. `rest` are the bytes after it, `closed` whether that
/// was the end.
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
    /// Reads plaintext into the first half of `into`; the other half is for the records, and holds at least
    /// two.
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
            // The end of the stream without the end of the session: the framing of HTTP shows whether
            // anything is missing.
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
                // The caller handles that first. It is rare: a change of keys, the end.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(0))
    }

    /// Waits for the client to go; see [`Reading::poll_departure`].
    pub(crate) fn poll_departure(&mut self, context: &mut Context<'_>, watch: Watch) -> Poll<Departure> {
        self.socket.poll_departure(context, watch)
    }

    /// Whether the session itself has to reply to the read bytes: [`TlsWriting::flush`] does that.
    pub(crate) fn owes(&self) -> bool {
        self.session.owes()
    }
}

impl TlsWriting {
    /// Encrypts and writes the bytes at the start of `slices`; see [`Session::write`].
    pub(crate) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.session.write(&self.socket, slices)
    }

    /// The same with bytes of a file, which the kernel cannot encrypt.
    pub(crate) fn write_file(&self, file: &File, offset: u64, count: usize) -> io::Result<usize> {
        self.session.write_file(&self.socket, file, offset, count)
    }

    /// Writes the records that wait; false when the kernel has no room for all of them.
    pub(crate) fn flush(&self) -> io::Result<bool> {
        self.session.flush(&self.socket)
    }

    /// Queues `close_notify`, and shuts the socket after it, which [`TlsWriting::flush`] does.
    pub(crate) fn close(&self, how: Shutdown) {
        self.session.close(how);
    }

    /// Whether there are waiting records without a writer.
    pub(crate) fn owes(&self) -> bool {
        self.session.owes()
    }

    /// Bytes of records that wait.
    pub(crate) fn backlog(&self) -> usize {
        self.session.backlog()
    }

    /// The socket under the session.
    pub(crate) fn socket(&self) -> &Writing {
        &self.socket
    }
}
