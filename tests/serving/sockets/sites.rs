//! Sites that several tests serve.

use std::sync::Arc;

use socketify::app::Lane;
use socketify::config::SocketConfig;
use socketify::server::{Exchange, WebSocket};

use super::{Log, Site, send, site};
use crate::support::until;

pub(super) const KEY: &[u8] = b"dGhlIHNhbXBsZSBub25jZQ==";

/// Upgrades with a value for the socket to keep.
pub(super) fn upgrade(exchange: &Exchange) {
    let offered = exchange.header(b"sec-websocket-protocol").unwrap();
    let socket = exchange.upgrade(KEY, &offered, b"", Some(Box::new("kept"))).unwrap();
    assert!(socket.is_some_and(|socket| socket.is_open()));
}

pub(super) fn echo(socket: &Arc<WebSocket>, message: &[u8]) {
    send(socket, message);
}

/// Greets with the socket's value, and echoes.
pub(super) fn greeter(lane: Lane) -> Site {
    let greet = |socket: &Arc<WebSocket>| {
        let kept = socket.user().get().and_then(|user| user.downcast_ref::<&str>());
        send(socket, kept.copied().unwrap_or("nothing kept").as_bytes());
    };
    site().open(lane, greet).message(lane, echo)
}

/// A site that gives the test each socket that opens.
pub(super) fn collected(lane: Lane) -> (Site, Log<Arc<WebSocket>>) {
    let opened: Log<Arc<WebSocket>> = Log::default();
    let open = Arc::clone(&opened);
    (site().open(lane, move |socket| open.lock().push(Arc::clone(socket))), opened)
}

/// The next socket that opens.
pub(super) fn take(opened: &Log<Arc<WebSocket>>) -> Arc<WebSocket> {
    until("a socket is open", || !opened.lock().is_empty());
    opened.lock().pop().unwrap()
}

pub(super) fn without_limit() -> SocketConfig {
    SocketConfig { max_backpressure: 0, ..SocketConfig::default() }
}
