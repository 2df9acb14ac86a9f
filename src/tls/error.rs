//! Errors of the TLS setup. Each names the file or the option, and the expected value.

use std::path::{Path, PathBuf};

use super::{CipherError, KeyError};
use crate::router::HostError;

/// The purpose of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The private key.
    Key,
    /// The certificate and its chain.
    Certificate,
    /// The authorities of client certificates.
    Authorities,
    /// Diffie-Hellman parameters.
    DhParams,
}

impl std::fmt::Display for Role {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Key => "key_file_name",
            Self::Certificate => "cert_file_name",
            Self::Authorities => "ca_file_name",
            Self::DhParams => "dh_params_file_name",
        })
    }
}

/// The fault of a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("it cannot be read: {}", reason(.0))]
    Unreadable(std::io::Error),
    /// It is not PEM, or broken.
    #[error("it is not PEM: {0}")]
    NotPem(String),
    /// No section of it is a certificate.
    #[error("it has no certificate: expected PEM with -----BEGIN CERTIFICATE-----, and it has {0}")]
    NoCertificate(String),
    /// A section that claims to be a certificate is malformed.
    #[error("its certificate number {0} is malformed")]
    BadCertificate(usize),
    /// A certificate in it cannot be an authority.
    #[error("its certificate number {number} cannot be trusted as an authority: {reason}")]
    BadAuthority {
        /// Its number, from 1.
        number: usize,
        /// The verifier's message.
        reason: String,
    },
    /// It has no parameters.
    #[error(
        "it has no Diffie-Hellman parameters: expected PEM with -----BEGIN DH PARAMETERS-----, and it has {0}"
    )]
    NoDhParams(String),
    /// Its private key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// The system's message, without the number of the error.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error ").map_or(text.clone(), |(reason, _)| reason.to_owned())
}

/// An error of the TLS setup.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is bad.
    #[error("{role} {path:?}: {error}")]
    File {
        /// Its purpose.
        role: Role,
        /// The file.
        path: PathBuf,
        /// Its fault.
        #[source]
        error: FileError,
    },
    /// A key without a certificate, or a certificate without a key.
    #[error("{given} {path:?} was given without {missing}: a private key and its certificate go together")]
    Alone {
        /// The given part.
        given: Role,
        /// The file.
        path: PathBuf,
        /// The missing part.
        missing: Role,
    },
    /// Key and certificate do not match.
    #[error(
        "key_file_name {key:?} does not match cert_file_name {certificate:?}: the first certificate has another public key"
    )]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// Client certificates are requested without authorities to verify them.
    #[error(
        "client_cert {0:?} needs ca_file_name, the authorities that clients' certificates are verified with"
    )]
    NoAuthorities(&'static str),
    /// The cipher list is bad.
    #[error(transparent)]
    Ciphers(#[from] CipherError),
    /// An option has an invalid value.
    #[error("{option} must be {expected}, not {value:?}")]
    Option {
        /// Its name.
        option: &'static str,
        /// The expected value.
        expected: &'static str,
        /// The given value.
        value: String,
    },
    /// The minimum version excludes the whole cipher list.
    #[error("ssl_ciphers has no cipher of TLS 1.3, and min_version leaves no other")]
    NoVersion,
    /// The server name is no host name.
    #[error(transparent)]
    Name(#[from] HostError),
    /// Another error of the TLS library.
    #[error("TLS cannot be set up: {0}")]
    Library(String),
    /// The settings of a registered name are bad.
    #[error("server name {name:?}: {error}")]
    Named {
        /// The name.
        name: String,
        /// The error.
        #[source]
        error: Box<Self>,
    },
}

impl Error {
    pub(super) fn file(role: Role, path: &Path, error: FileError) -> Self {
        Self::File { role, path: path.to_owned(), error }
    }

    pub(super) fn library(error: impl std::fmt::Display) -> Self {
        Self::Library(error.to_string())
    }
}
