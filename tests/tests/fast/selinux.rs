//! Labels of new files, judged by libselinux.

use std::fs;
use std::path::Path;
use std::process::Command;

use ssmbake_installers::root::{Kind, Root, RootPath};
use ssmbake_installers::selinux::Labels;
use ssmbake_tests::digest::{Times, diff, tree};
use ssmbake_tests::rpm::rpm_mirror;
use ssmbake_tests::ssmbake;
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{V1, V2, apply};
use ssmbake_tests::{must, outcome};

/// In the manner of the reference policy: defaults first, literal paths among patterns, escapes, alternatives.
const CONTEXTS: &str = "\
/.*	system_u:object_r:default_t:s0
/[^/]+	--	system_u:object_r:etc_runtime_t:s0
/a?quota\\.(user|group)	--	system_u:object_r:quota_db_t:s0
/etc/.*	system_u:object_r:etc_t:s0
/etc	-d	system_u:object_r:etc_t:s0
/usr(/.*)?	system_u:object_r:usr_t:s0
/usr/bin(/.*)?	system_u:object_r:bin_t:s0
/usr/bin/ssm-session-.*	--	system_u:object_r:ssm_session_exec_t:s0
/usr/bin/ssm-session-logger	--	system_u:object_r:ssm_logger_exec_t:s0
/usr/lib(/.*)?	system_u:object_r:lib_t:s0
/usr/(local/)?lib/systemd/system(/.*)?	system_u:object_r:systemd_unit_file_t:s0
/etc/systemd/system(/.*)?	system_u:object_r:systemd_unit_file_t:s0
/etc/pki(/.*)?	system_u:object_r:cert_t:s0
/var(/.*)?	system_u:object_r:var_t:s0
/var/lib(/.*)?	system_u:object_r:var_lib_t:s0
/var/lib/amazon/ssm	-d	system_u:object_r:ssm_var_lib_t:s0
/var/run/.*\\.*pid	<<none>>
/usr/bin/g\\+\\+	--	system_u:object_r:compiler_t:s0
/opt/a|/opt/b	system_u:object_r:alternative_t:s0
/dev/[ab]d[^/]*	-b	system_u:object_r:disk_t:s0
";

fn put_policy(target: &MiniTree) {
    target.put(
        "etc/selinux/config",
        "# comment\nSELINUX=enforcing\n SELINUXTYPE = targeted\n",
    );
    let dir = "etc/selinux/targeted/contexts/files";
    target.put(&format!("{dir}/file_contexts"), CONTEXTS);
    target.put(
        &format!("{dir}/file_contexts.local"),
        "/usr/bin/ssm-cli	--	system_u:object_r:local_t:s0\n",
    );
    target.put(
        &format!("{dir}/file_contexts.subs_dist"),
        "/usr/lib64 /usr/lib\n/run /var/run\n",
    );
}

#[test]
fn labels_are_those_of_libselinux() {
    let target = MiniTree::rhel();
    put_policy(&target);
    let labels = Labels::read(&Root::open(target.path()).expect("root"), "targeted").expect("labels");
    let contexts = target
        .path()
        .join("etc/selinux/targeted/contexts/files/file_contexts");
    let paths = [
        "/",
        "/x",
        "/aquota.user",
        "/quota.group",
        "/etc",
        "/etc/x",
        "/etc/systemd/system/a.service",
        "/usr/bin/ssm-cli",
        "/usr/bin/ssm-session-worker",
        "/usr/bin/ssm-session-logger",
        "/usr/lib/systemd/system/a.wants",
        "/usr/local/lib/systemd/system",
        "/usr/lib64/x.so",
        "/usr/lib64x",
        "/run/a.pid",
        "/var/run/b.pid",
        "/var/lib/amazon/ssm",
        "/var/lib/amazon/ssm/x",
        "/usr/bin/g++",
        "/opt/a",
        "/opt/b",
        "/opt/c",
        "/dev/ada",
        "/usr/binx",
        "/etc/pki/a b",
    ];
    for (kind, mode) in [(Kind::File, "file"), (Kind::Dir, "dir"), (Kind::Link, "symlink")] {
        for path in paths {
            let output = must(
                Command::new("matchpathcon")
                    .args(["-m", mode, "-n", "-f"])
                    .arg(&contexts)
                    .arg(path),
            );
            let wanted = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            let wanted = Some(wanted.as_str()).filter(|label| *label != "<<none>>");
            let place = RootPath::new(path).expect("path");
            assert_eq!(labels.of(&place, kind), wanted, "{path} as {mode}");
        }
    }
}

fn label(root: &Path, path: &str) -> String {
    let script = "import os, sys; print(os.getxattr(sys.argv[1], 'security.selinux', follow_symlinks=False).rstrip(b'\\0').decode())";
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(root.join(path))
        .output()
        .expect("python3");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
#[ignore = "takes seconds: scripts/test without `fast` runs it"]
fn new_files_get_labels_and_old_ones_keep_theirs() {
    let mirror = rpm_mirror();
    let target = MiniTree::rhel();
    put_policy(&target);
    must(&mut apply(target.path(), &mirror, V1));
    let audited = outcome(ssmbake(&["audit", "--root"]).arg(target.path())).1;
    assert!(
        audited.contains("pass SSMB083") && audited.contains("all as the policy says"),
        "{audited}"
    );
    let labels = [
        ("usr/bin/amazon-ssm-agent", "bin_t"),
        ("usr/bin/ssm-cli", "local_t"),
        ("usr/bin/ssm-session-logger", "ssm_logger_exec_t"),
        ("etc/amazon", "etc_t"),
        (
            "etc/systemd/system/amazon-ssm-agent.service",
            "systemd_unit_file_t",
        ),
        (
            "etc/systemd/system/multi-user.target.wants/amazon-ssm-agent.service",
            "systemd_unit_file_t",
        ),
        ("var/lib/amazon/ssm", "ssm_var_lib_t"),
        ("var/lib/ssmbake/receipt.json", "var_lib_t"),
    ];
    for (path, kind) in labels {
        assert_eq!(
            label(target.path(), path),
            format!("system_u:object_r:{kind}:s0"),
            "{path}"
        );
    }
    // One that stood there without a label is not ours to label.
    assert_eq!(label(target.path(), "var/lib/rpm/rpmdb.sqlite"), "");
    let script = "import os, sys; os.setxattr(sys.argv[1], 'security.selinux', b'own_t\\0')";
    let changed = target.path().join("usr/bin/ssm-session-worker");
    must(Command::new("python3").args(["-c", script]).arg(changed));
    let audited = outcome(ssmbake(&["audit", "--root"]).arg(target.path())).1;
    assert!(
        audited.contains("FAIL SSMB083") && audited.contains("`own_t`"),
        "{audited}"
    );
    must(&mut apply(target.path(), &mirror, V2));
    assert_eq!(label(target.path(), "usr/bin/ssm-session-worker"), "own_t");
}

#[test]
fn where_labels_cannot_be_known_the_first_boot_sets_them() {
    let mirror = rpm_mirror();
    let target = MiniTree::rhel();
    target.put("etc/selinux/config", "SELINUX=permissive\nSELINUXTYPE=targeted\n");
    let before = tree(target.path(), Times::Ignored);
    let plan = must(&mut ssmbake(&[
        "plan",
        "--root",
        target.arg(),
        "--region",
        "eu-west-1",
        "--version",
        V1,
    ]));
    let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(
        plan.contains("let the first boot set the SELinux labels"),
        "{plan}"
    );
    must(&mut apply(target.path(), &mirror, V1));
    assert!(target.path().join(".autorelabel").exists());
    must(&mut ssmbake(&["revert", "--root", target.arg()]));
    assert_eq!(
        diff(&before, &tree(target.path(), Times::Ignored)),
        Vec::<String>::new()
    );
    must(apply(target.path(), &mirror, V1).args(["--selinux", "ignore"]));
    assert!(!target.path().join(".autorelabel").exists());
    put_policy(&target);
    must(apply(target.path(), &mirror, V2).args(["--selinux", "relabel"]));
    assert!(target.path().join(".autorelabel").exists());
    let off = MiniTree::rhel();
    put_policy(&off);
    off.put("etc/selinux/config", "SELINUX=disabled\nSELINUXTYPE=targeted\n");
    must(&mut apply(off.path(), &mirror, V1));
    assert_eq!(label(off.path(), "usr/bin/ssm-cli"), "");
    fs::remove_file(off.path().join("etc/selinux/config")).expect("remove");
}
