//! Directories by their paths, for build machines without descriptors of directories. It only reads: what it reads may
//! have been moved meanwhile, which a write could not forgive.
#![expect(clippy::disallowed_methods, reason = "the boundary to the target tree")]

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::{Entry, Kind, Last, Meta, Resolver, Root, RootPath, walk};

impl Meta {
    /// Owners and inodes have no meaning here.
    fn of(metadata: &Metadata) -> Self {
        let kind = match metadata.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Dir,
            kind if kind.is_symlink() => Kind::Link,
            _ => Kind::Other,
        };
        let age = metadata
            .modified()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .unwrap_or_default();
        Self {
            kind,
            mode: if kind == Kind::Dir { 0o755 } else { 0o644 },
            uid: 0,
            gid: 0,
            size: metadata.len(),
            mtime: i64::try_from(age.as_secs()).unwrap_or(i64::MAX),
            mtime_nsec: age.subsec_nanos(),
            id: (0, 0),
        }
    }
}

/// A directory.
#[derive(Debug)]
pub(super) struct Dir(PathBuf);

impl Dir {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if fs::metadata(path)?.is_dir() {
            Ok(Self(path.to_owned()))
        } else {
            Err(io::ErrorKind::NotADirectory.into())
        }
    }

    pub(super) fn resolver(&self) -> Resolver {
        Resolver::Walker
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.clone()))
    }

    /// Where an entry lies; none for names that Windows takes for more than a name: of a drive, a stream, a device.
    fn place(&self, name: &str) -> Option<PathBuf> {
        let is_plain =
            !name.contains(['\\', ':', '*', '?', '"', '<', '>', '|']) && !name.ends_with(['.', ' ']);
        is_plain.then(|| self.0.join(name))
    }

    fn existing(&self, name: &str) -> io::Result<PathBuf> {
        self.place(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Of an entry, links not followed; none when there is none.
    pub(super) fn meta(&self, name: &str) -> io::Result<Option<Meta>> {
        match self.existing(name).and_then(fs::symlink_metadata) {
            Ok(metadata) => Ok(Some(Meta::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn own_meta(&self) -> io::Result<Meta> {
        Ok(Meta::of(&fs::metadata(&self.0)?))
    }

    /// A directory in it; a link is an error.
    pub(super) fn enter(&self, name: &str) -> io::Result<Self> {
        let place = self.existing(name)?;
        if fs::symlink_metadata(&place)?.is_dir() {
            Ok(Self(place))
        } else {
            Err(io::ErrorKind::NotADirectory.into())
        }
    }

    /// Separated as in the tree.
    pub(super) fn read_link(&self, name: &str) -> io::Result<String> {
        let target = fs::read_link(self.existing(name)?)?;
        Ok(target.to_string_lossy().replace('\\', "/"))
    }
}

pub(super) fn too_many_links() -> io::Error {
    io::Error::other("too many levels of symbolic links")
}

/// As [`too_many_links`] tells it.
pub(super) fn is_dead_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Other
}

impl Root {
    /// Metadata; none for a name that is missing in a directory that is there.
    pub(super) fn look(&self, path: &RootPath, last: Last) -> io::Result<Option<Meta>> {
        walk::walk(&self.dir, path, last).map(|located| located.meta)
    }

    fn found(&self, path: &RootPath) -> io::Result<PathBuf> {
        let located = walk::walk(&self.dir, path, Last::Follow)?;
        match (located.meta, located.name) {
            (None, _) => Err(io::ErrorKind::NotFound.into()),
            (Some(_), Some(name)) => located.dir.existing(&name),
            (Some(_), None) => Ok(located.dir.0),
        }
    }

    /// The file, and what it is.
    pub(super) fn open_for_reading(&self, path: &RootPath) -> io::Result<(File, Meta)> {
        let file = File::open(self.found(path)?)?;
        let meta = Meta::of(&file.metadata()?);
        Ok((file, meta))
    }

    /// There are none here.
    pub(super) fn attribute_of(&self, _path: &RootPath, _name: &str) -> io::Result<Option<String>> {
        Ok(None)
    }

    /// The entries of a directory in no order.
    pub(super) fn entries(&self, path: &RootPath) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(self.found(path)?)? {
            if let Ok(name) = entry?.file_name().into_string() {
                entries.push(Entry { name, inode: 0 });
            }
        }
        Ok(entries)
    }

    pub(super) fn link_targets(&self, path: &RootPath) -> io::Result<BTreeMap<String, String>> {
        let dir = Dir(self.found(path)?);
        let mut links = BTreeMap::new();
        for entry in self.entries(path)? {
            if dir.meta(&entry.name)?.is_some_and(|meta| meta.kind == Kind::Link) {
                let target = dir.read_link(&entry.name)?;
                links.insert(entry.name, target);
            }
        }
        Ok(links)
    }
}
