//! Responses that no user code makes: refusals, constant routes, and what is said where no route answers.

use crate::app::Constant;
use crate::http::status;
use crate::server::connection::{Locked, Phase};
use crate::server::overload;
use crate::server::reply::{Asked, Reply};

impl Locked<'_> {
    /// Answers with an error that ends the connection: what follows on it cannot be trusted to be a request.
    pub(crate) fn refuse(&mut self, code: u16) {
        self.current += 1;
        let connection = self.connection;
        if self.phase == Phase::Head {
            self.http.reply = Reply::new(Asked { stream: self.connection.is_stream(), ..Asked::default() });
            if let Some(log) = &mut self.log {
                log.begin_unread(connection.is_stream(), connection.client());
            }
        }
        self.http.reply.close = true;
        if !self.http.reply.is_started() {
            self.http.reply.head.clear();
            self.answer_status(code);
        }
        self.close_after_flush();
    }

    /// No route is left that would answer.
    pub(crate) fn answer_not_found(&mut self) {
        self.http.reply.head.clear();
        self.answer_status(404);
        self.complete();
    }

    /// A short answer of our own, whose body is the reason phrase.
    pub(crate) fn answer_status(&mut self, code: u16) {
        let body = status::reason(code).unwrap_or("Error").as_bytes();
        // Neither can fail: both are ours and valid. Were they not, the answer would still be well-formed.
        let _ = self.http.reply.head.set_status(code);
        let _ = self.http.reply.head.header(b"Content-Type", b"text/plain");
        if code == 503 {
            let _ = self.http.reply.head.header(b"Retry-After", overload::RETRY_AFTER);
        }
        self.write_answer(body);
    }

    /// A constant route answers a request with these header lines.
    pub(crate) fn answer_constant(&mut self, constant: &Constant, headers: &[u8]) {
        let (head, body) = constant.answer_to(headers);
        self.http.reply.head = head.clone();
        self.write_answer(body);
        self.complete();
    }

    pub(super) fn write_answer(&mut self, body: &[u8]) {
        let server = self.connection.server.config.server_header.as_bytes();
        let state = &mut **self;
        let out = state.out.tail();
        let place = state.http.reply.end(out, body.len(), server);
        out.extend_from_slice(&body[..place.take]);
        out.extend_from_slice(place.suffix);
    }
}
