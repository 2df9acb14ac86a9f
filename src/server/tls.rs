//! TLS on a connection: what the handshake agreed on, and who is asked meanwhile.

use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, ProtocolVersion};
use tokio::sync::oneshot;

pub(crate) use self::halves::{TlsReading, TlsWriting};
pub(super) use self::handshake::shake;

mod halves;
mod handshake;
mod records;
mod session;

/// What a TLS handshake agreed on.
#[derive(Debug)]
pub struct Secure {
    /// The registered name that the client's matched: the router of that name has the say. None: the default.
    pub server_name: Option<std::sync::Arc<str>>,
    /// TLS 1.2 or 1.3.
    pub version: Option<ProtocolVersion>,
    /// The cipher suite.
    pub cipher: Option<CipherSuite>,
    /// The client's certificate and its chain, verified; empty when it has shown none.
    pub peer_certificates: Box<[CertificateDer<'static>]>,
}

/// A name that a client asks for and that has no certificate of its own. The handshake goes on, with another look, once this
/// is dropped.
#[derive(Debug)]
pub struct ServerName {
    name: Box<str>,
    /// Dropped with it, which is what the handshake waits for.
    asked: oneshot::Sender<()>,
}

impl ServerName {
    /// A name to ask for, and what tells that the answer is there.
    pub(crate) fn ask(name: &str) -> (Self, oneshot::Receiver<()>) {
        let (asked, answered) = oneshot::channel();
        (Self { name: name.into(), asked }, answered)
    }

    /// Whether the client has gone that asked.
    pub(crate) fn is_moot(&self) -> bool {
        self.asked.is_closed()
    }

    /// The name, in lower case as the client sent it.
    pub fn name(&self) -> &str {
        &self.name
    }
}
