//! Directories of certificates with links by subject hash, as OpenSSL looks certificates up.

use super::x509::{Certificate, pem_blocks};
use super::{CERT_LIMIT, join};
use crate::error::IoError;
use crate::root::{Last, Root};
use crate::txn::{ChangeSet, OnLink, Want};

/// Which hashes a directory is looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkHashes {
    /// Of OpenSSL since 1.0.0.
    New,
    /// And of 0.9.8.
    Both,
}

/// The first free `HASH.n` of each hash, unless one leads to the same certificate already.
pub(super) fn put_links(
    root: &Root,
    dir: &str,
    certificate: &Certificate,
    target: &str,
    hashes: LinkHashes,
    set: &mut ChangeSet,
) -> Result<(), IoError> {
    let old = certificate
        .old_subject_hash()
        .filter(|_| hashes == LinkHashes::Both);
    for hash in certificate.subject_hash().into_iter().chain(old) {
        put_link(root, dir, certificate, target, &hash, set)?;
    }
    Ok(())
}

fn put_link(
    root: &Root,
    dir: &str,
    certificate: &Certificate,
    target: &str,
    hash: &str,
    set: &mut ChangeSet,
) -> Result<(), IoError> {
    for number in 0..100 {
        let path = join(dir, &format!("{hash}.{number}"))?;
        let place = root.canonical(&path, Last::Keep)?;
        let is_taken = set.get(&place).is_some();
        let is_same = root.read_link(&path)?.as_deref() == Some(target);
        if !is_taken && (is_same || root.meta(&path, Last::Keep)?.is_none()) {
            return set
                .put(root, &path, OnLink::Replace, Want::link(target))
                .map(drop);
        }
        if is_taken {
            continue;
        }
        let bytes = root.read(&path, CERT_LIMIT)?.unwrap_or_default();
        if pem_blocks(&bytes).first() == Some(certificate) {
            return Ok(());
        }
    }
    Ok(())
}
