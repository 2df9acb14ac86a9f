//! Responses whose head comes whole, before the body: those of interfaces whose applications give it in one message.

use crate::http::list_members;
use crate::http::response::{HeadError, ResponseHead};
use crate::server::exchange::Exchange;
use crate::server::stream::Writing;

impl Exchange {
    /// Adds a header to a head that is not part of the response yet, by the rules of the request's HTTP version.
    pub fn prepare_header(
        &self,
        head: &mut ResponseHead,
        name: &[u8],
        value: &[u8],
    ) -> Result<(), HeadError> {
        if self.head.http2 { head.header_of_stream(name, value) } else { head.header(name, value) }
    }

    /// Ends the response with `head` and `payload`, in one write. A declared length counts for the client even if the payload is
    /// shorter: the connection is then cut. False if the exchange is over.
    pub fn respond(&self, head: ResponseHead, payload: &[u8]) -> bool {
        // Of a response to HEAD the body may be missing, and its length is that of the uncompressed one.
        let unseen = payload.is_empty() && head.declared_length().is_some() && self.method() == b"HEAD";
        if let Some(settings) = self.settings().filter(|_| !unseen) {
            let set = self.with_request(false, |request| {
                request.reply.head = head;
                true
            });
            return set && self.end_encoded(settings, payload, false);
        }
        let Some(mut state) = self.current() else { return false };
        let Some((request, out)) = state.request_and_out() else { return false };
        let declared = head.declared_length();
        request.reply.head = head;
        self.begin_as_is(&mut request.reply);
        if let Some(declared) = declared {
            request.reply.begin_sized(out, declared, self.server_header());
        }
        self.end_plain(state, payload, false)
    }

    /// Begins a response in pieces: `head` waits for the first of them, or for [`Exchange::send_head`]. False if the exchange is
    /// over.
    pub fn prepare(&self, head: ResponseHead) -> bool {
        self.with_request(false, |request| {
            request.reply.head = head;
            true
        })
    }

    /// Ends a response in pieces with the header lines of `trailers` (RFC 9110 section 6.5), which a client that has not asked for them, or
    /// a body of declared length, does without. False if the exchange is over.
    pub fn end_with_trailers(&self, trailers: ResponseHead) -> bool {
        let has_body = self.with_request(false, |request| !request.reply.is_mute());
        if self.compresses() || !has_body || !self.takes_trailers() {
            return self.end(b"", false);
        }
        if self.head.http2 {
            let map = trailers.to_trailers();
            let _ = self.connection.with_socket(|writing| {
                if let Writing::Stream(stream) = writing {
                    stream.set_trailers(map);
                }
                Ok(())
            });
            return self.end(b"", false);
        }
        let Some(mut state) = self.current() else { return false };
        let Some((request, out)) = state.request_and_out() else { return false };
        if !request.reply.end_with_trailers(out, &trailers.into_lines()) {
            drop(state);
            return self.end(b"", false);
        }
        self.mark_responded();
        state.complete();
        state.send_queue();
        true
    }

    /// Whether the client has said that it takes trailers (RFC 9110 section 10.1.4).
    fn takes_trailers(&self) -> bool {
        let value = self.header(b"te").unwrap_or_default();
        list_members(&value).any(|member| member.eq_ignore_ascii_case(b"trailers"))
    }

    /// Sends the head of a response in pieces without a piece. Does nothing if it has been sent.
    pub fn send_head(&self) {
        let Some(mut state) = self.current() else { return };
        let Some((request, out)) = state.request_and_out() else { return };
        if let Some(settings) = self.settings()
            && !request.reply.is_started()
        {
            self.begin_pieces(&mut request.reply, settings, b"");
        }
        request.reply.begin_pieces(out, self.server_header());
        state.flush_unless_corked();
    }
}
