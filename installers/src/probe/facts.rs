//! What was found in a root. Plain data: `plan` decides from it, `detect` prints it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use ssmbake_manifests::{Arch, Capabilities, Family, Os, PackageFormat, ServiceManager, TrustStore};

use super::windows::WindowsFacts;
use crate::error::IoError;
use crate::packages::rpm::database::{Backend, Database};
use crate::receipt::{self, PackageReceipt};
use crate::root::{Root, RootPath};
use crate::selinux::Selinux;
use crate::service::{Enablement, InstallChannel};
use crate::trust::AnchorState;

/// The version of the facts' JSON.
pub const SCHEMA: u32 = 1;

/// Why something is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The file, inside the root.
    pub path: String,
    /// Its line, from 1, where it is a text.
    pub line: Option<usize>,
    /// What it says.
    pub says: String,
}

impl Evidence {
    /// A whole file or directory as evidence.
    pub fn path(path: impl Into<String>, says: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            line: None,
            says: says.into(),
        }
    }

    /// A line of a file as evidence.
    pub fn line(path: impl Into<String>, line: usize, says: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            line: Some(line),
            says: says.into(),
        }
    }
}

/// An answer and the evidence for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found<T> {
    /// The answer.
    pub value: T,
    /// Why.
    pub evidence: Vec<Evidence>,
}

/// The operating system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OsFacts {
    /// Id in the catalog: `debian-12`.
    pub id: String,
    /// As os-release's ID names it: `debian`.
    pub distribution: String,
    /// Whose mechanisms apply.
    pub family: Family,
    /// For people.
    pub name: String,
    /// As precise as the tree says: `12.11`.
    pub version: String,
    /// A flavour such as `raspberry-pi`.
    pub variant: Option<String>,
}

impl OsFacts {
    /// `os` as it was found, with what only the tree tells.
    pub(super) fn new(os: &Os, distribution: String, version: String, variant: Option<String>) -> Self {
        Self {
            id: os.id.clone(),
            distribution,
            family: os.family,
            name: os.name.clone(),
            version,
            variant,
        }
    }
}

/// Where the root is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// A tree that is looked at from outside.
    OfflineRoot,
    /// We run inside it, with another root above.
    Chroot,
    /// We run inside a container.
    Container,
    /// The running system.
    Live,
}

/// Where and under what we run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Where the root is.
    pub place: Found<Place>,
    /// PACKER_BUILDER_TYPE, when Packer is the caller. A hint, nothing depends on it.
    pub packer: Option<String>,
    /// The form of database that this machine's rpm writes.
    pub host_rpm: Option<Backend>,
}

impl Environment {
    /// Whether we run on the system itself.
    pub fn is_live(&self) -> bool {
        self.place.value == Place::Live
    }

    /// Whether this is a running system of which nobody makes an image, as far as anybody said.
    pub fn is_machine(&self) -> bool {
        self.is_live() && self.packer.is_none()
    }
}

/// The agent as a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageFacts {
    /// Its format.
    pub format: PackageFormat,
    /// Package version, `3.3.1957.0-1`.
    pub version: String,
    /// What the administrator wants: `install`, `hold`, …
    pub want: String,
    /// `installed`, or dpkg's `config-files`, `half-installed`, …, or `unregistered`: rpm learns of it at first boot.
    pub state: String,
    /// A file of the package that is missing.
    pub missing_file: Option<String>,
    /// The record in the package database.
    pub record: Evidence,
    /// What the receipt says that it was installed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placed: Option<PackageReceipt>,
    /// Whether a program is another since; known after [`Facts::compare_programs`].
    #[serde(skip)]
    pub is_changed: bool,
}

impl PackageFacts {
    /// Whether its files are in place.
    pub fn is_installed(&self) -> bool {
        matches!(self.state.as_str(), "installed" | "unregistered")
    }
}

/// The agent as a snap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapFacts {
    /// The snap file or directory.
    pub path: String,
    /// Whether it only waits to be installed at first boot.
    pub is_seeded: bool,
    /// Its version, where it is mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// The agent's configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ConfigFacts {
    /// None: the agent uses its defaults.
    Absent,
    /// The agent can read it.
    Valid {
        /// SHA-256, hex.
        sha256: String,
    },
    /// Nobody can say: it is no file, or too large, or not to be read by this user.
    Unread {
        /// Why.
        why: String,
    },
    /// The agent would stop at it, again and again.
    Invalid {
        /// Why.
        why: String,
    },
}

/// Everything about the agent in the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentInTree {
    /// As a package.
    pub package: Option<PackageFacts>,
    /// Why nobody can say whether there is a package.
    pub package_unknown: Option<String>,
    /// As a snap.
    pub snap: Option<SnapFacts>,
    /// Whose unit runs it: the package's, unless only a snap is installed.
    pub channel: InstallChannel,
    /// Whether it starts at boot.
    pub enablement: Enablement,
    /// Its configuration.
    pub config: ConfigFacts,
    /// SHA-256 of the proxy file of ours, hex.
    pub proxy_sha256: Option<String>,
    /// SHA-256 of the first-boot registration of ours, hex.
    pub first_boot_sha256: Option<String>,
    /// Whether it is registered without a word of which machine.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_anybody: bool,
    /// Whether the drop-in of ours makes it wait for the network.
    pub waits_for_network: bool,
}

/// The trust store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustFacts {
    /// Its mechanism.
    pub store: TrustStore,
    /// Number of certificates in the bundle; none without a bundle.
    pub bundle_size: Option<usize>,
    /// State of each anchor of the catalog, by id.
    pub anchors: BTreeMap<String, AnchorState>,
    /// Programs of the tree that keep further stores up to date, such as Java's.
    pub hooks: Vec<RootPath>,
    /// SHA-256 of the DER of every certificate in the bundle and, where that lacks one of AWS's, beside it, hex.
    #[serde(skip)]
    pub digests: BTreeSet<String>,
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Version of this shape.
    pub schema: u32,
    /// The operating system.
    pub os: Found<OsFacts>,
    /// The architecture of its userland.
    pub arch: Found<Arch>,
    /// What starts services.
    pub service_manager: Found<ServiceManager>,
    /// The package manager.
    pub package_manager: Found<String>,
    /// rpm's database.
    pub rpm_database: Option<Database>,
    /// SELinux, where it is switched on.
    pub selinux: Option<Selinux>,
    /// The trust store.
    pub trust: Found<TrustFacts>,
    /// The agent.
    pub agent: AgentInTree,
    /// Where we run; no part of the digest.
    pub environment: Environment,
    /// The program that keeps the clock right; no part of the digest.
    #[serde(default)]
    pub clock: Option<String>,
    /// What the catalog says of the system; no part of the digest.
    pub capabilities: Capabilities,
    /// What only Windows has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<WindowsFacts>,
    /// The configuration file as it stands.
    #[serde(skip)]
    pub config_text: Option<String>,
}

impl Facts {
    /// A machine of `os` and `arch` with nothing of ours on it: for plans that another program will carry out.
    pub fn untouched(os: &Os, arch: Arch) -> Self {
        let distribution = os.matches.first().map_or("", |rule| &rule.id).to_owned();
        let found = |says: &str| vec![Evidence::path("catalog", says)];
        Self {
            schema: SCHEMA,
            os: Found {
                value: OsFacts::new(os, distribution, String::new(), None),
                evidence: found("named by the user"),
            },
            arch: Found {
                value: arch,
                evidence: found("named by the user"),
            },
            service_manager: Found {
                value: os.service,
                evidence: found("of the release"),
            },
            package_manager: Found {
                value: String::new(),
                evidence: Vec::new(),
            },
            // The machine's own rpm will write whatever form it has.
            rpm_database: (os.package == PackageFormat::Rpm).then(|| Database {
                backend: Backend::Sqlite,
                dir: RootPath::fixed("/var/lib/rpm"),
            }),
            selinux: None,
            trust: Found {
                value: TrustFacts {
                    store: os.trust,
                    bundle_size: Some(0),
                    anchors: BTreeMap::new(),
                    hooks: Vec::new(),
                    digests: BTreeSet::new(),
                },
                evidence: Vec::new(),
            },
            agent: AgentInTree {
                package: None,
                package_unknown: None,
                snap: None,
                channel: InstallChannel::Package,
                enablement: Enablement::Missing,
                config: ConfigFacts::Absent,
                proxy_sha256: None,
                first_boot_sha256: None,
                is_anybody: false,
                waits_for_network: false,
            },
            environment: Environment {
                place: Found {
                    value: Place::OfflineRoot,
                    evidence: Vec::new(),
                },
                packer: None,
                host_rpm: None,
            },
            clock: None,
            capabilities: os.capabilities,
            windows: None,
            config_text: None,
        }
    }

    /// Looks whether the agent's programs are still those that the receipt speaks of: with a pin that counts, and it is the
    /// only time that reading all of them is worth.
    pub fn compare_programs(&mut self, root: &Root) -> Result<(), IoError> {
        if let Some(package) = self
            .agent
            .package
            .as_mut()
            .filter(|package| package.placed.is_some())
            && let Some(receipt) = receipt::read(root)?
        {
            package.is_changed = receipt::changed_program(root, &receipt)?.is_some();
        }
        Ok(())
    }

    /// SHA-256 over everything that a plan may depend on, hex.
    pub fn digest(&self) -> String {
        let parts = (
            &self.os,
            &self.arch,
            &self.service_manager,
            &self.rpm_database,
            &self.selinux,
            &self.trust,
            &self.agent,
            &self.trust.value.digests,
        );
        // Facts are strings, numbers and enums: they cannot fail to serialise.
        let bytes = serde_json::to_vec(&parts).unwrap_or_else(|error| error.to_string().into_bytes());
        crate::digest::sha256_hex(bytes)
    }
}
