//! TLS on a connection: the result of the handshake, and the question for a server name.

use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, ProtocolVersion};
use tokio::sync::oneshot;

pub(crate) use self::halves::{TlsReading, TlsWriting};
pub(super) use self::handshake::shake;

mod halves;
mod handshake;
mod records;
mod session;

/// The result of a TLS handshake.
#[derive(Debug)]
pub struct Secure {
    /// The registered name that the client's matched: its router is used. `None`: the default.
    pub server_name: Option<std::sync::Arc<str>>,
    /// TLS 1.2 or 1.3.
    pub version: Option<ProtocolVersion>,
    /// The cipher suite.
    pub cipher: Option<CipherSuite>,
    /// The client's certificate and its chain, verified; empty if it has shown none.
    pub peer_certificates: Box<[CertificateDer<'static>]>,
}

/// A name that a client asks for and that has no certificate of its own. The handshake goes on, with another look, once this
/// is dropped.
#[derive(Debug)]
pub struct ServerName {
    name: Box<str>,
    /// The handshake waits for its drop.
    asked: oneshot::Sender<()>,
}

impl ServerName {
    /// A name to ask for, and the receiver of the reply.
    pub(crate) fn ask(name: &str) -> (Self, oneshot::Receiver<()>) {
        let (asked, answered) = oneshot::channel();
        (Self { name: name.into(), asked }, answered)
    }

    /// Whether the asking client has gone.
    pub(crate) fn is_moot(&self) -> bool {
        self.asked.is_closed()
    }

    /// The name, in lower case as the client sent it.
    pub fn name(&self) -> &str {
        &self.name
    }
}
