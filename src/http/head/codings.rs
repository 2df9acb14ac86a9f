//! Transfer codings: the values of `Transfer-Encoding` (RFC 9112 section 6.1).

use super::Refusal;
use crate::http::{is_token_byte, trim_blanks};

/// The codings of a message, gathered line by line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Codings {
    /// An unknown one has come; they are applied in the order of the list.
    unknown: bool,
    /// `chunked` has come, and has to be the last.
    chunked: bool,
}

impl Codings {
    /// Adds a line. An empty member of the list, which a recipient may skip, is refused, because parsers
    /// differ there.
    pub(super) fn read(&mut self, value: &[u8]) -> Result<(), Refusal> {
        for member in value.split(|&byte| byte == b',').map(trim_blanks) {
            let name = member.split(|&byte| byte == b';').next().map_or(member, trim_blanks);
            // RFC 9112 section 6.1: "A sender MUST NOT apply the chunked transfer coding more than once", and it comes last.
            if self.chunked || name.is_empty() || !name.iter().all(|&byte| is_token_byte(byte)) {
                return Err(Refusal::TransferEncoding);
            }
            // It has no parameters (section 7.1).
            self.chunked = member.eq_ignore_ascii_case(b"chunked");
            self.unknown |= !self.chunked;
        }
        Ok(())
    }

    /// Whether the body is in chunks; false when there are no codings.
    pub(super) fn is_chunked(self) -> Result<bool, Refusal> {
        match (self.chunked, self.unknown) {
            (true, true) => Err(Refusal::UnknownCoding),
            // Only the sender knows the end of such a body (section 6.3 item 4).
            (false, true) => Err(Refusal::TransferEncoding),
            (chunked, false) => Ok(chunked),
        }
    }

    /// Whether there are any.
    pub(super) fn any(self) -> bool {
        self.chunked || self.unknown
    }
}
