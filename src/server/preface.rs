//! What comes before any protocol: the PROXY preface, by which a trusted peer says whom it speaks for.
//!
//! It is read from the bare socket, before a TLS handshake and before there is a connection; and once, for whatever comes
//! behind it is of the client, who may not say who it is.

use std::io;
use std::net::IpAddr;

use tokio::time::timeout;

use crate::config::ProxyProtocol;
use crate::net::Accepted;
use crate::net::proxy::{self, Addresses, Preface};
use crate::server::Server;

/// Bytes asked of the kernel in one read. What is behind a preface is handed on.
const READ_SIZE: usize = 4096;

/// Whether a preface is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The connection begins with the client's own bytes.
    None,
    /// There may be one.
    Optional,
    /// There has to be one.
    Required,
    /// The peer could not be believed: it is not let in.
    Refused,
}

/// Whom a peer speaks for.
#[derive(Clone, Debug, Default)]
pub(crate) enum Told {
    /// It has not said that it speaks for anybody: it is the client, or a proxy that says so in headers.
    #[default]
    Nothing,
    /// For itself, or for somebody that it does not name.
    Nobody,
    /// For a client at these addresses.
    Addresses(Box<Addresses>),
}

impl Told {
    /// The client's address.
    pub(crate) fn source(&self) -> Option<IpAddr> {
        match self {
            Self::Addresses(told) => Some(told.source.ip()),
            Self::Nothing | Self::Nobody => None,
        }
    }
}

/// What the start of a connection has brought.
#[derive(Debug, Default)]
pub(crate) struct Greeting {
    pub(crate) told: Told,
    /// Bytes that were read and are not of the preface: the first of whatever protocol follows.
    pub(crate) rest: Vec<u8>,
}

/// Whether a preface is waited for from this peer; none is one of a Unix socket.
pub(crate) fn wanted(server: &Server, peer: Option<IpAddr>) -> Wanted {
    let is_trusted = || server.config.trusted_proxies.includes(peer);
    match server.config.proxy_protocol {
        ProxyProtocol::Optional if is_trusted() => Wanted::Optional,
        ProxyProtocol::Off | ProxyProtocol::Optional => Wanted::None,
        ProxyProtocol::Required if is_trusted() => Wanted::Required,
        ProxyProtocol::Required => Wanted::Refused,
    }
}

/// Reads the preface, if there is one. None: the connection is to be closed without a word, since nobody knows what the peer
/// speaks. That is so for a preface that is malformed or required and not there, after the time that a request head has, and
/// when the server closes.
pub(crate) async fn read(server: &Server, stream: &Accepted, wanted: Wanted) -> Option<Greeting> {
    let closing = server.stop_accepting.notified();
    if server.is_closing() {
        return None;
    }
    tokio::select! {
        () = closing => None,
        greeting = timeout(server.config.header_timeout, receive(stream, wanted)) => greeting.ok().flatten(),
    }
}

async fn receive(stream: &Accepted, wanted: Wanted) -> Option<Greeting> {
    let mut bytes = Vec::new();
    loop {
        stream.readable().await.ok()?;
        match take(stream, &mut bytes) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return None,
        }
        match proxy::parse(&bytes) {
            Preface::Partial => {}
            Preface::Present(length, addresses) => {
                bytes.drain(..length);
                let told = addresses.map_or(Told::Nobody, |addresses| Told::Addresses(Box::new(addresses)));
                return Some(Greeting { told, rest: bytes });
            }
            Preface::Absent if wanted == Wanted::Optional => {
                return Some(Greeting { told: Told::Nothing, rest: bytes });
            }
            Preface::Absent | Preface::Invalid => return None,
        }
    }
}

/// Reads what is there. Not within `receive`, whose state would grow by the buffer.
fn take(stream: &Accepted, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let mut chunk = [0; READ_SIZE];
    let count = stream.try_read(&mut chunk)?;
    bytes.extend_from_slice(&chunk[..count]);
    Ok(count)
}
