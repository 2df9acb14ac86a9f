//! The TLS handshake of a connection: a task of its own, before there is a connection.
//!
//! So a client that stalls costs its socket and a buffer until the handshake's timeout, and delays nobody.
//! Any other bytes in place of a handshake end here, with an alert if the client may understand one.

use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustls::server::{Acceptor, UnbufferedServerConnection};
use tokio::time::timeout;

use crate::app::{Job, Lane};
use crate::net::Accepted;
use crate::server::Server;
use crate::server::accept::Newcomer;
use crate::server::drive::Drive;
use crate::server::preface::Greeting;
use crate::server::stream::{Peer, Reading, Writing, split, with_scratch};
use crate::server::tls::halves::halves;
use crate::server::tls::records::{Records, decrypt};
use crate::server::tls::{Secure, ServerName};
use crate::tls::{Certificates, Selected};

/// Bytes read at a time: a hello with today's key shares fits.
const READ: usize = 4 * 1024;
/// The most bytes held of a handshake: its longest message with some reserve (rustls takes 64 KiB), however
/// it is fragmented.
const MOST: usize = 128 * 1024;
/// How long a refused client may go on sending, so that our response is not lost to a reset.
const LINGER: Duration = Duration::from_secs(2);
/// The first byte of every TLS handshake: the type of its record (RFC 8446 5.1).
const HANDSHAKE: u8 = 22;
/// The response to a client that speaks HTTP on a TLS port.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 48\r\n\
    Connection: close\r\n\r\nThis port speaks HTTPS: use an https:// address.";

/// A socket in the middle of its handshake.
struct Shaking {
    reading: Reading,
    writing: Writing,
    /// Received, not used.
    input: Vec<u8>,
    /// To be sent.
    out: Records,
}

/// Why there is no session, for those who look for the cause.
enum HandshakeFailure {
    /// The client has gone, or has sent nothing that allows a response.
    Gone(Cow<'static, str>),
    /// The bytes in `out` tell the client.
    Told(Cow<'static, str>),
}

impl From<io::Error> for HandshakeFailure {
    fn from(error: io::Error) -> Self {
        Self::Gone(error.to_string().into())
    }
}

/// How long a handshake may take when the server closes.
const ARRIVAL: Duration = Duration::from_secs(1);

/// The task of a new TLS connection. When the server closes, it may still finish, soon.
pub(in crate::server) async fn shake(
    server: Arc<Server>,
    certificates: Arc<Certificates>,
    stream: Accepted,
    greeting: Greeting,
    newcomer: Newcomer,
) {
    tokio::select! {
        () = server.parted(ARRIVAL) => {}
        () = meet(&server, &certificates, stream, greeting, newcomer) => {}
    }
}

async fn meet(
    server: &Arc<Server>,
    certificates: &Certificates,
    stream: Accepted,
    greeting: Greeting,
    newcomer: Newcomer,
) {
    let (reading, writing, peer) = split(stream);
    let mut shaking = Shaking { reading, writing, input: greeting.rest, out: Records::default() };
    let limit = server.config.handshake_timeout;
    match timeout(limit, agree(server, certificates, &mut shaking)).await {
        Ok(Ok(agreed)) => {
            let Established { tls, secure, text, closed } = agreed;
            let Shaking { reading, writing, input, .. } = shaking;
            let speaks_http2 = server.config.http2 && tls.alpn_protocol() == Some(b"h2");
            let (reading, writing) = halves((reading, writing), tls, input, closed);
            let connection =
                server.register(peer, greeting.told, Some(Arc::new(secure)), writing, newcomer.permit);
            {
                let mut state = connection.lock();
                state.input.put_back(text);
                if speaks_http2 {
                    state.become_multiplexed();
                }
            }
            drop(newcomer.arriving);
            tokio::spawn(Drive::new(connection, reading));
        }
        Ok(Err(HandshakeFailure::Told(why))) => {
            note(server, &peer, &why);
            // An error ends it as well.
            let _ = timeout(LINGER, shaking.part()).await;
        }
        Ok(Err(HandshakeFailure::Gone(why))) => note(server, &peer, &why),
        Err(_) => note(server, &peer, &format!("not done within {limit:?}")),
    }
}

fn note(server: &Server, peer: &Peer, why: &str) {
    server.note(|| {
        let client = peer.ip().map_or_else(|| "a client of the Unix socket".to_owned(), |ip| ip.to_string());
        format!("TLS handshake of {client} failed: {why}")
    });
}

/// The result of a handshake.
struct Established {
    tls: UnbufferedServerConnection,
    secure: Secure,
    /// The client's bytes after it.
    text: Vec<u8>,
    /// And whether that was the end.
    closed: bool,
}

async fn agree(
    server: &Arc<Server>,
    certificates: &Certificates,
    shaking: &mut Shaking,
) -> Result<Established, HandshakeFailure> {
    if shaking.input.is_empty() {
        shaking.receive().await?;
    }
    if shaking.input[0] != HANDSHAKE {
        return Err(shaking.refuse());
    }
    let Selected { config, name } = select(server, certificates, shaking).await?;
    let mut tls =
        UnbufferedServerConnection::new(config).map_err(|error| HandshakeFailure::Gone(reason(&error)))?;
    let mut text = Vec::new();
    loop {
        let take = |piece: &[u8], _| text.extend_from_slice(piece);
        let read = decrypt(&mut tls, &mut shaking.input, &mut shaking.out, take);
        // An alert leaves at the end.
        let read = read.map_err(|error| HandshakeFailure::Told(reason(&error)))?;
        shaking.input.drain(..read.used);
        shaking.send().await?;
        if !tls.is_handshaking() {
            let secure = Secure {
                server_name: name,
                version: tls.protocol_version(),
                cipher: tls.negotiated_cipher_suite().map(|suite| suite.suite()),
                peer_certificates: tls.peer_certificates().unwrap_or_default().to_vec().into(),
            };
            return Ok(Established { tls, secure, text, closed: read.closed });
        }
        if read.closed {
            return Err(HandshakeFailure::Gone("the client ended it".into()));
        }
        shaking.receive().await?;
    }
}

/// The configuration for the name that the client asks for.
async fn select(
    server: &Arc<Server>,
    certificates: &Certificates,
    shaking: &mut Shaking,
) -> Result<Selected, HandshakeFailure> {
    let asks = server.app.missing_server_name();
    if asks.is_none() && !certificates.has_names() {
        return Ok(certificates.select(None));
    }
    // rustls chooses a certificate in the middle of a handshake, but not the rules for client certificates:
    // the hello is read twice.
    let mut acceptor = Acceptor::default();
    let mut seen = 0;
    let name = loop {
        while seen < shaking.input.len() {
            match acceptor.read_tls(&mut &shaking.input[seen..])? {
                0 => return Err(HandshakeFailure::Gone("its hello goes on behind its end".into())),
                count => seen += count,
            }
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                break accepted.client_hello().server_name().map(str::to_ascii_lowercase);
            }
            Ok(None) => shaking.receive().await?,
            Err((error, mut alert)) => {
                alert.write_all(shaking.out.tail())?;
                return Err(HandshakeFailure::Told(reason(&error)));
            }
        }
    };
    if let (Some(lane), Some(name)) = (asks, &name)
        && !certificates.knows(name)
    {
        let (question, mut answered) = ServerName::ask(name);
        match lane {
            Lane::Turn => server.push(Job::ServerName(question)),
            Lane::Loop => server.post(Job::ServerName(question)),
        }
        loop {
            tokio::select! {
                biased;
                // Its only reply is a drop.
                _ = &mut answered => break,
                // A client that goes meanwhile ends its question.
                received = shaking.receive(), if shaking.input.len() < MOST => received?,
            }
        }
    }
    Ok(certificates.select(name.as_deref()))
}

fn reason(error: &rustls::Error) -> Cow<'static, str> {
    error.to_string().into()
}

impl Shaking {
    /// Waits for more bytes of the client.
    async fn receive(&mut self) -> Result<(), HandshakeFailure> {
        let held = self.input.len();
        if held >= MOST {
            return Err(HandshakeFailure::Gone("its messages are too large".into()));
        }
        let Self { reading, input, .. } = self;
        let read = poll_fn(|context| {
            with_scratch(|scratch| {
                let read = reading.poll_read(context, &mut scratch[..READ]);
                if let Poll::Ready(Ok(count)) = read {
                    input.extend_from_slice(&scratch[..count]);
                }
                read
            })
        });
        match read.await? {
            0 => Err(HandshakeFailure::Gone("the client has gone".into())),
            _ => Ok(()),
        }
    }

    /// Sends the output.
    async fn send(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.writing.try_write(self.out.waiting()) {
                Ok(count) => self.out.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll_fn(|context| self.writing.poll_ready(context)).await?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        std::mem::take(&mut self.out).give_back();
        Ok(())
    }

    /// Responds to other protocols: to HTTP with a response, to anything else not at all.
    fn refuse(&mut self) -> HandshakeFailure {
        if self.input[0].is_ascii_uppercase() {
            self.out.tail().extend_from_slice(NOT_TLS);
            HandshakeFailure::Told("it began with HTTP in plain text".into())
        } else {
            HandshakeFailure::Gone(
                format!("it began with the byte {}, which no TLS begins with", self.input[0]).into(),
            )
        }
    }

    /// Sends the last bytes, and reads on until the client has gone.
    async fn part(&mut self) -> io::Result<()> {
        self.send().await?;
        self.writing.shutdown(Shutdown::Write);
        let mut nothing = [0; READ];
        while poll_fn(|context| self.reading.poll_read(context, &mut nothing)).await? > 0 {}
        Ok(())
    }
}
