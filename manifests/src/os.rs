//! Operating systems: one `os/*.toml` each. Reading a root tree is the probe's work, not this module's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::agent::AgentVersion;
use crate::words::words;

words! {
    /// Distributions that share their mechanisms.
    Family, "family" {
        /// Debian, Ubuntu, Raspbian.
        Debian = "debian",
        /// Red Hat Enterprise Linux, its rebuilds, Amazon Linux, Fedora.
        Rhel = "rhel",
        /// SUSE Linux Enterprise, openSUSE.
        Suse = "suse",
        /// Windows Server and client.
        Windows = "windows",
        /// macOS.
        Macos = "macos",
    }
}

words! {
    /// Formats the agent is published in.
    PackageFormat, "package format" {
        /// dpkg's.
        Deb = "deb",
        /// rpm's.
        Rpm = "rpm",
        /// The installer for Windows.
        Exe = "exe",
    }
}

words! {
    /// How a system keeps its TLS roots.
    TrustStore, "trust store" {
        /// `update-ca-certificates` with /usr/local/share/ca-certificates.
        Debian = "debian",
        /// `update-ca-trust` with /etc/pki/ca-trust/source/anchors.
        P11Kit = "p11-kit",
        /// The older bundle of /etc/pki/tls/certs, with `update-ca-trust` only where it was enabled.
        El6 = "el6",
        /// SUSE's `update-ca-certificates` with /etc/pki/trust/anchors.
        Suse = "suse",
        /// Windows' stores in the registry.
        Registry = "registry",
    }
}

words! {
    /// What starts services at boot.
    ServiceManager, "service manager" {
        /// Units.
        Systemd = "systemd",
        /// Jobs in /etc/init.
        Upstart = "upstart",
        /// Scripts in /etc/init.d; the agent's packages bring none.
        Sysvinit = "sysvinit",
        /// Windows' service control manager.
        Scm = "scm",
    }
}

words! {
    /// Whether AWS's images of a release carry the agent as a snap, which excludes the package.
    SnapUse, "snap use" {
        /// No snap.
        Never = "never",
        /// Installed already in AWS's own images.
        Preinstalled = "preinstalled",
    }
}

words! {
    /// Whether something of Systems Manager is to be had on a release.
    Capability, "capability" {
        /// AWS or the agent's sources say so.
        Yes = "yes",
        /// They exclude it.
        No = "no",
        /// They are silent.
        Unknown = "unknown",
    }
}

words! {
    /// Architectures of a userland, by Debian's names: those with an agent and the others an ELF header can name, so
    /// that a refusal can say what it saw.
    Arch, "architecture" {
        /// x86, 64-bit.
        Amd64 = "amd64",
        /// x86, 32-bit.
        I386 = "i386",
        /// AArch64.
        Arm64 = "arm64",
        /// 32-bit ARM with hardware floating point.
        Armhf = "armhf",
        /// 32-bit ARM without it.
        Armel = "armel",
        /// x86-64 with 32-bit pointers.
        X32 = "x32",
        /// POWER, 64-bit, little endian.
        Ppc64el = "ppc64el",
        /// POWER, 64-bit, big endian.
        Ppc64 = "ppc64",
        /// PowerPC, 32-bit.
        Powerpc = "powerpc",
        /// IBM Z.
        S390x = "s390x",
        /// RISC-V, 64-bit.
        Riscv64 = "riscv64",
        /// LoongArch, 64-bit.
        Loong64 = "loong64",
        /// MIPS, 32-bit, big endian.
        Mips = "mips",
        /// MIPS, 32-bit, little endian.
        Mipsel = "mipsel",
        /// MIPS, 64-bit, big endian.
        Mips64 = "mips64",
        /// MIPS, 64-bit, little endian.
        Mips64el = "mips64el",
        /// SPARC, 64-bit.
        Sparc64 = "sparc64",
        /// Alpha.
        Alpha = "alpha",
        /// PA-RISC.
        Hppa = "hppa",
        /// Itanium.
        Ia64 = "ia64",
        /// Motorola 68000.
        M68k = "m68k",
        /// SuperH.
        Sh4 = "sh4",
        /// Nothing in the tree tells.
        Unknown = "unknown",
    }
}

impl Arch {
    /// The names rpm uses in packages for it.
    pub fn rpm_names(&self) -> &'static [&'static str] {
        match self {
            Self::Amd64 => &["x86_64"],
            Self::Arm64 => &["aarch64"],
            Self::I386 => &["i386", "i486", "i586", "i686"],
            _ => &[],
        }
    }

    /// The name dpkg uses.
    pub fn debian_name(&self) -> &'static str {
        self.word()
    }
}

/// What Systems Manager can do on a release, once the agent runs there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Capabilities {
    /// Patch Manager, by AWS's list of its systems.
    pub patch_manager: Capability,
    /// Session Manager: every Linux with agent 2.3.68.0 or later, Windows Server 2012 or later.
    pub session_manager: Capability,
    /// The agent's update of itself, which goes by the names that it knows.
    pub self_update: Capability,
}

/// One release of an operating system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Os {
    /// `ubuntu-24.04`; the stem of its file.
    pub id: String,
    /// For people: `Ubuntu 24.04 LTS`.
    pub name: String,
    /// Which mechanisms apply.
    pub family: Family,
    /// Any of these identifies the release.
    #[serde(rename = "match")]
    pub matches: Vec<MatchRule>,
    /// The distribution's code name, `noble`.
    #[serde(default)]
    pub codename: Option<String>,
    /// The agent package to use.
    pub package: PackageFormat,
    /// Where TLS roots go.
    pub trust: TrustStore,
    /// What starts the agent.
    pub service: ServiceManager,
    /// The directory that `systemctl enable` names in the links it makes on this release.
    #[serde(default)]
    pub unit_dir: Option<String>,
    /// Folder of AWS's bucket for each userland architecture; without one there is no agent for it.
    pub packages: BTreeMap<Arch, String>,
    /// Whether to expect the snap.
    pub snap: SnapUse,
    /// The newest agent that runs there; unset: any.
    #[serde(default)]
    pub agent_max: Option<AgentVersion>,
    /// Whether its OpenSSL (0.9.8) looks certificates up by the old, MD5 subject hash.
    #[serde(default)]
    pub openssl_old_hash: bool,
    /// What works there.
    pub capabilities: Capabilities,
    /// Remarks for people.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl Os {
    /// Whether one of the rules fits, variant included.
    pub fn accepts(&self, seen: &OsIdentity<'_>) -> bool {
        self.matches.iter().any(|rule| rule.accepts(seen))
    }

    /// The bucket folder with the agent for `arch`.
    pub fn package_folder(&self, arch: Arch) -> Option<&str> {
        self.packages.get(&arch).map(String::as_str)
    }
}

/// What os-release and the marker files of a tree say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OsIdentity<'a> {
    /// ID.
    pub id: &'a str,
    /// VERSION_ID.
    pub version: &'a str,
    /// NAME, if the file has one.
    pub name: Option<&'a str>,
    /// PRETTY_NAME, if it has a version of its own.
    pub title: Option<&'a str>,
    /// The [`MatchRule::variant`] whose markers exist.
    pub variant: Option<&'a str>,
}

/// How to recognise a release. All parts must fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MatchRule {
    /// os-release ID, as the distribution spells it.
    pub id: String,
    /// Which VERSION_ID.
    pub version: VersionMatch,
    /// What NAME may start with, as whole words; derivatives that keep their parent's ID change it. Empty: anything.
    #[serde(default)]
    pub names: Vec<String>,
    /// A flavour that os-release does not tell from its parent, such as `raspberry-pi`.
    #[serde(default)]
    pub variant: Option<String>,
    /// Paths, relative to the root, any of which proves the variant.
    #[serde(default)]
    pub markers: Vec<String>,
}

impl MatchRule {
    /// Whether this rule fits. A missing NAME proves no masquerade; some derivatives change PRETTY_NAME only.
    pub fn accepts(&self, seen: &OsIdentity<'_>) -> bool {
        self.id == seen.id
            && self.version.accepts(seen.version)
            && self.variant.as_deref() == seen.variant
            && seen.name.is_none_or(|name| self.accepts_name(name))
            && seen.title.is_none_or(|title| self.accepts_name(title))
    }

    /// Whether NAME is one of those allowed: `Debian GNU/Linux 12` is, `Debian GNU/LinuxDeluxe` is not.
    pub fn accepts_name(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|words| begins_with_words(name, words))
    }
}

/// Whether `name` begins with `words`, the last of them whole.
pub(crate) fn begins_with_words(name: &str, words: &str) -> bool {
    name.strip_prefix(words)
        .is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
}

/// A condition on VERSION_ID.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VersionMatch {
    /// The whole of it: `24.04`.
    Exact(String),
    /// What is before the first dot: `12` fits `12` and `12.5`.
    Major(String),
    /// One of several, each as in `Exact`.
    OneOf(Vec<String>),
    /// Every version: systems that roll.
    Any,
}

impl VersionMatch {
    /// Whether a VERSION_ID fits.
    pub fn accepts(&self, version: &str) -> bool {
        match self {
            Self::Exact(exact) => version == exact,
            Self::Major(major) => version.split('.').next() == Some(major),
            Self::OneOf(versions) => versions.iter().any(|one| one == version),
            Self::Any => true,
        }
    }

    /// A version that fits.
    pub fn example(&self) -> &str {
        match self {
            Self::Exact(version) | Self::Major(version) => version,
            Self::OneOf(versions) => versions.last().map_or("", String::as_str),
            Self::Any => "20260101",
        }
    }
}
