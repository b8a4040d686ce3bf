//! The agent in a tree: as a package, as a snap, its configuration, whether it starts.

use ssmbake_manifests::{Catalog, Os, PackageFormat, ServiceManager};

use super::ProbeError;
use super::facts::{AgentInTree, ConfigFacts, Evidence, PackageFacts, SnapFacts};
use crate::activation;
use crate::config;
use crate::digest::sha256_hex;
use crate::error::IoError;
use crate::packages::deb::database::{self, StatusDb};
use crate::packages::rpm::archive::files;
use crate::packages::rpm::database::{Database, DatabaseError};
use crate::packages::rpm::header::Header;
use crate::packages::rpm::register;
use crate::packages::{PACKAGE, PackageError};
use crate::receipt::{self, PackageReceipt};
use crate::root::{Last, Root, RootPath};
use crate::service::{Enablement, InstallChannel, online, systemd, upstart};

const LIST_LIMIT: usize = 4 * 1024 * 1024;
const CONFIG_LIMIT: usize = 1024 * 1024;
const SNAP_YAML: &str = "/snap/amazon-ssm-agent/current/meta/snap.yaml";
/// Mounted, installed or waiting to be installed at first boot. The seed stays for ever, so it is asked last.
const SNAP_DIRS: [(&str, Seeded); 3] = [
    ("/snap", Seeded::No),
    ("/var/lib/snapd/snaps", Seeded::No),
    ("/var/lib/snapd/seed/snaps", Seeded::Yes),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Seeded {
    Yes,
    No,
}

/// The agent's state and its configuration text.
pub(super) fn look(
    root: &Root,
    os: &Os,
    catalog: &Catalog,
    rpm_database: Option<&Database>,
) -> Result<(AgentInTree, Option<String>), ProbeError> {
    let (config, config_text) = config_facts(root, &RootPath::fixed(config::PATH), catalog)?;
    let (package, package_unknown) = match os.package {
        PackageFormat::Deb => (deb(root)?, None),
        PackageFormat::Rpm => match rpm(root, rpm_database) {
            Ok(package) => (package, None),
            Err(DatabaseError::Io(error)) => return Err(error.into()),
            // The rest of the tree can be told all the same.
            Err(error) => (None, Some(error.to_string())),
        },
        PackageFormat::Exe => (None, None),
    };
    let package = package
        .map(|package| {
            let placed = placed(root, &package.version)?;
            Ok::<_, IoError>(PackageFacts { placed, ..package })
        })
        .transpose()?;
    let snap = snap(root)?;
    let channel = match (&snap, &package) {
        (Some(snap), None) if !snap.is_seeded => InstallChannel::Snap,
        _ => InstallChannel::Package,
    };
    let enablement = match os.service {
        ServiceManager::Systemd => systemd::state(root, channel.unit())?,
        ServiceManager::Upstart => upstart::state(root)?,
        ServiceManager::Sysvinit | ServiceManager::Scm => Enablement::Missing,
    };
    let proxy = root.read(&config::proxy::place(os.service, channel), CONFIG_LIMIT)?;
    let agent = AgentInTree {
        package,
        package_unknown,
        snap,
        channel,
        enablement,
        config,
        proxy_sha256: proxy.map(sha256_hex),
        first_boot_sha256: activation::digest(root)?,
        is_anybody: activation::is_anybody(root)?,
        waits_for_network: online::is_there(root, channel)?,
    };
    Ok((agent, config_text))
}

fn deb(root: &Root) -> Result<Option<PackageFacts>, ProbeError> {
    let Some(bytes) = root.read(&RootPath::fixed(database::STATUS), database::STATUS_LIMIT)? else {
        return Ok(None);
    };
    let db = StatusDb::parse(&bytes).map_err(|why| ProbeError::Damaged {
        path: database::STATUS,
        why,
    })?;
    let Some(record) = db.find(PACKAGE) else {
        return Ok(None);
    };
    let missing_file = missing_file(root, &record)?;
    Ok(Some(PackageFacts {
        format: PackageFormat::Deb,
        record: Evidence::line(database::STATUS, record.line, format!("Package: {PACKAGE}")),
        version: record.version,
        want: record.want,
        state: record.state,
        missing_file,
        placed: None,
        is_changed: false,
    }))
}

/// What the receipt says of a package of this version.
fn placed(root: &Root, version: &str) -> Result<Option<PackageReceipt>, IoError> {
    let receipt = match receipt::read(root) {
        Ok(receipt) => receipt,
        // One that is none says nothing; `apply` stops at it, and `audit` names it.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => None,
        Err(error) => return Err(error),
    };
    let package = receipt.and_then(|receipt| receipt.package);
    Ok(package.filter(|package| package.version == version))
}

/// In rpm's database, or waiting for rpm's attention at first boot.
fn rpm(root: &Root, database: Option<&Database>) -> Result<Option<PackageFacts>, DatabaseError> {
    let pending = match register::pending(root) {
        Ok(pending) => pending.map(|header| (header, register::PACKAGE_FILE.to_owned(), "unregistered")),
        Err(PackageError::Io(error)) => return Err(error.into()),
        // A file that is no package registers nothing.
        Err(_) => None,
    };
    let found = match (pending, database) {
        (Some(pending), _) => Some(pending),
        (None, Some(database)) => {
            let named = database.named(root, PACKAGE)?.pop();
            named.map(|one| (one.header, database.path().to_string(), "installed"))
        }
        (None, None) => None,
    };
    let Some((header, place, state)) = found else {
        return Ok(None);
    };
    Ok(Some(PackageFacts {
        format: PackageFormat::Rpm,
        version: header.evr(),
        want: "install".to_owned(),
        state: state.to_owned(),
        missing_file: missing_rpm_file(root, &header)?,
        record: Evidence::path(place, header.evr()),
        placed: None,
        is_changed: false,
    }))
}

fn missing_rpm_file(root: &Root, header: &Header) -> Result<Option<String>, IoError> {
    // rpm wrote it, or we did; one with bad paths is for `audit` by its other signs.
    for (path, info) in files(header).unwrap_or_default() {
        if !info.is_ghost() && !info.is_config() && root.meta(&path, Last::Keep)?.is_none() {
            return Ok(Some(path.to_string()));
        }
    }
    Ok(None)
}

/// The first file of the package that is gone; conffiles may be deleted by the administrator.
fn missing_file(root: &Root, record: &database::Record) -> Result<Option<String>, ProbeError> {
    let list = RootPath::new(&format!("{}/{PACKAGE}.list", database::INFO));
    let Some(bytes) = list
        .ok()
        .map(|list| root.read(&list, LIST_LIMIT))
        .transpose()?
        .flatten()
    else {
        return Ok(Some(format!("{}/{PACKAGE}.list", database::INFO)));
    };
    for line in String::from_utf8_lossy(&bytes)
        .lines()
        .filter(|line| *line != "/.")
    {
        let is_conffile = record.conffiles.iter().any(|file| file.path == line);
        let Ok(path) = RootPath::new(line) else { continue };
        if !is_conffile && root.meta(&path, Last::Keep)?.is_none() {
            return Ok(Some(line.to_owned()));
        }
    }
    Ok(None)
}

fn snap(root: &Root) -> Result<Option<SnapFacts>, ProbeError> {
    for (dir, seeded) in SNAP_DIRS {
        let entries = root.read_dir(&RootPath::fixed(dir))?.unwrap_or_default();
        let own = |name: &str| name == PACKAGE || name.starts_with("amazon-ssm-agent_");
        if let Some(entry) = entries.iter().find(|entry| own(&entry.name)) {
            let is_mounted = dir == "/snap";
            return Ok(Some(SnapFacts {
                version: is_mounted.then(|| snap_version(root)).transpose()?.flatten(),
                path: format!("{dir}/{}", entry.name),
                is_seeded: seeded == Seeded::Yes,
            }));
        }
    }
    Ok(None)
}

/// Of a snap that is mounted; a file of squashfs is not looked into.
fn snap_version(root: &Root) -> Result<Option<String>, IoError> {
    let bytes = root.read_if_file(&RootPath::fixed(SNAP_YAML), CONFIG_LIMIT)?;
    let text = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
    let version = text.lines().find_map(|line| line.strip_prefix("version:"));
    Ok(version.map(|version| version.trim().trim_matches(['"', '\'']).to_owned()))
}

/// The configuration file at `path`, and its text where the agent can read it.
pub(super) fn config_facts(
    root: &Root,
    path: &RootPath,
    catalog: &Catalog,
) -> Result<(ConfigFacts, Option<String>), ProbeError> {
    let bytes = match root.read(path, CONFIG_LIMIT) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok((ConfigFacts::Absent, None)),
        // The rest of the tree can be told all the same.
        Err(error) => {
            let why = error.to_string();
            return Ok((ConfigFacts::Unread { why }, None));
        }
    };
    let text = config::json::check(&bytes).map_err(|error| error.to_string());
    let checked = text.and_then(|text| match config::mistyped(&text, catalog) {
        Some(why) => Err(why),
        None => Ok(text),
    });
    Ok(match checked {
        Ok(text) => (
            ConfigFacts::Valid {
                sha256: sha256_hex(&bytes),
            },
            Some(text.into_owned()),
        ),
        Err(why) => (ConfigFacts::Invalid { why }, None),
    })
}
