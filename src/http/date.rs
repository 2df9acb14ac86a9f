//! The `Date` header (RFC 9110 section 6.6.1), formatted once a second on each thread.

use std::cell::Cell;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

/// A date as it stands in a header: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7).
pub type ImfFixdate = [u8; 29];

/// The last second of the year 9999; the format has four digits for a year.
const MAX_SECOND: u64 = 253_402_300_799;

thread_local! {
    /// The second last formatted, and its text. Per thread, so that no two workers share a cache line for it.
    static CACHE: Cell<(u64, ImfFixdate)> = const { Cell::new((0, *b"Thu, 01 Jan 1970 00:00:00 GMT")) };
}

/// The present time in seconds since 1970. A clock set before that gives 1970.
pub fn second() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The present time (B-HT-24). Costs one reading of the clock, and the formatting once a second.
pub fn now() -> ImfFixdate {
    let second = second();
    CACHE.with(|cache| {
        let (cached, text) = cache.get();
        if cached == second {
            return text;
        }
        let text = imf_fixdate(second);
        cache.set((second, text));
        text
    })
}

/// A time in seconds since 1970, in the form of `Date`, `Last-Modified` and `Expires`.
///
/// ```
/// use socketify::http::date::imf_fixdate;
///
/// assert_eq!(&imf_fixdate(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
/// ```
pub fn imf_fixdate(second: u64) -> ImfFixdate {
    let time = UNIX_EPOCH + Duration::from_secs(second.min(MAX_SECOND));
    let mut text = [b' '; 29];
    // The text of every second up to `MAX_SECOND` fills the array exactly, so there is no error to report.
    let _ = write!(&mut text[..], "{}", HttpDate::from(time));
    text
}
