//! Files of the build machine: private temporary ones, and a cache keyed by digest. A cached package is copied into a
//! private file first and verified there, so nobody can change it between check and use.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::openpgp::{Check, KeyRing};
use super::private;
use super::transport::Sink;
use super::voucher::{VerifyError, Voucher};
use crate::digest::sha256_hex;
use crate::error::IoError;
use crate::whole;
use sha2::{Digest, Sha256};
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
        private::unnamed(self.temp_dir).map_err(fail)
    }

    /// What was kept for `url`, copied into a private file and verified there. Anything that does not pass any more
    /// counts as not there: it is fetched again.
    pub fn find(&self, url: &str, limit: u64, ring: &KeyRing) -> Result<Option<Fetched>, IoError> {
        let Some(cache) = self.cache else { return Ok(None) };
        let Some(name) = read_small(&index_path(cache, url)) else {
            return Ok(None);
        };
        let name = String::from_utf8_lossy(&name).trim().to_owned();
        if name.len() != 64 || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let path = cache.join("sha256").join(&name);
        let (Some(kept), Some(signature)) =
            (private::open_own(&path), read_small(&path.with_extension("sig")))
        else {
            return Ok(None);
        };
        let Ok(check) = ring.begin(&signature) else {
            return Ok(None);
        };
        let mut intake = Intake::new(self.private_file()?, check);
        let copied = io::copy(&mut kept.take(limit), &mut intake);
        copied.map_err(|error| IoError::new("copy from the cache", path.display(), error))?;
        let fetched = intake.finish(signature).ok();
        Ok(fetched.filter(|fetched| hex::encode(&fetched.sha256) == name))
    }

    /// Keeps a verified package. A cache that cannot be written is an error: the user named it.
    pub fn keep(&self, url: &str, fetched: &Fetched) -> Result<(), IoError> {
        let Some(cache) = self.cache else { return Ok(()) };
        let fail = |error: io::Error| IoError::new("write to the cache", cache.display(), error);
        let name = hex::encode(&fetched.sha256);
        for dir in [cache.to_owned(), cache.join("sha256"), cache.join("index")] {
            private::make_dir(&dir).map_err(fail)?;
        }
        let place = cache.join("sha256").join(&name);
        write_new(&place, rewound(&fetched.file).map_err(fail)?).map_err(fail)?;
        write_new(&place.with_extension("sig"), fetched.signature.as_slice()).map_err(fail)?;
        write_new(&index_path(cache, url), name.as_bytes()).map_err(fail)
    }
}

/// A package file with a good signature.
#[derive(Debug)]
pub struct Fetched {
    /// Private: nobody else can change it.
    pub file: File,
    /// The detached signature.
    pub signature: Vec<u8>,
    /// Who vouches for it.
    pub voucher: Voucher,
    /// Digest of the file.
    pub sha256: [u8; 32],
    /// Bytes of the file.
    pub size: u64,
}

/// A package file that is only hashed: what vouches for it is inside.
pub struct Plain {
    file: File,
    hash: Sha256,
    size: u64,
}

impl Plain {
    /// `file` is empty and private.
    pub fn new(file: File) -> Self {
        Self {
            file,
            hash: Sha256::new(),
            size: 0,
        }
    }

    /// The file is whole.
    pub fn finish(
        self,
        voucher: impl FnOnce(&[u8]) -> Result<Voucher, VerifyError>,
    ) -> Result<Fetched, PlainError> {
        let mut bytes = Vec::new();
        rewound(&self.file)?.read_to_end(&mut bytes)?;
        let voucher = voucher(&bytes).map_err(PlainError::Verify)?;
        Ok(Fetched {
            voucher,
            file: self.file,
            signature: Vec::new(),
            sha256: self.hash.finalize().into(),
            size: self.size,
        })
    }
}

/// Why a plain file is none.
#[derive(Debug)]
pub enum PlainError {
    /// What is inside does not vouch for it.
    Verify(VerifyError),
    /// The disk said no.
    Io(io::Error),
}

impl From<io::Error> for PlainError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Write for Plain {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Plain {
    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        rewound(&self.file)?;
        self.size = 0;
        self.hash = Sha256::new();
        Ok(())
    }
}

/// Writes a package to a private file and hashes it on the way, for its name and for its signature.
pub struct Intake<'ring> {
    file: File,
    check: Check<'ring>,
    size: u64,
}

impl<'ring> Intake<'ring> {
    /// `file` is empty and private.
    pub fn new(file: File, check: Check<'ring>) -> Self {
        Self { file, check, size: 0 }
    }

    /// The file is whole: does the signature fit?
    pub fn finish(self, signature: Vec<u8>) -> Result<Fetched, VerifyError> {
        let checked = self.check.finish()?;
        Ok(Fetched {
            voucher: checked.voucher,
            file: self.file,
            signature,
            sha256: checked.sha256,
            size: self.size,
        })
    }
}

impl Write for Intake<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.check.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Intake<'_> {
    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        rewound(&self.file)?;
        self.size = 0;
        self.check.restart();
        Ok(())
    }
}

/// The same file from its beginning.
pub(crate) fn rewound(file: &File) -> io::Result<&File> {
    let mut file = file;
    file.rewind()?;
    Ok(file)
}

fn index_path(cache: &Path, url: &str) -> PathBuf {
    cache.join("index").join(sha256_hex(url))
}

fn read_small(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    private::open_own(path)?
        .take(1 << 20)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(bytes)
}

fn write_new(path: &Path, mut from: impl Read) -> io::Result<()> {
    whole::replace(path, |file| io::copy(&mut from, file).map(drop))
}
