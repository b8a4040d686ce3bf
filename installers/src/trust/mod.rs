//! Trust stores: which anchors a tree trusts, and what has to change so that it trusts more. Never removes one.

mod bundle;
pub mod debian;
mod directory;
pub mod el6;
pub mod p11kit;
pub mod suse;
pub mod x509;

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use ssmbake_manifests::TrustStore;

pub use bundle::without;

use crate::error::IoError;
use crate::root::{Last, Root, RootPath};
use crate::txn::ChangeSet;
use x509::{Certificate, pem_blocks};

const BUNDLE_LIMIT: usize = 32 * 1024 * 1024;
const CERT_LIMIT: usize = 1024 * 1024;

/// Where the agent looks for a bundle: the first that exists counts (Go's crypto/x509/root_linux.go).
pub const AGENT_BUNDLES: [&str; 6] = [
    debian::BUNDLE,
    el6::BUNDLE,
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    p11kit::TLS_BUNDLE,
    "/etc/ssl/cert.pem",
];
/// Whose certificate files the agent reads besides.
const AGENT_DIRS: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];

/// The bundles of a store, the usual one first; others may stand in for it.
pub fn bundles(store: TrustStore) -> &'static [&'static str] {
    match store {
        TrustStore::Debian => &[debian::BUNDLE],
        TrustStore::P11Kit | TrustStore::El6 => &[el6::BUNDLE, p11kit::TLS_BUNDLE],
        // No file.
        TrustStore::Registry => &[],
        TrustStore::Suse => &["/etc/ssl/ca-bundle.pem", "/var/lib/ca-certificates/ca-bundle.pem"],
    }
}

/// The bundle that the agent will read in the tree as `set` makes it.
fn agent_bundle(root: &Root, set: &ChangeSet) -> Result<Option<(RootPath, Vec<u8>)>, IoError> {
    for path in AGENT_BUNDLES {
        let path = RootPath::fixed(path);
        if let Some(bytes) = set.read(root, &path, BUNDLE_LIMIT)? {
            return Ok(Some((path, bytes)));
        }
    }
    Ok(None)
}

/// What a tree trusts and what its administrator distrusts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trusted {
    /// SHA-256 of the DER of every certificate that was found, hex.
    pub digests: BTreeSet<String>,
    /// Certificates in the bundle; none without a bundle.
    pub bundle_size: Option<usize>,
    /// The bundle, or the place where one should be.
    pub bundle: String,
    blocked: Vec<Blocked>,
}

/// An entry against a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blocked {
    path: RootPath,
    line: usize,
    /// The file that is meant, where a file is named.
    file: String,
    digests: Vec<String>,
}

/// What the agent would trust in `root`. The files beside the bundle, hundreds in most trees, are read only where it lacks
/// one of `wanted` (SHA-256 of the DER, hex).
pub fn trusted(root: &Root, store: TrustStore, wanted: &BTreeSet<String>) -> Result<Trusted, IoError> {
    let usual = bundles(store).first().copied().unwrap_or_default();
    let mut trusted = Trusted {
        bundle: usual.to_owned(),
        ..Trusted::default()
    };
    let mut whole = Vec::new();
    if let Some((path, bytes)) = agent_bundle(root, &ChangeSet::default())? {
        trusted.digests = bundle::digests(&bytes);
        trusted.bundle_size = Some(trusted.digests.len());
        trusted.bundle = path.to_string();
        whole = bytes;
    }
    if !wanted.is_subset(&trusted.digests) {
        let more = loose(root, &trusted.bundle, &bundle::texts(&whole))?;
        trusted.digests.extend(more);
    }
    trusted.blocked = match store {
        TrustStore::Debian => debian::blocked(root)?,
        TrustStore::P11Kit | TrustStore::El6 => distrusted(root, &p11kit::BLOCKLISTS, &p11kit::SOURCES)?,
        TrustStore::Suse => distrusted(root, &suse::BLOCKLISTS, &suse::SOURCES)?,
        TrustStore::Registry => Vec::new(),
    };
    Ok(trusted)
}

/// All that the agent would trust in `root`, DER: for connections such as it makes.
pub fn certificates(root: &Root) -> Result<Vec<Vec<u8>>, IoError> {
    let mut found = BTreeSet::new();
    let mut add = |bytes: &[u8]| found.extend(pem_blocks(bytes).into_iter().map(|one| one.der().to_vec()));
    if let Some((_, bytes)) = agent_bundle(root, &ChangeSet::default())? {
        add(&bytes);
    }
    for dir in AGENT_DIRS.map(RootPath::fixed) {
        for entry in root.read_dir(&dir)?.unwrap_or_default() {
            let Ok(path) = dir.join(&entry.name) else { continue };
            add(&root.read_if_file(&path, BUNDLE_LIMIT)?.unwrap_or_default());
        }
    }
    Ok(found.into_iter().collect())
}

/// Certificates in files of their own, but for those that `known` holds. Links within a directory lead to what is read anyway.
fn loose(root: &Root, bundle: &str, known: &HashSet<&[u8]>) -> Result<BTreeSet<String>, IoError> {
    let mut digests = BTreeSet::new();
    for dir in AGENT_DIRS {
        let dir = RootPath::fixed(dir);
        let links = root.links(&dir)?;
        for entry in root.read_dir(&dir)?.unwrap_or_default() {
            let Ok(path) = dir.join(&entry.name) else { continue };
            let is_local = links.get(&entry.name).is_some_and(|target| !target.contains('/'));
            if path.as_str() == bundle || is_local {
                continue;
            }
            let bytes = root.read_if_file(&path, BUNDLE_LIMIT)?.unwrap_or_default();
            if !bundle::texts(&bytes).is_subset(known) {
                digests.extend(bundle::digests(&bytes));
            }
        }
    }
    Ok(digests)
}

/// p11-kit's ways to distrust: files in a blocklist directory, and `.p11-kit` files that say so.
fn distrusted(
    root: &Root,
    lists: &[&'static str],
    sources: &[&'static str],
) -> Result<Vec<Blocked>, IoError> {
    let mut found = Vec::new();
    for (dir, is_list) in lists
        .iter()
        .map(|dir| (dir, true))
        .chain(sources.iter().map(|dir| (dir, false)))
    {
        let dir = RootPath::fixed(dir);
        for entry in root.read_dir(&dir)?.unwrap_or_default() {
            let Ok(path) = dir.join(&entry.name) else { continue };
            if !(is_list || entry.name.ends_with(".p11-kit")) {
                continue;
            }
            let Some(bytes) = root.read_if_file(&path, BUNDLE_LIMIT)? else {
                continue;
            };
            for (line, certificates) in distrusted_in(&bytes, is_list) {
                found.push(Blocked {
                    path: path.clone(),
                    line,
                    file: String::new(),
                    digests: certificates.iter().map(Certificate::sha256).collect(),
                });
            }
        }
    }
    Ok(found)
}

/// Line, from 1, and certificates of each entry against some. A blocklist's files mean all that they hold.
fn distrusted_in(bytes: &[u8], is_list: bool) -> Vec<(usize, Vec<Certificate>)> {
    if is_list {
        let mut certificates = pem_blocks(bytes);
        if certificates.is_empty() {
            certificates = Certificate::read_ca_file(bytes).unwrap_or_default();
        }
        return vec![(1, certificates)];
    }
    let text = String::from_utf8_lossy(bytes);
    let mut entries: Vec<(usize, String)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("[p11-kit-object") || entries.is_empty() {
            entries.push((number + 1, String::new()));
        }
        if let Some((_, entry)) = entries.last_mut() {
            entry.push_str(line);
            entry.push('\n');
        }
    }
    let is_against = |entry: &str| {
        let mut fields = entry.lines().filter_map(|line| line.split_once(':'));
        fields.any(|(key, value)| key.trim() == "x-distrusted" && value.trim() == "true")
    };
    let entries = entries.into_iter().filter(|(_, entry)| is_against(entry));
    entries
        .map(|(line, entry)| (line, pem_blocks(entry.as_bytes())))
        .collect()
}

/// How the tree stands to the certificate with this digest, known to Debian as `mozilla/STEM.crt`. The administrator
/// names it by its file or by the bytes of another.
pub fn anchor_state(trusted: &Trusted, sha256: &str, mozilla_stem: &str) -> AnchorState {
    let file = format!("{mozilla_stem}.crt");
    let is_meant = |one: &&Blocked| {
        one.file.rsplit('/').next() == Some(&file) || one.digests.iter().any(|digest| digest == sha256)
    };
    if let Some(Blocked { path, line, .. }) = trusted.blocked.iter().find(is_meant) {
        return AnchorState::Blocked {
            path: path.clone(),
            line: *line,
        };
    }
    match trusted.digests.contains(sha256) {
        true => AnchorState::Trusted,
        false => AnchorState::Missing,
    }
}

/// Programs and extracts of the tree that keep further stores; they follow at the next run of [`tool`].
pub fn pending(root: &Root, store: TrustStore) -> Result<Vec<RootPath>, IoError> {
    match store {
        TrustStore::Debian => debian::hooks(root),
        TrustStore::P11Kit => p11kit::pending(root),
        TrustStore::El6 => el6::pending(root),
        TrustStore::Suse => suse::pending(root),
        TrustStore::Registry => Ok(Vec::new()),
    }
}

/// The tree's own tool.
pub fn tool(store: TrustStore) -> &'static str {
    match store {
        TrustStore::P11Kit | TrustStore::El6 => "update-ca-trust",
        TrustStore::Debian | TrustStore::Suse => "update-ca-certificates",
        TrustStore::Registry => "certutil",
    }
}

/// Adds to `set` what makes the tree, and the agent in it, trust `anchors`.
pub fn install(
    root: &Root,
    store: TrustStore,
    anchors: &[Anchor],
    set: &mut ChangeSet,
) -> Result<(), IoError> {
    match store {
        TrustStore::Debian => debian::install(root, anchors, set)?,
        TrustStore::P11Kit => p11kit::install(root, anchors, set)?,
        TrustStore::El6 => el6::install(root, anchors, set)?,
        TrustStore::Suse => suse::install(root, anchors, set)?,
        TrustStore::Registry => {}
    }
    // The agent reads the first bundle that exists, which in an unusual tree is not the store's.
    match agent_bundle(root, set)? {
        Some((path, _)) => bundle::append_plain(root, &path, anchors, 0o644, set),
        None => Ok(()),
    }
}

/// The anchors that the agent would not find in the tree as `set` makes it.
pub fn missing<'a>(root: &Root, anchors: &'a [Anchor], set: &ChangeSet) -> Result<Vec<&'a str>, IoError> {
    let there = agent_bundle(root, set)?
        .map(|(_, bytes)| bundle::digests(&bytes))
        .unwrap_or_default();
    let missing = anchors.iter().filter(|anchor| !there.contains(&anchor.sha256));
    Ok(missing.map(|anchor| anchor.label.as_str()).collect())
}

/// Those of `paths` that are there.
fn existing(
    root: &Root,
    paths: impl Iterator<Item = Result<RootPath, IoError>>,
) -> Result<Vec<RootPath>, IoError> {
    let mut found = Vec::new();
    for path in paths {
        let path = path?;
        if root.meta(&path, Last::Follow)?.is_some() {
            found.push(path);
        }
    }
    Ok(found)
}

fn join(dir: &str, name: &str) -> Result<RootPath, IoError> {
    RootPath::new(&format!("{dir}/{name}")).map_err(|error| invalid(name, error))
}

fn invalid(name: &str, error: crate::root::PathError) -> IoError {
    IoError::new(
        "name",
        name,
        std::io::Error::new(std::io::ErrorKind::InvalidInput, error),
    )
}

/// A trust anchor to install.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// File stem in the store: `ssmbake-amazon-root-ca-1`, or the stem of the user's own file.
    pub name: String,
    /// What people call it.
    pub label: String,
    /// SHA-256 of the DER, hex.
    pub sha256: String,
    /// The certificate.
    pub pem: String,
}

/// How a tree stands to one anchor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum AnchorState {
    /// In the bundle.
    Trusted,
    /// Not there.
    Missing,
    /// The administrator distrusts it, in this file and line.
    Blocked {
        /// The file.
        path: RootPath,
        /// From 1.
        line: usize,
    },
}
