//! HTTP/2 on a connection (RFC 9113): frames in and out with `h2`, and a [`Connection`] of its own for each stream.
//!
//! A stream is a connection with one request: its state, its exchange and its response are those of HTTP/1.1,
//! and only its two ends differ. So handlers, files, compression, sockets and the access log know nothing of
//! HTTP/2. The task of the real connection reads frames and begins streams; a stream gets a task only if it
//! needs one; a request without a body that gets its response at once does not.

mod answer;
mod bounds;
mod connection;
mod meter;
mod request;
mod task;
mod wire;
mod writing;

pub(crate) use self::connection::Http2;
pub(crate) use self::writing::StreamWriting;

/// The first bytes of an HTTP/2 client (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether `bytes`, the first of a connection, begin HTTP/2. None if more of them will tell.
pub(crate) fn begins(bytes: &[u8]) -> Option<bool> {
    if bytes.starts_with(PREFACE) {
        return Some(true);
    }
    if PREFACE.starts_with(bytes) { None } else { Some(false) }
}
