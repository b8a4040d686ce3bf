//! The newest catalog of each signer that this machine has taken. Whether another may be taken is not judged here.
#![expect(clippy::disallowed_methods, reason = "the memory is a file of the user's own")]

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use ssmbake_installers::error::IoError;
use ssmbake_manifests::hex;

use crate::exit::{self, Failure};
use crate::{Environment, host};

/// What was seen.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seen {
    pub(crate) signer: String,
    pub(crate) serial: u64,
    /// Hex.
    pub(crate) sha256: String,
}

/// Where it is kept; nowhere without a home.
pub(crate) fn place(environment: &Environment, signer: &str) -> Option<PathBuf> {
    let of = |name: &str| environment.get(name).filter(|text| !text.is_empty());
    let dir = of("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| of("HOME").map(|home| PathBuf::from(home).join(".local/state")))
        .or_else(|| of("LOCALAPPDATA").map(PathBuf::from))?;
    let name = hex::encode(&Sha256::digest(signer)[..16]);
    Some(dir.join(format!("ssmbake/catalog-{name}.json")))
}

/// Keeps other runs away until it is dropped: two at once would each miss what the other has seen.
pub(crate) fn lock(path: &Path) -> Result<File, IoError> {
    host::make_parent(path)?;
    let path = path.with_extension("lock");
    let fail = |error| IoError::new("lock", path.display(), error);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.map_err(fail)?;
    file.lock().map_err(fail)?;
    Ok(file)
}

/// What cannot be read is an error: else whoever damages it could go back.
pub(crate) fn read(path: &Path) -> Result<Option<Seen>, Failure> {
    let bytes = match host::read(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        read => read?,
    };
    let seen = serde_json::from_slice(&bytes);
    seen.map(Some).map_err(|error| {
        let what = format!(
            "`{}`, the memory of the newest catalog, is damaged: {error}",
            path.display()
        );
        let hint = "restore it, or remove it if you know which catalog is the newest";
        Failure::new(exit::TARGET, what, hint)
    })
}

pub(crate) fn write(path: &Path, seen: &Seen) -> Result<(), Failure> {
    let text = serde_json::to_string(seen).map_err(|error| Failure::new(exit::INTERNAL, error, ""))?;
    Ok(host::write(path, format!("{text}\n").as_bytes())?)
}
