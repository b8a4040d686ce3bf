//! Probe: root → facts. Reads only, executes nothing, never asks the host what the target is.

mod agent;
mod elf;
mod environment;
mod facts;
mod hive;
mod os;
pub mod os_release;
mod vendor;
mod windows;

use std::collections::BTreeMap;
use std::io::Read;

use ssmbake_manifests::{Arch, Catalog, Os, PackageFormat, ServiceManager};

pub use environment::{CallerHints, RootChoice};
pub use facts::*;
pub use windows::WindowsFacts;

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
    /// The user named a system that the catalog does not have.
    #[error("no system `{id}` is known")]
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
    if let Some(config) = windows::config_dir(root)? {
        return windows::probe(root, catalog, hints, &config);
    }
    let (os, os_found) = os::identify(root, catalog, hints.claimed_os.as_deref())?;
    let arch = architecture(root)?;
    let rpm_database = match os.package {
        PackageFormat::Rpm => Database::find(root)?,
        _ => None,
    };
    let (agent, config_text) = agent::look(root, os, rpm_database.as_ref())?;
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
        windows: None,
        config_text,
    })
}

/// Programs and loaders that systems have; a foreign static one may be among them, so the majority decides.
const PROGRAMS: [&str; 14] = [
    "/bin/sh",
    "/bin/bash",
    "/bin/ls",
    "/bin/cat",
    "/usr/bin/env",
    "/usr/bin/dpkg",
    "/usr/bin/perl",
    "/sbin/init",
    "/lib/systemd/systemd",
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-linux-armhf.so.3",
    "/lib/ld-musl-x86_64.so.1",
];
const DPKG_ARCH: &str = "/var/lib/dpkg/arch";

fn architecture(root: &Root) -> Result<Found<Arch>, ProbeError> {
    let mut votes: BTreeMap<Arch, Vec<Evidence>> = BTreeMap::new();
    for program in PROGRAMS {
        let file = match root.open_file(&RootPath::fixed(program)) {
            Ok(Some(file)) => file,
            Ok(None) => continue,
            // A device node or a program that only root may read says nothing; the others do.
            Err(_) => continue,
        };
        let mut header = Vec::new();
        let path = RootPath::fixed(program);
        file.take(elf::HEADER as u64)
            .read_to_end(&mut header)
            .map_err(|e| IoError::new("read", &path, e))?;
        if let Some(arch) = elf::architecture(&header) {
            votes
                .entry(arch)
                .or_default()
                .push(Evidence::path(program, format!("ELF header of {arch}")));
        }
    }
    let dpkg = root.read(&RootPath::fixed(DPKG_ARCH), 4096)?;
    let dpkg = dpkg.map(|bytes| {
        String::from_utf8_lossy(&bytes)
            .lines()
            .next()
            .unwrap_or("")
            .trim()
            .to_owned()
    });
    let dpkg_arch = dpkg.as_deref().and_then(|name| name.parse::<Arch>().ok());
    let winner = votes
        .into_iter()
        .max_by_key(|(arch, votes)| (votes.len(), Some(*arch) == dpkg_arch));
    match (winner, dpkg_arch) {
        (Some((arch, mut evidence)), _) => {
            let says = dpkg.map(|name| Evidence::line(DPKG_ARCH, 1, name));
            evidence.extend(says);
            Ok(Found {
                value: arch,
                evidence,
            })
        }
        (None, Some(arch)) => Ok(Found {
            value: arch,
            evidence: vec![Evidence::line(DPKG_ARCH, 1, arch.to_string())],
        }),
        (None, None) => Ok(Found {
            value: Arch::Unknown,
            evidence: Vec::new(),
        }),
    }
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
    let trusted = trust::trusted(root, os.trust)?;
    let mut anchors = BTreeMap::new();
    for anchor in catalog.anchors() {
        let sha256 = ssmbake_manifests::hex::encode(&anchor.sha256);
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
