//! The rules that a peer can break, one variant each, with their close codes.

use crate::websocket::frame::MAX_CONTROL;

/// The rule a peer broke. The rest of the connection cannot be trusted: close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// RSV2 or RSV3 is set: no extension known here uses them (RFC 6455 section 5.2).
    #[error("reserved bits are set")]
    ReservedBits,
    /// An opcode RFC 6455 section 11.8 does not define.
    #[error("unknown opcode {bits}")]
    UnknownOpCode {
        /// The opcode.
        bits: u8,
    },
    /// A control frame without FIN (RFC 6455 section 5.5).
    #[error("fragmented control frame")]
    FragmentedControl,
    /// A control frame with too much payload (RFC 6455 section 5.5).
    #[error("control frame with more than {MAX_CONTROL} bytes")]
    ControlTooLong,
    /// RSV1 on a control frame or a continuation (RFC 7692 section 6.1).
    #[error("compression bit on a control frame or a continuation")]
    MisplacedCompression,
    /// RSV1 without negotiated compression (RFC 6455 section 5.2).
    #[error("compressed frame without an agreement on compression")]
    CompressedNotNegotiated,
    /// A client's frame without a mask (RFC 6455 section 5.1).
    #[error("unmasked frame from a client")]
    Unmasked,
    /// A length in more bytes than it needs (RFC 6455 section 5.2).
    #[error("payload length in more bytes than it needs")]
    LengthNotMinimal,
    /// A length of 2^63 or more (RFC 6455 section 5.2).
    #[error("payload length of 2^63 or more")]
    LengthOverflow,
    /// A continuation with no message to continue (RFC 6455 section 5.4).
    #[error("continuation of no message")]
    UnexpectedContinuation,
    /// A new message before the end of the fragmented one (RFC 6455 section 5.4).
    #[error("new message within a fragmented one")]
    Interleaved,
    /// A close frame with half a code (RFC 6455 section 5.5.1).
    #[error("close frame with a single byte")]
    ClosePayload,
    /// A close frame with a code no peer may send (RFC 6455 section 7.4).
    #[error("close code {code} is not for the wire")]
    CloseCode {
        /// The code.
        code: u16,
    },
    /// A close frame whose reason is not UTF-8 (RFC 6455 section 5.5.1).
    #[error("close reason is not UTF-8")]
    CloseReason,
    /// A text message that is not UTF-8 (RFC 6455 section 8.1).
    #[error("text is not UTF-8")]
    InvalidUtf8,
    /// A message longer than the route allows (RFC 6455 section 7.4.1).
    #[error("message longer than {limit} bytes")]
    TooBig {
        /// The limit.
        limit: usize,
    },
    /// A compressed message that is not DEFLATE (RFC 7692 section 7.2.2).
    #[error("malformed compressed message")]
    Inflate,
    /// A compressed message that is longer than the route allows once it is inflated.
    #[error("message inflates to more than {limit} bytes")]
    InflatedTooBig {
        /// The limit.
        limit: usize,
    },
}

impl Violation {
    /// The code to close with (RFC 6455 section 7.4.1).
    pub fn close_code(&self) -> u16 {
        match self {
            // Data "not consistent with the type of the message".
            Self::InvalidUtf8 | Self::CloseReason | Self::Inflate => 1007,
            Self::TooBig { .. } | Self::InflatedTooBig { .. } => 1009,
            _ => 1002,
        }
    }

    /// The reason for the close callback, which gets 1006 (C-K-01, C-F-02, C-F-03, C-C-07 of the API
    /// specification): the texts of the original, which has none for plain protocol errors.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::TooBig { .. } => Some("Received too big message"),
            Self::InvalidUtf8 => Some("Received invalid UTF-8"),
            Self::Inflate | Self::InflatedTooBig { .. } => {
                Some("Received too big message, or other inflation error")
            }
            _ => None,
        }
    }
}
