//! Binding: from a host name, a port or a path to a socket that listens.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Longest wait for other processes that bind in the same directory.
const PATIENCE: Duration = Duration::from_secs(1);
/// Pause between two attempts meanwhile.
const PAUSE: Duration = Duration::from_millis(5);

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
            // The first failure other than "no IPv6 here" helps the user most.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// The addresses of a host, the best first; no host is every interface, of both families if there are two.
pub(super) fn addresses(host: Option<&str>, port: u16) -> io::Result<Vec<SocketAddr>> {
    let Some(host) = host.filter(|host| !host.is_empty()) else {
        return Ok(vec![
            SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
            SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
        ]);
    };
    // In the form of a URL.
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
        listen(&socket, backlog)?;
    } else {
        // Between binding and listening a socket looks stale: no process may replace it then, nor may two
        // processes replace the same stale one.
        let _turn = take_turn(path);
        remove_stale(path)?;
        // The file gets the socket's permissions without those in the umask: it never has more than
        // requested.
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode))?;
        socket.bind(&SockAddr::unix(path)?)?;
        // No client can connect before it listens, so the permissions in the umask can be added here.
        if let Err(error) = permit(path, mode).and_then(|()| listen(&socket, backlog)) {
            let _ = std::fs::remove_file(path);
            return Err(error);
        }
    }
    Ok(socket.into())
}

fn listen(socket: &Socket, backlog: i32) -> io::Result<()> {
    socket.listen(backlog)?;
    socket.set_nonblocking(true)
}

/// Waits for other processes that bind in the same directory, by a lock on it, which lasts as long as the
/// returned value. They need a moment, so a lock that lasts longer belongs to another program, and the wait
/// ends. Any other failure to lock the directory is no reason not to listen either.
fn take_turn(path: &Path) -> Option<OwnedFd> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty()).ok()?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(directory),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < deadline => sleep(PAUSE),
            Err(_) => return None,
        }
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    if !std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        return Ok(());
    }
    // Only a refusal proves that nobody listens. A server with a full backlog would block us if the probe
    // were blocking.
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?).map_err(|error| (error.kind(), error)) {
        Ok(()) | Err((io::ErrorKind::WouldBlock, _)) => {
            Err(io::Error::new(io::ErrorKind::AddrInUse, "another process is listening on it"))
        }
        Err((io::ErrorKind::ConnectionRefused, _)) => std::fs::remove_file(path),
        // Its owner has removed it.
        Err((io::ErrorKind::NotFound, _)) => Ok(()),
        Err((kind, error)) => {
            let text = format!(
                "there is a socket, and whether a process listens on it cannot be found out: {error}"
            );
            Err(io::Error::new(kind, text))
        }
    }
}

/// Gives the file of a socket its permissions. It is opened first, so that replacing it has no effect.
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
    // Linux has no other way before 6.6: `fchmod` does not accept a descriptor opened with `O_PATH`.
    std::fs::set_permissions(name, std::fs::Permissions::from_mode(mode)).map_err(|error| {
        match error.kind() {
            io::ErrorKind::NotFound => {
                let (found, text) =
                    (found & 0o7777, "its permissions cannot be changed where /proc is not mounted");
                let advice = "mount it, or set the umask of the process so that nothing has to be changed";
                io::Error::other(format!("{text} (from {found:#o} to {mode:#o}): {advice}"))
            }
            _ => error,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::PathBuf;

    use super::*;

    /// A directory that is removed with the test.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("socketify-{name}-{}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_stale_socket_is_replaced_once() {
        let directory = Directory::new("stale");
        let path = directory.0.join("socket");
        for round in 0..200 {
            // The file stays; the socket is closed.
            drop(UnixListener::bind(&path).unwrap());
            let start = std::sync::Barrier::new(4);
            let bound: Vec<_> = std::thread::scope(|scope| {
                let attempt = || {
                    start.wait();
                    unix(&path, 0o600, 8)
                };
                let attempts: Vec<_> = (0..4).map(|_| scope.spawn(attempt)).collect();
                attempts.into_iter().map(|attempt| attempt.join().unwrap()).collect()
            });
            let mut served: Vec<_> = bound.iter().flatten().collect();
            let listener = served.pop().unwrap();
            assert!(served.is_empty(), "round {round}: {bound:?}");
            let _client = UnixStream::connect(&path).unwrap();
            listener.accept().unwrap();
            for refused in bound.iter().filter_map(|bound| bound.as_ref().err()) {
                assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
            }
            drop(bound);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_lock_that_is_kept_is_not_waited_for() {
        let directory = Directory::new("lock");
        let path = directory.0.join("socket");
        let kept = take_turn(&path);
        assert!(kept.is_some());
        unix(&path, 0o600, 8).unwrap();
    }
}
