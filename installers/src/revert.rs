//! Revert: receipt → the tree as it was before the first run, as far as nobody has changed the same files since.
//! Shared files (dpkg's status, the CA bundle) lose only our part when others have changed theirs.

use crate::apply::ApplyError;
use crate::error::IoError;
use crate::locks::lock_database;
use crate::packages::PACKAGE;
use crate::packages::deb::database::{self, StatusDb};
use crate::packages::rpm::database::Database;
use crate::receipt::{self, Entry, Receipt, State, same, state, undo_path};
use crate::root::{Last, Root, RootPath};
use crate::trust;
use crate::txn::{self, ChangeSet, Checkpoint, Content, OnLink, Perm, Want};

const LIMIT: usize = database::STATUS_LIMIT;

/// Takes everything back and removes the receipt. None when there is no receipt.
pub fn revert(
    root: &Root,
    epoch: Option<i64>,
    checkpoint: &Checkpoint<'_>,
) -> Result<Option<Receipt>, ApplyError> {
    let Some(receipt) = receipt::read(root)? else {
        return Ok(None);
    };
    let _locks = lock_database(root)?;
    let mut set = ChangeSet::default();
    let mut changed = Vec::new();
    for entry in &receipt.entries {
        if !take_back(root, entry, &receipt, &mut set)? {
            changed.push(entry.path.as_str().to_owned());
        }
    }
    if !changed.is_empty() {
        return Err(ApplyError::Conflict {
            what: format!("changed since, or not kept: {}", changed.join(", ")),
            hint: "remove the agent with `dpkg --purge amazon-ssm-agent`, or put those files back first"
                .to_owned(),
        });
    }
    forget(root, &mut set)?;
    let prepared = txn::prepare(root, set)?;
    txn::commit(root, &prepared, epoch, checkpoint)?;
    Ok(Some(receipt))
}

/// Whether the entry could be taken back.
fn take_back(root: &Root, entry: &Entry, receipt: &Receipt, set: &mut ChangeSet) -> Result<bool, IoError> {
    let now = state(root, &entry.path)?;
    if same(&now, &entry.before) {
        return Ok(true);
    }
    if !same(&now, &entry.after) {
        return shared(root, entry, receipt, set);
    }
    if !entry.is_kept && is_rpm_database(root, &entry.path)? {
        return take_record(root, entry, set);
    }
    let want = match &entry.before {
        // Directories with other people's files in them stay.
        State::Absent if now == State::Dir && !will_be_empty(root, &entry.path, receipt)? => return Ok(true),
        State::Absent => Want::Absent,
        State::Link(target) => Want::link(target.clone()),
        State::File {
            sha256,
            mode,
            uid,
            gid,
            mtime,
        } => {
            let bytes = if entry.is_kept {
                root.read(&undo_path(sha256), LIMIT)?
            } else {
                None
            };
            let Some(bytes) = bytes else { return Ok(false) };
            let perm = Perm {
                mode: *mode,
                uid: *uid,
                gid: *gid,
            };
            Want::File {
                content: Content::Bytes(bytes),
                perm,
                mtime: Some(*mtime),
            }
        }
        State::Dir | State::Other => return Ok(false),
    };
    set.put(root, &entry.path, OnLink::Replace, want)?;
    Ok(true)
}

fn will_be_empty(root: &Root, dir: &RootPath, receipt: &Receipt) -> Result<bool, IoError> {
    for found in root.read_dir(dir)?.unwrap_or_default() {
        let Ok(path) = dir.join(&found.name) else {
            return Ok(false);
        };
        let ours = receipt
            .entries
            .iter()
            .any(|entry| entry.path == path && entry.before == State::Absent);
        let is_full_dir = state(root, &path)? == State::Dir && !will_be_empty(root, &path, receipt)?;
        if !ours || is_full_dir {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Files that others write too.
fn shared(root: &Root, entry: &Entry, receipt: &Receipt, set: &mut ChangeSet) -> Result<bool, IoError> {
    let is_at = |path: &'static str| -> Result<bool, IoError> {
        Ok(root.canonical(&RootPath::fixed(path), Last::Follow)? == entry.path)
    };
    let Some(now) = root.read(&entry.path, LIMIT)? else {
        return Ok(true);
    };
    let before = match &entry.before {
        State::File { sha256, .. } if entry.is_kept => {
            root.read(&undo_path(sha256), LIMIT)?.unwrap_or_default()
        }
        _ => Vec::new(),
    };
    if is_at(database::STATUS)? {
        let (Ok(db), Ok(old)) = (StatusDb::parse(&now), StatusDb::parse(&before)) else {
            return Ok(false);
        };
        let bytes = match old.find(PACKAGE) {
            Some(record) => db.with(PACKAGE, &record.text),
            None => db.without(PACKAGE),
        };
        set.edit(root, &entry.path, bytes, 0o644)?;
        return Ok(true);
    }
    if is_bundle(root, &entry.path)? {
        let mut text = String::from_utf8_lossy(&now).into_owned();
        for anchor in receipt
            .entries
            .iter()
            .filter(|other| is_anchor(other) && other.path != entry.path)
        {
            let pem = root.read(&anchor.path, LIMIT)?.unwrap_or_default();
            text = trust::without(&text, &String::from_utf8_lossy(&pem));
        }
        set.edit(root, &entry.path, text.into_bytes(), 0o644)?;
        return Ok(true);
    }
    if is_rpm_database(root, &entry.path)? {
        return take_record(root, entry, set);
    }
    // dpkg's own back-up of an earlier state: nothing depends on it.
    is_at(database::STATUS_OLD)
}

fn is_rpm_database(root: &Root, place: &RootPath) -> Result<bool, IoError> {
    match Database::find(root)? {
        Some(database) => Ok(root.canonical(&database.path(), Last::Follow)? == *place),
        None => Ok(false),
    }
}

/// Takes our record out of a database that others have written to since, or that was too large to keep. That there was
/// none before follows from the package's other files: those of an earlier agent are not kept either.
fn take_record(root: &Root, entry: &Entry, set: &mut ChangeSet) -> Result<bool, IoError> {
    let Some(database) = Database::find(root)? else {
        return Ok(false);
    };
    let Ok(named) = database.named(root, PACKAGE) else {
        return Ok(false);
    };
    let numbers: Vec<u32> = named.iter().map(|one| one.number).collect();
    // One that cannot be written here is for rpm itself.
    let Ok(bytes) = database.replaced(root, &numbers, None) else {
        return Ok(false);
    };
    set.edit(root, &entry.path, bytes, 0o644)?;
    Ok(true)
}

/// A certificate file of ours.
fn is_anchor(entry: &Entry) -> bool {
    let name = entry.path.as_str();
    (name.ends_with(".crt") || name.ends_with(".pem")) && entry.before == State::Absent
}

fn is_bundle(root: &Root, place: &RootPath) -> Result<bool, IoError> {
    let others = [
        "/etc/pki/ca-trust/extracted/pem/email-ca-bundle.pem",
        "/etc/pki/ca-trust/extracted/pem/objsign-ca-bundle.pem",
    ];
    for path in trust::AGENT_BUNDLES.into_iter().chain(others) {
        if root.canonical(&RootPath::fixed(path), Last::Follow)? == *place {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The receipt and what was kept for it.
fn forget(root: &Root, set: &mut ChangeSet) -> Result<(), IoError> {
    let undo = RootPath::fixed(receipt::UNDO_DIR);
    for found in root.read_dir(&undo)?.unwrap_or_default() {
        if let Ok(path) = undo.join(&found.name) {
            set.put(root, &path, OnLink::Replace, Want::Absent)?;
        }
    }
    for path in [receipt::UNDO_DIR, receipt::PATH, "/var/lib/ssmbake"] {
        set.put(root, &RootPath::fixed(path), OnLink::Refuse, Want::Absent)?;
    }
    Ok(())
}
