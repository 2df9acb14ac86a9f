//! Responses without user code: refusals, constant routes, and the 404 without a route.

use crate::app::Constant;
use crate::http::head::Framing;
use crate::http::response::ResponseHead;
use crate::http::status;
use crate::server::connection::{LastAnswer, Locked};
use crate::server::overload;
use crate::server::reply::Asked;

impl Locked<'_> {
    /// Sends an error that ends the connection: the next bytes cannot be trusted to be a request.
    pub(crate) fn refuse(&mut self, code: u16) {
        let connection = self.connection;
        if self.is_head() {
            let undated = !connection.server.config.date_header;
            let asked = Asked { stream: connection.is_stream(), undated, ..Asked::default() };
            self.begin(Framing::None, asked, 0);
            if let Some(log) = &mut self.log {
                log.begin_unread(connection.is_stream(), connection.client());
            }
        } else {
            self.disown_request();
        }
        if let Some(request) = self.request_mut() {
            request.reply.close = true;
            if !request.reply.is_started() {
                request.reply.head.clear();
                self.answer_status(code);
            }
        }
        self.close_after_flush(LastAnswer::Whole);
    }

    /// No route is left.
    pub(crate) fn answer_not_found(&mut self) {
        if let Some(request) = self.request_mut() {
            request.reply.head.clear();
        }
        self.answer_status(404);
        self.complete();
    }

    /// A short response of our own, whose body is the reason phrase.
    pub(crate) fn answer_status(&mut self, code: u16) {
        let Some(request) = self.request_mut() else { return };
        let head = &mut request.reply.head;
        // Neither can fail: both are ours and valid. Even otherwise the response would be well-formed.
        let _ = head.set_status(code);
        let _ = head.header(b"Content-Type", b"text/plain");
        if code == 503 {
            let _ = head.header(b"Retry-After", overload::RETRY_AFTER);
        }
        self.write_answer(status::reason(code).unwrap_or("Error").as_bytes());
    }

    /// Sends the response of a constant route to a request with these header lines.
    pub(crate) fn answer_constant(&mut self, constant: &Constant, headers: &[u8]) {
        let (head, body) = constant.answer_to(headers);
        self.answer_with(head.clone(), body);
    }

    /// Sends a head and a whole body.
    pub(crate) fn answer_with(&mut self, head: ResponseHead, body: &[u8]) {
        if let Some(request) = self.request_mut() {
            request.reply.head = head;
        }
        self.write_answer(body);
        self.complete();
    }

    fn write_answer(&mut self, body: &[u8]) {
        let server = self.connection.server.config.server_header.as_bytes();
        let Some((request, out)) = self.request_and_out() else { return };
        let place = request.reply.end(out, body.len(), server);
        self.queue(&body[..place.take], place.suffix);
    }
}
