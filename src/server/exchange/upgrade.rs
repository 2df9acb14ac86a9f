//! The way from a request to a WebSocket.

use std::any::Any;
use std::sync::Arc;

use crate::app::Behavior;
use crate::server::connection::Locked;
use crate::server::exchange::{Exchange, NotAHandshake};
use crate::server::websocket::{HandshakeFields, WebSocket};
use crate::websocket::handshake;

impl Exchange {
    /// Completes the handshake of this request: the first of `protocols` is chosen, and compression is
    /// negotiated from `extensions`. [`WebSocket::user`] returns `user`. `None` if the exchange is over, and
    /// if the key is invalid: then it has been refused with a 400.
    pub fn upgrade(
        &self,
        key: &[u8],
        protocols: &[u8],
        extensions: &[u8],
        user: Option<Box<dyn Any + Send + Sync>>,
    ) -> Result<Option<Arc<WebSocket>>, NotAHandshake> {
        let Some(mut state) = self.current() else { return Ok(None) };
        if state.request().is_none_or(|request| request.reply.is_started()) || self.is_aborted() {
            return Ok(None);
        }
        let behavior = self.stop.lock().behavior.clone().ok_or(NotAHandshake)?;
        if !self.connection.is_stream() && !handshake::is_valid_key(key) {
            state.refuse_handshake(400);
            state.flush();
            return Ok(None);
        }
        let socket = self.open_socket(&mut state, &behavior, key, protocols, extensions, user);
        state.flush_with_batch();
        Ok(Some(socket))
    }

    /// The same as [`Exchange::upgrade`] for the handshake as it came, with `protocol` as the subprotocol. `None` chooses none.
    pub fn accept(
        &self,
        protocol: Option<&[u8]>,
        user: Box<dyn Any + Send + Sync>,
    ) -> Result<Option<Arc<WebSocket>>, NotAHandshake> {
        let value = |name: &[u8]| self.header(name).unwrap_or_default();
        let (key, extensions) = (value(b"sec-websocket-key"), value(b"sec-websocket-extensions"));
        self.upgrade(&key, protocol.unwrap_or_default(), &extensions, Some(user))
    }

    pub(super) fn open_socket(
        &self,
        state: &mut Locked<'_>,
        behavior: &Arc<Behavior>,
        key: &[u8],
        protocols: &[u8],
        extensions: &[u8],
        user: Option<Box<dyn Any + Send + Sync>>,
    ) -> Arc<WebSocket> {
        let user_agent = self.header(b"user-agent").unwrap_or_default();
        let offer = HandshakeFields { key, protocols, extensions, user_agent: &user_agent };
        state.open_socket(behavior, &offer, user)
    }
}
