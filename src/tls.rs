//! What a server proves its names with: certificates, keys and the settings of the sessions they open.
//!
//! Pure: files and [`rustls`], no sockets. [`Settings`] is what an application says and [`Settings::load`] makes of it what a
//! handshake needs. [`Certificates`] is that for a whole server, with its names; it is read at each handshake without a lock,
//! and replaced as a whole while the server runs.

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
