//! An application's options for TLS, and the resulting configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, ServerSessionMemoryCache,
    StoresServerSessions, WebPkiClientVerifier,
};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use zeroize::Zeroizing;

use super::pem::{self, Section};
use super::{Error, FileError, Role, ciphers, keys, names};

/// Sessions that are stored for clients of TLS 1.2 without tickets.
const SESSIONS: usize = 256;

/// Whether clients are asked for certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCert {
    /// No.
    None,
    /// Yes; a client without one is still served.
    Optional,
    /// Yes; a client without one is refused.
    Required,
}

impl ClientCert {
    /// Its name in an application's options.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }
}

impl std::str::FromStr for ClientCert {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let all = [Self::None, Self::Optional, Self::Required];
        all.into_iter().find(|each| each.as_str() == text).ok_or_else(|| Error::Option {
            option: "client_cert",
            expected: "'none', 'optional' or 'required'",
            value: text.to_owned(),
        })
    }
}

/// The oldest supported version. Versions before TLS 1.2 are never supported (RFC 8996).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl std::str::FromStr for MinVersion {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "1.2" | "TLSv1.2" => Ok(Self::Tls12),
            "1.3" | "TLSv1.3" => Ok(Self::Tls13),
            _ => Err(Error::Option {
                option: "min_version",
                expected: "'1.2' or '1.3'",
                value: text.to_owned(),
            }),
        }
    }
}

/// An application's options for TLS, for all clients or for those that ask for one name.
#[derive(Clone, Default)]
pub struct Settings {
    /// PEM file of the private key.
    pub key_file_name: Option<PathBuf>,
    /// PEM file of the certificate and its chain.
    pub cert_file_name: Option<PathBuf>,
    /// The passphrase of the private key.
    pub passphrase: Option<Zeroizing<String>>,
    /// PEM file of Diffie-Hellman parameters: read, and without effect.
    pub dh_params_file_name: Option<PathBuf>,
    /// PEM file of the authorities of client certificates.
    pub ca_file_name: Option<PathBuf>,
    /// Whether clients are asked for certificates. `None`: they may show one if there are authorities.
    pub client_cert: Option<ClientCert>,
    /// A cipher list; see [`ciphers::parse`].
    pub ssl_ciphers: Option<String>,
    /// The oldest supported version.
    pub min_version: MinVersion,
    /// Whether no sessions are stored. Sessions in tickets, which clients keep, can still be resumed.
    pub ssl_prefer_low_memory_usage: bool,
    /// Whether HTTP/2 is offered (ALPN).
    pub http2: bool,
}

impl std::fmt::Debug for Settings {
    /// Without the passphrase.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Settings")
            .field("key_file_name", &self.key_file_name)
            .field("cert_file_name", &self.cert_file_name)
            .field("ca_file_name", &self.ca_file_name)
            .field("client_cert", &self.client_cert)
            .field("ssl_ciphers", &self.ssl_ciphers)
            .field("min_version", &self.min_version)
            .field("ssl_prefer_low_memory_usage", &self.ssl_prefer_low_memory_usage)
            .field("http2", &self.http2)
            .finish_non_exhaustive()
    }
}

/// The result of settings.
#[derive(Clone)]
pub(super) struct Loaded {
    pub(super) config: Arc<ServerConfig>,
    pub(super) sessions: Sessions,
    /// Warnings for the administrator.
    pub(super) remarks: Vec<String>,
}

/// The storage of sessions for resumption, and their policy.
///
/// A resumed session skips the client's certificate. So it may only be resumed under the policy that admitted
/// the same clients: a session of one policy is invalid under another.
#[derive(Clone)]
pub(super) struct Sessions {
    policy: Policy,
    tickets: Arc<dyn ProducesTickets>,
    storage: Arc<dyn StoresServerSessions>,
}

/// The rules for client certificates.
#[derive(Clone, PartialEq, Eq)]
struct Policy {
    client_cert: ClientCert,
    authorities: Vec<CertificateDer<'static>>,
    low_memory: bool,
}

impl Sessions {
    fn new(policy: Policy) -> Result<Self, Error> {
        Ok(Self {
            tickets: aws_lc_rs::Ticketer::new().map_err(Error::library)?,
            storage: if policy.low_memory {
                Arc::new(NoServerSessionStorage {})
            } else {
                ServerSessionMemoryCache::new(SESSIONS)
            },
            policy,
        })
    }
}

/// A server without a certificate except for names that are added later. Handshakes without such a name fail.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

impl Settings {
    /// The configuration that these settings describe. Reads their files.
    pub fn load(&self) -> Result<Arc<ServerConfig>, Error> {
        Ok(self.make(None)?.config)
    }

    /// The same; sessions of `before` can still be resumed if these settings admit the same clients.
    pub(super) fn make(&self, before: Option<&Sessions>) -> Result<Loaded, Error> {
        let mut remarks = Vec::new();
        self.check_dh_params(&mut remarks)?;
        let (provider, versions) = self.provider()?;
        let (verifier, policy) = self.verifier(&provider)?;
        let resolver = self.resolver(&provider, &mut remarks)?;
        let sessions = match before {
            Some(sessions) if sessions.policy == policy => sessions.clone(),
            _ => Sessions::new(policy)?,
        };
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(Error::library)?;
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(resolver);
        // A list has an order on purpose.
        config.ignore_client_order = self.ssl_ciphers.is_some();
        let protocols: &[&[u8]] = if self.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config.ticketer = Arc::clone(&sessions.tickets);
        config.session_storage = Arc::clone(&sessions.storage);
        Ok(Loaded { config: Arc::new(config), sessions, remarks })
    }

    /// The files that [`Self::load`] reads.
    fn read(role: Role, path: &Path) -> Result<Vec<Section>, Error> {
        let text = std::fs::read(path)
            .map(Zeroizing::new)
            .map_err(|error| Error::file(role, path, FileError::Unreadable(error)))?;
        pem::sections(&text).map_err(|reason| Error::file(role, path, FileError::NotPem(reason)))
    }

    fn provider(&self) -> Result<(Arc<CryptoProvider>, Vec<&'static SupportedProtocolVersion>), Error> {
        let mut provider = aws_lc_rs::default_provider();
        if let Some(list) = &self.ssl_ciphers {
            provider.cipher_suites = ciphers::select(&ciphers::parse(list)?, aws_lc_rs::ALL_CIPHER_SUITES);
        }
        let mut versions = vec![&version::TLS13];
        if self.min_version == MinVersion::Tls12 {
            versions.push(&version::TLS12);
        }
        // A version without a cipher suite is unusable.
        versions.retain(|version| {
            provider.cipher_suites.iter().any(|suite| suite.version().version == version.version)
        });
        if versions.is_empty() {
            return Err(Error::NoVersion);
        }
        Ok((Arc::new(provider), versions))
    }

    fn resolver(
        &self,
        provider: &CryptoProvider,
        remarks: &mut Vec<String>,
    ) -> Result<Arc<dyn ResolvesServerCert>, Error> {
        let (key_path, path) = match (&self.key_file_name, &self.cert_file_name) {
            (Some(key), Some(certificate)) => (key, certificate),
            (None, None) => return Ok(Arc::new(NoCertificate)),
            (Some(key), None) => {
                let (given, missing) = (Role::Key, Role::Certificate);
                return Err(Error::Alone { given, path: key.clone(), missing });
            }
            (None, Some(certificate)) => {
                let (given, missing) = (Role::Certificate, Role::Key);
                return Err(Error::Alone { given, path: certificate.clone(), missing });
            }
        };
        let chain = certificates(Role::Certificate, path)?;
        let wrong_key = |error: keys::KeyError| Error::file(Role::Key, key_path, FileError::Key(error));
        let passphrase = self.passphrase.as_deref().map(String::as_str);
        let key = keys::private_key(&Self::read(Role::Key, key_path)?, passphrase).map_err(wrong_key)?;
        let key = provider
            .key_provider
            .load_private_key(key)
            .map_err(|error| wrong_key(keys::KeyError::Unsupported(error.to_string())))?;
        let facts = chain
            .first()
            .and_then(|leaf| names::facts(leaf))
            .ok_or_else(|| Error::file(Role::Certificate, path, FileError::BadCertificate(1)))?;
        // Not rustls's own comparison, which refuses certificates of version 1: openssl makes those from a request.
        if key.public_key().is_none_or(|public| !names::is_key(&public, &facts.public_key)) {
            return Err(Error::Mismatch { key: key_path.clone(), certificate: path.clone() });
        }
        if let Some(remark) = facts.remark(SystemTime::now()) {
            remarks.push(format!("{} {:?}: {remark}", Role::Certificate, path.to_string_lossy()));
        }
        Ok(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key))))
    }

    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<(Option<Arc<dyn ClientCertVerifier>>, Policy), Error> {
        let wanted = match (self.client_cert, &self.ca_file_name) {
            (Some(wanted), _) => wanted,
            (None, Some(_)) => ClientCert::Optional,
            (None, None) => ClientCert::None,
        };
        let mut policy = Policy {
            client_cert: wanted,
            authorities: Vec::new(),
            low_memory: self.ssl_prefer_low_memory_usage,
        };
        let Some(path) = &self.ca_file_name else {
            return match wanted {
                ClientCert::None => Ok((None, policy)),
                _ => Err(Error::NoAuthorities(wanted.as_str())),
            };
        };
        let mut roots = RootCertStore::empty();
        for (place, certificate) in certificates(Role::Authorities, path)?.into_iter().enumerate() {
            roots.add(certificate.clone()).map_err(|error| {
                let (number, reason) = (place + 1, error.to_string());
                Error::file(Role::Authorities, path, FileError::BadAuthority { number, reason })
            })?;
            policy.authorities.push(certificate);
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let builder = match wanted {
            ClientCert::None => return Ok((None, policy)),
            ClientCert::Optional => builder.allow_unauthenticated(),
            ClientCert::Required => builder,
        };
        Ok((Some(builder.build().map_err(Error::library)?), policy))
    }

    fn check_dh_params(&self, remarks: &mut Vec<String>) -> Result<(), Error> {
        let Some(path) = &self.dh_params_file_name else { return Ok(()) };
        let sections = Self::read(Role::DhParams, path)?;
        if !sections.iter().any(|section| section.label.ends_with("DH PARAMETERS")) {
            return Err(Error::file(Role::DhParams, path, FileError::NoDhParams(labels(&sections))));
        }
        remarks.push(format!(
            "{} {:?} is not used: keys are exchanged on elliptic curves, never in finite fields",
            Role::DhParams,
            path.to_string_lossy()
        ));
        Ok(())
    }
}

/// The sections of a file without the expected one.
fn labels(sections: &[Section]) -> String {
    match sections {
        [] => "no PEM section".into(),
        _ => sections.iter().map(|section| section.label.as_str()).collect::<Vec<_>>().join(", "),
    }
}

/// All certificates of a file, of which there must be one.
fn certificates(role: Role, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let sections = Settings::read(role, path)?;
    let labelled = |section: &&Section| matches!(section.label.as_str(), "CERTIFICATE" | "X509 CERTIFICATE");
    let found: Vec<_> = sections.iter().filter(labelled).collect();
    if found.is_empty() {
        return Err(Error::file(role, path, FileError::NoCertificate(labels(&sections))));
    }
    let mut chain = Vec::with_capacity(found.len());
    for (place, section) in found.into_iter().enumerate() {
        if names::facts(&section.content).is_none() {
            return Err(Error::file(role, path, FileError::BadCertificate(place + 1)));
        }
        chain.push(CertificateDer::from(section.content.to_vec()));
    }
    Ok(chain)
}
