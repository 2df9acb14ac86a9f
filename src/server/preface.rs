//! The PROXY preface, which comes before any protocol and in which a trusted peer names its client.
//!
//! It is read from the bare socket, before a TLS handshake and before there is a connection; and only once,
//! since later bytes come from the client, which must not claim an address.

use std::io;
use std::net::IpAddr;

use tokio::time::timeout;

use crate::config::ProxyProtocol;
use crate::net::Accepted;
use crate::net::proxy::{self, Addresses, Preface};
use crate::server::Server;
use crate::server::deadlines::PARTING;

/// Bytes of one read. Bytes after a preface are handed on.
const READ_SIZE: usize = 4096;

/// Whether a preface is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The connection begins with the client's own bytes.
    None,
    /// There may be one.
    Optional,
    /// There has to be one.
    Required,
    /// The peer is not trusted: it is refused.
    Refused,
}

/// The client of a peer.
#[derive(Clone, Debug, Default)]
pub(crate) enum ProxiedFor {
    /// It has named no client: it is the client, or a proxy with headers.
    #[default]
    Nothing,
    /// For itself, or for an unnamed client.
    Nobody,
    /// For a client at these addresses.
    Addresses(Box<Addresses>),
}

impl ProxiedFor {
    /// The client's address.
    pub(crate) fn source(&self) -> Option<IpAddr> {
        match self {
            Self::Addresses(told) => Some(told.source.ip()),
            Self::Nothing | Self::Nobody => None,
        }
    }
}

/// The result of the start of a connection.
#[derive(Debug, Default)]
pub(crate) struct Greeting {
    pub(crate) told: ProxiedFor,
    /// Bytes read after the preface: the first ones of the next protocol.
    pub(crate) rest: Vec<u8>,
}

/// Whether a preface is expected from this peer (`None`: a Unix socket).
pub(crate) fn wanted(server: &Server, peer: Option<IpAddr>) -> Wanted {
    let is_trusted = || server.config.trusted_proxies.includes(peer);
    match server.config.proxy_protocol {
        ProxyProtocol::Optional if is_trusted() => Wanted::Optional,
        ProxyProtocol::Off | ProxyProtocol::Optional => Wanted::None,
        ProxyProtocol::Required if is_trusted() => Wanted::Required,
        ProxyProtocol::Required => Wanted::Refused,
    }
}

/// The reason for a missing greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PrefaceFailure {
    /// The peer may not send a preface, and one is required.
    Untrusted,
    /// It has sent something else.
    Missing,
    /// It began like one, and was malformed.
    Malformed,
    /// It was not complete in time.
    Late,
    /// The peer went away before it was complete.
    Gone,
    /// No fault: the server closes, or an optional preface did not come.
    None,
}

impl PrefaceFailure {
    /// Its text for the log, if there is one.
    fn reason(self) -> Option<&'static str> {
        Some(match self {
            Self::Untrusted => "it is not in trusted_proxies, and a PROXY preface is required",
            Self::Missing => "it has sent no PROXY preface, which is required",
            Self::Malformed => "its PROXY preface is malformed",
            Self::Late => "its PROXY preface was not whole within header_timeout",
            Self::Gone => "it went away before a PROXY preface",
            Self::None => return None,
        })
    }
}

/// Notes why a connection is refused.
pub(crate) fn note(server: &Server, peer: Option<IpAddr>, failure: PrefaceFailure) {
    let Some(reason) = failure.reason() else { return };
    server.note(|| {
        let peer =
            peer.map_or_else(|| "a peer of the Unix socket".to_owned(), |ip| ip.to_canonical().to_string());
        format!("connection of {peer} closed: {reason}")
    });
}

/// Reads the preface, if there is one. At any failure the connection has to be closed without a response,
/// since the peer's protocol is unknown.
pub(crate) async fn read(
    server: &Server,
    stream: &Accepted,
    wanted: Wanted,
) -> Result<Greeting, PrefaceFailure> {
    let mut bytes = Vec::new();
    let told = tokio::select! {
        () = server.parted(PARTING) => Err(PrefaceFailure::None),
        told = timeout(server.config.header_timeout, receive(stream, wanted, &mut bytes)) => told.unwrap_or(Err(PrefaceFailure::Late)),
    };
    match told {
        Ok(told) => Ok(Greeting { told, rest: bytes }),
        // A preface is optional, so the protocol handles its end.
        Err(PrefaceFailure::Gone) if bytes.is_empty() && wanted == Wanted::Optional => {
            Ok(Greeting::default())
        }
        Err(_) if bytes.is_empty() && wanted == Wanted::Optional => Err(PrefaceFailure::None),
        Err(failure) => Err(failure),
    }
}

/// Reads until the peer's client is known. Leaves the bytes after the preface in `bytes`.
async fn receive(
    stream: &Accepted,
    wanted: Wanted,
    bytes: &mut Vec<u8>,
) -> Result<ProxiedFor, PrefaceFailure> {
    loop {
        stream.readable().await.map_err(|_| PrefaceFailure::Gone)?;
        match take(stream, bytes) {
            Ok(0) => return Err(PrefaceFailure::Gone),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_) => return Err(PrefaceFailure::Gone),
        }
        match proxy::parse(bytes) {
            Preface::Partial => {}
            Preface::Present(length, addresses) => {
                bytes.drain(..length);
                return Ok(addresses
                    .map_or(ProxiedFor::Nobody, |addresses| ProxiedFor::Addresses(Box::new(addresses))));
            }
            Preface::Absent if wanted == Wanted::Optional => return Ok(ProxiedFor::Nothing),
            Preface::Absent => return Err(PrefaceFailure::Missing),
            Preface::Invalid => return Err(PrefaceFailure::Malformed),
        }
    }
}

/// Reads the available bytes. Not within `receive`, whose state would grow by the buffer.
fn take(stream: &Accepted, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let mut chunk = [0; READ_SIZE];
    let count = stream.try_read(&mut chunk)?;
    bytes.extend_from_slice(&chunk[..count]);
    Ok(count)
}
