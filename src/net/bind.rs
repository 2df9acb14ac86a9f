//! Binding: from a host name, a port or a path to a socket that listens.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Listens on a TCP port.
pub(super) fn tcp(
    host: Option<&str>,
    port: u16,
    exclusive: bool,
    backlog: i32,
) -> io::Result<std::net::TcpListener> {
    let mut failure = io::Error::new(io::ErrorKind::AddrNotAvailable, "the host name has no address");
    for address in addresses(host, port)? {
        match open(address, exclusive, backlog) {
            Ok(listener) => return Ok(listener),
            // The first failure that is not "no IPv6 here" tells the user most.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// What a host stands for, the best first; no host is every interface, of both families where there are two.
pub(super) fn addresses(host: Option<&str>, port: u16) -> io::Result<Vec<SocketAddr>> {
    let Some(host) = host.filter(|host| !host.is_empty()) else {
        return Ok(vec![
            SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
            SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
        ]);
    };
    // As it stands in a URL.
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = bare.filter(|inner| inner.contains(':')).unwrap_or(host);
    Ok((host, port).to_socket_addrs()?.collect())
}

fn open(address: SocketAddr, exclusive: bool, backlog: i32) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    if !exclusive && address.port() != 0 {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Listens on a Unix socket.
pub(super) fn unix(path: &Path, mode: u32, backlog: i32) -> io::Result<std::os::unix::net::UnixListener> {
    let bytes = path.as_os_str().as_bytes();
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    if let [0 | b'@', name @ ..] = bytes {
        let abstract_name = [b"\0", name].concat();
        socket.bind(&SockAddr::unix(std::ffi::OsStr::from_bytes(&abstract_name))?)?;
    } else {
        remove_stale(path)?;
        // The file takes over what the socket has, less what the process masks out: it never has more than was asked for.
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode))?;
        socket.bind(&SockAddr::unix(path)?)?;
        // Nobody can connect before it listens, so what the mask has taken away can be given back here.
        if let Err(error) = permit(path, mode) {
            let _ = std::fs::remove_file(path);
            return Err(error);
        }
    }
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn remove_stale(path: &Path) -> io::Result<()> {
    if !std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        return Ok(());
    }
    // Only a refusal says that nobody is there. A server whose backlog is full would have us wait, were we to block.
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process is listening on it")),
    }
}

/// Gives the file of a socket its permissions. It is opened first, so that whoever puts another one in its place gains nothing.
fn permit(path: &Path, mode: u32) -> io::Result<()> {
    let file = rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let found = rustix::fs::fstat(&file)?.st_mode;
    if FileType::from_raw_mode(found) != FileType::Socket {
        return Err(io::Error::other("another process has put a file in its place"));
    }
    if found & 0o7777 == mode {
        return Ok(());
    }
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    std::fs::set_permissions(name, std::fs::Permissions::from_mode(mode))
}
