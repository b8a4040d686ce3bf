//! Applies a [`ChangeSet`] to a root: all of it or nothing, whatever happens in between.
//!
//! 1. Compare with the tree and drop what is so already; nothing left means not one write.
//! 2. Write the journal: how to take back every path, and the old times of the directories.
//! 3. Stage every new file beside its place, synced. 4. Rename. 5. Mark the journal committed.
//! 6. Remove backups and journal. Until 5 an interruption means roll-back, after it roll-forward.
//!
//! It knows nothing of packages or configuration.

mod change;
mod journal;
mod stage;
mod unnamed;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use rustix::fs::AtFlags;

pub use change::{ChangeSet, Content, OnLink, Perm, SpoolSlice, Want};
pub use journal::{JournalError, Settled};
pub use unnamed::unnamed_file;

use crate::error::IoError;
use crate::root::{Kind, Last, Meta, Root, RootPath, meta_at};
use crate::selinux::Labels;
use journal::{DirTime, Entry, Journal, Record, Undo};

/// Called before every single change; an error there is treated as the change's own failure. Tests stop
/// a run at any point with it.
pub type Checkpoint<'a> = dyn Fn(&RootPath) -> io::Result<()> + 'a;

/// Why a transaction did not happen.
#[derive(Debug, thiserror::Error)]
pub enum TxnError {
    /// It failed before any file of the tree changed its content.
    #[error(transparent)]
    Unchanged(IoError),
    /// It failed half-way and was taken back.
    #[error("{0}; the tree was rolled back")]
    RolledBack(IoError),
    /// It failed half-way and could not be taken back; the journal stays.
    #[error("{cause}; the roll-back failed too: {rollback}")]
    Incomplete {
        /// What failed first.
        cause: IoError,
        /// What stopped the roll-back.
        rollback: IoError,
    },
    /// Another run is at work, or its journal cannot be used.
    #[error(transparent)]
    Journal(JournalError),
}

impl From<IoError> for TxnError {
    fn from(error: IoError) -> Self {
        Self::Unchanged(error)
    }
}

/// One path that will change.
#[derive(Debug)]
pub struct Change {
    /// Canonical.
    pub path: RootPath,
    /// What it shall be.
    pub want: Want,
    /// What it is.
    pub before: Option<Meta>,
    /// The SELinux label of what is new there.
    pub label: Option<String>,
}

impl Change {
    /// The kind of a new inode that no older one hands its label to; none where there is no such.
    fn new_kind(&self) -> Option<Kind> {
        let was = self.before.map(|meta| meta.kind);
        match &self.want {
            Want::Dir { .. } if was.is_none() => Some(Kind::Dir),
            Want::File { .. } if was != Some(Kind::File) => Some(Kind::File),
            Want::Link { .. } => Some(Kind::Link),
            _ => None,
        }
    }
}

/// A change set compared with the tree: only what really changes, parents first.
#[derive(Debug)]
pub struct Prepared {
    changes: Vec<Change>,
}

impl Prepared {
    /// What will change.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Adds what another set changes; a path of both is taken from `other`.
    pub fn join(&mut self, other: Self) {
        self.changes
            .retain(|change| other.changes.iter().all(|theirs| theirs.path != change.path));
        self.changes.extend(other.changes);
        self.changes.sort_by(|one, two| one.path.cmp(&two.path));
    }

    /// Gives new files, directories and links the labels that the tree's policy has for them.
    pub fn label(&mut self, labels: &Labels) {
        for change in &mut self.changes {
            let label = change.new_kind().and_then(|kind| labels.of(&change.path, kind));
            change.label = label.map(str::to_owned);
        }
    }

    /// Whether the tree is as wanted already.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Compares `set` with the tree. Reads only.
pub fn prepare(root: &Root, set: ChangeSet) -> Result<Prepared, IoError> {
    let mut wants = set.into_wants();
    add_parents(root, &mut wants)?;
    let mut changes = Vec::new();
    for (path, want) in wants {
        let before = root.meta(&path, Last::Keep)?;
        if stage::differs(root, &path, &want, before.as_ref())? {
            changes.push(Change {
                path,
                want,
                before,
                label: None,
            });
        }
    }
    Ok(Prepared { changes })
}

fn add_parents(root: &Root, wants: &mut BTreeMap<RootPath, Want>) -> Result<(), IoError> {
    let mut missing = BTreeSet::new();
    for (path, _) in wants.iter().filter(|(_, want)| !matches!(want, Want::Absent)) {
        let mut parent = path.parent();
        while let Some(dir) = parent {
            if wants.contains_key(&dir) || missing.contains(&dir) || root.meta(&dir, Last::Keep)?.is_some() {
                break;
            }
            parent = dir.parent();
            missing.insert(dir);
        }
    }
    for dir in missing {
        wants.insert(
            dir,
            Want::Dir {
                perm: Perm::root(0o755),
                mtime: None,
            },
        );
    }
    Ok(())
}

/// Makes the tree so. `epoch` (SOURCE_DATE_EPOCH, seconds) dates what has no date of its own.
pub fn commit(
    root: &Root,
    prepared: &Prepared,
    epoch: Option<i64>,
    checkpoint: &Checkpoint<'_>,
) -> Result<(), TxnError> {
    if prepared.is_empty() {
        return Ok(());
    }
    let entries = entries(&prepared.changes);
    let dirs = dir_times(root, &prepared.changes)?;
    let mut journal =
        Journal::create(root, Record::new(entries.clone(), dirs, epoch)).map_err(|error| match error {
            JournalError::Io(error) => TxnError::Unchanged(error),
            other => TxnError::Journal(other),
        })?;
    let pairs: Vec<(&Change, &Entry)> = prepared.changes.iter().zip(&entries).collect();
    if let Err(cause) = stage::stage_all(root, &pairs, epoch, checkpoint) {
        return Err(match journal.settle(root) {
            Ok(_) => TxnError::Unchanged(cause),
            Err(rollback) => TxnError::Incomplete { cause, rollback },
        });
    }
    let done = swap_all(root, &pairs, checkpoint)
        .and_then(|()| stage::sync(root))
        .and_then(|()| journal.commit());
    if let Err(cause) = done {
        return Err(match journal.settle(root) {
            Ok(_) => TxnError::RolledBack(cause),
            Err(rollback) => TxnError::Incomplete { cause, rollback },
        });
    }
    // Committed: a failure to remove the traces is no failure of the work; the next run removes them.
    journal.settle(root).map(drop).map_err(TxnError::Unchanged)
}

/// Settles what an interrupted run left; none when there is nothing.
pub fn recover(root: &Root) -> Result<Option<Settled>, TxnError> {
    match Journal::find(root) {
        Ok(None) => Ok(None),
        Ok(Some(journal)) => journal
            .settle(root)
            .map(Some)
            .map_err(|rollback| TxnError::Incomplete {
                cause: interrupted(),
                rollback,
            }),
        Err(error) => Err(TxnError::Journal(error)),
    }
}

fn interrupted() -> IoError {
    IoError::new(
        "finish",
        "an earlier run",
        io::Error::from(io::ErrorKind::Interrupted),
    )
}

fn entries(changes: &[Change]) -> Vec<Entry> {
    let name = |index: usize, end: &str| format!(".ssmbake-{index}.{end}");
    let entry = |(index, change): (usize, &Change)| {
        let undo = match (&change.want, &change.before) {
            (Want::Dir { .. }, None) => Undo::RemoveDir,
            (_, None) => Undo::Remove,
            (_, Some(meta)) if meta.kind == Kind::Dir => Undo::KeepDir,
            (_, Some(_)) => Undo::Restore {
                backup: name(index, "old"),
            },
        };
        let staged = !matches!(change.want, Want::Absent | Want::Dir { .. });
        Entry {
            path: change.path.clone(),
            temp: staged.then(|| name(index, "new")),
            undo,
        }
    };
    changes.iter().enumerate().map(entry).collect()
}

/// The times of the directories that get or lose an entry, the journal's own among them.
fn dir_times(root: &Root, changes: &[Change]) -> Result<Vec<DirTime>, IoError> {
    let mut dirs: BTreeSet<RootPath> = changes.iter().filter_map(|change| change.path.parent()).collect();
    dirs.insert(journal::place(root)?);
    // An emptied directory comes back with its own time.
    dirs.extend(
        changes
            .iter()
            .filter(|c| c.before.is_some_and(|m| m.kind == Kind::Dir))
            .map(|c| c.path.clone()),
    );
    let mut times = Vec::new();
    for path in dirs {
        if let Some(meta) = root.meta(&path, Last::Keep)? {
            times.push(DirTime {
                path,
                mtime: meta.mtime,
                nsec: meta.mtime_nsec,
            });
        }
    }
    Ok(times)
}

/// The visible part: every path changes by one rename; removals come last, children first.
fn swap_all(root: &Root, pairs: &[(&Change, &Entry)], checkpoint: &Checkpoint<'_>) -> Result<(), IoError> {
    let (removals, arrivals): (Vec<_>, Vec<_>) = pairs
        .iter()
        .partition(|(change, _)| matches!(change.want, Want::Absent));
    for (change, entry) in arrivals.into_iter().chain(removals.into_iter().rev()) {
        swap(root, change, entry, checkpoint).map_err(|error| IoError::new("change", &change.path, error))?;
    }
    Ok(())
}

fn swap(root: &Root, change: &Change, entry: &Entry, checkpoint: &Checkpoint<'_>) -> io::Result<()> {
    let Some(parent) = change.path.parent() else {
        return Ok(());
    };
    checkpoint(&change.path)?;
    let name = change.path.name();
    if matches!(change.want, Want::Dir { .. }) || entry.undo == Undo::KeepDir {
        return Ok(());
    }
    let dir = root.strict_dir(&parent).map_err(|error| error.source)?;
    let now = meta_at(&dir, name)?;
    let identity = |meta: &Meta| (meta.id, meta.mtime, meta.mtime_nsec);
    if now.as_ref().map(identity) != change.before.as_ref().map(identity) {
        return Err(io::Error::other("it was changed by somebody else meanwhile"));
    }
    if let Undo::Restore { backup } = &entry.undo {
        rustix::fs::linkat(&dir, name, &dir, backup, AtFlags::empty())?;
    }
    match &entry.temp {
        Some(temp) => rustix::fs::renameat(&dir, temp, &dir, name)?,
        None => rustix::fs::unlinkat(&dir, name, AtFlags::empty())?,
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the tree from outside")]
mod tests;
