//! Operating systems and how they are told apart.

use std::collections::BTreeSet;

use ssmbake_manifests::{
    Arch, Capability, Family, Os, OsIdentity, PackageFormat, ServiceManager, SnapUse, VersionMatch, catalog,
};

fn identify<'a>(
    id: &'a str,
    version: &'a str,
    name: Option<&'a str>,
    variant: Option<&'a str>,
) -> Option<&'static str> {
    catalog()
        .os_for(&OsIdentity {
            id,
            version,
            name,
            title: None,
            variant,
        })
        .map(|os| os.id.as_str())
}

fn os(id: &str) -> &'static Os {
    catalog().os(id).unwrap()
}

#[test]
fn a_file_is_named_after_its_id() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("os");
    #[expect(
        clippy::disallowed_methods,
        reason = "the test compares the catalog with the source tree"
    )]
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    let ids: BTreeSet<String> = catalog().oses().iter().map(|os| os.id.clone()).collect();
    assert_eq!(ids, files);
    assert_eq!(ids.len(), catalog().oses().len(), "an id occurs twice");
}

#[test]
fn no_two_systems_accept_the_same_tree() {
    for os in catalog().oses() {
        for rule in &os.matches {
            let version = rule.version.example();
            let name = rule.names.first().map(String::as_str);
            let seen = OsIdentity {
                id: &rule.id,
                version,
                name,
                title: name,
                variant: rule.variant.as_deref(),
            };
            let accepting: Vec<&str> = catalog()
                .oses()
                .iter()
                .filter(|os| os.accepts(&seen))
                .map(|os| os.id.as_str())
                .collect();
            assert_eq!(accepting, [os.id.as_str()], "{seen:?}");
        }
    }
}

#[test]
fn every_system_is_complete() {
    for os in catalog().oses() {
        assert!(!os.matches.is_empty() && !os.packages.is_empty(), "{}", os.id);
        assert_eq!(
            os.unit_dir.is_some(),
            os.service == ServiceManager::Systemd,
            "{}",
            os.id
        );
        let prefix = match os.package {
            PackageFormat::Deb => "debian_",
            PackageFormat::Rpm => "linux_",
            PackageFormat::Exe => "windows_",
        };
        assert!(
            os.packages.values().all(|folder| folder.starts_with(prefix)),
            "{}",
            os.id
        );
        for rule in &os.matches {
            assert!(
                !rule.names.is_empty(),
                "{}: a derivative could pass for it",
                os.id
            );
            assert_eq!(rule.variant.is_some(), !rule.markers.is_empty(), "{}", os.id);
            assert!(
                rule.markers.iter().all(|path| !path.starts_with('/')),
                "{}",
                os.id
            );
        }
    }
}

#[test]
fn releases_are_recognised() {
    for (id, version, name, expected) in [
        ("debian", "8", "Debian GNU/Linux", "debian-8"),
        ("debian", "13", "Debian GNU/Linux", "debian-13"),
        ("ubuntu", "12.04", "Ubuntu", "ubuntu-12.04"),
        ("ubuntu", "26.04", "Ubuntu", "ubuntu-26.04"),
        ("raspbian", "12", "Raspbian GNU/Linux", "raspbian-12"),
        ("debian", "", "Debian GNU/Linux", "debian-testing"),
        ("ubuntu", "14.10", "Ubuntu", "ubuntu-interim-upstart"),
        ("ubuntu", "23.10", "Ubuntu", "ubuntu-interim"),
        ("rhel", "9.4", "Red Hat Enterprise Linux", "rhel-9"),
        ("centos", "8", "CentOS Linux", "centos-8"),
        ("centos", "8", "CentOS Stream", "centos-stream-8"),
        ("centos", "6.7", "CentOS", "centos-6"),
        ("ol", "8.9", "Oracle Linux Server", "oracle-linux-8"),
        ("rocky", "9.3", "Rocky Linux", "rocky-9"),
        ("almalinux", "10.0", "AlmaLinux", "almalinux-10"),
        ("amzn", "2014.03", "Amazon Linux AMI", "amazon-linux-1"),
        ("amzn", "2", "Amazon Linux", "amazon-linux-2"),
        ("amzn", "2023", "Amazon Linux", "amazon-linux-2023"),
        ("fedora", "41", "Fedora Linux", "fedora"),
        ("sles", "15.5", "SLES", "sles-15"),
        ("sles_sap", "12.1.0.1", "SLES", "sles-12"),
        ("opensuse-leap", "15.6", "openSUSE Leap", "opensuse-leap-15"),
        (
            "opensuse-tumbleweed",
            "20260102",
            "openSUSE Tumbleweed",
            "opensuse-tumbleweed",
        ),
    ] {
        assert_eq!(identify(id, version, Some(name), None), Some(expected));
    }
    assert_eq!(identify("debian", "12", None, None), Some("debian-12"));
}

#[test]
fn releases_without_a_manifest_and_masqueraders_are_not() {
    for (id, version, name) in [
        ("ubuntu", "24.04.1", "Ubuntu"),
        ("ubuntu", "11.10", "Ubuntu"),
        ("rhel", "7", "Scientific Linux"),
        ("rhel", "5.6", "Red Hat Enterprise Linux"),
        ("rhel", "11", "Red Hat Enterprise Linux"),
        ("amzn", "2022", "Amazon Linux"),
        ("sles", "11.4", "SLES"),
        ("opensuse", "42.3", "openSUSE Leap"),
        ("ubuntu", "2", "Vanilla OS"),
        ("ubuntu", "24.04", "Vanilla OS"),
        ("debian", "7", "Debian GNU/Linux"),
        ("debian", "10.0.8", "Puppy"),
        ("debian", "12", "Debian GNU/kFreeBSD"),
        ("raspbian", "1.0", "XBian"),
        ("linuxmint", "22", "Linux Mint"),
        ("Debian", "12", "Debian GNU/Linux"),
        ("", "", ""),
    ] {
        assert_eq!(
            identify(id, version, Some(name), None),
            None,
            "{id} {version} {name}"
        );
    }
}

#[test]
fn raspberry_pi_os_is_debian_with_a_marker() {
    let debian = Some("Debian GNU/Linux");
    assert_eq!(
        identify("debian", "12", debian, Some("raspberry-pi")),
        Some("raspberry-pi-os-12")
    );
    assert_eq!(identify("debian", "12", debian, None), Some("debian-12"));
    assert_eq!(
        identify("debian", "13", debian, Some("raspberry-pi")),
        Some("raspberry-pi-os-13")
    );
    assert_eq!(
        identify("raspbian", "11", None, Some("raspberry-pi")),
        Some("raspbian-11")
    );
    for version in ["8", "9", "10", "11", "12", "13"] {
        let seen = OsIdentity {
            id: "debian",
            version,
            name: debian,
            title: None,
            variant: Some("raspberry-pi"),
        };
        assert_eq!(
            catalog().os_for(&seen).unwrap().package_folder(Arch::Arm64),
            Some("debian_arm64")
        );
        let seen = OsIdentity {
            id: "raspbian",
            name: Some("Raspbian GNU/Linux"),
            ..seen
        };
        assert_eq!(
            catalog().os_for(&seen).unwrap().package_folder(Arch::Armhf),
            Some("debian_arm")
        );
    }
}

#[test]
fn facts_by_release() {
    let (merged, split) = (Some("/usr/lib/systemd/system"), Some("/lib/systemd/system"));
    for (id, service, unit_dir, snap) in [
        ("debian-8", ServiceManager::Systemd, split, SnapUse::Never),
        ("debian-12", ServiceManager::Systemd, split, SnapUse::Never),
        ("debian-13", ServiceManager::Systemd, merged, SnapUse::Never),
        ("raspbian-12", ServiceManager::Systemd, split, SnapUse::Never),
        ("ubuntu-12.04", ServiceManager::Upstart, None, SnapUse::Never),
        ("ubuntu-14.04", ServiceManager::Upstart, None, SnapUse::Never),
        (
            "ubuntu-16.04",
            ServiceManager::Systemd,
            split,
            SnapUse::Preinstalled,
        ),
        (
            "ubuntu-22.04",
            ServiceManager::Systemd,
            split,
            SnapUse::Preinstalled,
        ),
        (
            "ubuntu-24.04",
            ServiceManager::Systemd,
            merged,
            SnapUse::Preinstalled,
        ),
    ] {
        let os = os(id);
        assert_eq!(
            (os.service, os.unit_dir.as_deref(), os.snap),
            (service, unit_dir, snap),
            "{id}"
        );
    }
    assert_eq!(
        os("raspbian-8").packages.keys().copied().collect::<Vec<_>>(),
        [Arch::Armhf]
    );
    assert_eq!(
        os("ubuntu-24.04").package_folder(Arch::Amd64),
        Some("debian_amd64")
    );
    assert_eq!(os("ubuntu-24.04").package_folder(Arch::Riscv64), None);
}

#[test]
fn a_major_version_covers_its_points() {
    let major = VersionMatch::Major("12".to_owned());
    assert!(major.accepts("12") && major.accepts("12.5") && !major.accepts("120") && !major.accepts("1"));
    let exact = VersionMatch::Exact("12".to_owned());
    assert!(exact.accepts("12") && !exact.accepts("12.5") && !exact.accepts(""));
}

#[test]
fn words_are_the_same_everywhere() {
    for arch in Arch::ALL {
        assert_eq!(arch.to_string().parse(), Ok(*arch));
        assert_eq!(arch.to_string(), arch.debian_name());
    }
    let error = "x86_64".parse::<Arch>().unwrap_err();
    assert_eq!(error.to_string(), "unknown architecture `x86_64`");
    assert!(error.expected.contains(&"amd64"));
}

#[test]
fn the_agent_updates_itself_where_it_knows_the_name() {
    let agent = catalog().agent();
    for os in catalog().oses() {
        let mut names = os.matches.iter().flat_map(|rule| &rule.names);
        let able = os.capabilities.self_update;
        if os.family == Family::Windows {
            // AWS stopped at 2008 R2.
            assert_eq!(able == Capability::No, os.id.contains("200"), "{}", os.id);
        } else if names.any(|name| agent.updates_itself_on(name)) {
            // An update would bring one that does not run there.
            let wanted = match os.agent_max {
                None => Capability::Yes,
                Some(_) => Capability::Unknown,
            };
            assert_eq!(able, wanted, "{}", os.id);
        } else {
            assert_eq!(able, Capability::No, "{}", os.id);
        }
    }
}

#[test]
fn capabilities_are_those_of_awss_lists() {
    for os in catalog().oses() {
        let is_old_windows = os.family == Family::Windows && os.id.contains("200");
        assert_eq!(
            os.capabilities.session_manager == Capability::No,
            is_old_windows,
            "{}",
            os.id
        );
    }
    for (id, expected) in [
        ("amazon-linux-2023", Capability::Yes),
        ("centos-7", Capability::No),
        ("debian-12", Capability::Yes),
        ("debian-13", Capability::Unknown),
        ("fedora", Capability::No),
        ("rhel-10", Capability::Yes),
        ("ubuntu-14.04", Capability::No),
        ("windows-server-2008-r2", Capability::No),
        ("windows-server-2025", Capability::Yes),
    ] {
        assert_eq!(os(id).capabilities.patch_manager, expected, "{id}");
    }
}
