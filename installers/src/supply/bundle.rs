//! A bundle: everything that `apply` needs, in one tar file for places without a network. The same lock gives the same bytes.
//!
//! | entry | what |
//! |---|---|
//! | `ssmbake.lock` | which packages are in it |
//! | `catalog.json` | all facts, keys and roots among them |
//! | `catalog.json.sigstore.json` | its signature, where the facts came with one |
//! | `roots/ID.pem` | the trust anchors, for people and other tools |
//! | `SHA256SUMS` | of all other entries, for `sha256sum --check` |
//! | `packages/VERSION/FOLDER/FILE`, `….sig` | packages and their signatures, laid out as AWS's bucket is |
//!
//! Nothing in it is believed for being in it: packages are verified as those of any server.
#![expect(
    clippy::disallowed_methods,
    reason = "bundles lie on the build machine's own disk"
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::Path;

use sha2::{Digest, Sha256};
use ssmbake_manifests::{AgentFacts, Catalog, Document, hex};

use super::lockfile::{self, LockFile, Locked};
use super::{Supplier, SupplyError};
use crate::acquire::{NetworkError, Origin, Progress, Sink};
use crate::error::IoError;
use crate::positioned::read_exact_at;
use crate::whole;

/// The base URL of what lies in a bundle.
pub const BASE: &str = "bundle:";

const LOCK: &str = lockfile::NAME;
const CATALOG: &str = "catalog.json";
const CATALOG_SIGNATURE: &str = "catalog.json.sigstore.json";
const PACKAGES: &str = "packages/";
const ROOTS: &str = "roots/";
const SUMS: &str = "SHA256SUMS";
const ENTRIES: usize = 4096;
const SMALL: u64 = 16 * 1024 * 1024;
/// The first of January 1980: what archives have that were made at no time.
const NO_TIME: u64 = 315_532_800;

/// An opened bundle. Only its table is in memory.
#[derive(Debug)]
pub struct Bundle {
    file: File,
    /// Place and size, bytes.
    entries: BTreeMap<String, (u64, u64)>,
    lock: LockFile,
}

impl Bundle {
    /// Reads the table and the lock.
    pub fn open(path: &Path) -> Result<Self, SupplyError> {
        let fail = |error| SupplyError::Io(IoError::new("read", path.display(), error));
        let file = File::open(path).map_err(fail)?;
        let entries = table(&file)?;
        let mut bundle = Self {
            file,
            entries,
            lock: LockFile::new(Vec::new()),
        };
        let text = bundle.small(LOCK)?;
        bundle.lock = LockFile::parse(&String::from_utf8_lossy(&text))?;
        for locked in &bundle.lock.package {
            let place = format!("{PACKAGES}{}/{}/", locked.version, locked.folder);
            if !bundle.entries.keys().any(|name| name.starts_with(&place)) {
                return Err(SupplyError::Malformed(format!("it has nothing in `{place}`")));
            }
        }
        Ok(bundle)
    }

    /// Which packages it holds.
    pub fn lock(&self) -> &LockFile {
        &self.lock
    }

    /// The whole file, from its beginning.
    pub fn bytes(&self) -> Result<impl Read + '_, SupplyError> {
        let mut file = &self.file;
        file.rewind()
            .map_err(|error| IoError::new("read", "the bundle", error))?;
        Ok(file)
    }

    /// The facts that it was made with, as they stand there.
    pub fn catalog(&self) -> Result<Vec<u8>, SupplyError> {
        self.small(CATALOG)
    }

    /// The same with its signature, where it has one.
    pub fn signed_catalog(&self) -> Result<Option<SignedCatalog>, SupplyError> {
        if !self.entries.contains_key(CATALOG_SIGNATURE) {
            return Ok(None);
        }
        Ok(Some(SignedCatalog {
            bytes: self.catalog()?,
            signature: self.small(CATALOG_SIGNATURE)?,
        }))
    }

    fn small(&self, name: &str) -> Result<Vec<u8>, SupplyError> {
        let Some((at, size)) = self.entries.get(name) else {
            return Err(SupplyError::Malformed(format!("it has no `{name}`")));
        };
        if *size > SMALL {
            return Err(SupplyError::Malformed(format!("`{name}` is too large")));
        }
        self.whole((*at, *size))
            .map_err(|error| SupplyError::Malformed(format!("`{name}`: {error}")))
    }

    /// What lies at a place, whose size was checked.
    fn whole(&self, (at, size): (u64, u64)) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
        read_exact_at(&self.file, &mut bytes, at)?;
        Ok(bytes)
    }

    /// Checks every package as `apply` will, and that everything is as it was written.
    pub fn verify(&self, supplier: &Supplier<'_>) -> Result<(), SupplyError> {
        let supplier = Supplier {
            origin: self,
            ..*supplier
        };
        for locked in &self.lock.package {
            supplier.locked(locked, Some(BASE))?;
        }
        Document::parse(&self.catalog()?)
            .and_then(Catalog::of)
            .map_err(|error| SupplyError::Malformed(error.to_string()))?;
        self.check_sums()
    }

    /// Whether every entry is as it was written, and none is there that was not.
    fn check_sums(&self) -> Result<(), SupplyError> {
        let mut sums = String::new();
        for (name, place) in self.entries.iter().filter(|(name, _)| *name != SUMS) {
            let mut hash = Sha256::new();
            self.each_part(*place, &mut |part| {
                hash.update(part);
                Ok(())
            })
            .map_err(|error| SupplyError::Malformed(format!("`{name}`: {error}")))?;
            sums.push_str(&sum(&hex::encode(&hash.finalize()), name));
        }
        let written = self.small(SUMS)?;
        let mut lines: Vec<&str> = std::str::from_utf8(&written)
            .unwrap_or_default()
            .lines()
            .collect();
        let mut found: Vec<&str> = sums.lines().collect();
        lines.sort_unstable();
        found.sort_unstable();
        match lines.iter().zip(&found).find(|(line, one)| line != one) {
            None if lines.len() == found.len() => Ok(()),
            Some((line, _)) => Err(SupplyError::Malformed(format!(
                "it is not as `{SUMS}` says: {line}"
            ))),
            None => Err(SupplyError::Malformed(format!("`{SUMS}` lists other entries"))),
        }
    }

    /// Reads what lies at a place, part by part.
    fn each_part(
        &self,
        (mut at, size): (u64, u64),
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let end = at + size;
        let mut buffer = vec![0; 256 * 1024];
        while at < end {
            let count = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
            let part = &mut buffer[..count];
            read_exact_at(&self.file, part, at)?;
            take(part)?;
            at += count as u64;
        }
        Ok(())
    }

    /// Place and size of what a URL stands for, of at most `limit` bytes.
    fn find(&self, url: &str, limit: u64) -> Result<(u64, u64), NetworkError> {
        let name = url.strip_prefix(BASE).map(|path| path.trim_start_matches('/'));
        let entry = name.and_then(|name| self.entries.get(&format!("{PACKAGES}{name}")));
        let url = url.to_owned();
        match entry {
            None => Err(NetworkError::NotInBundle(url)),
            Some((_, size)) if *size > limit => Err(NetworkError::TooLarge { url, limit }),
            Some(place) => Ok(*place),
        }
    }
}

impl Origin for Bundle {
    fn get_small(&self, url: &str, limit: u64) -> Result<Vec<u8>, NetworkError> {
        let place = self.find(url, limit)?;
        self.whole(place).map_err(NetworkError::Write)
    }

    fn download(
        &self,
        url: &str,
        sink: &mut dyn Sink,
        limit: u64,
        progress: &dyn Progress,
    ) -> Result<(), NetworkError> {
        let (at, size) = self.find(url, limit)?;
        progress.started(url.rsplit('/').next().unwrap_or(""), Some(size));
        let mut done = 0;
        let copied = self.each_part((at, size), &mut |part| {
            sink.write_all(part)?;
            done += part.len() as u64;
            progress.advanced(done);
            Ok(())
        });
        copied.map_err(NetworkError::Write)?;
        progress.finished();
        Ok(())
    }
}

/// Where each entry is. Anything that no bundle has makes it none.
fn table(file: &File) -> Result<BTreeMap<String, (u64, u64)>, SupplyError> {
    let malformed = |why: String| SupplyError::Malformed(why);
    let size = file
        .metadata()
        .map_err(|error| malformed(error.to_string()))?
        .len();
    let mut archive = tar::Archive::new(file);
    let mut entries = BTreeMap::new();
    let found = archive
        .entries_with_seek()
        .map_err(|error| malformed(error.to_string()))?;
    // Raw: else an entry that only names or describes the next one is read as a whole before it is seen here.
    for entry in found.raw(true) {
        let entry = entry.map_err(|error| malformed(error.to_string()))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let is_known = name == LOCK
            || name == CATALOG
            || name == CATALOG_SIGNATURE
            || name == SUMS
            || [PACKAGES, ROOTS].iter().any(|dir| name.starts_with(dir)) && !name.contains("..");
        if !is_known || !entry.header().entry_type().is_file() {
            return Err(malformed(format!("it has an entry `{}`", name.escape_default())));
        }
        let place = (entry.raw_file_position(), entry.size());
        if place.0.checked_add(place.1).is_none_or(|end| end > size) {
            return Err(malformed(format!("it ends within `{name}`")));
        }
        if entries.insert(name.clone(), place).is_some() || entries.len() > ENTRIES {
            return Err(malformed(format!("`{name}` is there twice, or too much is")));
        }
    }
    Ok(entries)
}

/// What a bundle is made of.
#[derive(Debug, Clone, Copy)]
pub struct Contents<'a> {
    /// The packages.
    pub lock: &'a LockFile,
    /// The facts.
    pub document: &'a Document,
    /// Whence they came, where somebody signed them.
    pub signed: Option<&'a SignedCatalog>,
}

/// A catalog as it was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCatalog {
    /// The very bytes.
    pub bytes: Vec<u8>,
    /// sigstore's JSON.
    pub signature: Vec<u8>,
}

/// Fetches what is locked from where it was, or from `base_url` where one is given, and writes a bundle of it.
pub fn create(
    supplier: &Supplier<'_>,
    contents: Contents<'_>,
    base_url: Option<&str>,
    out: &Path,
) -> Result<(), SupplyError> {
    let fail = |error| SupplyError::Io(IoError::new("write", out.display(), error));
    whole::write(out, fail, |file| {
        let mut writer = Writer {
            archive: tar::Builder::new(BufWriter::new(file)),
            sums: String::new(),
        };
        writer.text(LOCK, &contents.lock.render()).map_err(fail)?;
        writer.catalog(contents).map_err(fail)?;
        for (id, pem) in &contents.document.roots {
            writer.text(&format!("{ROOTS}{id}.pem"), pem).map_err(fail)?;
        }
        for locked in &contents.lock.package {
            let verified = supplier.locked(locked, base_url)?;
            let name = package_name(supplier.agent, locked);
            let signature = verified.signature();
            // A program for Windows has its signature inside.
            if !signature.is_empty() {
                let name = supplier.agent.signature_path(&name);
                writer
                    .add(&name, signature.len() as u64, signature)
                    .map_err(fail)?;
            }
            writer
                .add(&name, verified.size(), verified.file()?)
                .map_err(fail)?;
        }
        let sums = std::mem::take(&mut writer.sums);
        writer.text(SUMS, &sums).map_err(fail)?;
        let written = writer.archive.into_inner();
        written.and_then(|mut buffer| buffer.flush()).map_err(fail)
    })
}

fn package_name(agent: &AgentFacts, locked: &Locked) -> String {
    let path = agent.package_path(&locked.version, &locked.folder, locked.format);
    format!("{PACKAGES}{path}")
}

/// A line as sha256sum writes it.
fn sum(digest: &str, name: &str) -> String {
    format!("{digest}  {name}\n")
}

/// Writes entries that say nothing of when and by whom, and their digests.
struct Writer<W: Write> {
    archive: tar::Builder<W>,
    sums: String,
}

impl<W: Write> Writer<W> {
    fn catalog(&mut self, contents: Contents<'_>) -> io::Result<()> {
        let Some(SignedCatalog { bytes, signature }) = contents.signed else {
            return self.text(CATALOG, &contents.document.render());
        };
        self.add(CATALOG, bytes.len() as u64, bytes.as_slice())?;
        self.add(CATALOG_SIGNATURE, signature.len() as u64, signature.as_slice())
    }

    fn text(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.add(name, text.len() as u64, text.as_bytes())
    }

    fn add(&mut self, name: &str, size: u64, bytes: impl Read) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(NO_TIME);
        header.set_uid(0);
        header.set_gid(0);
        let mut hashing = Hashing(bytes.take(size), Sha256::new());
        self.archive.append_data(&mut header, name, &mut hashing)?;
        self.sums
            .push_str(&sum(&hex::encode(&hashing.1.finalize()), name));
        Ok(())
    }
}

struct Hashing<R>(R, Sha256);

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.update(&buffer[..count]);
        Ok(count)
    }
}
