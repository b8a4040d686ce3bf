//! Where the tree is the program's own root: chroots of every kind, and a running system. Needs root and systemd-nspawn.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::rpm::{hold_lock, rpm, rpm_mirror};
use ssmbake_tests::tree::{debootstrapped, shells_and_rpm};
use ssmbake_tests::world::{V1, V2, deb, mirror, world};
use ssmbake_tests::{must, outcome, ssmbake_bin};
use tempfile::TempDir;

use crate::rpm::dress_as_rhel;

/// A chroot, as image builders make them.
struct Case {
    package: &'static str,
    place: &'static str,
    /// The name of PID 1 where /proc is mounted.
    init: Option<&'static str>,
    systemctl: bool,
}

const CASES: [Case; 5] = [
    Case {
        package: "deb",
        place: "chroot without /proc",
        init: None,
        systemctl: true,
    },
    Case {
        package: "deb",
        place: "chroot, PID 1 is systemd",
        init: Some("systemd"),
        systemctl: true,
    },
    Case {
        package: "deb",
        place: "chroot, PID 1 is tini",
        init: Some("tini"),
        systemctl: true,
    },
    Case {
        package: "deb",
        place: "chroot, PID 1 is systemd, no systemctl in the tree",
        init: Some("systemd"),
        systemctl: false,
    },
    Case {
        package: "rpm",
        place: "chroot",
        init: Some("systemd"),
        systemctl: true,
    },
];

/// The program, the key and the package in the tree.
pub(crate) fn furnish(root: &Path, package: &Path) {
    fs::copy(ssmbake_bin(), root.join("ssmbake")).expect("copy");
    fs::copy(&world().keyring, root.join("keyring.asc")).expect("copy");
    fs::copy(package, root.join("package")).expect("copy");
}

/// `apply` without --root: what the tree is, it finds itself.
pub(crate) fn bake(mirror: &Mirror) -> String {
    let url = mirror.url.replace("localhost", "127.0.0.1");
    format!("/ssmbake apply --mirror {url} --version {V1} --keyring /keyring.asc --detailed-exitcode")
}

/// `script` in the chroot; PID 1 is a shell by another name.
fn enter(root: &Path, init: Option<&str>, script: &str) -> Command {
    let mut command = match init {
        None => {
            let mut command = Command::new("chroot");
            command.arg(root).args(["sh", "-c", script]);
            command
        }
        Some(name) => {
            let shell = world().dir.path().join(name);
            if !shell.exists() {
                fs::copy("/bin/sh", &shell).expect("copy");
            }
            let mut command = Command::new("unshare");
            command
                .args(["--mount", "--pid", "--fork"])
                .arg(shell)
                .args([
                    "-c",
                    "mount -t proc proc \"$0/proc\" && chroot \"$0\" sh -c \"$1\"; exit $?",
                ])
                .arg(root)
                .arg(script);
            command
        }
    };
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_enabled(root: &Path) -> bool {
    let mut command = Command::new("systemctl");
    command
        .arg("--root")
        .arg(root)
        .args(["is-enabled", "amazon-ssm-agent"]);
    outcome(&mut command).1.trim() == "enabled"
}

#[test]
fn every_chroot_ends_with_the_agent_enabled_and_never_started() {
    let (debs, rpms) = (mirror(), rpm_mirror());
    println!("| package | where | its own scripts: exit, enabled | ssmbake: exit, enabled |");
    let mut usual_count = 0;
    for case in &CASES {
        let prepared = || -> TempDir {
            let target = match case.package {
                "rpm" => shells_and_rpm(),
                _ => debootstrapped("bookworm"),
            };
            let package = if case.package == "rpm" { rpm(V1) } else { deb(V1) };
            if case.package == "rpm" {
                dress_as_rhel(target.path());
            }
            if !case.systemctl {
                fs::remove_file(target.path().join("usr/bin/systemctl")).expect("remove");
            }
            furnish(target.path(), &package);
            target
        };
        let usual = prepared();
        let script = match case.package {
            "rpm" => "rpm -i --nodeps /package",
            _ => "dpkg -i /package",
        };
        let (usual_code, ..) = outcome(&mut enter(usual.path(), case.init, script));
        let usual_enabled = is_enabled(usual.path());
        let ours = prepared();
        let script = bake(if case.package == "rpm" { &rpms } else { &debs });
        let (code, out, err) = outcome(&mut enter(ours.path(), case.init, &script));
        let enabled = is_enabled(ours.path());
        println!(
            "| {} | {} | {usual_code}, {usual_enabled} | {code}, {enabled} |",
            case.package, case.place
        );
        assert!(code == 20 && enabled, "{}: {out}{err}", case.place);
        // Where it started it would have left its record and its identity.
        for trace in ["var/lib/amazon-test", "var/lib/amazon/ssm/Vault"] {
            assert!(!ours.path().join(trace).exists(), "{}: {trace}", case.place);
        }
        usual_count += usize::from(usual_enabled);
    }
    assert_eq!(usual_count, 1, "of five");
}

#[test]
fn a_running_rpm_is_waited_for() {
    let target = shells_and_rpm();
    dress_as_rhel(target.path());
    furnish(target.path(), &rpm(V1));
    let lock = target.path().join("var/lib/rpm/.rpm.lock");
    fs::write(&lock, "").expect("lock");
    let script = bake(&rpm_mirror());
    let mut holder = hold_lock(&lock, 600);
    let (code, out, err) = outcome(&mut enter(
        target.path(),
        Some("systemd"),
        &format!("{script} --lock-timeout 1"),
    ));
    assert!(
        code == 8 && err.contains("/var/lib/rpm/.rpm.lock"),
        "{code}: {out}{err}"
    );
    holder.kill().and_then(|()| holder.wait()).expect("end");
    let mut holder = hold_lock(&lock, 3);
    let (code, out, err) = outcome(&mut enter(target.path(), Some("systemd"), &script));
    assert!(
        code == 20 && out.contains("waiting for the package manager"),
        "{code}: {out}{err}"
    );
    assert!(holder.wait().expect("end").success());
}

#[test]
fn a_container_without_an_init_is_no_running_system() {
    let target = debootstrapped("bookworm");
    let (root, mirror) = (target.path(), mirror());
    furnish(root, &deb(V1));
    let inside = |script: &str| {
        let mut command = Command::new("systemd-nspawn");
        command
            .args(["--quiet", "--register=no", "--keep-unit", "--as-pid2", "-D"])
            .arg(root)
            .args(["sh", "-c", &format!("{script}; echo $? >/code")]);
        let (_, out, err) = outcome(&mut command);
        let code = fs::read_to_string(root.join("code"));
        (code.expect("exit code").trim().to_owned(), format!("{out}{err}"))
    };
    let (code, said) = inside(&bake(&mirror));
    assert!(code == "20" && is_enabled(root), "{code}: {said}");
    let (code, said) = inside(&format!("{} --start", bake(&mirror)));
    assert!(
        code == "2" && said.contains("leave out --start"),
        "{code}: {said}"
    );
}

/// What the booted system runs; each line's outcome goes into a file.
const SESSION: &str = r#"dpkg -i /slow.deb >/dev/null 2>&1 &
sleep 1
run waited BAKE
run enabled systemctl is-enabled amazon-ssm-agent
run active systemctl is-active amazon-ssm-agent
run again BAKE
run started BAKE --start
sleep 1
run running systemctl is-active amazon-ssm-agent
run again-started BAKE --start
systemctl mask --runtime --now amazon-ssm-agent
run refused-to-start BAKE --start --set Agent.SelfUpdate=true
dpkg -i /slow.deb >/dev/null 2>&1 &
sleep 1
run busy BAKE --lock-timeout 1 --set Agent.SelfUpdate=false
wait
sleep 4 &
echo $! >/run/zypp.pid
run busy-zypper BAKE --lock-timeout 1 --set Agent.SelfUpdate=false
wait
run stale-zypper BAKE --set Agent.SelfUpdate=false
systemctl unmask --runtime amazon-ssm-agent
dpkg --purge amazon-ssm-agent
run fresh BAKE --start
run fresh-running systemctl is-active amazon-ssm-agent
run upgraded UPGRADE
run restarted UPGRADE --start --set Agent.SelfUpdate=true
run upgraded-version dpkg-query -W -f '${Version} ${Status}' amazon-ssm-agent
mkdir -p /etc/systemd/system/amazon-ssm-agent.service.d
printf '[Service]\nExecStartPre=/bin/sleep 60\n' >/etc/systemd/system/amazon-ssm-agent.service.d/slow.conf
starting() {
    setsid UPGRADE --start --set Agent.SelfUpdate="$1" >"$2.out" 2>"$2.err" &
    job=$!
    until systemctl show -p ActiveState amazon-ssm-agent | grep -q =activating; do sleep 0.2; done
}
starting false interrupted
kill -TERM -"$job"
wait "$job"
echo $? >interrupted
run interrupted-is-there UPGRADE --set Agent.SelfUpdate=false
systemctl stop amazon-ssm-agent
starting true twice
kill -TERM "$job"
sleep 2
kill -TERM "$job"
wait "$job"
echo $? >twice
run still systemctl show -p ActiveState amazon-ssm-agent
rm /etc/systemd/system/amazon-ssm-agent.service.d/slow.conf
systemctl daemon-reload
dpkg --purge amazon-ssm-agent
run fresh-again BAKE --start
printf '{"ActivationId": "11111111-2222-3333-4444-555555555555", "ActivationCode": "a-code-of-twenty-letters"}' >/root/activation
run hybrid BAKE --target hybrid --region eu-west-1 --activation-source file:/root/activation
run activated cat /var/lib/ssmbake/first-boot.json /root/activation
run seal-refused /ssmbake seal
run sealed /ssmbake seal --registered --detailed-exitcode
run stopped systemctl is-active amazon-ssm-agent
run audited /ssmbake audit --no-network
"#;

#[test]
fn a_running_system_is_baked_beside_its_package_manager() {
    let target = debootstrapped("bookworm");
    let root = target.path();
    let mirror = mirror();
    furnish(root, &deb(V1));
    slow_package(root);
    let upgrade = bake(&mirror).replace(V1, V2);
    let session = SESSION
        .replace("BAKE", &bake(&mirror))
        .replace("UPGRADE", &upgrade);
    let results = boot_session(root, &session);
    results.expect("waited", "20");
    assert!(
        results
            .read("waited.out")
            .contains("waiting for the package manager"),
        "{}",
        results.all("waited")
    );
    results.expect("enabled", "0");
    // Not started before anybody asked for it.
    assert_eq!(results.read("active.out").trim(), "inactive");
    results.expect("again", "0");
    results.expect("started", "0");
    assert_eq!(results.read("running.out").trim(), "active");
    results.expect("again-started", "0");
    results.expect("refused-to-start", "12");
    assert!(results.read("refused-to-start.err").contains("hint: "));
    results.expect("busy", "8");
    assert!(results.read("busy.err").contains("--lock-timeout"));
    results.expect("busy-zypper", "8");
    assert!(results.read("busy-zypper.err").contains("/run/zypp.pid"));
    results.expect("stale-zypper", "20");
    // Programs that somebody still holds open for writing do not start.
    results.expect("fresh", "20");
    assert_eq!(results.read("fresh-running.out").trim(), "active");
    // An agent that runs is told of, and started again where that is asked for.
    results.expect("upgraded", "20");
    assert!(
        results.read("upgraded.err").contains("by --start"),
        "{}",
        results.all("upgraded")
    );
    results.expect("restarted", "20");
    assert!(!results.read("restarted.err").contains("by --start"));
    let installed = results.read("upgraded-version.out");
    assert!(installed.starts_with(V2) && installed.ends_with("install ok installed"));
    // What comes after the change is not taken back, and nobody is told that it was.
    results.expect("interrupted", "12");
    let said = results.read("interrupted.err");
    assert!(
        said.contains("all is installed") && !said.contains("nothing is left"),
        "{said}"
    );
    results.expect("interrupted-is-there", "0");
    // Nobody has to wait for the service manager.
    results.expect("twice", "143");
    assert_eq!(results.read("still.out").trim(), "ActiveState=activating");
    results.expect("fresh-again", "20");
    // A machine that nobody makes an image of registers at once, and the code goes.
    results.expect("hybrid", "20");
    results.expect("activated", "1");
    assert!(
        results
            .read("activated.out")
            .contains("\"state\": \"registered\""),
        "{}",
        results.all("activated")
    );
    results.expect("seal-refused", "8");
    assert!(results.read("seal-refused.err").contains("--registered"));
    results.expect("sealed", "20");
    assert_eq!(results.read("stopped.out").trim(), "inactive");
    assert!(results.read("audited.out").contains("pass SSMB010"));
}

/// Before and after the lines of a session.
const SESSION_HEAD: &str = r#"#!/bin/sh
mkdir -p /results
cd /results
run() {
    name=$1
    shift
    "$@" >"$name.out" 2>"$name.err"
    echo $? >"$name"
}
"#;
const SESSION_END: &str = "systemctl --no-block poweroff\n";

/// What the lines of a session left: exit code, stdout and stderr by name.
pub(crate) struct Results {
    dir: PathBuf,
    boot: String,
}

impl Results {
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name))
            .unwrap_or_else(|error| panic!("{name}: {error}: {}", self.boot))
    }

    fn all(&self, name: &str) -> String {
        format!(
            "{}{}{}",
            self.read(name),
            self.read(&format!("{name}.out")),
            self.read(&format!("{name}.err"))
        )
    }

    #[track_caller]
    pub(crate) fn expect(&self, name: &str, code: &str) {
        assert_eq!(self.read(name).trim(), code, "{name}: {}", self.all(name));
    }
}

/// Boots the tree and runs `lines` there; the network is this machine's, whose loopback the mirror listens on.
pub(crate) fn boot_session(root: &Path, lines: &str) -> Results {
    let script = root.join("session");
    fs::write(&script, format!("{SESSION_HEAD}{lines}{SESSION_END}")).expect("script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("mode");
    fs::write(
        root.join("etc/systemd/system/session.service"),
        "[Service]\nType=simple\nExecStart=/session\n[Install]\nWantedBy=multi-user.target\n",
    )
    .expect("unit");
    let mut enable = Command::new("systemctl");
    must(enable.arg("--root").arg(root).args(["enable", "session"]));
    let boot = Command::new("timeout")
        .args([
            "400",
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--boot",
            "-D",
        ])
        .arg(root)
        .output()
        .expect("nspawn");
    Results {
        dir: root.join("results"),
        boot: String::from_utf8_lossy(&boot.stdout).into_owned(),
    }
}

/// A package whose installation takes its time, with dpkg's locks held.
fn slow_package(root: &Path) {
    let work = tempfile::tempdir().expect("directory");
    let control = work.path().join("DEBIAN");
    fs::create_dir(&control).expect("directory");
    fs::write(
        control.join("control"),
        "Package: slow\nVersion: 1\nArchitecture: all\nMaintainer: Test <test@example.invalid>\nDescription: slow\n",
    )
    .expect("control");
    fs::write(control.join("postinst"), "#!/bin/sh\nsleep 5\n").expect("script");
    fs::set_permissions(control.join("postinst"), fs::Permissions::from_mode(0o755)).expect("mode");
    must(
        Command::new("dpkg-deb")
            .args(["--root-owner-group", "--build"])
            .arg(work.path())
            .arg(root.join("slow.deb")),
    );
}
