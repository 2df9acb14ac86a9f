//! A request body that is read whole before the application is called: in memory, and from a size on in a file without a name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};

use crate::py::wsgi::input::Body;

/// Bytes in memory; a larger body goes to a file.
const IN_MEMORY: usize = 1024 * 1024;

/// The part of a body that has arrived.
#[derive(Default)]
pub(super) struct Spool {
    memory: Vec<u8>,
    file: Option<File>,
    length: u64,
}

impl Spool {
    /// Appends a piece.
    pub(super) fn add(&mut self, piece: &[u8]) -> io::Result<()> {
        self.length += piece.len() as u64;
        if self.file.is_none() && self.memory.len() + piece.len() <= IN_MEMORY {
            self.memory.extend_from_slice(piece);
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(nameless(&std::env::temp_dir())?),
        };
        file.write_all(&std::mem::take(&mut self.memory))?;
        file.write_all(piece)
    }

    /// The whole body.
    pub(super) fn finish(self) -> io::Result<Body> {
        Ok(match self.file {
            Some(mut file) => {
                file.seek(SeekFrom::Start(0))?;
                Body::File(file, self.length)
            }
            None => Body::Memory(self.memory),
        })
    }
}

/// Numbers the files of this process that have a name for a moment.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A file that only this process can read, and that is gone when it is closed.
fn nameless(directory: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    if let Ok(descriptor) = rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR) {
        return Ok(File::from(descriptor));
    }
    // A file system without nameless files.
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("socketify-{}-{number}", std::process::id()));
        match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => {
                fs::remove_file(&path)?;
                return Ok(file);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}
