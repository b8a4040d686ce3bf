//! Arguments of `export`, and which options of `apply` were among them.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, Id, ValueEnum};

use ssmbake_installers::acquire::Address;
use ssmbake_installers::acquire::address::shown;

use super::{ApplyArgs, Cli};

pub(super) const EXPORT_EXAMPLE: &str = "Options that a format has no use for are refused, and left out where they come from a variable.

Examples:
  the last agent for CentOS 6, whose kernel runs no present-day binary:
  ssmbake export --os centos-6 --arch amd64 --region eu-west-1 --sha256 HEX --out install-ssm-agent.sh

  a template for Packer that bakes a copy of an AMI:
  ssmbake export --format packer --region eu-west-1 --out ssmbake.pkr.hcl

  what the account needs, for machines outside of EC2:
  ssmbake export --format iam --target hybrid --region eu-west-1 --account 123456789012

  user data that installs the agent at first boot:
  ssmbake export --format cloud-init --region eu-west-1 --binary-url https://example.com/ssmbake --binary-sha256 HEX";

/// What `export` takes.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// What to print
    #[arg(long, env = "SSMBAKE_FORMAT", default_value = "sh")]
    pub format: FormatArg,
    /// For sh, powershell and autounattend: the machine's system in the catalog, such as centos-6; without it the one of --root
    #[arg(long, env = "SSMBAKE_OS", value_name = "OS", requires = "arch")]
    pub os: Option<String>,
    /// For those: the machine's architecture: amd64, arm64, armhf, i386
    #[arg(long, env = "SSMBAKE_ARCH", value_name = "ARCH", requires = "os")]
    pub arch: Option<String>,
    /// For machines that fetch ssmbake themselves, and Packer templates that do without a file beside: from where
    #[arg(
        long,
        env = "SSMBAKE_BINARY_URL",
        value_name = "URL",
        requires = "binary_sha256"
    )]
    pub binary_url: Option<String>,
    /// The SHA-256 of what is there
    #[arg(
        long,
        env = "SSMBAKE_BINARY_SHA256",
        value_name = "HEX",
        requires = "binary_url"
    )]
    pub binary_sha256: Option<String>,
    /// For iam: a further region of the same partition; may be repeated
    #[arg(
        long,
        env = "SSMBAKE_ALSO_REGION",
        value_name = "REGION",
        value_delimiter = ','
    )]
    pub also_region: Vec<String>,
    /// For iam with --target hybrid: the number of the account that makes the activations
    #[arg(long, env = "SSMBAKE_ACCOUNT", value_name = "NUMBER")]
    pub account: Option<String>,
    /// For iam and cloudformation: the bucket that the output of commands goes to
    #[arg(long, env = "SSMBAKE_OUTPUT_BUCKET", value_name = "NAME")]
    pub output_bucket: Option<String>,
    /// Write to a file
    #[arg(long, env = "SSMBAKE_OUT", value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// What the machine shall be like. In snippets, files are those of the machine that runs `apply`.
    #[command(flatten)]
    pub apply: ApplyArgs,
}

/// What `export` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// A plan as a POSIX sh script, which needs no ssmbake
    Sh,
    /// The same for Windows, as a PowerShell script
    Powershell,
    /// The same in an answer file for Windows Setup
    Autounattend,
    /// Packer: copy an AMI (amazon-ebs)
    Packer,
    /// Packer: copy an image's volume without booting it, in an instance made for it (amazon-ebssurrogate)
    PackerSurrogate,
    /// Packer: copy an AMI without booting it (amazon-chroot)
    PackerChroot,
    /// Packer: copy a disk image (qemu)
    PackerQemu,
    /// Packer: a machine that is there, by SSH (null)
    PackerSsh,
    /// Packer: a mounted root tree (null, shell-local)
    PackerTree,
    /// A Vagrantfile
    Vagrant,
    /// cloud-init user data
    CloudInit,
    /// A component of EC2 Image Builder
    Imagebuilder,
    /// A kickstart section for Anaconda
    Kickstart,
    /// A line for the Debian installer
    Preseed,
    /// User data for Ubuntu's installer
    Autoinstall,
    /// A script of mkosi's
    Mkosi,
    /// An action of debos's
    Debos,
    /// A container image
    Dockerfile,
    /// A playbook of Ansible's for a fleet
    Ansible,
    /// The policies of the machines' role
    Iam,
    /// A template with role, endpoints, notifications and output bucket
    Cloudformation,
}

/// Options that a format has a use for.
struct Takes {
    apply: OfApply,
    own: &'static [&'static str],
}

/// Options of `apply`, by id.
enum OfApply {
    Only(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}

/// For all that calls `apply`: a tool takes 20 for a failure.
const RUNNING: OfApply = OfApply::AllBut(&["detailed_exitcode"]);
/// For images: nothing can be started in a tree, and an agent that runs writes its identity.
const IMAGE: OfApply = OfApply::AllBut(&["detailed_exitcode", "start"]);
/// For scripts that do without `apply`.
const SCRIPT: OfApply = OfApply::AllBut(&[
    "detailed_exitcode",
    "lock_timeout",
    "plan",
    "provenance",
    "sbom",
    "start",
]);
const FETCHED: &[&str] = &["binary_url", "binary_sha256"];

impl FormatArg {
    fn takes(self) -> Takes {
        let (apply, own): (OfApply, &[&str]) = match self {
            Self::Sh | Self::Powershell | Self::Autounattend => (SCRIPT, &["os", "arch"]),
            Self::CloudInit => (RUNNING, FETCHED),
            Self::Vagrant | Self::Ansible => (RUNNING, &[]),
            Self::Imagebuilder | Self::Kickstart | Self::Preseed | Self::Autoinstall => (IMAGE, FETCHED),
            Self::Packer | Self::PackerSurrogate | Self::PackerChroot => (IMAGE, FETCHED),
            Self::PackerQemu | Self::PackerSsh | Self::PackerTree => (IMAGE, FETCHED),
            Self::Mkosi | Self::Debos | Self::Dockerfile => (IMAGE, &[]),
            Self::Iam => (
                OfApply::Only(&["region", "target"]),
                &["also_region", "account", "output_bucket"],
            ),
            Self::Cloudformation => (
                OfApply::Only(&["region", "target"]),
                &["also_region", "output_bucket"],
            ),
        };
        Takes { apply, own }
    }

    fn has_use_for(self, id: &Id, is_of_apply: bool) -> bool {
        let takes = self.takes();
        match takes.apply {
            _ if !is_of_apply => id == "format" || id == "out" || takes.own.iter().any(|one| id == one),
            OfApply::Only(ids) => ids.iter().any(|one| id == one),
            OfApply::AllBut(ids) => !ids.iter().any(|one| id == one),
        }
    }
}

/// What was given to `export`.
#[derive(Debug, Default)]
pub struct Told {
    /// The options of `apply` that the format has a use for, as one would type them. Variables are for all verbs: what
    /// the format has no use for is left out.
    pub words: Vec<String>,
    /// An option of the command line that the format has no use for.
    pub misplaced: Option<String>,
}

/// Sorts what was given to `export`.
pub fn told(matches: &ArgMatches, format: FormatArg) -> Told {
    let mut told = Told::default();
    let Some((verb, given)) = matches.subcommand() else {
        return told;
    };
    let whole = Cli::command();
    let (Some(own), Some(apply)) = (whole.find_subcommand(verb), whole.find_subcommand("apply")) else {
        return told;
    };
    let is_set = |id: &str| matches!(given.try_get_one::<bool>(id), Ok(Some(true)));
    let is_of_apply = |id: &Id| apply.get_arguments().any(|one| one.get_id() == id);
    for argument in own.get_arguments() {
        let (id, source) = (argument.get_id(), given.value_source(argument.get_id().as_str()));
        let Some(long) = argument.get_long() else { continue };
        let is_flag = !argument.get_action().takes_values();
        // A variable may say `false`, and `--no-start` takes `--start` back.
        if is_flag && (!is_set(id.as_str()) || is_set(&format!("no_{id}"))) {
            continue;
        }
        let has_use = format.has_use_for(id, is_of_apply(id));
        match source {
            Some(ValueSource::CommandLine) if !has_use => told.misplaced = Some(format!("--{long}")),
            Some(ValueSource::CommandLine | ValueSource::EnvVariable) if has_use && is_of_apply(id) => {
                told.push(given, id, long, is_flag);
            }
            _ => {}
        }
    }
    if given.value_source("as_os").is_some() {
        told.push(given, &Id::from("as_os"), "as", false);
    }
    told
}

impl Told {
    fn push(&mut self, given: &ArgMatches, id: &Id, long: &str, is_flag: bool) {
        if is_flag {
            self.words.push(format!("--{long}"));
            return;
        }
        for value in given.get_raw(id.as_str()).into_iter().flatten() {
            self.words.push(format!("--{long}"));
            let value = value.to_string_lossy();
            self.words.push(match given.try_get_one::<Address>(id.as_str()) {
                Ok(_) => shown(&value),
                Err(_) => value.into_owned(),
            });
        }
    }
}
