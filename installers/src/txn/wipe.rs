//! Overwrites what no copy may have. Once for each file; the caller sees to it that it reaches the disk.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::root::{Kind, Meta};

/// Overwrites a regular file that has no other name, in its own blocks where the file system does so. Holes stay holes.
pub(super) fn wipe(dir: &impl AsFd, name: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(fd) => fd,
        // It is gone, or a link, a socket, a fifo, or a program that runs.
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NODEV | Errno::TXTBSY) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let stat = rustix::fs::fstat(&fd)?;
    let meta = Meta::of(&stat);
    if meta.kind != Kind::File || stat.st_nlink > 1 {
        return Ok(());
    }
    let mut file = File::from(fd);
    let mut at = 0;
    while let Some((start, end)) = next_data(&file, at, meta.size)? {
        file.seek(SeekFrom::Start(start))?;
        io::copy(&mut io::repeat(0).take(end - start), &mut file)?;
        at = end;
    }
    Ok(())
}

/// Where the next stretch that has blocks begins and ends; none after the last.
fn next_data(file: &File, at: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= size {
        return Ok(None);
    }
    let start = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        // The file system does not know its holes.
        Err(Errno::INVAL) => return Ok(Some((at, size))),
        Err(error) => return Err(error.into()),
    };
    // It may have grown meanwhile, and is not followed then.
    let end = rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(start))?.min(size);
    Ok((start < end).then_some((start, end)))
}
