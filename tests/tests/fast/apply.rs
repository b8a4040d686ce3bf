//! The main job on synthetic trees: everything that must hold, without debootstrap.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use ssmbake_tests::digest::{Times, diff, tree};
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{V1, V2, apply, mirror, refused, world};
use ssmbake_tests::{must, outcome, ssmbake};

#[test]
fn installs_enables_trusts_and_configures() {
    let (target, mirror) = (MiniTree::debian(), mirror());
    let report = world().dir.path().join("report.json");
    let mut command = apply(target.path(), &mirror, V1);
    command.args([
        "--endpoint",
        "ssm=vpce-1.ssm.eu-west-1.vpce.amazonaws.com",
        "--set",
        "Agent.SelfUpdate=true",
    ]);
    command
        .args(["--proxy", "http://proxy:3128", "--no-proxy", "a.example"])
        .arg("--report")
        .arg(&report);
    must(&mut command);
    let link = target
        .path()
        .join("etc/systemd/system/multi-user.target.wants/amazon-ssm-agent.service");
    assert_eq!(
        fs::read_link(link).expect("link"),
        Path::new("/lib/systemd/system/amazon-ssm-agent.service")
    );
    assert!(
        target
            .read("var/lib/dpkg/status")
            .starts_with("Package: amazon-ssm-agent\nStatus: install ok installed\n")
    );
    let config = target.read("etc/amazon/ssm/amazon-ssm-agent.json");
    assert!(
        config.contains("\"Endpoint\": \"vpce-1.ssm") && config.contains("\"SelfUpdate\": true"),
        "{config}"
    );
    let proxy = target.read("etc/systemd/system/amazon-ssm-agent.service.d/10-ssmbake-proxy.conf");
    assert!(proxy.contains("no_proxy=a.example,169.254.169.254"), "{proxy}");
    assert_eq!(
        target
            .read("etc/ssl/certs/ca-certificates.crt")
            .matches("BEGIN CERTIFICATE")
            .count(),
        5
    );
    assert!(
        target.path().join("etc/ssl/certs/ce5e74ef.0").exists()
            || fs::read_link(target.path().join("etc/ssl/certs/ce5e74ef.0")).is_ok()
    );
    let report: serde_json::Value = serde_json::from_slice(&fs::read(report).expect("report")).expect("JSON");
    assert_eq!(report["receipt"]["package"]["version"], format!("{V1}-1"));
    let (code, out, err) = outcome(&mut ssmbake(&["audit", "--root", target.arg()]));
    assert_eq!(code, 0, "{out}{err}");
}

#[test]
fn a_fast_connection_waits_for_the_network_and_asks_again_soon() {
    let (target, mirror) = (MiniTree::debian(), mirror());
    let bake = || {
        let mut command = apply(target.path(), &mirror, V1);
        command.args(["--fast-connect", "--detailed-exitcode"]);
        outcome(&mut command)
    };
    let (code, out, err) = bake();
    assert_eq!(code, 20, "{out}{err}");
    // Nothing in this tree keeps the clock.
    assert!(err.contains("chrony"), "{err}");
    let drop_in = target.read("etc/systemd/system/amazon-ssm-agent.service.d/10-ssmbake-network.conf");
    assert!(drop_in.contains("Wants=network-online.target"), "{drop_in}");
    let config = target.read("etc/amazon/ssm/amazon-ssm-agent.json");
    assert!(
        config.contains("\"CredentialRetryMaxSleepSeconds\": 60"),
        "{config}"
    );
    assert_eq!(bake().0, 0);
    target.put("usr/sbin/chronyd", "");
    assert!(!bake().2.contains("chrony"));
    must(ssmbake(&["revert", "--root"]).arg(target.path()));
    assert!(
        !target
            .path()
            .join("etc/systemd/system/amazon-ssm-agent.service.d")
            .exists()
    );
}

#[test]
fn the_second_run_writes_nothing_and_asks_nobody() {
    let (target, mirror) = (MiniTree::debian(), mirror());
    assert_eq!(
        outcome(apply(target.path(), &mirror, V1).arg("--detailed-exitcode")).0,
        20
    );
    let (before, requests) = (tree(target.path(), Times::Count), mirror.requests());
    assert_eq!(
        outcome(apply(target.path(), &mirror, V1).arg("--detailed-exitcode")).0,
        0
    );
    assert_eq!(
        diff(&before, &tree(target.path(), Times::Count)),
        Vec::<String>::new()
    );
    assert_eq!(mirror.requests(), requests);
}

#[test]
fn revert_takes_everything_back() {
    let (target, mirror) = (MiniTree::debian(), mirror());
    let before = tree(target.path(), Times::Ignored);
    must(apply(target.path(), &mirror, V1).args(["--set", "Agent.SelfUpdate=true", "--roots", "legacy"]));
    assert_ne!(before, tree(target.path(), Times::Ignored));
    must(&mut ssmbake(&["revert", "--root", target.arg()]));
    assert_eq!(
        diff(&before, &tree(target.path(), Times::Ignored)),
        Vec::<String>::new()
    );
}

#[test]
fn revert_keeps_what_others_did_since() {
    let (target, mirror) = (MiniTree::debian(), mirror());
    must(&mut apply(target.path(), &mirror, V1));
    let other = "Package: zsh\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5\n\n";
    target.put(
        "var/lib/dpkg/status",
        &format!("{}{other}", target.read("var/lib/dpkg/status")),
    );
    must(&mut ssmbake(&["revert", "--root", target.arg()]));
    let status = target.read("var/lib/dpkg/status");
    assert!(
        status.contains("Package: zsh") && !status.contains("amazon-ssm-agent"),
        "{status}"
    );
    must(&mut apply(target.path(), &mirror, V1));
    target.put("usr/bin/ssm-cli", "mine");
    refused(
        &mut ssmbake(&["revert", "--root", target.arg()]),
        target.path(),
        8,
    );
}

#[test]
fn same_inputs_and_epoch_give_the_same_tree() {
    let mirror = mirror();
    let make = |umask: &str| {
        let target = MiniTree::debian();
        must(Command::new("find").arg(target.path()).args([
            "-exec",
            "touch",
            "-h",
            "-d",
            "@1600000000",
            "{}",
            "+",
        ]));
        let line = format!("umask {umask}; exec \"$@\"");
        let inner = apply(target.path(), &mirror, V1);
        let mut command = Command::new("sh");
        command
            .args(["-c", &line, "sh"])
            .arg(inner.get_program())
            .args(inner.get_args());
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("SOURCE_DATE_EPOCH", "1700000001");
        must(&mut command);
        tree(target.path(), Times::Count)
    };
    let (mut one, mut other) = (make("022"), make("077"));
    // It names the mirror's port and nothing else that differs.
    one.retain(|path, _| path != "var/lib/ssmbake/receipt.json");
    other.retain(|path, _| path != "var/lib/ssmbake/receipt.json");
    assert_eq!(diff(&one, &other), Vec::<String>::new());
}

#[test]
fn upgrades_keep_changed_conffiles_and_downgrades_need_a_word() {
    let (target, mirror) = (MiniTree::debian(), mirror());
    must(&mut apply(target.path(), &mirror, V1));
    target.put(
        "usr/lib/systemd/system/amazon-ssm-agent.service",
        "[Install]\nWantedBy=multi-user.target\n# mine\n",
    );
    let (code, _, err) = outcome(&mut apply(target.path(), &mirror, "latest"));
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("was kept as you changed it"), "{err}");
    assert!(
        target
            .read("usr/lib/systemd/system/amazon-ssm-agent.service")
            .ends_with("# mine\n")
    );
    assert!(
        target
            .read("usr/lib/systemd/system/amazon-ssm-agent.service.dpkg-dist")
            .contains(V2)
    );
    assert!(
        target
            .read("var/lib/dpkg/status")
            .contains(&format!("Version: {V2}-1"))
    );
    let err = refused(&mut apply(target.path(), &mirror, V1), target.path(), 8);
    assert!(err.contains("--allow-downgrade"), "{err}");
    must(apply(target.path(), &mirror, V1).arg("--allow-downgrade"));
    assert!(
        target
            .read("var/lib/dpkg/status")
            .contains(&format!("Version: {V1}-1"))
    );
}

#[test]
fn conflicts_are_refused_with_a_hint() {
    let mirror = mirror();
    let masked = MiniTree::debian();
    fs::create_dir_all(masked.path().join("etc/systemd/system")).expect("directory");
    symlink(
        "/dev/null",
        masked.path().join("etc/systemd/system/amazon-ssm-agent.service"),
    )
    .expect("mask");
    assert!(refused(&mut apply(masked.path(), &mirror, V1), masked.path(), 8).contains("unmask"));
    let snap = MiniTree::debian();
    snap.put("var/lib/snapd/seed/snaps/amazon-ssm-agent_1.snap", "x");
    assert!(refused(&mut apply(snap.path(), &mirror, V1), snap.path(), 8).contains("snap"));
    let interrupted = MiniTree::debian();
    interrupted.put("var/lib/dpkg/updates/0001", "x");
    refused(&mut apply(interrupted.path(), &mirror, V1), interrupted.path(), 8);
    let owned = MiniTree::debian();
    owned.put("usr/bin/ssm-cli", "theirs");
    owned.put("var/lib/dpkg/info/other.list", "/.\n/usr/bin/ssm-cli\n");
    assert!(refused(&mut apply(owned.path(), &mirror, V1), owned.path(), 8).contains("other"));
    let no_libc = MiniTree::debian();
    no_libc.put("var/lib/dpkg/status", "");
    assert!(refused(&mut apply(no_libc.path(), &mirror, V1), no_libc.path(), 8).contains("libc6"));
    let held = MiniTree::debian();
    must(&mut apply(held.path(), &mirror, V1));
    held.put(
        "var/lib/dpkg/status",
        &held
            .read("var/lib/dpkg/status")
            .replacen("install ok", "hold ok", 1),
    );
    assert!(refused(&mut apply(held.path(), &mirror, V2), held.path(), 8).contains("unhold"));
    let broken = MiniTree::debian();
    broken.put("etc/amazon/ssm/amazon-ssm-agent.json", "{,}");
    refused(
        apply(broken.path(), &mirror, V1).args(["--set", "Agent.SelfUpdate=true"]),
        broken.path(),
        8,
    );
    assert_eq!(outcome(&mut ssmbake(&["audit", "--root", broken.arg()])).0, 9);
}

#[test]
fn requests_that_cannot_be_met_have_their_own_codes() {
    let target = MiniTree::debian();
    let other = MiniTree::new("alpine", "Alpine Linux", "3.20", "amd64");
    let masquerade = MiniTree::new("debian", "Puppy", "12", "amd64");
    let empty = tempfile::tempdir().expect("directory");
    let root = target.arg();
    let cases: [(&[&str], i32); 9] = [
        (&["plan", "--root", other.arg(), "--region", "eu-west-1"], 3),
        (&["plan", "--root", masquerade.arg(), "--region", "eu-west-1"], 3),
        (&["detect", "--root", empty.path().to_str().expect("UTF-8")], 3),
        (&["plan", "--root", root, "--region", "eu-wst-1"], 4),
        (&["plan", "--root", root], 2),
        (
            &[
                "plan",
                "--root",
                root,
                "--region",
                "eu-west-1",
                "--set",
                "Agent.SelfUpdate=maybe",
            ],
            2,
        ),
        (
            &[
                "plan",
                "--root",
                root,
                "--region",
                "eu-west-1",
                "--endpoint",
                "ssmmessages=h:443",
            ],
            2,
        ),
        (&["plan", "--root", "/nonexistent", "--region", "eu-west-1"], 7),
        (
            &[
                "apply",
                "--root",
                root,
                "--mirror",
                "http://127.0.0.1:1",
                "--version",
                V1,
                "--retries",
                "0",
            ],
            6,
        ),
    ];
    for (arguments, code) in cases {
        let (got, out, err) = outcome(&mut ssmbake(arguments));
        assert_eq!(got, code, "{arguments:?}: {out}{err}");
        assert!(err.contains("hint: ") || code == 6, "{arguments:?}: {err}");
    }
}

/// Container builds work on one; older kernels have no unnamed files there.
#[test]
fn an_overlay_is_a_root_like_any_other() {
    let (lower, mirror) = (MiniTree::debian(), mirror());
    let before = tree(lower.path(), Times::Count);
    let work = tempfile::tempdir().expect("directory");
    for dir in ["upper", "work", "merged"] {
        fs::create_dir(work.path().join(dir)).expect("directory");
    }
    let (at, merged) = (work.path().display(), work.path().join("merged"));
    let options = format!("lowerdir={},upperdir={at}/upper,workdir={at}/work", lower.arg());
    must(
        Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(&merged),
    );
    must(&mut apply(&merged, &mirror, V1));
    let (code, out, err) = outcome(ssmbake(&["audit", "--root"]).arg(&merged));
    let again = outcome(apply(&merged, &mirror, V1).arg("--detailed-exitcode")).0;
    must(Command::new("umount").arg(&merged));
    assert_eq!((code, again), (0, 0), "{out}{err}");
    assert_eq!(
        diff(&before, &tree(lower.path(), Times::Count)),
        Vec::<String>::new()
    );
}
