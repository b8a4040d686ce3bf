//! What a tree shall look like: a set of paths and what each shall be. Says nothing about how to get there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::error::IoError;
use crate::root::{Last, Meta, Root, RootPath};

/// What to do when the path itself is a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLink {
    /// Change what it points at, inside the root.
    Follow,
    /// Put the new thing in its place.
    Replace,
    /// Fail.
    Refuse,
}

/// The bytes of a file.
#[derive(Debug, Clone)]
pub enum Content {
    /// Held in memory: configuration, databases, certificates.
    Bytes(Vec<u8>),
    /// A stretch of an unpacked package archive, private to this process.
    Spool(SpoolSlice),
}

/// A stretch of a file that a verified package was unpacked into.
#[derive(Debug, Clone)]
pub struct SpoolSlice {
    /// Without a name, so nobody else can change it.
    pub spool: Arc<File>,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// Digest of the stretch.
    pub sha256: [u8; 32],
    /// Whether it is the whole file, which then can become the target's own.
    pub is_whole: bool,
}

impl Content {
    /// The size in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Spool(slice) => slice.len,
        }
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// SHA-256 of the bytes.
    pub fn sha256(&self) -> [u8; 32] {
        match self {
            Self::Bytes(bytes) => Sha256::digest(bytes).into(),
            Self::Spool(slice) => slice.sha256,
        }
    }

    /// The bytes; for a spool slice of at most `limit`.
    pub fn bytes(&self, limit: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.clone()),
            Self::Spool(slice) if slice.len > limit as u64 => Err(io::ErrorKind::FileTooLarge.into()),
            Self::Spool(slice) => {
                let mut bytes = Vec::new();
                slice.reader()?.read_to_end(&mut bytes)?;
                Ok(bytes)
            }
        }
    }
}

impl SpoolSlice {
    /// A reader of just this stretch. One at a time: readers share the descriptor's position.
    pub fn reader(&self) -> io::Result<io::Take<&File>> {
        let mut file: &File = &self.spool;
        file.seek(SeekFrom::Start(self.offset))?;
        Ok(file.take(self.len))
    }
}

/// Mode bits and owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Perm {
    /// Permission bits including setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Perm {
    /// root:root with `mode`.
    pub fn root(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0 }
    }

    /// As an existing file has it.
    pub fn like(meta: &Meta) -> Self {
        Self {
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
        }
    }
}

/// What a path shall be.
#[derive(Debug, Clone)]
pub enum Want {
    /// Nothing. A directory goes only when it is empty.
    Absent,
    /// A directory; one that exists is left as it is.
    Dir {
        /// For a new one.
        perm: Perm,
        /// Seconds since the epoch, for a new one.
        mtime: Option<i64>,
    },
    /// A regular file.
    File {
        /// Its bytes.
        content: Content,
        /// Its mode and owner.
        perm: Perm,
        /// Seconds and nanoseconds since the epoch; none = the time of writing (or SOURCE_DATE_EPOCH).
        mtime: Option<(i64, u32)>,
    },
    /// A symbolic link.
    Link {
        /// Its text.
        target: String,
        /// Seconds since the epoch.
        mtime: Option<i64>,
    },
    /// Another name of a file in this same set.
    HardLink {
        /// The first name, canonical.
        to: RootPath,
    },
}

impl Want {
    /// A file of ours in root's name.
    pub fn file(bytes: Vec<u8>, mode: u32) -> Self {
        Self::File {
            content: Content::Bytes(bytes),
            perm: Perm::root(mode),
            mtime: None,
        }
    }

    /// A symbolic link.
    pub fn link(target: impl Into<String>) -> Self {
        Self::Link {
            target: target.into(),
            mtime: None,
        }
    }
}

/// Canonical paths and what each shall be, parents before children.
#[derive(Debug, Default)]
pub struct ChangeSet {
    wants: BTreeMap<RootPath, Want>,
}

impl ChangeSet {
    /// Asks for `path` to become `want`. A later request for the same place wins.
    pub fn put(
        &mut self,
        root: &Root,
        path: &RootPath,
        on_link: OnLink,
        want: Want,
    ) -> Result<RootPath, IoError> {
        let last = if on_link == OnLink::Follow {
            Last::Follow
        } else {
            Last::Keep
        };
        let place = root.canonical(path, last)?;
        if on_link == OnLink::Refuse && root.read_link(&place)?.is_some() {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "it is a symbolic link");
            return Err(IoError::new("replace", path, error));
        }
        self.wants.insert(place.clone(), want);
        Ok(place)
    }

    /// Asks for a canonical place to become `want`, whatever stands there.
    pub(crate) fn put_at(&mut self, place: RootPath, want: Want) {
        self.wants.insert(place, want);
    }

    /// Replaces the bytes of a file, keeping its mode and owner where it exists and following a link to it.
    pub fn edit(
        &mut self,
        root: &Root,
        path: &RootPath,
        bytes: Vec<u8>,
        new_mode: u32,
    ) -> Result<(), IoError> {
        let meta = root.meta(path, Last::Follow)?;
        let perm = meta.as_ref().map_or(Perm::root(new_mode), Perm::like);
        let want = Want::File {
            content: Content::Bytes(bytes),
            perm,
            mtime: None,
        };
        self.put(root, path, OnLink::Follow, want).map(drop)
    }

    /// What is asked of a canonical path so far.
    pub fn get(&self, path: &RootPath) -> Option<&Want> {
        self.wants.get(path)
    }

    /// The bytes `path` will have: from this set, else from the tree.
    pub fn read(&self, root: &Root, path: &RootPath, limit: usize) -> Result<Option<Vec<u8>>, IoError> {
        // A link of this set is not in the tree yet.
        let own = root.canonical(path, Last::Keep)?;
        let place = match self.wants.get(&own) {
            Some(Want::Link { target, .. }) => match own.parent().and_then(|dir| led_to(&dir, target)) {
                Some(there) => root.canonical(&there, Last::Follow)?,
                None => return Ok(None),
            },
            _ => root.canonical(path, Last::Follow)?,
        };
        match self.wants.get(&place) {
            Some(Want::File { content, .. }) => content
                .bytes(limit)
                .map(Some)
                .map_err(|error| IoError::new("read", path, error)),
            Some(Want::Absent) => Ok(None),
            _ => root.read(&place, limit),
        }
    }

    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.wants.is_empty()
    }

    /// In order: parents before children.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&RootPath, &Want)> {
        self.wants.iter()
    }

    pub(super) fn into_wants(self) -> BTreeMap<RootPath, Want> {
        self.wants
    }
}

/// Where a link in `dir` leads by its text alone.
fn led_to(dir: &RootPath, target: &str) -> Option<RootPath> {
    let start = if target.starts_with('/') { "" } else { dir.as_str() };
    let mut parts: Vec<&str> = Vec::new();
    for part in start.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    RootPath::new(&format!("/{}", parts.join("/"))).ok()
}
