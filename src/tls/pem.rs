//! The text form of keys and certificates (RFC 7468), with the headers that encrypted keys of older tools have (RFC 1421).
//!
//! As tolerant as OpenSSL: text between two sections is skipped, and lines may be of any length.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// One section, from `BEGIN` to `END`.
pub(super) struct Section {
    /// Such as `CERTIFICATE`.
    pub(super) label: String,
    /// `(name, value)` of each header line.
    pub(super) headers: Vec<(String, String)>,
    /// The bytes. They may be a private key.
    pub(super) content: Zeroizing<Vec<u8>>,
}

impl Section {
    /// The value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// All sections of a file, or its fault.
pub(super) fn sections(text: &[u8]) -> Result<Vec<Section>, String> {
    let mut found = Vec::new();
    let mut lines = text.split(|byte| matches!(byte, b'\n' | b'\r')).map(<[u8]>::trim_ascii);
    while let Some(line) = lines.next() {
        let Some(label) = label(line, "-----BEGIN ") else { continue };
        let mut headers: Vec<(String, String)> = Vec::new();
        let mut encoded = Zeroizing::new(Vec::new());
        loop {
            let Some(line) = lines.next() else {
                return Err(format!("its section {label:?} has no end: -----END {label}----- is missing"));
            };
            if let Some(end) = self::label(line, "-----END ") {
                if end != label {
                    return Err(format!("its section {label:?} ends as {end:?}"));
                }
                break;
            }
            match memchr::memchr(b':', line) {
                Some(colon) if encoded.is_empty() => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes.trim_ascii()).into_owned();
                    headers.push((text(&line[..colon]), text(&line[colon + 1..])));
                }
                _ => encoded.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace())),
            }
        }
        let mut content = Zeroizing::new(vec![0; encoded.len() / 4 * 3 + 3]);
        let length = STANDARD
            .decode_slice(&*encoded, &mut content)
            .map_err(|error| format!("its section {label:?} is not base64: {error}"))?;
        content.truncate(length);
        found.push(Section { label, headers, content });
    }
    Ok(found)
}

/// The label of a line that begins with `start` and ends with five hyphens.
fn label(line: &[u8], start: &str) -> Option<String> {
    let label = line.strip_prefix(start.as_bytes())?.strip_suffix(b"-----")?;
    Some(String::from_utf8_lossy(label).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_with_headers_and_text_between() {
        let text = b"subject: x\n-----BEGIN A-----\r\nProc-Type: 4,ENCRYPTED\r\nDEK-Info: X,00\r\n\r\naGVs\r\nbG8=\r\n-----END A-----\n\
            notes\n-----BEGIN B C-----\nAA==\n-----END B C-----";
        let found = sections(text).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].label, "A");
        assert_eq!(found[0].header("DEK-Info"), Some("X,00"));
        assert_eq!(found[0].header("Proc-Type"), Some("4,ENCRYPTED"));
        assert_eq!(&**found[0].content, b"hello");
        assert_eq!((found[1].label.as_str(), &**found[1].content), ("B C", &b"\0"[..]));
    }

    #[test]
    fn nothing_is_no_section() {
        assert!(sections(b"").unwrap().is_empty());
        assert!(sections(b"\x30\x82\x01\x00 binary").unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let wrong = |text: &[u8]| sections(text).err().unwrap();
        assert!(wrong(b"-----BEGIN A-----\nAA==\n").contains("-----END A----- is missing"));
        assert!(wrong(b"-----BEGIN A-----\nAA==\n-----END B-----").contains("ends as \"B\""));
        assert!(wrong(b"-----BEGIN A-----\nA!==\n-----END A-----").contains("is not base64"));
    }
}
