//! Responses in a content coding, if the application compresses: the same calls, other bytes.
//!
//! Compression is slow, so it is never done under the connection's lock. A body in pieces has its encoder
//! behind a lock of its own, held until the piece is queued, so pieces leave in the order of the calls. That
//! lock comes before the connection's.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::files::conditions::any_tag;
use crate::http::encoding::{Accepted, CodingLevel, Compression, Encoder, encode};
use crate::http::response::{Known, ResponseHead};
use crate::server::exchange::Exchange;
use crate::server::reply::{Coder, Reply};

impl Exchange {
    /// Whether responses may be compressed.
    pub fn compresses(&self) -> bool {
        self.settings().is_some()
    }

    pub(super) fn settings(&self) -> Option<&Compression> {
        self.connection.server.config.compression.as_deref()
    }

    /// Decides on a response that has not begun, and adds `Vary` to its head. `whole`: nothing follows
    /// `body`.
    fn decide(
        &self,
        reply: &mut Reply,
        settings: &Compression,
        body: &[u8],
        whole: bool,
    ) -> Option<(CodingLevel, Accepted)> {
        let head = &mut reply.head;
        if head.take_identity() || !head.may_encode(settings, body) {
            return None;
        }
        let accepted = Accepted::parse(self.header(b"accept-encoding").as_deref());
        let not_modified = head.status() == 304;
        let size = self.unseen_size(head, body).unwrap_or(body.len() as u64);
        let small = size == 0 || size < settings.minimum_size as u64 && !accepted.refuses_identity();
        if whole && small && !not_modified {
            return None;
        }
        head.vary_on_encoding();
        let offer = accepted.choose(&settings.offers)?;
        if not_modified {
            if self.may_hold_encoded(head) {
                head.weaken_tag();
            }
            return None;
        }
        Some((offer, accepted))
    }

    /// The size of the body of GET, if a response to HEAD gives it without a body.
    fn unseen_size(&self, head: &ResponseHead, body: &[u8]) -> Option<u64> {
        let told = body.is_empty() && self.method() == b"HEAD" && head.wrote(Known::ContentType);
        head.declared_length().filter(|_| told)
    }

    /// Whether the client of a 304 may hold the compressed response, which has a weak `ETag`. It may not if
    /// the client sends the strong one, which came with an uncompressed body.
    fn may_hold_encoded(&self, head: &ResponseHead) -> bool {
        let (Some(tag), Some(list)) = (head.field(b"etag"), self.header(b"if-none-match")) else {
            return true;
        };
        any_tag(&list, |known, weak| weak && known == tag) || !any_tag(&list, |known, _| known == tag)
    }

    /// `end`, if the application compresses.
    pub(super) fn end_encoded(&self, settings: &Compression, payload: &[u8], close: bool) -> bool {
        let Some(mut state) = self.current() else { return false };
        let Some(request) = state.request_mut() else { return false };
        if let Some(coder) = request.reply.coder.clone() {
            drop(state);
            return self.end_pieces(&coder, payload, close);
        }
        if request.reply.is_started() {
            return self.end_plain(state, payload, close);
        }
        let Some((offer, accepted)) = self.decide(&mut request.reply, settings, payload, true) else {
            return self.end_plain(state, payload, close);
        };
        drop(state);
        let coded =
            encode(offer, payload).filter(|coded| coded.len() < payload.len() || accepted.refuses_identity());
        let Some(mut state) = self.current() else { return false };
        let Some(request) = state.request_mut() else { return false };
        match coded {
            // Another thread may have begun the response meanwhile: its beginning counts.
            Some(coded) if !request.reply.is_started() => {
                request.reply.head.encoded(offer.coding.name());
                self.end_plain(state, &coded, close)
            }
            _ => self.end_plain(state, payload, close),
        }
    }

    fn end_pieces(&self, coder: &Coder, payload: &[u8], close: bool) -> bool {
        let mut slot = coder.lock();
        let Some(encoder) = slot.take() else { return false };
        if let Ok(last) = encoder.finish(payload) {
            return self.current().is_some_and(|state| self.end_plain(state, &last, close));
        }
        // No memory: the client must not take the part it has for the whole.
        self.abort_if_started();
        false
    }

    /// `write`, if the application compresses.
    pub(super) fn write_encoded(&self, settings: &Compression, payload: &[u8]) -> bool {
        let Some(mut state) = self.current() else { return false };
        if payload.is_empty() {
            return true;
        }
        let Some(request) = state.request_mut() else { return false };
        if !request.reply.is_started() {
            self.begin_pieces(&mut request.reply, settings, payload);
        }
        let Some(coder) = request.reply.coder.clone() else {
            return self.write_plain(state, payload, payload.len());
        };
        drop(state);
        let mut slot = coder.lock();
        let Some(encoder) = slot.as_mut() else { return false };
        let written = encoder.write(payload);
        match (written, self.current()) {
            (Ok(bytes), Some(state)) => self.write_plain(state, &bytes, payload.len()),
            (_, state) => {
                *slot = None;
                drop(state);
                self.abort_if_started();
                false
            }
        }
    }

    pub(super) fn begin_pieces(&self, reply: &mut Reply, settings: &Compression, piece: &[u8]) {
        // A promised length counts these bytes.
        if reply.head.declared_length().is_some() {
            reply.head.take_identity();
            return;
        }
        let Some((offer, _)) = self.decide(reply, settings, piece, false) else { return };
        if self.method() == b"HEAD" {
            reply.head.encoded(offer.coding.name());
        } else if let Ok(encoder) = Encoder::new(offer) {
            reply.head.encoded(offer.coding.name());
            reply.coder = Some(Arc::new(Mutex::new(Some(encoder))));
        }
    }

    /// A response in pieces to a HEAD request begins. Their type decides on compression; if it is not known
    /// yet, the head does not mention it.
    pub(super) fn begin_pieces_unseen(&self, reply: &mut Reply) {
        let Some(settings) = self.settings().filter(|_| !reply.is_started()) else { return };
        if reply.head.wrote(Known::ContentType) {
            self.begin_pieces(reply, settings, b"");
        } else {
            reply.head.take_identity();
        }
    }

    /// A response without a body begins. True if that is because of HEAD, and GET would have a compressed
    /// one.
    pub(super) fn begin_empty(&self, reply: &mut Reply) -> bool {
        let Some(settings) = self.settings().filter(|_| !reply.is_started()) else { return false };
        let decided = self.decide(reply, settings, b"", true);
        if let Some((offer, _)) = &decided {
            reply.head.encoded(offer.coding.name());
        }
        decided.is_some()
    }

    /// An uncompressed response begins: `Content-Encoding: identity` is removed from the head.
    pub(in crate::server) fn begin_as_is(&self, reply: &mut Reply) {
        if self.compresses() && !reply.is_started() {
            reply.head.take_identity();
        }
    }
}
