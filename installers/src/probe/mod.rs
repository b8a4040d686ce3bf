//! Probe: root → facts. Reads only, executes nothing, never asks the host what the target is.

mod agent;
mod architecture;
mod clock;
mod elf;
mod environment;
mod facts;
mod hive;
mod os;
pub mod os_release;
mod registry;
mod release_file;
mod vendor;
mod windows;
mod windows_agent;

use std::collections::BTreeMap;

use ssmbake_manifests::{AnchorSet, Catalog, Os, PackageFormat, ServiceManager, hex};

pub(crate) use architecture::of_program;
pub use environment::{CallerHints, RootChoice};
pub use facts::*;
pub use windows::WindowsFacts;
pub(crate) use windows::fold;
#[cfg(windows)]
pub(crate) use windows_agent::SERVICE_NAME as WINDOWS_SERVICE;
pub(crate) use windows_agent::{CONFIG as WINDOWS_CONFIG, STATE as WINDOWS_STATE};

use crate::error::IoError;
use crate::packages::rpm::database::Database;
use crate::root::{Last, Root, RootPath};
use crate::selinux;
use crate::trust;

/// Why no facts can be given.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The system is known by name and not supported, or a derivative of one that is.
    #[error("{what} (ID `{id}`) is not supported")]
    Unsupported {
        /// Name and version.
        what: String,
        /// os-release ID.
        id: String,
        /// What os-release says it is like.
        like: Option<String>,
        /// Where that was read.
        evidence: Vec<Evidence>,
    },
    /// Known, and not for us.
    #[error("{what} is not supported")]
    Refused {
        /// What it is.
        what: String,
        /// The right way there.
        hint: String,
    },
    /// The registry of Windows cannot be read.
    #[error("the hive `{path}` cannot be read: {why}")]
    Hive {
        /// Inside the root.
        path: String,
        /// Why.
        why: String,
    },
    /// The user named a system that the catalog does not have for a tree of this kind.
    #[error("no system `{id}` is known that this tree could be")]
    NoSuchSystem {
        /// As it was named.
        id: String,
        /// Those that are.
        known: String,
    },
    /// Nothing says which system it is.
    #[error("no operating system was recognised: {0}")]
    Unknown(String),
    /// A database of the tree cannot be read.
    #[error("`{path}` is damaged: {why}")]
    Damaged {
        /// Which.
        path: &'static str,
        /// Why.
        why: String,
    },
    /// The disk said no.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// Looks at `root`.
pub fn probe(root: &Root, catalog: &Catalog, hints: &CallerHints) -> Result<Facts, ProbeError> {
    // A Windows tree may hold an /etc, too.
    if let Some(config) = windows::config_dir(root, hints)? {
        return windows::probe(root, catalog, hints, &config);
    }
    let (os, os_found) = os::identify(root, catalog, hints.claimed_os.as_deref())?;
    let arch = architecture::look(root)?;
    let rpm_database = match os.package {
        PackageFormat::Rpm => Database::find(root)?,
        _ => None,
    };
    let (agent, config_text) = agent::look(root, os, catalog, rpm_database.as_ref())?;
    Ok(Facts {
        schema: SCHEMA,
        os: os_found,
        arch,
        service_manager: service_manager(root, os)?,
        package_manager: package_manager(root)?,
        rpm_database,
        selinux: selinux::look(root)?,
        trust: trust_facts(root, catalog, os)?,
        agent,
        environment: environment::look(root, hints)?,
        clock: clock::look(root)?,
        capabilities: os.capabilities,
        windows: None,
        config_text,
    })
}

/// The catalog says what the release boots with; the tree is evidence for or against it.
fn service_manager(root: &Root, os: &Os) -> Result<Found<ServiceManager>, ProbeError> {
    let signs = [
        (ServiceManager::Systemd, "/lib/systemd/systemd"),
        (ServiceManager::Systemd, "/usr/lib/systemd/systemd"),
        (ServiceManager::Upstart, "/sbin/initctl"),
    ];
    let mut evidence = Vec::new();
    for (manager, path) in signs {
        if manager == os.service && root.meta(&RootPath::fixed(path), Last::Follow)?.is_some() {
            evidence.push(Evidence::path(path, "exists"));
        }
    }
    if evidence.is_empty() {
        evidence.push(Evidence::path(
            "catalog",
            format!("{} boots with {}", os.name, os.service),
        ));
    }
    Ok(Found {
        value: os.service,
        evidence,
    })
}

fn package_manager(root: &Root) -> Result<Found<String>, ProbeError> {
    let signs = [
        ("apt", "/usr/bin/apt-get"),
        ("zypper", "/usr/bin/zypper"),
        ("dnf", "/usr/bin/dnf"),
        ("yum", "/usr/bin/yum"),
        ("rpm", "/usr/bin/rpm"),
        ("dpkg", "/usr/bin/dpkg"),
        ("dpkg", "/var/lib/dpkg/status"),
    ];
    for (name, path) in signs {
        if root.meta(&RootPath::fixed(path), Last::Follow)?.is_some() {
            return Ok(Found {
                value: name.to_owned(),
                evidence: vec![Evidence::path(path, "exists")],
            });
        }
    }
    Ok(Found {
        value: "none".to_owned(),
        evidence: Vec::new(),
    })
}

fn trust_facts(root: &Root, catalog: &Catalog, os: &Os) -> Result<Found<TrustFacts>, ProbeError> {
    let needed = catalog
        .anchors()
        .iter()
        .filter(|anchor| anchor.set == AnchorSet::Default);
    let needed = needed.map(|anchor| hex::encode(&anchor.sha256)).collect();
    let trusted = trust::trusted(root, os.trust, &needed)?;
    let mut anchors = BTreeMap::new();
    for anchor in catalog.anchors() {
        let sha256 = hex::encode(&anchor.sha256);
        let state = trust::anchor_state(&trusted, &sha256, &anchor.file_stem);
        anchors.insert(anchor.id.clone(), state);
    }
    let evidence = match trusted.bundle_size {
        Some(size) => Evidence::path(trusted.bundle.as_str(), format!("{size} certificates")),
        None => Evidence::path(trusted.bundle.as_str(), "does not exist"),
    };
    let facts = TrustFacts {
        store: os.trust,
        bundle_size: trusted.bundle_size,
        anchors,
        digests: trusted.digests,
        hooks: trust::pending(root, os.trust)?,
    };
    Ok(Found {
        value: facts,
        evidence: vec![evidence],
    })
}
