//! Bundles: many certificates in one file. What is there stays to the byte; what is missing is added at the end.

use std::collections::{BTreeSet, HashSet};

use super::x509::{Certificate, pem_blocks};
use super::{Anchor, BUNDLE_LIMIT};
use crate::error::IoError;
use crate::root::{Root, RootPath};
use crate::txn::ChangeSet;

/// Whether `bytes` holds `certificate`.
pub(super) fn holds(bytes: &[u8], certificate: &Certificate) -> bool {
    pem_blocks(bytes).contains(certificate)
}

/// SHA-256 of every certificate in `bytes`, hex.
pub(super) fn digests(bytes: &[u8]) -> BTreeSet<String> {
    pem_blocks(bytes).iter().map(Certificate::sha256).collect()
}

/// The text of each block. Most files of a directory repeat a block of the bundle to the byte: they need no decoding.
pub(super) fn texts(bytes: &[u8]) -> HashSet<&[u8]> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text
            .split("-----BEGIN")
            .skip(1)
            .map(|block| block.trim_end().as_bytes())
            .collect(),
        // No bundle has it.
        Err(_) => HashSet::from([bytes]),
    }
}

/// As p11-kit writes it: a blank line, a comment with the label, the certificate.
pub(super) fn append_labelled(
    root: &Root,
    path: &RootPath,
    anchors: &[Anchor],
    new_mode: u32,
    set: &mut ChangeSet,
) -> Result<(), IoError> {
    append(root, path, anchors, new_mode, set, |text, certificate| {
        if !text.is_empty() {
            text.push(b'\n');
        }
        text.extend(format!("# {}\n", certificate.label()).bytes());
    })
}

/// The certificates alone.
pub(super) fn append_plain(
    root: &Root,
    path: &RootPath,
    anchors: &[Anchor],
    new_mode: u32,
    set: &mut ChangeSet,
) -> Result<(), IoError> {
    append(root, path, anchors, new_mode, set, |_, _| {})
}

fn append(
    root: &Root,
    path: &RootPath,
    anchors: &[Anchor],
    new_mode: u32,
    set: &mut ChangeSet,
    before_each: impl Fn(&mut Vec<u8>, &Certificate),
) -> Result<(), IoError> {
    let old = set.read(root, path, BUNDLE_LIMIT)?;
    let mut text = old.clone().unwrap_or_default();
    let there = digests(&text);
    if !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    let wanted = anchors
        .iter()
        .flat_map(|anchor| pem_blocks(anchor.pem.as_bytes()));
    let missing: Vec<Certificate> = wanted.filter(|one| !there.contains(&one.sha256())).collect();
    if missing.is_empty() && old.is_some() {
        return Ok(());
    }
    for certificate in &missing {
        before_each(&mut text, certificate);
        text.extend(certificate.to_pem().bytes());
    }
    set.edit(root, path, text, new_mode)
}

/// `text` without the certificate of `pem`, and without the comment that stands before it.
pub fn without(text: &str, pem: &str) -> String {
    let Some(certificate) = pem_blocks(pem.as_bytes()).into_iter().next() else {
        return text.to_owned();
    };
    let block = certificate.to_pem();
    let labelled = format!("\n# {}\n{block}", certificate.label());
    match text.contains(&labelled) {
        true => text.replacen(&labelled, "", 1),
        false => text.replacen(&block, "", 1),
    }
}
