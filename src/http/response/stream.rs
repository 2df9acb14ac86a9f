//! A response head as fields of HTTP/2 (RFC 9113 section 8.3.2): the same lines, without those that frame HTTP/1.1.

use ::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ::http::{Response, StatusCode};

use super::{BodyKind, HeadError, Known, LineBreaker, ResponseHead, lossy};
use crate::http::head::HeaderLines;

/// The usual number of fields in a response: the room made at once.
const USUAL: usize = 6;

impl ResponseHead {
    /// Adds a header as [`ResponseHead::header`] does, to a response over HTTP/2.
    pub fn header_of_stream(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadError> {
        if value.iter().any(|byte| byte.is_ascii_control() && !b"\t\r\n\0".contains(byte)) {
            return Err(HeadError::Value { name: lossy(name), found: LineBreaker::Control });
        }
        self.header(name, value)
    }

    /// The head as fields, with `Date`, `Server` and the length that fits `body`; without `Connection` and
    /// other connection-specific fields (RFC 9113 section 8.2.2), and without `TE`, a request field.
    /// `head_request`: the request was `HEAD`.
    pub fn to_stream(&self, head_request: bool, body: BodyKind, date: &[u8], server: &[u8]) -> Response<()> {
        let mut response = Response::new(());
        // There is no change of protocols, and a final response must not look like an interim one (RFC 9113
        // section 8.6).
        *response.status_mut() = StatusCode::from_u16(self.status())
            .ok()
            .filter(|status| !status.is_informational())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut fields = self.fields_of_stream();
        for (name, known, value) in
            [(header::DATE, Known::Date, date), (header::SERVER, Known::Server, server)]
        {
            if !value.is_empty()
                && !self.wrote(known)
                && let Ok(value) = HeaderValue::from_bytes(value)
            {
                fields.insert(name, value);
            }
        }
        if let Some(length) = self.length_of(head_request, body) {
            fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        *response.headers_mut() = fields;
        response
    }

    /// The header lines as an interim 103 over HTTP/2.
    pub(crate) fn to_hints(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::EARLY_HINTS;
        *response.headers_mut() = self.fields_of_stream();
        response
    }

    /// The user's header lines as fields.
    fn fields_of_stream(&self) -> HeaderMap {
        let mut fields = HeaderMap::with_capacity(USUAL);
        for (name, value) in HeaderLines::new(&self.fields) {
            // Both were checked when they were added.
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
                && !is_of_the_connection(&name)
            {
                fields.append(name, value);
            }
        }
        fields
    }
}

impl ResponseHead {
    /// The header lines as fields of trailers.
    pub(crate) fn to_trailers(&self) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in HeaderLines::new(&self.fields) {
            // Both were checked when they were added.
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                fields.append(name, value);
            }
        }
        fields
    }
}

fn is_of_the_connection(name: &HeaderName) -> bool {
    *name == header::CONNECTION
        || *name == header::UPGRADE
        || *name == header::TE
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}
