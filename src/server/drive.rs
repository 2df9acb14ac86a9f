//! The task of a connection: it waits for the socket, reads from it, and does all waiting.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::server::connection::{Connection, Todo};
use crate::server::http2::Http2;
use crate::server::stream::{Reading, with_scratch};

/// The task of a connection: it waits for the socket, and does all other waiting.
pub(crate) struct Drive {
    connection: Arc<Connection>,
    reading: Reading,
    /// The reader of HTTP/2, once the client speaks it.
    http2: Option<Box<Http2>>,
}

impl Drive {
    pub(crate) fn new(connection: Arc<Connection>, reading: Reading) -> Self {
        connection.lock().rearm();
        Self { connection, reading, http2: None }
    }
}

impl Future for Drive {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { connection, reading, http2 } = self.get_mut();
        connection.register(context.waker());
        loop {
            let wants = connection.wants();
            if wants.over {
                return Poll::Ready(());
            }
            if wants.multiplexed {
                ready!(http2.get_or_insert_with(|| Http2::new(connection, reading)).poll(context));
                if let Some(http2) = http2.take() {
                    *reading = http2.give_back_reading();
                }
                connection.part();
                continue;
            }
            match connection.attend(&wants, context) {
                Todo::Again => continue,
                Todo::Wait => {
                    let Some(watch) = wants.watch else { return Poll::Pending };
                    connection.departed(ready!(reading.poll_departure(context, watch)));
                    continue;
                }
                Todo::Read => {}
            }
            let read = with_scratch(|scratch| {
                let read = reading.poll_read(context, scratch);
                if let Poll::Ready(Ok(count @ 1..)) = read {
                    connection.received(&scratch[..count]);
                }
                read
            });
            if reading.owes() {
                connection.answer_session();
            }
            match read {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => connection.end_of_input(),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => connection.abort_unheard(),
            }
        }
    }
}

impl Drop for Drive {
    /// For every end of the task, also a panic, nothing waits for this connection any longer.
    fn drop(&mut self) {
        self.connection.lock().abort();
        self.connection.release();
        self.connection.server.forget(self.connection.id);
    }
}
