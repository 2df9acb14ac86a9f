//! Certificates, keys and the settings of TLS sessions.
//!
//! Pure: files and [`rustls`], no sockets. [`Settings`] are an application's options, and [`Settings::load`]
//! makes the configuration of a handshake from them. [`Certificates`] holds that for a whole server, with its
//! names. Each handshake reads it without a lock, and it is replaced as a whole while the server runs.

mod certificates;
pub mod ciphers;
mod error;
mod keys;
mod names;
mod pem;
mod settings;

pub use self::certificates::{Certificates, Prepared, Selected};
pub use self::ciphers::CipherError;
pub use self::error::{Error, FileError, Role};
pub use self::keys::KeyError;
pub use self::names::subject;
pub use self::settings::{ClientCert, MinVersion, Settings};
