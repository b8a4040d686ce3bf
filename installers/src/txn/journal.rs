//! The undo record: written whole before the first change, removed after the last. Whoever finds one
//! finishes what its writer left, backwards or, when it is marked committed, forwards.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use rustix::path::Arg;
use serde::{Deserialize, Serialize};

use super::wipe::wipe;
use super::{JOURNAL as NAME, JOURNAL_DIR as DIR, JournalError, Settled, unnamed};
use crate::error::IoError;
use crate::root::{Kind, Last, Meta, Root, RootPath, meta_at};

const SCHEMA: u32 = 1;
/// Where the file system has no O_TMPFILE; never trusted, only removed.
const NEW_NAME: &str = ".ssmbake-journal.new";
const COMMITTED: &[u8] = b"committed\n";
const LIMIT: u64 = 64 * 1024 * 1024;

/// The staged new file of the entry with this number, in the same directory.
pub(super) fn staged_name(number: usize) -> String {
    format!(".ssmbake-{number}.new")
}

/// The old file of the entry with this number, in the same directory.
pub(super) fn backup_name(number: usize) -> String {
    format!(".ssmbake-{number}.old")
}

/// How one path is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Undo {
    /// Nothing was there: remove the file or link.
    Remove,
    /// Nothing was there: remove the directory.
    RemoveDir,
    /// The old file or link waits under this name in the same directory.
    Restore { backup: String },
    /// A directory that goes when the rest is done: backups of its files wait in it until then.
    KeepDir,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) path: RootPath,
    /// The name of the staged new file in the same directory.
    pub(super) temp: Option<String>,
    pub(super) undo: Undo,
    /// Whether the old bytes are overwritten before they go.
    #[serde(default)]
    pub(super) wipe: bool,
}

/// A directory's modification time before the first change, seconds and nanoseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DirTime {
    pub(super) path: RootPath,
    pub(super) mtime: i64,
    pub(super) nsec: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) schema: u32,
    pub(super) entries: Vec<Entry>,
    /// Directories that existed before and get new or fewer entries.
    pub(super) dirs: Vec<DirTime>,
    /// The time that changed directories get on success: SOURCE_DATE_EPOCH.
    pub(super) epoch: Option<i64>,
}

impl Record {
    pub(super) fn new(entries: Vec<Entry>, dirs: Vec<DirTime>, epoch: Option<i64>) -> Self {
        Self {
            schema: SCHEMA,
            entries,
            dirs,
            epoch,
        }
    }
}

/// A journal on disk, locked by this process.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    dir: OwnedFd,
    place: RootPath,
    pub(super) record: Record,
    committed: bool,
}

/// The canonical directory of the journal.
pub(super) fn place(root: &Root) -> Result<RootPath, IoError> {
    root.canonical(&RootPath::fixed(DIR), Last::Follow)
}

fn io_error(verb: &'static str) -> impl Fn(io::Error) -> IoError {
    move |error| IoError::new(verb, format_args!("{DIR}/{NAME}"), error)
}

impl Journal {
    /// Writes `record` and makes it visible in one step.
    pub(super) fn create(root: &Root, record: Record) -> Result<Self, JournalError> {
        let place = place(root)?;
        let dir = root.strict_dir(&place)?;
        let file = write_whole(&dir, &record).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => JournalError::Pending,
            _ => JournalError::Io(io_error("write")(error)),
        })?;
        Ok(Self {
            file,
            dir,
            place,
            record,
            committed: false,
        })
    }

    /// The journal that an interrupted run left, if there is one.
    pub(super) fn find(root: &Root) -> Result<Option<Self>, JournalError> {
        let place = place(root)?;
        let dir = match root.meta(&place, Last::Follow)? {
            Some(meta) if meta.kind == Kind::Dir => root.strict_dir(&place)?,
            _ => return Ok(None),
        };
        // A device is not even opened.
        match meta_at(&dir, NAME).map_err(io_error("look at"))? {
            None => return Ok(None),
            Some(meta) => trusted(&meta)?,
        }
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd =
            rustix::fs::openat(&dir, NAME, flags, Mode::empty()).map_err(|e| io_error("open")(e.into()))?;
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::AGAIN) => return Err(JournalError::Busy),
            other => other.map_err(|e| io_error("lock")(e.into()))?,
        }
        let mut file = File::from(fd);
        let (record, committed) = parse(&mut file)?;
        Ok(Some(Self {
            file,
            dir,
            place,
            record,
            committed,
        }))
    }

    /// From here on an interrupted run is finished, not undone.
    pub(super) fn commit(&mut self) -> Result<(), IoError> {
        let write = |file: &mut File| {
            file.seek(SeekFrom::End(0))?;
            file.write_all(COMMITTED)?;
            file.sync_data()
        };
        write(&mut self.file).map_err(io_error("write"))?;
        self.committed = true;
        Ok(())
    }

    /// Whether it is finished forwards.
    pub(super) fn is_committed(&self) -> bool {
        self.committed
    }

    /// Finishes what the journal says: forwards when committed, else backwards; then removes it.
    pub(super) fn settle(self, root: &Root) -> Result<Settled, IoError> {
        if self.committed {
            self.forget(root)?;
        } else {
            for entry in self.record.entries.iter().rev() {
                undo(root, entry)?;
            }
        }
        self.set_times(root)?;
        rustix::fs::syncfs(&self.dir).map_err(|e| io_error("sync")(e.into()))?;
        rustix::fs::unlinkat(&self.dir, NAME, AtFlags::empty()).map_err(|e| io_error("remove")(e.into()))?;
        if let Some(dir) = self.record.dirs.iter().find(|dir| dir.path == self.place) {
            set_dir_time(root, dir, self.target_time(dir))?;
        }
        Ok(if self.committed {
            Settled::Finished
        } else {
            Settled::RolledBack
        })
    }

    /// The old bytes and then the old names go. What fails for one does not stop the others; its old file stays for the
    /// next run, and the first failure is told.
    fn forget(&self, root: &Root) -> Result<(), IoError> {
        let mut failures = BTreeMap::new();
        for (number, entry) in self.record.entries.iter().enumerate() {
            if let Err(error) = overwrite(root, entry) {
                failures.insert(number, error);
            }
        }
        if self.record.entries.iter().any(|entry| entry.wipe) {
            // Before the names go, or a file system may never write what has none; once for all.
            rustix::fs::syncfs(&self.dir).map_err(|e| io_error("sync")(e.into()))?;
        }
        for (number, entry) in self.record.entries.iter().enumerate().rev() {
            if !failures.contains_key(&number)
                && let Err(error) = forget(root, entry)
            {
                failures.insert(number, error);
            }
        }
        failures.into_values().next().map_or(Ok(()), Err)
    }

    /// Of directories that got or lost entries, but the journal's own.
    fn set_times(&self, root: &Root) -> Result<(), IoError> {
        for dir in self.record.dirs.iter().filter(|dir| dir.path != self.place) {
            set_dir_time(root, dir, self.target_time(dir))?;
        }
        let Some(epoch) = self.record.epoch.filter(|_| self.committed) else {
            return Ok(());
        };
        let is_new = |entry: &&Entry| entry.undo == Undo::RemoveDir;
        for entry in self.record.entries.iter().filter(is_new) {
            let dir = DirTime {
                path: entry.path.clone(),
                mtime: epoch,
                nsec: 0,
            };
            set_dir_time(root, &dir, Some((epoch, 0)))?;
        }
        Ok(())
    }

    fn target_time(&self, dir: &DirTime) -> Option<(i64, u32)> {
        match (self.committed, self.record.epoch) {
            (false, _) => Some((dir.mtime, dir.nsec)),
            (true, Some(epoch)) => Some((epoch, 0)),
            (true, None) => None,
        }
    }
}

/// An unnamed file gets its name only when it is whole, and its directory's time is in it already: a kill
/// before that leaves no trace at all.
fn write_whole(dir: &OwnedFd, record: &Record) -> io::Result<File> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    // With the mark of the commit; what is longer could not be read again.
    if (line.len() + COMMITTED.len()) as u64 > LIMIT {
        let why = format!("it would be larger than {LIMIT} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    let named = OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
    let (mut file, has_name) = match unnamed::create(dir) {
        Ok(file) => (file, false),
        Err(error)
            if matches!(
                Errno::from_io_error(&error),
                Some(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL)
            ) =>
        {
            let fd = rustix::fs::openat(dir, NEW_NAME, named, Mode::from_raw_mode(0o600))?;
            (File::from(fd), true)
        }
        Err(error) => return Err(error),
    };
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    file.write_all(&line)?;
    file.sync_all()?;
    if has_name {
        rustix::fs::renameat_with(dir, NEW_NAME, dir, NAME, rustix::fs::RenameFlags::NOREPLACE)?;
    } else {
        unnamed::give_name(&file, dir, NAME)?;
    }
    rustix::fs::fsync(dir)?;
    Ok(file)
}

fn parse(file: &mut File) -> Result<(Record, bool), JournalError> {
    let stat = rustix::fs::fstat(&*file).map_err(|e| io_error("look at")(e.into()))?;
    trusted(&Meta::of(&stat))?;
    let mut bytes = Vec::new();
    file.take(LIMIT)
        .read_to_end(&mut bytes)
        .map_err(io_error("read"))?;
    let end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(bytes.len());
    let (line, rest) = bytes.split_at(end);
    let record: Record = serde_json::from_slice(line).map_err(|e| JournalError::Unusable(e.to_string()))?;
    if record.schema != SCHEMA {
        return Err(JournalError::Unusable(format!(
            "its schema is {}, this ssmbake reads {SCHEMA}",
            record.schema
        )));
    }
    check_names(&record)?;
    Ok((record, rest.get(1..) == Some(COMMITTED)))
}

/// What a journal says is done as root: only who could do it anyway may have written it.
fn trusted(meta: &Meta) -> Result<(), JournalError> {
    let own = rustix::process::geteuid().as_raw();
    let why = match meta {
        meta if meta.kind != Kind::File => "it is not a regular file".to_owned(),
        meta if meta.uid != 0 && meta.uid != own => format!("it belongs to user {}", meta.uid),
        meta if meta.mode & 0o022 != 0 => format!("its mode is {:04o}: others may write to it", meta.mode),
        _ => return Ok(()),
    };
    Err(JournalError::Unusable(why))
}

/// Names that are not our own could lead out of their directory, and of the root.
fn check_names(record: &Record) -> Result<(), JournalError> {
    for (number, entry) in record.entries.iter().enumerate() {
        let backup = match &entry.undo {
            Undo::Restore { backup } => Some((backup, backup_name(number))),
            _ => None,
        };
        let staged = entry.temp.as_ref().map(|temp| (temp, staged_name(number)));
        for (name, own) in backup.into_iter().chain(staged) {
            if *name != own {
                let why = format!("it names `{}` where `{own}` belongs", name.escape_debug());
                return Err(JournalError::Unusable(why));
            }
        }
    }
    Ok(())
}

fn undo(root: &Root, entry: &Entry) -> Result<(), IoError> {
    settle_entry(root, entry, "restore", |dir, name| match &entry.undo {
        Undo::Remove => remove(dir, name, AtFlags::empty()),
        Undo::RemoveDir => remove(dir, name, AtFlags::REMOVEDIR),
        Undo::Restore { backup } => restore(dir, backup, name),
        Undo::KeepDir => Ok(()),
    })
}

/// The bytes of the old file, where they are a secret.
fn overwrite(root: &Root, entry: &Entry) -> Result<(), IoError> {
    let Undo::Restore { backup } = &entry.undo else {
        return Ok(());
    };
    if !entry.wipe {
        return Ok(());
    }
    let Some((parent, dir)) = entry.path.parent().zip(open_parent(root, &entry.path)?) else {
        return Ok(());
    };
    wipe(&dir, backup).map_err(|error| IoError::new("overwrite", format_args!("{parent}/{backup}"), error))
}

/// Commits: the old names go.
fn forget(root: &Root, entry: &Entry) -> Result<(), IoError> {
    settle_entry(root, entry, "clean up beside", |dir, name| match &entry.undo {
        Undo::Restore { backup } => remove(dir, backup.as_str(), AtFlags::empty()),
        Undo::KeepDir => match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            // Somebody else's files are in it: it stays.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY) => Ok(()),
            Err(error) => Err(error.into()),
        },
        Undo::Remove | Undo::RemoveDir => Ok(()),
    })
}

/// Removes what was staged for an entry, then does `act` with its directory and name.
fn settle_entry(
    root: &Root,
    entry: &Entry,
    verb: &'static str,
    act: impl FnOnce(&OwnedFd, &[u8]) -> io::Result<()>,
) -> Result<(), IoError> {
    let Some(dir) = open_parent(root, &entry.path)? else {
        return Ok(());
    };
    let staged = entry
        .temp
        .as_deref()
        .map_or(Ok(()), |temp| remove(&dir, temp, AtFlags::empty()));
    staged
        .and_then(|()| act(&dir, &entry.path.raw_name()))
        .map_err(|error| IoError::new(verb, &entry.path, error))
}

/// A parent that does not exist (any more) was made by the interrupted run: nothing is below it.
fn open_parent(root: &Root, path: &RootPath) -> Result<Option<OwnedFd>, IoError> {
    let Some(parent) = path.parent() else {
        return Ok(None);
    };
    match root.strict_dir(&parent) {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove(dir: &impl AsFd, name: impl Arg, flags: AtFlags) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, flags) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn restore(dir: &impl AsFd, backup: &str, name: &[u8]) -> io::Result<()> {
    match rustix::fs::renameat(dir, backup, dir, name) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    }
    // rename(2) does nothing when both names are one file already.
    remove(dir, backup, AtFlags::empty())
}

fn set_dir_time(root: &Root, dir: &DirTime, time: Option<(i64, u32)>) -> Result<(), IoError> {
    let Some((seconds, nanos)) = time else {
        return Ok(());
    };
    let fd = match root.strict_dir(&dir.path) {
        Ok(fd) => fd,
        // It was removed in the same run.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    rustix::fs::futimens(&fd, &times(seconds, nanos))
        .map_err(|error| IoError::new("set the time of", &dir.path, error))
}

/// A modification time; the access time stays.
pub(super) fn times(seconds: i64, nanos: u32) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: rustix::fs::UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: seconds,
            tv_nsec: nanos.into(),
        },
    }
}
