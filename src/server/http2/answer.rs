//! The beginning and end of a response on a stream, which its bytes do not contain.

use ::http::Response;

use crate::server::connection::{Connection, Locked};
use crate::server::stream::Writing;

/// The facts that a stream needs before bytes are written to it.
pub(crate) struct StreamNotice {
    head: Option<Box<Response<()>>>,
    /// The number of remaining bytes, if known: the last one ends the stream.
    left: Option<usize>,
}

impl Connection {
    /// Passes this to the stream. It never waits, but must not run under the lock.
    pub(crate) fn open_with(&self, frame: Option<StreamNotice>) {
        if let Some(StreamNotice { head, left }) = frame
            && (head.is_some() || left.is_some())
        {
            // It fails only when the stream is over, which the next write tells.
            let _ = self.with_socket(|writing| {
                if let Writing::Stream(stream) = writing {
                    stream.open(head.map(|head| *head), left);
                }
                Ok(())
            });
        }
    }
}

impl Locked<'_> {
    /// The frame for the `length` bytes that are about to be written. `more`: a file follows them.
    pub(crate) fn frame(&mut self, length: usize, more: bool) -> Option<StreamNotice> {
        if !self.connection.is_stream() {
            return None;
        }
        let ends = self.is_closing_whole() && !more;
        let head = self.out.take_head();
        Some(StreamNotice { head, left: ends.then_some(length) })
    }

    /// The same for `queued` bytes and a `payload` that may be the last of a response.
    pub(crate) fn frame_of_last(&mut self, queued: usize, payload: usize) -> Option<StreamNotice> {
        let mut frame = self.frame(0, true)?;
        let last = self.request().is_some_and(|request| request.reply.ends_with(payload as u64));
        frame.left = last.then_some(queued + payload);
        Some(frame)
    }
}
