//! What a server proves its names with: certificates, keys and the settings of the sessions they open.
//!
//! Pure: files and [`rustls`], no sockets. [`Certificates`] is read at each handshake and replaced while the server runs.

use std::sync::Arc;

use rustls::ServerConfig;

/// The configurations of a server: one by default, and one for each name that has its own.
#[derive(Debug)]
pub struct Certificates {
    default: Arc<ServerConfig>,
}

/// What a handshake goes on with.
#[derive(Clone, Debug)]
pub struct Selected {
    /// How this session is configured.
    pub config: Arc<ServerConfig>,
    /// The registered name that the client's matched; none: the default.
    pub name: Option<Arc<str>>,
}

impl Certificates {
    /// These and no others.
    pub fn from_config(default: Arc<ServerConfig>) -> Self {
        Self { default }
    }

    /// The configuration for a client that asks for `name`.
    pub fn select(&self, _name: Option<&str>) -> Selected {
        Selected { config: Arc::clone(&self.default), name: None }
    }

    /// Whether a configuration of its own is registered for `name`.
    pub fn knows(&self, _name: &str) -> bool {
        false
    }

    /// Whether any name is registered.
    pub fn has_names(&self) -> bool {
        false
    }
}
