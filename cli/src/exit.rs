//! Errors of all phases → exit code and hint. The numbers are documented API.

use ssmbake_installers::acquire::{AcquireError, KeyRingError, NetworkError, VerifyError};
use ssmbake_installers::apply::ApplyError;
use ssmbake_installers::config::SettingError;
use ssmbake_installers::error::IoError;
use ssmbake_installers::packages::PackageError;
use ssmbake_installers::plan::PlanError;
use ssmbake_installers::probe::ProbeError;
use ssmbake_installers::supply::{LockError, MirrorError, SupplyError};
use ssmbake_installers::txn::{JournalError, TxnError};

/// All is as wanted.
pub const OK: u8 = 0;
/// A fault of ssmbake.
pub const INTERNAL: u8 = 1;
/// The command line.
pub const USAGE: u8 = 2;
/// OS or architecture.
pub const UNSUPPORTED: u8 = 3;
/// Region.
pub const REGION: u8 = 4;
/// Signature, digest, version, package.
pub const VERIFICATION: u8 = 5;
/// Network.
pub const NETWORK: u8 = 6;
/// Target or build machine: I/O or permission.
pub const TARGET: u8 = 7;
/// Another install channel, a lock, a changed tree.
pub const CONFLICT: u8 = 8;
/// The audit found failures.
pub const AUDIT: u8 = 9;
/// Failed and taken back.
pub const ROLLED_BACK: u8 = 10;
/// Failed, and could not be taken back; or made, and old files could not be removed.
pub const INCOMPLETE: u8 = 11;
/// Installed, but the running service manager did not start it.
pub const NOT_STARTED: u8 = 12;
/// Done, but a document about it could not be written.
pub const UNREPORTED: u8 = 13;
/// Changed, with --detailed-exitcode.
pub const CHANGED: u8 = 20;

/// And the number of the signal that ended the program.
pub const SIGNAL_BASE: u8 = 128;

/// Every code but those of signals, for the test that keeps them apart.
pub const ALL: [u8; 15] = [
    OK,
    INTERNAL,
    USAGE,
    UNSUPPORTED,
    REGION,
    VERIFICATION,
    NETWORK,
    TARGET,
    CONFLICT,
    AUDIT,
    ROLLED_BACK,
    INCOMPLETE,
    NOT_STARTED,
    UNREPORTED,
    CHANGED,
];

/// What the user is told when something went wrong.
#[derive(Debug)]
pub struct Failure {
    /// Exit code.
    pub code: u8,
    /// What went wrong.
    pub message: String,
    /// What to do; may be empty.
    pub hint: String,
}

impl Failure {
    /// A failure.
    pub fn new(code: u8, message: impl std::fmt::Display, hint: impl Into<String>) -> Self {
        Self {
            code,
            message: message.to_string(),
            hint: hint.into(),
        }
    }

    /// What goes wrong once the tree is changed.
    pub fn unreported(self) -> Self {
        let message = format!("all is done, but {}", self.message);
        Self::new(UNREPORTED, message, self.hint)
    }
}

impl From<IoError> for Failure {
    fn from(error: IoError) -> Self {
        use std::io::ErrorKind;
        let hint = match error.kind() {
            ErrorKind::PermissionDenied => "run as root, or as the owner of the tree",
            ErrorKind::ReadOnlyFilesystem => "mount the image read-write",
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room or enlarge the image",
            ErrorKind::NotFound => "check the path",
            ErrorKind::Unsupported => "a file system without SELinux labels needs --selinux relabel",
            _ => "",
        };
        Self::new(TARGET, error, hint)
    }
}

impl From<ProbeError> for Failure {
    fn from(error: ProbeError) -> Self {
        match error {
            ProbeError::Io(error) => error.into(),
            ProbeError::Damaged { .. } => {
                Self::new(TARGET, error, "repair it; dpkg keeps a copy in status-old")
            }
            ProbeError::Hive { .. } => Self::new(
                TARGET,
                error,
                "restore the hive, or start this Windows once and shut it down cleanly",
            ),
            ProbeError::Unsupported {
                ref evidence,
                ref like,
                ..
            } => {
                let seen = evidence
                    .first()
                    .map(|e| format!("seen in {}: {}", e.path, e.says))
                    .unwrap_or_default();
                let hint = match like {
                    Some(like) => format!("{seen}; it calls itself like {like}: if that holds, say --as OS"),
                    None => seen,
                };
                Self::new(UNSUPPORTED, &error, hint)
            }
            ProbeError::Refused { ref hint, .. } => Self::new(UNSUPPORTED, &error, hint),
            ProbeError::NoSuchSystem { ref known, .. } => Self::new(USAGE, &error, format!("one of {known}")),
            other => Self::new(UNSUPPORTED, other, "is --root the top of a complete system tree?"),
        }
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        let (code, hint) = match &error {
            PlanError::Conflict { hint, .. } => (CONFLICT, hint.clone()),
            PlanError::Unsupported { hint, .. } => (UNSUPPORTED, hint.clone()),
            PlanError::Usage { hint, .. } => (USAGE, hint.clone()),
        };
        Self::new(code, error, hint)
    }
}

impl From<SettingError> for Failure {
    fn from(error: SettingError) -> Self {
        let hint = error.hint.clone();
        Self::new(USAGE, error, hint)
    }
}

impl From<KeyRingError> for Failure {
    fn from(error: KeyRingError) -> Self {
        Self::new(
            USAGE,
            error,
            "give an OpenPGP certificate as `gpg --export` writes it",
        )
    }
}

impl From<NetworkError> for Failure {
    fn from(error: NetworkError) -> Self {
        let hint = match &error {
            NetworkError::Url(_) => return Self::new(USAGE, error, "give an https URL"),
            NetworkError::NotInBundle(_) => {
                return Self::new(
                    VERIFICATION,
                    error,
                    "make one with this package in it, with `bundle create`",
                );
            }
            NetworkError::Write(_) => return Self::new(TARGET, error, "make room in TMPDIR"),
            NetworkError::NotFound { .. } => {
                "check version and region; releases reach regions at different times"
            }
            NetworkError::Connection { why, .. } if why.contains("certificate") => {
                "name the server's CA with --ca-file"
            }
            NetworkError::Interrupted { .. } => "",
            NetworkError::Timeout { .. } => {
                "check network, proxy and --mirror; all downloads together may take longer with --timeout"
            }
            NetworkError::Connection { .. } => "check network, proxy and --mirror",
            _ => "",
        };
        Self::new(NETWORK, error, hint)
    }
}

impl From<PackageError> for Failure {
    fn from(error: PackageError) -> Self {
        match error {
            PackageError::Io(error) => error.into(),
            PackageError::WrongPackage { .. } => Self::new(
                VERIFICATION,
                error,
                "the server offers another package under this name; do not use it",
            ),
            other => Self::new(VERIFICATION, other, "download it again, or use another mirror"),
        }
    }
}

impl From<AcquireError> for Failure {
    fn from(error: AcquireError) -> Self {
        match error {
            AcquireError::Network(error) => error.into(),
            AcquireError::Package(error) => error.into(),
            AcquireError::Io(error) => error.into(),
            AcquireError::NoVersion { .. } => Self::new(NETWORK, error, "check --mirror"),
            AcquireError::Verify {
                source: VerifyError::Revoked { .. },
                ..
            } => Self::new(VERIFICATION, error, "do not use the file"),
            AcquireError::Verify { .. } => Self::new(
                VERIFICATION,
                error,
                "a key of your own mirror is named with --keyring, the signer of a bundle's catalog with --signer-key or                  --signer-identity; else do not use the file",
            ),
        }
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Malformed(_) => Self::new(USAGE, error, "make it with `ssmbake lock`"),
            LockError::Missing { .. } => Self::new(
                VERIFICATION,
                error,
                "make the lock anew with this system among its --os",
            ),
            LockError::Other { .. } => Self::new(
                VERIFICATION,
                error,
                "the server has another package than the one that was locked: do not use it, or lock anew",
            ),
        }
    }
}

impl From<SupplyError> for Failure {
    fn from(error: SupplyError) -> Self {
        match error {
            SupplyError::Malformed(_) => Self::new(VERIFICATION, error, "make it anew with `bundle create`"),
            SupplyError::PlainList { .. } => Self::new(
                VERIFICATION,
                error,
                "give an https URL, or leave --public-url out",
            ),
            SupplyError::List { .. } => Self::new(NETWORK, error, "check --mirror"),
            SupplyError::Unlisted { .. } => Self::new(
                NETWORK,
                error,
                "check version and region, or leave --public-url out",
            ),
            SupplyError::Archive { .. } => Self::new(
                VERIFICATION,
                error,
                "the server offers another file under this name; do not use it",
            ),
            SupplyError::Lock(error) => error.into(),
            SupplyError::Acquire(error) => error.into(),
            SupplyError::Io(error) => error.into(),
        }
    }
}

impl From<MirrorError> for Failure {
    fn from(error: MirrorError) -> Self {
        match error {
            MirrorError::Place { .. } => Self::new(
                USAGE,
                error,
                "give a directory, or s3://BUCKET/PREFIX with AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY set",
            ),
            MirrorError::Contended(_) => {
                Self::new(CONFLICT, error, "let fewer writers work at the same time")
            }
            MirrorError::Store { .. } => {
                Self::new(NETWORK, error, "check place, network, credentials and room")
            }
            MirrorError::Interrupted => Self::new(NETWORK, error, "run it again"),
            MirrorError::Supply(error) => error.into(),
            MirrorError::Io(error) => error.into(),
        }
    }
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Conflict { what, hint } => Self::new(CONFLICT, what, hint),
            ApplyError::Locked { .. } => Self::new(
                CONFLICT,
                error,
                "wait for it to end; without --root, `apply` waits for --lock-timeout seconds",
            ),
            ApplyError::NotStarted { .. } => {
                Self::new(NOT_STARTED, error, "see `journalctl -u amazon-ssm-agent`")
            }
            ApplyError::Package(error) => error.into(),
            ApplyError::Txn(error) => error.into(),
            ApplyError::Io(error) => error.into(),
        }
    }
}

impl From<TxnError> for Failure {
    fn from(error: TxnError) -> Self {
        match error {
            TxnError::Unchanged(error) => error.into(),
            TxnError::RolledBack(_) => Self::new(
                ROLLED_BACK,
                error,
                "the tree is as before; mend the cause and run again",
            ),
            TxnError::Incomplete { .. } => Self::new(
                INCOMPLETE,
                error,
                "mend the cause and run `apply`, `seal` or `revert`: it goes on with the roll-back",
            ),
            TxnError::Left(_) => Self::new(
                INCOMPLETE,
                error,
                "mend the cause and run `apply`, `seal` or `revert`: it goes on; a file that is named and cannot be mended may be removed by hand",
            ),
            TxnError::Journal(error) => error.into(),
        }
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Io(error) => error.into(),
            JournalError::Busy => Self::new(CONFLICT, error, "wait for it to end"),
            JournalError::Pending | JournalError::Unusable(_) => {
                Self::new(INCOMPLETE, error, "restore the tree from its source")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_nobody_elses() {
        let mut codes = ALL.to_vec();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ALL.len());
        // SSM and AWSTOE read 194 as "reboot and run again", virt-tools 249 and 250 alike; 3010 does not fit a byte.
        assert!(codes.iter().all(|code| ![194, 249, 250].contains(code)));
    }
}
