//! The facts in a certificate: its subject as text, its key, and its validity.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pkcs8::der::Decode;
use pkcs8::spki::SubjectPublicKeyInfoRef;
use x509_cert::certificate::{CertificateInner, Raw};

/// The facts that are read from a certificate. The verifier reads the rest.
pub(super) struct Facts {
    /// The bits of its public key (RFC 5280 section 4.1.2.7).
    pub(super) public_key: Vec<u8>,
    pub(super) not_before: Duration,
    pub(super) not_after: Duration,
    /// That moment, as text.
    pub(super) not_before_text: String,
    pub(super) not_after_text: String,
}

fn parse(der: &[u8]) -> Option<CertificateInner<Raw>> {
    // A certificate from a client, or from the administrator, need not obey all of RFC 5280.
    CertificateInner::<Raw>::from_der(der).ok()
}

/// The facts of a certificate; `None` if it is malformed.
pub(super) fn facts(der: &[u8]) -> Option<Facts> {
    let certificate = parse(der)?;
    let body = certificate.tbs_certificate();
    let validity = body.validity();
    Some(Facts {
        public_key: body.subject_public_key_info().subject_public_key.raw_bytes().to_vec(),
        not_before: validity.not_before.to_unix_duration(),
        not_after: validity.not_after.to_unix_duration(),
        not_before_text: validity.not_before.to_string(),
        not_after_text: validity.not_after.to_string(),
    })
}

impl Facts {
    /// A warning about its validity, if there is one.
    pub(super) fn remark(&self, now: SystemTime) -> Option<String> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        if now > self.not_after {
            Some(format!("it has expired on {}: clients refuse it", self.not_after_text))
        } else if now < self.not_before {
            Some(format!("it is not valid before {}: clients refuse it", self.not_before_text))
        } else {
            None
        }
    }
}

/// Whether `information` (DER) is about the key with these bits.
pub(super) fn is_key(information: &[u8], bits: &[u8]) -> bool {
    SubjectPublicKeyInfoRef::from_der(information)
        .is_ok_and(|information| information.subject_public_key.raw_bytes() == bits)
}

/// The subject of a certificate (DER) as text (RFC 4514), such as `CN=alice,O=Example`; `None` if it is
/// malformed.
///
/// The text is escaped, so that no value can look like another attribute. A value of a kind without a text
/// form is in hexadecimal, after `#`.
pub fn subject(der: &[u8]) -> Option<String> {
    let certificate = parse(der)?;
    let mut text = String::new();
    // Not `to_string`, which panics if a part cannot be written: a client has sent this name.
    write!(text, "{}", certificate.tbs_certificate().subject()).ok()?;
    Some(text)
}
