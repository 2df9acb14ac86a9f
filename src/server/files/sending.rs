//! The bytes of a file on their way to a socket.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::files::{Disk, File};
use crate::server::connection::{Connection, Locked};
use crate::server::pace::Way;
use crate::server::stream::Writing;

/// Bytes of a file given to the kernel before others on the same thread have their turn.
const SHARE: u64 = 2 * 1024 * 1024;
/// Bytes whose presence in memory is looked at, and that are read ahead, at a time.
const WINDOW: u64 = 2 * 1024 * 1024;

/// What is still to leave of an answer from a file, behind what is queued.
#[derive(Debug)]
pub(crate) struct Body {
    file: File,
    parts: VecDeque<Part>,
    /// The exchange it belongs to.
    number: u64,
    /// Up to there this part has been read into memory: what is gone again, or cannot be read, is not waited for twice.
    warmed: u64,
}

#[derive(Debug)]
pub(super) enum Part {
    /// What stands between two parts of a file.
    Bytes(Vec<u8>),
    File(Range<u64>),
}

/// How far [`Body::send`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    All,
    /// Others have their turn now.
    Share,
    /// The kernel has no room.
    Full,
    /// The disk must be waited for.
    Cold,
    /// The file has become shorter than what was promised.
    Short,
    /// The client has gone.
    Lost,
}

impl Body {
    pub(super) fn new(file: File, parts: VecDeque<Part>, number: u64) -> Self {
        Self { file, parts, number, warmed: 0 }
    }

    /// Sends what can be sent, and adds to `taken` what the kernel took.
    fn send(
        &mut self,
        send: impl Fn(&dyn Fn(&Writing) -> io::Result<usize>) -> io::Result<usize>,
        taken: &mut u64,
    ) -> Sent {
        let mut left = SHARE;
        while let Some(part) = self.parts.front_mut() {
            let file = &self.file;
            let result = match part {
                Part::Bytes(bytes) => send(&|socket| socket.try_write(bytes)),
                Part::File(_) if left == 0 => return Sent::Share,
                Part::File(range) => {
                    let count = (range.end - range.start).min(WINDOW).min(left);
                    let last = range.start + count - 1;
                    if last >= self.warmed && !file.is_cached(last) {
                        return Sent::Cold;
                    }
                    let count = usize::try_from(count).unwrap_or(usize::MAX);
                    send(&|socket| socket.try_send_file(file, range.start, count))
                }
            };
            let count = match result {
                Ok(0) => return Sent::Short,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sent::Full,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Sent::Lost,
            };
            *taken += count as u64;
            let done = match part {
                Part::Bytes(bytes) => {
                    bytes.drain(..count);
                    bytes.is_empty()
                }
                Part::File(range) => {
                    left = left.saturating_sub(count as u64);
                    range.start += count as u64;
                    range.is_empty()
                }
            };
            if done {
                self.parts.pop_front();
                // The next part may lie before this one.
                self.warmed = 0;
            }
        }
        Sent::All
    }

    /// Waits for the disk to give what is sent next.
    fn warm(&mut self) {
        let next = self.parts.iter().find_map(|part| match part {
            Part::File(range) => Some(range.clone()),
            Part::Bytes(_) => None,
        });
        let Some(range) = next else { return };
        let end = range.end.min(range.start + WINDOW);
        self.warmed = end;
        let mut scratch = Vec::new();
        let mut at = range.start;
        while at < end {
            scratch.clear();
            match self.file.read(&mut scratch, at, 128 * 1024, Disk::Wait) {
                None | Some(0) => return,
                Some(count) => at += count as u64,
            }
        }
    }
}

impl Connection {
    /// Sends of `body` what can be sent. The connection is marked as being flushed, and not locked.
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
    /// Does what the progress of a file calls for.
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

    /// Keeps the rest of a file until it can go on. False when its request is over.
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
