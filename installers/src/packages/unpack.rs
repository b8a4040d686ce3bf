//! What reading a payload takes in every format: decoding on a thread of its own, limits, unnamed files for the bytes,
//! and the judgement of each member's place.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sha2::{Digest, Sha256};

use super::PackageError;
use crate::error::IoError;
use crate::root::RootPath;
use crate::txn::SpoolSlice;

/// What one package may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the unpacked payload.
    pub unpacked: u64,
    /// Members of the payload.
    pub members: usize,
}

/// Makes empty files without a name.
pub type MakeSpool<'a> = dyn Fn() -> Result<File, IoError> + 'a;

/// What a payload member is.
#[derive(Debug, Clone)]
pub enum MemberKind {
    /// A directory.
    Dir,
    /// A regular file.
    File {
        /// Its bytes.
        slice: SpoolSlice,
        /// The digest that the format's own database speaks: MD5 for dpkg, the header's choice for rpm.
        digest: Vec<u8>,
    },
    /// A symbolic link and its text.
    Link(String),
    /// Another name of an earlier member.
    HardLink(RootPath),
}

/// A payload member.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its place in the target.
    pub path: RootPath,
    /// What it is.
    pub kind: MemberKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since the epoch.
    pub mtime: i64,
}

/// A fault of one part of the package.
pub(super) fn malformed(part: &str, why: impl std::fmt::Display) -> PackageError {
    PackageError::Malformed(format!("{part}: {why}"))
}

pub(super) const CHUNK: usize = 256 * 1024;
/// Large members get a file of their own, which can become the target's without another copy; the many small ones
/// share one.
const OWN_FILE_FROM: u64 = 64 * 1024;
const OWN_FILES: usize = 64;

/// A stretch of the package file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    /// First byte.
    pub(super) offset: u64,
    /// Bytes.
    pub(super) len: u64,
}

/// A compression of payloads, by the names that package formats use.
pub(super) fn decoder<'a>(
    file: &'a File,
    stretch: Stretch,
    name: &str,
    compression: &str,
) -> Result<Box<dyn Read + Send + 'a>, PackageError> {
    let mut source = file;
    source
        .seek(SeekFrom::Start(stretch.offset))
        .map_err(|error| malformed(name, error))?;
    let source = io::BufReader::with_capacity(CHUNK, source.take(stretch.len));
    Ok(match compression {
        "" | "none" => Box::new(source),
        "gz" | "gzip" => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        "xz" => Box::new(lzma_rust2::XzReader::new(source, true)),
        "bzip2" => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        "lzma" => {
            let inner = lzma_rust2::LzmaReader::new_mem_limit(source, LZMA_MEMORY_KIB, None);
            Box::new(inner.map_err(|error| malformed(name, error))?)
        }
        "zst" | "zstd" => {
            let inner = ruzstd::decoding::StreamingDecoder::new(source);
            Box::new(inner.map_err(|error| malformed(name, error))?)
        }
        other => {
            return Err(malformed(
                name,
                format_args!("its compression `{other}` is unknown"),
            ));
        }
    })
}

/// As much as `lzma -9` needs.
const LZMA_MEMORY_KIB: u32 = 128 * 1024;

/// Decodes on a thread of its own and hands the bytes, up to `limit`, to `read`.
pub(super) fn decoded<T>(
    source: Box<dyn Read + Send + '_>,
    limit: u64,
    read: impl FnOnce(&mut ChunkReader) -> Result<T, PackageError>,
) -> Result<T, PackageError> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(8);
        scope.spawn(move || pump(source, &sender));
        let mut reader = ChunkReader {
            receiver,
            chunk: Vec::new(),
            at: 0,
            total: 0,
            limit,
        };
        read(&mut reader)
    })
}

fn pump(mut source: Box<dyn Read + Send + '_>, sender: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut chunk = vec![0; CHUNK];
        let message = match source.read(&mut chunk) {
            Ok(0) => return,
            Ok(got) => {
                chunk.truncate(got);
                Ok(chunk)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let is_last = message.is_err();
        // A closed channel means that the reader has found a reason to stop.
        if sender.send(message).is_err() || is_last {
            return;
        }
    }
}

/// Passes the decoded bytes on, up to the limit.
pub(super) struct ChunkReader {
    receiver: Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    at: usize,
    total: u64,
    limit: u64,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            match self.receiver.recv() {
                Err(_) => return Ok(0),
                Ok(chunk) => self.chunk = chunk?,
            }
            self.at = 0;
            self.total += self.chunk.len() as u64;
            if self.total > self.limit {
                return Err(io::Error::other(OverLimit));
            }
        }
        let count = buffer.len().min(self.chunk.len() - self.at);
        buffer[..count].copy_from_slice(&self.chunk[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("over the limit")]
struct OverLimit;

/// Our own error travels through the tar reader inside an `io::Error`.
pub(super) fn payload_error(error: io::Error, name: &str, limit: u64) -> PackageError {
    let mut inner: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(cause) = inner {
        if cause.is::<OverLimit>() {
            return PackageError::TooLarge { limit };
        }
        let wrapped = cause
            .downcast_ref::<io::Error>()
            .and_then(|error| error.get_ref());
        inner = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        };
    }
    malformed(name, error)
}

/// The unnamed files of one package.
pub(super) struct Spools<'a> {
    make: &'a MakeSpool<'a>,
    own: usize,
    shared: Option<Arc<File>>,
    /// Bytes in the shared file.
    used: u64,
    /// Bytes that may still come.
    left: u64,
    limit: u64,
}

/// Where one member's bytes go.
struct Place {
    file: Arc<File>,
    offset: u64,
    is_whole: bool,
}

impl<'a> Spools<'a> {
    pub(super) fn new(make: &'a MakeSpool<'a>, limit: u64) -> Self {
        Self {
            make,
            own: 0,
            shared: None,
            used: 0,
            left: limit,
            limit,
        }
    }

    /// A bomb is found by what its headers promise, before a byte of it is written.
    fn place(&mut self, len: u64) -> Result<Place, PackageError> {
        let limit = self.limit;
        self.left = self
            .left
            .checked_sub(len)
            .ok_or(PackageError::TooLarge { limit })?;
        if len >= OWN_FILE_FROM && self.own < OWN_FILES {
            self.own += 1;
            return Ok(Place {
                file: Arc::new((self.make)()?),
                offset: 0,
                is_whole: true,
            });
        }
        let file = match &self.shared {
            Some(file) => Arc::clone(file),
            None => Arc::clone(self.shared.insert(Arc::new((self.make)()?))),
        };
        let offset = self.used;
        self.used += len;
        Ok(Place {
            file,
            offset,
            is_whole: false,
        })
    }
}

/// `./usr/bin/x` → `/usr/bin/x`; the root directory itself is none.
pub(super) fn place(raw: &str) -> Result<Option<RootPath>, &'static str> {
    if raw.starts_with('/') {
        return Err("has an absolute path");
    }
    let inner = raw.strip_prefix("./").unwrap_or(raw).trim_end_matches('/');
    if inner.is_empty() || inner == "." {
        return Ok(None);
    }
    if inner.split('/').any(|part| part == "..") {
        return Err("leads out of the root with `..`");
    }
    RootPath::new(&format!("/{inner}"))
        .map(Some)
        .map_err(|_| "has a path that is not plain")
}

/// Writes one member's bytes where they wait, hashing them for the caller on the way. `bad` explains read errors.
pub(super) fn spool_file(
    source: &mut dyn Read,
    len: u64,
    spools: &mut Spools<'_>,
    hash: &mut dyn FnMut(&[u8]),
    bad: &dyn Fn(io::Error) -> PackageError,
) -> Result<SpoolSlice, PackageError> {
    let place = spools.place(len)?;
    let mut sha256 = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut total = 0;
    loop {
        let got = source.read(&mut buffer).map_err(bad)?;
        if got == 0 {
            break;
        }
        total += got as u64;
        // A full disk is not the package's fault.
        let mut file: &File = &place.file;
        file.write_all(&buffer[..got])
            .map_err(|error| IoError::new("unpack into", "a temporary file", error))?;
        sha256.update(&buffer[..got]);
        hash(&buffer[..got]);
    }
    if total != len {
        return Err(bad(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(SpoolSlice {
        spool: place.file,
        offset: place.offset,
        len,
        sha256: sha256.finalize().into(),
        is_whole: place.is_whole,
    })
}

/// What the members so far rule out for the next.
#[derive(Default)]
pub(super) struct Seen {
    paths: BTreeSet<RootPath>,
    files: BTreeSet<RootPath>,
    not_dirs: BTreeSet<RootPath>,
    /// Every directory that a member lies below.
    above: BTreeSet<RootPath>,
}

impl Seen {
    pub(super) fn admit(&mut self, member: &Member) -> Result<(), PackageError> {
        let hostile = |why| {
            Err(PackageError::Hostile {
                member: member.path.to_string(),
                why,
            })
        };
        if !self.paths.insert(member.path.clone()) {
            return hostile("stands twice in the archive");
        }
        let mut above = member.path.parent();
        while let Some(dir) = above {
            if self.not_dirs.contains(&dir) {
                return hostile("lies below a member that is no directory");
            }
            above = dir.parent();
            self.above.insert(dir);
        }
        match &member.kind {
            MemberKind::Dir => {}
            MemberKind::HardLink(to) if !self.files.contains(to) => {
                return hostile("is a hard link to no member");
            }
            kind => {
                if matches!(kind, MemberKind::File { .. }) {
                    self.files.insert(member.path.clone());
                }
                // A link that stands where earlier members went through is as bad as the other order.
                if self.above.contains(&member.path) {
                    return hostile("replaces a directory of earlier members");
                }
                self.not_dirs.insert(member.path.clone());
            }
        }
        Ok(())
    }
}
