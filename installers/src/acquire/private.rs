//! Files of the build machine that nobody else may read, name or lay out for us.
#![expect(
    clippy::disallowed_methods,
    reason = "downloads lie on the build machine's own disk"
)]

#[cfg(not(unix))]
pub(super) use other::{make_dir, open_own, unnamed};
#[cfg(unix)]
pub(super) use unix::{make_dir, open_own, unnamed};

#[cfg(unix)]
mod unix {
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::DirBuilderExt;
    use std::path::Path;

    use rustix::fs::{Mode, OFlags};

    use crate::whole;

    /// Gone with its descriptor, whatever happens to us.
    pub(in super::super) fn unnamed(dir: &Path) -> io::Result<File> {
        let mode = Mode::from_raw_mode(0o600);
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        if let Ok(fd) = rustix::fs::open(dir, flags, mode) {
            return Ok(File::from(fd));
        }
        let path = dir.join(whole::random_name()?);
        let named = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, named, mode)?;
        std::fs::remove_file(&path)?;
        Ok(File::from(fd))
    }

    /// Links and files of other users are not ours to trust.
    pub(in super::super) fn open_own(path: &Path) -> Option<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
        let stat = rustix::fs::fstat(&file).ok()?;
        let is_own = stat.st_uid == rustix::process::geteuid().as_raw();
        (is_own && file.metadata().ok()?.is_file()).then_some(file)
    }

    pub(in super::super) fn make_dir(path: &Path) -> io::Result<()> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
    }
}

/// Packages are fetched only to change trees, which only Linux does.
#[cfg(not(unix))]
mod other {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    pub(in super::super) fn unnamed(_dir: &Path) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(in super::super) fn open_own(_path: &Path) -> Option<File> {
        None
    }

    pub(in super::super) fn make_dir(_path: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
