//! `Root`: the one door to the target tree.
//!
//! Every path is resolved inside the root, as a process chrooted there would see it: absolute links are
//! re-rooted, `..` stops at the root, loops end with an error. Reading lives here; writing lives in
//! [`crate::txn`], which uses the descriptors that `strict_dir` hands out. This module decides nothing.

mod name;
mod path;
#[cfg(not(unix))]
#[path = "paths.rs"]
mod platform;
#[cfg(unix)]
#[path = "descriptors.rs"]
mod platform;
mod walk;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

#[cfg(unix)]
pub(crate) use name::to_raw;
pub use path::{PathError, RootPath};
#[cfg(unix)]
pub(crate) use platform::meta_at;
pub use walk::Last;

use crate::error::IoError;
use platform::Dir;

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

/// One directory entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its inode, by which hard links can be told.
    pub inode: u64,
}

/// A root tree on the build machine. Name comparison is exact (Windows trees will fold case here).
#[derive(Debug)]
pub struct Root {
    dir: Dir,
    host_path: PathBuf,
    resolver: Resolver,
}

impl Root {
    /// Opens the directory `path` of the build machine as a root.
    pub fn open(path: &Path) -> Result<Self, IoError> {
        let dir = Dir::open(path).map_err(|source| IoError::new("open root", path.display(), source))?;
        let resolver = dir.resolver();
        Ok(Self {
            dir,
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
        let located = walk::walk(&self.dir, path, last).map_err(|e| IoError::new("resolve", path, e))?;
        Ok(located.path)
    }

    /// Metadata, or none when nothing is there (a dangling link with `Last::Follow` included).
    pub fn meta(&self, path: &RootPath, last: Last) -> Result<Option<Meta>, IoError> {
        match self.look(path, last) {
            Ok(meta) => Ok(meta),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(IoError::new("look at", path, error)),
        }
    }

    /// As [`Root::meta`]; none also where links go in a circle or lead to names that are too long: no program finds
    /// anything there.
    pub fn meta_if_reached(&self, path: &RootPath, last: Last) -> Result<Option<Meta>, IoError> {
        match self.meta(path, last) {
            Err(error) if platform::is_dead_end(&error.source) => Ok(None),
            other => other,
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
        // Between the look and the open somebody may swap the file: the second look is at what was really opened.
        let (file, meta) = self
            .open_for_reading(path)
            .map_err(|error| IoError::new("open", path, error))?;
        if meta.kind != Kind::File {
            return Err(not_regular(path));
        }
        Ok((file, meta.size))
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

    /// An extended attribute of a regular file; none where it has none, or the file system has no such.
    pub fn attribute(&self, path: &RootPath, name: &str) -> Result<Option<String>, IoError> {
        self.attribute_of(path, name)
            .map_err(|error| IoError::new("read an attribute of", path, error))
    }

    /// The target of a symbolic link; none when `path` is missing or no link.
    pub fn read_link(&self, path: &RootPath) -> Result<Option<String>, IoError> {
        let located = match walk::walk(&self.dir, path, Last::Keep) {
            Ok(located) => located,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(IoError::new("resolve", path, error)),
        };
        let is_link = located.meta.is_some_and(|meta| meta.kind == Kind::Link);
        let (true, Some(name)) = (is_link, located.name) else {
            return Ok(None);
        };
        let target = located.dir.read_link(&name);
        target
            .map(Some)
            .map_err(|error| IoError::new("read link", path, error))
    }

    /// The entries of a directory, sorted by name; none when it does not exist.
    pub fn read_dir(&self, path: &RootPath) -> Result<Option<Vec<Entry>>, IoError> {
        match self.entries(path) {
            Ok(mut entries) => {
                entries.sort();
                Ok(Some(entries))
            }
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(IoError::new("list", path, error)),
        }
    }

    /// Names and targets of the symbolic links in a directory; empty when it does not exist.
    pub fn links(&self, path: &RootPath) -> Result<BTreeMap<String, String>, IoError> {
        match self.link_targets(path) {
            Ok(links) => Ok(links),
            Err(error) if is_absent(&error) => Ok(BTreeMap::new()),
            Err(error) => Err(IoError::new("list links in", path, error)),
        }
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

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the tree from outside")]
mod tests;
