//! Package formats: reading a verified package and registering it in the target's own database. One folder a format.
//! Nothing here fetches or verifies signatures, and nothing writes: the result is a [`crate::txn::ChangeSet`].

pub mod deb;

use crate::error::IoError;

/// What is wrong with a package whose signature may well be good.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// It is not built as its format says.
    #[error("the package is malformed: {0}")]
    Malformed(String),
    /// It has a member that no honest package has.
    #[error("the package is refused: member `{member}` {why}")]
    Hostile {
        /// The member's name as the archive has it.
        member: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It unpacks to more than the limit.
    #[error("the package unpacks to more than {limit} bytes")]
    TooLarge {
        /// Bytes.
        limit: u64,
    },
    /// It is a good package, but not the one that was asked for.
    #[error("the package's {field} is `{found}`, `{wanted}` was asked for")]
    WrongPackage {
        /// The control field.
        field: &'static str,
        /// As asked.
        wanted: String,
        /// As the package says.
        found: String,
    },
    /// The build machine's disk said no.
    #[error(transparent)]
    Io(#[from] IoError),
}
