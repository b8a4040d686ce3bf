//! How the distributions' own files are written. Text in, words out.

use ssmbake_manifests::{Grammar, Identification, VendorFile};

use super::os_release::OsRelease;

/// What such a file says, in os-release's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    /// ID.
    pub(super) id: String,
    /// VERSION_ID.
    pub(super) version: String,
    /// NAME, where the file has one.
    pub(super) name: Option<String>,
    /// The line that says it.
    pub(super) line: String,
}

/// Reads a file; none where it says nothing.
pub(super) fn parse(file: &VendorFile, text: &str, rules: &Identification) -> Option<Said> {
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
    // A vendor or a DISTRIB_ID is no NAME; an unknown one is all there is to show.
    let is_name = match file.grammar {
        Grammar::Cpe => false,
        Grammar::Lsb => known.is_none(),
        _ => !name.is_empty(),
    };
    Some(Said {
        version: as_os_release(&id, version),
        id,
        name: is_name.then_some(name),
        line: first.unwrap_or("(empty)").to_owned(),
    })
}

/// `CentOS release 6.7 (Final)`; the first Amazon Linux 2 wrote `Amazon Linux 2`.
fn release(line: &str) -> Option<(String, String)> {
    let bare = || line.split_at_checked(line.find(|sign: char| sign.is_ascii_digit())?);
    let (name, rest) = line.split_once(" release ").or_else(bare)?;
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
