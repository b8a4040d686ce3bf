//! SUSE's trust store, as its `update-ca-certificates` has p11-kit build it below /var/lib/ca-certificates.

use super::bundle::append_labelled;
use super::directory::{LinkHashes, put_links};
use super::x509::pem_blocks;
use super::{Anchor, join, p11kit};
use crate::error::IoError;
use crate::root::{Kind, Last, Root, RootPath};
use crate::txn::{ChangeSet, OnLink, Want};

/// The administrator's anchors.
pub const ANCHORS: &str = "/etc/pki/trust/anchors";
const BUNDLE: &str = "/var/lib/ca-certificates/ca-bundle.pem";
const LINK: &str = "/etc/ssl/ca-bundle.pem";
const HASH_DIR: &str = "/var/lib/ca-certificates/pem";
const CERTS_DIR: &str = "/etc/ssl/certs";
const PENDING: [&str; 2] = [
    "/var/lib/ca-certificates/java-cacerts",
    "/var/lib/ca-certificates/openssl",
];
/// What the administrator or the distribution distrusts.
pub const BLOCKLISTS: [&str; 4] = [
    "/etc/pki/trust/blocklist",
    "/etc/pki/trust/blacklist",
    "/usr/share/pki/trust/blocklist",
    "/usr/share/pki/trust/blacklist",
];
/// Directories whose `.p11-kit` files may distrust.
pub const SOURCES: [&str; 2] = ["/etc/pki/trust", "/usr/share/pki/trust"];

/// Extracts that hold the new anchors only after the tree's own `update-ca-certificates`.
pub fn pending(root: &Root) -> Result<Vec<RootPath>, IoError> {
    super::existing(root, PENDING.iter().map(|path| Ok(RootPath::fixed(path))))
}

/// Adds to `set` what makes the tree trust `anchors`.
pub fn install(root: &Root, anchors: &[Anchor], set: &mut ChangeSet) -> Result<(), IoError> {
    let certs = root.meta(&RootPath::fixed(CERTS_DIR), Last::Keep)?;
    for anchor in anchors {
        let name = format!("{}.pem", anchor.name);
        let pem = || Want::file(anchor.pem.clone().into_bytes(), 0o644);
        set.put(root, &join(ANCHORS, &name)?, OnLink::Refuse, pem())?;
        // A real directory, which the tool would push aside, is read all the same.
        if certs.is_some_and(|meta| meta.kind == Kind::Dir) {
            set.put(root, &join(CERTS_DIR, &name)?, OnLink::Refuse, pem())?;
            if let Some(certificate) = pem_blocks(anchor.pem.as_bytes()).first() {
                put_links(root, CERTS_DIR, certificate, &name, LinkHashes::Both, set)?;
            }
        }
    }
    append_labelled(root, &RootPath::fixed(BUNDLE), anchors, 0o444, set)?;
    // The package's own link, by which everybody finds the bundle.
    let link = RootPath::fixed(LINK);
    if root.meta(&link, Last::Keep)?.is_none() {
        set.put(root, &link, OnLink::Replace, Want::link(format!("../..{BUNDLE}")))?;
    }
    p11kit::install_hashed(root, HASH_DIR, anchors, set)
}
