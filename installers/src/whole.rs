//! Files of the build machine that are there as a whole or not at all.
#![expect(
    clippy::disallowed_methods,
    reason = "the boundary to the build machine's own files"
)]

use std::fs::{File, Permissions};
use std::io;
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};

/// As many as the kernel follows.
const LINKS: usize = 40;

/// Who may read a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Whom the umask lets.
    Usual,
    /// Its owner.
    Owner,
}

/// Lets `fill` write what is to be at `path`, which the user named: a link stays one, a file keeps its mode, and what is no
/// file, such as a pipe or a terminal, is written to. What has failed leaves nothing, and what was there stays.
pub fn write<E>(
    path: &Path,
    fail: impl Fn(io::Error) -> E,
    fill: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    let there = std::fs::metadata(path).ok();
    let open = |is_emptied| File::options().write(true).truncate(is_emptied).open(path);
    if there.as_ref().is_some_and(|there| !there.is_file()) {
        return open(false).map_err(&fail).and_then(|mut file| fill(&mut file));
    }
    let place = target(path);
    match create_beside(&place, Readers::Usual) {
        // The file is the user's, its directory is not.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && there.is_some() => {
            open(true).map_err(&fail).and_then(|mut file| fill(&mut file))
        }
        created => {
            let mode = there.map(|there| there.permissions());
            put(&place, created.map_err(&fail)?, mode, fail, fill)
        }
    }
}

/// Puts what `fill` writes at `path`, whatever is there, for its owner alone.
pub(crate) fn replace(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    put(
        path,
        create_beside(path, Readers::Owner)?,
        None,
        |error| error,
        fill,
    )
}

/// Fills a file that has a name of its own, and gives it that of `path` when it is done.
fn put<E>(
    path: &Path,
    (temp, mut file): (PathBuf, File),
    mode: Option<Permissions>,
    fail: impl Fn(io::Error) -> E,
    fill: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    let mode = mode.map_or(Ok(()), |mode| file.set_permissions(mode));
    let filled = mode.map_err(&fail).and_then(|()| fill(&mut file));
    let synced = filled.and_then(|()| file.sync_all().map_err(&fail));
    let written = synced.and_then(|()| std::fs::rename(&temp, path).map_err(&fail));
    if written.is_err() {
        // That it cannot be removed is not the news.
        drop(std::fs::remove_file(&temp));
    }
    written
}

/// A new file in the same directory, under a name that nobody else has or knows.
fn create_beside(path: &Path, readers: Readers) -> io::Result<(PathBuf, File)> {
    let temp = path.with_file_name(random_name()?);
    let mut options = File::options();
    // Never through a link, never a file that is there.
    options.write(true).create_new(true);
    #[cfg(unix)]
    if readers == Readers::Owner {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _everybody = readers;
    let file = options.open(&temp)?;
    Ok((temp, file))
}

/// `.ssmbake-` and what nobody can guess.
pub(crate) fn random_name() -> io::Result<String> {
    let mut bytes = [0; 16];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| io::Error::other("the system has no random numbers"))?;
    Ok(format!(".ssmbake-{}", ssmbake_manifests::hex::encode(&bytes)))
}

/// Where a link leads, also to what is not there yet.
fn target(path: &Path) -> PathBuf {
    let mut place = path.to_owned();
    for _ in 0..LINKS {
        let Ok(next) = std::fs::read_link(&place) else {
            break;
        };
        // Relative to the link; an absolute one replaces the whole.
        place = place.parent().map_or(next.clone(), |dir| dir.join(next));
    }
    place
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn put(path: &Path, text: &str, end: io::Result<()>) -> io::Result<()> {
        write(
            path,
            |error| error,
            |file| file.write_all(text.as_bytes()).and(end),
        )
    }

    fn count(dir: &Path) -> usize {
        std::fs::read_dir(dir).expect("list").count()
    }

    #[test]
    fn what_fails_leaves_nothing_and_what_was_there_stays() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("file.toml");
        let full = || Err(io::ErrorKind::StorageFull.into());
        assert!(put(&path, "half", full()).is_err());
        assert_eq!(count(dir.path()), 0);
        put(&path, "whole", Ok(())).expect("file");
        assert!(put(&path, "half", full()).is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("file"), "whole");
        assert_eq!(count(dir.path()), 1);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_modes_stay_and_private_files_replace_links() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().expect("directory");
        let (real, link, new) = (
            dir.path().join("real"),
            dir.path().join("link"),
            dir.path().join("new"),
        );
        std::fs::write(&real, "old").expect("file");
        std::fs::set_permissions(&real, Permissions::from_mode(0o600)).expect("mode");
        symlink("real", &link).expect("link");
        put(&link, "text", Ok(())).expect("file");
        assert_eq!(std::fs::read_to_string(&real).expect("file"), "text");
        assert_eq!(
            std::fs::metadata(&real).expect("file").permissions().mode() & 0o777,
            0o600
        );
        assert!(link.is_symlink());
        // One that leads to what is not there yet.
        let ahead = dir.path().join("ahead");
        symlink(&new, &ahead).expect("link");
        put(&ahead, "text", Ok(())).expect("file");
        assert!(ahead.is_symlink() && new.is_file());
        replace(&link, |file| file.write_all(b"mine")).expect("file");
        assert!(!link.is_symlink() && std::fs::read_to_string(&real).expect("file") == "text");
        assert_eq!(
            std::fs::metadata(&link).expect("file").permissions().mode() & 0o777,
            0o600
        );
    }
}
