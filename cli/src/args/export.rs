//! Arguments of `export`, and which options of `apply` were among them.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, Id, ValueEnum};

use super::{ApplyArgs, Cli};

pub(super) const EXPORT_EXAMPLE: &str = "Examples:
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
    /// For machines that fetch ssmbake themselves: from where
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

/// The options of `apply` among those that were given, as one would type them.
pub fn told(matches: &ArgMatches) -> Vec<String> {
    let Some((verb, given)) = matches.subcommand() else {
        return Vec::new();
    };
    let whole = Cli::command();
    let (Some(own), Some(apply)) = (whole.find_subcommand(verb), whole.find_subcommand("apply")) else {
        return Vec::new();
    };
    let mut words = Vec::new();
    let is_set = |id: &str| matches!(given.try_get_one::<bool>(id), Ok(Some(true)));
    let of_apply = |id: &Id| apply.get_arguments().any(|one| one.get_id() == id) || id == "as_os";
    for argument in own.get_arguments().chain(whole.get_arguments()) {
        let id = argument.get_id();
        let is_given = matches!(
            given.value_source(id.as_str()),
            Some(ValueSource::CommandLine | ValueSource::EnvVariable)
        );
        let Some(long) = argument.get_long().filter(|_| is_given && of_apply(id)) else {
            continue;
        };
        if !argument.get_action().takes_values() {
            // A variable may say `false`, and `--no-start` takes `--start` back.
            if is_set(id.as_str()) && !is_set(&format!("no_{id}")) {
                words.push(format!("--{long}"));
            }
            continue;
        }
        for value in given.get_raw(id.as_str()).into_iter().flatten() {
            words.push(format!("--{long}"));
            words.push(value.to_string_lossy().into_owned());
        }
    }
    words
}
