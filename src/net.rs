//! Listening sockets and the two kinds of stream they give.
//!
//! Binding is synchronous and happens before any thread of the server exists, so a port in use is an error of
//! `listen()` and a forked process never inherits half a runtime.

pub mod proxy;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Connections the kernel keeps ready for `accept`. The kernel cuts it to its own `somaxconn`.
const BACKLOG: i32 = 4096;

/// Where to listen.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// A TCP port.
    Tcp {
        /// Name or address; none is every interface (IPv6 with IPv4 mapped, else IPv4 alone).
        host: Option<String>,
        /// 0 lets the system choose.
        port: u16,
        /// Whether other sockets are kept from sharing the port (no `SO_REUSEPORT`).
        exclusive: bool,
    },
    /// A Unix socket's path. A stale socket file of that name is replaced, a live one is not.
    Unix(PathBuf),
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
    /// Binds and listens.
    pub fn bind(endpoint: &Endpoint) -> io::Result<Self> {
        match endpoint {
            Endpoint::Tcp { host, port, exclusive } => {
                bind_tcp(host.as_deref(), *port, *exclusive).map(Self::Tcp)
            }
            Endpoint::Unix(path) => bind_unix(path).map(Self::Unix),
        }
    }

    /// Takes a stream socket that somebody else has bound and listens on, such as the parent process.
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

    /// Registers the socket with the runtime of the calling context.
    pub(crate) fn into_acceptor(self) -> io::Result<Acceptor> {
        match self {
            Self::Tcp(listener) => TcpListener::from_std(listener).map(Acceptor::Tcp),
            Self::Unix(listener) => UnixListener::from_std(listener).map(Acceptor::Unix),
        }
    }
}

/// A listener registered with a runtime.
pub(crate) enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A fresh connection, not registered with any runtime yet, so that the shard that will drive it can do so.
pub(crate) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Acceptor {
    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Answers are written whole; waiting for more of them only adds latency.
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream, peer))
            }
            Self::Unix(listener) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }
}

fn bind_tcp(host: Option<&str>, port: u16, exclusive: bool) -> io::Result<std::net::TcpListener> {
    let candidates: Vec<SocketAddr> = match host {
        None | Some("") => vec![
            SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
            SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
        ],
        Some(host) => (host, port).to_socket_addrs()?.collect(),
    };
    let mut failure = io::Error::new(io::ErrorKind::AddrNotAvailable, "the host name has no address");
    for address in candidates {
        match open_tcp(address, exclusive) {
            Ok(listener) => return Ok(listener),
            // The first failure that is not "no IPv6 here" tells the user most.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn open_tcp(address: SocketAddr, exclusive: bool) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    if !exclusive && address.port() != 0 {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        // Only a refusal says that nobody is there. A server whose backlog is full would have us wait, were we to block.
        let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        probe.set_nonblocking(true)?;
        match probe.connect(&SockAddr::unix(path)?) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            _ => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process is listening on it")),
        }
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
