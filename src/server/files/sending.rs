//! The bytes of a file on their way to a socket.

use std::sync::Arc;

use crate::server::connection::{Connection, Locked};
use crate::server::files::body::{Body, Sent};
use crate::server::pace::Way;

impl Connection {
    /// Sends as much of `body` as possible. The connection is marked as being flushed, and not locked.
    pub(in crate::server) fn send_file(self: &Arc<Self>, mut body: Box<Body>) -> Progress {
        let mut taken = 0;
        let sent = body.send(|act| self.with_socket(act), &mut taken);
        Progress { body, sent, taken }
    }
}

/// A file that is being sent, and how far it came.
pub(crate) struct Progress {
    body: Box<Body>,
    sent: Sent,
    /// Bytes that the kernel took.
    taken: u64,
}

impl Locked<'_> {
    /// Acts on the progress of a file.
    pub(in crate::server) fn file_progressed(&mut self, progress: Progress) {
        let Progress { body, sent, taken } = progress;
        let Some(request) = self.request_numbered(body.number) else { return };
        request.reply.sent += taken;
        self.count_moved(Way::Room, usize::try_from(taken).unwrap_or(usize::MAX));
        match sent {
            Sent::All => self.complete_file(),
            Sent::Short => self.abort_file(),
            Sent::Lost => self.abort(),
            Sent::Full => {
                self.keep_file(body);
                self.out.block();
                self.rearm();
                self.connection.wake();
            }
            Sent::Share => {
                self.keep_file(body);
                self.connection.wake();
            }
            Sent::Cold => {
                let connection = Arc::clone(self.connection);
                let mut body = body;
                let asked = self.connection.server.on_disk(move || {
                    body.warm();
                    if connection.lock().keep_file(body) {
                        connection.wake();
                    }
                });
                if !asked {
                    self.abort_file();
                }
            }
        }
    }

    /// Keeps the rest of a file until it can go on. False if its request is over.
    fn keep_file(&mut self, body: Box<Body>) -> bool {
        match self.request_numbered(body.number) {
            Some(request) => {
                request.file = Some(body);
                true
            }
            None => false,
        }
    }
}
