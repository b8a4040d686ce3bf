//! The locks of the package managers.

use crate::apply::{ApplyError, conflict};
use crate::packages::rpm::database::Database;
use crate::root::{Kind, Last, Root, RootPath};

/// libzypp writes the number of the process that holds its lock.
const ZYPP_PID: &str = "/run/zypp.pid";
const ZYPP_PID_LIMIT: usize = 64;

/// What is held until this is dropped.
#[derive(Debug, Default)]
pub struct Locks(Vec<platform::Lock>);

/// The package manager's own locks, so that nobody works on the database meanwhile; and no half-done work of dpkg's
/// may be there.
pub fn lock_database(root: &Root) -> Result<Locks, ApplyError> {
    let mut locks = Locks::default();
    let mut paths = vec![
        RootPath::fixed("/var/lib/dpkg/lock-frontend"),
        RootPath::fixed("/var/lib/dpkg/lock"),
    ];
    paths.extend(Database::find(root)?.map(|database| database.file(".rpm.lock")));
    for path in paths {
        if root
            .meta(&path, Last::Keep)?
            .is_none_or(|meta| meta.kind != Kind::File)
        {
            continue;
        }
        let place = root.canonical(&path, Last::Keep)?;
        match platform::take(root, &place)? {
            Some(lock) => locks.0.push(lock),
            None => return Err(ApplyError::Locked { path }),
        }
    }
    // With the locks ours, what is left is nobody's work.
    let updates = root
        .read_dir(&RootPath::fixed("/var/lib/dpkg/updates"))?
        .unwrap_or_default();
    if let Some(entry) = updates.first() {
        return Err(conflict(
            format!(
                "dpkg was interrupted: `/var/lib/dpkg/updates/{}` is left",
                entry.name
            ),
            "finish its work with `dpkg --configure --pending` in the tree",
        ));
    }
    Ok(locks)
}

/// [`lock_database`] on a running system, where libzypp's programs hold a lock of their own long before rpm's.
pub fn lock_live(root: &Root) -> Result<Locks, ApplyError> {
    let path = RootPath::fixed(ZYPP_PID);
    let text = root.read(&path, ZYPP_PID_LIMIT)?.unwrap_or_default();
    // A file whose process is gone is what a crash left; libzypp takes it over as well.
    let is_held = String::from_utf8_lossy(&text)
        .trim()
        .parse()
        .ok()
        .is_some_and(platform::is_alive);
    if is_held {
        return Err(ApplyError::Locked { path });
    }
    lock_database(root)
}

#[cfg(unix)]
mod platform {
    use std::os::fd::OwnedFd;

    use rustix::fs::{FlockOperation, Mode, OFlags};
    use rustix::io::Errno;
    use rustix::process::{Pid, test_kill_process};

    use crate::error::IoError;
    use crate::root::{Root, RootPath};

    pub(super) type Lock = OwnedFd;

    /// None when somebody else holds it.
    pub(super) fn take(root: &Root, place: &RootPath) -> Result<Option<Lock>, IoError> {
        let dir = root.strict_dir(&place.parent().unwrap_or_else(RootPath::top))?;
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&dir, place.name(), flags, Mode::empty())
            .map_err(|error| IoError::new("open", place, error))?;
        let is_ours = rustix::fs::fcntl_lock(&fd, FlockOperation::NonBlockingLockExclusive).is_ok();
        Ok(is_ours.then_some(fd))
    }

    pub(super) fn is_alive(pid: i32) -> bool {
        Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
    }
}

/// Nothing is changed there, so nothing has to be locked.
#[cfg(not(unix))]
mod platform {
    use crate::error::IoError;
    use crate::root::{Root, RootPath};

    pub(super) type Lock = ();

    pub(super) fn take(_root: &Root, _place: &RootPath) -> Result<Option<Lock>, IoError> {
        Ok(Some(()))
    }

    pub(super) fn is_alive(_pid: i32) -> bool {
        false
    }
}
