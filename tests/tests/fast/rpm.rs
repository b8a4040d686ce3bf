//! The main job on trees of the rpm families, judged by the rpm of this machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use ssmbake_tests::digest::{Times, diff, tree};
use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::rpm::{AgentRpm, RPM_FOLDER, hold_lock, host_rpm, publish, rpm, rpm_mirror};
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{V1, V2, apply, refused, world};
use ssmbake_tests::{must, outcome, ssmbake};

/// What rpm prints.
fn says(root: &Path, arguments: &[&str]) -> String {
    String::from_utf8_lossy(&must(&mut host_rpm(root, arguments)).stdout)
        .trim()
        .to_owned()
}

fn rpm_is_content(root: &Path, version: &str) {
    assert_eq!(
        says(root, &["-q", "amazon-ssm-agent"]),
        format!("amazon-ssm-agent-{version}-1.x86_64")
    );
    assert_eq!(says(root, &["-V", "--nodeps", "amazon-ssm-agent"]), "");
    assert_eq!(
        says(root, &["-qf", "/usr/bin/ssm-cli"]),
        format!("amazon-ssm-agent-{version}-1.x86_64")
    );
    must(&mut host_rpm(root, &["-qa"]));
}

#[test]
fn installs_registers_and_enables() {
    let (target, mirror) = (MiniTree::rhel(), rpm_mirror());
    let before = tree(target.path(), Times::Ignored);
    must(&mut apply(target.path(), &mirror, V1));
    rpm_is_content(target.path(), V1);
    let link = target
        .path()
        .join("etc/systemd/system/multi-user.target.wants/amazon-ssm-agent.service");
    assert_eq!(
        fs::read_link(link).expect("link"),
        Path::new("/etc/systemd/system/amazon-ssm-agent.service")
    );
    assert!(says(target.path(), &["-q", "--scripts", "amazon-ssm-agent"]).contains("systemctl enable"));
    // rpm has looked and left its shared-memory file: what counts is what ssmbake writes.
    let baked = tree(target.path(), Times::Count);
    assert_eq!(
        outcome(apply(target.path(), &mirror, V1).arg("--detailed-exitcode")).0,
        0
    );
    assert_eq!(
        diff(&baked, &tree(target.path(), Times::Count)),
        Vec::<String>::new()
    );
    must(&mut ssmbake(&["revert", "--root", target.arg()]));
    let changed = diff(&before, &tree(target.path(), Times::Ignored));
    assert_eq!(changed, ["~ var/lib/rpm/rpmdb.sqlite-shm"]);
}

/// Compared with rpm itself on a copy of the same tree, record by record and file by file.
#[test]
#[ignore = "takes seconds: scripts/test without `fast` runs it"]
fn differs_from_rpm_only_where_explained() {
    let mirror = rpm_mirror();
    let (baked, usual) = (MiniTree::rhel(), MiniTree::rhel());
    must(apply(baked.path(), &mirror, V1).args(["--roots", "none"]));
    must(host_rpm(usual.path(), &["--noscripts", "--nodeps", "-U"]).arg(rpm(V1)));
    must(
        Command::new("systemctl")
            .arg("--root")
            .arg(usual.path())
            .args(["enable", "amazon-ssm-agent"]),
    );
    // Times are for `rpm -V`, which the other tests ask.
    let mut lines = diff(
        &tree(usual.path(), Times::Ignored),
        &tree(baked.path(), Times::Ignored),
    );
    // Ours; and the database, which is compared by its rows below.
    let explained = ["var/lib/ssmbake", "var/lib/rpm/rpmdb.sqlite"];
    lines.retain(|line| !explained.iter().any(|path| line[2..].starts_with(path)));
    // A directory's link count follows from the receipt's directory.
    lines.retain(|line| line != "~ var/lib");
    assert_eq!(lines, Vec::<String>::new());
    let (ours, theirs) = (rows(baked.path()), rows(usual.path()));
    assert_eq!(ours.len(), theirs.len());
    for (our, their) in ours.iter().zip(&theirs) {
        assert_eq!(our, their);
    }
    let (ours, theirs) = (header(baked.path()), header(usual.path()));
    // Time and transaction of the installation, and the color, which rpm takes from this machine's settings.
    for (tag, bytes) in &theirs {
        if ![1008, 1127, 1128].contains(tag) {
            assert_eq!(ours.get(tag), Some(bytes), "tag {tag}");
        }
    }
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
}

/// Every row of every table but the headers, as text; transactions have the time for a name.
fn rows(root: &Path) -> Vec<String> {
    let script = "import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1])\n\
        for table, in sorted(db.execute(\"select name from sqlite_master where type = 'table'\").fetchall()):\n\
        \x20   if table not in ('Packages', 'Installtid'):\n\
        \x20       for row in sorted(db.execute(f\"select * from '{table}'\").fetchall(), key=repr): print(table, repr(row))\n\
        \x20   else: print(table, db.execute(f\"select count(*) from '{table}'\").fetchone())\n\
        print(db.execute('pragma integrity_check').fetchall(), db.execute('pragma journal_mode').fetchall())\n";
    let database = root.join("var/lib/rpm/rpmdb.sqlite");
    let output = must(Command::new("python3").args(["-c", script]).arg(database)).stdout;
    String::from_utf8_lossy(&output)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// The agent's record: each tag's bytes, hex.
fn header(root: &Path) -> BTreeMap<u32, String> {
    let script = "import sqlite3, struct, sys\ndb = sqlite3.connect(sys.argv[1])\n\
        blob, = db.execute('select blob from Packages order by hnum desc').fetchone()\n\
        il, dl = struct.unpack('>II', blob[:8]); store = blob[8 + 16 * il:]\n\
        index = [struct.unpack('>IIII', blob[8 + 16 * i:24 + 16 * i]) for i in range(il)]\n\
        ends = sorted({o for _, _, o, _ in index} | {dl})\n\
        for tag, kind, offset, count in index:\n\
        \x20   end = min(e for e in ends if e > offset)\n\
        \x20   print(tag, kind, count, store[offset:end].hex())\n";
    let database = root.join("var/lib/rpm/rpmdb.sqlite");
    let output = must(Command::new("python3").args(["-c", script]).arg(database)).stdout;
    let entry = |line: &str| {
        let (tag, rest) = line.split_once(' ').expect("fields");
        (tag.parse().expect("tag"), rest.to_owned())
    };
    String::from_utf8_lossy(&output).lines().map(entry).collect()
}

#[test]
#[ignore = "takes seconds: scripts/test without `fast` runs it"]
fn reads_every_payload_and_digest_that_rpmbuild_makes() {
    let mirror = Mirror::http();
    for (payload, digest) in [
        ("w9.gzdio", 1),
        ("w2.xzdio", 8),
        ("w3.zstdio", 8),
        ("w9.bzdio", 2),
        ("w2.lzdio", 10),
        ("w.ufdio", 9),
    ] {
        let package = AgentRpm {
            payload: payload.to_owned(),
            digest,
            ..AgentRpm::new(V1)
        };
        publish(&mirror, V1, RPM_FOLDER, &package.build(world().dir.path()));
        let target = MiniTree::rhel();
        must(&mut apply(target.path(), &mirror, V1));
        assert_eq!(
            says(target.path(), &["-V", "--nodeps", "amazon-ssm-agent"]),
            "",
            "{payload} {digest}"
        );
    }
}

#[test]
fn rpm_goes_on_with_what_was_baked() {
    let mirror = rpm_mirror();
    let target = MiniTree::rhel();
    must(&mut apply(target.path(), &mirror, V1));
    let unit = "etc/systemd/system/amazon-ssm-agent.service";
    target.put(unit, "[Install]\nWantedBy=multi-user.target\n# mine\n");
    must(host_rpm(target.path(), &["--noscripts", "--nodeps", "-U"]).arg(rpm(V2)));
    assert_eq!(
        says(target.path(), &["-q", "amazon-ssm-agent"]),
        format!("amazon-ssm-agent-{V2}-1.x86_64")
    );
    assert!(target.read(unit).ends_with("# mine\n"));
    assert!(target.path().join(format!("{unit}.rpmnew")).exists());
    must(&mut host_rpm(
        target.path(),
        &["--noscripts", "-e", "amazon-ssm-agent"],
    ));
    assert!(!target.path().join("usr/bin/ssm-cli").exists());
    assert_eq!(says(target.path(), &["-qa"]), "bash-5.1.8-9.noarch");
}

#[test]
fn upgrades_keep_what_the_administrator_changed() {
    let mirror = rpm_mirror();
    let target = MiniTree::rhel();
    // rpm installs, ssmbake upgrades.
    must(host_rpm(target.path(), &["--noscripts", "--nodeps", "-U"]).arg(rpm(V1)));
    let unit = "etc/systemd/system/amazon-ssm-agent.service";
    target.put(unit, "[Install]\nWantedBy=multi-user.target\n# mine\n");
    let (code, _, err) = outcome(&mut apply(target.path(), &mirror, V2));
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("was kept as you changed it"), "{err}");
    assert!(target.read(unit).ends_with("# mine\n"));
    assert!(target.read(&format!("{unit}.rpmnew")).contains(V2));
    assert_eq!(
        says(target.path(), &["-q", "amazon-ssm-agent"]),
        format!("amazon-ssm-agent-{V2}-1.x86_64")
    );
    assert_eq!(says(target.path(), &["-qa"]).lines().count(), 2);
    let err = refused(&mut apply(target.path(), &mirror, V1), target.path(), 8);
    assert!(err.contains("--allow-downgrade"), "{err}");
    must(apply(target.path(), &mirror, V1).arg("--allow-downgrade"));
    assert_eq!(
        says(target.path(), &["-q", "amazon-ssm-agent"]),
        format!("amazon-ssm-agent-{V1}-1.x86_64")
    );
}

#[test]
#[ignore = "takes seconds: scripts/test without `fast` runs it"]
fn conflicts_are_refused_with_a_hint() {
    let mirror = rpm_mirror();
    let unclean = MiniTree::rhel();
    unclean.put("var/lib/rpm/rpmdb.sqlite-wal", "frames");
    let err = refused(&mut apply(unclean.path(), &mirror, V1), unclean.path(), 8);
    assert!(err.contains("rpmdb.sqlite-wal"), "{err}");
    let (_, detected, _) = outcome(&mut ssmbake(&["detect", "--root", unclean.arg()]));
    assert!(
        detected.contains("Red Hat Enterprise Linux 9") && detected.contains("unknown:"),
        "{detected}"
    );
    let damaged = MiniTree::rhel();
    damaged.put("var/lib/rpm/rpmdb.sqlite", "no database");
    assert!(refused(&mut apply(damaged.path(), &mirror, V1), damaged.path(), 8).contains("rebuilddb"));
    let none = MiniTree::bare("rhel", "Red Hat Enterprise Linux", "9.4", "amd64");
    assert!(refused(&mut apply(none.path(), &mirror, V1), none.path(), 8).contains("no rpm database"));
    let needy = Mirror::http();
    let build = |preamble: &str, extra: &[(&str, &str)]| {
        let package = AgentRpm {
            preamble: preamble.to_owned(),
            extra: extra
                .iter()
                .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
                .collect(),
            ..AgentRpm::new(V1)
        };
        publish(&needy, V1, RPM_FOLDER, &package.build(world().dir.path()));
        let target = MiniTree::rhel();
        refused(&mut apply(target.path(), &needy, V1), target.path(), 8)
    };
    assert!(build("Requires: libssm >= 2\n", &[]).contains("libssm >= 2"));
    assert!(build("Requires: bash > 6\n", &[]).contains("bash > 6"));
    assert!(build("Conflicts: bash < 6\n", &[]).contains("beside `bash`"));
    assert!(build("Obsoletes: bash\n", &[]).contains("beside `bash`"));
    assert!(build("", &[("usr/bin/bash", "another\n")]).contains("belongs to the package `bash`"));
    let locked = MiniTree::rhel();
    locked.put("var/lib/rpm/.rpm.lock", "");
    let mut holder = hold_lock(&locked.path().join("var/lib/rpm/.rpm.lock"), 60);
    let err = refused(&mut apply(locked.path(), &mirror, V1), locked.path(), 8);
    holder.kill().expect("kill");
    holder.wait().expect("wait");
    assert!(err.contains("running package manager"), "{err}");
}
