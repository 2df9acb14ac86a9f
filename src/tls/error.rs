//! Why TLS cannot be set up. Each error says which file, or which option, and what was expected of it.

use std::path::{Path, PathBuf};

use super::{CipherError, KeyError};
use crate::router::HostError;

/// What a file was given as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The private key.
    Key,
    /// The certificate and its chain.
    Certificate,
    /// The authorities of clients' certificates.
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

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("it cannot be read: {}", reason(.0))]
    Unreadable(std::io::Error),
    /// It is no PEM, or broken.
    #[error("it is not PEM: {0}")]
    NotPem(String),
    /// No section of it is a certificate.
    #[error("it has no certificate: expected PEM with -----BEGIN CERTIFICATE-----, and it has {0}")]
    NoCertificate(String),
    /// A section says that it is a certificate and is none.
    #[error("its certificate number {0} is malformed")]
    BadCertificate(usize),
    /// A certificate in it cannot be an authority.
    #[error("its certificate number {number} cannot be trusted as an authority: {reason}")]
    BadAuthority {
        /// Which, from 1.
        number: usize,
        /// What the verifier says.
        reason: String,
    },
    /// There are no parameters in it.
    #[error(
        "it has no Diffie-Hellman parameters: expected PEM with -----BEGIN DH PARAMETERS-----, and it has {0}"
    )]
    NoDhParams(String),
    /// Its private key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// What the system says, without the number of the error.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error ").map_or(text.clone(), |(reason, _)| reason.to_owned())
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is wrong.
    #[error("{role} {path:?}: {error}")]
    File {
        /// What it was given as.
        role: Role,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        error: FileError,
    },
    /// A key without a certificate, or the other way round.
    #[error("{given} {path:?} was given without {missing}: a private key and its certificate go together")]
    Alone {
        /// What there is.
        given: Role,
        /// The file.
        path: PathBuf,
        /// What there is not.
        missing: Role,
    },
    /// Key and certificate are of two pairs.
    #[error(
        "key_file_name {key:?} does not match cert_file_name {certificate:?}: the first certificate has another public key"
    )]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// Clients' certificates are asked for, and nobody says whose are good.
    #[error(
        "client_cert {0:?} needs ca_file_name, the authorities that clients' certificates are verified with"
    )]
    NoAuthorities(&'static str),
    /// The cipher list is wrong.
    #[error(transparent)]
    Ciphers(#[from] CipherError),
    /// An option has a value that it does not take.
    #[error("{option} must be {expected}, not {value:?}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What was given.
        value: String,
    },
    /// The minimum version leaves nothing of the cipher list.
    #[error("ssl_ciphers has no cipher of TLS 1.3, and min_version leaves no other")]
    NoVersion,
    /// The server name is no host name.
    #[error(transparent)]
    Name(#[from] HostError),
    /// What the TLS library says, of which nothing is known here.
    #[error("TLS cannot be set up: {0}")]
    Library(String),
    /// Settings of a registered name are wrong.
    #[error("server name {name:?}: {error}")]
    Named {
        /// The name.
        name: String,
        /// What is wrong.
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
