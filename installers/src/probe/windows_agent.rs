//! The agent in a Windows tree: its programs, its entry among the installed programs, its service, its configuration.

use ssmbake_manifests::{Catalog, PackageFormat};

use super::ProbeError;
use super::agent::config_facts;
use super::facts::{AgentInTree, ConfigFacts, Evidence, PackageFacts};
use super::registry::{Registry, System};
use super::windows::fold;
use crate::root::{Last, Root};
use crate::service::{Enablement, InstallChannel};

/// Its service.
#[cfg(windows)]
pub(crate) const SERVICE_NAME: &str = "AmazonSSMAgent";
/// The service's key in a control set.
pub(super) const SERVICE: &str = r"Services\AmazonSSMAgent";
/// Its configuration file, in any spelling.
pub(crate) const CONFIG: &str = "Program Files/Amazon/SSM/amazon-ssm-agent.json";
/// Where it keeps what it is and does.
pub(crate) const STATE: &str = "ProgramData/Amazon/SSM";

const FOLDER: &str = "Program Files/Amazon/SSM";
/// Without either there is no agent.
const PROGRAMS: [&str; 2] = ["amazon-ssm-agent.exe", "ssm-agent-worker.exe"];
/// Installed programs, those of 32 bits apart.
const UNINSTALL: [&str; 2] = [
    r"Microsoft\Windows\CurrentVersion\Uninstall",
    r"WOW6432Node\Microsoft\Windows\CurrentVersion\Uninstall",
];
const DISPLAY_NAME: &str = "Amazon SSM Agent";
/// Of the plain files, which AWS's Nano Server installer unpacks, nothing tells the version.
const UNKNOWN_VERSION: &str = "unknown";

pub(super) fn look(
    root: &Root,
    software: &Registry,
    system: Option<&System>,
    catalog: &Catalog,
) -> Result<(AgentInTree, Option<String>), ProbeError> {
    let (config, config_text) = match fold(root, CONFIG)? {
        Some(path) => config_facts(root, &path, catalog)?,
        None => (ConfigFacts::Absent, None),
    };
    let agent = AgentInTree {
        package: package(root, software)?,
        package_unknown: None,
        snap: None,
        channel: InstallChannel::Package,
        enablement: enablement(system)?,
        config,
        proxy_sha256: None,
        first_boot_sha256: None,
        is_anybody: false,
        waits_for_network: false,
    };
    Ok((agent, config_text))
}

fn package(root: &Root, software: &Registry) -> Result<Option<PackageFacts>, ProbeError> {
    let entry = entry(software)?;
    let missing = missing_program(root)?;
    let (version, record) = match (entry, &missing) {
        (Some(found), _) => found,
        (None, None) => (UNKNOWN_VERSION.to_owned(), Evidence::path(FOLDER, "exists")),
        (None, Some(_)) => return Ok(None),
    };
    Ok(Some(PackageFacts {
        placed: None,
        is_changed: false,
        format: PackageFormat::Exe,
        version,
        want: "install".to_owned(),
        state: "installed".to_owned(),
        missing_file: missing,
        record,
    }))
}

/// The version among the installed programs, and where it stands.
fn entry(software: &Registry) -> Result<Option<(String, Evidence)>, ProbeError> {
    for list in UNINSTALL {
        for name in software.names(list)? {
            let key = software.key(&format!(r"{list}\{name}"))?;
            let is_agent = software
                .value(key.as_ref(), "DisplayName")?
                .is_some_and(|title| title == DISPLAY_NAME);
            if is_agent && let Some(version) = software.value(key.as_ref(), "DisplayVersion")? {
                let says = format!(r"{list}\{name}: {version}");
                return Ok(Some((version, Evidence::path(software.path().as_str(), says))));
            }
        }
    }
    Ok(None)
}

fn missing_program(root: &Root) -> Result<Option<String>, ProbeError> {
    for name in PROGRAMS {
        let wanted = format!("{FOLDER}/{name}");
        let is_there = match fold(root, &wanted)? {
            Some(path) => root.meta(&path, Last::Follow)?.is_some(),
            None => false,
        };
        if !is_there {
            return Ok(Some(format!("/{wanted}")));
        }
    }
    Ok(None)
}

fn enablement(system: Option<&System>) -> Result<Enablement, ProbeError> {
    let Some(system) = system else {
        return Ok(Enablement::Missing);
    };
    Ok(match system.text(SERVICE, "Start")?.as_deref() {
        None => Enablement::Missing,
        Some("2") => Enablement::Enabled(system.path().clone()),
        Some(_) => Enablement::Disabled,
    })
}
