//! Sharing of ports: processes that belong together share one, and a second start by mistake does not.
//!
//! `SO_REUSEPORT` divides the connections of a port among all who set it, so a program that is started twice
//! would silently lose half of them. Programs that fork one process for each core, and listen in each, rely
//! on it. The process group distinguishes the two: children are born into their parent's, and a shell or a
//! service manager gives each program its own.
//!
//! This is a guard against mistakes. A process that has set the option cannot take it back, so a later
//! process of the same user that does not check still shares the port: only an exclusive port is never
//! shared.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::net::{Endpoint, bind};

/// The state of a listening socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// How often the table is read.
const LOOKS: usize = 3;

/// Refuses an endpoint that would be shared with a process outside of this one's group. If the kernel hides
/// the listeners, no process is refused.
pub fn refuse_strangers(endpoint: &Endpoint) -> io::Result<()> {
    let Endpoint::Tcp { host, port, exclusive: false } = endpoint else { return Ok(()) };
    if *port == 0 {
        return Ok(());
    }
    let own: Vec<IpAddr> = bind::addresses(host.as_deref(), *port)?.iter().map(SocketAddr::ip).collect();
    let mut listening = HashSet::new();
    // The kernel gives a page at a time, and may omit a line if sockets open and close in between: read it
    // again.
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"].repeat(LOOKS) {
        let Ok(table) = read(table) else { continue };
        let found = table.lines().skip(1).filter_map(listener);
        listening.extend(
            found
                .filter(|(address, _)| {
                    address.port() == *port && own.iter().any(|own| clash(*own, address.ip()))
                })
                .map(|(_, inode)| inode),
        );
    }
    if listening.is_empty() {
        return Ok(());
    }
    let Some(sockets) = sockets_of_group() else { return Ok(()) };
    listening.retain(|socket| !sockets.contains(socket));
    if listening.is_empty() {
        return Ok(());
    }
    let text = "it is in use by a process of another process group; reuse_port=True would take a share of its connections";
    Err(io::Error::new(io::ErrorKind::AddrInUse, text))
}

/// A file of the kernel, in as few reads as possible.
fn read(path: &str) -> io::Result<String> {
    let (mut file, mut text, mut piece) = (File::open(path)?, Vec::new(), vec![0; 64 * 1024]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
            count => text.extend_from_slice(&piece[..count]),
        }
    }
}

/// Whether two listeners on one port share connections.
fn clash(one: IpAddr, other: IpAddr) -> bool {
    one.to_canonical() == other.to_canonical() || one.is_unspecified() || other.is_unspecified()
}

/// Address and inode of a listening socket, from a line of the table.
fn listener(line: &str) -> Option<(SocketAddr, u64)> {
    let mut fields = line.split_ascii_whitespace();
    let local = fields.nth(1)?;
    if fields.nth(1)? != LISTENING {
        return None;
    }
    let inode = fields.nth(5)?.parse().ok()?;
    let (address, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Groups of four bytes, each a number in the order of this machine.
    let mut octets = [0; 16];
    let (groups, rest) = address.as_bytes().as_chunks::<8>();
    if !rest.is_empty() {
        return None;
    }
    for (group, into) in groups.iter().zip(octets.chunks_exact_mut(4)) {
        let number = u32::from_str_radix(std::str::from_utf8(group).ok()?, 16).ok()?;
        into.copy_from_slice(&number.to_ne_bytes());
    }
    let address = match groups.len() {
        1 => IpAddr::from(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3])),
        4 => IpAddr::from(Ipv6Addr::from(octets)),
        _ => return None,
    };
    Some((SocketAddr::new(address, port), inode))
}

/// Inodes of the sockets that processes of this one's group hold; `None` if the kernel hides them. A process
/// that has dropped privileges, or got them from its program's file, is closed to its siblings, although they
/// have the same user.
fn sockets_of_group() -> Option<HashSet<u64>> {
    let own = group_of("self")?;
    let mut found = HashSet::new();
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(name) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else {
            continue;
        };
        if group_of(name) == Some(own) {
            match sockets_of(&process.path().join("fd")) {
                Ok(sockets) => found.extend(sockets),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return None,
                // A process that has ended since has no sockets.
                Err(_) => {}
            }
        }
    }
    Some(found)
}

/// Inodes of the sockets in a directory of descriptors.
fn sockets_of(descriptors: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(descriptors)? {
        let target = match std::fs::read_link(entry?.path()) {
            Ok(target) => target,
            // Closed since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let inode = target.to_str().and_then(|name| name.strip_prefix("socket:[")?.strip_suffix(']'));
        found.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
    }
    Ok(found)
}

/// The process group of a process, by its entry in `/proc`.
fn group_of(process: &str) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name of the program is in parentheses and may contain any character, so the fields are counted from
    // the last one.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_table() {
        let v4 = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 0 100 0 0 10 0";
        let v6 = "   1: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 \
                  00:00000000 00000000     0        0 9 1 0 100 0 0 10 0";
        if cfg!(target_endian = "little") {
            assert_eq!(listener(v4), Some(("127.0.0.1:8080".parse().unwrap(), 12345)));
            assert_eq!(listener(v6), Some(("[::1]:8080".parse().unwrap(), 9)));
        }
        assert_eq!(listener(&v4.replace(" 0A ", " 01 ")), None);
        for line in
            ["", "sl local_address", "0: zz:1 0:0 0A 0:0 0:0 0 0 0 1", "0: 00:1 0:0 0A 0:0 0:0 0 0 0 1"]
        {
            assert_eq!(listener(line), None, "{line}");
        }
    }

    #[test]
    fn this_process_is_of_its_group() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let endpoint = Endpoint::Tcp { host: Some("127.0.0.1".into()), port, exclusive: false };
        assert!(refuse_strangers(&endpoint).is_ok());
    }
}
