//! Debian's trust store, as `update-ca-certificates` builds it: anchors, links, hash links, bundle.

use super::directory::{LinkHashes, put_links};
use super::x509::{Certificate, pem_blocks};
use super::{Anchor, BUNDLE_LIMIT, Blocked, CERT_LIMIT, join};
use crate::error::IoError;
use crate::root::{Kind, Last, Root, RootPath};
use crate::txn::{ChangeSet, OnLink, Want};

/// The bundle that Go, OpenSSL, curl and GnuTLS read.
pub const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Links and hash links.
pub const CERTS_DIR: &str = "/etc/ssl/certs";
/// The administrator's anchors.
pub const LOCAL_DIR: &str = "/usr/local/share/ca-certificates";
/// Which of the distribution's certificates are trusted.
pub const CONF: &str = "/etc/ca-certificates.conf";
const VENDOR_DIR: &str = "/usr/share/ca-certificates";
const HOOKS: &str = "/etc/ca-certificates/update.d";
/// Directories below the local one; nobody nests deeper.
const DEPTH: usize = 8;

/// What `update-ca-certificates` would run after its own work. We run nothing of the tree.
pub fn hooks(root: &Root) -> Result<Vec<RootPath>, IoError> {
    let dir = RootPath::fixed(HOOKS);
    let mut found = Vec::new();
    for entry in root.read_dir(&dir)?.unwrap_or_default() {
        let Ok(path) = dir.join(&entry.name) else { continue };
        let is_program = root
            .meta(&path, Last::Follow)?
            .is_some_and(|meta| meta.kind == Kind::File && meta.mode & 0o111 != 0);
        found.extend(is_program.then_some(path));
    }
    Ok(found)
}

/// What the configuration file says against certificates.
pub(super) fn blocked(root: &Root) -> Result<Vec<Blocked>, IoError> {
    let conf = root
        .read(&RootPath::fixed(CONF), BUNDLE_LIMIT)?
        .unwrap_or_default();
    let mut found = Vec::new();
    for (number, line) in String::from_utf8_lossy(&conf).lines().enumerate() {
        let Some(file) = line.strip_prefix('!').map(str::trim) else {
            continue;
        };
        found.push(Blocked {
            path: RootPath::fixed(CONF),
            line: number + 1,
            file: file.to_owned(),
            digests: vendor_digests(root, file)?,
        });
    }
    Ok(found)
}

fn vendor_digests(root: &Root, name: &str) -> Result<Vec<String>, IoError> {
    let Ok(path) = RootPath::new(&format!("{VENDOR_DIR}/{name}")) else {
        return Ok(Vec::new());
    };
    let bytes = root.read(&path, CERT_LIMIT)?.unwrap_or_default();
    Ok(pem_blocks(&bytes).iter().map(Certificate::sha256).collect())
}

/// Adds to `set` what makes the tree trust `anchors`.
pub fn install(root: &Root, anchors: &[Anchor], set: &mut ChangeSet) -> Result<(), IoError> {
    let local = local_files(root)?;
    let vendor = vendor_part(root)?;
    let bundle_path = RootPath::fixed(BUNDLE);
    let bundle = root.read(&bundle_path, BUNDLE_LIMIT)?;
    for anchor in anchors {
        let file = join(LOCAL_DIR, &format!("{}.crt", anchor.name))?;
        set.put(
            root,
            &file,
            OnLink::Refuse,
            Want::file(anchor.pem.clone().into_bytes(), 0o644),
        )?;
        let link_name = format!("{}.pem", link_stem(&anchor.name));
        set.put(
            root,
            &join(CERTS_DIR, &link_name)?,
            OnLink::Replace,
            Want::link(file.as_str()),
        )?;
        if let Some(certificate) = pem_blocks(anchor.pem.as_bytes()).first() {
            put_links(root, CERTS_DIR, certificate, &link_name, LinkHashes::New, set)?;
        }
    }
    let new_local = with_anchors(&local, anchors)?;
    let rebuilt =
        |files: &[(RootPath, Vec<u8>)]| concat(vendor.iter().chain(files.iter().map(|(_, bytes)| bytes)));
    let bytes = match bundle {
        // The bundle is what the tool would make of the tree as it is: so make what it would make of the new one.
        Some(old) if old == rebuilt(&local) => rebuilt(&new_local),
        None => rebuilt(&new_local),
        // Somebody has edited it or sorted otherwise: leave every byte and append.
        Some(mut old) => {
            if !old.ends_with(b"\n") && !old.is_empty() {
                old.push(b'\n');
            }
            old.extend(anchors.iter().flat_map(|anchor| anchor.pem.bytes()));
            old
        }
    };
    set.edit(root, &bundle_path, bytes, 0o644)
}

fn with_anchors(
    local: &[(RootPath, Vec<u8>)],
    anchors: &[Anchor],
) -> Result<Vec<(RootPath, Vec<u8>)>, IoError> {
    let mut files = local.to_vec();
    for anchor in anchors {
        let path = join(LOCAL_DIR, &format!("{}.crt", anchor.name))?;
        files.retain(|(known, _)| *known != path);
        files.push((path, anchor.pem.clone().into_bytes()));
    }
    files.sort();
    Ok(files)
}

/// Files in a row, each ended by a line feed.
fn concat<'a>(files: impl Iterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for file in files {
        bytes.extend_from_slice(file);
        if !file.is_empty() && !file.ends_with(b"\n") {
            bytes.push(b'\n');
        }
    }
    bytes
}

/// The distribution's enabled certificates, in the order of the configuration file.
fn vendor_part(root: &Root) -> Result<Vec<Vec<u8>>, IoError> {
    let conf = root
        .read(&RootPath::fixed(CONF), BUNDLE_LIMIT)?
        .unwrap_or_default();
    let mut files = Vec::new();
    for line in String::from_utf8_lossy(&conf)
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with(['#', '!']))
    {
        let Ok(path) = RootPath::new(&format!("{VENDOR_DIR}/{line}")) else {
            continue;
        };
        files.extend(root.read(&path, CERT_LIMIT)?);
    }
    Ok(files)
}

/// The administrator's certificates, in the order of `sort` in the C locale.
fn local_files(root: &Root) -> Result<Vec<(RootPath, Vec<u8>)>, IoError> {
    let mut files = Vec::new();
    collect_local(root, &RootPath::fixed(LOCAL_DIR), DEPTH, &mut files)?;
    files.sort();
    Ok(files)
}

fn collect_local(
    root: &Root,
    dir: &RootPath,
    depth: usize,
    files: &mut Vec<(RootPath, Vec<u8>)>,
) -> Result<(), IoError> {
    for entry in root.read_dir(dir)?.unwrap_or_default() {
        let Ok(path) = dir.join(&entry.name) else { continue };
        match root.meta(&path, Last::Follow)?.map(|meta| meta.kind) {
            Some(Kind::Dir) if depth > 0 => collect_local(root, &path, depth - 1, files)?,
            Some(Kind::File) if entry.name.ends_with(".crt") => {
                files.extend(root.read(&path, CERT_LIMIT)?.map(|bytes| (path, bytes)));
            }
            _ => {}
        }
    }
    Ok(())
}

/// `update-ca-certificates`'s own mapping of file names.
fn link_stem(name: &str) -> String {
    name.chars()
        .map(|sign| match sign {
            ' ' | ',' => '_',
            '(' | ')' => '=',
            other => other,
        })
        .collect()
}
