//! One open file, read without moving a position, so that any thread may read any part of it.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, fstatfs, openat2};
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};

/// Without `O_NONBLOCK`, opening a named pipe waits for a writer.
pub(super) const FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Whether the caller may sleep until a disk, or a network behind it, responds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// It may not: only data in the kernel's memory is used.
    Cached,
    /// It may.
    Wait,
}

/// Why there is no file to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is no such file, or it is not a regular one.
    #[error("there is no such file")]
    Absent,
    /// It exists, and this process may not read it.
    #[error("the file may not be read")]
    Forbidden,
    /// The process, or the system, has run out of descriptors or memory.
    #[error("no more files can be opened")]
    Exhausted,
    /// The disk has to be read: see [`Disk`].
    #[error("the disk must be waited for")]
    Wait,
}

impl OpenError {
    pub(super) fn from_errno(errno: Errno) -> Self {
        match errno {
            Errno::AGAIN => Self::Wait,
            Errno::ACCESS | Errno::PERM => Self::Forbidden,
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => Self::Exhausted,
            _ => Self::Absent,
        }
    }
}

/// An open regular file, in its state at the opening.
#[derive(Debug)]
pub struct File {
    descriptor: OwnedFd,
    size: u64,
    inode: u64,
    /// Last modification of the content, in seconds since 1970 and nanoseconds. A writer may set it.
    modified: (i64, u64),
    /// Last change of the file, also by a rename. Only the kernel sets it.
    changed: (i64, u64),
}

impl File {
    /// Opens the file at `path`, if the process can read it.
    pub fn open(path: &Path, disk: Disk) -> Result<Self, OpenError> {
        let opened = match disk {
            Disk::Cached => openat2(CWD, path, FLAGS, Mode::empty(), ResolveFlags::CACHED),
            Disk::Wait => rustix::fs::open(path, FLAGS, Mode::empty()),
        };
        match opened {
            Ok(descriptor) => Self::new(descriptor),
            // A kernel before 5.12, or a sandbox without this call.
            Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) if disk == Disk::Cached => Err(OpenError::Wait),
            Err(errno) => Err(OpenError::from_errno(errno)),
        }
    }

    /// Reads the facts of the opened file.
    pub(crate) fn new(descriptor: OwnedFd) -> Result<Self, OpenError> {
        let facts = fstat(&descriptor).map_err(OpenError::from_errno)?;
        if FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile {
            return Err(OpenError::Absent);
        }
        Ok(Self {
            descriptor,
            size: u64::try_from(facts.st_size).unwrap_or_default(),
            inode: facts.st_ino,
            modified: (facts.st_mtime, facts.st_mtime_nsec),
            changed: (facts.st_ctime, facts.st_ctime_nsec),
        })
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// When the content was modified, in seconds since 1970; `None` for an earlier time, which dates in HTTP
    /// cannot express.
    pub fn modified(&self) -> Option<u64> {
        u64::try_from(self.modified.0).ok()
    }

    /// Whether the time of modification identifies the content: it equals the time of the last change, so no
    /// program has set it. A time that was set may belong to many files in turn, as with reproducible builds.
    pub fn is_dated(&self) -> bool {
        (0..=1).contains(&self.changed.0.saturating_sub(self.modified.0))
    }

    /// The tag of this state of the file (RFC 9110 section 8.8.3). Size and time of modification do not
    /// suffice for a strong tag: builds set the same time for each version, and copies keep it. A write
    /// changes the time of the last change, and a rename over the file the inode.
    pub fn etag(&self) -> String {
        let ((modified, modified_part), (changed, changed_part)) = (self.modified, self.changed);
        format!(
            "\"{:x}-{modified:x}-{modified_part:x}-{:x}-{changed:x}-{changed_part:x}\"",
            self.size, self.inode
        )
    }

    /// Appends up to `count` bytes from `offset` on; returns their number. Fewer than `count`: the file has
    /// ended. `None`: the caller has to wait for the disk.
    pub fn read(&self, into: &mut Vec<u8>, offset: u64, count: usize, disk: Disk) -> Option<usize> {
        let start = into.len();
        into.resize(start + count, 0);
        let mut done = 0;
        let complete = loop {
            let rest = &mut into[start + done..];
            if rest.is_empty() {
                break true;
            }
            let read = match disk {
                Disk::Cached => preadv2(
                    &self.descriptor,
                    &mut [IoSliceMut::new(rest)],
                    offset + done as u64,
                    ReadWriteFlags::NOWAIT,
                )
                .or_else(|errno| match errno {
                    Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL if !self.is_remote() => {
                        pread(&self.descriptor, &mut *rest, offset + done as u64)
                    }
                    Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL => Err(Errno::AGAIN),
                    errno => Err(errno),
                }),
                Disk::Wait => pread(&self.descriptor, &mut *rest, offset + done as u64),
            };
            match read {
                Ok(0) => break true,
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if disk == Disk::Cached => break false,
                // The disk, or its server, is broken: the readable part of the file has been read.
                Err(_) => break true,
            }
        };
        if !complete {
            into.truncate(start);
            return None;
        }
        into.truncate(start + done);
        Some(done)
    }

    /// Whether the byte at `offset` is in memory, and so, since files are read ahead, the bytes before it.
    pub fn is_cached(&self, offset: u64) -> bool {
        let mut byte = [0];
        let read =
            preadv2(&self.descriptor, &mut [IoSliceMut::new(&mut byte)], offset, ReadWriteFlags::NOWAIT);
        match read {
            Ok(_) => true,
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => !self.is_remote(),
            Err(errno) => errno != Errno::AGAIN,
        }
    }

    /// Whether the file may lie on another machine. Only called for file systems that cannot tell what is in
    /// memory. The server waits for local ones among them, such as those of containers, as any other program
    /// does.
    fn is_remote(&self) -> bool {
        /// NFS, FUSE, CIFS, SMB2, Ceph, 9P, AFS.
        const REMOTE: [u64; 7] =
            [0x6969, 0x6573_5546, 0xff53_4d42, 0xfe53_4d42, 0x00c3_6400, 0x0102_1997, 0x5346_414f];
        #[expect(clippy::cast_sign_loss, reason = "a number that names a file system")]
        fstatfs(&self.descriptor).is_ok_and(|facts| REMOTE.contains(&(facts.f_type as u64 & 0xffff_ffff)))
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
