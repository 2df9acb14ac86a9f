//! The task of a stream: it reads the body, and does all waiting.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use h2::RecvStream;

use crate::server::connection::{Connection, Todo};
use crate::server::http2::bounds::Alive;
use crate::server::http2::request::Young;

/// See the module.
pub(super) struct Task {
    connection: Arc<Connection>,
    body: RecvStream,
    ended: bool,
    alive: Alive,
}

impl Task {
    pub(super) fn new(young: Young) -> Self {
        let Young { connection, body, ended, mut alive } = young;
        alive.set_waking();
        connection.server.enrol(&connection);
        if connection.server.is_closing() {
            // Existing streams were notified before.
            connection.retire(false);
        }
        // The sweeper may have looked since the deadline was set.
        connection.lock().rearm();
        Self { connection, body, ended, alive }
    }

    /// The client has cancelled the stream. Sockets often end like this.
    fn give_up(&self) {
        let mut state = self.connection.lock();
        if !state.is_socket() {
            self.alive.give_up();
        }
        state.abort();
    }
}

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let Self { connection, body, ended, alive } = &mut *this;
        connection.register(context.waker());
        loop {
            let wants = connection.wants();
            if wants.over {
                return Poll::Ready(());
            }
            if connection.poll_reset(context).is_ready() {
                this.give_up();
                return Poll::Ready(());
            }
            match connection.attend(&wants, context) {
                Todo::Again => continue,
                Todo::Read if !*ended => {}
                Todo::Read | Todo::Wait => return Poll::Pending,
            }
            match body.poll_data(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(bytes))) => {
                    alive.moved().fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    connection.received(&bytes);
                    // The kept bytes now count against the bound of the body: the client may send as much
                    // again.
                    let _ = body.flow_control().release_capacity(bytes.len());
                }
                Poll::Ready(None) => {
                    *ended = true;
                    connection.end_of_stream();
                }
                Poll::Ready(Some(Err(_))) => {
                    this.give_up();
                    return Poll::Ready(());
                }
            }
        }
    }
}

impl Drop for Task {
    /// For every end of the task, also a panic, nothing waits for this stream any longer.
    fn drop(&mut self) {
        self.connection.lock().abort();
        self.connection.release();
        self.connection.server.forget(self.connection.id);
    }
}

impl Connection {
    /// The client has sent the whole body: as for any other request, that is not the end of the stream.
    fn end_of_stream(self: &Arc<Self>) {
        let mut state = self.lock();
        if let Some(request) = state.request_mut()
            && !request.intake.is_complete()
        {
            request.intake.end();
            state.announce_body();
            state.rearm();
            return;
        }
        drop(state);
        self.end_of_input();
    }
}
