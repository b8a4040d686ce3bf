//! Which system a tree holds: by os-release, by the distributions' own files, by what gives a disguise away.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use ssmbake_installers::probe::{CallerHints, probe};
use ssmbake_installers::root::Root;
use ssmbake_manifests::{Family, VersionMatch};
use ssmbake_tests::tree::elf;
use ssmbake_tests::{must, outcome, ssmbake};
use tempfile::TempDir;

/// Paths and what they hold.
pub(crate) type Files<'a> = &'a [(&'a str, &'a str)];

/// A tree of nothing but these files and one program.
pub(crate) fn holding(files: Files<'_>) -> TempDir {
    let dir = tempfile::tempdir().expect("directory");
    let put = |path: &str, bytes: &[u8]| {
        let place = dir.path().join(path);
        fs::create_dir_all(place.parent().expect("parent")).expect("directory");
        fs::write(place, bytes).expect("file");
    };
    put("usr/bin/bash", &elf("amd64"));
    symlink("usr/bin", dir.path().join("bin")).expect("link");
    for (path, text) in files {
        put(path, text.as_bytes());
    }
    dir
}

pub(crate) fn detected(root: &Path, more: &[&str]) -> serde_json::Value {
    let output = must(
        ssmbake(&["detect", "--output", "json", "--root"])
            .arg(root)
            .args(more),
    );
    serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON")["os"]["value"].clone()
}

pub(crate) fn refused(root: &Path) -> String {
    let (code, out, err) = outcome(ssmbake(&["detect", "--root"]).arg(root));
    assert_eq!(code, 3, "{out}{err}");
    err
}

const KNOWN: &[(Files<'_>, &str, &str)] = &[
    (
        &[("etc/centos-release", "CentOS release 6.7 (Final)\n")],
        "centos-6",
        "6.7",
    ),
    (
        &[
            (
                "etc/os-release",
                "NAME=\"CentOS Linux\"\nID=\"centos\"\nVERSION_ID=\"7\"\n",
            ),
            ("etc/centos-release", "CentOS Linux release 7.5.1804 (Core)\n"),
        ],
        "centos-7",
        "7.5.1804",
    ),
    (
        &[(
            "etc/os-release",
            "NAME=\"CentOS Stream\"\nID=centos\nVERSION_ID=8\n",
        )],
        "centos-stream-8",
        "8",
    ),
    (
        &[
            (
                "etc/redhat-release",
                "Red Hat Enterprise Linux Server release 6.8 (Santiago)\n",
            ),
            ("etc/oracle-release", "Oracle Linux Server release 6.8\n"),
        ],
        "oracle-linux-6",
        "6.8",
    ),
    (
        &[("etc/redhat-release", "Rocky Linux release 8.5 (Green Obsidian)\n")],
        "rocky-8",
        "8.5",
    ),
    (
        &[("etc/system-release", "Amazon Linux AMI release 2014.03\n")],
        "amazon-linux-1",
        "2014.03",
    ),
    (
        &[("etc/system-release", "Amazon Linux 2\n")],
        "amazon-linux-2",
        "2",
    ),
    (
        &[(
            "etc/system-release",
            "Amazon Linux release 2.0 (2017.12) LTS Release Candidate\n",
        )],
        "amazon-linux-2",
        "2.0",
    ),
    (
        &[
            ("etc/os-release", "LSB_VERSION=base-4.0-amd64\n"),
            ("etc/redhat-release", "CentOS release 6.5 (Final)\n"),
        ],
        "centos-6",
        "6.5",
    ),
    (
        &[("etc/system-release-cpe", "cpe:/o:centos:linux:6:GA\n")],
        "centos-6",
        "6",
    ),
    (
        &[(
            "usr/lib/os-release",
            "NAME='Amazon Linux'\nID=amzn\nVERSION_ID=2023\n",
        )],
        "amazon-linux-2023",
        "2023",
    ),
    (
        &[("etc/os-release", "NAME=\"Ubuntu\"\nVERSION_ID=\"22.04\"\nID=\n")],
        "ubuntu-22.04",
        "22.04",
    ),
    (
        &[
            ("etc/lsb-release", "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=12.04\n"),
            ("etc/debian_version", "wheezy/sid\n"),
        ],
        "ubuntu-12.04",
        "12.04",
    ),
    (&[("etc/debian_version", "8.11\n")], "debian-8", "8.11"),
    (
        &[
            ("etc/os-release", "NAME=\"Debian GNU/Linux\"\nID=debian\n"),
            ("etc/debian_version", "forky/sid\n"),
        ],
        "debian-testing",
        "forky/sid",
    ),
    (
        &[(
            "etc/os-release",
            "NAME=\"SLES\"\nVERSION_ID=\"15.5\"\nID=\"sles\"\n",
        )],
        "sles-15",
        "15.5",
    ),
    (
        &[(
            "etc/os-release",
            "NAME=\"openSUSE Tumbleweed\"\nID=\"opensuse-tumbleweed\"\nVERSION_ID=\"20260102\"\n",
        )],
        "opensuse-tumbleweed",
        "20260102",
    ),
    (
        &[(
            "etc/os-release",
            "NAME=\"Fedora Linux\"\nID=fedora\nVERSION_ID=41\nVARIANT_ID=server\n",
        )],
        "fedora",
        "41",
    ),
    // A file that was edited may say in VERSION, in PRETTY_NAME or elsewhere what VERSION_ID would.
    (
        &[(
            "etc/os-release",
            "NAME=\"Ubuntu\"\nVERSION=\"18.04 LTS (Bionic Beaver)\"\n",
        )],
        "ubuntu-18.04",
        "18.04",
    ),
    (
        &[(
            "etc/os-release",
            "NAME=\"Debian GNU/Linux\"\nID=debian\nPRETTY_NAME=\"Debian GNU/Linux 11 (bullseye)\"\n",
        )],
        "debian-11",
        "11",
    ),
    (
        &[
            (
                "etc/os-release",
                "NAME=\"Debian GNU/Linux\"\nID=debian\nPRETTY_NAME=Distroless\n",
            ),
            ("etc/debian_version", "10.8\n"),
        ],
        "debian-10",
        "10.8",
    ),
    (
        &[(
            "etc/os-release",
            "NAME=\"Red Hat Enterprise Linux Server\"\nID=rhel\nVERSION_ID=7.5\nPRETTY_NAME=\"Employee SKU\"\n",
        )],
        "rhel-7",
        "7.5",
    ),
    (
        &[("etc/lsb-release", "DISTRIB_ID=Debian\nDISTRIB_RELEASE=9.4\n")],
        "debian-9",
        "9",
    ),
    (
        &[(
            "etc/os-release",
            "NAME=SLES_SAP\nID=sles_sap\nVERSION_ID=12.2\nPRETTY_NAME='SUSE Linux Enterprise Server for SAP Applications 12 SP2'\n",
        )],
        "sles-12",
        "12.2",
    ),
];

#[test]
fn systems_are_known_by_what_they_hold() {
    for (files, id, version) in KNOWN {
        let tree = holding(files);
        let os = detected(tree.path(), &[]);
        assert_eq!(
            (os["id"].as_str(), os["version"].as_str()),
            (Some(*id), Some(*version)),
            "{files:?}"
        );
    }
}

/// In one process: some hundred trees.
#[test]
fn every_rule_of_the_catalog_finds_its_own_system() {
    let catalog = ssmbake_manifests::catalog();
    let linux = catalog.oses().iter().filter(|os| os.family != Family::Windows);
    for (os, rule) in linux.flat_map(|os| os.matches.iter().map(move |rule| (os, rule))) {
        let versions = match &rule.version {
            VersionMatch::OneOf(versions) => versions.clone(),
            other => vec![other.example().to_owned()],
        };
        for (name, version) in rule
            .names
            .iter()
            .flat_map(|name| versions.iter().map(move |version| (name, version)))
        {
            let release = format!(
                "NAME=\"{name}\"\nID={}\nVERSION_ID={version}\nPRETTY_NAME=\"{name} {version} (x)\"\n",
                rule.id
            );
            let mut files = vec![("usr/lib/os-release", release.as_str())];
            files.extend(rule.markers.first().map(|marker| (marker.as_str(), "")));
            let tree = holding(&files);
            let root = Root::open(tree.path()).expect("root");
            let facts = probe(&root, catalog, &CallerHints::default()).expect("facts");
            assert_eq!(
                (&facts.os.value.id, &facts.os.value.version),
                (&os.id, version),
                "{release}"
            );
            let release = release.replace(name.as_str(), "Deluxe");
            let derivative = holding(&[("etc/os-release", &release)]);
            let root = Root::open(derivative.path()).expect("root");
            assert!(
                probe(&root, catalog, &CallerHints::default()).is_err(),
                "{release}"
            );
        }
    }
}

#[test]
fn the_size_of_a_file_does_not_matter() {
    let release = format!("ID=debian\nVERSION_ID=12\n{}", "#\n".repeat(1 << 20));
    let tree = holding(&[("etc/os-release", &release)]);
    assert_eq!(detected(tree.path(), &[])["id"], "debian-12");
}

#[test]
fn a_sap_product_makes_a_system_for_sap() {
    let tree = holding(&[(
        "etc/os-release",
        "NAME=\"SLES\"\nVERSION_ID=\"15.5\"\nID=\"sles\"\n",
    )]);
    fs::create_dir_all(tree.path().join("etc/products.d")).expect("directory");
    symlink("SLES_SAP.prod", tree.path().join("etc/products.d/baseproduct")).expect("link");
    let os = detected(tree.path(), &[]);
    assert_eq!(
        (&os["id"], &os["distribution"]),
        (&"sles-15".into(), &"sles_sap".into())
    );
}

const REFUSED: &[(Files<'_>, &str)] = &[
    (
        &[(
            "etc/os-release",
            "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.20.1\n",
        )],
        "community",
    ),
    (&[("etc/alpine-release", "3.4.6\n")], "community"),
    (&[("etc/arch-release", "")], "AUR"),
    (
        &[
            ("etc/bottlerocket-release", "x\n"),
            ("etc/os-release", "NAME=\"Amazon Linux\"\nID=amzn\nVERSION_ID=2\n"),
        ],
        "control container",
    ),
    (
        &[("etc/os-release", "NAME=NixOS\nID=nixos\nVERSION_ID=\"24.05\"\n")],
        "services.amazon-ssm-agent",
    ),
    (
        &[
            ("ostree/repo/config", "x\n"),
            (
                "etc/os-release",
                "NAME=\"CentOS Stream\"\nID=centos\nVERSION_ID=9\n",
            ),
        ],
        "Containerfile",
    ),
    (
        &[(
            "etc/os-release",
            "NAME=\"Fedora Linux\"\nID=fedora\nVERSION_ID=41\nVARIANT_ID=coreos\n",
        )],
        "Containerfile",
    ),
    (
        &[(
            "etc/os-release",
            "NAME=\"Fedora Linux\"\nID=fedora\nVERSION_ID=41\nOSTREE_VERSION='41.1'\n",
        )],
        "Containerfile",
    ),
    (
        &[
            ("etc/devuan_version", "daedalus\n"),
            ("etc/debian_version", "12.0\n"),
        ],
        "devuan",
    ),
    (
        &[(
            "etc/os-release",
            "NAME=\"SLES\"\nVERSION_ID=\"11.4\"\nID=\"sles\"\n",
        )],
        "from 12 on",
    ),
    (
        &[(
            "etc/SuSE-release",
            "SUSE Linux Enterprise Server 11 (x86_64)\nVERSION = 11\nPATCHLEVEL = 3\n",
        )],
        "from 12 on",
    ),
    (
        &[("System/Library/CoreServices/SystemVersion.plist", "<plist/>")],
        "sealed",
    ),
    (
        &[
            (
                "etc/os-release",
                "NAME=\"Red Hat Enterprise Linux Server\"\nID=\"rhel\"\nVERSION_ID=\"7.9\"\n",
            ),
            (
                "etc/redhat-release",
                "Red Hat Enterprise Linux Server release 7.9\n# Liberty Linux\n",
            ),
        ],
        "SUSE Liberty",
    ),
    (
        &[(
            "etc/os-release",
            "NAME=\"Scientific Linux\"\nID=\"rhel\"\nVERSION_ID=\"7.5\"\n",
        )],
        "Scientific Linux",
    ),
    (
        &[(
            "etc/os-release",
            "NAME=\"Linux Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\nVERSION_ID=\"21\"\n",
        )],
        "--as OS",
    ),
    (
        &[("etc/redhat-release", "Circle Linux release 8.4\n")],
        "Circle Linux 8.4",
    ),
    (&[("etc/lsb-release", "LSB_VERSION=1.3\n")], "the tree holds"),
    // Parents' files with a derivative's own name in one of them.
    (
        &[
            ("etc/os-release", "NAME=Ubuntu\nID=ubuntu\nVERSION_ID=14.04\n"),
            ("etc/lsb-release", "DISTRIB_ID=LinuxMint\nDISTRIB_RELEASE=17\n"),
        ],
        "linuxmint",
    ),
    (
        &[(
            "etc/os-release",
            "NAME=Ubuntu\nID=ubuntu\nVERSION_ID=20.04\nPRETTY_NAME=\"Bodhi 6.0.0\"\n",
        )],
        "Bodhi 6.0.0",
    ),
    (
        &[(
            "etc/os-release",
            "NAME=\"Red Hat Enterprise Linux\"\nID=rhel\nVERSION_ID=7.3\nPRETTY_NAME=\"Red Hat Virtualization Host 4.0 (el7.3)\"\n",
        )],
        "Virtualization Host",
    ),
    (
        &[
            (
                "etc/os-release",
                "NAME=\"Debian GNU/Linux\"\nID=debian\nVERSION_ID=10\n",
            ),
            ("etc/armbian-release", "VERSION=23.02\n"),
        ],
        "Armbian",
    ),
    (
        &[
            (
                "etc/os-release",
                "NAME=\"CentOS Linux\"\nID=centos\nVERSION_ID=7\n",
            ),
            ("etc/redhat-release", "CloudLinux release 7.9 (Boris Yegorov)\n"),
        ],
        "CloudLinux",
    ),
    (
        &[(
            "etc/redhat-release",
            "Red Hat Enterprise Linux Atomic Host release 7.9\n",
        )],
        "Containerfile",
    ),
    (
        &[("etc/os-release", "NAME=\"Debian GNU/Linux\"\nID_LIKE=debian\n")],
        "no operating system",
    ),
    (
        &[(
            "etc/os-release",
            "ID=rhel\nNAME=\"Red Hat Enterprise Linux CoreOS\"\nVERSION_ID=9.6\nVARIANT_ID=coreos\n",
        )],
        "Containerfile",
    ),
];

#[test]
fn others_are_refused_with_the_right_way() {
    for (files, words) in REFUSED {
        let tree = holding(files);
        let err = refused(tree.path());
        assert!(err.contains(words), "{files:?}: {err}");
    }
}

#[test]
fn a_derivative_is_what_the_user_says() {
    let tree = holding(&[(
        "etc/os-release",
        "NAME=\"Linux Mint\"\nID=linuxmint\nVERSION_ID=\"21\"\n",
    )]);
    let os = detected(tree.path(), &["--as", "ubuntu-22.04"]);
    assert_eq!(
        (&os["id"], &os["distribution"]),
        (&"ubuntu-22.04".into(), &"linuxmint".into())
    );
    let (code, _, err) = outcome(ssmbake(&["detect", "--as", "mint-21", "--root"]).arg(tree.path()));
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("ubuntu-22.04"), "{err}");
}

#[test]
fn links_of_files_and_directories_stay_inside() {
    let tree = holding(&[(
        "usr/lib64/os-release",
        "NAME=\"Debian GNU/Linux\"\nID=debian\nVERSION_ID=12\n",
    )]);
    fs::create_dir_all(tree.path().join("etc")).expect("directory");
    symlink("lib64", tree.path().join("usr/lib")).expect("link");
    symlink("/usr/lib/os-release", tree.path().join("etc/os-release")).expect("link");
    assert_eq!(detected(tree.path(), &[])["id"], "debian-12");
    // The host's own file must not answer for a dangling link.
    let dangling = holding(&[("etc/motd", "x\n")]);
    symlink("/usr/lib/os-release", dangling.path().join("etc/os-release")).expect("link");
    assert!(refused(dangling.path()).contains("the tree holds"));
}

#[test]
fn a_tree_without_programs_has_a_name_and_no_plan() {
    let dir = tempfile::tempdir().expect("directory");
    fs::create_dir(dir.path().join("etc")).expect("directory");
    let release = "NAME=\"Debian GNU/Linux\"\nID=debian\nVERSION_ID=12\n";
    fs::write(dir.path().join("etc/os-release"), release).expect("file");
    let output = must(ssmbake(&["detect", "--output", "json", "--root"]).arg(dir.path()));
    let facts: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (&facts["os"]["value"]["id"], &facts["arch"]["value"]),
        (&"debian-12".into(), &"unknown".into())
    );
    let mut plan = ssmbake(&["plan", "--region", "eu-west-1", "--output", "json", "--root"]);
    let (code, out, err) = outcome(plan.arg(dir.path()));
    assert_eq!(code, 3, "{err}");
    let error: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(error["error"]["code"], 3);
    assert!(
        error["error"]["message"]
            .as_str()
            .expect("text")
            .contains("architecture is unknown")
    );
    assert_eq!(outcome(ssmbake(&["audit", "--root"]).arg(dir.path())).0, 9);
}
