//! Which operating system a tree holds. Rules of os-release and vendor files; never a look at the host.

use ssmbake_manifests::{Catalog, Os, OsIdentity};

use super::ProbeError;
use super::facts::{Evidence, Found, OsFacts};
use super::os_release::OsRelease;
use crate::root::{Last, Root, RootPath};

const LIMIT: usize = 1024 * 1024;
const OS_RELEASE: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

/// ID, VERSION_ID and NAME, from wherever they were found.
struct Identity {
    id: String,
    version: String,
    name: Option<String>,
    evidence: Vec<Evidence>,
}

/// Identifies the tree and finds it in the catalog.
pub(super) fn identify<'c>(
    root: &Root,
    catalog: &'c Catalog,
) -> Result<(&'c Os, Found<OsFacts>), ProbeError> {
    let identity = from_os_release(root)?;
    let identity = match identity {
        Some(identity) => Some(identity),
        None => from_lsb_release(root)?,
    };
    let Some(identity) = identity else {
        return Err(ProbeError::Unknown(seen(root)?));
    };
    let (variant, variant_evidence) = variant(root, catalog, &identity.id)?;
    let asked = OsIdentity {
        id: &identity.id,
        version: &identity.version,
        name: identity.name.as_deref(),
        variant: variant.as_deref(),
    };
    let Some(os) = catalog.os_for(&asked) else {
        return Err(unsupported(&identity));
    };
    let mut evidence = identity.evidence;
    evidence.extend(variant_evidence);
    let version = point_release(root, os, &identity.version, &mut evidence)?;
    let facts = OsFacts {
        id: os.id.clone(),
        name: os.name.clone(),
        version,
        variant,
    };
    Ok((
        os,
        Found {
            value: facts,
            evidence,
        },
    ))
}

/// /etc/os-release decides; the vendor's copy only where the former is missing, dangling, a loop or no file.
fn from_os_release(root: &Root) -> Result<Option<Identity>, ProbeError> {
    for path in OS_RELEASE {
        let bytes = match root.read(&RootPath::fixed(path), LIMIT) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => continue,
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Err(error.into()),
            Err(_) => continue,
        };
        let release = OsRelease::parse(&bytes);
        let Some(id) = release.get("ID") else {
            return Ok(None);
        };
        let mut evidence = vec![Evidence::line(path, id.line, format!("ID={}", id.value))];
        let version = release.get("VERSION_ID");
        evidence.extend(version.map(|v| Evidence::line(path, v.line, format!("VERSION_ID={}", v.value))));
        return Ok(Some(Identity {
            id: id.value.clone(),
            version: version.map(|v| v.value.clone()).unwrap_or_default(),
            name: release.get("NAME").map(|name| name.value.clone()),
            evidence,
        }));
    }
    Ok(None)
}

fn from_lsb_release(root: &Root) -> Result<Option<Identity>, ProbeError> {
    const PATH: &str = "/etc/lsb-release";
    let Some(bytes) = root.read(&RootPath::fixed(PATH), LIMIT)? else {
        return Ok(None);
    };
    let release = OsRelease::parse(&bytes);
    let (Some(id), Some(version)) = (release.get("DISTRIB_ID"), release.get("DISTRIB_RELEASE")) else {
        return Ok(None);
    };
    let evidence = vec![
        Evidence::line(PATH, id.line, format!("DISTRIB_ID={}", id.value)),
        Evidence::line(PATH, version.line, format!("DISTRIB_RELEASE={}", version.value)),
    ];
    let (id, version) = (id.value.to_ascii_lowercase(), version.value.clone());
    Ok(Some(Identity {
        id,
        version,
        name: None,
        evidence,
    }))
}

/// A flavour that os-release does not tell, proved by one of its marker files.
fn variant(
    root: &Root,
    catalog: &Catalog,
    id: &str,
) -> Result<(Option<String>, Option<Evidence>), ProbeError> {
    let rules = catalog
        .oses()
        .iter()
        .flat_map(|os| &os.matches)
        .filter(|rule| rule.id == id);
    for rule in rules {
        let Some(variant) = &rule.variant else { continue };
        for marker in &rule.markers {
            let Ok(path) = RootPath::new(&format!("/{}", marker.trim_start_matches('/'))) else {
                continue;
            };
            if root.meta(&path, Last::Keep)?.is_some() {
                return Ok((
                    Some(variant.clone()),
                    Some(Evidence::path(path.as_str(), "exists")),
                ));
            }
        }
    }
    Ok((None, None))
}

/// Debian tells its point release only in debian_version.
fn point_release(
    root: &Root,
    os: &Os,
    version: &str,
    evidence: &mut Vec<Evidence>,
) -> Result<String, ProbeError> {
    const PATH: &str = "/etc/debian_version";
    let is_ubuntu = os.matches.iter().any(|rule| rule.id == "ubuntu");
    let bytes = root.read(&RootPath::fixed(PATH), LIMIT)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    if is_ubuntu || text.split('.').next() != Some(version) || text == version {
        return Ok(version.to_owned());
    }
    evidence.push(Evidence::line(PATH, 1, text.clone()));
    Ok(text)
}

fn unsupported(identity: &Identity) -> ProbeError {
    let Identity {
        id,
        version,
        name,
        evidence,
    } = identity;
    let name = name.as_deref().unwrap_or(id);
    ProbeError::Unsupported {
        what: if version.is_empty() {
            name.to_owned()
        } else {
            format!("{name} {version}")
        },
        id: id.clone(),
        evidence: evidence.clone(),
    }
}

/// What a tree without any identity looks like, for the message.
fn seen(root: &Root) -> Result<String, ProbeError> {
    let names = root.read_dir(&RootPath::top())?.unwrap_or_default();
    let names: Vec<&str> = names.iter().map(|entry| entry.name.as_str()).take(12).collect();
    Ok(if names.is_empty() {
        "the tree is empty".to_owned()
    } else {
        format!("the tree holds {}", names.join(" "))
    })
}
