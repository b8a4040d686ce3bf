//! What AWS's own tools take from a bucket besides packages: the list of its releases, the archives that agents update
//! themselves from, and ssm-setup-cli.
//!
//! The list is unsigned, so that it says so makes little count: an archive has to hold the very package whose signature was
//! verified, or a program of the publisher. The scripts beside it and the updater for Linux are signed nowhere; their digests
//! come from the list, which therefore has to come over TLS.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Cursor, Read, Seek};

use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use ssmbake_manifests::{AgentVersion, PackageFormat, hex};
use zip::ZipArchive;

use super::{Locked, Supplier, SupplyError};
use crate::acquire::openpgp::{Check, KeyRing};
use crate::acquire::store::{self, Fetched};
use crate::acquire::{self, AcquireError, NetworkError, authenticode};
use crate::digest::read_through;

/// ssm-agent-manifest.json. Words that are not here are not passed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ReleaseList {
    schema_version: String,
    uri_format: String,
    packages: Vec<ListedPackage>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedPackage {
    name: String,
    files: Vec<ListedFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedFile {
    name: String,
    available_versions: Vec<ListedVersion>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedVersion {
    version: String,
    // The agent reads it in either spelling.
    #[serde(alias = "CheckSum")]
    checksum: String,
    #[serde(default)]
    status: String,
}

impl Default for ReleaseList {
    fn default() -> Self {
        Self {
            schema_version: "1.0".to_owned(),
            uri_format: String::new(),
            packages: Vec::new(),
        }
    }
}

/// A line of the list: one archive of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Its path below the bucket's base URL.
    pub path: String,
    /// SHA-256, hex.
    pub sha256: String,
    name: String,
    file: String,
    line: ListedVersion,
}

impl ReleaseList {
    /// Reads one.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The file's bytes.
    pub fn render(&self) -> Vec<u8> {
        // Texts and lists cannot fail to serialise.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// The line about the archive `name` at `path`.
    fn find(&self, name: &str, path: String, version: AgentVersion) -> Option<Listing> {
        let (_, file) = path.rsplit_once('/')?;
        let package = self.packages.iter().find(|package| package.name == name)?;
        let listed = package.files.iter().find(|listed| listed.name == file)?;
        let version = version.to_string();
        let mut lines = listed.available_versions.iter();
        let line = lines.find(|line| line.version == version)?.clone();
        Some(Listing {
            sha256: line.checksum.to_ascii_lowercase(),
            name: name.to_owned(),
            file: file.to_owned(),
            line,
            path,
        })
    }

    /// Adds a line, or puts it in the place of the one about the same archive.
    pub fn add(&mut self, listing: &Listing) {
        let package = ListedPackage {
            name: listing.name.clone(),
            files: Vec::new(),
        };
        let files = &mut entry(&mut self.packages, |one| one.name == listing.name, package).files;
        let file = ListedFile {
            name: listing.file.clone(),
            available_versions: Vec::new(),
        };
        let lines = &mut entry(files, |one| one.name == listing.file, file).available_versions;
        lines.retain(|line| line.version != listing.line.version);
        lines.push(listing.line.clone());
        lines.sort_by_key(|line| line.version.parse::<AgentVersion>().ok());
        files.sort_by(|one, other| one.name.cmp(&other.name));
        self.packages.sort_by(|one, other| one.name.cmp(&other.name));
    }

    /// Where its files are.
    pub fn set_uri(&mut self, uri: &str) {
        uri.clone_into(&mut self.uri_format);
    }
}

/// The element that there is, else `new`.
fn entry<T>(list: &mut Vec<T>, is_it: impl FnMut(&T) -> bool, new: T) -> &mut T {
    let place = list.iter().position(is_it).unwrap_or_else(|| {
        list.push(new);
        list.len() - 1
    });
    &mut list[place]
}

impl Supplier<'_> {
    /// The bucket's list of releases.
    pub fn releases(&self, base_url: &str) -> Result<ReleaseList, SupplyError> {
        let url = format!("{base_url}/{}", self.agent.download.manifest);
        if !url.starts_with("https://") {
            return Err(SupplyError::PlainList { url });
        }
        let bytes = self.origin.get_small(&url, self.agent.limits.manifest_bytes);
        let bytes = bytes.map_err(AcquireError::from)?;
        ReleaseList::parse(&bytes).map_err(|error| SupplyError::List {
            url,
            why: error.to_string(),
        })
    }

    /// What `list` says about the archives of a package: the one that holds it, and the updater's.
    pub fn listings(&self, list: &ReleaseList, locked: &Locked) -> Result<Vec<Listing>, SupplyError> {
        let names = [&self.agent.update.package, &self.agent.update.updater];
        let listing = |name: &String| {
            let path = self.agent.archive_path(name, &locked.version, &locked.folder);
            let found = path.and_then(|path| list.find(name, path, locked.version));
            found.ok_or_else(|| SupplyError::Unlisted {
                name: name.clone(),
                version: locked.version,
                folder: locked.folder.clone(),
            })
        };
        names.into_iter().map(listing).collect()
    }

    /// An archive, with in it what it should have.
    pub fn archive(
        &self,
        base_url: &str,
        listing: &Listing,
        locked: &Locked,
    ) -> Result<Fetched, SupplyError> {
        let url = format!("{base_url}/{}", listing.path);
        let refuse = |why: String| SupplyError::Archive {
            url: url.clone(),
            why,
        };
        let pin =
            hex::digest(&listing.sha256).ok_or_else(|| refuse("the list has no SHA-256 of it".into()))?;
        let verify = |source| AcquireError::Verify {
            url: url.clone(),
            source,
        };
        let check = Check::pinned(pin).map_err(verify)?;
        let fetched = self.plain(&url, Vec::new(), check)?;
        let file = store::rewound(&fetched.file).map_err(|error| refuse(error.to_string()))?;
        let limits = self.agent.limits;
        let judged = match locked.format {
            PackageFormat::Exe => {
                let program = self.agent.update.program.get(&listing.name);
                let program = program.map_or("", String::as_str);
                // Programs are judged in memory.
                holds_program(file, program, self.ring, locked.version, limits.package_bytes)
            }
            _ if listing.name == self.agent.update.package => {
                let name = self.agent.package_file_name(locked.format);
                holds_package(file, name, &locked.sha256, limits.unpacked_bytes)
            }
            // Signed nowhere.
            _ => Ok(()),
        };
        judged.map_err(refuse)?;
        Ok(fetched)
    }

    /// AWS's own installer; none where the bucket has no signature of it.
    pub fn setup_cli(&self, base_url: &str, locked: &Locked) -> Result<Option<Fetched>, SupplyError> {
        let path = self.agent.setup_cli_path(&locked.folder, locked.format);
        let url = format!("{base_url}/{path}");
        if locked.format == PackageFormat::Exe {
            let limit = self.agent.limits.package_bytes;
            let (origin, ring) = (self.origin, self.ring);
            let (fetched, _) =
                acquire::signed_program(origin, ring, &url, limit, self.temp_dir, self.progress)?;
            return Ok(Some(fetched));
        }
        let limit = self.agent.limits.signature_bytes;
        let signature = match self.origin.get_small(&self.agent.signature_path(&url), limit) {
            Err(NetworkError::NotFound { .. }) => return Ok(None),
            other => other.map_err(AcquireError::from)?,
        };
        let verify = |source| AcquireError::Verify {
            url: url.clone(),
            source,
        };
        let check = self.ring.begin(&signature).map_err(verify)?;
        let fetched = self.plain(&url, signature, check)?;
        Ok(Some(fetched))
    }
}

/// Whether the archive has the package `name` and no other bytes under that name: what is verified is what is unpacked, also by
/// programs that read on after a member of gzip's or after the end that a tar names.
fn holds_package(archive: &File, name: &str, sha256: &str, limit: u64) -> Result<(), String> {
    let mut tar = tar::Archive::new(MultiGzDecoder::new(archive).take(limit));
    let mut found = None;
    let mut names = BTreeSet::new();
    for entry in tar.entries().map_err(|error| error.to_string())? {
        let mut entry = entry.map_err(|error| error.to_string())?;
        let path = entry.path().map_err(|error| error.to_string())?;
        let is_package = path.file_name().is_some_and(|last| last == name);
        let shown = path.display().to_string();
        if !names.insert(path.into_owned()) {
            return Err(format!("`{shown}` is in it twice"));
        }
        if !is_package {
            continue;
        }
        if found.is_some() || !entry.header().entry_type().is_file() {
            return Err(format!("`{name}` is in it twice, or is no file"));
        }
        let mut hash = Sha256::new();
        read_through(&mut entry, |bytes| hash.update(bytes)).map_err(|error| error.to_string())?;
        found = Some(hex::encode(&hash.finalize()));
    }
    let mut rest = tar.into_inner();
    let mut is_more = false;
    let read = read_through(&mut rest, |bytes| is_more |= bytes.iter().any(|byte| *byte != 0));
    read.map_err(|error| error.to_string())?;
    if rest.limit() == 0 {
        return Err(format!("it unpacks to more than {limit} bytes"));
    }
    if is_more {
        return Err("bytes follow its end".to_owned());
    }
    match found {
        Some(found) if found == sha256 => Ok(()),
        Some(found) => Err(format!(
            "`{name}` in it has the SHA-256 {found}, the signed one has {sha256}"
        )),
        None => Err(format!("`{name}` is not in it")),
    }
}

/// The program `name` of a zip archive, or of an archive in it, has to be the publisher's, and of no other version.
fn holds_program(
    archive: impl Read + Seek,
    name: &str,
    ring: &KeyRing,
    version: AgentVersion,
    limit: u64,
) -> Result<(), String> {
    let program =
        find_program(archive, name, limit, true)?.ok_or_else(|| format!("`{name}` is not in it"))?;
    let judged = ring.judge_program(&program);
    judged.map_err(|error| format!("`{name}` in it: {error}"))?;
    // An old program with a good signature is a downgrade that nobody asked for.
    match authenticode::version(&program).filter(|found| *found != version) {
        Some(found) => Err(format!("`{name}` in it is of version {found}")),
        None => Ok(()),
    }
}

fn find_program(
    archive: impl Read + Seek,
    name: &str,
    limit: u64,
    is_outer: bool,
) -> Result<Option<Vec<u8>>, String> {
    let mut zip = ZipArchive::new(archive).map_err(|error| error.to_string())?;
    let mut found = None;
    for number in 0..zip.len() {
        let member = zip.by_index(number).map_err(|error| error.to_string())?;
        let member_name = member.name().map_err(|error| error.to_string())?;
        let member_name = member_name.to_ascii_lowercase();
        let last = member_name.rsplit(['/', '\\']).next().unwrap_or_default();
        let is_program = last == name;
        let is_archive = is_outer && last.ends_with(".zip");
        if !is_program && !is_archive {
            continue;
        }
        let mut bytes = Vec::new();
        let read = member.take(limit + 1).read_to_end(&mut bytes);
        if read.map_err(|error| error.to_string())? as u64 > limit {
            return Err(format!("`{last}` in it unpacks to more than {limit} bytes"));
        }
        let here = match is_program {
            true => Some(bytes),
            false => find_program(Cursor::new(bytes), name, limit, false)?,
        };
        if here.is_some() && found.is_some() {
            return Err(format!("`{name}` is in it twice"));
        }
        found = found.or(here);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};

    #[test]
    fn an_archive_that_reaches_the_limit_is_refused() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        header.set_cksum();
        tar.append_data(&mut header, "package", &b"good"[..]).unwrap();
        let bytes = tar.into_inner().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        let mut gzip = flate2::write::GzEncoder::new(&file, flate2::Compression::fast());
        gzip.write_all(&bytes).unwrap();
        gzip.finish().unwrap();
        let digest = hex::encode(&Sha256::digest(b"good"));
        // Within the package, at its end, and where all of it is read.
        for (limit, is_good) in [(514, false), (1024, false), (2048, false), (2049, true)] {
            file.rewind().unwrap();
            let judged = holds_package(&file, "package", &digest, limit);
            assert_eq!(judged.is_ok(), is_good, "{limit}: {judged:?}");
        }
    }
}
