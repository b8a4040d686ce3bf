//! The build machine has no descriptors of directories: trees are looked at here, and changed elsewhere.

use std::fs::File;
use std::io;

use super::{Checkpoint, JournalError, Prepared, Settled, TxnError, is_pending};
use crate::error::IoError;
use crate::root::Root;

fn refusal(root: &Root) -> IoError {
    let why = io::Error::new(io::ErrorKind::Unsupported, "only Linux changes trees");
    IoError::new("change", root.host_path().display(), why)
}

/// Nothing to do is done; anything else is refused.
pub fn commit(
    root: &Root,
    prepared: &Prepared,
    _epoch: Option<i64>,
    _checkpoint: &Checkpoint<'_>,
) -> Result<(), TxnError> {
    if prepared.is_empty() {
        return Ok(());
    }
    Err(TxnError::Unchanged(refusal(root)))
}

/// What an interrupted run left is for Linux to settle.
pub fn recover(root: &Root) -> Result<Option<Settled>, TxnError> {
    match is_pending(root)? {
        true => Err(TxnError::Journal(JournalError::Pending)),
        false => Ok(None),
    }
}

/// There is none.
pub fn unnamed_file(root: &Root) -> Result<File, IoError> {
    Err(refusal(root))
}
