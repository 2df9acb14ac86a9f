//! Listening sockets and their two kinds of stream.
//!
//! Binding is synchronous and happens before any thread of the server exists, so a port in use is an error of
//! `listen()` and a forked process never inherits half a runtime.

mod bind;
pub mod proxy;
mod sharing;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

pub use self::sharing::refuse_strangers;

/// The default backlog: connections that the kernel keeps ready for `accept`. The kernel limits it to its own
/// `somaxconn`.
pub const BACKLOG: i32 = 4096;
/// The default permissions of a Unix socket: only the user that listens may connect.
pub const UNIX_MODE: u32 = 0o700;

/// Where to listen.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// A TCP port.
    Tcp {
        /// Name or address; `None` is every interface (IPv6 with IPv4 mapped, else IPv4 alone).
        host: Option<String>,
        /// 0 lets the kernel choose.
        port: u16,
        /// Whether no other socket can share the port (no `SO_REUSEPORT`).
        exclusive: bool,
    },
    /// A Unix socket.
    Unix {
        /// Its path. A stale socket file of that name is replaced, a live one is not. A path that begins with
        /// NUL or `@` is a name in the abstract namespace, and no file.
        path: PathBuf,
        /// The permissions of the file; write permission is needed to connect.
        mode: u32,
    },
}

/// A bound and listening socket.
#[derive(Debug)]
pub enum Listener {
    /// A TCP socket.
    Tcp(std::net::TcpListener),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixListener),
}

impl Listener {
    /// Binds and listens, with the default backlog.
    pub fn bind(endpoint: &Endpoint) -> io::Result<Self> {
        Self::bind_with(endpoint, BACKLOG)
    }

    /// Binds and listens.
    pub fn bind_with(endpoint: &Endpoint, backlog: i32) -> io::Result<Self> {
        match endpoint {
            Endpoint::Tcp { host, port, exclusive } => {
                bind::tcp(host.as_deref(), *port, *exclusive, backlog).map(Self::Tcp)
            }
            Endpoint::Unix { path, mode } => bind::unix(path, *mode, backlog).map(Self::Unix),
        }
    }

    /// Takes a stream socket that another process, such as the parent, has bound and listens on. The socket
    /// becomes non-blocking for all its holders.
    pub fn adopt(descriptor: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(descriptor);
        if !socket.is_listener()? || socket.r#type()? != Type::STREAM {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no listening stream socket"));
        }
        socket.set_nonblocking(true)?;
        match socket.domain()? {
            Domain::UNIX => Ok(Self::Unix(socket.into())),
            Domain::IPV4 | Domain::IPV6 => Ok(Self::Tcp(socket.into())),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither of TCP nor a Unix socket")),
        }
    }

    /// The port that was bound; 0 for a Unix socket.
    pub fn port(&self) -> u16 {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or(0, |address| address.port()),
            Self::Unix(_) => 0,
        }
    }

    /// Another handle of the same listening socket.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(listener) => listener.try_clone().map(Self::Tcp),
            Self::Unix(listener) => listener.try_clone().map(Self::Unix),
        }
    }

    /// Accepts a waiting connection; `None` if there is none. The socket must be non-blocking. Call it inside
    /// a runtime.
    pub(crate) fn take(&self) -> io::Result<Option<Accepted>> {
        let taken = match self {
            Self::Tcp(listener) => listener.accept().and_then(|(stream, peer)| {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(TcpStream::from_std(stream)?, peer))
            }),
            Self::Unix(listener) => listener.accept().and_then(|(stream, _)| {
                stream.set_nonblocking(true)?;
                Ok(Accepted::Unix(UnixStream::from_std(stream)?))
            }),
        };
        match taken {
            Ok(accepted) => Ok(Some(accepted)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Registers the socket with the runtime of the calling context.
    pub(crate) fn into_acceptor(self) -> io::Result<Acceptor> {
        match self {
            Self::Tcp(listener) => TcpListener::from_std(listener).map(Acceptor::Tcp),
            Self::Unix(listener) => UnixListener::from_std(listener).map(Acceptor::Unix),
        }
    }
}

impl From<Listener> for OwnedFd {
    fn from(listener: Listener) -> Self {
        match listener {
            Listener::Tcp(listener) => listener.into(),
            Listener::Unix(listener) => listener.into(),
        }
    }
}

/// A listener registered with a runtime.
pub(crate) enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A new connection, not yet registered with any runtime, so that its shard can register it.
pub(crate) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Accepted {
    /// The address of the peer; `None` on a Unix socket.
    pub(crate) fn peer(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(_, peer) => Some(peer.ip()),
            Self::Unix(_) => None,
        }
    }

    /// Waits until there are bytes to read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream, _) => stream.readable().await,
            Self::Unix(stream) => stream.readable().await,
        }
    }

    /// Reads the available bytes.
    pub(crate) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream, _) => stream.try_read(into),
            Self::Unix(stream) => stream.try_read(into),
        }
    }
}

impl Acceptor {
    /// Returns the socket.
    pub(crate) fn into_listener(self) -> io::Result<Listener> {
        match self {
            Self::Tcp(listener) => listener.into_std().map(Listener::Tcp),
            Self::Unix(listener) => listener.into_std().map(Listener::Unix),
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Responses are written whole; waiting for more bytes only adds latency.
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream, peer))
            }
            Self::Unix(listener) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}
