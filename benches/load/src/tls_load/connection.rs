//! One connection over TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Outcome;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const STATUS: &[u8] = b"HTTP/1.1 200 ";
const BODY: &[u8] = b"\r\n\r\nHello, World!";
/// After this, a silent server has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connects, shakes hands, and reads the response to one request.
pub async fn open(address: SocketAddr, settings: &Arc<ClientConfig>) -> Outcome<TlsStream<TcpStream>> {
    tokio::time::timeout(PATIENCE, answered(address, settings))
        .await
        .map_err(|_| format!("nothing for {PATIENCE:?}"))?
}

async fn answered(address: SocketAddr, settings: &Arc<ClientConfig>) -> Outcome<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await.map_err(|error| format!("cannot connect: {error}"))?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let name = ServerName::try_from("localhost").map_err(|error| error.to_string())?;
    let mut stream = TlsConnector::from(Arc::clone(settings))
        .connect(name, stream)
        .await
        .map_err(|error| format!("no handshake: {error}"))?;
    stream.write_all(REQUEST).await.map_err(|error| format!("no request: {error}"))?;
    let mut received = Vec::with_capacity(512);
    while !received.ends_with(BODY) {
        let count = stream.read_buf(&mut received).await.map_err(|error| format!("no answer: {error}"))?;
        if count == 0 || received.len() > 4096 {
            return Err(format!("the answer was {:?}", String::from_utf8_lossy(&received)));
        }
    }
    if !received.starts_with(STATUS) {
        return Err(format!("the answer was {:?}", String::from_utf8_lossy(&received)));
    }
    Ok(stream)
}

/// Says goodbye and closes.
pub async fn close(mut stream: TlsStream<TcpStream>) {
    // It has sent its response, and need not wait for the end.
    let _ = stream.shutdown().await;
}

/// Whether this connection has resumed a session.
pub fn is_resumed(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
}
