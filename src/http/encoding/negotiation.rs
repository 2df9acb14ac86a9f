//! `Accept-Encoding` (RFC 9110 section 12.5.3).

use super::{Coding, CodingLevel};
use crate::http::{is_token_byte, list_members, trim_blanks};

/// A weight in thousandths (RFC 9110 section 12.4.2).
type Weight = u16;

/// The codings that a client accepts. None of them without the header, or if it is malformed.
///
/// ```
/// use socketify::http::encoding::{Accepted, Coding, CodingLevel};
///
/// let offers = [CodingLevel { coding: Coding::Brotli, level: 4 }, CodingLevel { coding: Coding::Gzip, level: 4 }];
/// let choose = |value: &[u8]| Accepted::parse(Some(value)).choose(&offers).map(|offer| offer.coding);
/// assert_eq!(choose(b"gzip, br"), Some(Coding::Brotli));
/// assert_eq!(choose(b"gzip, br;q=0.5"), Some(Coding::Gzip));
/// assert_eq!(choose(b"identity"), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    gzip: Option<Weight>,
    brotli: Option<Weight>,
    zstd: Option<Weight>,
    identity: Option<Weight>,
    /// `*`: all codings that are not named.
    rest: Option<Weight>,
}

impl Accepted {
    /// Reads the header's value, all lines of it joined.
    pub fn parse(value: Option<&[u8]>) -> Self {
        value.and_then(Self::read).unwrap_or_default()
    }

    fn read(value: &[u8]) -> Option<Self> {
        let mut accepted = Self::default();
        for member in list_members(value) {
            let (name, weight) = match member.iter().position(|&byte| byte == b';') {
                None => (member, 1000),
                Some(at) => (trim_blanks(&member[..at]), weight(trim_blanks(&member[at + 1..]))?),
            };
            if name.is_empty() || !name.iter().all(|&byte| is_token_byte(byte)) {
                return None;
            }
            let name = name.to_ascii_lowercase();
            let slot = match name.as_slice() {
                // RFC 9110 section 8.4.1.3: the two are the same.
                b"gzip" | b"x-gzip" => &mut accepted.gzip,
                b"br" => &mut accepted.brotli,
                b"zstd" => &mut accepted.zstd,
                b"identity" => &mut accepted.identity,
                b"*" => &mut accepted.rest,
                _ => continue,
            };
            // If a client contradicts itself, the first weight counts.
            slot.get_or_insert(weight);
        }
        Some(accepted)
    }

    fn weight(&self, coding: Coding) -> Weight {
        let named = match coding {
            Coding::Gzip => self.gzip,
            Coding::Brotli => self.brotli,
            Coding::Zstd => self.zstd,
        };
        named.or(self.rest).unwrap_or(0)
    }

    /// The offer with the client's highest weight, and the first of several. `None` sends the body
    /// uncompressed: the client prefers that, or accepts no offer (RFC 9110 section 12.5.3).
    pub fn choose(&self, offers: &[CodingLevel]) -> Option<CodingLevel> {
        let mut best: Option<(Weight, CodingLevel)> = None;
        for offer in offers {
            let weight = self.weight(offer.coding);
            if weight > best.map_or(0, |(weight, _)| weight) {
                best = Some((weight, *offer));
            }
        }
        best.filter(|(weight, _)| self.identity.is_none_or(|identity| identity <= *weight))
            .map(|(_, offer)| offer)
    }

    /// Whether the client refuses a body without a coding.
    pub fn refuses_identity(&self) -> bool {
        self.identity.or(self.rest) == Some(0)
    }
}

/// `q=` and a number from 0 to 1 with at most three digits after the point.
fn weight(parameter: &[u8]) -> Option<Weight> {
    let (b'q' | b'Q', [b'=', digits @ ..]) = parameter.split_first()? else { return None };
    let (whole, rest) = digits.split_first()?;
    let decimals = match rest {
        [] => &[][..],
        [b'.', decimals @ ..] if decimals.len() <= 3 => decimals,
        _ => return None,
    };
    if !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let parts =
        (0..3).fold(0, |sum, at| sum * 10 + decimals.get(at).map_or(0, |digit| Weight::from(digit - b'0')));
    match (whole, parts) {
        (b'0', parts) => Some(parts),
        (b'1', 0) => Some(1000),
        _ => None,
    }
}
