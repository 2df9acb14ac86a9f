//! The bytes of a connection, as `h2` reads and writes them.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::server::connection::Connection;
use crate::server::http2::bounds::Streams;
use crate::server::http2::meter::Meter;
use crate::server::stream::{Reading, Writing, with_scratch};

/// Both halves of a connection, and the bytes read before.
pub(super) struct Wire {
    connection: Arc<Connection>,
    /// Returned when HTTP/2 has ended: the socket is read on for a while (RFC 9112 9.6 has the reason).
    reading: Arc<Mutex<Reading>>,
    /// Bytes read before the protocol was known.
    early: Bytes,
    /// The client reads nothing at the moment.
    stalled: bool,
    streams: Arc<Streams>,
    meter: Meter,
}

impl Wire {
    pub(super) fn new(
        connection: Arc<Connection>,
        reading: Arc<Mutex<Reading>>,
        early: Bytes,
        streams: Arc<Streams>,
    ) -> Self {
        let meter = Meter::new(&connection.server.deadlines);
        Self { connection, reading, early, stalled: false, streams, meter }
    }

    fn poll_put(
        &mut self,
        context: &mut Context<'_>,
        put: impl Fn(&Writing) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.connection.with_socket(&put) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => {
                    self.stall(false);
                    return Poll::Ready(result);
                }
            }
            let Poll::Ready(ready) = self.connection.poll_room(context) else {
                self.stall(true);
                return Poll::Pending;
            };
            ready?;
        }
    }

    /// Records whether the client reads the output: the time without reading is limited.
    fn stall(&mut self, stalled: bool) {
        if self.stalled != stalled {
            self.stalled = stalled;
            let mut state = self.connection.lock();
            if stalled {
                state.out.block();
            } else {
                state.out.unblock();
            }
            state.pace.reached(self.streams.written());
            state.rearm();
        }
    }
}

impl Wire {
    fn poll_take(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let count = self.early.len().min(buffer.remaining());
            buffer.put_slice(&self.early.split_to(count));
            return Poll::Ready(Ok(()));
        }
        let Self { reading, connection, early, .. } = self;
        let reading = &mut *reading.lock();
        if !matches!(reading, Reading::Tls(_)) {
            let count = ready!(reading.poll_read(context, buffer.initialize_unfilled()))?;
            buffer.advance(count);
            return Poll::Ready(Ok(()));
        }
        // Records are larger than the requested size.
        let read = with_scratch(|scratch| {
            let count = ready!(reading.poll_read(context, scratch))?;
            let now = count.min(buffer.remaining());
            buffer.put_slice(&scratch[..now]);
            *early = Bytes::copy_from_slice(&scratch[now..count]);
            Poll::Ready(Ok(()))
        });
        if reading.owes() {
            // The rest is tried again with the next flush.
            connection.with_socket(Writing::try_flush)?;
        }
        read
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.streams.is_pestered() {
            // Nothing more is read; the connection reports that at the next poll.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(self.poll_take(context, buffer))?;
        let Self { meter, connection, streams, .. } = &mut *self;
        if !meter.received(&buffer.filled()[before..], &connection.server.deadlines) {
            streams.pester();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let put = ready!(self.poll_put(context, |socket| socket.try_write(bytes)));
        if let Ok(count) = put {
            self.meter.sent(&bytes[..count]);
        }
        Poll::Ready(put)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let put = ready!(self.poll_put(context, |socket| socket.try_write_vectored(slices)));
        // `h2` has the bytes of a response in a slice of their own, after one with everything before them. So
        // replies that a client can provoke without reading, as with pings, do not count.
        let before = slices.first().map_or(0, |slice| slice.len());
        if let Ok(count @ 1..) = put {
            self.streams.wrote(count.saturating_sub(before));
            let mut left = count;
            for slice in slices {
                let written = left.min(slice.len());
                self.meter.sent(&slice[..written]);
                left -= written;
            }
        }
        Poll::Ready(put)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.connection.with_socket(Writing::try_flush)? {
                self.stall(false);
                return Poll::Ready(Ok(()));
            }
            let Poll::Ready(ready) = self.connection.poll_room(context) else {
                self.stall(true);
                return Poll::Pending;
            };
            ready?;
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // If a layer has its own closing record, it may wait for room.
        self.connection.say_end(Shutdown::Write);
        self.poll_flush(context)
    }
}
