//! What an interface says of a request that is not read from its head, and what goes before and instead of a body.

use crate::http::head::Framing;
use crate::http::response::ResponseHead;
use crate::server::exchange::Exchange;
use crate::server::stream::Writing;

impl Exchange {
    /// How the end of the request body is found.
    pub fn framing(&self) -> Framing {
        self.head.framing
    }

    /// Bytes of a request body that are held for a reader that has not asked for them.
    pub fn body_buffer(&self) -> usize {
        self.server().config.body_buffer
    }

    /// Ends the response with `head` alone: the length of the body that the client does not see is not known. False if the
    /// exchange is over.
    pub fn respond_without_body(&self, head: ResponseHead) -> bool {
        if !self.prepare(head) {
            return false;
        }
        let Some(mut state) = self.current() else { return false };
        let Some((request, out)) = state.request_and_out() else { return false };
        let place = request.reply.end_unseen(out, false, self.server_header());
        self.complete(state, b"", place.suffix);
        true
    }

    /// Sends the header lines of `head` in an interim 103 (RFC 8297), unless the response has begun or the client speaks HTTP/1.0.
    pub fn write_early_hints(&self, head: &ResponseHead) {
        // A client of HTTP/1.0 would take it for the response (RFC 9110 section 15.2).
        if self.head.version_minor == 0 && !self.head.http2 {
            return;
        }
        let Some(mut state) = self.current() else { return };
        if state.request().is_none_or(|request| request.reply.is_started()) {
            return;
        }
        if self.head.http2 {
            let hints = head.to_hints();
            let _ = self.connection.with_socket(|writing| {
                if let Writing::Stream(stream) = writing {
                    stream.inform(hints);
                }
                Ok(())
            });
        } else {
            head.write_hints(state.out.tail());
        }
        state.flush();
    }
}
