//! The agent's unit is ordered after the network, but does not ask for it to come up: on systems where nothing else does,
//! the agent starts without one, fails, and sleeps.

use super::InstallChannel;
use crate::error::IoError;
use crate::root::{Root, RootPath};

/// The drop-in.
pub(crate) const TEXT: &str = "[Unit]\nWants=network-online.target\nAfter=network-online.target\n";
const LIMIT: usize = 64 * 1024;

/// Its place.
pub(crate) fn place(channel: InstallChannel) -> RootPath {
    RootPath::fixed(match channel {
        InstallChannel::Package => "/etc/systemd/system/amazon-ssm-agent.service.d/10-ssmbake-network.conf",
        InstallChannel::Snap => {
            "/etc/systemd/system/snap.amazon-ssm-agent.amazon-ssm-agent.service.d/10-ssmbake-network.conf"
        }
    })
}

/// Whether it is in place.
pub(crate) fn is_there(root: &Root, channel: InstallChannel) -> Result<bool, IoError> {
    Ok(root.read_if_file(&place(channel), LIMIT)?.as_deref() == Some(TEXT.as_bytes()))
}
