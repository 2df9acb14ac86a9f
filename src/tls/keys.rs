//! Private keys: PKCS#8, PKCS#1 and SEC1, plain or encrypted in any way that the `openssl` tool has used.

use aes::{Aes128, Aes192, Aes256};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipherDecrypt, BlockModeDecrypt, KeyInit, KeyIvInit};
use des::{Des, TdesEde3};
use md5::{Digest, Md5};
use pkcs8::pkcs5::{EncryptionScheme, pbes1};
use pkcs8::{EncryptedPrivateKeyInfoRef, SecretDocument};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use sha1::Sha1;
use zeroize::Zeroizing;

use super::pem::Section;

/// The advice for a key in an obsolete form.
const CONVERT: &str = "convert it: openssl pkcs8 -topk8 -v2 aes-256-cbc -in old.pem -out new.pem";

/// The reason why a file has no usable private key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No section of it is a private key.
    #[error("it has no private key: expected PEM with -----BEGIN PRIVATE KEY-----, and it has {0}")]
    Missing(String),
    /// It is encrypted, and no passphrase was given.
    #[error("the private key is encrypted: a passphrase is needed")]
    NoPassphrase,
    /// Decryption with this passphrase gives no key.
    #[error("the passphrase is wrong: the private key cannot be decrypted with it")]
    WrongPassphrase,
    /// It is encrypted in an unsupported way.
    #[error("the private key is encrypted with {0}, which is not supported: {CONVERT}")]
    Encryption(String),
    /// It is no key, or of a kind that TLS does not use.
    #[error(
        "the private key is not supported: expected RSA of 2048 to 8192 bits, ECDSA on P-256, P-384 or P-521, or Ed25519 ({0})"
    )]
    Unsupported(String),
}

/// The first private key of `sections`, decrypted.
pub(super) fn private_key(
    sections: &[Section],
    passphrase: Option<&str>,
) -> Result<PrivateKeyDer<'static>, KeyError> {
    for section in sections {
        let bytes = match section.label.as_str() {
            "ENCRYPTED PRIVATE KEY" => {
                let plain = decrypt_pkcs8(&section.content, passphrase)?;
                return Ok(PrivatePkcs8KeyDer::from(plain.to_vec()).into());
            }
            "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => match section.header("DEK-Info") {
                Some(info) => decrypt_traditional(info, &section.content, passphrase)?,
                None => section.content.clone(),
            },
            label if label.ends_with("PRIVATE KEY") => {
                return Err(KeyError::Unsupported(format!("it is a {label}")));
            }
            _ => continue,
        };
        return Ok(match section.label.as_str() {
            "RSA PRIVATE KEY" => PrivatePkcs1KeyDer::from(bytes.to_vec()).into(),
            "EC PRIVATE KEY" => PrivateSec1KeyDer::from(bytes.to_vec()).into(),
            _ => PrivatePkcs8KeyDer::from(bytes.to_vec()).into(),
        });
    }
    Err(KeyError::Missing(match sections {
        [] => "no PEM section".into(),
        _ => sections.iter().map(|section| section.label.as_str()).collect::<Vec<_>>().join(", "),
    }))
}

fn decrypt_pkcs8(der: &[u8], passphrase: Option<&str>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let passphrase = passphrase.ok_or(KeyError::NoPassphrase)?;
    let info = EncryptedPrivateKeyInfoRef::try_from(der)
        .map_err(|error| KeyError::Encryption(format!("an unknown scheme ({error})")))?;
    if let EncryptionScheme::Pbes1(algorithm) = &info.encryption_algorithm {
        let plain = pbes1(algorithm, info.encrypted_data.as_bytes(), passphrase)?;
        return if is_sequence(&plain) { Ok(plain) } else { Err(KeyError::WrongPassphrase) };
    }
    // Not `info.decrypt`, which has one error for a wrong passphrase and for an unsupported algorithm.
    let plain = info
        .encryption_algorithm
        .decrypt(passphrase, info.encrypted_data.as_bytes())
        .map(Zeroizing::new)
        .map_err(|error| match error {
            pkcs8::pkcs5::Error::DecryptFailed => KeyError::WrongPassphrase,
            other => KeyError::Encryption(other.to_string()),
        })?;
    // One passphrase in 256 leaves padding that looks right.
    SecretDocument::try_from(plain.as_slice()).map_err(|_| KeyError::WrongPassphrase)?;
    Ok(plain)
}

/// PBES1 (RFC 8018 section 6.1), which `openssl pkcs8` chose by default before its version 1.1.
fn pbes1(
    algorithm: &pbes1::Algorithm,
    content: &[u8],
    passphrase: &str,
) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let parameters = &algorithm.parameters;
    let (salt, count) = (&parameters.salt, parameters.iteration_count);
    let derived = match algorithm.encryption {
        pbes1::EncryptionScheme::PbeWithMd5AndDesCbc => pbkdf1::<Md5>(passphrase, salt, count),
        pbes1::EncryptionScheme::PbeWithSha1AndDesCbc => pbkdf1::<Sha1>(passphrase, salt, count),
        other => return Err(KeyError::Encryption(format!("{other:?}"))),
    };
    let (key, iv) = (derived.get(..8).unwrap_or_default(), derived.get(8..16).unwrap_or_default());
    decrypt_cbc::<Des>(key, iv, content)
}

/// PBKDF1 (RFC 8018 section 5.1).
fn pbkdf1<D: Digest>(passphrase: &str, salt: &[u8], count: u16) -> Zeroizing<Vec<u8>> {
    let mut hash = D::new();
    hash.update(passphrase);
    hash.update(salt);
    let mut derived = Zeroizing::new(hash.finalize().to_vec());
    for _ in 1..count {
        derived = Zeroizing::new(D::digest(&*derived).to_vec());
    }
    derived
}

/// A key that PEM itself encrypts (RFC 1423), as `openssl rsa -aes256` does: the key is a hash of passphrase and salt.
fn decrypt_traditional(
    info: &str,
    content: &[u8],
    passphrase: Option<&str>,
) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let passphrase = passphrase.ok_or(KeyError::NoPassphrase)?;
    let unknown = || KeyError::Encryption(format!("DEK-Info: {info}"));
    let (cipher, iv) = info.split_once(',').ok_or_else(unknown)?;
    let iv = hex(iv.trim()).ok_or_else(unknown)?;
    let salt = iv.get(..8).ok_or_else(unknown)?;
    let plain = match cipher.trim().to_ascii_uppercase().as_str() {
        "AES-128-CBC" => decrypt_cbc::<Aes128>(&bytes_to_key(passphrase, salt, 16), &iv, content),
        "AES-192-CBC" => decrypt_cbc::<Aes192>(&bytes_to_key(passphrase, salt, 24), &iv, content),
        "AES-256-CBC" => decrypt_cbc::<Aes256>(&bytes_to_key(passphrase, salt, 32), &iv, content),
        "DES-EDE3-CBC" => decrypt_cbc::<TdesEde3>(&bytes_to_key(passphrase, salt, 24), &iv, content),
        "DES-CBC" => decrypt_cbc::<Des>(&bytes_to_key(passphrase, salt, 8), &iv, content),
        _ => return Err(unknown()),
    }?;
    if is_sequence(&plain) { Ok(plain) } else { Err(KeyError::WrongPassphrase) }
}

/// Hashes chained one after the other until they are long enough.
fn bytes_to_key(passphrase: &str, salt: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new(Vec::with_capacity(length + 16));
    let mut last = Zeroizing::new(Vec::new());
    while key.len() < length {
        let mut hash = Md5::new();
        hash.update(&*last);
        hash.update(passphrase);
        hash.update(salt);
        last = Zeroizing::new(hash.finalize().to_vec());
        key.extend_from_slice(&last);
    }
    key.truncate(length);
    key
}

fn decrypt_cbc<C: BlockCipherDecrypt + KeyInit>(
    key: &[u8],
    iv: &[u8],
    content: &[u8],
) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let mut buffer = Zeroizing::new(content.to_vec());
    let cipher = cbc::Decryptor::<C>::new_from_slices(key, iv)
        .map_err(|_| KeyError::Encryption("an initialisation vector of the wrong length".into()))?;
    let length = cipher.decrypt_padded::<Pkcs7>(&mut buffer).map_err(|_| KeyError::WrongPassphrase)?.len();
    buffer.truncate(length);
    Ok(buffer)
}

/// Whether bytes are one DER sequence, as every private key is: with a wrong passphrase they hardly ever are.
fn is_sequence(der: &[u8]) -> bool {
    SecretDocument::try_from(der).is_ok()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|place| u8::from_str_radix(text.get(place..place + 2)?, 16).ok()).collect()
}
