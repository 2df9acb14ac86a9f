//! A served directory.

use std::fs::canonicalize;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, openat2, stat};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use super::file::{Disk, FLAGS, File, OpenError};
use super::name::{self, Name};
use super::types::Types;
use crate::http::encoding::{Accepted, Coding, CodingLevel};

/// How a directory is served.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The file to serve for a directory, such as `index.html`.
    pub index: Option<Box<str>>,
    /// Value of the `Cache-Control` header.
    pub cache_control: Option<Box<str>>,
    /// Whether `name.br`, `name.zst` or `name.gz` is sent in place of `name` to clients that accept it.
    pub precompressed: bool,
    /// Whether names that begin with a dot are served.
    pub dotfiles: bool,
}

/// The suffixes of a file's siblings in other codings.
const SIBLINGS: [(Coding, &str); 3] =
    [(Coding::Brotli, ".br"), (Coding::Zstd, ".zst"), (Coding::Gzip, ".gz")];

/// A directory and its visible files: regular files below it, also through symbolic links that stay inside.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Segments of a request's path that come before the name of the file.
    depth: usize,
    pub(crate) options: Options,
    pub(crate) types: Types,
    /// The directory at the last look: a replaced one, as after a deployment, is noticed within a second.
    open: ArcSwapOption<Root>,
    /// The second of that look.
    looked: AtomicU64,
}

#[derive(Debug)]
struct Root {
    descriptor: OwnedFd,
    /// Device and inode.
    identity: (u64, u64),
}

/// The target of a URL.
#[derive(Debug)]
pub(crate) enum Named {
    /// A file, the name that its type comes from, and the coding it is in.
    File(File, PathBuf, Option<Coding>),
    /// A directory with an index, whose URL lacks the slash that relative links in the index need.
    WithoutSlash,
}

impl Directory {
    /// Serves `path` below the route whose first `depth` segments are not part of a file's name. The directory need not
    /// exist yet.
    pub fn new(path: &Path, depth: usize, options: Options, types: Types) -> std::io::Result<Self> {
        Ok(Self {
            path: std::path::absolute(path)?,
            depth,
            options,
            types,
            open: ArcSwapOption::empty(),
            looked: AtomicU64::new(0),
        })
    }

    /// The part of a request's path that names the file.
    fn below<'a>(&self, path: &'a [u8]) -> &'a [u8] {
        let mut rest = path.strip_prefix(b"/").unwrap_or(path);
        for _ in 0..self.depth {
            let Some(end) = memchr::memchr(b'/', rest) else { return b"" };
            rest = &rest[end + 1..];
        }
        rest
    }

    /// The file that the path of a request names, or a sibling that the client prefers: `accepted` is its
    /// `Accept-Encoding`.
    pub(crate) fn find(&self, path: &[u8], accepted: Option<&[u8]>, disk: Disk) -> Result<Named, OpenError> {
        match self.named(path, disk)? {
            Named::File(file, name, _) if self.options.precompressed => {
                let sibling = self.sibling(&name, &Accepted::parse(accepted), disk)?;
                let (file, coding) = sibling.map_or((file, None), |(file, coding)| (file, Some(coding)));
                Ok(Named::File(file, name, coding))
            }
            named => Ok(named),
        }
    }

    fn named(&self, path: &[u8], disk: Disk) -> Result<Named, OpenError> {
        let below = self.below(path);
        let Name { path: name, is_directory } =
            name::parse(below, self.options.dotfiles).ok_or(OpenError::Absent)?;
        let index = self.options.index.as_deref().map(|index| name.join(index));
        match (is_directory && path.ends_with(b"/"), index) {
            // A path with a trailing slash names no file, but a directory, whose index may be served.
            (true, None) => Err(OpenError::Absent),
            (true, Some(inside)) => self.open(&inside, disk).map(|file| Named::File(file, inside, None)),
            (false, index) => match (self.open(&name, disk), index) {
                (Ok(file), _) => Ok(Named::File(file, name, None)),
                (Err(OpenError::Absent), Some(inside)) => {
                    self.open(&inside, disk).map(|_| Named::WithoutSlash)
                }
                (Err(error), _) => Err(error),
            },
        }
    }

    /// The best existing sibling of a file.
    fn sibling(
        &self,
        name: &Path,
        accepted: &Accepted,
        disk: Disk,
    ) -> Result<Option<(File, Coding)>, OpenError> {
        let mut offers = SIBLINGS.map(|(coding, _)| CodingLevel { coding, level: 0 }).to_vec();
        while let Some(CodingLevel { coding, .. }) = accepted.choose(&offers) {
            let suffix = SIBLINGS.iter().find(|(other, _)| *other == coding).map_or("", |(_, suffix)| suffix);
            let mut other = name.as_os_str().to_owned();
            other.push(suffix);
            match self.open(Path::new(&other), disk) {
                Ok(file) => return Ok(Some((file, coding))),
                Err(OpenError::Wait) => return Err(OpenError::Wait),
                Err(_) => offers.retain(|offer| offer.coding != coding),
            }
        }
        Ok(None)
    }

    fn open(&self, name: &Path, disk: Disk) -> Result<File, OpenError> {
        if name.as_os_str().is_empty() {
            return Err(OpenError::Absent);
        }
        let root = self.root(disk)?;
        let cached = if disk == Disk::Cached { ResolveFlags::CACHED } else { ResolveFlags::empty() };
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let descriptor = match openat2(&root.descriptor, name, FLAGS, Mode::empty(), inside | cached) {
            Ok(descriptor) => descriptor,
            // A symbolic link that is absolute, or leads out. Its end decides, and finding that takes time.
            Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::PERM) => match disk {
                Disk::Cached => return Err(OpenError::Wait),
                Disk::Wait => self.follow(name)?,
            },
            Err(errno) => return Err(OpenError::from_errno(errno)),
        };
        File::new(descriptor)
    }

    /// Opens the target of the links in `name`, if it is inside.
    fn follow(&self, name: &Path) -> Result<OwnedFd, OpenError> {
        let absent = |_| OpenError::Absent;
        let root = canonicalize(&self.path).map_err(absent)?;
        let real = canonicalize(self.path.join(name)).map_err(absent)?;
        if real == root || !real.starts_with(&root) {
            return Err(OpenError::Absent);
        }
        // Only directories may be on the way: one that is swapped for a link meanwhile is refused.
        let opened = openat2(CWD, &real, FLAGS, Mode::empty(), ResolveFlags::NO_SYMLINKS);
        match opened {
            Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) => {
                rustix::fs::open(&real, FLAGS | OFlags::NOFOLLOW, Mode::empty())
            }
            opened => opened,
        }
        .map_err(OpenError::from_errno)
    }

    /// The directory, opened anew if it has been replaced.
    fn root(&self, disk: Disk) -> Result<Arc<Root>, OpenError> {
        let now = clock_gettime(ClockId::MonotonicCoarse).tv_sec.unsigned_abs();
        if let Some(root) = self.open.load_full() {
            if self.looked.load(Ordering::Relaxed) == now {
                return Ok(root);
            }
            if disk == Disk::Cached && !self.is_root_cached() {
                return Err(OpenError::Wait);
            }
            if stat(&self.path).is_ok_and(|facts| (facts.st_dev, facts.st_ino) == root.identity) {
                self.looked.store(now, Ordering::Relaxed);
                return Ok(root);
            }
        }
        if disk == Disk::Cached {
            return Err(OpenError::Wait);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&self.path, flags, Mode::empty()).map_err(|errno| {
            self.open.store(None);
            OpenError::from_errno(errno)
        })?;
        let facts = fstat(&opened).map_err(OpenError::from_errno)?;
        let root = Arc::new(Root { descriptor: opened, identity: (facts.st_dev, facts.st_ino) });
        self.open.store(Some(Arc::clone(&root)));
        self.looked.store(now, Ordering::Relaxed);
        Ok(root)
    }

    /// Whether looking at the directory's path would not wait for the disk.
    fn is_root_cached(&self) -> bool {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        !matches!(openat2(CWD, &self.path, flags, Mode::empty(), ResolveFlags::CACHED), Err(Errno::AGAIN))
    }
}
