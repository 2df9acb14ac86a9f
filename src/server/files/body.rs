//! The rest of a response from a file, and sending it.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use crate::files::{Disk, File};
use crate::server::stream::Writing;

/// Bytes of a file given to the kernel before other tasks on the same thread run.
const SHARE: u64 = 2 * 1024 * 1024;
/// Bytes that are probed in memory, and read ahead, at a time.
const WINDOW: u64 = 2 * 1024 * 1024;

/// The rest of a response from a file, after the queue.
#[derive(Debug)]
pub(crate) struct Body {
    file: File,
    parts: VecDeque<Part>,
    /// The exchange it belongs to.
    pub(super) number: u64,
    /// Up to here this part has been read into memory: evicted or unreadable data is not awaited twice.
    warmed: u64,
}

#[derive(Debug)]
pub(super) enum Part {
    /// The bytes between two parts of a file.
    Bytes(Vec<u8>),
    File(Range<u64>),
}

/// How far [`Body::send`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    All,
    /// Other tasks run now.
    Share,
    /// The kernel has no room.
    Full,
    /// It has to wait for the disk.
    Cold,
    /// The file has become shorter than promised.
    Short,
    /// The client has gone.
    Lost,
}

impl Body {
    pub(super) fn new(file: File, parts: VecDeque<Part>, number: u64) -> Self {
        Self { file, parts, number, warmed: 0 }
    }

    /// Sends as much as possible, and adds the number of sent bytes to `taken`.
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

    /// Waits for the disk to read the next bytes.
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
