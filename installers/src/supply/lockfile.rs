//! The lock file: exactly which packages, by digest and signer. With it a build is repeated, not made anew.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use ssmbake_manifests::{AgentVersion, Arch, PackageFormat};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::acquire::{Verified, Voucher, address};
use crate::supply::Target;

/// The version of the file's shape.
pub const SCHEMA: u32 = 1;

/// The name of a lock in a bundle and in a mirror.
pub const NAME: &str = "ssmbake.lock";

const HEAD: &str =
    "# Written by `ssmbake lock`. `ssmbake apply --lock` takes these packages and no others.\n\n";
/// No lock has more packages than there are folders and old versions.
const LIMIT: usize = 256;

/// Why a lock is none, or does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// It cannot be read.
    #[error("the lock is malformed: {0}")]
    Malformed(String),
    /// The system is not in it.
    #[error("the lock has no package for {system} on {arch}")]
    Missing {
        /// Its id.
        system: String,
        /// Its architecture.
        arch: Arch,
    },
    /// The package is good and another one.
    #[error("the lock wants {field} {wanted}, the package has {found}")]
    Other {
        /// What differs.
        field: &'static str,
        /// As locked.
        wanted: String,
        /// As found.
        found: String,
    },
}

/// Who signed a locked package, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signer {
    /// Fingerprint of the OpenPGP key, or the certificate's common name and SHA-256.
    pub key: String,
    /// RFC 3339, UTC.
    pub at: String,
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    /// The agent's version.
    pub version: AgentVersion,
    /// The folder below the version.
    pub folder: String,
    /// The package's format.
    pub format: PackageFormat,
    /// Its architecture.
    pub arch: Arch,
    /// Where it was fetched from.
    pub url: String,
    /// Bytes.
    pub size: u64,
    /// Hex.
    pub sha256: String,
    /// Ids of the catalog's.
    pub systems: Vec<String>,
    /// Who vouches for it.
    pub signer: Signer,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockFile {
    /// Version of this shape.
    pub schema: u32,
    /// Ordered by folder and version.
    pub package: Vec<Locked>,
}

impl Locked {
    /// Pins what was verified.
    pub fn new(target: &Target, verified: &Verified) -> Self {
        Self {
            version: target.version,
            folder: target.folder.clone(),
            format: target.format,
            arch: target.arch,
            url: verified.url().to_owned(),
            size: verified.size(),
            sha256: verified.sha256(),
            systems: target.systems.clone(),
            signer: Signer::of(verified.voucher()),
        }
    }

    /// The base URL that the package was fetched from; none where its URL has another shape.
    pub fn base_url(&self) -> Option<&str> {
        let (base, _) = self
            .url
            .rsplit_once(&format!("/{}/{}/", self.version, self.folder))?;
        Some(base)
    }

    /// What is to be fetched again.
    pub fn target(&self) -> Target {
        Target {
            version: self.version,
            folder: self.folder.clone(),
            format: self.format,
            arch: self.arch,
            systems: self.systems.clone(),
        }
    }

    /// Whether `verified` is this very package by this very signature.
    pub fn expect(&self, verified: &Verified) -> Result<(), LockError> {
        same("SHA-256", &self.sha256, &verified.sha256())?;
        same("size", &self.size.to_string(), &verified.size().to_string())?;
        self.signer.expect(verified.voucher())
    }
}

fn same(field: &'static str, wanted: &str, found: &str) -> Result<(), LockError> {
    if wanted == found {
        return Ok(());
    }
    Err(LockError::Other {
        field,
        wanted: wanted.to_owned(),
        found: found.to_owned(),
    })
}

impl Signer {
    /// Whether a package is vouched for by this very signature.
    pub fn expect(&self, voucher: &Voucher) -> Result<(), LockError> {
        let found = Self::of(voucher);
        same("the signer", &self.key, &found.key)?;
        same("the signature of", &self.at, &found.at)
    }

    /// Of what vouches for a package.
    pub fn of(voucher: &Voucher) -> Self {
        match voucher {
            Voucher::Signature(by) => Self {
                key: by.fingerprint.clone(),
                at: instant(by.signed_at),
            },
            Voucher::Authenticode(by) => Self {
                key: format!("{}, certificate {}", by.name, by.certificate),
                at: instant(by.signed_at),
            },
            Voucher::PinnedDigest => Self {
                key: "none".to_owned(),
                at: String::new(),
            },
        }
    }
}

/// RFC 3339 as seconds since the epoch.
pub fn seconds(text: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Some(time.unix_timestamp())
}

/// Seconds since the epoch as RFC 3339.
pub fn instant(seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| seconds.to_string())
}

impl LockFile {
    /// A lock of `package`, in order.
    pub fn new(mut package: Vec<Locked>) -> Self {
        package.sort_by(|one, other| (&one.folder, one.version).cmp(&(&other.folder, other.version)));
        Self {
            schema: SCHEMA,
            package,
        }
    }

    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, LockError> {
        let malformed = |why: String| LockError::Malformed(why);
        let mut lock: Self = toml::from_str(text).map_err(|error| malformed(error.message().to_owned()))?;
        if lock.schema != SCHEMA {
            let why = format!("its schema is {}, this ssmbake reads {SCHEMA}", lock.schema);
            return Err(malformed(why));
        }
        if lock.package.is_empty() || lock.package.len() > LIMIT {
            return Err(malformed(format!("it has {} packages", lock.package.len())));
        }
        let is_word = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        let mut places = BTreeSet::new();
        for one in &mut lock.package {
            one.url = address::shown(&one.url);
            if !places.insert((one.folder.clone(), one.version)) {
                return Err(malformed(format!(
                    "{} {} is in it twice",
                    one.version, one.folder
                )));
            }
            let is_digest = one.sha256.len() == 64
                && one
                    .sha256
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            // Folders become paths.
            if !is_digest || !is_word(&one.folder) {
                return Err(malformed(format!("`{}` has no digest or no folder", one.url)));
            }
        }
        Ok(lock)
    }

    /// The file's text.
    pub fn render(&self) -> String {
        // A lock is strings, numbers and lists: it cannot fail to serialise.
        let body = toml::to_string(self).unwrap_or_else(|error| error.to_string());
        format!("{HEAD}{body}")
    }

    /// The package for a system.
    pub fn find(&self, system: &str, arch: Arch) -> Result<&Locked, LockError> {
        let fits =
            |one: &&Locked| one.arch == arch && one.systems.iter().any(|candidate| candidate == system);
        self.package.iter().find(fits).ok_or_else(|| LockError::Missing {
            system: system.to_owned(),
            arch,
        })
    }
}
