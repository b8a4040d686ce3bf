//! The agent as a snap on a running system, as Ubuntu's images for EC2 have it. snapd is a stand-in: it needs the store.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ssmbake_tests::tree::debootstrapped;
use ssmbake_tests::world::{V1, deb, mirror};

use crate::live::{boot_session, furnish};

const UNIT: &str = "snap.amazon-ssm-agent.amazon-ssm-agent.service";

/// Knows one snap, and holds as snapd of the generation in /generation does.
const SNAP: &str = r#"#!/bin/sh
echo "$*" >>/results/snap.log
generation=$(cat /generation)
case "$generation $1 $2" in
"dead "*) echo 'error: cannot communicate with server' >&2; exit 1 ;;
*" list amazon-ssm-agent")
    echo 'Name              Version    Rev   Tracking         Publisher  Notes'
    echo "amazon-ssm-agent  3.3.987.0  9881  latest/stable/…  aws**      classic$(cat /run/held 2>/dev/null)" ;;
"old refresh --hold"*) echo 'error: unknown flag `hold'"'" >&2; exit 1 ;;
"new refresh --hold=1h") ;;
"new refresh --unhold") ;;
"old get system") echo 2026-01-02T03:04:05Z ;;
"old set system") ;;
*) echo "not understood: $*" >&2; exit 1 ;;
esac
"#;

/// As snapd mounts and writes it; switched off.
fn put_snap(root: &Path) {
    fs::create_dir_all(root.join("snap/amazon-ssm-agent/9881")).expect("directory");
    fs::create_dir_all(root.join("var/lib/snapd/seed/snaps")).expect("directory");
    fs::write(
        root.join("var/lib/snapd/seed/snaps/amazon-ssm-agent_9881.snap"),
        "",
    )
    .expect("seed");
    let unit = "[Unit]\nDescription=Service for snap application amazon-ssm-agent.amazon-ssm-agent\n\
        [Service]\nExecStart=/bin/sleep infinity\nType=simple\n[Install]\nWantedBy=multi-user.target\n";
    fs::write(root.join("etc/systemd/system").join(UNIT), unit).expect("unit");
    let program = root.join("usr/bin/snap");
    fs::write(&program, SNAP).expect("program");
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).expect("mode");
}

const SESSION: &str = r"
bake() { /ssmbake apply --region eu-west-1 --detailed-exitcode $*; }
unit=snap.amazon-ssm-agent.amazon-ssm-agent.service
run audit-before /ssmbake audit --output json
echo dead >/generation
run dead bake
echo new >/generation
run package bake --channel package
run version bake --version 3.3.1957.0
run baked bake --proxy http://proxy.example:3128 --set Agent.SelfUpdate=false --report /results/report.json
run enabled systemctl is-enabled $unit
run active systemctl is-active $unit
run environment systemctl show -p Environment $unit
run again bake --proxy http://proxy.example:3128 --set Agent.SelfUpdate=false
echo old >/generation
run old bake --set Agent.SelfUpdate=true
echo ,held >/run/held
run held bake --set Agent.SelfUpdate=false
run started bake --start
run running systemctl is-active $unit
run audit /ssmbake audit --output json
rm -r /snap /var/lib/snapd
run none bake --channel snap
";

#[test]
fn a_snap_on_a_running_system_is_enabled_and_configured() {
    let target = debootstrapped("bookworm");
    let root = target.path();
    furnish(root, &deb(V1));
    put_snap(root);
    let results = boot_session(root, SESSION);
    let verdict = |name: &str| {
        let report: serde_json::Value = serde_json::from_str(&results.read(name)).expect("JSON");
        let checks = report["checks"].as_array().expect("checks").clone();
        let found = checks.into_iter().find(|check| check["id"] == "SSMB006");
        found.expect("SSMB006")["verdict"].clone()
    };
    assert_eq!(verdict("audit-before.out"), "fail");
    results.expect("dead", "8");
    assert!(results.read("dead.err").contains("does snapd run?"));
    for (name, says) in [
        ("package", "is installed as a snap"),
        ("version", "snapd chooses its version"),
    ] {
        results.expect(name, "8");
        assert!(results.read(&format!("{name}.err")).contains(says), "{name}");
    }
    results.expect("baked", "20");
    let report = results.read("report.json");
    assert!(
        report.contains("hold-refresh") && !report.contains("install-package"),
        "{report}"
    );
    results.expect("enabled", "0");
    assert_eq!(results.read("active.out").trim(), "inactive");
    assert!(
        results
            .read("environment.out")
            .contains("https_proxy=http://proxy.example:3128")
    );
    results.expect("again", "0");
    for name in ["old", "held"] {
        results.expect(name, "20");
    }
    results.expect("started", "0");
    assert_eq!(results.read("running.out").trim(), "active");
    assert_eq!(verdict("audit.out"), "pass");
    results.expect("none", "8");
    // Held and let go each time something was done, the old way to what it was before; never against the administrator.
    let log = results.read("snap.log");
    let calls: Vec<&str> = log.lines().filter(|line| !line.starts_with("list")).collect();
    let until = calls
        .iter()
        .find_map(|call| call.strip_prefix("set system refresh.hold=2"))
        .expect("a time");
    assert!(until.ends_with('Z'), "{log}");
    let calls: Vec<&str> = calls
        .iter()
        .map(|call| call.split("=2").next().expect("word"))
        .collect();
    assert_eq!(
        calls,
        [
            "refresh --hold=1h amazon-ssm-agent",
            "refresh --unhold amazon-ssm-agent",
            "refresh --hold=1h amazon-ssm-agent",
            "get system refresh.hold",
            "set system refresh.hold",
            "set system refresh.hold",
        ],
        "{log}"
    );
    assert!(log.contains("refresh.hold=2026-01-02T03:04:05Z"), "{log}");
}

#[test]
fn a_snap_is_left_alone_where_no_snapd_runs() {
    let target = debootstrapped("bookworm");
    put_snap(target.path());
    let mirror = mirror();
    for channel in ["auto", "package", "snap"] {
        let mut command = ssmbake_tests::world::apply(target.path(), &mirror, "latest");
        let err = ssmbake_tests::world::refused(command.args(["--channel", channel]), target.path(), 8);
        assert!(err.contains("is installed as a snap"), "{err}");
    }
}
