//! The head of the response: status and headers, until it is written.

use crate::http::cors::{self, Policy};
use crate::http::response::{HeadError, Known, ResponseHead};
use crate::server::exchange::Exchange;

impl Exchange {
    /// Sets the status by number. The first explicit one wins.
    pub fn set_status(&self, code: u16) -> Result<(), HeadError> {
        self.with_request(Ok(()), |request| request.reply.head.set_status(code))
    }

    /// Sets the status line's text, such as `200 OK`. The first explicit one wins.
    pub fn set_status_text(&self, text: &[u8]) -> Result<(), HeadError> {
        self.with_request(Ok(()), |request| request.reply.head.set_status_text(text))
    }

    /// Adds a header.
    pub fn add_header(&self, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        self.with_request(Ok(()), |request| self.add_to(&mut request.reply.head, name, value))
    }

    fn add_to(&self, head: &mut ResponseHead, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        if self.head.http2 { head.header_of_stream(name, value) } else { head.header(name, value) }
    }

    /// Sets a header for every kind of response, also if the head is reset; one added by
    /// [`Exchange::add_header`] replaces it.
    pub fn keep_header(&self, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        let mut head = ResponseHead::default();
        self.add_to(&mut head, name, value)?;
        self.with_request((), |request| request.reply.lasting.set(name.to_vec(), head.into_lines()));
        Ok(())
    }

    /// Sets the header lines of cross-origin resource sharing, for every kind of response.
    pub fn apply_cors(&self, policy: &Policy) {
        let origin = self.header(b"origin");
        let lines = policy.lines(origin.as_deref());
        self.with_request((), |request| request.reply.lasting.set(cors::NAME, lines));
    }

    /// Whether user code has already set this header.
    pub fn has_header(&self, known: Known) -> bool {
        self.with_request(false, |request| request.reply.head.wrote(known))
    }

    /// Forgets unsent status and headers, for an error response in their place.
    pub fn reset_head(&self) {
        self.with_request((), |request| {
            if !request.reply.is_started() {
                request.reply.head.clear();
            }
        });
    }

    /// Whether the head of the response has been written.
    pub fn is_started(&self) -> bool {
        self.with_request(false, |request| request.reply.is_started())
    }
}
