//! The writing half of a stream, the counterpart of a socket's.
//!
//! Any thread may write. `h2` queues what its flow control allows and wakes the task of the connection, so nothing here
//! waits, and no system call is made.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use ::http::{HeaderMap, Response, StatusCode};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use parking_lot::Mutex;

use crate::files::{Disk, File};

/// Bytes of a file that are queued at a time.
const SHARE: usize = 64 * 1024;
/// Bytes that are requested at a time: more than is ever granted.
const MOST: usize = 1 << 20;

/// See the module.
pub(crate) struct StreamWriting {
    half: Mutex<Half>,
    /// That of the stream's connection.
    pub(crate) descriptor: i64,
    /// Bytes that the streams of the connection have moved.
    moved: Arc<AtomicU64>,
}

struct Half {
    state: StreamState,
    /// The remaining bytes of the response, if known.
    left: Option<usize>,
    /// What ends the stream behind them, in place of the last frame with data (RFC 9113 section 8.1).
    trailers: Option<HeaderMap>,
}

enum StreamState {
    /// The head has not been sent.
    Open(SendResponse<Bytes>),
    /// Data may be sent.
    Sending(SendStream<Bytes>),
    /// The stream has ended.
    Over,
}

impl StreamWriting {
    pub(super) fn new(respond: SendResponse<Bytes>, descriptor: i64, moved: Arc<AtomicU64>) -> Self {
        Self {
            half: Mutex::new(Half { state: StreamState::Open(respond), left: None, trailers: None }),
            descriptor,
            moved,
        }
    }

    pub(crate) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Queues `bytes` for the client.
    fn send(&self, half: &mut Half, bytes: Bytes) -> io::Result<usize> {
        self.moved.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        half.send(bytes)
    }

    /// Sends the head if there is one; after `left` bytes, if known, the stream ends.
    pub(crate) fn open(&self, head: Option<Response<()>>, left: Option<usize>) {
        let mut half = self.half.lock();
        half.left = left;
        let Half { state, trailers, .. } = &mut *half;
        if let (StreamState::Open(respond), Some(head)) = (&mut *state, head) {
            let last = left == Some(0);
            *state = match respond.send_response(head, last && trailers.is_none()) {
                Ok(stream) if !last => StreamState::Sending(stream),
                Ok(mut stream) => {
                    if let Some(trailers) = trailers.take() {
                        // It fails when the stream has been reset.
                        let _ = stream.send_trailers(trailers);
                    }
                    StreamState::Over
                }
                // The stream has been reset, which the next write tells; or the head cannot be sent, which the client is told.
                Err(_) => {
                    respond.send_reset(Reason::INTERNAL_ERROR);
                    StreamState::Over
                }
            };
        }
    }

    /// An interim `100 Continue`.
    pub(crate) fn invite(&self) {
        let mut interim = Response::new(());
        *interim.status_mut() = StatusCode::CONTINUE;
        self.inform(interim);
    }

    /// Sends an interim response, unless the final one has begun.
    pub(crate) fn inform(&self, interim: Response<()>) {
        if let StreamState::Open(respond) = &mut self.half.lock().state {
            // It fails if the stream has been reset, which the task will report.
            let _ = respond.send_informational(interim);
        }
    }

    /// Ends the response with trailers, once all of it has been sent.
    pub(crate) fn set_trailers(&self, trailers: HeaderMap) {
        self.half.lock().trailers = Some(trailers);
    }

    /// Queues as much as flow control allows.
    pub(crate) fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let wanted = slices.iter().map(|slice| slice.len()).sum();
        if wanted == 0 {
            return Ok(0);
        }
        let mut half = self.half.lock();
        let count = half.room(wanted)?;
        let mut bytes = Vec::with_capacity(count);
        for slice in slices {
            bytes.extend_from_slice(&slice[..slice.len().min(count - bytes.len())]);
        }
        self.send(&mut half, bytes.into())
    }

    /// Queues bytes of a file, as many as flow control allows.
    pub(crate) fn send_file(&self, file: &File, offset: u64, count: usize) -> io::Result<usize> {
        let count = self.half.lock().room(count.min(SHARE))?;
        let mut bytes = Vec::with_capacity(count);
        // The sender of a file has looked whether it is in memory. Should it wait all the same, nobody else does: there is one
        // writer at a time, and what it has reserved stays.
        file.read(&mut bytes, offset, count, Disk::Wait);
        if bytes.is_empty() { Ok(0) } else { self.send(&mut self.half.lock(), bytes.into()) }
    }

    /// Waits for flow control to allow more.
    pub(crate) fn poll_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.half.lock().state {
            StreamState::Sending(stream) => match stream.poll_capacity(context) {
                Poll::Ready(Some(Ok(_))) => Poll::Ready(Ok(())),
                Poll::Ready(_) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Poll::Pending => Poll::Pending,
            },
            _ => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Waits for the client to reset the stream, or for the end of the connection.
    pub(crate) fn poll_reset(&self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.half.lock().state {
            StreamState::Open(respond) => respond.poll_reset(context).map(drop),
            StreamState::Sending(stream) => stream.poll_reset(context).map(drop),
            StreamState::Over => Poll::Pending,
        }
    }

    /// Ends the stream: nothing more comes.
    pub(crate) fn end(&self) {
        let mut half = self.half.lock();
        match std::mem::replace(&mut half.state, StreamState::Over) {
            // It fails when the stream has been reset.
            StreamState::Sending(mut stream) => match half.trailers.take() {
                Some(trailers) => drop(stream.send_trailers(trailers)),
                None => drop(stream.send_data(Bytes::new(), true)),
            },
            // No response has been begun.
            StreamState::Open(mut respond) => respond.send_reset(Reason::CANCEL),
            StreamState::Over => {}
        }
    }

    /// Ends the stream so that the client sees that it is not whole.
    pub(crate) fn reset(&self, reason: Reason) {
        match std::mem::replace(&mut self.half.lock().state, StreamState::Over) {
            StreamState::Sending(mut stream) => stream.send_reset(reason),
            StreamState::Open(mut respond) => respond.send_reset(reason),
            StreamState::Over => {}
        }
    }
}

impl Half {
    /// The number of the `wanted` bytes that may be queued: at least one.
    fn room(&mut self, wanted: usize) -> io::Result<usize> {
        let StreamState::Sending(stream) = &mut self.state else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        // `h2` counts in 32 bits, and would read 4 GiB as nothing.
        let wanted = wanted.min(MOST);
        stream.reserve_capacity(wanted);
        match stream.capacity().min(wanted) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }

    fn send(&mut self, bytes: Bytes) -> io::Result<usize> {
        let StreamState::Sending(stream) = &mut self.state else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let count = bytes.len();
        let last = self.left == Some(count);
        self.left = self.left.map(|left| left.saturating_sub(count));
        let sent = match self.trailers.take_if(|_| last) {
            Some(trailers) => stream.send_data(bytes, false).and_then(|()| stream.send_trailers(trailers)),
            None => stream.send_data(bytes, last),
        };
        if last || sent.is_err() {
            self.state = StreamState::Over;
        }
        match sent {
            Ok(()) => Ok(count),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}
