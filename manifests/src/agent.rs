//! Agent versions, advisories, and where releases are published. Downloading them is not done here.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::catalog;
use crate::os::PackageFormat;
use crate::regions::{HostVariant, Region, Service};
use crate::words::words;

/// A version of the agent, `3.3.1957.0`; ordered by its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentVersion(pub [u32; 4]);

/// A text that is not an agent version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not an agent version, which is four numbers such as `3.3.1957.0`", .text.escape_debug())]
pub struct InvalidVersion {
    /// The text, at most its first 64 characters.
    pub text: String,
}

impl FromStr for AgentVersion {
    type Err = InvalidVersion;

    /// Strict, because versions become URL paths and are compared with those inside packages: four decimal numbers
    /// with no sign, blank or leading zero, so that a version has one spelling.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidVersion {
            text: text.chars().take(64).collect(),
        };
        let mut numbers = [0; 4];
        let mut parts = text.split('.');
        for number in &mut numbers {
            *number = parts.next().and_then(decimal).ok_or_else(invalid)?;
        }
        if parts.next().is_some() {
            return Err(invalid());
        }
        Ok(Self(numbers))
    }
}

fn decimal(part: &str) -> Option<u32> {
    let canonical = part == "0" || !part.starts_with('0');
    // `parse` alone would take a leading plus sign.
    if !canonical || !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    part.parse().ok()
}

impl fmt::Display for AgentVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, build, patch] = self.0;
        f.pad(&format!("{major}.{minor}.{build}.{patch}"))
    }
}

impl Serialize for AgentVersion {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AgentVersion {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

words! {
    /// What a bucket calls its newest release.
    Channel, "channel" {
        /// The newest.
        Latest = "latest",
        /// The newest that AWS calls stable.
        Stable = "stable",
    }
}

/// Everything known about the agent as a product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AgentFacts {
    /// The oldest version that belongs in an image.
    pub floor: AgentVersion,
    /// From here on packages have a detached signature.
    pub signature_since: AgentVersion,
    /// The common name of who signs for Windows.
    pub publisher: String,
    /// What old kernels can run.
    pub kernel: KernelLimit,
    /// Where releases are.
    pub download: DownloadLayout,
    /// File name of the package in each format.
    pub package_file: BTreeMap<PackageFormat, String>,
    /// File name of AWS's own installer beside it.
    pub setup_cli_file: BTreeMap<PackageFormat, String>,
    /// What agents update themselves from.
    pub update: UpdateArchives,
    /// Bounds for everything that is read from a network or a package.
    pub limits: Limits,
    /// Names by which the agent knows the system it runs on.
    pub self_update: SelfUpdate,
    /// Security advisories, oldest first.
    #[serde(rename = "advisory")]
    pub advisories: Vec<Advisory>,
}

/// The kernel that current agents need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KernelLimit {
    /// Oldest Linux, as `major.minor`.
    pub minimum: String,
    /// The last agent for anything older.
    pub last_for_older: AgentVersion,
}

/// URL patterns; words in braces are replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DownloadLayout {
    /// Base URL of a region's bucket: `{s3-host}`, `{region}`.
    pub regional: String,
    /// Base URL of the bucket for all of them.
    pub global: String,
    /// Path of the text file with a version: `{channel}`.
    pub version_file: String,
    /// Path of a package: `{version}`, `{folder}`, `{file}`.
    pub package: String,
    /// What a signature's path adds to its package's.
    pub signature_suffix: String,
    /// Path of the list of releases in regional buckets; unsigned.
    pub manifest: String,
    /// Path of an archive that the list is about: `{name}`, `{version}`, `{platform}`.
    pub archive: String,
    /// What the list says about where its files are: `{base}`; the other words are for its readers.
    pub manifest_uri: String,
    /// Path of AWS's own installer: `{folder}`, `{file}`.
    pub setup_cli: String,
}

/// What agents update themselves from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct UpdateArchives {
    /// Name of the archives that hold a package.
    pub package: String,
    /// Name of those that hold the program which installs it.
    pub updater: String,
    /// The program that an archive for Windows has to have, by the archive's name; lower case.
    pub program: BTreeMap<String, String>,
    /// End of the archives' file names, by the package's folder.
    pub platform: BTreeMap<String, String>,
}

/// Upper bounds, in bytes unless the name says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// A package file.
    pub package_bytes: u64,
    /// All that it unpacks to.
    pub unpacked_bytes: u64,
    /// Number of archive members.
    pub entries: u64,
    /// A detached signature.
    pub signature_bytes: u64,
    /// The VERSION file.
    pub version_file_bytes: u64,
    /// The release list.
    pub manifest_bytes: u64,
}

/// When the agent can update itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SelfUpdate {
    /// Lower-case words it looks for in the OS name.
    pub names: Vec<String>,
}

/// A security advisory about the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Advisory {
    /// A CVE number, or our own word where none was given.
    pub id: String,
    /// The first version without the flaw.
    pub fixed_in: AgentVersion,
    /// The flaw in one line.
    pub summary: String,
}

impl AgentFacts {
    /// Base URL of the region's own bucket.
    pub fn regional_base(&self, region: &Region) -> String {
        // A region of no known partition (one from a newer plan) has the suffix that the agent itself falls back to.
        let host = catalog()
            .regions()
            .host(region, Service::S3, HostVariant::Standard)
            .unwrap_or_else(|| format!("s3.{}.amazonaws.com", region.id));
        self.download
            .regional
            .replace("{s3-host}", &host)
            .replace("{region}", &region.id)
    }

    /// Base URL of the bucket that serves the commercial partition as a whole.
    pub fn global_base(&self) -> String {
        self.download.global.clone()
    }

    /// Path, under a base URL, of the file that holds the channel's version.
    pub fn version_path(&self, channel: Channel) -> String {
        self.download.version_file.replace("{channel}", channel.word())
    }

    /// Path, under a base URL, of a package in a folder named by [`Os::packages`](crate::Os::packages).
    pub fn package_path(&self, version: &AgentVersion, folder: &str, format: PackageFormat) -> String {
        self.download
            .package
            .replace("{version}", &version.to_string())
            .replace("{folder}", folder)
            .replace("{file}", self.package_file_name(format))
    }

    /// Path of the signature of the package at `package_path`.
    pub fn signature_path(&self, package_path: &str) -> String {
        format!("{package_path}{}", self.download.signature_suffix)
    }

    /// Path, under a base URL, of the archive `name` for the systems of a package's folder; none is known for some.
    pub fn archive_path(&self, name: &str, version: &AgentVersion, folder: &str) -> Option<String> {
        let platform = self.update.platform.get(folder)?;
        let path = self.download.archive.replace("{name}", name);
        let path = path.replace("{version}", &version.to_string());
        Some(path.replace("{platform}", platform))
    }

    /// Path, under a base URL, of AWS's own installer for the systems of a package's folder.
    pub fn setup_cli_path(&self, folder: &str, format: PackageFormat) -> String {
        // A test proves that the table has every format.
        let file = self.setup_cli_file.get(&format).map_or("", String::as_str);
        let path = self.download.setup_cli.replace("{folder}", folder);
        path.replace("{file}", file)
    }

    /// Where a bucket's list says that its files are.
    pub fn manifest_uri(&self, base: &str) -> String {
        self.download.manifest_uri.replace("{base}", base)
    }

    /// The package's file name.
    pub fn package_file_name(&self, format: PackageFormat) -> &str {
        // A test proves that the table has every format.
        self.package_file.get(&format).map_or("", String::as_str)
    }

    /// Advisories that `version` is open to.
    pub fn advisories_for(&self, version: AgentVersion) -> impl Iterator<Item = &Advisory> {
        self.advisories
            .iter()
            .filter(move |advisory| version < advisory.fixed_in)
    }

    /// Whether the agent recognises the OS by its NAME; where it does not, it runs but cannot update itself.
    pub fn updates_itself_on(&self, os_name: &str) -> bool {
        let name = os_name.to_lowercase();
        self.self_update
            .names
            .iter()
            .any(|word| name.contains(word.as_str()))
    }
}
