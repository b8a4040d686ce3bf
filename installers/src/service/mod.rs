//! Service managers: is the agent going to start at boot, and what has to change so that it does.
//! Nothing is started here but by [`live`].

pub(crate) mod environment;
pub(crate) mod live;
pub(crate) mod online;
pub mod systemd;
pub mod upstart;

use serde::{Deserialize, Serialize};

use crate::root::RootPath;

/// How the agent comes into a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstallChannel {
    /// As a deb or rpm.
    Package,
    /// From the snap store, as Ubuntu's images for EC2 have it.
    Snap,
}

impl InstallChannel {
    /// The systemd unit that runs the agent.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Package => "amazon-ssm-agent.service",
            Self::Snap => "snap.amazon-ssm-agent.amazon-ssm-agent.service",
        }
    }
}

/// Whether a service starts at boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Enablement {
    /// There is no such unit or job.
    Missing,
    /// It starts at boot because of this file or link.
    Enabled(RootPath),
    /// It is there and does not start.
    Disabled,
    /// The administrator forbade it with this file or link.
    Masked(RootPath),
}
