//! Which operating system a tree holds. Rules of os-release and vendor files; never a look at the host.

use ssmbake_manifests::{Catalog, Family, Identification, Os, OsIdentity};

use super::facts::{Evidence, Found, OsFacts};
use super::os_release::OsRelease;
use super::vendor::Statement;
use super::{ProbeError, vendor};
use crate::root::{Last, Root, RootPath};

const OS_RELEASE: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

/// What a tree calls itself, from wherever that was found.
#[derive(Debug, Clone, Default)]
pub(super) struct Identity {
    pub(super) id: String,
    pub(super) version: String,
    pub(super) name: Option<String>,
    pub(super) title: Option<String>,
    pub(super) variant: Option<String>,
    pub(super) like: Option<String>,
    pub(super) evidence: Vec<Evidence>,
}

impl Identity {
    pub(super) fn name_or_id(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.id.clone())
    }
}

/// Identifies the tree and finds it in the catalog.
pub(super) fn identify<'c>(
    root: &Root,
    catalog: &'c Catalog,
    claimed: Option<&str>,
) -> Result<(&'c Os, Found<OsFacts>), ProbeError> {
    if let Some(id) = claimed {
        return as_claimed(root, catalog, id);
    }
    other_kind(root)?;
    let rules = catalog.identification();
    for refusal in &rules.refusals {
        if let Some(path) = marker(root, &refusal.markers)? {
            return Err(ProbeError::Refused {
                what: format!("a system with `{path}`"),
                hint: refusal.hint.clone(),
            });
        }
    }
    let statements = vendor::statements(root, rules)?;
    let Some(mut identity) = identity(root, rules, &statements)? else {
        return Err(ProbeError::Unknown(seen(root)?));
    };
    vendor::disguise(root, rules, &statements, &mut identity)?;
    let variant = identity.variant.as_deref();
    if let Some(refusal) = rules
        .refusals
        .iter()
        .find(|one| one.covers(&identity.id, &identity.version, variant))
    {
        return Err(ProbeError::Refused {
            what: shown(&identity),
            hint: refusal.hint.clone(),
        });
    }
    in_catalog(root, catalog, &statements, identity)
}

fn in_catalog<'c>(
    root: &Root,
    catalog: &'c Catalog,
    statements: &[Statement<'_>],
    identity: Identity,
) -> Result<(&'c Os, Found<OsFacts>), ProbeError> {
    let (variant, variant_evidence) = variant(root, catalog, &identity.id)?;
    let asked = OsIdentity {
        id: &identity.id,
        version: &identity.version,
        name: identity.name.as_deref(),
        title: identity.title.as_deref(),
        variant: variant.as_deref(),
    };
    let Some(os) = catalog.os_for(&asked) else {
        let untitled = OsIdentity { title: None, ..asked };
        let is_retitled = catalog.os_for(&untitled).is_some();
        let what = identity.title.clone().filter(|_| is_retitled);
        return Err(unsupported(&identity, what));
    };
    let mut evidence = identity.evidence;
    evidence.extend(variant_evidence);
    let version = vendor::point_release(statements, &identity.id, &identity.version, &mut evidence);
    let value = OsFacts::new(os, identity.id, version, variant);
    Ok((os, Found { value, evidence }))
}

/// The user answers for it: a derivative of a supported system.
fn as_claimed<'c>(
    root: &Root,
    catalog: &'c Catalog,
    id: &str,
) -> Result<(&'c Os, Found<OsFacts>), ProbeError> {
    let os = claimed(catalog, id, Kind::Linux)?;
    let rules = catalog.identification();
    let statements = vendor::statements(root, rules)?;
    let own = identity(root, rules, &statements)?.unwrap_or_default();
    let mut evidence = vec![Evidence::path("--as", id)];
    evidence.extend(own.evidence);
    let value = OsFacts::new(os, own.id, own.version, None);
    Ok((os, Found { value, evidence }))
}

/// What a tree is by its shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Linux,
    Windows,
}

/// The system that the user named, if it can be one of this kind.
pub(super) fn claimed<'c>(catalog: &'c Catalog, id: &str, kind: Kind) -> Result<&'c Os, ProbeError> {
    let fits = |os: &&Os| (os.family == Family::Windows) == (kind == Kind::Windows);
    let known = || {
        let ids = catalog.oses().iter().filter(fits).map(|os| os.id.as_str());
        ids.collect::<Vec<_>>().join(" ")
    };
    catalog
        .os(id)
        .filter(fits)
        .ok_or_else(|| ProbeError::NoSuchSystem {
            id: id.to_owned(),
            known: known(),
        })
}

/// A macOS tree has an /etc, too.
fn other_kind(root: &Root) -> Result<(), ProbeError> {
    let plist = RootPath::fixed("/System/Library/CoreServices/SystemVersion.plist");
    if root.meta(&plist, Last::Follow)?.is_some() {
        return Err(ProbeError::Refused {
            what: "a tree of macOS".to_owned(),
            hint: "install the agent's pkg in the running system: a sealed volume cannot be changed from outside".to_owned(),
        });
    }
    Ok(())
}

fn marker(root: &Root, markers: &[String]) -> Result<Option<RootPath>, ProbeError> {
    for marker in markers {
        let Ok(path) = RootPath::new(&format!("/{}", marker.trim_start_matches('/'))) else {
            continue;
        };
        if root.meta(&path, Last::Keep)?.is_some() {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// os-release decides where it has an ID; else the distribution's own files, and its NAME last.
fn identity(
    root: &Root,
    rules: &Identification,
    statements: &[Statement<'_>],
) -> Result<Option<Identity>, ProbeError> {
    let Some(mut release) = from_os_release(root)? else {
        return Ok(vendor::identity(statements));
    };
    if !release.id.is_empty() {
        vendor::complete(&mut release, statements);
        return Ok(Some(release));
    }
    if let Some(vendor) = vendor::identity(statements) {
        return Ok(Some(vendor));
    }
    // Without ID and version it could be any release.
    let known = release.name.as_deref().and_then(|name| rules.id_of_name(name));
    Ok(known.filter(|_| !release.version.is_empty()).map(|id| Identity {
        id: id.to_owned(),
        ..release.clone()
    }))
}

/// /etc/os-release decides; the vendor's copy only where the former is missing, dangling, a loop or no file.
fn from_os_release(root: &Root) -> Result<Option<Identity>, ProbeError> {
    for path in OS_RELEASE {
        let Some(bytes) = vendor::read(root, path)? else {
            continue;
        };
        let release = OsRelease::parse(&bytes);
        let value = |name: &str| release.get(name).map(|variable| variable.value.clone());
        let evidence = ["ID", "VERSION_ID", "NAME"].into_iter().filter_map(|name| {
            let variable = release.get(name)?;
            Some(Evidence::line(
                path,
                variable.line,
                format!("{name}={}", variable.value),
            ))
        });
        let version = value("VERSION_ID").unwrap_or_else(|| loose_version(&release));
        return Ok(Some(Identity {
            id: value("ID").unwrap_or_default(),
            title: value("PRETTY_NAME").filter(|title| has_other_version(title, &version)),
            version,
            name: value("NAME"),
            // Only image-based systems have the former.
            variant: value("OSTREE_VERSION")
                .map(|_| "ostree".to_owned())
                .or_else(|| value("VARIANT_ID")),
            like: value("ID_LIKE"),
            evidence: evidence.take(2).collect(),
        }));
    }
    Ok(None)
}

/// Whether a PRETTY_NAME has a version and it is none of `version`: such a title may be that of another system. Without
/// one it is a remark, such as that of a set of packages.
fn has_other_version(title: &str, version: &str) -> bool {
    let mut versions = title
        .split_whitespace()
        .map(|word| word.trim_matches(|sign: char| !sign.is_ascii_alphanumeric()))
        .filter(|word| word.starts_with(|sign: char| sign.is_ascii_digit()))
        .peekable();
    versions.peek().is_some() && !versions.any(|word| !version.is_empty() && word.starts_with(version))
}

/// The version of a file without VERSION_ID: what VERSION, or PRETTY_NAME after NAME, begins with.
fn loose_version(release: &OsRelease) -> String {
    let value = |name: &str| release.get(name).map_or("", |variable| variable.value.as_str());
    let after_name = value("PRETTY_NAME").strip_prefix(value("NAME")).unwrap_or("");
    let versions = [value("VERSION"), after_name];
    let mut words = versions.iter().filter_map(|text| text.split_whitespace().next());
    let is_version = |word: &&str| {
        word.starts_with(|sign: char| sign.is_ascii_digit())
            && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    };
    words.find(is_version).unwrap_or("").to_owned()
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
        if let Some(path) = marker(root, &rule.markers)? {
            let evidence = Evidence::path(path.as_str(), "exists");
            return Ok((Some(variant.clone()), Some(evidence)));
        }
    }
    Ok((None, None))
}

fn shown(identity: &Identity) -> String {
    format!("{} {}", identity.name_or_id(), identity.version)
        .trim_end()
        .to_owned()
}

/// `title`: what gave a derivative away that kept all the rest of its parent's os-release.
fn unsupported(identity: &Identity, title: Option<String>) -> ProbeError {
    let like = identity.like.clone();
    ProbeError::Unsupported {
        like: like.or_else(|| title.is_some().then(|| identity.id.clone())),
        what: title.unwrap_or_else(|| shown(identity)),
        id: identity.id.clone(),
        evidence: identity.evidence.clone(),
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
