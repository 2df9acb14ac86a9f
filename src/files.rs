//! Files as responses: which file a URL names, whether the client has it already, and which bytes of it are
//! sent.
//!
//! Nothing here knows a socket or a request: names and headers in, open files and decisions out. A call that
//! may wait for the disk is tried with [`Disk::Cached`] first. That never waits, so a thread that drives
//! sockets may call it. Only after [`OpenError::Wait`] is it repeated with [`Disk::Wait`], on a thread that
//! may sleep.
//!
//! - [`Directory`]: a served directory, and the files below it;
//! - [`File`]: an open regular file;
//! - [`conditions`]: RFC 9110 sections 13 (conditional requests) and 14 (ranges);
//! - [`types`]: media types by name.

pub mod conditions;
mod directory;
mod file;
pub mod name;
pub mod types;

pub(crate) use self::directory::Named;
pub use self::directory::{Directory, Options};
pub use self::file::{Disk, File, OpenError};
