//! Directories by their descriptors: nobody can swap one for a link under us.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use rustix::path::Arg;

use super::name::{to_raw, to_text};
use super::{Entry, Kind, Last, Meta, Resolver, Root, RootPath, walk};
use crate::error::IoError;

/// Tries of the kernel's resolution that a rename elsewhere may spoil.
const TRIES: usize = 16;

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

/// An open directory.
#[derive(Debug)]
pub(super) struct Dir(OwnedFd);

impl Dir {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// What this kernel can do.
    pub(super) fn resolver(&self) -> Resolver {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        match rustix::fs::openat2(&self.0, ".", flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            Ok(_) => Resolver::Kernel,
            Err(_) => Resolver::Walker,
        }
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Of an entry, links not followed; none when there is none.
    pub(super) fn meta(&self, name: &str) -> io::Result<Option<Meta>> {
        meta_at(&self.0, &*to_raw(name))
    }

    pub(super) fn own_meta(&self) -> io::Result<Meta> {
        Ok(Meta::of(&rustix::fs::fstat(&self.0)?))
    }

    /// A directory in it; a link is an error.
    pub(super) fn enter(&self, name: &str) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::openat(
            &self.0,
            &*to_raw(name),
            flags,
            Mode::empty(),
        )?))
    }

    pub(super) fn read_link(&self, name: &str) -> io::Result<String> {
        let target = rustix::fs::readlinkat(&self.0, &*to_raw(name), Vec::new())?;
        Ok(to_text(target.as_bytes()))
    }
}

pub(super) fn too_many_links() -> io::Error {
    Errno::LOOP.into()
}

pub(super) fn is_dead_end(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::LOOP | Errno::NAMETOOLONG)
    )
}

impl Root {
    /// Metadata; none for a name that is missing in a directory that is there.
    pub(super) fn look(&self, path: &RootPath, last: Last) -> io::Result<Option<Meta>> {
        let walked = || walk::walk(&self.dir, path, last).map(|located| located.meta);
        let nofollow = if last == Last::Keep {
            OFlags::NOFOLLOW
        } else {
            OFlags::empty()
        };
        match self.resolver {
            Resolver::Walker => walked(),
            Resolver::Kernel => match self.openat2(path, OFlags::PATH | nofollow) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => walked(),
                opened => opened.and_then(|fd| Ok(Some(Meta::of(&rustix::fs::fstat(fd)?)))),
            },
        }
    }

    /// The file, and what it is; O_NONBLOCK keeps a fifo from hanging us.
    pub(super) fn open_for_reading(&self, path: &RootPath) -> io::Result<(File, Meta)> {
        let fd = self.open_fd(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let meta = Meta::of(&rustix::fs::fstat(&fd)?);
        Ok((File::from(fd), meta))
    }

    /// An extended attribute of a regular file, as text without the NUL at its end; none where it has none.
    pub(super) fn attribute_of(&self, path: &RootPath, name: &str) -> io::Result<Option<String>> {
        let (file, _) = self.open_for_reading(path)?;
        let mut value = [0; 1024];
        match rustix::fs::fgetxattr(&file, name, &mut value) {
            Ok(size) => {
                let text = String::from_utf8_lossy(&value[..size]);
                Ok(Some(text.trim_end_matches('\0').to_owned()))
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The entries of a directory in no order.
    pub(super) fn entries(&self, path: &RootPath) -> io::Result<Vec<Entry>> {
        let fd = self.open_fd(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(fd)? {
            let entry = entry?;
            match entry.file_name().to_bytes() {
                b"." | b".." => {}
                name => entries.push(Entry {
                    name: to_text(name),
                    inode: entry.ino(),
                }),
            }
        }
        Ok(entries)
    }

    pub(super) fn link_targets(&self, path: &RootPath) -> io::Result<BTreeMap<String, String>> {
        let fd = self.open_fd(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut links = BTreeMap::new();
        for entry in rustix::fs::Dir::read_from(&fd)? {
            let entry = entry?;
            let name = entry.file_name();
            // Some file systems do not tell the kind of an entry: what is no link has no target.
            if !matches!(entry.file_type(), FileType::Symlink | FileType::Unknown) {
                continue;
            }
            match rustix::fs::readlinkat(&fd, name, Vec::new()) {
                Ok(target) => {
                    links.insert(to_text(name.to_bytes()), to_text(target.as_bytes()));
                }
                Err(Errno::INVAL | Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
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
                self,
                &*path.relative(),
                flags,
                Mode::empty(),
                resolve,
            )?);
        }
        let mut fd = rustix::fs::openat(self, ".", flags, Mode::empty())?;
        for part in path.components() {
            fd = rustix::fs::openat(&fd, &*to_raw(part), flags, Mode::empty())?;
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
        let located = walk::walk(&self.dir, path, Last::Follow)?;
        let name = match (&located.meta, &located.name) {
            (None, _) => return Err(Errno::NOENT.into()),
            (Some(_), Some(name)) => name.as_str(),
            (Some(_), None) => ".",
        };
        Ok(rustix::fs::openat(
            &located.dir.0,
            &*to_raw(name),
            flags | OFlags::NOFOLLOW,
            Mode::empty(),
        )?)
    }

    /// The kernel gives up with EAGAIN on a path with `..` while anything anywhere is renamed or mounted. It says to try
    /// again; on a busy build machine that alone can go on for long, so in the end the walker takes over.
    fn openat2(&self, path: &RootPath, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        let open = || rustix::fs::openat2(self, &*path.relative(), flags, Mode::empty(), resolve);
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
        self.dir.0.as_fd()
    }
}

/// Metadata of `name` in `dir`, the last component not followed; none when it does not exist.
pub(crate) fn meta_at(dir: &impl AsFd, name: impl Arg) -> io::Result<Option<Meta>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Meta::of(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
