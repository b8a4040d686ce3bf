//! Package formats: reading a verified package and registering it in the target's own database. One folder a format.
//! Nothing here fetches or verifies signatures, and nothing writes: the result is a [`crate::txn::ChangeSet`].

pub mod deb;
pub mod rpm;
pub mod unpack;

use serde::{Deserialize, Serialize};
use ssmbake_manifests::AgentVersion;

use crate::error::IoError;
use crate::root::RootPath;

/// The agent's name in every package format.
pub const PACKAGE: &str = "amazon-ssm-agent";

/// A package of either format.
#[derive(Debug)]
pub enum Package {
    /// For dpkg.
    Deb(deb::archive::DebPackage),
    /// For rpm.
    Rpm(Box<rpm::archive::RpmPackage>),
    /// For Windows, which unpacks it itself.
    Exe(AgentVersion),
}

impl Package {
    /// As its own database will name it: with a revision or release.
    pub fn version(&self) -> String {
        match self {
            Self::Deb(deb) => deb.control.get("Version").unwrap_or_default().to_owned(),
            Self::Rpm(rpm) => rpm.header.evr(),
            Self::Exe(version) => version.to_string(),
        }
    }
}

/// How the target's package database learns of the package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Registration {
    /// It is written here and now.
    Native,
    /// This machine's rpm writes it.
    HostRpm,
    /// The target's own rpm writes it, in a chroot.
    TargetRpm,
    /// The target's own rpm is told at first boot: nothing here can write its form of database.
    FirstBoot,
}

/// A configuration file of which there are two versions now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The one that was there before.
    pub path: RootPath,
    /// The package's.
    pub offered: RootPath,
}

/// Why a good package cannot be installed in this tree.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The tree's own state is against it.
    #[error("{what}")]
    Conflict {
        /// What is in the way.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// The package is at fault.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The disk said no.
    #[error(transparent)]
    Io(#[from] IoError),
}

pub(crate) fn conflict(what: impl Into<String>, hint: impl Into<String>) -> InstallError {
    InstallError::Conflict {
        what: what.into(),
        hint: hint.into(),
    }
}

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
