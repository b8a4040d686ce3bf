//! The main job on synthetic trees: everything that must hold, without debootstrap.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests work on the build machine and may panic"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use ssmbake_tests::digest::{Times, diff, tree};
use ssmbake_tests::mirror::{Fault, Mirror};
use ssmbake_tests::package::{AgentPackage, Signer};
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::{must, outcome, ssmbake};
use tempfile::TempDir;

const V1: &str = "3.3.1957.0";
const V2: &str = "3.3.3572.0";
const FOLDER: &str = "debian_amd64";

struct World {
    dir: TempDir,
    signer: Signer,
    keyring: PathBuf,
}

/// Keys take a second to make: one for all tests.
fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let dir = tempfile::tempdir().expect("directory");
        let signer = Signer::new("rsa2048", None, "0");
        let keyring = dir.path().join("keyring.asc");
        fs::write(&keyring, signer.certificate()).expect("keyring");
        World { dir, signer, keyring }
    })
}

/// A built package of `version`, cached.
fn deb(version: &str) -> PathBuf {
    static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = LOCK.lock().expect("lock");
    let path = world().dir.path().join(format!("agent-{version}-amd64.deb"));
    if !path.exists() {
        AgentPackage {
            unit_comment: format!("# {version}\n"),
            ..AgentPackage::new(version)
        }
        .build(world().dir.path());
    }
    path
}

fn mirror() -> Mirror {
    let mirror = Mirror::http();
    for version in [V1, V2] {
        mirror.publish(
            version,
            FOLDER,
            &deb(version),
            &world().signer.sign(&deb(version)),
        );
    }
    mirror
}

fn apply(root: &Path, mirror: &Mirror, version: &str) -> Command {
    let mut command = ssmbake(&[
        "apply",
        "--mirror",
        &mirror.url,
        "--version",
        version,
        "--retries",
        "2",
    ]);
    command
        .arg("--root")
        .arg(root)
        .arg("--keyring")
        .arg(&world().keyring);
    command
}

/// Runs a command that must fail with `code` and leave the tree as it is.
#[track_caller]
fn refused(command: &mut Command, root: &Path, code: i32) -> String {
    let before = tree(root, Times::Count);
    let (got, out, err) = outcome(command);
    assert_eq!(got, code, "{out}{err}");
    assert!(err.contains("error: "), "{err}");
    assert_eq!(diff(&before, &tree(root, Times::Count)), Vec::<String>::new());
    err
}

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
fn bad_signatures_and_packages_are_refused_before_anything_is_written() {
    let target = MiniTree::debian();
    let good = deb(V1);
    let work = tempfile::tempdir().expect("directory");
    let stranger = Signer::new("rsa2048", None, "0");
    let offer = |package: &Path, signature: &[u8]| {
        let mirror = Mirror::http();
        mirror.publish(V1, FOLDER, package, signature);
        mirror
    };
    let signer = &world().signer;
    let edited = |name: &str, edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(&good).expect("package");
        edit(&mut bytes);
        let path = work.path().join(name);
        fs::write(&path, bytes).expect("write");
        path
    };
    let tampered = edited("tampered.deb", &|bytes| {
        let at = bytes.len() - 100;
        bytes[at] ^= 1;
    });
    let truncated = edited("truncated.deb", &|bytes| bytes.truncate(bytes.len() - 1000));
    let trailing = edited("trailing.deb", &|bytes| {
        bytes.extend(b"trailing bytes that nobody asked for")
    });
    let no_package = edited("none.deb", &|bytes| bytes.clear());
    let other_name = AgentPackage {
        name: "amazon-ssm-agenx".to_owned(),
        ..AgentPackage::new("3.3.1958.0")
    }
    .build(work.path());
    let other_arch = AgentPackage {
        arch: "arm64".to_owned(),
        ..AgentPackage::new("3.3.1959.0")
    }
    .build(work.path());
    let cases = [
        ("wrong key", offer(&good, &stranger.sign(&good))),
        ("tampered data", offer(&tampered, &signer.sign(&good))),
        ("swapped signature", offer(&good, &signer.sign(&deb(V2)))),
        (
            "weak digest",
            offer(
                &good,
                &signer.sign_with(
                    &good,
                    &["--digest-algo", "SHA1", "--allow-weak-digest-algos"],
                    None,
                ),
            ),
        ),
        ("truncated signature", offer(&good, &signer.sign(&good)[..60])),
        (
            "trailing bytes after the signature",
            offer(&good, &[signer.sign(&good), b"xx".to_vec()].concat()),
        ),
        ("no signature", offer(&good, b"")),
        ("replayed version", offer(&deb(V2), &signer.sign(&deb(V2)))),
        ("truncated package", offer(&truncated, &signer.sign(&truncated))),
        ("trailing bytes", offer(&trailing, &signer.sign(&trailing))),
        ("empty package", offer(&no_package, &signer.sign(&no_package))),
        ("other package", offer(&other_name, &signer.sign(&other_name))),
        (
            "other architecture",
            offer(&other_arch, &signer.sign(&other_arch)),
        ),
    ];
    for (name, mirror) in &cases {
        println!("{name}");
        let err = refused(&mut apply(target.path(), mirror, V1), target.path(), 5);
        assert!(err.contains("hint: "), "{name}: {err}");
    }
}

#[test]
fn a_key_counts_only_inside_its_own_window() {
    let target = MiniTree::debian();
    let signer = Signer::new("rsa2048", Some("20200101T000000"), "30d");
    let keyring = tempfile::NamedTempFile::new().expect("file");
    fs::write(keyring.path(), signer.certificate()).expect("keyring");
    let run = |clock: &str, options: &[&str]| {
        let mirror = Mirror::http();
        mirror.publish(
            V1,
            FOLDER,
            &deb(V1),
            &signer.sign_with(&deb(V1), options, Some(clock)),
        );
        let mut command = ssmbake(&[
            "apply",
            "--mirror",
            &mirror.url,
            "--version",
            V1,
            "--root",
            target.arg(),
        ]);
        let (code, _, err) = outcome(command.arg("--keyring").arg(keyring.path()));
        (code, err)
    };
    let before = tree(target.path(), Times::Count);
    let (code, err) = run(
        "20190101T000000",
        &["--ignore-time-conflict", "--ignore-valid-from"],
    );
    assert_eq!(code, 5, "{err}");
    assert!(err.contains("which is valid from"), "{err}");
    assert_eq!(
        diff(&before, &tree(target.path(), Times::Count)),
        Vec::<String>::new()
    );
    // Good when it was made, whatever the calendar says today.
    assert_eq!(run("20200115T000000", &[]).0, 0);
}

/// A deb whose payload is made by GNU tar with `arguments` in a folder prepared by `script`.
fn crafted(work: &Path, name: &str, script: &str, arguments: &str) -> PathBuf {
    let package = work.join(format!("{name}.deb"));
    let shell = format!(
        "set -e; d=$(mktemp -d); cd $d; dpkg-deb -R {} base; cp -a base/DEBIAN control; rm -rf base/DEBIAN; cd base; {script}\n\
         tar -P --owner=0 --group=0 -czf ../data.tar.gz {arguments}; cd ..; tar -C control --owner=0 --group=0 -czf control.tar.gz .\n\
         echo 2.0 > debian-binary; rm -f {deb}; ar rc {deb} debian-binary control.tar.gz data.tar.gz; rm -rf $d",
        deb(V1).display(),
        deb = package.display()
    );
    must(Command::new("sh").args(["-c", &shell]));
    package
}

#[test]
fn hostile_members_are_refused() {
    let target = MiniTree::debian();
    let work = tempfile::tempdir().expect("directory");
    let cases = [
        ("parent", "echo x > evil", "--transform 's,^./evil,./../evil,' ."),
        ("absolute", "echo x > evil", "--transform 's,^./evil,/evil,' ."),
        ("device", "mknod usr/bin/dev c 1 3", "."),
        ("fifo", "mkfifo usr/bin/fifo", "."),
        (
            "through-link",
            "ln -s /etc x; mkdir y; echo e > y/evil",
            "--transform 's,^./y/evil,./x/evil,' ./x ./y/evil .",
        ),
        ("twice", "true", "./usr/bin/ssm-cli ."),
        ("bomb", "head -c 2500M /dev/zero > usr/bin/zeros", "."),
    ];
    for (name, script, arguments) in cases {
        println!("{name}");
        let package = crafted(work.path(), name, script, arguments);
        let mirror = Mirror::http();
        mirror.publish(V1, FOLDER, &package, &world().signer.sign(&package));
        refused(&mut apply(target.path(), &mirror, V1), target.path(), 5);
        assert!(
            !target.path().parent().expect("parent").join("evil").exists(),
            "{name}"
        );
    }
}

#[test]
fn links_in_the_tree_never_lead_outside() {
    let mirror = mirror();
    let outside = tempfile::tempdir().expect("directory");
    fs::write(outside.path().join("sentinel"), "here").expect("sentinel");
    let sentinel = tree(outside.path(), Times::Count);
    for dir in [
        "etc/systemd",
        "usr/local/share",
        "var/lib/dpkg",
        "etc/ssl",
        "etc/amazon",
    ] {
        for target_text in [
            outside.path().to_str().expect("UTF-8").to_owned(),
            format!("../../../../../..{}", outside.path().display()),
        ] {
            let target = MiniTree::debian();
            let place = target.path().join(dir);
            fs::create_dir_all(place.parent().expect("parent")).expect("directory");
            if place.exists() {
                let inside = target
                    .path()
                    .join(outside.path().strip_prefix("/").expect("absolute"));
                fs::create_dir_all(inside.parent().expect("parent")).expect("directory");
                fs::rename(&place, inside).expect("move");
            }
            symlink(&target_text, &place).expect("link");
            let (code, out, err) = outcome(&mut apply(target.path(), &mirror, V1));
            assert!(
                [0, 7, 8].contains(&code),
                "{dir} -> {target_text}: {code} {out}{err}"
            );
            assert_eq!(
                diff(&sentinel, &tree(outside.path(), Times::Count)),
                Vec::<String>::new(),
                "{dir} -> {target_text}"
            );
        }
    }
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

#[test]
fn downloads_survive_what_networks_do() {
    let deb_path = format!("{V1}/{FOLDER}/amazon-ssm-agent.deb");
    let cut = mirror();
    cut.fault(&deb_path, Fault::CutShort(2));
    must(&mut apply(MiniTree::debian().path(), &cut, V1));
    assert!(cut.ranges() >= 1);
    let busy = mirror();
    busy.fault(&deb_path, Fault::Status(503, 2));
    must(&mut apply(MiniTree::debian().path(), &busy, V1));
    let target = MiniTree::debian();
    busy.fault(&deb_path, Fault::Status(503, 9));
    refused(&mut apply(target.path(), &busy, V1), target.path(), 6);
    refused(&mut apply(target.path(), &cut, "3.3.1999.0"), target.path(), 6);
    let secure = Mirror::https();
    secure.publish(V1, FOLDER, &deb(V1), &world().signer.sign(&deb(V1)));
    let err = refused(&mut apply(target.path(), &secure, V1), target.path(), 6);
    assert!(err.contains("--ca-file"), "{err}");
    let ca = tempfile::NamedTempFile::new().expect("file");
    fs::write(ca.path(), secure.ca_pem.as_ref().expect("CA")).expect("CA");
    secure.fault(&deb_path, Fault::Redirect(format!("{}/{deb_path}", cut.url)));
    refused(
        apply(target.path(), &secure, V1).arg("--ca-file").arg(ca.path()),
        target.path(),
        6,
    );
    secure.fault(&deb_path, Fault::Status(500, 0));
    must(apply(target.path(), &secure, V1).arg("--ca-file").arg(ca.path()));
}

#[test]
fn the_cache_serves_only_what_it_can_prove() {
    let mirror = mirror();
    let cache = tempfile::tempdir().expect("directory");
    let run = |target: &MiniTree| {
        must(
            apply(target.path(), &mirror, V1)
                .arg("--cache-dir")
                .arg(cache.path()),
        )
    };
    run(&MiniTree::debian());
    let requests = mirror.requests();
    run(&MiniTree::debian());
    assert_eq!(mirror.requests(), requests);
    for entry in fs::read_dir(cache.path().join("sha256"))
        .expect("cache")
        .flatten()
    {
        fs::write(entry.path(), "poison").expect("write");
    }
    run(&MiniTree::debian());
    assert!(mirror.requests() > requests);
}

#[test]
fn killed_at_any_instant_the_tree_is_as_before_or_as_wanted() {
    let mirror = mirror();
    let wanted = MiniTree::debian();
    must(&mut apply(wanted.path(), &mirror, V1));
    let mut wanted = tree(wanted.path(), Times::Ignored);
    wanted.remove("var/lib/ssmbake/receipt.json");
    let target = MiniTree::debian();
    let before = tree(target.path(), Times::Count);
    let started = std::time::Instant::now();
    must(&mut apply(MiniTree::debian().path(), &mirror, V1));
    let whole = started.elapsed();
    let mut outcomes = [0, 0];
    for number in 0..120_u32 {
        let mut child = apply(target.path(), &mirror, V1)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("start");
        // Spread over the run, denser towards the end, where the writes are.
        std::thread::sleep(whole.mul_f64(0.4 + f64::from(number % 60) / 75.0));
        child.kill().expect("kill");
        child.wait().expect("wait");
        must(&mut ssmbake(&["detect", "--root", target.arg()]));
        if diff(&before, &tree(target.path(), Times::Count)).is_empty() {
            outcomes[0] += 1;
            continue;
        }
        let mut after = tree(target.path(), Times::Ignored);
        after.remove("var/lib/ssmbake/receipt.json");
        assert_eq!(
            diff(&wanted, &after),
            Vec::<String>::new(),
            "kill number {number}"
        );
        outcomes[1] += 1;
        must(&mut ssmbake(&["revert", "--root", target.arg()]));
        return_times(target.path(), &before);
    }
    println!("before: {}, after: {}", outcomes[0], outcomes[1]);
    assert!(outcomes[0] > 0, "no kill came early enough");
}

/// After a revert only directory times differ; put them back for the next round.
fn return_times(root: &Path, before: &ssmbake_tests::digest::Tree) {
    for path in diff(before, &tree(root, Times::Count)) {
        let path = path.trim_start_matches("~ ");
        let line = &before[path];
        let time = line.split(' ').nth(3).expect("time");
        must(
            Command::new("touch")
                .args(["-h", "-d", &format!("@{time}")])
                .arg(root.join(path)),
        );
    }
    assert_eq!(diff(before, &tree(root, Times::Count)), Vec::<String>::new());
}

#[test]
fn a_full_or_read_only_disk_changes_nothing() {
    let mirror = mirror();
    let mount = |options: &str| {
        let dir = tempfile::tempdir().expect("directory");
        must(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", options, "none"])
                .arg(dir.path()),
        );
        let model = MiniTree::debian();
        must(
            Command::new("cp")
                .arg("-a")
                .arg(format!("{}/.", model.arg()))
                .arg(dir.path()),
        );
        dir
    };
    let full = mount("size=300k");
    refused(&mut apply(full.path(), &mirror, V1), full.path(), 7);
    must(Command::new("umount").arg(full.path()));
    let read_only = mount("size=30m");
    must(
        Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(read_only.path()),
    );
    refused(&mut apply(read_only.path(), &mirror, V1), read_only.path(), 7);
    must(Command::new("umount").arg(read_only.path()));
}
