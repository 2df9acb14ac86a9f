//! Files through an exchange: those of a handler, and those that need the disk.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::app::Signal;
use crate::files::conditions::Conditions;
use crate::files::types::Told;
use crate::files::{Directory, Disk, File, Named, OpenError};
use crate::http::response::ResponseHead;
use crate::server::connection::Locked;
use crate::server::exchange::Exchange;
use crate::server::files::body::Part;
use crate::server::files::description::Description;
use crate::server::files::{COPIED, PathAndQuery, Tried};

/// The result of [`Exchange::send_file`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// The response is complete, or the exchange was over before.
    Done,
    /// [`Signal::Sent`] or [`Signal::Aborted`] will follow.
    UnderWay,
    /// The response had begun: its head cannot be written any more.
    Begun,
}

impl Exchange {
    /// Responds with the file at `path`: 404 if there is none, 403 if it may not be read. `kind` is the media
    /// type of its content, and `coding` its compression.
    pub fn send_file(
        self: &Arc<Self>,
        path: PathBuf,
        kind: Option<Box<str>>,
        coding: Option<Box<str>>,
    ) -> Sending {
        let begun = self.with_request(None, |request| {
            let begun = request.reply.is_started();
            // From here on the response belongs to the file, even if the disk is slow.
            request.claimed = !begun;
            Some(begun)
        });
        match begun {
            None if self.is_leaving() => return Sending::UnderWay,
            None => return Sending::Done,
            Some(true) => return Sending::Begun,
            Some(false) => {}
        }
        match File::open(&path, Disk::Cached) {
            Err(OpenError::Wait) => {
                let exchange = Arc::downgrade(self);
                let asked = self.server().on_disk(move || {
                    // If the client has gone, it is not needed.
                    if exchange.strong_count() == 0 {
                        return;
                    }
                    let opened = File::open(&path, Disk::Wait).inspect(prime);
                    if let Some(exchange) = exchange.upgrade() {
                        exchange.send_opened(opened, &path, kind.as_deref(), coding.as_deref());
                    }
                });
                if !asked {
                    self.send_opened(Err(OpenError::Exhausted), Path::new(""), None, None);
                }
            }
            opened => self.send_opened(opened, &path, kind.as_deref(), coding.as_deref()),
        }
        if self.is_leaving() { Sending::UnderWay } else { Sending::Done }
    }

    /// Responds with `head` and the bytes of an open file from `position` on, as many as the head declares or as there are. The
    /// descriptor is duplicated. Gives the head back if the file is not a regular one, or shorter than declared.
    pub fn respond_with_file(
        &self,
        head: ResponseHead,
        descriptor: &OwnedFd,
        position: u64,
    ) -> Result<(), ResponseHead> {
        let Ok(file) = descriptor.try_clone().map_err(drop).and_then(|own| File::new(own).map_err(drop))
        else {
            return Err(head);
        };
        let there = file.size().saturating_sub(position);
        let length = head.declared_length().unwrap_or(there);
        if length > there {
            return Err(head);
        }
        let Some(mut state) = self.current() else { return Ok(()) };
        let Some(request) = state.request_mut() else { return Ok(()) };
        request.reply.head = head;
        self.begin_as_is(&mut request.reply);
        let range = position..position + length;
        state.send_parts(
            file,
            if range.is_empty() { VecDeque::new() } else { VecDeque::from([Part::File(range)]) },
        );
        state.flush_unless_corked();
        Ok(())
    }

    fn send_opened(
        self: &Arc<Self>,
        opened: Result<File, OpenError>,
        path: &Path,
        kind: Option<&str>,
        coding: Option<&str>,
    ) {
        let Some(mut state) = self.claimed() else { return };
        let Some(request) = state.request_mut() else { return };
        self.begin_as_is(&mut request.reply);
        match opened {
            Ok(file) => {
                let asked = Conditions::read(self.method(), self.header_block());
                let told = Told::new(&path.to_string_lossy(), kind, coding);
                let description = Description { told, ..Description::default() };
                state.answer_with_file(file, description, &asked);
            }
            Err(error) => {
                let code = match error {
                    OpenError::Forbidden => 403,
                    OpenError::Exhausted => 503,
                    OpenError::Absent | OpenError::Wait => 404,
                };
                state.answer_without_file(code);
            }
        }
        state.flush_unless_corked();
    }

    /// Looks for the file on the disk, and responds with it or passes the request on.
    pub(crate) fn find_file(self: &Arc<Self>, state: &mut Locked<'_>, directory: Arc<Directory>) {
        if let Some(request) = state.request_mut() {
            request.claimed = true;
        }
        let exchange = Arc::downgrade(self);
        let asked = self.server().on_disk(move || {
            let Some(exchange) = exchange.upgrade() else { return };
            let asked = Conditions::read(exchange.method(), exchange.header_block());
            let accepted = asked.accept_encoding.as_deref();
            let found = directory.find(exchange.path(), accepted, Disk::Wait);
            if let Ok(Named::File(file, ..)) = &found {
                prime(file);
            }
            let Some(mut state) = exchange.claimed() else {
                // The client has gone meanwhile: the objects for the next handler are released.
                exchange.server().signal(&exchange, Signal::Sent);
                return;
            };
            let tried = state.answer_found(&directory, exchange.named(), &asked, found);
            match tried {
                Tried::Answered => {
                    state.flush_unless_corked();
                }
                Tried::Absent | Tried::Wait => {
                    if let Some(request) = state.request_mut() {
                        request.claimed = false;
                    }
                    exchange.pass(state);
                }
            }
        });
        if !asked {
            state.answer_without_file(503);
        }
    }

    /// Whether the response is a file that is being opened or sent.
    pub fn is_leaving(&self) -> bool {
        if self.server().is_abandoned() {
            return false;
        }
        let mut state = self.connection().lock();
        state
            .request_numbered(self.number())
            .is_some_and(|request| request.exchange.is_some() && (request.claimed || request.file_leaves))
    }

    fn named(&self) -> PathAndQuery<'_> {
        (self.path(), self.query())
    }
}

/// Reads the first bytes into memory.
fn prime(file: &File) {
    let count = usize::try_from(file.size().min(COPIED)).unwrap_or_default();
    file.read(&mut Vec::new(), 0, count, Disk::Wait);
}
