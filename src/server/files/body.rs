//! What is left of an answer from a file, and how much of it a socket takes.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use crate::files::{Disk, File};
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
    pub(super) number: u64,
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
pub(super) enum Sent {
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
    pub(super) fn send(
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
    pub(super) fn warm(&mut self) {
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
