//! Applies a [`ChangeSet`] to a root: all of it or nothing, whatever happens in between.
//!
//! 1. Compare with the tree and drop what is so already; nothing left means not one write.
//! 2. Write the journal: how to take back every path, and the old times of the directories.
//! 3. Stage every new file beside its place, synced. 4. Rename. 5. Mark the journal committed.
//! 6. Remove backups and journal. Until 5 an interruption means roll-back, after it roll-forward.
//!
//! It knows nothing of packages or configuration.

mod change;
// Without descriptors of directories nobody writes safely.
#[cfg(unix)]
mod commit;
#[cfg(not(unix))]
#[path = "refuse.rs"]
mod commit;
mod compare;
#[cfg(unix)]
mod journal;
#[cfg(unix)]
mod stage;
#[cfg(unix)]
mod unnamed;
#[cfg(unix)]
mod wipe;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

pub use change::{ChangeSet, Content, OnLink, Perm, SpoolSlice, Want};
pub use commit::{commit, recover, unnamed_file};

use crate::error::IoError;
use crate::root::{Kind, Last, Meta, Root, RootPath};
use crate::selinux::Labels;

const JOURNAL_DIR: &str = "/var/lib";
const JOURNAL: &str = ".ssmbake-journal";

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
    /// It was made, and then something could not be cleaned up; the journal stays.
    #[error("the change was made, but not all traces of what was before are gone: {0}")]
    Left(IoError),
    /// Another run is at work, or its journal cannot be used.
    #[error(transparent)]
    Journal(JournalError),
}

impl From<IoError> for TxnError {
    fn from(error: IoError) -> Self {
        Self::Unchanged(error)
    }
}

/// Why a journal could not be opened or followed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process holds it.
    #[error("another ssmbake is changing this root")]
    Busy,
    /// It is no journal of ours.
    #[error("the journal `{JOURNAL_DIR}/{JOURNAL}` is not usable: {0}")]
    Unusable(String),
    /// An earlier journal stands there.
    #[error("an interrupted run left a journal in `{JOURNAL_DIR}/{JOURNAL}`")]
    Pending,
    /// The disk said no.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// What settling a journal came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The tree is as before the interrupted run.
    RolledBack,
    /// The interrupted run had done its work; only its traces were removed.
    Finished,
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
    /// Whether the bytes that stood there shall be overwritten once they are gone.
    pub wipe: bool,
    /// What others may do to it between the look and the change.
    pub meanwhile: Meanwhile,
}

/// What others may do to a path between the look and the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meanwhile {
    /// Nothing: their work would be lost.
    Untouched,
    /// Write to it, or move it away and make it anew: whatever stands there goes.
    Written,
}

impl Change {
    /// Whether `now` is what was seen, as far as that matters.
    #[cfg(unix)]
    fn fits(&self, now: Option<&Meta>) -> bool {
        let identity = |meta: &Meta| (meta.id, meta.mtime, meta.mtime_nsec);
        match self.meanwhile {
            Meanwhile::Untouched => now.map(identity) == self.before.as_ref().map(identity),
            Meanwhile::Written => now.is_none_or(|now| now.kind != Kind::Dir),
        }
    }

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

    /// Overwrites the old bytes of the paths that `is_secret` names, once there is no way back.
    pub fn wipe(&mut self, is_secret: impl Fn(&RootPath) -> bool) {
        for change in &mut self.changes {
            change.wipe = is_secret(&change.path);
        }
    }

    /// What goes or is emptied may be in use: programs write to their logs and rotate them all the time.
    pub fn expect_writers(&mut self) {
        for change in &mut self.changes {
            let leaves_nothing = match &change.want {
                Want::Absent => true,
                Want::File { content, .. } => content.is_empty(),
                _ => false,
            };
            if leaves_nothing {
                change.meanwhile = Meanwhile::Written;
            }
        }
    }

    /// Whether the tree is as wanted already.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Whether a change of this tree is under way, or was interrupted. Reads only: what looks at a tree leaves it as it is.
pub fn is_pending(root: &Root) -> Result<bool, IoError> {
    let Ok(journal) = RootPath::fixed(JOURNAL_DIR).join(JOURNAL) else {
        return Ok(false);
    };
    Ok(root.meta(&journal, Last::Keep)?.is_some())
}

/// Compares `set` with the tree. Reads only.
pub fn prepare(root: &Root, set: ChangeSet) -> Result<Prepared, IoError> {
    let mut wants = set.into_wants();
    add_parents(root, &mut wants)?;
    let mut changes = Vec::new();
    for (path, want) in wants {
        let before = root.meta(&path, Last::Keep)?;
        if compare::differs(root, &path, &want, before.as_ref())? {
            changes.push(Change {
                path,
                want,
                before,
                label: None,
                wipe: false,
                meanwhile: Meanwhile::Untouched,
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

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the tree from outside")]
mod tests;
