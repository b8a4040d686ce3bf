//! The trust store of the Red Hat family, as `update-ca-trust` has p11-kit build it: anchors in a source directory,
//! bundles and a hash directory extracted from them. Bundles have no order of their own, so ours come last.

use super::bundle::{append_labelled, holds};
use super::directory::{LinkHashes, put_links};
use super::x509::{Certificate, pem_blocks};
use super::{Anchor, CERT_LIMIT, join};
use crate::error::IoError;
use crate::root::{Kind, Last, Root, RootPath};
use crate::txn::{ChangeSet, OnLink, Want};

/// The administrator's anchors.
pub const ANCHORS: &str = "/etc/pki/ca-trust/source/anchors";
/// The bundle for servers.
pub const TLS_BUNDLE: &str = "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem";
const EXTRACTED: &str = "/etc/pki/ca-trust/extracted";
/// An anchor is trusted for every purpose, so it is in all three.
const BUNDLES: [&str; 3] = [
    "tls-ca-bundle.pem",
    "email-ca-bundle.pem",
    "objsign-ca-bundle.pem",
];
const HASH_DIR: &str = "/etc/pki/ca-trust/extracted/pem/directory-hash";
/// Where the newest releases repeat the hash links.
const CERTS_DIR: &str = "/etc/pki/tls/certs";
/// Other extracts; nothing of ours reads them.
const PENDING: [&str; 3] = ["java/cacerts", "openssl/ca-bundle.trust.crt", "edk2/cacerts.bin"];
/// What the administrator or the distribution distrusts.
pub const BLOCKLISTS: [&str; 4] = [
    "/etc/pki/ca-trust/source/blocklist",
    "/etc/pki/ca-trust/source/blacklist",
    "/usr/share/pki/ca-trust-source/blocklist",
    "/usr/share/pki/ca-trust-source/blacklist",
];
/// Directories whose `.p11-kit` files may distrust.
pub const SOURCES: [&str; 2] = ["/etc/pki/ca-trust/source", "/usr/share/pki/ca-trust-source"];

/// Extracts that hold the new anchors only after the tree's own `update-ca-trust`.
pub fn pending(root: &Root) -> Result<Vec<RootPath>, IoError> {
    super::existing(root, PENDING.iter().map(|name| join(EXTRACTED, name)))
}

/// Adds to `set` what makes the tree trust `anchors`.
pub fn install(root: &Root, anchors: &[Anchor], set: &mut ChangeSet) -> Result<(), IoError> {
    for anchor in anchors {
        let pem = Want::file(anchor.pem.clone().into_bytes(), 0o644);
        set.put(
            root,
            &join(ANCHORS, &format!("{}.pem", anchor.name))?,
            OnLink::Refuse,
            pem,
        )?;
    }
    for name in BUNDLES {
        let path = join(&format!("{EXTRACTED}/pem"), name)?;
        if name == "tls-ca-bundle.pem" || root.meta(&path, Last::Follow)?.is_some() {
            append_labelled(root, &path, anchors, 0o444, set)?;
        }
    }
    install_hashed(root, HASH_DIR, anchors, set)?;
    install_copied_links(root, anchors, set)
}

/// p11-kit's hash directory: a file named after the label, and links by both hashes.
pub(super) fn install_hashed(
    root: &Root,
    dir: &str,
    anchors: &[Anchor],
    set: &mut ChangeSet,
) -> Result<(), IoError> {
    let place = RootPath::new(dir).map_err(|error| super::invalid(dir, error))?;
    if root
        .meta(&place, Last::Follow)?
        .is_none_or(|meta| meta.kind != Kind::Dir)
    {
        return Ok(());
    }
    for anchor in anchors {
        let Some(certificate) = pem_blocks(anchor.pem.as_bytes()).into_iter().next() else {
            continue;
        };
        let Some(name) = free_name(root, dir, &certificate, set)? else {
            continue;
        };
        let pem = Want::file(certificate.to_pem().into_bytes(), 0o444);
        set.put(root, &join(dir, &name)?, OnLink::Replace, pem)?;
        put_links(root, dir, &certificate, &name, LinkHashes::Both, set)?;
    }
    Ok(())
}

/// `LABEL.pem`, with a number where another certificate has that name; none where this one is there already.
fn free_name(
    root: &Root,
    dir: &str,
    certificate: &Certificate,
    set: &ChangeSet,
) -> Result<Option<String>, IoError> {
    let label: String = certificate
        .label()
        .chars()
        .map(|sign| {
            if sign.is_ascii_alphanumeric() || "._-".contains(sign) {
                sign
            } else {
                '_'
            }
        })
        .collect();
    for number in 0..100 {
        let name = match number {
            0 => format!("{label}.pem"),
            number => format!("{label}.{number}.pem"),
        };
        match set.read(root, &join(dir, &name)?, CERT_LIMIT)? {
            None => return Ok(Some(name)),
            Some(bytes) if holds(&bytes, certificate) => return Ok(None),
            Some(_) => {}
        }
    }
    Ok(None)
}

/// Only where the tree has such links already.
fn install_copied_links(root: &Root, anchors: &[Anchor], set: &mut ChangeSet) -> Result<(), IoError> {
    let dir = RootPath::fixed(CERTS_DIR);
    let mut prefix = None;
    for entry in root.read_dir(&dir)?.unwrap_or_default() {
        let is_hash = entry.name.len() == 10 && entry.name.ends_with(".0");
        let Ok(path) = dir.join(&entry.name) else { continue };
        if let Some(target) = root.read_link(&path)?.filter(|_| is_hash) {
            prefix = target
                .rsplit_once('/')
                .filter(|(dir, _)| dir.ends_with("directory-hash"))
                .map(|(dir, _)| dir.to_owned());
            break;
        }
    }
    let Some(prefix) = prefix else { return Ok(()) };
    for certificate in anchors
        .iter()
        .flat_map(|anchor| pem_blocks(anchor.pem.as_bytes()))
    {
        for hash in [certificate.subject_hash(), certificate.old_subject_hash()]
            .into_iter()
            .flatten()
        {
            let path = join(CERTS_DIR, &format!("{hash}.0"))?;
            if root.meta(&path, Last::Keep)?.is_none() {
                set.put(
                    root,
                    &path,
                    OnLink::Replace,
                    Want::link(format!("{prefix}/{hash}.0")),
                )?;
            }
        }
    }
    Ok(())
}
