//! Baked rpm trees in the hands of the distributions' own tools, and of other architectures. Needs root, rpm, dnf,
//! createrepo_c and strace.

use std::fs;
use std::path::Path;
use std::process::Command;

use ssmbake_manifests::{Arch, catalog};
use ssmbake_tests::digest::{Times, diff, tree};
use ssmbake_tests::family::tree_of;
use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::rpm::{AgentRpm, bash_rpm, host_rpm, publish, rpm, rpm_mirror};
use ssmbake_tests::tree::{MiniTree, shells_and_rpm};
use ssmbake_tests::world::{V1, V2, apply, world};
use ssmbake_tests::{must, outcome, ssmbake};

fn query(root: &Path, arguments: &[&str]) -> String {
    String::from_utf8_lossy(&must(&mut host_rpm(root, arguments)).stdout)
        .trim()
        .to_owned()
}

/// dnf with one repository and its settings outside the tree.
fn dnf(root: &Path, repository: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("dnf");
    command
        .args([
            "-y",
            "--quiet",
            "--noplugins",
            "--releasever",
            "9",
            "--setopt=reposdir=/nonexistent",
            "--setopt=tsflags=noscripts",
        ])
        .arg("--installroot")
        .arg(root)
        .arg(format!("--repofrompath=local,file://{}", repository.display()))
        .args([
            "--setopt=local.gpgcheck=0",
            "--disablerepo=*",
            "--enablerepo=local",
        ])
        .args(arguments)
        .env("HOME", repository);
    command
}

#[test]
fn dnf_upgrades_and_removes_what_was_baked() {
    let target = MiniTree::rhel();
    must(&mut apply(target.path(), &rpm_mirror(), V1));
    let repository = tempfile::tempdir().expect("directory");
    // dnf asks this machine's rpm where a database is, and Debian's has a place of its own.
    fs::write(repository.path().join(".rpmmacros"), "%_dbpath /var/lib/rpm\n").expect("macros");
    fs::copy(rpm(V2), repository.path().join("agent.rpm")).expect("copy");
    must(Command::new("createrepo_c").arg("--quiet").arg(repository.path()));
    let macros = ["--setopt=cachedir=/var/cache/dnf"];
    let listed = must(&mut dnf(
        target.path(),
        repository.path(),
        &[&macros[..], &["list", "--installed"]].concat(),
    ));
    assert!(String::from_utf8_lossy(&listed.stdout).contains(V1), "{listed:?}");
    must(&mut dnf(
        target.path(),
        repository.path(),
        &["upgrade", "amazon-ssm-agent"],
    ));
    assert_eq!(
        query(target.path(), &["-q", "amazon-ssm-agent"]),
        format!("amazon-ssm-agent-{V2}-1.x86_64")
    );
    must(&mut dnf(
        target.path(),
        repository.path(),
        &["remove", "amazon-ssm-agent"],
    ));
    assert!(!target.path().join("usr/bin/ssm-cli").exists());
}

#[test]
fn rpm_trees_of_other_architectures_are_baked_without_running_anything() {
    let work = tempfile::tempdir().expect("directory");
    for (os, arch, rpm_arch) in [
        ("rhel-9", Arch::Arm64, "aarch64"),
        ("amazon-linux-1", Arch::I386, "i386"),
    ] {
        let os = catalog().os(os).expect("system");
        let mirror = Mirror::http();
        let package = AgentRpm {
            arch: rpm_arch.to_owned(),
            ..AgentRpm::new(V1)
        };
        let folder = os.package_folder(arch).expect("folder");
        publish(&mirror, V1, folder, &package.build(world().dir.path()));
        let target = tree_of(os, arch);
        let inner = apply(target.path(), &mirror, V1);
        let record = work.path().join(rpm_arch);
        let mut traced = Command::new("strace");
        traced
            .args(["-f", "-e", "trace=execve,execveat,chroot,pivot_root", "-o"])
            .arg(&record);
        traced
            .arg(inner.get_program())
            .args(inner.get_args())
            .env_clear()
            .env("PATH", "/usr/bin:/bin");
        must(&mut traced);
        let runs = fs::read_to_string(&record).expect("record");
        // This machine's rpm is asked which database it writes; nobody enters the tree.
        let is_allowed = |line: &str| {
            line.contains(&format!("execve(\"{}\"", inner.get_program().display()))
                || line.contains("[\"rpm\", \"--eval\", \"%{?_db_backend}\"]")
        };
        let calls = runs
            .lines()
            .filter(|line| ["exec", "root("].iter().any(|call| line.contains(call)));
        let others: Vec<&str> = calls.filter(|line| !is_allowed(line)).collect();
        assert_eq!(others, Vec::<&str>::new());
        let (code, out, err) = outcome(&mut ssmbake(&["audit", "--root", target.arg()]));
        assert_eq!(code, 0, "{out}{err}");
        let programs = ["usr/bin/amazon-ssm-agent", "usr/bin/ssm-cli"];
        assert!(programs.iter().all(|path| target.path().join(path).exists()));
    }
}

/// Every way into the database leads to the same record; the tree's own programs run only where that was asked for.
#[test]
fn each_way_of_registration_ends_in_the_same_record() {
    let mirror = rpm_mirror();
    for way in ["auto", "host-rpm", "target-rpm"] {
        let target = shells_and_rpm();
        dress_as_rhel(target.path());
        let before = tree(target.path(), Times::Ignored);
        must(apply(target.path(), &mirror, V1).args(["--registration", way]));
        assert!(!target.path().join("tmp/db").exists(), "{way}");
        let queried = must(&mut chroot(target.path(), &["rpm", "-q", "amazon-ssm-agent"]));
        assert_eq!(
            String::from_utf8_lossy(&queried.stdout).trim(),
            format!("amazon-ssm-agent-{V1}-1.x86_64"),
            "{way}"
        );
        must(&mut chroot(target.path(), &["rpm", "-V", "amazon-ssm-agent"]));
        let (code, out, err) = outcome(apply(target.path(), &mirror, V1).arg("--detailed-exitcode"));
        assert_eq!(code, 0, "{way}: {out}{err}");
        must(ssmbake(&["revert", "--root"]).arg(target.path()));
        let mut changed = diff(&before, &tree(target.path(), Times::Ignored));
        changed.retain(|line| !line.ends_with("-shm"));
        assert_eq!(changed, Vec::<String>::new(), "{way}");
    }
}

/// The first boot's job, run here as it would run there.
#[test]
fn the_first_boot_registers_what_was_baked() {
    let target = shells_and_rpm();
    dress_as_rhel(target.path());
    must(apply(target.path(), &rpm_mirror(), V1).args(["--registration", "first-boot"]));
    assert_eq!(
        outcome(&mut chroot(target.path(), &["rpm", "-q", "amazon-ssm-agent"])).0,
        1
    );
    let (code, out, err) = outcome(ssmbake(&["audit", "--root"]).arg(target.path()));
    assert!(code == 0 && out.contains("WARN SSMB012"), "{out}{err}");
    let units = Command::new("systemctl")
        .arg("--root")
        .arg(target.path())
        .args(["is-enabled", "ssmbake-register"])
        .output();
    assert_eq!(
        String::from_utf8_lossy(&units.expect("systemctl").stdout).trim(),
        "enabled"
    );
    must(&mut chroot(
        target.path(),
        &["sh", "/var/lib/ssmbake/register/run"],
    ));
    let queried = must(&mut chroot(target.path(), &["rpm", "-q", "amazon-ssm-agent"]));
    assert_eq!(
        String::from_utf8_lossy(&queried.stdout).trim(),
        format!("amazon-ssm-agent-{V1}-1.x86_64")
    );
    must(&mut chroot(target.path(), &["rpm", "-V", "amazon-ssm-agent"]));
    for path in [
        "var/lib/ssmbake/register",
        "etc/systemd/system/ssmbake-register.service",
    ] {
        assert!(!target.path().join(path).exists(), "{path}");
    }
    let (code, out, err) = outcome(ssmbake(&["audit", "--root"]).arg(target.path()));
    assert!(code == 0 && out.contains("pass SSMB012"), "{out}{err}");
}

fn chroot(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("chroot");
    command
        .arg(root)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C");
    command
}

/// A Debian tree that calls itself RHEL 9 and keeps rpm's database where RHEL does.
pub(crate) fn dress_as_rhel(root: &Path) {
    for path in ["etc/os-release", "etc/debian_version"] {
        fs::remove_file(root.join(path)).expect("remove");
    }
    fs::write(
        root.join("etc/os-release"),
        "NAME=\"Red Hat Enterprise Linux\"\nID=rhel\nVERSION_ID=9.4\n",
    )
    .expect("os-release");
    fs::create_dir_all(root.join("etc/rpm")).expect("directory");
    fs::write(root.join("etc/rpm/macros"), "%_dbpath /var/lib/rpm\n").expect("macros");
    fs::copy(bash_rpm(), root.join("bash.rpm")).expect("copy");
    must(&mut chroot(
        root,
        &["rpm", "-U", "--justdb", "--nodeps", "/bash.rpm"],
    ));
}
