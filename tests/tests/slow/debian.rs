//! A debootstrapped tree, judged by its own dpkg and systemd. Needs root, debootstrap and systemd-nspawn.

use std::fs;
use std::path::Path;
use std::process::Command;

use ssmbake_tests::digest::{Times, diff, tree};
use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::package::{AgentPackage, Signer};
use ssmbake_tests::tree::debootstrapped;
use ssmbake_tests::{must, outcome, ssmbake};

const V1: &str = "3.3.1957.0";
const V2: &str = "3.3.3572.0";

fn chroot(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("chroot");
    command
        .arg(root)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn dpkg_is_content(root: &Path) {
    let status = must(&mut chroot(root, &["dpkg", "-s", "amazon-ssm-agent"]));
    assert!(String::from_utf8_lossy(&status.stdout).contains("Status: install ok installed"));
    for check in [
        ["dpkg", "-V", "amazon-ssm-agent"].as_slice(),
        &["dpkg", "--audit"],
    ] {
        let output = must(&mut chroot(root, check));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{check:?}");
    }
}

#[test]
fn a_real_tree_is_as_the_package_manager_would_have_made_it() {
    let work = tempfile::tempdir().expect("directory");
    let signer = Signer::new("rsa3072", None, "0");
    let keyring = work.path().join("keyring.asc");
    fs::write(&keyring, signer.certificate()).expect("keyring");
    let mirror = Mirror::https();
    let ca = work.path().join("ca.pem");
    fs::write(&ca, mirror.ca_pem.as_ref().expect("CA")).expect("CA");
    let build = |version: &str, compression: &str| {
        let package = AgentPackage {
            binary_size: 20 * 1024 * 1024,
            compression: compression.to_owned(),
            ..AgentPackage::new(version)
        };
        let deb = package.build(work.path());
        mirror.publish(version, "debian_amd64", &deb, &signer.sign(&deb));
        deb
    };
    let (one, two) = (build(V1, "gzip"), build(V2, "xz"));
    let baked = debootstrapped("bookworm");
    let bake = |root: &Path| {
        let mut command = ssmbake(&["apply", "--mirror", &mirror.url, "--version", V1, "--extra-ca"]);
        command
            .arg(&ca)
            .arg("--root")
            .arg(root)
            .arg("--keyring")
            .arg(&keyring)
            .arg("--ca-file")
            .arg(&ca);
        command
    };
    must(&mut bake(baked.path()));
    dpkg_is_content(baked.path());
    let enabled = must(
        Command::new("systemctl")
            .arg("--root")
            .arg(baked.path())
            .args(["is-enabled", "amazon-ssm-agent"]),
    );
    assert_eq!(String::from_utf8_lossy(&enabled.stdout).trim(), "enabled");
    let (code, out, err) = outcome(ssmbake(&["audit", "--root"]).arg(baked.path()));
    assert_eq!(code, 0, "{out}{err}");
    differs_only_where_explained(baked.path(), &one, &ca);
    trusts(baked.path(), mirror.leaf_pem.as_ref().expect("certificate"));
    boots(baked.path());
    lives_on(baked.path(), &two);
}

/// Compared with dpkg, systemctl and update-ca-certificates in another copy of the same tree.
fn differs_only_where_explained(baked: &Path, deb: &Path, ca: &Path) {
    let usual = debootstrapped("bookworm");
    fs::copy(deb, usual.path().join("agent.deb")).expect("copy");
    must(&mut chroot(usual.path(), &["dpkg", "-i", "/agent.deb"]));
    fs::remove_file(usual.path().join("agent.deb")).expect("remove");
    must(&mut chroot(
        usual.path(),
        &["systemctl", "enable", "amazon-ssm-agent"],
    ));
    fs::copy(ca, usual.path().join("usr/local/share/ca-certificates/ca.crt")).expect("copy");
    must(&mut chroot(usual.path(), &["update-ca-certificates"]));
    let explained = [
        // The receipt and what is kept for `revert`.
        "var/lib/ssmbake",
        // dpkg's diary, and its view one write earlier: it writes the database several times, we once.
        "var/log/dpkg.log",
        "var/lib/dpkg/status-old",
    ];
    let mut lines = diff(&tree(usual.path(), Times::Ignored), &tree(baked, Times::Ignored));
    lines.retain(|line| !explained.iter().any(|path| line[2..].starts_with(path)));
    // A directory's link count follows from the receipt's directory.
    lines.retain(|line| line != "~ var/lib");
    assert_eq!(lines, Vec::<String>::new());
}

/// OpenSSL in the tree accepts a server's certificate that the added CA has signed, by hash links and by the bundle.
fn trusts(root: &Path, leaf: &str) {
    fs::write(root.join("tmp/leaf.pem"), leaf).expect("certificate");
    let directory = ["-no-CAfile", "-CApath", "/etc/ssl/certs"];
    let bundle = ["-no-CApath", "-CAfile", "/etc/ssl/certs/ca-certificates.crt"];
    for store in [directory, bundle] {
        let arguments = [&["openssl", "verify"], &store[..], &["/tmp/leaf.pem"]].concat();
        must(&mut chroot(root, &arguments));
    }
    fs::remove_file(root.join("tmp/leaf.pem")).expect("remove");
}

/// systemd starts the stand-in at boot, and it records its start.
fn boots(root: &Path) {
    fs::write(
        root.join("etc/systemd/system/stop.service"),
        "[Unit]\nAfter=amazon-ssm-agent.service multi-user.target\n[Service]\nType=oneshot\n\
         ExecStart=/bin/sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do test -e /var/lib/amazon-test/started && break; sleep 1; done; \
         systemctl is-active amazon-ssm-agent > /var/lib/amazon-test/active; systemctl --no-block poweroff'\n\
         [Install]\nWantedBy=multi-user.target\n",
    )
    .expect("unit");
    must(
        Command::new("systemctl")
            .arg("--root")
            .arg(root)
            .args(["enable", "stop.service"]),
    );
    let boot = Command::new("timeout")
        .args([
            "120",
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--private-network",
            "--boot",
            "-D",
        ])
        .arg(root)
        .output()
        .expect("nspawn");
    let active = fs::read_to_string(root.join("var/lib/amazon-test/active")).unwrap_or_default();
    assert_eq!(
        active.trim(),
        "active",
        "{}",
        String::from_utf8_lossy(&boot.stdout)
    );
    assert!(
        fs::read_to_string(root.join("var/lib/amazon-test/started"))
            .expect("record")
            .contains("INVOCATION_ID=")
    );
}

/// The target's own tools upgrade, remove and purge the package.
fn lives_on(root: &Path, newer: &Path) {
    fs::copy(newer, root.join("newer.deb")).expect("copy");
    must(&mut chroot(root, &["apt-get", "-f", "-y", "install"]));
    must(&mut chroot(root, &["dpkg", "-i", "/newer.deb"]));
    dpkg_is_content(root);
    must(&mut chroot(root, &["dpkg", "-r", "amazon-ssm-agent"]));
    must(&mut chroot(root, &["dpkg", "-P", "amazon-ssm-agent"]));
    assert!(!root.join("usr/bin/amazon-ssm-agent").exists());
}
