//! Writes new files beside their places. Nothing here is visible yet.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, XattrFlags};
use rustix::io::Errno;

use super::change::{Content, Perm, SpoolSlice, Want};
use super::journal::{Entry, times};
use super::{Change, Checkpoint, unnamed};
use crate::error::IoError;
use crate::root::{Kind, Root, RootPath, to_raw};
use crate::selinux;

/// Makes directories and writes all new files under their temporary names.
pub(super) fn stage_all(
    root: &Root,
    pairs: &[(&Change, &Entry)],
    epoch: Option<i64>,
    checkpoint: &Checkpoint<'_>,
) -> Result<(), IoError> {
    check_space(root, pairs)?;
    let is_hard_link = |change: &Change| matches!(change.want, Want::HardLink { .. });
    for (change, entry) in pairs.iter().filter(|(change, _)| !is_hard_link(change)) {
        checkpoint(&change.path)
            .and_then(|()| stage(root, change, entry, epoch))
            .map_err(|error| IoError::new("write", &change.path, error))?;
    }
    for (change, entry) in pairs.iter().filter(|(change, _)| is_hard_link(change)) {
        stage_hard_link(root, change, entry, pairs)
            .map_err(|error| IoError::new("link", &change.path, error))?;
    }
    sync(root)
}

/// Everything reaches the disk before the next step begins. One call for the file system costs less than one a
/// file, and the order is what matters.
pub(super) fn sync(root: &Root) -> Result<(), IoError> {
    rustix::fs::syncfs(root).map_err(|error| IoError::new("sync", RootPath::top(), error))
}

/// A disk that is too full is better found before 100 MB are written to it. Reserved blocks count for root.
fn check_space(root: &Root, pairs: &[(&Change, &Entry)]) -> Result<(), IoError> {
    let device = rustix::fs::fstat(root).ok().map(|stat| stat.st_dev);
    let needed: u64 = pairs
        .iter()
        .filter_map(|(change, _)| match &change.want {
            // It has its blocks already.
            Want::File {
                content: Content::Spool(slice),
                ..
            } if slice.is_whole && rustix::fs::fstat(&slice.spool).ok().map(|stat| stat.st_dev) == device => {
                None
            }
            Want::File { content, .. } => Some(content.len()),
            _ => None,
        })
        .sum();
    let Ok(stat) = rustix::fs::fstatvfs(root) else {
        return Ok(());
    };
    if stat.f_blocks > 0 && stat.f_bfree.saturating_mul(stat.f_frsize) < needed {
        let free = stat.f_bfree.saturating_mul(stat.f_frsize);
        let why = format!("{needed} bytes are needed, {free} are free");
        return Err(IoError::new(
            "write to",
            RootPath::top(),
            io::Error::new(io::ErrorKind::StorageFull, why),
        ));
    }
    Ok(())
}

fn stage(root: &Root, change: &Change, entry: &Entry, epoch: Option<i64>) -> io::Result<()> {
    let Some(parent) = change.path.parent() else {
        return Ok(());
    };
    let dir = root.strict_dir(&parent).map_err(|error| error.source)?;
    match (&change.want, &entry.temp) {
        (Want::Dir { perm, .. }, _) => set_label(make_dir(&dir, &change.path.raw_name(), *perm)?, change),
        (Want::File { content, perm, mtime }, Some(temp)) => {
            let old = change.before.filter(|meta| meta.kind == Kind::File);
            let name = change.path.raw_name();
            let old = old.map(|_| (&dir, &*name));
            let file = stage_file(&dir, temp, content, *perm, mtime.or(epoch.map(|at| (at, 0))), old)?;
            set_label(file, change)
        }
        (Want::Link { target, mtime }, Some(temp)) => {
            rustix::fs::symlinkat(&*to_raw(target), &dir, temp)?;
            set_link_label(&dir, temp, change)?;
            if let Some(at) = mtime.or(epoch) {
                rustix::fs::utimensat(&dir, temp, &times(at, 0), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// No label was asked for, or it is set. The time of the file is not touched by it.
fn set_label(file: impl AsFd, change: &Change) -> io::Result<()> {
    let Some(label) = &change.label else { return Ok(()) };
    let value = [label.as_bytes(), b"\0"].concat();
    Ok(rustix::fs::fsetxattr(
        file,
        selinux::ATTRIBUTE,
        &value,
        XattrFlags::empty(),
    )?)
}

/// A link cannot be opened, so it is named through the descriptor of its directory.
fn set_link_label(dir: &OwnedFd, temp: &str, change: &Change) -> io::Result<()> {
    let Some(label) = &change.label else { return Ok(()) };
    let value = [label.as_bytes(), b"\0"].concat();
    let path = format!("/proc/self/fd/{}/{temp}", dir.as_raw_fd());
    Ok(rustix::fs::lsetxattr(
        path,
        selinux::ATTRIBUTE,
        &value,
        XattrFlags::empty(),
    )?)
}

fn make_dir(dir: &impl AsFd, name: &[u8], perm: Perm) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    set_owner(&fd, perm.uid, perm.gid)?;
    // After the owner, because chown clears setuid and setgid; whatever the umask says.
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(perm.mode))?;
    Ok(fd)
}

fn set_owner(fd: &impl AsFd, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    Ok(rustix::fs::fchown(fd, Some(uid), Some(gid))?)
}

fn stage_file(
    dir: &OwnedFd,
    temp: &str,
    content: &Content,
    perm: Perm,
    mtime: Option<(i64, u32)>,
    old: Option<(&OwnedFd, &[u8])>,
) -> io::Result<File> {
    let file = match content {
        Content::Spool(slice) => match adopt(dir, temp, slice) {
            Some(file) => file,
            None => copy_slice(create_new(dir, temp)?, slice)?,
        },
        Content::Bytes(bytes) => {
            let mut file = create_new(dir, temp)?;
            file.write_all(bytes)?;
            file
        }
    };
    set_owner(&file, perm.uid, perm.gid)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(perm.mode))?;
    if let Some((dir, name)) = old {
        copy_xattrs(dir, name, &file, content)?;
    }
    if let Some((seconds, nanos)) = mtime {
        rustix::fs::futimens(&file, &times(seconds, nanos))?;
    }
    Ok(file)
}

/// Nobody but root reads it before it has its own mode.
fn create_new(dir: &OwnedFd, temp: &str) -> io::Result<File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, temp, flags, Mode::from_raw_mode(0o600))?;
    Ok(File::from(fd))
}

fn copy_slice(mut file: File, slice: &SpoolSlice) -> io::Result<File> {
    let copied = io::copy(&mut slice.reader()?, &mut file)?;
    match copied == slice.len {
        true => Ok(file),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// A file that was unpacked on this file system needs a name only. None where that cannot be: on another file system,
/// on one that refuses, or when the file was adopted before and a second name would make the two places one.
fn adopt(dir: &OwnedFd, temp: &str, slice: &SpoolSlice) -> Option<File> {
    if !slice.is_whole || rustix::fs::fstat(&slice.spool).ok()?.st_nlink != 0 {
        return None;
    }
    let file = slice.spool.try_clone().ok()?;
    unnamed::give_name(&file, dir, temp).ok()?;
    Some(file)
}

/// A file that is edited keeps its attributes; one that comes from a package keeps only the SELinux label.
fn copy_xattrs(dir: &OwnedFd, name: &[u8], to: &File, content: &Content) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let from = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(from) => from,
        // Whether that matters is seen when the change is made.
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut names = vec![0_u8; 1 << 16];
    let used = match rustix::fs::flistxattr(&from, &mut names) {
        Ok(used) => used,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let is_payload = matches!(content, Content::Spool(_));
    for name in names[..used]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        if is_payload && name != b"security.selinux" {
            continue;
        }
        let mut value = vec![0_u8; 1 << 16];
        let size = rustix::fs::fgetxattr(&from, name, &mut value)?;
        rustix::fs::fsetxattr(to, name, &value[..size], XattrFlags::empty())?;
    }
    Ok(())
}

fn stage_hard_link(
    root: &Root,
    change: &Change,
    entry: &Entry,
    pairs: &[(&Change, &Entry)],
) -> io::Result<()> {
    let (Want::HardLink { to }, Some(temp), Some(parent)) = (&change.want, &entry.temp, change.path.parent())
    else {
        return Ok(());
    };
    let dir = root.strict_dir(&parent).map_err(|error| error.source)?;
    let first = pairs.iter().find(|(other, _)| other.path == *to);
    // The first name is either staged in this run or stands in the tree as wanted.
    let own = to.raw_name();
    let staged = first.and_then(|(_, entry)| entry.temp.as_deref());
    let name = staged.map_or(&*own, str::as_bytes);
    let Some(first_parent) = to.parent() else {
        return Err(io::ErrorKind::NotFound.into());
    };
    let first_dir = root.strict_dir(&first_parent).map_err(|error| error.source)?;
    rustix::fs::linkat(&first_dir, name, &dir, temp, AtFlags::empty())?;
    Ok(())
}
