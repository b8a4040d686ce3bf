//! Files of the build machine that the user names: certificates, key rings, plans, reports.
#![expect(clippy::disallowed_methods, reason = "the boundary to the user's own files")]

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use ssmbake_installers::digest;
use ssmbake_installers::error::IoError;
use ssmbake_installers::whole;

const LIMIT: u64 = 256 * 1024 * 1024;

/// The usual CA bundles of a build machine, in Go's order.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, IoError> {
    let fail = |error| IoError::new("read", path.display(), error);
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(fail)?
        .take(LIMIT)
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    Ok(bytes)
}

/// A file as a whole or not at all; what is no file, such as a pipe or a terminal, is written to.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), IoError> {
    let fail = |error| IoError::new("write", path.display(), error);
    whole::write(path, fail, |file| file.write_all(bytes).map_err(fail))
}

/// Whether [`write`] will find a place: asked before work that would else be done in vain.
pub(crate) fn expect_place(path: &Path) -> Result<(), IoError> {
    let tried = match std::fs::metadata(path) {
        Ok(there) if there.is_file() => File::options().append(true).open(path).map(drop),
        Ok(there) if there.is_dir() => Err(ErrorKind::IsADirectory.into()),
        Ok(_) => Ok(()),
        Err(_) => File::create_new(path).and_then(|_| std::fs::remove_file(path)),
    };
    tried.map_err(|error| IoError::new("write", path.display(), error))
}

/// Whether a file's first bytes are these.
pub(crate) fn begins_with(path: &Path, mark: &[u8]) -> Result<bool, IoError> {
    let fail = |error| IoError::new("read", path.display(), error);
    let mut head = Vec::new();
    let file = File::open(path).map_err(fail)?;
    file.take(mark.len() as u64)
        .read_to_end(&mut head)
        .map_err(fail)?;
    Ok(head == mark)
}

/// The directory that a file is to be in.
pub(crate) fn make_parent(path: &Path) -> Result<(), IoError> {
    let dir = path.parent().unwrap_or(path);
    std::fs::create_dir_all(dir).map_err(|error| IoError::new("create", dir.display(), error))
}

/// A file of any size, part by part.
pub(crate) fn read_through(path: &Path, take: impl FnMut(&[u8])) -> Result<(), IoError> {
    let fail = |error| IoError::new("read", path.display(), error);
    let file = File::open(path).map_err(fail)?;
    digest::read_through(file, take).map_err(fail)
}

/// The build machine's own CA bundle, if it has one.
pub(crate) fn ca_bundle() -> Option<Vec<u8>> {
    BUNDLES.iter().find_map(|path| std::fs::read(path).ok())
}

/// The signals that whoever started this program wants ignored, as a mask: bit 0 is signal 1.
pub(crate) fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // Without /proc none is known to be.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

/// Seconds since the epoch.
pub(crate) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    // A clock before 1970 is no clock.
    since
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .unwrap_or(0)
}
