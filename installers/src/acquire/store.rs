//! Files of the build machine: private temporary ones, and a cache keyed by digest. A cached package is copied into a
//! private file first and verified there, so nobody can change it between check and use.
#![expect(
    clippy::disallowed_methods,
    reason = "the boundary to the build machine's own disk"
)]

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};

use crate::digest::sha256_hex;
use crate::error::IoError;
use ssmbake_manifests::hex;

/// Where files go.
#[derive(Debug)]
pub struct Store<'a> {
    cache: Option<&'a Path>,
    temp_dir: &'a Path,
}

impl<'a> Store<'a> {
    /// A store without a cache keeps nothing.
    pub fn new(cache: Option<&'a Path>, temp_dir: &'a Path) -> Self {
        Self { cache, temp_dir }
    }

    /// A file without a name: it is gone with its descriptor, whatever happens to us.
    pub fn private_file(&self) -> Result<File, IoError> {
        let fail =
            |error: io::Error| IoError::new("create a temporary file in", self.temp_dir.display(), error);
        let mode = Mode::from_raw_mode(0o600);
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        if let Ok(fd) = rustix::fs::open(self.temp_dir, flags, mode) {
            return Ok(File::from(fd));
        }
        let path = self.temp_dir.join(format!(".ssmbake-{}", std::process::id()));
        let named = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, named, mode).map_err(|error| fail(error.into()))?;
        std::fs::remove_file(&path).map_err(fail)?;
        Ok(File::from(fd))
    }

    /// What was kept for `url`, copied into a private file.
    pub fn find(&self, url: &str, limit: u64) -> Result<Option<Candidate>, IoError> {
        let Some(cache) = self.cache else { return Ok(None) };
        let Some(name) = read_small(&index_path(cache, url)) else {
            return Ok(None);
        };
        let name = String::from_utf8_lossy(&name).trim().to_owned();
        if name.len() != 64 || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let path = cache.join("sha256").join(&name);
        let (Some(kept), Some(signature)) = (open_own(&path), read_small(&path.with_extension("sig"))) else {
            return Ok(None);
        };
        let mut private = self.private_file()?;
        let copied = io::copy(&mut kept.take(limit), &mut private);
        copied.map_err(|error| IoError::new("copy from the cache", path.display(), error))?;
        // A damaged entry is fetched again.
        let candidate = Candidate::new(private, signature)?;
        Ok((hex::encode(&candidate.sha256) == name).then_some(candidate))
    }

    /// Keeps a verified package. A cache that cannot be written is an error: the user named it.
    pub fn keep(&self, url: &str, verified: &Candidate) -> Result<(), IoError> {
        let Some(cache) = self.cache else { return Ok(()) };
        let fail = |error: io::Error| IoError::new("write to the cache", cache.display(), error);
        let name = hex::encode(&verified.sha256);
        for dir in [cache.to_owned(), cache.join("sha256"), cache.join("index")] {
            make_dir(&dir).map_err(fail)?;
        }
        let place = cache.join("sha256").join(&name);
        write_new(&place, rewound(&verified.file).map_err(fail)?).map_err(fail)?;
        write_new(&place.with_extension("sig"), verified.signature.as_slice()).map_err(fail)?;
        write_new(&index_path(cache, url), name.as_bytes()).map_err(fail)
    }
}

/// A package file that is not verified yet, and what claims to vouch for it.
#[derive(Debug)]
pub struct Candidate {
    /// Private: nobody else can change it.
    pub file: File,
    /// The detached signature.
    pub signature: Vec<u8>,
    /// Digest of the file.
    pub sha256: [u8; 32],
    /// Bytes of the file.
    pub size: u64,
}

impl Candidate {
    /// Reads `file` once for its digest and size.
    pub fn new(file: File, signature: Vec<u8>) -> Result<Self, IoError> {
        let (sha256, size) = digest(&file)?;
        Ok(Self {
            file,
            signature,
            sha256,
            size,
        })
    }
}

/// SHA-256 and size of a private file.
fn digest(file: &File) -> Result<([u8; 32], u64), IoError> {
    let read = || -> io::Result<([u8; 32], u64)> {
        let mut source = rewound(file)?;
        let (mut hash, mut total, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 18]);
        loop {
            match source.read(&mut buffer)? {
                0 => return Ok((hash.finalize().into(), total)),
                got => {
                    hash.update(&buffer[..got]);
                    total += got as u64;
                }
            }
        }
    };
    read().map_err(|error| IoError::new("read", "a temporary file", error))
}

/// The same file from its beginning.
pub fn rewound(file: &File) -> io::Result<&File> {
    let mut file = file;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

fn index_path(cache: &Path, url: &str) -> PathBuf {
    cache.join("index").join(sha256_hex(url))
}

/// Links and files of other users are not ours to trust.
fn open_own(path: &Path) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    let stat = rustix::fs::fstat(&file).ok()?;
    let is_own = stat.st_uid == rustix::process::geteuid().as_raw();
    (is_own && file.metadata().ok()?.is_file()).then_some(file)
}

fn read_small(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    open_own(path)?.take(1 << 20).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn make_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

fn write_new(path: &Path, mut from: impl Read) -> io::Result<()> {
    let temp = path.with_extension(format!("new-{}", std::process::id()));
    let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(&temp, flags, Mode::from_raw_mode(0o600))?);
    io::copy(&mut from, &mut file)?;
    file.flush()?;
    std::fs::rename(&temp, path)
}
