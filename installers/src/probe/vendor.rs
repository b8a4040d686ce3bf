//! The distributions' own files: the only identity of old systems, and the point release of newer ones.

use ssmbake_manifests::{Grammar, Identification, VendorFile};

use super::ProbeError;
use super::facts::Evidence;
use super::os::Identity;
use super::os_release::OsRelease;
use crate::root::{Root, RootPath};

const LIMIT: usize = 1024 * 1024;

/// A file, or none where it is missing, dangling, a loop or no file. One that may not be read is an error: it might say
/// something else.
pub(super) fn read(root: &Root, path: &str) -> Result<Option<Vec<u8>>, ProbeError> {
    let Ok(place) = RootPath::new(path) else {
        return Ok(None);
    };
    match root.read(&place, LIMIT) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(error.into()),
        other => Ok(other.ok().flatten()),
    }
}

/// What one of the files says.
#[derive(Debug)]
pub(super) struct Statement<'r> {
    file: &'r VendorFile,
    identity: Identity,
    /// The version, where the file says it more precisely than os-release would.
    precise: String,
}

/// What those of the files say that say anything, the most specific first.
pub(super) fn statements<'r>(
    root: &Root,
    rules: &'r Identification,
) -> Result<Vec<Statement<'r>>, ProbeError> {
    let mut statements = Vec::new();
    for file in &rules.files {
        let Some(bytes) = read(root, &file.path)? else {
            continue;
        };
        let text = String::from_utf8_lossy(&bytes);
        let Some(identity) = parse(file, &text, rules) else {
            continue;
        };
        let precise = match file.grammar {
            Grammar::Version => text.trim().to_owned(),
            _ => identity.version.clone(),
        };
        statements.push(Statement {
            file,
            identity,
            precise,
        });
    }
    Ok(statements)
}

/// The first of them.
pub(super) fn identity(statements: &[Statement<'_>]) -> Option<Identity> {
    statements.first().map(|first| first.identity.clone())
}

fn parse(file: &VendorFile, text: &str, rules: &Identification) -> Option<Identity> {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty());
    let (name, version) = match file.grammar {
        Grammar::Release => release(first?)?,
        Grammar::Suse => suse(first?, text),
        Grammar::Lsb => {
            let variables = OsRelease::parse(text.as_bytes());
            let value = |name: &str| variables.get(name).map(|variable| variable.value.clone());
            (value("DISTRIB_ID")?, value("DISTRIB_RELEASE")?)
        }
        Grammar::Cpe => cpe(first?)?,
        Grammar::Version => (String::new(), first?.to_owned()),
        Grammar::Empty => (String::new(), String::new()),
    };
    let known = file.id.as_deref().or_else(|| rules.id_of_name(&name));
    // A name that nobody knows is some other system, not the one whose file this usually is.
    let id = known.map_or_else(|| name.to_lowercase(), str::to_owned);
    let is_name = !name.is_empty() && file.grammar != Grammar::Cpe;
    Some(Identity {
        evidence: vec![Evidence::line(&file.path, 1, first.unwrap_or("(empty)"))],
        version: as_os_release(&id, version),
        id,
        name: is_name.then_some(name),
        ..Identity::default()
    })
}

/// `CentOS release 6.7 (Final)`.
fn release(line: &str) -> Option<(String, String)> {
    let (name, rest) = line.split_once(" release ")?;
    Some((name.trim().to_owned(), rest.split_whitespace().next()?.to_owned()))
}

/// `SUSE Linux Enterprise Server 11 (x86_64)`, `VERSION = 11`, `PATCHLEVEL = 3`.
fn suse(first: &str, text: &str) -> (String, String) {
    let value = |name: &str| {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs
            .filter(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim().to_owned())
            .next_back()
            .unwrap_or_default()
    };
    let (mut version, patch) = (value("VERSION"), value("PATCHLEVEL"));
    if !patch.is_empty() && patch != "0" {
        version = format!("{version}.{patch}");
    }
    let name = first.split(" (").next().unwrap_or(first);
    (
        name.trim_end_matches(|sign: char| sign.is_ascii_digit() || ". ".contains(sign))
            .to_owned(),
        version,
    )
}

/// `cpe:/o:centos:linux:6:GA` or `cpe:2.3:o:amazon:amazon_linux:2`.
fn cpe(line: &str) -> Option<(String, String)> {
    let rest = line
        .strip_prefix("cpe:/o:")
        .or_else(|| line.strip_prefix("cpe:2.3:o:"))?;
    let mut parts = rest.split(':');
    let vendor = parts.next()?.to_owned();
    let version = parts.nth(1)?;
    let end = version.find(|sign: char| !sign.is_ascii_digit() && sign != '.');
    Some((vendor, version[..end.unwrap_or(version.len())].to_owned()))
}

/// Debian's file says `buster/sid` for what os-release leaves empty, and more than os-release elsewhere.
fn as_os_release(id: &str, version: String) -> String {
    match id {
        "debian" if version.contains('/') => String::new(),
        "debian" => version.split('.').next().unwrap_or_default().to_owned(),
        _ => version,
    }
}

/// The version as precise as a file of the same distribution says it.
pub(super) fn point_release(
    statements: &[Statement<'_>],
    id: &str,
    version: &str,
    evidence: &mut Vec<Evidence>,
) -> String {
    for statement in statements.iter().filter(|one| one.identity.id == id) {
        let is_finer = match version {
            "" => statement.precise.contains('/'),
            _ => statement
                .precise
                .strip_prefix(version)
                .is_some_and(|rest| rest.starts_with('.')),
        };
        if is_finer && statement.precise.len() < 64 {
            evidence.extend(statement.identity.evidence.iter().cloned());
            return statement.precise.clone();
        }
    }
    version.to_owned()
}

/// What os-release left out, from a file of the same distribution.
pub(super) fn complete(identity: &mut Identity, statements: &[Statement<'_>]) {
    let same = statements.iter().map(|one| &one.identity);
    let mut with_version = same.filter(|one| one.id == identity.id && !one.version.is_empty());
    if identity.version.is_empty()
        && let Some(found) = with_version.next()
    {
        identity.version.clone_from(&found.version);
        identity.evidence.extend(found.evidence.iter().cloned());
    }
}

/// Systems that carry the ID of another: the tree's further files tell.
pub(super) fn disguise(
    root: &Root,
    rules: &Identification,
    statements: &[Statement<'_>],
    identity: &mut Identity,
) -> Result<(), ProbeError> {
    for witness in &rules.witnesses {
        let says = statements.iter().find(|one| one.file.path == witness.path);
        if witness.ids.contains(&identity.id)
            && let Some(other) = says.filter(|one| one.identity.id != identity.id)
        {
            unmask(
                identity,
                &other.identity.name_or_id(),
                &other.identity.evidence[0],
            );
        }
    }
    for masquerade in &rules.masquerades {
        let Some(bytes) = read(root, &masquerade.path)? else {
            continue;
        };
        let text = String::from_utf8_lossy(&bytes);
        let says = match &masquerade.contains {
            None => "exists".to_owned(),
            Some(words) if text.contains(words) => format!("contains `{words}`"),
            Some(_) => continue,
        };
        unmask(
            identity,
            &masquerade.name,
            &Evidence::path(&masquerade.path, says),
        );
    }
    flavour(root, rules, identity)
}

/// The evidence against the ID comes first: it is what a refusal shows.
fn unmask(identity: &mut Identity, name: &str, evidence: &Evidence) {
    identity.evidence.insert(0, evidence.clone());
    identity.name = Some(name.to_owned());
    identity.title = None;
}

fn flavour(root: &Root, rules: &Identification, identity: &mut Identity) -> Result<(), ProbeError> {
    for flavour in rules.flavours.iter().filter(|flavour| flavour.id == identity.id) {
        let Ok(path) = RootPath::new(&flavour.path) else {
            continue;
        };
        let target = root.read_link(&path)?.unwrap_or_default();
        if target.rsplit('/').next() == Some(&flavour.link) {
            identity.evidence.push(Evidence::path(&flavour.path, target));
            identity.id.clone_from(&flavour.becomes);
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_files_are_understood() {
        let rules = ssmbake_manifests::catalog().identification();
        let read = |path: &str, text: &str| {
            let file = rules.files.iter().find(|file| file.path == path).expect("file");
            let identity = parse(file, text, rules).expect("identity");
            (identity.id, identity.version)
        };
        for (path, text, id, version) in [
            (
                "/etc/centos-release",
                "CentOS release 6.7 (Final)\n",
                "centos",
                "6.7",
            ),
            (
                "/etc/centos-release",
                "CentOS Linux release 7.5.1804 (Core) \n",
                "centos",
                "7.5.1804",
            ),
            (
                "/etc/redhat-release",
                "Red Hat Enterprise Linux Server release 6.5 (Santiago)\n",
                "rhel",
                "6.5",
            ),
            (
                "/etc/redhat-release",
                "Circle Linux release 8.4\n",
                "circle linux",
                "8.4",
            ),
            (
                "/etc/system-release",
                "Amazon Linux AMI release 2014.03\n",
                "amzn",
                "2014.03",
            ),
            (
                "/etc/oracle-release",
                "Oracle Linux Server release 6.8\n",
                "ol",
                "6.8",
            ),
            (
                "/etc/enterprise-release",
                "Enterprise Linux Enterprise Linux Server release 5.5 (Carthage)\n",
                "ol",
                "5.5",
            ),
            (
                "/etc/SuSE-release",
                "SUSE Linux Enterprise Server 11 (x86_64)\nVERSION = 11\nPATCHLEVEL = 3\n",
                "sles",
                "11.3",
            ),
            (
                "/etc/SuSE-release",
                "openSUSE 13.1 (x86_64)\nVERSION = 13.1\n",
                "opensuse",
                "13.1",
            ),
            (
                "/etc/lsb-release",
                "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=11.10\n",
                "ubuntu",
                "11.10",
            ),
            ("/etc/debian_version", "8.11\n", "debian", "8"),
            ("/etc/debian_version", "trixie/sid\n", "debian", ""),
            ("/etc/arch-release", "", "arch", ""),
            (
                "/etc/system-release-cpe",
                "cpe:/o:centos:linux:6:GA\n",
                "centos",
                "6",
            ),
            (
                "/etc/system-release-cpe",
                "cpe:2.3:o:amazon:amazon_linux:2\n",
                "amzn",
                "2",
            ),
            (
                "/etc/system-release-cpe",
                "cpe:/o:redhat:enterprise_linux:6server:ga:server\n",
                "rhel",
                "6",
            ),
        ] {
            assert_eq!(
                read(path, text),
                (id.to_owned(), version.to_owned()),
                "{path} {text}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_passed_over(text in "(?s).{0,80}( release )?.{0,20}\n(VERSION = )?.{0,40}") {
            let rules = ssmbake_manifests::catalog().identification();
            for file in &rules.files {
                let _either = parse(file, &text, rules);
            }
            let _either = OsRelease::parse(text.as_bytes());
        }
    }
}
