//! Acquire: get, verify, read. Ends before the first write to the target; the only phase with a network.

pub mod address;
pub mod authenticode;
mod cms;
pub mod openpgp;
mod private;
pub mod store;
pub mod transport;
mod voucher;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ssmbake_manifests::{AgentFacts, AgentVersion, Arch, Channel, PackageFormat};

pub use address::{Address, Secret};
use openpgp::Check;
pub use openpgp::{KeyRing, KeyRingError, Owner};
pub use transport::{NetworkError, Progress, ProxySettings, Sink, Transport, TransportOptions, proxy_url};
pub use voucher::{VerifyError, Vouched, Voucher};

use crate::error::IoError;
use crate::packages::deb::archive::DebPackage;
use crate::packages::rpm::archive::RpmPackage;
use crate::packages::unpack::{Limits, MakeSpool};
use crate::packages::{Package, PackageError};
use crate::txn::SpoolSlice;
use ssmbake_manifests::hex;

/// Why there is no verified package.
#[derive(Debug, thiserror::Error)]
pub enum AcquireError {
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The signature.
    #[error("{url}: {source}")]
    Verify {
        /// The package.
        url: String,
        /// Why.
        source: VerifyError,
    },
    /// The package itself.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The build machine's disk.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The VERSION file holds no version.
    #[error("{url} does not hold a version")]
    NoVersion {
        /// Its URL.
        url: String,
    },
}

/// Where packages and what belongs to them come from: a server, or a bundle.
pub trait Origin {
    /// A small file of at most `limit` bytes.
    fn get_small(&self, url: &str, limit: u64) -> Result<Vec<u8>, NetworkError>;

    /// A file of at most `limit` bytes, into `sink`.
    fn download(
        &self,
        url: &str,
        sink: &mut dyn Sink,
        limit: u64,
        progress: &dyn Progress,
    ) -> Result<(), NetworkError>;
}

/// A package whose signature, version and content were checked. There is no other way to make one than [`fetch`].
#[derive(Debug)]
pub struct Verified {
    package: Package,
    fetched: store::Fetched,
    url: String,
}

impl Verified {
    /// The package.
    pub fn package(&self) -> &Package {
        &self.package
    }

    /// Who vouches for it.
    pub fn voucher(&self) -> &Voucher {
        &self.fetched.voucher
    }

    /// SHA-256 of the file, hex.
    pub fn sha256(&self) -> String {
        hex::encode(&self.fetched.sha256)
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.fetched.size
    }

    /// The file as it was verified, from its beginning: nobody else can change it.
    pub fn file(&self) -> Result<&File, IoError> {
        store::rewound(&self.fetched.file).map_err(|error| IoError::new("read", "the package", error))
    }

    /// Its detached signature; empty where a digest alone vouches for it.
    pub fn signature(&self) -> &[u8] {
        &self.fetched.signature
    }

    /// Where it came from.
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// What to fetch.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    /// Base URL of the bucket.
    pub base_url: String,
    /// The version.
    pub version: AgentVersion,
    /// The bucket's folder.
    pub folder: String,
    /// The package's format.
    pub format: PackageFormat,
    /// The architecture.
    pub arch: Arch,
    /// SHA-256 that the package must have; what has no signature needs one.
    pub pin: Option<[u8; 32]>,
    /// Where verified packages are kept; none: nowhere.
    pub cache: Option<PathBuf>,
    /// For private, unlinked files.
    pub temp_dir: PathBuf,
}

/// Asks the bucket for its newest version.
pub fn resolve(
    origin: &dyn Origin,
    agent: &AgentFacts,
    base: &str,
    channel: Channel,
) -> Result<AgentVersion, AcquireError> {
    let url = format!("{}/{}", base.trim_end_matches('/'), agent.version_path(channel));
    let bytes = origin.get_small(&url, agent.limits.version_file_bytes)?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    text.parse().map_err(|_| AcquireError::NoVersion { url })
}

/// Fetches the package and its signature, verifies, reads. `unpack_into` makes unnamed files, best on the file system
/// that the payload is for: there they need not be copied again.
pub fn fetch(
    origin: &dyn Origin,
    ring: &KeyRing,
    agent: &AgentFacts,
    request: &FetchRequest,
    unpack_into: &dyn Fn() -> Result<File, IoError>,
    progress: &dyn Progress,
) -> Result<Verified, AcquireError> {
    let base = request.base_url.trim_end_matches('/');
    let url = format!(
        "{base}/{}",
        agent.package_path(&request.version, &request.folder, request.format)
    );
    let store = store::Store::new(request.cache.as_deref(), &request.temp_dir);
    if request.format == PackageFormat::Exe {
        return program(origin, ring, agent, request, url, progress);
    }
    let is_signed = request.version >= agent.signature_since;
    let cached = match is_signed {
        true => store.find(&url, agent.limits.package_bytes, ring)?,
        false => None,
    };
    let is_pinned = |fetched: &store::Fetched| request.pin.is_none_or(|pin| pin == fetched.sha256);
    let cached = cached.filter(is_pinned);
    let from_cache = cached.is_some();
    let fetched = match cached {
        Some(fetched) => fetched,
        None => download(origin, ring, agent, request, &url, progress)?,
    };
    let limits = Limits {
        unpacked: agent.limits.unpacked_bytes,
        members: usize::try_from(agent.limits.entries).unwrap_or(usize::MAX),
    };
    let spool = || unpack_into().or_else(|_| store.private_file());
    let package = read(&fetched, request, &spool, limits)?;
    if let Package::Rpm(rpm) = &package {
        check_embedded(rpm, ring).map_err(|error| match error {
            Embedded::Signature(source) => AcquireError::Verify {
                url: url.clone(),
                source,
            },
            Embedded::Package(error) => error.into(),
        })?;
    }
    if is_signed && !from_cache {
        store.keep(&url, &fetched)?;
    }
    Ok(Verified {
        package,
        fetched,
        url,
    })
}

/// The package, as its signature or the named digest wants it.
fn download(
    origin: &dyn Origin,
    ring: &KeyRing,
    agent: &AgentFacts,
    request: &FetchRequest,
    url: &str,
    progress: &dyn Progress,
) -> Result<store::Fetched, AcquireError> {
    let verify = |source| AcquireError::Verify {
        url: url.to_owned(),
        source,
    };
    // The signature first: one that cannot count saves the download.
    let (signature, check) = match request.pin {
        Some(pin) if request.version < agent.signature_since => {
            (Vec::new(), Check::pinned(pin).map_err(verify)?)
        }
        pin => {
            let at = agent.signature_path(url);
            let signature = origin.get_small(&at, agent.limits.signature_bytes)?;
            let check = ring.begin(&signature).map_err(verify)?.and(pin);
            (signature, check)
        }
    };
    let limit = agent.limits.package_bytes;
    plain(origin, url, signature, check, limit, &request.temp_dir, progress)
}

/// A file of at most `limit` bytes as `check` wants it.
pub(crate) fn plain(
    origin: &dyn Origin,
    url: &str,
    signature: Vec<u8>,
    check: Check<'_>,
    limit: u64,
    temp_dir: &Path,
    progress: &dyn Progress,
) -> Result<store::Fetched, AcquireError> {
    let mut intake = store::Intake::new(store::Store::new(None, temp_dir).private_file()?, check);
    origin.download(url, &mut intake, limit, progress)?;
    intake.finish(signature).map_err(|source| AcquireError::Verify {
        url: url.to_owned(),
        source,
    })
}

/// A program for Windows of at most `limit` bytes, whose signature is inside, and the version that it tells.
pub(crate) fn signed_program(
    origin: &dyn Origin,
    ring: &KeyRing,
    url: &str,
    limit: u64,
    temp_dir: &Path,
    progress: &dyn Progress,
) -> Result<(store::Fetched, Option<AgentVersion>), AcquireError> {
    let mut plain = store::Plain::new(store::Store::new(None, temp_dir).private_file()?);
    origin.download(url, &mut plain, limit, progress)?;
    let mut version = None;
    let fetched = plain.finish(|bytes| {
        version = authenticode::version(bytes);
        ring.judge_program(bytes).map(Voucher::Authenticode)
    });
    let fetched = fetched.map_err(|error| match error {
        store::PlainError::Verify(source) => AcquireError::Verify {
            url: url.to_owned(),
            source,
        },
        store::PlainError::Io(error) => IoError::new("read", "the package", error).into(),
    })?;
    Ok((fetched, version))
}

/// The package for Windows.
fn program(
    origin: &dyn Origin,
    ring: &KeyRing,
    agent: &AgentFacts,
    request: &FetchRequest,
    url: String,
    progress: &dyn Progress,
) -> Result<Verified, AcquireError> {
    let limit = agent.limits.package_bytes;
    let (fetched, version) = signed_program(origin, ring, &url, limit, &request.temp_dir, progress)?;
    if let Some(pin) = request.pin.filter(|pin| *pin != fetched.sha256) {
        let source = VerifyError::OtherDigest {
            pinned: hex::encode(&pin),
            found: hex::encode(&fetched.sha256),
        };
        return Err(AcquireError::Verify { url, source });
    }
    // An old program with a good signature is a downgrade that nobody asked for.
    if version != Some(request.version) {
        return Err(AcquireError::Package(PackageError::WrongPackage {
            field: "ProductVersion",
            wanted: request.version.to_string(),
            found: version.map_or_else(|| "none".to_owned(), |version| version.to_string()),
        }));
    }
    Ok(Verified {
        package: Package::Exe(request.version),
        fetched,
        url,
    })
}

/// Reads the verified file; it must hold what was asked for.
fn read(
    fetched: &store::Fetched,
    request: &FetchRequest,
    spool: &MakeSpool<'_>,
    limits: Limits,
) -> Result<Package, AcquireError> {
    if request.format == PackageFormat::Rpm {
        let file = fetched
            .file
            .try_clone()
            .map_err(|error| IoError::new("share", "the package", error))?;
        let whole = SpoolSlice {
            spool: Arc::new(file),
            offset: 0,
            len: fetched.size,
            sha256: fetched.sha256,
            is_whole: true,
        };
        let rpm = RpmPackage::read(whole, spool, limits)?;
        rpm.expect(&request.version, request.arch.rpm_names())?;
        return Ok(Package::Rpm(Box::new(rpm)));
    }
    let deb = DebPackage::read(&fetched.file, fetched.size, spool, limits)?;
    deb.expect(&request.version, request.arch.debian_name())?;
    Ok(Package::Deb(deb))
}

enum Embedded {
    Signature(VerifyError),
    Package(PackageError),
}

/// An rpm may carry a signature of its own. The detached one decides; but one that claims to be by a key of the ring
/// and does not fit the header is a sign of tampering.
fn check_embedded(rpm: &RpmPackage, ring: &KeyRing) -> Result<(), Embedded> {
    let (signatures, header) = rpm.embedded_signatures().map_err(Embedded::Package)?;
    for signature in signatures {
        // By another key, or of a kind that this ring does not judge: it says nothing.
        let Ok(mut check) = ring.begin(&signature) else {
            continue;
        };
        check.update(&header);
        check.finish().map_err(Embedded::Signature)?;
    }
    Ok(())
}
