//! Supply: packages that are pinned, carried to where no network is, and served to many. Nothing here touches a target.

pub mod bundle;
pub mod lockfile;
pub mod mirror;
pub mod release;
pub mod selection;

use std::path::Path;

use ssmbake_manifests::{AgentFacts, AgentVersion, PackageFormat, hex};

pub use bundle::Bundle;
pub use lockfile::{LockError, LockFile, Locked};
pub use mirror::MirrorError;
pub use selection::{Target, select};

use crate::acquire::openpgp::Check;
use crate::acquire::store::{Fetched, Store};
use crate::acquire::{self, AcquireError, FetchRequest, KeyRing, Origin, Progress, Verified};
use crate::error::IoError;

/// Where packages come from, who may have signed them, and what is needed on the way.
#[derive(Clone, Copy)]
pub struct Supplier<'a> {
    /// A server or a bundle.
    pub origin: &'a (dyn Origin + Sync),
    /// The keys that count.
    pub ring: &'a KeyRing,
    /// How releases are published.
    pub agent: &'a AgentFacts,
    /// For private files.
    pub temp_dir: &'a Path,
    /// Where verified packages are kept; none: nowhere.
    pub cache: Option<&'a Path>,
    /// Told of downloads.
    pub progress: &'a dyn Progress,
}

impl Supplier<'_> {
    /// A package of a lock from where it was, or from `base_url`: the very bytes and the very signature.
    pub fn locked(&self, locked: &Locked, base_url: Option<&str>) -> Result<Verified, SupplyError> {
        let base = base_url.or_else(|| locked.base_url()).unwrap_or_default();
        let verified = self.fetch(&locked.target(), base, hex::digest(&locked.sha256))?;
        locked.expect(&verified)?;
        Ok(verified)
    }

    /// A package of a target, as `base_url` has it.
    pub fn target(&self, target: &Target, base_url: &str) -> Result<Verified, AcquireError> {
        self.fetch(target, base_url, None)
    }

    /// Whether `base_url` has a package of a lock and a good signature of it. Nothing is unpacked.
    pub fn has(&self, locked: &Locked, base_url: &str) -> bool {
        let path = self
            .agent
            .package_path(&locked.version, &locked.folder, locked.format);
        let (url, pin) = (format!("{base_url}/{path}"), hex::digest(&locked.sha256));
        let limit = self.agent.limits.signature_bytes;
        let signature = match locked.format {
            // It is inside.
            PackageFormat::Exe => Ok(Vec::new()),
            _ => self.origin.get_small(&self.agent.signature_path(&url), limit),
        };
        let (Some(pin), Ok(signature)) = (pin, signature) else {
            return false;
        };
        let check = match locked.format {
            PackageFormat::Exe => Check::pinned(pin),
            _ => self.ring.begin(&signature).map(|check| check.and(Some(pin))),
        };
        check.is_ok_and(|check| self.plain(&url, signature, check).is_ok())
    }

    /// A file that is not unpacked.
    fn plain(&self, url: &str, signature: Vec<u8>, check: Check<'_>) -> Result<Fetched, AcquireError> {
        let limit = self.agent.limits.package_bytes;
        acquire::plain(
            self.origin,
            url,
            signature,
            check,
            limit,
            self.temp_dir,
            self.progress,
        )
    }

    fn fetch(
        &self,
        target: &Target,
        base_url: &str,
        pin: Option<[u8; 32]>,
    ) -> Result<Verified, AcquireError> {
        let private = || Store::new(None, self.temp_dir).private_file();
        let request = FetchRequest {
            base_url: base_url.to_owned(),
            version: target.version,
            folder: target.folder.clone(),
            format: target.format,
            arch: target.arch,
            pin,
            cache: self.cache.map(Path::to_owned),
            temp_dir: self.temp_dir.to_owned(),
        };
        acquire::fetch(
            self.origin,
            self.ring,
            self.agent,
            &request,
            &private,
            self.progress,
        )
    }
}

/// Why nothing was pinned, carried or served.
#[derive(Debug, thiserror::Error)]
pub enum SupplyError {
    /// A bundle that is none.
    #[error("the bundle is malformed: {0}")]
    Malformed(String),
    /// A list of releases that somebody between could have written.
    #[error("{url} is unsigned: it counts only when it comes over https")]
    PlainList {
        /// Its URL.
        url: String,
    },
    /// A list of releases that is none.
    #[error("{url} is no list of releases: {why}")]
    List {
        /// Its URL.
        url: String,
        /// Why.
        why: String,
    },
    /// What AWS's tools need was not published, or not yet.
    #[error("the list of releases has no {name} {version} for {folder}")]
    Unlisted {
        /// Of the archive.
        name: String,
        /// Of the package.
        version: AgentVersion,
        /// The package's folder.
        folder: String,
    },
    /// An archive with something else in it.
    #[error("{url}: {why}")]
    Archive {
        /// Its URL.
        url: String,
        /// Why.
        why: String,
    },
    /// The lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A package, or the way there.
    #[error(transparent)]
    Acquire(#[from] AcquireError),
    /// The build machine's disk.
    #[error(transparent)]
    Io(#[from] IoError),
}
