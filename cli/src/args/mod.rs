//! The command line. Each option has an `SSMBAKE_*` variable.

mod export;
mod supply;

use std::path::PathBuf;

use clap::{ArgMatches, Args, Parser, Subcommand, ValueEnum};
use ssmbake_installers::acquire::{Address, Secret};

pub use export::*;
pub use supply::*;

/// Bakes the AWS Systems Manager agent into machine images
#[derive(Debug, Parser)]
#[command(name = "ssmbake", version, about, after_help = EXAMPLES)]
pub struct Cli {
    /// For every verb.
    #[command(flatten)]
    pub common: Common,
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// The verb's options for downloads.
    pub fn download(&self) -> Option<&Download> {
        match &self.command {
            Command::Apply(args) => Some(&args.download),
            Command::Export(args) => Some(&args.apply.download),
            Command::Lock(args) => Some(&args.download),
            Command::Bundle { command } => Some(match command {
                BundleCommand::Create(args) => &args.download,
                BundleCommand::Verify(args) => &args.download,
            }),
            Command::Mirror {
                command: MirrorCommand::Sync(args),
            } => Some(&args.download),
            _ => None,
        }
    }

    /// Whether what it writes is more than a report: a signal has to be waited for then.
    pub fn writes(&self) -> bool {
        match &self.command {
            Command::Bundle { command } => matches!(command, BundleCommand::Create(_)),
            Command::Catalog { command } => matches!(command, CatalogCommand::Export(_)),
            Command::Lock(_) | Command::Mirror { .. } | Command::Export(_) => true,
            _ => false,
        }
    }
}

/// The secrets of all URLs that are named, whichever option names them.
pub fn secrets(matches: &ArgMatches) -> Vec<Secret> {
    let mut found = Vec::new();
    for id in matches.ids() {
        // Most are of another type.
        if let Ok(Some(addresses)) = matches.try_get_many::<Address>(id.as_str()) {
            found.extend(addresses.filter_map(Address::secret).cloned());
        }
    }
    if let Some((_, below)) = matches.subcommand() {
        found.extend(secrets(below));
    }
    found
}

const EXAMPLES: &str = "Examples:
  ssmbake detect --root /mnt/image
  ssmbake plan --root /mnt/image --region eu-west-1
  ssmbake apply --root /mnt/image --region eu-west-1 --version 3.3.1957.0
  ssmbake audit --root /mnt/image --report report.json
  ssmbake export --os centos-6 --arch amd64 --region eu-west-1 --sha256 HEX --out install.sh

Exit codes:
  0 ok, 1 internal error, 2 usage, 3 unsupported OS or architecture, 4 unknown region, 5 verification failed,
  6 network, 7 target I/O or permission, 8 conflict, 9 audit found failures, 10 failed and rolled back,
  11 failed and roll-back incomplete, or made and old files not removed, 12 installed but not started,
  13 done but not reported, 20 changed (with --detailed-exitcode), 128 and the number of a signal: interrupted and taken
  back";

/// Options of every verb.
#[derive(Debug, Args)]
pub struct Common {
    /// The root tree to work on; without it the root of this system, chroot or container
    #[arg(long, global = true, env = "SSMBAKE_ROOT", value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Treat the tree as this system of the catalog, such as debian-12: for derivatives
    #[arg(long = "as", global = true, env = "SSMBAKE_AS", value_name = "OS")]
    pub as_os: Option<String>,
    /// How to print the result
    #[arg(long, global = true, env = "SSMBAKE_OUTPUT", default_value = "human")]
    pub output: Output,
    /// Write the result as JSON to a file, for Packer to download
    #[arg(long, global = true, env = "SSMBAKE_REPORT", value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Print only warnings and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print the evidence too
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// Facts that others sign.
    #[command(flatten)]
    pub trust: Trust,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Human,
    /// One JSON document at the end
    Json,
    /// One JSON object a line, as things happen
    Jsonl,
}

/// Verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what is in a root tree, and why
    Detect,
    /// Say what `apply` or `seal` would do; writes nothing, asks no network
    #[command(args_conflicts_with_subcommands = true)]
    Plan(Box<PlanArgs>),
    /// Install, enable and configure the agent in a root tree
    #[command(after_help = APPLY_EXAMPLE)]
    Apply(Box<ApplyArgs>),
    /// Check whether a root tree is ready for Systems Manager; on a running machine its access and network too
    #[command(after_help = AUDIT_EXAMPLE)]
    Audit(AuditArgs),
    /// Remove what belongs to one machine, before copies are made of it
    #[command(after_help = SEAL_EXAMPLE)]
    Seal(SealArgs),
    /// Take back what `apply` did
    Revert,
    /// Print a plan as a script for machines where this program does not run, or a snippet for Packer, cloud-init and others
    #[command(after_help = EXPORT_EXAMPLE)]
    Export(Box<ExportArgs>),
    /// Pin packages by digest and signer, for builds that can be repeated
    #[command(after_help = supply::LOCK_EXAMPLE)]
    Lock(Box<LockArgs>),
    /// Carry locked packages to where no network is
    #[command(after_help = supply::BUNDLE_EXAMPLE)]
    Bundle {
        /// What to do
        #[command(subcommand)]
        command: BundleCommand,
    },
    /// Serve packages to many machines from storage and web servers that exist
    #[command(after_help = supply::MIRROR_EXAMPLE)]
    Mirror {
        /// What to do
        #[command(subcommand)]
        command: MirrorCommand,
    },
    /// Facts that are newer than this program: signed, and never older than what was seen
    #[command(after_help = supply::CATALOG_EXAMPLE)]
    Catalog {
        /// What to do
        #[command(subcommand)]
        command: CatalogCommand,
    },
    /// List and check the keys that sign packages
    #[command(after_help = supply::KEYS_EXAMPLE)]
    Keys {
        /// What to do
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// List regions and their hosts, or the systems and what works there
    Regions(RegionsArgs),
    /// Print what an https URL holds, at first boot: no image needs curl for its activation
    #[command(hide = true)]
    Activation {
        /// Where the activation is
        #[arg(value_name = "URL")]
        url: String,
    },
    /// Print a completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or that of one verb
    Man {
        /// The verb
        verb: Option<String>,
    },
}

const APPLY_EXAMPLE: &str = "Examples:
  ssmbake apply --root /mnt/image --region eu-west-1 --fast-connect

  with what was placed and whence, for others to read:
  ssmbake apply --root /mnt/image --lock ssmbake.lock --sbom image.cdx.json --provenance image.slsa.json

  machines outside of EC2, which register at their first boot:
  ssmbake apply --root /mnt/image --region eu-west-1 --target hybrid --activation-source auto";

/// What `plan` takes.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// For `apply`.
    #[command(flatten)]
    pub wanted: Wanted,
    /// Of another verb.
    #[command(subcommand)]
    pub of: Option<PlanOf>,
}

/// Other verbs with a plan.
#[derive(Debug, Subcommand)]
pub enum PlanOf {
    /// Say what `seal` would remove
    Seal {
        /// How much
        #[arg(long, env = "SSMBAKE_SEAL_PROFILE", default_value = "agent")]
        profile: SealProfileArg,
    },
}

const SEAL_EXAMPLE: &str = "Examples:
  ssmbake plan seal --root /mnt/image --profile image
  ssmbake seal --root /mnt/image --profile image";

/// What `seal` takes.
#[derive(Debug, Args)]
pub struct SealArgs {
    /// How much
    #[arg(long, env = "SSMBAKE_SEAL_PROFILE", default_value = "agent")]
    pub profile: SealProfileArg,
    /// On a running machine: seal although it is registered, which it will not be any more
    #[arg(long, env = "SSMBAKE_REGISTERED")]
    pub registered: bool,
    /// Exit with 20 when something changed
    #[arg(long, env = "SSMBAKE_DETAILED_EXITCODE")]
    pub detailed_exitcode: bool,
}

/// How much is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SealProfileArg {
    /// What the agent left: identity, logs, credentials
    Agent,
    /// And all else that belongs to one machine: machine-id, SSH host keys, logs, leases, histories, caches
    Image,
}

/// For what the tree is to be good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AuditProfileArg {
    /// A machine or an image, as it is
    Any,
    /// Instances of EC2: nothing may register them as something else
    Ec2,
    /// Machines outside of EC2: something has to register them
    Hybrid,
    /// An image of which many machines are made, by EC2 Image Builder or others: nothing of the build machine may be left
    #[value(alias = "image-builder")]
    Image,
}

const AUDIT_EXAMPLE: &str = "Examples:
  ssmbake audit --root /mnt/image --profile image --format html >audit.html
  ssmbake audit --explain SSMB064
  ssmbake audit --region eu-west-1 --output-bucket my-bucket";

/// What `audit` takes.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// For what the tree is to be good
    #[arg(long, env = "SSMBAKE_PROFILE", default_value = "any")]
    pub profile: AuditProfileArg,
    /// Say what a check is about, instead of checking
    #[arg(long, value_name = "ID")]
    pub explain: Option<String>,
    /// Live with the failure of a check; may be repeated
    #[arg(long, env = "SSMBAKE_ALLOW", value_name = "ID", value_delimiter = ',')]
    pub allow: Vec<String>,
    /// Print a document instead
    #[arg(long, env = "SSMBAKE_AUDIT_FORMAT", value_name = "FORMAT")]
    pub format: Option<FormatOfAudit>,
    /// Check access, endpoints and clock as well; the default on a running machine outside of Packer
    #[arg(long, env = "SSMBAKE_NETWORK")]
    pub network: bool,
    /// Check the tree only, whatever --network and its variable say
    #[arg(long)]
    pub no_network: bool,
    /// The region, instead of the one of the registration or of the instance
    #[arg(long, env = "SSMBAKE_REGION", value_name = "REGION")]
    pub region: Option<String>,
    /// A bucket of yours that must be there, for the output of commands
    #[arg(long, env = "SSMBAKE_OUTPUT_BUCKET", value_name = "NAME")]
    pub output_bucket: Option<String>,
    /// The agent must be the one that this file locks
    #[arg(long, env = "SSMBAKE_LOCK", value_name = "FILE|URL")]
    pub lock: Option<Address>,
    /// How long to wait.
    #[command(flatten)]
    pub patience: Patience,
}

/// For verbs that look at endpoints.
#[derive(Debug, Args)]
pub struct Patience {
    /// Seconds for each name, connection and answer
    #[arg(
        long,
        env = "SSMBAKE_CONNECT_TIMEOUT",
        default_value_t = 5,
        value_name = "SECONDS"
    )]
    pub connect_timeout: u64,
}

/// Documents of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatOfAudit {
    /// SARIF 2.1.0, for code-scanning services
    Sarif,
    /// JUnit's XML, for build servers
    Junit,
    /// A page to read, to mail and to keep
    Html,
}

/// What `regions` lists.
#[derive(Debug, Args)]
pub struct RegionsArgs {
    /// Only this region
    #[arg(value_name = "REGION")]
    pub region: Option<String>,
    /// The systems instead: whether Patch Manager, Session Manager and the agent's update of itself work there
    #[arg(long, conflicts_with = "region")]
    pub systems: bool,
    /// By the time that this machine takes to their endpoint and back: the one to choose for machines outside of EC2
    #[arg(long, conflicts_with_all = ["region", "systems"])]
    pub nearest: bool,
    /// For --nearest: of this partition
    #[arg(long, default_value = "aws", value_name = "PARTITION")]
    pub partition: String,
    /// How long to wait.
    #[command(flatten)]
    pub patience: Patience,
}

/// What the image shall be like.
#[derive(Debug, Clone, Args)]
pub struct Wanted {
    /// Which version, and from where.
    #[command(flatten)]
    pub bucket: Bucket,
    /// SHA-256 that the package must have, besides its signature or where AWS published none (before 3.1.1141.0)
    #[arg(long, env = "SSMBAKE_SHA256", value_name = "HEX")]
    pub sha256: Option<String>,
    /// Take exactly the package that this file locks for the system, or exit with 5
    #[arg(long, env = "SSMBAKE_LOCK", value_name = "FILE|URL", conflicts_with_all = ["agent_version", "sha256"])]
    pub lock: Option<Address>,
    /// Take the package from this bundle, and ask no network
    #[arg(
        long,
        env = "SSMBAKE_BUNDLE",
        value_name = "FILE",
        conflicts_with_all = ["agent_version", "sha256", "lock"]
    )]
    pub bundle: Option<PathBuf>,
    /// Whether the agent is a package or a snap; auto takes the snap where a running system has one
    #[arg(long, env = "SSMBAKE_CHANNEL", default_value = "auto")]
    pub channel: ChannelArg,
    /// What kind of machine the image is for
    #[arg(long, env = "SSMBAKE_TARGET", default_value = "ec2")]
    pub target: TargetArg,
    /// Let the agent wait for the network, and look for credentials every minute instead of every half hour
    #[arg(long, env = "SSMBAKE_FAST_CONNECT")]
    pub fast_connect: bool,
    /// With --target hybrid: where the first boot looks for the activation, in this order: auto, env, cmdline, fw-cfg, smbios, volume[:LABEL], cloud-init, file:/PATH, https://…; may be repeated
    #[arg(
        long,
        env = "SSMBAKE_ACTIVATION_SOURCE",
        value_name = "SOURCE",
        value_delimiter = ','
    )]
    pub activation_source: Vec<String>,
    /// Start the agent on a running system once all is done; the default for hybrid machines outside of Packer
    #[arg(long, env = "SSMBAKE_START")]
    pub start: bool,
    /// Leave the agent to the next boot, as an image build must, whatever --start and its variable say; else the default
    #[arg(long)]
    pub no_start: bool,
    /// Let an older agent replace a newer one
    #[arg(long, env = "SSMBAKE_ALLOW_DOWNGRADE")]
    pub allow_downgrade: bool,
    /// Which TLS roots of AWS to install where they are missing
    #[arg(long, env = "SSMBAKE_ROOTS", default_value = "default")]
    pub roots: RootsArg,
    /// Who writes rpm's database where this program does not: target-rpm runs the tree's own rpm in a chroot
    #[arg(long, env = "SSMBAKE_REGISTRATION", default_value = "auto")]
    pub registration: RegistrationArg,
    /// What to do about the labels of new files where SELinux is on
    #[arg(long, env = "SSMBAKE_SELINUX", default_value = "label")]
    pub selinux: SelinuxArg,
    /// A CA certificate of your own to trust, PEM or DER; may be repeated
    #[arg(long, env = "SSMBAKE_EXTRA_CA", value_name = "FILE", value_delimiter = ',')]
    pub extra_ca: Vec<PathBuf>,
    /// Use this host for a service (ssm, ssmmessages, ec2messages, s3, kms); may be repeated
    #[arg(
        long,
        env = "SSMBAKE_ENDPOINT",
        value_name = "SERVICE=HOST",
        value_delimiter = ','
    )]
    pub endpoint: Vec<String>,
    /// Use the region's FIPS hosts
    #[arg(long, env = "SSMBAKE_FIPS")]
    pub fips: bool,
    /// The proxy that the agent shall use
    #[arg(long, env = "SSMBAKE_PROXY", value_name = "URL")]
    pub proxy: Option<String>,
    /// Hosts that the agent reaches without the proxy; the metadata service always is among them
    #[arg(long, env = "SSMBAKE_NO_PROXY", value_name = "HOSTS", requires = "proxy")]
    pub no_proxy: Option<String>,
    /// Set a key of the agent's configuration, such as Agent.SelfUpdate=true; may be repeated
    #[arg(long, env = "SSMBAKE_SET", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// What `apply` takes besides.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// What the image shall be like.
    #[command(flatten)]
    pub wanted: Wanted,
    /// Carry out a plan that `plan --report FILE` stored; refused when the tree has changed since
    #[arg(long, env = "SSMBAKE_PLAN", value_name = "FILE")]
    pub plan: Option<PathBuf>,
    /// The way to the package.
    #[command(flatten)]
    pub download: Download,
    /// Seconds to wait for package managers that run beside this program; a tree named with --root is not waited for
    #[arg(
        long,
        env = "SSMBAKE_LOCK_TIMEOUT",
        default_value_t = 300,
        value_name = "SECONDS"
    )]
    pub lock_timeout: u64,
    /// Write what was placed as a bill of materials: SPDX 2.3 where the name ends in .spdx.json, else CycloneDX 1.6; may be repeated
    #[arg(long, env = "SSMBAKE_SBOM", value_name = "FILE", value_delimiter = ',')]
    pub sbom: Vec<PathBuf>,
    /// Write whence it came, by which key, and into what, as an in-toto statement with SLSA provenance 1
    #[arg(long, env = "SSMBAKE_PROVENANCE", value_name = "FILE")]
    pub provenance: Option<PathBuf>,
    /// Exit with 20 when something was changed
    #[arg(long, env = "SSMBAKE_DETAILED_EXITCODE")]
    pub detailed_exitcode: bool,
}

/// AWS's buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SourceArg {
    /// The region's own
    Regional,
    /// The one for all regions
    Global,
}

/// The agent's install channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ChannelArg {
    /// The snap where a running system has one, else the package
    Auto,
    /// The package; a snap is a conflict
    Package,
    /// The snap that is there
    Snap,
}

/// Kinds of machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TargetArg {
    /// An EC2 instance
    Ec2,
    /// A machine elsewhere
    Hybrid,
}

/// Ways into rpm's database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RegistrationArg {
    /// Natively, else by this machine's rpm, else at first boot
    Auto,
    /// By this machine's rpm
    HostRpm,
    /// By the tree's own rpm, now
    TargetRpm,
    /// By the tree's own rpm, at first boot
    FirstBoot,
}

/// Ways with SELinux labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SelinuxArg {
    /// Set them as the tree's own policy says
    Label,
    /// Let the first boot label all files
    Relabel,
    /// Leave new files without
    Ignore,
}

/// Sets of TLS roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RootsArg {
    /// The five that AWS uses today
    Default,
    /// And Starfield Class 2
    Legacy,
    /// None
    None,
}
