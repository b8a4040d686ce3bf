//! What a plan consists of.

use std::fmt;

use serde::{Deserialize, Serialize};
use ssmbake_manifests::{Arch, PackageFormat, ServiceManager, TrustStore};

use super::VersionSpec;
use crate::activation::{FirstBoot, Source};
use crate::config::proxy::Proxy;
use crate::config::{self, Edit};
use crate::packages::Registration;
use crate::service::InstallChannel;
use crate::trust::Anchor;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do", deny_unknown_fields)]
pub enum Step {
    /// Keep snapd from replacing the agent meanwhile. Live systems only.
    HoldRefresh,
    /// Download, verify, unpack, register.
    InstallPackage {
        /// Version.
        version: VersionSpec,
        /// The base URL of the bucket.
        base_url: String,
        /// Its folder.
        folder: String,
        /// The package's format.
        format: PackageFormat,
        /// The architecture.
        arch: Arch,
        /// How the package database learns of it.
        registration: Registration,
    },
    /// Label the new files as the tree's SELinux policy says.
    LabelFiles {
        /// `targeted`, …
        policy: String,
    },
    /// Let the first boot label all files.
    RequestRelabel,
    /// Let the target's own rpm learn of the package when it first boots.
    RegisterAtFirstBoot {
        /// Who starts the job.
        manager: ServiceManager,
    },
    /// Let the first boot register the machine.
    ActivateAtFirstBoot {
        /// Who starts it.
        manager: ServiceManager,
        /// How.
        first_boot: FirstBoot,
        /// Whether an image is made: then no activation may lie in the tree.
        is_image: bool,
    },
    /// Make it start at boot.
    EnableService {
        /// By which manager.
        manager: ServiceManager,
        /// Whose unit.
        channel: InstallChannel,
        /// The directory of the unit, as the release's own systemctl writes it.
        unit_dir: Option<String>,
    },
    /// Make the tree trust these.
    TrustAnchors {
        /// How the tree keeps its anchors.
        store: TrustStore,
        /// Them.
        anchors: Vec<Anchor>,
    },
    /// Set keys of the agent's configuration.
    WriteConfig {
        /// Them.
        edits: Vec<Edit>,
    },
    /// Let the agent's unit ask for the network.
    WaitForNetwork {
        /// Whose unit.
        channel: InstallChannel,
    },
    /// Write the agent's proxy.
    WriteProxy {
        /// For which manager.
        manager: ServiceManager,
        /// For whose unit.
        channel: InstallChannel,
        /// It.
        proxy: Proxy,
    },
    /// Let the running service manager read its units again. Live systems only.
    ReloadManager {
        /// It.
        manager: ServiceManager,
    },
    /// Register the machine now, as its first boot would. Live systems only.
    RegisterNow {
        /// Who runs the job.
        manager: ServiceManager,
    },
    /// Start the agent now, or again when something of it changed. Live systems only.
    StartService {
        /// By which manager.
        manager: ServiceManager,
        /// Whose unit.
        channel: InstallChannel,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HoldRefresh => f.write_str("hold the refresh of the agent's snap meanwhile"),
            Self::InstallPackage {
                version,
                base_url,
                folder,
                arch,
                registration,
                ..
            } => {
                let how = match registration {
                    Registration::Native => "natively",
                    Registration::HostRpm => "its files natively, its record by this machine's rpm",
                    Registration::TargetRpm => "its files natively, its record by the tree's own rpm",
                    Registration::FirstBoot => "its files natively",
                };
                write!(
                    f,
                    "install amazon-ssm-agent {version} ({arch}) from {base_url} folder {folder}, {how}"
                )
            }
            Self::LabelFiles { policy } => write!(f, "label new files as the SELinux policy `{policy}` says"),
            Self::RequestRelabel => f.write_str("let the first boot set the SELinux labels of all files"),
            Self::RegisterAtFirstBoot { manager } => {
                write!(f, "let rpm register the package at first boot ({manager})")
            }
            Self::ActivateAtFirstBoot { first_boot, .. } => {
                let sources: Vec<String> = first_boot.sources.iter().map(Source::to_string).collect();
                write!(
                    f,
                    "register at first boot with an activation from {}",
                    sources.join(", ")
                )
            }
            Self::EnableService {
                channel: InstallChannel::Snap,
                ..
            } => write!(f, "enable {}", InstallChannel::Snap.unit()),
            Self::EnableService { manager, .. } => write!(f, "enable the service ({manager})"),
            Self::TrustAnchors { anchors, .. } => {
                let labels: Vec<&str> = anchors.iter().map(|anchor| anchor.label.as_str()).collect();
                write!(f, "trust {}", labels.join(", "))
            }
            Self::WriteConfig { edits } => {
                let keys: Vec<String> = edits
                    .iter()
                    .map(|e| format!("{}.{}={}", e.section, e.key, e.value))
                    .collect();
                write!(f, "set {} in {}", keys.join(", "), config::PATH)
            }
            Self::WaitForNetwork { channel } => {
                write!(f, "let {} ask for the network", channel.unit())
            }
            Self::WriteProxy { manager, channel, .. } => {
                let place = config::proxy::place(*manager, *channel);
                write!(f, "write the agent's proxy to {place}")
            }
            Self::ReloadManager { manager } => write!(f, "let {manager} read its units again"),
            Self::RegisterNow { .. } => f.write_str("register the machine now"),
            Self::StartService { manager, .. } => write!(f, "start the service now ({manager})"),
        }
    }
}
