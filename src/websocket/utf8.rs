//! UTF-8 that arrives in pieces (RFC 6455 section 8.1).
//!
//! The standard library validates several bytes at a time while they are ASCII. This keeps the incomplete
//! character at the end of a piece.

/// Validates text that arrives in pieces; fails with the first byte that no further one can fix.
///
/// ```
/// use socketify::websocket::utf8::Validator;
///
/// let mut text = Validator::default();
/// assert!(text.push(b"na\xc3") && !text.is_complete());
/// assert!(text.push(b"\xafve") && text.is_complete());
/// assert!(!text.push(b"\xed\xa0")); // no character begins so
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validator {
    /// The first bytes of a character whose last ones have not arrived.
    pending: [u8; 4],
    /// How many of them there are: 3 at most.
    len: u8,
}

impl Validator {
    /// Takes the next piece. False: it is not UTF-8, and the validator must not be used again.
    pub fn push(&mut self, piece: &[u8]) -> bool {
        let mut rest = piece;
        while self.len > 0 {
            let Some((&byte, after)) = rest.split_first() else { return true };
            rest = after;
            if !self.complete(byte) {
                return false;
            }
        }
        let Err(error) = std::str::from_utf8(rest) else { return true };
        error.error_len().is_none() && self.keep(&rest[error.valid_up_to()..])
    }

    /// Whether the text may end here: not within a character.
    pub fn is_complete(&self) -> bool {
        self.len == 0
    }

    /// One more byte of the started character.
    fn complete(&mut self, byte: u8) -> bool {
        let mut character = self.pending;
        let len = usize::from(self.len) + 1;
        let Some(character) = character.get_mut(..len) else { return false };
        character[len - 1] = byte;
        match std::str::from_utf8(character) {
            Ok(_) => self.keep(&[]),
            Err(error) => error.error_len().is_none() && self.keep(character),
        }
    }

    /// Keeps the beginning of a character, if it is shorter than a character.
    fn keep(&mut self, begun: &[u8]) -> bool {
        self.len = 0;
        for (slot, &byte) in self.pending.iter_mut().zip(begun) {
            *slot = byte;
            self.len += 1;
        }
        true
    }
}
