//! Cipher lists, as OpenSSL writes them and with the names of IANA.
//!
//! The supported ciphers are few and good: ephemeral elliptic curves for the key exchange, and authenticated
//! encryption (RFC 9325 section 4.2). A list selects and orders them. A word that only adds unsupported
//! ciphers is an error, not a line in a log: an administrator means the list.

use rustls::{CipherSuite, SupportedCipherSuite};

/// One supported cipher suite.
struct Suite {
    iana: &'static str,
    /// The same for OpenSSL, for TLS 1.2.
    openssl: Option<&'static str>,
    id: CipherSuite,
}

/// In the default order of preference.
const SUITES: [Suite; 9] = [
    Suite { iana: "TLS_AES_256_GCM_SHA384", openssl: None, id: CipherSuite::TLS13_AES_256_GCM_SHA384 },
    Suite { iana: "TLS_AES_128_GCM_SHA256", openssl: None, id: CipherSuite::TLS13_AES_128_GCM_SHA256 },
    Suite {
        iana: "TLS_CHACHA20_POLY1305_SHA256",
        openssl: None,
        id: CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    },
    Suite {
        iana: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        openssl: Some("ECDHE-ECDSA-AES256-GCM-SHA384"),
        id: CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    },
    Suite {
        iana: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        openssl: Some("ECDHE-ECDSA-AES128-GCM-SHA256"),
        id: CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    },
    Suite {
        iana: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        openssl: Some("ECDHE-ECDSA-CHACHA20-POLY1305"),
        id: CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    },
    Suite {
        iana: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        openssl: Some("ECDHE-RSA-AES256-GCM-SHA384"),
        id: CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    },
    Suite {
        iana: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        openssl: Some("ECDHE-RSA-AES128-GCM-SHA256"),
        id: CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    },
    Suite {
        iana: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        openssl: Some("ECDHE-RSA-CHACHA20-POLY1305"),
        id: CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    },
];

/// The parts of OpenSSL's names of ciphers and of families. They distinguish an unsupported name from an
/// unknown one.
const WORDS: &[&str] = &[
    "3DES",
    "ADH",
    "AECDH",
    "AES",
    "AES128",
    "AES256",
    "AESCCM",
    "AESCCM8",
    "AESGCM",
    "ARIA",
    "ARIA128",
    "ARIA256",
    "ARIAGCM",
    "CAMELLIA",
    "CAMELLIA128",
    "CAMELLIA256",
    "CBC",
    "CBC3",
    "CCM",
    "CCM8",
    "CHACHA20",
    "DES",
    "DH",
    "DHE",
    "DSS",
    "ECDH",
    "ECDHE",
    "ECDHEPSK",
    "ECDSA",
    "EDH",
    "EECDH",
    "EXP",
    "EXPORT",
    "FZA",
    "GCM",
    "IDEA",
    "LOW",
    "MD5",
    "MEDIUM",
    "NULL",
    "POLY1305",
    "PSK",
    "RC2",
    "RC4",
    "RSA",
    "SEED",
    "SHA",
    "SHA1",
    "SHA256",
    "SHA384",
    "SRP",
    "SSLV3",
    "TLSV1",
    "aDH",
    "aDSS",
    "aECDH",
    "aECDSA",
    "aNULL",
    "aPSK",
    "aRSA",
    "aSRP",
    "eNULL",
    "kDH",
    "kDHE",
    "kDHEPSK",
    "kDHd",
    "kDHr",
    "kECDH",
    "kECDHE",
    "kECDHEPSK",
    "kECDHe",
    "kECDHr",
    "kEDH",
    "kEECDH",
    "kPSK",
    "kRSA",
    "kRSAPSK",
    "kSRP",
];

/// Families, and their supported suites of TLS 1.2.
fn family(word: &str) -> Option<fn(&str) -> bool> {
    Some(match word {
        "ALL" | "DEFAULT" | "HIGH" | "FIPS" | "TLSv1.2" => |_| true,
        "ECDHE" | "EECDH" | "kECDHE" | "kEECDH" | "ECDH" => |_| true,
        "aRSA" | "RSA" => |name| name.contains("-RSA-"),
        "aECDSA" | "ECDSA" => |name| name.contains("-ECDSA-"),
        "AES" | "AESGCM" => |name| name.contains("-AES"),
        "AES128" => |name| name.contains("-AES128-"),
        "AES256" => |name| name.contains("-AES256-"),
        "CHACHA20" => |name| name.contains("-CHACHA20-"),
        "SHA256" => |name| name.ends_with("-SHA256"),
        "SHA384" => |name| name.ends_with("-SHA384"),
        _ => return None,
    })
}

/// Why a list is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CipherError {
    /// A word of it is unknown.
    #[error("ssl_ciphers: there is no cipher {word:?}; supported are {}", supported())]
    Unknown {
        /// The word.
        word: String,
    },
    /// A word of it names only unsupported ciphers.
    #[error("ssl_ciphers: {word:?} is not supported; supported are {}", supported())]
    Unsupported {
        /// The word.
        word: String,
    },
    /// No cipher is left.
    #[error("ssl_ciphers: the list {list:?} leaves no cipher; supported are {}", supported())]
    Empty {
        /// The list.
        list: String,
    },
}

fn supported() -> String {
    let names = SUITES.iter().map(|suite| suite.openssl.unwrap_or(suite.iana));
    names
        .chain(["and the families ECDHE, AESGCM, CHACHA20, HIGH, DEFAULT and ALL"])
        .collect::<Vec<_>>()
        .join(", ")
}

/// The suites of a word in a list.
fn suites_of(word: &str) -> Result<Vec<usize>, CipherError> {
    let unknown = || CipherError::Unknown { word: word.to_owned() };
    if let Some(place) = SUITES.iter().position(|suite| {
        suite.iana.eq_ignore_ascii_case(word)
            || suite.openssl.is_some_and(|name| name.eq_ignore_ascii_case(word))
    }) {
        return Ok(vec![place]);
    }
    // `ECDHE+AESGCM` is the intersection of both.
    let mut found: Vec<usize> = Vec::new();
    for (number, part) in word.split('+').enumerate() {
        let members = |test: fn(&str) -> bool| {
            SUITES
                .iter()
                .enumerate()
                .filter(move |(_, suite)| suite.openssl.is_some_and(test))
                .map(|(place, _)| place)
        };
        let matching: Vec<usize> = match family(part) {
            Some(test) => members(test).collect(),
            None if is_known(part) => Vec::new(),
            None => return Err(unknown()),
        };
        if number == 0 {
            found = matching;
        } else {
            found.retain(|place| matching.contains(place));
        }
    }
    Ok(found)
}

/// Whether a word is a name of OpenSSL or IANA that is not supported here.
fn is_known(word: &str) -> bool {
    if word.starts_with("TLS_") || word.starts_with("SSL_") {
        return word.split('_').skip(1).all(|part| {
            part.parse::<u16>().is_ok() || matches!(part, "WITH" | "anon" | "EDE") || WORDS.contains(&part)
        });
    }
    // Some families are empty here, and `COMPLEMENTOFDEFAULT` always is.
    matches!(word, "TLSv1" | "TLSv1.0" | "SSLv3" | "SSLv2" | "COMPLEMENTOFALL" | "COMPLEMENTOFDEFAULT")
        || word.split('-').all(|part| WORDS.contains(&part))
}

/// The cipher suites of a list, in its order.
///
/// Words stand between `:`, `,`, `;` or spaces. Each adds its suites; with `-` it removes them, with `!` for
/// good, and with `+` it moves them to the end. `@STRENGTH` and `@SECLEVEL=n` change nothing, since all
/// supported suites are strong. Families are of TLS 1.2. A list that names no suite of TLS 1.3 keeps all of
/// those, as with OpenSSL.
pub fn parse(list: &str) -> Result<Vec<CipherSuite>, CipherError> {
    let mut chosen: Vec<usize> = Vec::new();
    let mut banned: Vec<usize> = Vec::new();
    let mut named_13 = false;
    let is_13 = |place: &usize| SUITES.get(*place).is_some_and(|suite| suite.openssl.is_none());
    let words = list.split([':', ',', ';', ' ', '\t', '\n']).filter(|word| !word.is_empty());
    for word in words {
        if word == "@STRENGTH" || word.starts_with("@SECLEVEL=") {
            continue;
        }
        if let Some(rest) = word.strip_prefix('!') {
            let gone = suites_of(rest)?;
            chosen.retain(|place| !gone.contains(place));
            banned.extend(gone);
        } else if let Some(rest) = word.strip_prefix('-') {
            let gone = suites_of(rest)?;
            chosen.retain(|place| !gone.contains(place));
        } else if let Some(rest) = word.strip_prefix('+') {
            let moved = suites_of(rest)?;
            // A stable sort: unmoved suites stay before moved ones, and both keep their order.
            chosen.sort_by_key(|place| moved.contains(place));
        } else {
            let added = suites_of(word)?;
            if added.is_empty() {
                return Err(CipherError::Unsupported { word: word.to_owned() });
            }
            named_13 |= added.iter().any(is_13);
            let new = added.into_iter().filter(|place| !banned.contains(place) && !chosen.contains(place));
            chosen.extend(new.collect::<Vec<_>>());
        }
    }
    if chosen.is_empty() {
        return Err(CipherError::Empty { list: list.to_owned() });
    }
    if !named_13 {
        let all = (0..SUITES.len()).filter(|place| is_13(place) && !banned.contains(place));
        chosen.splice(0..0, all);
    }
    Ok(chosen.into_iter().filter_map(|place| SUITES.get(place)).map(|suite| suite.id).collect())
}

/// The chosen ones of `known`, in the chosen order.
pub(super) fn select(chosen: &[CipherSuite], known: &[SupportedCipherSuite]) -> Vec<SupportedCipherSuite> {
    chosen.iter().filter_map(|id| known.iter().find(|suite| suite.suite() == *id)).copied().collect()
}

/// OpenSSL's name of a cipher suite, which for TLS 1.3 is also IANA's.
pub fn name(suite: CipherSuite) -> Option<&'static str> {
    SUITES.iter().find(|known| known.id == suite).map(|known| known.openssl.unwrap_or(known.iana))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TLS_13: usize = 3;

    /// The names of the suites that a list chooses for TLS 1.2.
    fn names(list: &str) -> Vec<&'static str> {
        let chosen = parse(list).unwrap();
        chosen.into_iter().filter_map(name).filter(|name| !name.starts_with("TLS_")).collect()
    }

    #[test]
    fn names_of_both_kinds_in_their_order() {
        assert_eq!(
            names("ECDHE-RSA-AES128-GCM-SHA256:TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
            ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"]
        );
        assert_eq!(names("ecdhe-rsa-chacha20-poly1305, "), ["ECDHE-RSA-CHACHA20-POLY1305"]);
    }

    #[test]
    fn tls_1_3_stays_on_unless_named() {
        assert_eq!(parse("ECDHE-RSA-AES128-GCM-SHA256").unwrap().len(), TLS_13 + 1);
        assert_eq!(parse("TLS_AES_128_GCM_SHA256").unwrap(), [CipherSuite::TLS13_AES_128_GCM_SHA256]);
        assert_eq!(parse("HIGH:!TLS_AES_128_GCM_SHA256").unwrap().len(), TLS_13 - 1 + 6);
        // Families are of TLS 1.2.
        assert_eq!(parse("CHACHA20").unwrap().len(), TLS_13 + 2);
        assert_eq!(parse("ALL:!CHACHA20").unwrap().len(), TLS_13 + 4);
    }

    #[test]
    fn families_and_operators() {
        assert_eq!(names("HIGH:!aNULL:!MD5:!3DES:!DHE").len(), 6);
        assert_eq!(names("DEFAULT@SECLEVEL=2".replace('@', ":@").as_str()).len(), 6);
        assert_eq!(names("ECDHE+AESGCM:!AES256+aRSA").len(), 3);
        assert_eq!(
            names("ECDHE+CHACHA20:ECDHE+AES128").first().copied(),
            Some("ECDHE-ECDSA-CHACHA20-POLY1305")
        );
        // A removed suite may come again; a killed one may not; a moved one is last.
        assert_eq!(names("AES128:-AES128:AES128").len(), 2);
        assert_eq!(names("AES256:!AES128:AES128").len(), 2);
        assert!(names("ALL:+AES256").last().unwrap().contains("AES256"));
    }

    #[test]
    fn what_is_not_served_is_named() {
        let error = parse("ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256").unwrap_err();
        assert_eq!(error, CipherError::Unsupported { word: "DHE-RSA-AES128-GCM-SHA256".into() });
        assert!(error.to_string().contains("supported are TLS_AES_256_GCM_SHA384, "));
        assert_eq!(parse("AES-FOO").unwrap_err(), CipherError::Unknown { word: "AES-FOO".into() });
        assert_eq!(parse("HIGH:!FOO").unwrap_err(), CipherError::Unknown { word: "FOO".into() });
        let unsupported = parse("TLS_RSA_WITH_AES_128_CBC_SHA").unwrap_err();
        assert_eq!(unsupported, CipherError::Unsupported { word: "TLS_RSA_WITH_AES_128_CBC_SHA".into() });
        assert_eq!(parse("RC4").unwrap_err(), CipherError::Unsupported { word: "RC4".into() });
        assert!(matches!(parse(""), Err(CipherError::Empty { .. })));
        assert!(matches!(parse("AES128:!AES128"), Err(CipherError::Empty { .. })));
    }
}
