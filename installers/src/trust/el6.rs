//! The trust store of EL 6 and Amazon Linux 1: a plain bundle, which `update-ca-trust` takes over only once somebody has
//! enabled it.

use super::bundle::append_plain;
use super::directory::{LinkHashes, put_links};
use super::x509::pem_blocks;
use super::{Anchor, join, p11kit};
use crate::error::IoError;
use crate::root::{Last, Root, RootPath};
use crate::txn::{ChangeSet, OnLink, Want};

/// The bundle that everything reads.
pub const BUNDLE: &str = "/etc/pki/tls/certs/ca-bundle.crt";
const CERTS_DIR: &str = "/etc/pki/tls/certs";

/// Whether `update-ca-trust enable` was run: the bundle is a link to what it extracts.
fn is_enabled(root: &Root) -> Result<bool, IoError> {
    let bundle = root.canonical(&RootPath::fixed(BUNDLE), Last::Follow)?;
    Ok(bundle == root.canonical(&RootPath::fixed(p11kit::TLS_BUNDLE), Last::Follow)?)
}

/// As in the newer releases once it is enabled.
pub fn pending(root: &Root) -> Result<Vec<RootPath>, IoError> {
    if is_enabled(root)? {
        p11kit::pending(root)
    } else {
        Ok(Vec::new())
    }
}

/// Adds to `set` what makes the tree trust `anchors`.
pub fn install(root: &Root, anchors: &[Anchor], set: &mut ChangeSet) -> Result<(), IoError> {
    if is_enabled(root)? {
        return p11kit::install(root, anchors, set);
    }
    let source = RootPath::fixed(p11kit::ANCHORS);
    for anchor in anchors {
        let name = format!("{}.pem", anchor.name);
        let pem = || Want::file(anchor.pem.clone().into_bytes(), 0o644);
        // The agent reads the directory, too: the file outlives an update of the package that owns the bundle.
        set.put(root, &join(CERTS_DIR, &name)?, OnLink::Refuse, pem())?;
        if let Some(certificate) = pem_blocks(anchor.pem.as_bytes()).first() {
            put_links(root, CERTS_DIR, certificate, &name, LinkHashes::New, set)?;
        }
        // For the day on which somebody enables it.
        if root.meta(&source, Last::Follow)?.is_some() {
            set.put(root, &join(p11kit::ANCHORS, &name)?, OnLink::Refuse, pem())?;
        }
    }
    append_plain(root, &RootPath::fixed(BUNDLE), anchors, 0o644, set)
}
