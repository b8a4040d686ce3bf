//! Makes a prepared change, or takes back what of it was done.

use std::collections::BTreeSet;
use std::io;

use rustix::fs::AtFlags;

use super::journal::{self, DirTime, Entry, Journal, Record, Undo};
pub use super::unnamed::unnamed_file;
use super::{Change, Checkpoint, JournalError, Prepared, Settled, TxnError, Want, stage};
use crate::error::IoError;
use crate::root::{Kind, Last, Root, RootPath, meta_at};

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
    journal.settle(root).map(drop).map_err(TxnError::Left)
}

/// Settles what an interrupted run left; none when there is nothing.
pub fn recover(root: &Root) -> Result<Option<Settled>, TxnError> {
    match Journal::find(root) {
        Ok(None) => Ok(None),
        Ok(Some(journal)) if journal.is_committed() => journal.settle(root).map(Some).map_err(TxnError::Left),
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
    let entry = |(number, change): (usize, &Change)| {
        let undo = match (&change.want, &change.before) {
            (Want::Dir { .. }, None) => Undo::RemoveDir,
            (_, None) => Undo::Remove,
            (_, Some(meta)) if meta.kind == Kind::Dir => Undo::KeepDir,
            (_, Some(_)) => Undo::Restore {
                backup: journal::backup_name(number),
            },
        };
        let staged = !matches!(change.want, Want::Absent | Want::Dir { .. });
        Entry {
            path: change.path.clone(),
            temp: staged.then(|| journal::staged_name(number)),
            undo,
            wipe: change.wipe,
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
    let name = &*change.path.raw_name();
    if matches!(change.want, Want::Dir { .. }) || entry.undo == Undo::KeepDir {
        return Ok(());
    }
    let dir = root.strict_dir(&parent).map_err(|error| error.source)?;
    let now = meta_at(&dir, name)?;
    if !change.fits(now.as_ref()) {
        return Err(io::Error::other("it was changed by somebody else meanwhile"));
    }
    if now.is_none() && change.before.is_some() {
        // Somebody else removed it.
        return Ok(());
    }
    match (&entry.temp, &entry.undo) {
        (Some(temp), undo) => {
            if let Undo::Restore { backup } = undo {
                rustix::fs::linkat(&dir, name, &dir, backup, AtFlags::empty())?;
            }
            rustix::fs::renameat(&dir, temp, &dir, name)?;
        }
        // What goes needs no second name, which a FAT file system would not have.
        (None, Undo::Restore { backup }) => rustix::fs::renameat(&dir, name, &dir, backup)?,
        (None, _) => rustix::fs::unlinkat(&dir, name, AtFlags::empty())?,
    }
    Ok(())
}
