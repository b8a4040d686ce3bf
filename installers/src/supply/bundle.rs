//! A bundle: everything that `apply` needs, in one tar file for places without a network. The same lock gives the same bytes.
//!
//! | entry | what |
//! |---|---|
//! | `ssmbake.lock` | which packages are in it |
//! | `catalog.json` | all facts, keys and roots among them |
//! | `roots/ID.pem` | the trust anchors, for people and other tools |
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

use ssmbake_manifests::{AgentFacts, Catalog, Document};

use super::lockfile::{LockFile, Locked};
use super::{Supplier, SupplyError};
use crate::acquire::{NetworkError, Origin, Progress, Sink};
use crate::error::IoError;
use crate::positioned::read_exact_at;

/// The base URL of what lies in a bundle.
pub const BASE: &str = "bundle:";

const LOCK: &str = "ssmbake.lock";
const CATALOG: &str = "catalog.json";
const PACKAGES: &str = "packages/";
const ROOTS: &str = "roots/";
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

    fn small(&self, name: &str) -> Result<Vec<u8>, SupplyError> {
        let Some((at, size)) = self.entries.get(name) else {
            return Err(SupplyError::Malformed(format!("it has no `{name}`")));
        };
        if *size > SMALL {
            return Err(SupplyError::Malformed(format!("`{name}` is too large")));
        }
        let mut bytes = vec![0; usize::try_from(*size).unwrap_or(0)];
        read_exact_at(&self.file, &mut bytes, *at)
            .map_err(|error| SupplyError::Malformed(format!("`{name}`: {error}")))?;
        Ok(bytes)
    }

    /// Checks every package as `apply` will, and that roots and facts agree.
    pub fn verify(&self, supplier: &Supplier<'_>) -> Result<(), SupplyError> {
        let supplier = Supplier {
            origin: self,
            ..*supplier
        };
        for locked in &self.lock.package {
            supplier.locked(locked, Some(BASE))?;
        }
        let document = Document::parse(&self.catalog()?)
            .and_then(|document| Catalog::of(document.clone()).map(|_| document))
            .map_err(|error| SupplyError::Malformed(error.to_string()))?;
        for name in self.entries.keys() {
            let Some(id) = name
                .strip_prefix(ROOTS)
                .and_then(|name| name.strip_suffix(".pem"))
            else {
                continue;
            };
            if document.roots.get(id).map(String::as_bytes) != Some(&self.small(name)?) {
                let why = format!("`{name}` is not the one in `{CATALOG}`");
                return Err(SupplyError::Malformed(why));
            }
        }
        Ok(())
    }

    fn find(&self, url: &str) -> Result<(u64, u64), NetworkError> {
        let name = url.strip_prefix(BASE).map(|path| path.trim_start_matches('/'));
        let entry = name.and_then(|name| self.entries.get(&format!("{PACKAGES}{name}")));
        entry
            .copied()
            .ok_or_else(|| NetworkError::NotInBundle(url.to_owned()))
    }
}

impl Origin for Bundle {
    fn get_small(&self, url: &str, limit: u64) -> Result<Vec<u8>, NetworkError> {
        let mut bytes = Buffer(Vec::new());
        self.download(url, &mut bytes, limit, &Quiet)?;
        Ok(bytes.0)
    }

    fn download(
        &self,
        url: &str,
        sink: &mut dyn Sink,
        limit: u64,
        progress: &dyn Progress,
    ) -> Result<(), NetworkError> {
        let (mut at, size) = self.find(url)?;
        if size > limit {
            return Err(NetworkError::TooLarge {
                url: url.to_owned(),
                limit,
            });
        }
        progress.started(url.rsplit('/').next().unwrap_or(""), Some(size));
        let end = at + size;
        let mut buffer = vec![0; 256 * 1024];
        while at < end {
            let count = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
            let part = &mut buffer[..count];
            read_exact_at(&self.file, part, at)
                .map_err(|error| NetworkError::Setup(format!("the bundle ends too early: {error}")))?;
            sink.write_all(part).map_err(NetworkError::Write)?;
            at += count as u64;
            progress.advanced(size - (end - at));
        }
        progress.finished();
        Ok(())
    }
}

struct Buffer(Vec<u8>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Buffer {
    fn restart(&mut self) -> io::Result<()> {
        self.0.clear();
        Ok(())
    }
}

/// Nobody waits for a small file.
struct Quiet;

impl Progress for Quiet {
    fn started(&self, _what: &str, _total: Option<u64>) {}
    fn advanced(&self, _total: u64) {}
    fn retrying(&self, _attempt: u32, _why: &str) {}
    fn finished(&self) {}
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
    for entry in found {
        let entry = entry.map_err(|error| malformed(error.to_string()))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let is_known = name == LOCK
            || name == CATALOG
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
}

/// Fetches what is locked from where it was, or from `base_url` where one is given, and writes a bundle of it.
pub fn create(
    supplier: &Supplier<'_>,
    contents: Contents<'_>,
    base_url: Option<&str>,
    out: &Path,
) -> Result<(), SupplyError> {
    let fail = |error| SupplyError::Io(IoError::new("write", out.display(), error));
    let temp = out.with_extension(format!("new-{}", std::process::id()));
    let written = (|| {
        let mut archive = tar::Builder::new(BufWriter::new(File::create(&temp).map_err(fail)?));
        let text = contents.lock.render();
        append(&mut archive, LOCK, text.len() as u64, text.as_bytes()).map_err(fail)?;
        let text = contents.document.render();
        append(&mut archive, CATALOG, text.len() as u64, text.as_bytes()).map_err(fail)?;
        for (id, pem) in &contents.document.roots {
            let name = format!("{ROOTS}{id}.pem");
            append(&mut archive, &name, pem.len() as u64, pem.as_bytes()).map_err(fail)?;
        }
        for locked in &contents.lock.package {
            let verified = supplier.locked(locked, base_url)?;
            let name = package_name(supplier.agent, locked);
            let signature = verified.signature();
            let signature_name = supplier.agent.signature_path(&name);
            // A program for Windows has its signature inside.
            if !signature.is_empty() {
                append(&mut archive, &signature_name, signature.len() as u64, signature).map_err(fail)?;
            }
            append(&mut archive, &name, verified.size(), verified.file()?).map_err(fail)?;
        }
        let file = archive
            .into_inner()
            .and_then(|writer| writer.into_inner().map_err(|error| error.into_error()));
        file.and_then(|file| file.sync_all()).map_err(fail)?;
        std::fs::rename(&temp, out).map_err(fail)
    })();
    if written.is_err() {
        // What is left of it is of no use to anybody; that it cannot be removed is not the news.
        drop(std::fs::remove_file(&temp));
    }
    written
}

fn package_name(agent: &AgentFacts, locked: &Locked) -> String {
    let path = agent.package_path(&locked.version, &locked.folder, locked.format);
    format!("{PACKAGES}{path}")
}

fn append(archive: &mut tar::Builder<impl Write>, name: &str, size: u64, bytes: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(NO_TIME);
    header.set_uid(0);
    header.set_gid(0);
    archive.append_data(&mut header, name, bytes.take(size))
}
