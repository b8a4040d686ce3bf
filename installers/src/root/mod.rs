//! `Root`: the one door to the target tree.
//!
//! Every path is resolved inside the root, as a process chrooted there would see it: absolute links are
//! re-rooted, `..` stops at the root, loops end with an error. Reading lives here; writing lives in
//! [`crate::txn`], which uses the descriptors that `strict_dir` hands out. This module decides nothing.

mod path;
mod walk;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

pub use path::{PathError, RootPath};
pub use walk::Last;

use crate::error::IoError;

/// How links are followed: by the kernel (Linux 5.6 and later) or by our own walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolver {
    /// `openat2(RESOLVE_IN_ROOT)`.
    Kernel,
    /// Component by component.
    Walker,
}

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Link,
    /// A device node, fifo or socket.
    Other,
}

/// Metadata of one path; times in nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// What it is.
    pub kind: Kind,
    /// Permission bits including setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Modification time, seconds.
    pub mtime: i64,
    /// Modification time, nanoseconds within the second.
    pub mtime_nsec: u32,
    /// Device and inode, to tell two names of one file.
    pub id: (u64, u64),
}

impl Meta {
    pub(crate) fn of(stat: &Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Dir,
            FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        };
        Self {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: stat.st_mtime,
            // The kernel keeps it below 10^9.
            mtime_nsec: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            id: (stat.st_dev, stat.st_ino),
        }
    }
}

/// One directory entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its inode, by which hard links can be told.
    pub inode: u64,
}

/// Tries of the kernel's resolution that a rename elsewhere may spoil.
const TRIES: usize = 16;

/// A root tree on the build machine. Name comparison is exact (Windows trees will fold case here).
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    host_path: PathBuf,
    resolver: Resolver,
}

impl Root {
    /// Opens the directory `path` of the build machine as a root.
    pub fn open(path: &Path) -> Result<Self, IoError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|source| IoError::new("open root", path.display(), source))?;
        let probe = rustix::fs::openat2(
            &fd,
            ".",
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        );
        let resolver = if probe.is_ok() {
            Resolver::Kernel
        } else {
            Resolver::Walker
        };
        Ok(Self {
            fd,
            host_path: path.to_owned(),
            resolver,
        })
    }

    /// The same root with a chosen resolver: old kernels have only the walker.
    #[must_use]
    pub fn with_resolver(mut self, resolver: Resolver) -> Self {
        self.resolver = resolver;
        self
    }

    /// The resolver in use.
    pub fn resolver(&self) -> Resolver {
        self.resolver
    }

    /// The path as the user gave it, for messages only.
    pub fn host_path(&self) -> &Path {
        &self.host_path
    }

    /// The canonical place of `path`. Directories on the way may be missing.
    pub fn canonical(&self, path: &RootPath, last: Last) -> Result<RootPath, IoError> {
        let located =
            walk::walk(self.fd.as_fd(), path, last).map_err(|e| IoError::new("resolve", path, e))?;
        Ok(located.path)
    }

    /// Metadata, or none when nothing is there (a dangling link with `Last::Follow` included).
    pub fn meta(&self, path: &RootPath, last: Last) -> Result<Option<Meta>, IoError> {
        let walked = || walk::walk(self.fd.as_fd(), path, last).map(|located| located.stat);
        let nofollow = if last == Last::Keep {
            OFlags::NOFOLLOW
        } else {
            OFlags::empty()
        };
        let stat = match self.resolver {
            Resolver::Walker => walked(),
            Resolver::Kernel => match self.openat2(path, OFlags::PATH | nofollow) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => walked(),
                opened => opened.and_then(|fd| Ok(Some(rustix::fs::fstat(fd)?))),
            },
        };
        match stat {
            Ok(stat) => Ok(stat.as_ref().map(Meta::of)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(IoError::new("look at", path, error)),
        }
    }

    /// Opens a regular file for reading, following links inside the root; none when it does not exist.
    /// A device node, fifo or directory is an error and is not opened.
    pub fn open_file(&self, path: &RootPath) -> Result<Option<File>, IoError> {
        match self.meta(path, Last::Follow)? {
            None => Ok(None),
            Some(meta) if meta.kind != Kind::File => Err(not_regular(path)),
            Some(_) => self.open_regular(path).map(|(file, _)| Some(file)),
        }
    }

    /// The file and its size, after a look that said it is one.
    fn open_regular(&self, path: &RootPath) -> Result<(File, u64), IoError> {
        // Between the look and the open somebody may swap the file: O_NONBLOCK keeps a fifo from hanging us,
        // and the second look is at what was really opened.
        let fd = self.open_fd(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY);
        let fd = fd.map_err(|error| IoError::new("open", path, error))?;
        let stat = rustix::fs::fstat(&fd).map_err(|error| IoError::new("look at", path, error))?;
        if Meta::of(&stat).kind != Kind::File {
            return Err(not_regular(path));
        }
        Ok((File::from(fd), u64::try_from(stat.st_size).unwrap_or(0)))
    }

    /// Reads a regular file of at most `limit` bytes; none when it does not exist.
    pub fn read(&self, path: &RootPath, limit: usize) -> Result<Option<Vec<u8>>, IoError> {
        match self.meta(path, Last::Follow)? {
            None => Ok(None),
            Some(meta) if meta.kind != Kind::File => Err(not_regular(path)),
            Some(_) => self.read_regular(path, limit).map(Some),
        }
    }

    /// As [`Root::read`]; none when it is no regular file either.
    pub fn read_if_file(&self, path: &RootPath, limit: usize) -> Result<Option<Vec<u8>>, IoError> {
        match self.meta(path, Last::Follow)? {
            Some(meta) if meta.kind == Kind::File => self.read_regular(path, limit).map(Some),
            _ => Ok(None),
        }
    }

    fn read_regular(&self, path: &RootPath, limit: usize) -> Result<Vec<u8>, IoError> {
        let (file, size) = self.open_regular(path)?;
        // A byte more than there is, and the end is seen without another look.
        let room = usize::try_from(size).unwrap_or(limit).min(limit) + 1;
        let mut bytes = Vec::with_capacity(room);
        file.take(limit as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| IoError::new("read", path, error))?;
        if bytes.len() > limit {
            let error = io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes"));
            return Err(IoError::new("read", path, error));
        }
        Ok(bytes)
    }

    /// The target of a symbolic link; none when `path` is missing or no link.
    pub fn read_link(&self, path: &RootPath) -> Result<Option<String>, IoError> {
        let located = match walk::walk(self.fd.as_fd(), path, Last::Keep) {
            Ok(located) => located,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(IoError::new("resolve", path, error)),
        };
        let is_link = located
            .stat
            .as_ref()
            .is_some_and(|stat| Meta::of(stat).kind == Kind::Link);
        let (true, Some(name)) = (is_link, located.name) else {
            return Ok(None);
        };
        let target = rustix::fs::readlinkat(&located.dir, &name, Vec::new())
            .map_err(|error| IoError::new("read link", path, error))?;
        // A target that is no UTF-8 points at nothing of ours; it stays recognisable in messages.
        Ok(Some(target.to_string_lossy().into_owned()))
    }

    /// The entries of a directory, sorted by name; none when it does not exist. Names that are no UTF-8 are left out:
    /// nothing we look for has one.
    pub fn read_dir(&self, path: &RootPath) -> Result<Option<Vec<Entry>>, IoError> {
        let fd = match self.open_fd(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(fd) => fd,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(IoError::new("list", path, error)),
        };
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(fd).map_err(|error| IoError::new("list", path, error))? {
            let entry = entry.map_err(|error| IoError::new("list", path, error))?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => entries.push(Entry {
                    name: name.to_owned(),
                    inode: entry.ino(),
                }),
            }
        }
        entries.sort();
        Ok(Some(entries))
    }

    /// Names and targets of the symbolic links in a directory; empty when it does not exist.
    pub fn links(&self, path: &RootPath) -> Result<BTreeMap<String, String>, IoError> {
        let fail = |error: io::Error| IoError::new("list links in", path, error);
        let fd = match self.open_fd(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(fd) => fd,
            Err(error) if is_absent(&error) => return Ok(BTreeMap::new()),
            Err(error) => return Err(fail(error)),
        };
        let mut links = BTreeMap::new();
        for entry in rustix::fs::Dir::read_from(&fd).map_err(|error| fail(error.into()))? {
            let entry = entry.map_err(|error| fail(error.into()))?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            // Some file systems do not tell the kind of an entry: what is no link has no target.
            if !matches!(entry.file_type(), FileType::Symlink | FileType::Unknown) {
                continue;
            }
            match rustix::fs::readlinkat(&fd, name, Vec::new()) {
                Ok(target) => {
                    links.insert(name.to_owned(), target.to_string_lossy().into_owned());
                }
                Err(Errno::INVAL | Errno::NOENT) => {}
                Err(error) => return Err(fail(error.into())),
            }
        }
        Ok(links)
    }

    /// A descriptor of the canonical directory `path`; a link anywhere on the way is an error, so a directory
    /// that was swapped for a link since it was resolved stops the write.
    pub(crate) fn strict_dir(&self, path: &RootPath) -> Result<OwnedFd, IoError> {
        self.try_strict_dir(path)
            .map_err(|error| IoError::new("open directory", path, error))
    }

    fn try_strict_dir(&self, path: &RootPath) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if self.resolver == Resolver::Kernel {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            return Ok(rustix::fs::openat2(
                &self.fd,
                path.relative(),
                flags,
                Mode::empty(),
                resolve,
            )?);
        }
        let mut fd = rustix::fs::openat(&self.fd, ".", flags, Mode::empty())?;
        for part in path.components() {
            fd = rustix::fs::openat(&fd, part, flags, Mode::empty())?;
        }
        Ok(fd)
    }

    fn open_fd(&self, path: &RootPath, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        if self.resolver == Resolver::Kernel {
            match self.openat2(path, flags) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                opened => return opened,
            }
        }
        let located = walk::walk(self.fd.as_fd(), path, Last::Follow)?;
        let name = match (&located.stat, &located.name) {
            (None, _) => return Err(Errno::NOENT.into()),
            (Some(_), Some(name)) => name.as_str(),
            (Some(_), None) => ".",
        };
        Ok(rustix::fs::openat(
            &located.dir,
            name,
            flags | OFlags::NOFOLLOW,
            Mode::empty(),
        )?)
    }

    /// The kernel gives up with EAGAIN on a path with `..` while anything anywhere is renamed or mounted. It says to try
    /// again; on a busy build machine that alone can go on for long, so in the end the walker takes over.
    fn openat2(&self, path: &RootPath, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        let open = || rustix::fs::openat2(&self.fd, path.relative(), flags, Mode::empty(), resolve);
        let mut opened = open();
        for _ in 0..TRIES {
            if !matches!(opened, Err(Errno::AGAIN)) {
                break;
            }
            opened = open();
        }
        Ok(opened?)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn not_regular(path: &RootPath) -> IoError {
    IoError::new(
        "read",
        path,
        io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"),
    )
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Metadata of `name` in `dir`, the last component not followed; none when it does not exist.
pub(crate) fn meta_at(dir: &impl AsFd, name: &str) -> io::Result<Option<Meta>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Meta::of(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the tree from outside")]
mod tests;
