//! The service managers of the running system: told of new units, asked to run the agent, and kept from replacing it.

use ssmbake_manifests::ServiceManager;

use super::InstallChannel;
use crate::activation;
use crate::packages::PACKAGE;
#[cfg(windows)]
use crate::probe::WINDOWS_SERVICE;
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

/// Registers this machine now, as its first boot would have.
pub(crate) fn register(manager: ServiceManager) -> Result<(), RunError> {
    match manager {
        ServiceManager::Systemd => run("systemctl", ["restart", activation::UNIT]),
        _ => run("initctl", ["start", "ssmbake-first-boot"]),
    }
    .map(drop)
}

/// Starts the agent and makes sure that it runs; one that runs already is left alone unless its files changed.
pub(crate) fn start(manager: ServiceManager, channel: InstallChannel, files: Files) -> Result<(), RunError> {
    let unit = channel.unit();
    match (manager, files) {
        (ServiceManager::Systemd, Files::AsBefore) => run("systemctl", ["start", unit]),
        (ServiceManager::Systemd, Files::Changed) => run("systemctl", ["restart", unit]),
        // Upstart fails to start what runs, and to restart what does not.
        (_, Files::AsBefore) => {
            run("initctl", ["start", PACKAGE]).or_else(|_| run("initctl", ["restart", PACKAGE]))
        }
        (_, Files::Changed) => {
            run("initctl", ["restart", PACKAGE]).or_else(|_| run("initctl", ["start", PACKAGE]))
        }
    }?;
    if manager == ServiceManager::Systemd && run("systemctl", ["is-active", "--quiet", unit]).is_err() {
        let asked = "--property=ActiveState,SubState,Result,ExecMainStatus";
        let why = run("systemctl", ["show", asked, unit])?
            .trim()
            .replace('\n', ", ");
        return Err(RunError {
            program: unit.to_owned(),
            why,
        });
    }
    Ok(())
}

/// Stops the agent.
pub(crate) fn stop(manager: ServiceManager, channel: InstallChannel) -> Result<(), RunError> {
    match manager {
        ServiceManager::Systemd => run("systemctl", ["stop", channel.unit()]),
        _ => run("initctl", ["stop", PACKAGE]),
    }
    .map(drop)
}

/// Whether the agent runs.
pub(crate) fn is_running(manager: ServiceManager, channel: InstallChannel) -> bool {
    match manager {
        ServiceManager::Systemd => run("systemctl", ["is-active", "--quiet", channel.unit()]).is_ok(),
        ServiceManager::Scm => windows_service_runs(),
        _ => run("initctl", ["status", PACKAGE]).is_ok_and(|said| said.contains("start/running")),
    }
}

#[cfg(windows)]
fn windows_service_runs() -> bool {
    use windows_service::service::{ServiceAccess, ServiceState};
    use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};
    ServiceManager::local_computer(None::<&str>, ServiceManagerAccess::CONNECT)
        .and_then(|manager| manager.open_service(WINDOWS_SERVICE, ServiceAccess::QUERY_STATUS))
        .and_then(|service| service.query_status())
        .is_ok_and(|status| status.current_state == ServiceState::Running)
}

/// Nothing but Windows asks its service manager.
#[cfg(not(windows))]
fn windows_service_runs() -> bool {
    false
}

/// snapd keeps its hands off the agent while this lives; a hold that nobody lifts ends after an hour.
#[derive(Debug)]
pub(crate) struct RefreshHold {
    lift: Option<Vec<String>>,
}

/// Holds the refresh of the agent's snap, unless the administrator does already.
pub(crate) fn hold_refresh(until: &str) -> Result<RefreshHold, RunError> {
    let words = |line: &[&str]| line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    // Name, version, revision, tracking, publisher, notes.
    let listed = run("snap", ["list", PACKAGE])?;
    let is_held = listed
        .lines()
        .filter(|line| line.starts_with(PACKAGE))
        .filter_map(|line| line.split_whitespace().last())
        .any(|notes| notes.split(',').any(|note| note == "held"));
    if is_held {
        return Ok(RefreshHold { lift: None });
    }
    if run("snap", ["refresh", "--hold=1h", PACKAGE]).is_ok() {
        let lift = words(&["refresh", "--unhold", PACKAGE]);
        return Ok(RefreshHold { lift: Some(lift) });
    }
    // Before snapd 2.58 only all snaps together could be held. Asking for what is not set fails.
    let before = run("snap", ["get", "system", "refresh.hold"]).unwrap_or_default();
    run("snap", ["set", "system", &format!("refresh.hold={until}")])?;
    let lift = words(&["set", "system", &format!("refresh.hold={}", before.trim())]);
    Ok(RefreshHold { lift: Some(lift) })
}

impl Drop for RefreshHold {
    fn drop(&mut self) {
        if let Some(lift) = self.lift.take() {
            // One that cannot be lifted ends by itself.
            drop(run("snap", lift));
        }
    }
}
