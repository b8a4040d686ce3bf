//! The receipt: what was changed, who vouched for it, how to undo it. Kept in the image beside the small files that
//! were replaced.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::acquire::Voucher;
use crate::error::IoError;
use crate::root::{Kind, Last, Root, RootPath};
use crate::txn::{Change, ChangeSet, OnLink, Perm, Want};
use ssmbake_manifests::hex;

/// The version of the receipt's JSON.
pub const SCHEMA: u32 = 1;
/// Where it is.
pub const PATH: &str = "/var/lib/ssmbake/receipt.json";
/// Where replaced files wait, by digest.
pub const UNDO_DIR: &str = "/var/lib/ssmbake/undo";
/// Larger files, such as the binaries of an earlier agent, are not kept in the image.
const KEEP_LIMIT: u64 = 4 * 1024 * 1024;
const RECEIPT_LIMIT: usize = 64 * 1024 * 1024;

/// What a path is or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum State {
    /// Nothing.
    Absent,
    /// A directory.
    Dir,
    /// A symbolic link and its text.
    Link(String),
    /// A regular file.
    File {
        /// SHA-256, hex.
        sha256: String,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Seconds and nanoseconds since the epoch.
        mtime: (i64, u32),
    },
    /// Something else.
    Other,
}

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Canonical.
    pub path: RootPath,
    /// As it was.
    pub before: State,
    /// As it became.
    pub after: State,
    /// Whether the bytes of `before` are kept.
    pub is_kept: bool,
}

/// The installed package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageReceipt {
    /// Its version.
    pub version: String,
    /// Where it came from.
    pub url: String,
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// Who vouched for it.
    pub voucher: Voucher,
}

/// What was done to a root, over all runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Version of this shape.
    pub schema: u32,
    /// The ssmbake that wrote it.
    pub ssmbake: String,
    /// The package, when one was installed.
    pub package: Option<PackageReceipt>,
    /// By path.
    pub entries: Vec<Entry>,
}

/// The receipt in `root`, if there is one.
pub fn read(root: &Root) -> Result<Option<Receipt>, IoError> {
    let Some(bytes) = root.read(&RootPath::fixed(PATH), RECEIPT_LIMIT)? else {
        return Ok(None);
    };
    let receipt: Receipt = serde_json::from_slice(&bytes).map_err(|error| {
        IoError::new(
            "understand",
            PATH,
            std::io::Error::new(std::io::ErrorKind::InvalidData, error),
        )
    })?;
    Ok(Some(receipt))
}

/// The first of the agent's programs that is no longer as the receipt says; databases and configuration change with time.
pub fn changed_program(root: &Root, receipt: &Receipt) -> Result<Option<RootPath>, IoError> {
    for entry in &receipt.entries {
        let is_program = entry.path.as_str().starts_with("/usr/bin/");
        let is_file = root
            .meta(&entry.path, Last::Keep)?
            .is_some_and(|meta| meta.kind == Kind::File);
        if is_program && is_file && !same(&state(root, &entry.path)?, &entry.after) {
            return Ok(Some(entry.path.clone()));
        }
    }
    Ok(None)
}

/// The state of `path` now.
pub fn state(root: &Root, path: &RootPath) -> Result<State, IoError> {
    let Some(meta) = root.meta(path, Last::Keep)? else {
        return Ok(State::Absent);
    };
    Ok(match meta.kind {
        Kind::Dir => State::Dir,
        Kind::Link => State::Link(root.read_link(path)?.unwrap_or_default()),
        Kind::Other => State::Other,
        Kind::File => {
            let mut hash = Sha256::new();
            if let Some(mut file) = root.open_file(path)? {
                std::io::copy(&mut file, &mut HashWriter(&mut hash))
                    .map_err(|e| IoError::new("read", path, e))?;
            }
            State::File {
                sha256: hex::encode(&hash.finalize()),
                mode: meta.mode,
                uid: meta.uid,
                gid: meta.gid,
                mtime: (meta.mtime, meta.mtime_nsec),
            }
        }
    })
}

struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Whether two states are the same but for the time.
pub fn same(one: &State, other: &State) -> bool {
    match (one, other) {
        (
            State::File {
                sha256,
                mode,
                uid,
                gid,
                ..
            },
            State::File {
                sha256: sha256_2,
                mode: mode_2,
                uid: uid_2,
                gid: gid_2,
                ..
            },
        ) => (sha256, mode, uid, gid) == (sha256_2, mode_2, uid_2, gid_2),
        _ => one == other,
    }
}

fn wanted(want: &Want) -> State {
    match want {
        Want::Absent => State::Absent,
        Want::Dir { .. } => State::Dir,
        Want::Link { target, .. } => State::Link(target.clone()),
        Want::HardLink { .. } => State::Other,
        Want::File { content, perm, mtime } => State::File {
            sha256: hex::encode(&content.sha256()),
            mode: perm.mode,
            uid: perm.uid,
            gid: perm.gid,
            mtime: mtime.unwrap_or((0, 0)),
        },
    }
}

/// The receipt after `changes` on top of an earlier one, and the changes that store it.
pub fn record(
    root: &Root,
    changes: &[Change],
    package: Option<PackageReceipt>,
    set: &mut ChangeSet,
) -> Result<Receipt, IoError> {
    let old = read(root)?;
    let mut entries: std::collections::BTreeMap<RootPath, Entry> = std::collections::BTreeMap::new();
    for entry in old.iter().flat_map(|old| &old.entries) {
        entries.insert(entry.path.clone(), entry.clone());
    }
    for change in changes {
        let after = wanted(&change.want);
        if let Some(entry) = entries.get_mut(&change.path) {
            // The way back leads to the state before the first run.
            entry.after = after;
            continue;
        }
        let before = state(root, &change.path)?;
        let is_kept = keep(root, change, &before, set)?;
        entries.insert(
            change.path.clone(),
            Entry {
                path: change.path.clone(),
                before,
                after,
                is_kept,
            },
        );
    }
    let receipt = Receipt {
        schema: SCHEMA,
        ssmbake: env!("CARGO_PKG_VERSION").to_owned(),
        package: package.or(old.and_then(|old| old.package)),
        entries: entries.into_values().collect(),
    };
    let mut bytes =
        serde_json::to_vec_pretty(&receipt).map_err(|error| IoError::new("write", PATH, error))?;
    bytes.push(b'\n');
    set.put(
        root,
        &RootPath::fixed(PATH),
        OnLink::Refuse,
        Want::file(bytes, 0o644),
    )?;
    Ok(receipt)
}

fn keep(root: &Root, change: &Change, before: &State, set: &mut ChangeSet) -> Result<bool, IoError> {
    let State::File { sha256, .. } = before else {
        return Ok(true);
    };
    if change.before.is_none_or(|meta| meta.size > KEEP_LIMIT) {
        return Ok(false);
    }
    let bytes = root.read(&change.path, KEEP_LIMIT as usize)?.unwrap_or_default();
    put_dir(root, UNDO_DIR, set)?;
    set.put(root, &undo_path(sha256), OnLink::Refuse, Want::file(bytes, 0o600))?;
    Ok(true)
}

/// The undo files may hold what only root may read.
fn put_dir(root: &Root, dir: &'static str, set: &mut ChangeSet) -> Result<(), IoError> {
    let want = Want::Dir {
        perm: Perm::root(0o700),
        mtime: None,
    };
    set.put(root, &RootPath::fixed(dir), OnLink::Refuse, want)
        .map(drop)
}

/// Where the bytes of a replaced file wait.
pub fn undo_path(sha256: &str) -> RootPath {
    let name: String = sha256.chars().filter(char::is_ascii_hexdigit).take(64).collect();
    RootPath::new(&format!("{UNDO_DIR}/{name}")).unwrap_or_else(|_| RootPath::fixed(UNDO_DIR))
}
