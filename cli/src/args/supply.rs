//! Arguments of the verbs that pin, carry and serve packages, and of those about keys.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use ssmbake_installers::acquire::Address;

use super::SourceArg;

/// How packages are downloaded and whose signatures count.
#[derive(Debug, Clone, Args)]
pub struct Download {
    /// Accept packages signed by the keys of this OpenPGP certificate too; may be repeated
    #[arg(long, env = "SSMBAKE_KEYRING", value_name = "FILE", value_delimiter = ',')]
    pub keyring: Vec<PathBuf>,
    /// Trust the CA certificates of this file for downloads; may be repeated
    #[arg(long, env = "SSMBAKE_CA_FILE", value_name = "FILE", value_delimiter = ',')]
    pub ca_file: Vec<PathBuf>,
    /// The proxy to download through; else HTTPS_PROXY and HTTP_PROXY
    #[arg(long, env = "SSMBAKE_DOWNLOAD_PROXY", value_name = "URL")]
    pub download_proxy: Option<String>,
    /// Keep verified packages in this directory
    #[arg(long, env = "SSMBAKE_CACHE_DIR", value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Seconds that all downloads may take together
    #[arg(long, env = "SSMBAKE_TIMEOUT", default_value_t = 600, value_name = "SECONDS")]
    pub timeout: u64,
    /// Tries of a download after the first
    #[arg(long, env = "SSMBAKE_RETRIES", default_value_t = 5, value_name = "N")]
    pub retries: u32,
}

/// Which version of the agent, and from which bucket.
#[derive(Debug, Clone, Args)]
pub struct Bucket {
    /// The region to download from, and of FIPS hosts
    #[arg(long, env = "SSMBAKE_REGION", value_name = "REGION")]
    pub region: Option<String>,
    /// latest, stable, or a version such as 3.3.1957.0
    #[arg(
        long = "agent-version",
        visible_alias = "version",
        env = "SSMBAKE_AGENT_VERSION",
        default_value = "latest"
    )]
    pub agent_version: String,
    /// Which of AWS's buckets to download from
    #[arg(long, env = "SSMBAKE_SOURCE", default_value = "regional")]
    pub source: SourceArg,
    /// A mirror of AWS's bucket; plain http is allowed here, the signature still decides
    #[arg(long, env = "SSMBAKE_MIRROR", value_name = "URL")]
    pub mirror: Option<Address>,
}

/// Which packages.
#[derive(Debug, Clone, Args)]
pub struct Choice {
    /// Systems of the catalog, such as debian-12, or all; may be repeated
    #[arg(long, env = "SSMBAKE_OS", value_name = "OS", value_delimiter = ',')]
    pub os: Vec<String>,
    /// Architectures: amd64, arm64, armhf, i386; may be repeated
    #[arg(
        long,
        env = "SSMBAKE_ARCH",
        value_name = "ARCH",
        value_delimiter = ',',
        default_value = "amd64,arm64"
    )]
    pub arch: Vec<String>,
    /// Which version, and from where.
    #[command(flatten)]
    pub bucket: Bucket,
}

pub(super) const LOCK_EXAMPLE: &str = "Examples:
  ssmbake lock --os debian-12,ubuntu-24.04 --arch amd64,arm64 --region eu-west-1
  ssmbake apply --root /mnt/image --lock ssmbake.lock
  ssmbake lock --check";

/// What `lock` takes.
#[derive(Debug, Args)]
pub struct LockArgs {
    /// Which packages.
    #[command(flatten)]
    pub choice: Choice,
    /// The lock file
    #[arg(
        long,
        env = "SSMBAKE_LOCK",
        default_value = "ssmbake.lock",
        value_name = "FILE"
    )]
    pub out: PathBuf,
    /// Say what has happened since the lock was made: newer versions, advisories, keys and roots that end soon
    #[arg(long, conflicts_with = "os")]
    pub check: bool,
    /// With --check: ask no server for its newest version
    #[arg(long, requires = "check")]
    pub no_network: bool,
    /// When it is, for --check.
    #[command(flatten)]
    pub when: When,
    /// The way there.
    #[command(flatten)]
    pub download: Download,
}

/// The time that ends of validity are compared with.
#[derive(Debug, Args)]
pub struct When {
    /// Judge as of this time, such as 2027-09-01T00:00:00Z, instead of now
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
}

pub(super) const BUNDLE_EXAMPLE: &str = "Examples:
  ssmbake bundle create --lock ssmbake.lock --out ssmbake.bundle
  ssmbake bundle verify ssmbake.bundle
  ssmbake apply --root /mnt/image --bundle ssmbake.bundle";

/// What `bundle` does.
#[derive(Debug, Subcommand)]
pub enum BundleCommand {
    /// Write everything that is locked into one file, the same bytes for the same lock
    Create(BundleCreateArgs),
    /// Check a bundle as `apply` will
    Verify(BundleVerifyArgs),
}

/// What `bundle create` takes.
#[derive(Debug, Args)]
pub struct BundleCreateArgs {
    /// The lock file
    #[arg(
        long,
        env = "SSMBAKE_LOCK",
        default_value = "ssmbake.lock",
        value_name = "FILE|URL"
    )]
    pub lock: Address,
    /// The bundle
    #[arg(
        long,
        env = "SSMBAKE_OUT",
        default_value = "ssmbake.bundle",
        value_name = "FILE"
    )]
    pub out: PathBuf,
    /// Fetch from this mirror instead of where the lock was made
    #[arg(long, env = "SSMBAKE_MIRROR", value_name = "URL")]
    pub mirror: Option<Address>,
    /// The way there.
    #[command(flatten)]
    pub download: Download,
}

/// What `bundle verify` takes.
#[derive(Debug, Args)]
pub struct BundleVerifyArgs {
    /// The bundle
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Whose signatures count.
    #[command(flatten)]
    pub download: Download,
}

pub(super) const MIRROR_EXAMPLE: &str = "Examples:
  ssmbake mirror sync --to /srv/www/ssm --lock ssmbake.lock
  ssmbake mirror sync --to s3://my-bucket/ssm --os debian-12 --arch amd64 --region eu-west-1
  ssmbake mirror sync --to /srv/www/ssm --os all --region eu-west-1 --public-url https://mirror.example.com/ssm
  ssmbake apply --root /mnt/image --mirror https://mirror.example.com/ssm";

/// What `mirror` does.
#[derive(Debug, Subcommand)]
pub enum MirrorCommand {
    /// Bring a directory or a bucket up to date, in the layout of AWS's own buckets
    Sync(Box<MirrorSyncArgs>),
}

/// What `mirror sync` takes.
#[derive(Debug, Args)]
pub struct MirrorSyncArgs {
    /// A directory, or s3://BUCKET/PREFIX with credentials, region and endpoint from AWS_… variables
    #[arg(long, env = "SSMBAKE_TO", value_name = "PLACE")]
    pub to: String,
    /// Mirror what this file locks, and offer it as ssmbake.lock where its signature is beside it
    #[arg(long, env = "SSMBAKE_LOCK", value_name = "FILE|URL", conflicts_with_all = ["os", "agent_version"])]
    pub lock: Option<Address>,
    /// Which packages, without a lock.
    #[command(flatten)]
    pub choice: Choice,
    /// Under which names the newest version is offered besides its own
    #[arg(
        long,
        env = "SSMBAKE_OFFER",
        value_delimiter = ',',
        default_value = "latest,stable"
    )]
    pub offer: Vec<OfferArg>,
    /// Mirror what AWS's own tools take besides - the list of releases, archives for updates, ssm-setup-cli -, to be found under this URL of the mirror
    #[arg(long, env = "SSMBAKE_PUBLIC_URL", value_name = "URL", value_parser = https_url)]
    pub public_url: Option<String>,
    /// Packages at the same time
    #[arg(long, env = "SSMBAKE_JOBS", default_value_t = 4, value_name = "N")]
    pub jobs: usize,
    /// The way there.
    #[command(flatten)]
    pub download: Download,
}

fn https_url(text: &str) -> Result<String, String> {
    match text.strip_prefix("https://") {
        Some(rest) if !rest.is_empty() && !rest.contains(['{', '}', ' ', '?', '#']) => Ok(text.to_owned()),
        _ => Err("AWS's tools take an https URL, such as https://mirror.example.com/ssm".to_owned()),
    }
}

/// Names of the newest version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OfferArg {
    /// `latest`
    Latest,
    /// `stable`
    Stable,
}

/// Whose signature makes a catalog, a lock or a bundle count.
#[derive(Debug, Args)]
#[command(next_help_heading = "Signed facts")]
pub struct Trust {
    /// Use the facts of this signed catalog, a file or a URL, instead of those that are built in; its signature is beside it, FILE.sigstore.json
    #[arg(long, global = true, env = "SSMBAKE_CATALOG", value_name = "FILE|URL")]
    pub catalog: Option<Address>,
    /// Take a lock or a bundle only with a signature beside it, FILE.sigstore.json, and of a mirror only what its signed ssmbake.lock locks; a named signer implies it for locks and bundles
    #[arg(long, global = true, env = "SSMBAKE_REQUIRE_SIGNATURE")]
    pub require_signature: bool,
    /// The public key that signs them, PEM
    #[arg(
        long,
        global = true,
        env = "SSMBAKE_SIGNER_KEY",
        value_name = "FILE",
        conflicts_with_all = ["signer_identity", "signer_issuer"]
    )]
    pub signer_key: Option<PathBuf>,
    /// Or who signs them: the e-mail address or URI of the certificate
    #[arg(
        long,
        global = true,
        env = "SSMBAKE_SIGNER_IDENTITY",
        value_name = "NAME",
        requires = "signer_issuer"
    )]
    pub signer_identity: Option<String>,
    /// Who knows that name: the URL of the OpenID Connect issuer
    #[arg(
        long,
        global = true,
        env = "SSMBAKE_SIGNER_ISSUER",
        value_name = "URL",
        requires = "signer_identity"
    )]
    pub signer_issuer: Option<String>,
    /// sigstore's trusted_root.json, which certificates, logs and times are judged by; with --signer-key without it the key alone counts
    #[arg(long, global = true, env = "SSMBAKE_TRUSTED_ROOT", value_name = "FILE")]
    pub trusted_root: Option<PathBuf>,
}

pub(super) const CATALOG_EXAMPLE: &str = "Examples:
  ssmbake catalog export --expires 2027-03-01T00:00:00Z --out catalog.json
  cosign sign-blob --key cosign.key --bundle catalog.json.sigstore.json catalog.json
  ssmbake catalog verify catalog.json --signer-key cosign.pub
  ssmbake apply --root /mnt/image --region eu-west-1 --catalog catalog.json --signer-key cosign.pub";

/// What `catalog` does.
#[derive(Debug, Subcommand)]
pub enum CatalogCommand {
    /// Print the facts as one document, to be signed
    Export(CatalogExportArgs),
    /// Say who signed a catalog, and whether it counts
    Verify {
        /// The catalog
        #[arg(value_name = "FILE|URL")]
        file: Address,
    },
    /// Say which facts are in use
    Show,
}

/// What `catalog export` takes.
#[derive(Debug, Args)]
pub struct CatalogExportArgs {
    /// Its number, larger than that of any before; else the one that is built in
    #[arg(long, value_name = "N")]
    pub serial: Option<u64>,
    /// Until when it is news, such as 2027-03-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub expires: String,
    /// Write to a file
    #[arg(long, env = "SSMBAKE_OUT", value_name = "FILE")]
    pub out: Option<PathBuf>,
}

pub(super) const KEYS_EXAMPLE: &str = "Examples:
  ssmbake keys list
  ssmbake keys check --at 2027-10-01T00:00:00Z
  ssmbake keys check amazon-ssm-agent.deb amazon-ssm-agent.deb.sig";

/// What `keys` does.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Print the keys that may have signed packages, and when each may have
    List {
        /// Keys of your own besides; may be repeated
        #[arg(long, env = "SSMBAKE_KEYRING", value_name = "FILE", value_delimiter = ',')]
        keyring: Vec<PathBuf>,
    },
    /// Say which keys and roots end within 90 days; with a package, whether its signature is good
    Check(KeysCheckArgs),
}

/// What `keys check` takes.
#[derive(Debug, Args)]
pub struct KeysCheckArgs {
    /// A package
    #[arg(value_name = "PACKAGE")]
    pub package: Option<PathBuf>,
    /// Its signature; else PACKAGE.sig
    #[arg(value_name = "SIGNATURE", requires = "package")]
    pub signature: Option<PathBuf>,
    /// Keys of your own besides; may be repeated
    #[arg(long, env = "SSMBAKE_KEYRING", value_name = "FILE", value_delimiter = ',')]
    pub keyring: Vec<PathBuf>,
    /// When it is.
    #[command(flatten)]
    pub when: When,
}
