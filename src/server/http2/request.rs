//! A stream begins: its request becomes that of a connection of its own.

use std::sync::Arc;
use std::task::Context;

use ::http::{Method, Request};
use bytes::Bytes;
use h2::RecvStream;
use h2::ext::Protocol;
use h2::server::SendResponse;

use crate::http::head::Head;
use crate::server::connection::Connection;
use crate::server::http2::StreamWriting;
use crate::server::http2::bounds::Alive;
use crate::server::stream::Writing;

/// A stream that has begun and has no task.
pub(super) struct Young {
    pub(super) connection: Arc<Connection>,
    pub(super) body: RecvStream,
    /// The client has sent all of it.
    pub(super) ended: bool,
    pub(super) alive: Alive,
}

impl Young {
    /// Whether it already has to wait.
    pub(super) fn needs_task(&self) -> bool {
        !self.ended
    }

    pub(super) fn is_over(&self) -> bool {
        self.connection.lock().is_over()
    }

    /// Aborts it: user code that was to answer hears so.
    pub(super) fn end(self) {
        self.connection.lock().abort();
        self.connection.release();
    }
}

/// Begins the request of a stream. `scratch` is empty before and after.
pub(super) fn begin(
    parent: &Arc<Connection>,
    (request, respond): (Request<RecvStream>, SendResponse<Bytes>),
    alive: Alive,
    scratch: &mut Vec<u8>,
    context: &mut Context<'_>,
) -> Young {
    let server = &parent.server;
    let writing =
        Writing::Stream(StreamWriting::new(respond, parent.descriptor(), Arc::clone(alive.moved())));
    let connection = server.adopt(parent, writing);
    // Until it has a task of its own, its waker wakes the task that can give it one.
    connection.register(context.waker());
    let (parts, body) = request.into_parts();
    let ended = body.is_end_stream();
    let protocol = parts.extensions.get::<Protocol>().filter(|_| parts.method == Method::CONNECT);
    let mut state = connection.lock();
    match protocol {
        // RFC 9220 section 3 has 501 for a protocol that is not known.
        Some(protocol) if protocol.as_str() != "websocket" => state.refuse(501),
        // No message could be sent on such a socket, and its end would never come.
        Some(_) if ended => state.refuse(400),
        _ => match Head::of_stream(&parts, ended, protocol.is_some(), &server.config.head, scratch) {
            Ok(head) => state.begin_request(&head, scratch),
            Err(refusal) => state.refuse(refusal.status()),
        },
    }
    scratch.clear();
    state.flush();
    Young { connection, body, ended, alive }
}
