//! A socket in two halves: the task reads one, any thread writes the other.
//!
//! The halves are tokio's, under TLS with a session between them and us: reading through [`AsyncRead`] saves
//! a second `recv` that would only report that there is no more, and `try_write` costs no wake-up and works
//! on every thread.

mod departure;

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use h2::Reason;
use rustix::net::SendFlags;
use socket2::SockRef;
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

pub(crate) use self::departure::{Departure, Watch};

use self::departure::Watched;

use crate::files::{Disk, File};
use crate::net::Accepted;
use crate::server::http2::StreamWriting;
use crate::server::tls::{TlsReading, TlsWriting};

/// Bytes of one read; under TLS, of records and plaintext together.
pub(crate) const READ_SIZE: usize = 128 * 1024;

thread_local! {
    /// One read buffer a thread: an idle connection holds none.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into_boxed_slice());
}

/// A buffer to read into, while `read` runs.
pub(super) fn with_scratch<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| read(scratch))
}

/// The two ends of a connection.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    Tcp {
        client: SocketAddr,
        /// Where it was accepted. `None` if the kernel does not tell, since the client has gone.
        local: Option<SocketAddr>,
    },
    Unix {
        /// The path of the listening socket. `None` if it has none (an abstract name).
        local: Option<Arc<Path>>,
    },
}

impl Peer {
    /// The address; `None` for a Unix socket.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.client().map(|address| address.ip())
    }

    /// The address and the port; `None` for a Unix socket.
    pub(crate) fn client(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp { client, .. } => Some(*client),
            Self::Unix { .. } => None,
        }
    }
}

/// A stream between two runtimes: accepted by one shard, driven by another.
pub(crate) enum Loose {
    Tcp(std::net::TcpStream, SocketAddr),
    Unix(std::os::unix::net::UnixStream),
}

impl Loose {
    pub(crate) fn new(accepted: Accepted) -> io::Result<Self> {
        Ok(match accepted {
            Accepted::Tcp(stream, peer) => Self::Tcp(stream.into_std()?, peer),
            Accepted::Unix(stream) => Self::Unix(stream.into_std()?),
        })
    }

    pub(crate) fn attach(self) -> io::Result<Accepted> {
        Ok(match self {
            Self::Tcp(stream, peer) => Accepted::Tcp(TcpStream::from_std(stream)?, peer),
            Self::Unix(stream) => Accepted::Unix(UnixStream::from_std(stream)?),
        })
    }
}

/// Splits a stream.
pub(crate) fn split(accepted: Accepted) -> (Reading, Writing, Peer) {
    match accepted {
        Accepted::Tcp(stream, peer) => {
            let local = stream.local_addr().ok();
            let (reading, writing) = stream.into_split();
            (Reading::Tcp(reading), Writing::Tcp(writing), Peer::Tcp { client: peer, local })
        }
        Accepted::Unix(stream) => {
            let address = stream.local_addr().ok();
            let local = address.as_ref().and_then(|address| address.as_pathname()).map(Arc::from);
            let (reading, writing) = stream.into_split();
            (Reading::Unix(reading), Writing::Unix(writing), Peer::Unix { local })
        }
    }
}

/// The reading half.
pub(crate) enum Reading {
    Tcp(tcp::OwnedReadHalf),
    Unix(unix::OwnedReadHalf),
    /// Of a client that is not read at the moment.
    Watched(Box<Watched>),
    /// It has been taken by what reads the frames of HTTP/2.
    Gone,
    /// Either of them, under TLS.
    Tls(Box<TlsReading>),
}

impl Reading {
    /// Reads into `into`, which has room for [`READ_SIZE`] bytes.
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if matches!(self, Self::Watched(_)) {
            self.end_watch();
        }
        let mut buffer = ReadBuf::new(into);
        let polled = match self {
            Self::Tcp(half) => Pin::new(half).poll_read(context, &mut buffer),
            Self::Unix(half) => Pin::new(half).poll_read(context, &mut buffer),
            Self::Gone | Self::Watched(_) => Poll::Ready(Ok(())),
            Self::Tls(half) => return half.poll_read(context, into),
        };
        polled.map(|result| result.map(|()| buffer.filled().len()))
    }

    /// Whether the read bytes require a reply, which [`Writing::try_flush`] sends.
    pub(crate) fn owes(&self) -> bool {
        match self {
            Self::Tls(half) => half.owes(),
            Self::Tcp(_) | Self::Unix(_) | Self::Watched(_) | Self::Gone => false,
        }
    }
}

/// The writing half.
pub(crate) enum Writing {
    Tcp(tcp::OwnedWriteHalf),
    Unix(unix::OwnedWriteHalf),
    /// A stream of HTTP/2.
    Stream(StreamWriting),
    /// Either of them, under TLS.
    Tls(Box<TlsWriting>),
}

impl Writing {
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => half.try_write(bytes),
            Self::Unix(half) => half.try_write(bytes),
            Self::Stream(stream) => stream.write(&[IoSlice::new(bytes)]),
            Self::Tls(half) => half.write(&[IoSlice::new(bytes)]),
        }
    }

    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => half.try_write_vectored(slices),
            Self::Unix(half) => half.try_write_vectored(slices),
            Self::Stream(stream) => stream.write(slices),
            Self::Tls(half) => half.write(slices),
        }
    }

    /// Whether there are accepted bytes that no thread is writing.
    pub(crate) fn owes(&self) -> bool {
        match self {
            Self::Tls(half) => half.owes(),
            Self::Tcp(_) | Self::Unix(_) | Self::Stream(_) => false,
        }
    }

    /// Accepted bytes that wait for room in the kernel.
    pub(crate) fn backlog(&self) -> usize {
        match self {
            Self::Tls(half) => half.backlog(),
            Self::Tcp(_) | Self::Unix(_) | Self::Stream(_) => 0,
        }
    }

    /// Writes the waiting bytes to the kernel. False if it has no room.
    pub(crate) fn try_flush(&self) -> io::Result<bool> {
        match self {
            Self::Tls(half) => half.flush(),
            Self::Tcp(_) | Self::Unix(_) | Self::Stream(_) => Ok(true),
        }
    }

    /// Writes bytes that are followed by others at once, so that they share a segment.
    pub(crate) fn try_write_more(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(half) => {
                let socket = half.as_ref();
                let flags = SendFlags::MORE | SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
                socket.try_io(Interest::WRITABLE, || Ok(rustix::net::send(socket, bytes, flags)?))
            }
            Self::Unix(half) => half.try_write(bytes),
            Self::Stream(stream) => stream.write(&[IoSlice::new(bytes)]),
            Self::Tls(half) => half.write(&[IoSlice::new(bytes)]),
        }
    }

    /// Makes the kernel send up to `count` bytes of `file` from `offset` on.
    pub(crate) fn try_send_file(&self, file: &File, offset: u64, count: usize) -> io::Result<usize> {
        let sent = match self {
            Self::Tcp(half) => {
                let socket = half.as_ref();
                socket.try_io(Interest::WRITABLE, || send_file(socket, file, offset, count))
            }
            Self::Unix(half) => {
                let socket = half.as_ref();
                socket.try_io(Interest::WRITABLE, || send_file(socket, file, offset, count))
            }
            Self::Stream(stream) => return stream.send_file(file, offset, count),
            Self::Tls(half) => return half.write_file(file, offset, count),
        };
        match sent {
            // A file system without `sendfile`.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                let mut copy = Vec::new();
                file.read(&mut copy, offset, count.min(64 * 1024), Disk::Wait);
                self.try_write(&copy)
            }
            sent => sent,
        }
    }

    pub(crate) fn poll_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(half) => half.as_ref().poll_write_ready(context),
            Self::Unix(half) => half.as_ref().poll_write_ready(context),
            Self::Stream(stream) => stream.poll_ready(context),
            Self::Tls(half) => half.socket().poll_ready(context),
        }
    }

    pub(crate) fn descriptor(&self) -> i64 {
        match self {
            Self::Tcp(half) => half.as_ref().as_raw_fd().into(),
            Self::Unix(half) => half.as_ref().as_raw_fd().into(),
            Self::Tls(half) => half.socket().descriptor(),
            Self::Stream(stream) => stream.descriptor,
        }
    }

    /// Announces the end to the client, on every layer. False if that is left to [`Writing::try_flush`].
    pub(crate) fn close(&self, how: Shutdown) -> bool {
        match self {
            Self::Tls(half) => {
                half.close(how);
                return false;
            }
            Self::Stream(stream) => stream.end(),
            Self::Tcp(_) | Self::Unix(_) => self.shutdown(how),
        }
        true
    }

    /// Ends a stream of HTTP/2 whose response turned out not to be whole, without a fault of the client.
    pub(crate) fn fail(&self) {
        match self {
            Self::Stream(stream) => stream.reset(Reason::INTERNAL_ERROR),
            _ => self.shutdown(Shutdown::Both),
        }
    }

    /// Shuts the socket itself; with [`Shutdown::Both`], a pending read of the task sees it. An error means
    /// that it is already closed. A stream is reset.
    pub(crate) fn shutdown(&self, how: Shutdown) {
        let fd = match self {
            Self::Tcp(half) => half.as_ref().as_fd(),
            Self::Unix(half) => half.as_ref().as_fd(),
            Self::Tls(half) => return half.socket().shutdown(how),
            Self::Stream(stream) => return stream.reset(Reason::CANCEL),
        };
        let _ = SockRef::from(&fd).shutdown(how);
    }
}

fn send_file(socket: impl AsFd, file: &File, mut offset: u64, count: usize) -> io::Result<usize> {
    Ok(rustix::fs::sendfile(socket, file, Some(&mut offset), count)?)
}
