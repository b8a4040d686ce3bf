//! The service manager of the running system: told of new units, and asked to run the agent.

use ssmbake_manifests::ServiceManager;

use super::systemd::UNIT;
use crate::packages::PACKAGE;
use crate::runner::{RunError, run};

/// What happened to the agent's files in this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Files {
    /// Some changed: what runs is the old agent, or has the old configuration.
    Changed,
    /// Nothing did.
    AsBefore,
}

/// Lets the manager read its units again.
pub(crate) fn reload(manager: ServiceManager) -> Result<(), RunError> {
    match manager {
        ServiceManager::Systemd => run("systemctl", ["daemon-reload"]),
        _ => run("initctl", ["reload-configuration"]),
    }
    .map(drop)
}

/// Starts the agent and makes sure that it runs; one that runs already is left alone unless its files changed.
pub(crate) fn start(manager: ServiceManager, files: Files) -> Result<(), RunError> {
    match (manager, files) {
        (ServiceManager::Systemd, Files::AsBefore) => run("systemctl", ["start", UNIT]),
        (ServiceManager::Systemd, Files::Changed) => run("systemctl", ["restart", UNIT]),
        // Upstart fails to start what runs, and to restart what does not.
        (_, Files::AsBefore) => {
            run("initctl", ["start", PACKAGE]).or_else(|_| run("initctl", ["restart", PACKAGE]))
        }
        (_, Files::Changed) => {
            run("initctl", ["restart", PACKAGE]).or_else(|_| run("initctl", ["start", PACKAGE]))
        }
    }?;
    if manager == ServiceManager::Systemd {
        run("systemctl", ["is-active", "--quiet", UNIT])?;
    }
    Ok(())
}
