//! Files without a name: nobody else sees them, and they are gone with their descriptor until they get one.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::error::IoError;
use crate::root::{Root, RootPath};

/// A new one on the file system of `root`, so that the payload of a package can be unpacked there and later be named
/// instead of copied. Not every file system has such files.
pub fn unnamed_file(root: &Root) -> Result<File, IoError> {
    create(root).map_err(|error| IoError::new("create a temporary file in", RootPath::top(), error))
}

/// In the file system of `dir`, readable by its owner only.
pub(super) fn create(dir: &impl AsFd) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, ".", flags, Mode::from_raw_mode(0o600))?;
    Ok(File::from(fd))
}

/// Names it; an entry that is there already is an error.
pub(super) fn give_name(file: &File, dir: &impl AsFd, name: &str) -> io::Result<()> {
    match rustix::fs::linkat(file, "", dir, name, AtFlags::EMPTY_PATH) {
        // Without CAP_DAC_READ_SEARCH the kernel wants the way through /proc.
        Err(Errno::NOENT | Errno::PERM) => {
            let own = format!("/proc/self/fd/{}", file.as_raw_fd());
            Ok(rustix::fs::linkat(
                rustix::fs::CWD,
                own,
                dir,
                name,
                AtFlags::SYMLINK_FOLLOW,
            )?)
        }
        other => Ok(other?),
    }
}
