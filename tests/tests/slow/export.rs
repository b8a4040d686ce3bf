//! Exported scripts on real trees, under every shell that old machines have. Needs root and debootstrap.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use ssmbake_tests::digest::{Times, diff, tree};
use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::package::AgentPackage;
use ssmbake_tests::rpm::{AgentRpm, bash_rpm};
use ssmbake_tests::tree::{debootstrapped, shells_and_rpm};
use ssmbake_tests::world::{V1, V2, world};
use ssmbake_tests::{must, outcome, sha256, ssmbake};

/// The last agent for EL 6.
const LAST: &str = "3.0.1479.0";
const SHELLS: [&[&str]; 3] = [&["dash"], &["busybox", "sh"], &["bash", "--posix"]];

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

/// Puts on the looks of CentOS 6: no os-release, a bundle that is a plain file, upstart, rpm's database where it was.
fn as_centos_6(root: &Path) {
    for path in ["etc/os-release", "usr/lib/os-release", "etc/debian_version"] {
        fs::remove_file(root.join(path)).expect("remove");
    }
    let put = |path: &str, text: &str| {
        let place = root.join(path);
        fs::create_dir_all(place.parent().expect("parent")).expect("directory");
        fs::write(place, text).expect("file");
    };
    put("etc/centos-release", "CentOS release 6.10 (Final)\n");
    symlink("centos-release", root.join("etc/redhat-release")).expect("link");
    put("etc/pki/tls/certs/ca-bundle.crt", "# no certificate yet\n");
    put("etc/rpm/macros", "%_dbpath /var/lib/rpm\n");
    put("etc/hosts", "127.0.0.1 localhost\n");
    put("bash.rpm", "");
    fs::copy(bash_rpm(), root.join("bash.rpm")).expect("copy");
    must(&mut chroot(
        root,
        &["rpm", "-U", "--justdb", "--nodeps", "/bash.rpm"],
    ));
}

fn export(arguments: &[&str], mirror: &Mirror, to: &Path) -> String {
    let mut command = ssmbake(&[
        "export",
        "--mirror",
        &mirror.url,
        "--set",
        "Agent.SelfUpdate=true",
        "--proxy",
        "http://proxy:3128",
        "--target",
        "hybrid",
        "--activation-source",
        "env",
        "--fast-connect",
    ]);
    command
        .args(arguments)
        .arg("--keyring")
        .arg(&world().keyring)
        .arg("--out")
        .arg(to);
    let (code, out, err) = outcome(&mut command);
    assert_eq!(code, 0, "{out}{err}");
    must(Command::new("shellcheck").args(["-s", "sh"]).arg(to));
    fs::read_to_string(to).expect("script")
}

fn centos_script(name: &str, mirror: &Mirror, package: &Path) -> PathBuf {
    let script = world().dir.path().join(name);
    let digest = sha256(&fs::read(package).expect("package"));
    let text = export(
        &["--os", "centos-6", "--arch", "amd64", "--sha256", &digest],
        mirror,
        &script,
    );
    assert!(text.contains(&digest) && text.contains(LAST));
    script
}

#[test]
fn old_systems_are_baked_by_a_script_under_every_shell() {
    let package = AgentRpm::new(LAST).build(world().dir.path());
    let mirror = Mirror::http();
    mirror.put(
        &format!("{LAST}/linux_amd64/amazon-ssm-agent.rpm"),
        fs::read(&package).expect("package"),
    );
    let script = centos_script("good.sh", &mirror, &package);
    for shell in SHELLS {
        let target = shells_and_rpm();
        as_centos_6(target.path());
        fs::copy(&script, target.path().join("install.sh")).expect("copy");
        let run = |arguments: &[&str]| chroot(target.path(), &[shell, &["/install.sh"], arguments].concat());
        let (code, out, err) = outcome(run(&[]).env("SSMBAKE_DETAILED_EXITCODE", "1"));
        assert_eq!(code, 20, "{shell:?}: {out}{err}");
        let queried = must(&mut chroot(target.path(), &["rpm", "-q", "amazon-ssm-agent"]));
        assert_eq!(
            String::from_utf8_lossy(&queried.stdout).trim(),
            format!("amazon-ssm-agent-{LAST}-1.x86_64")
        );
        must(&mut chroot(target.path(), &["rpm", "-V", "amazon-ssm-agent"]));
        let (code, out, err) = outcome(ssmbake(&["audit", "--root"]).arg(target.path()));
        assert_eq!(code, 0, "{shell:?}: {out}{err}");
        let job = fs::read_to_string(target.path().join("etc/init/ssmbake-first-boot.conf")).expect("job");
        assert!(
            job.contains("env https_proxy=") && job.contains("/usr/lib/ssmbake/first-boot"),
            "{job}"
        );
        let before = tree(target.path(), Times::Count);
        let (code, out, err) = outcome(run(&[]).env("SSMBAKE_DETAILED_EXITCODE", "1"));
        assert_eq!(code, 0, "{shell:?}: {out}{err}");
        assert!(out.contains("nothing changed"), "{out}");
        let mut changed = diff(&before, &tree(target.path(), Times::Count));
        // Where it works, and what rpm itself writes when it is asked.
        changed.retain(|line| line != "~ tmp" && !line.starts_with("~ var/lib/rpm/"));
        assert_eq!(changed, Vec::<String>::new(), "{shell:?}");
    }
}

#[test]
fn scripts_refuse_with_the_same_codes_and_write_nothing() {
    let package = AgentRpm::new(LAST).build(world().dir.path());
    let mirror = Mirror::http();
    let script = centos_script("refusing.sh", &mirror, &package);
    let newer = AgentRpm::new(V2).build(world().dir.path());
    let target = shells_and_rpm();
    let root = target.path();
    as_centos_6(root);
    for (from, to) in [
        (&script, "install.sh"),
        (&newer, "newer.rpm"),
        (&package, "agent.rpm"),
    ] {
        fs::copy(from, root.join(to)).expect("copy");
    }
    for dir in ["etc/init", "etc/amazon/ssm"] {
        fs::create_dir_all(root.join(dir)).expect("directory");
    }
    for shell in SHELLS {
        let before = tree(root, Times::Ignored);
        let refuses = |code: i32, arguments: &[&str], why: &str| {
            let (got, out, err) = outcome(&mut chroot(root, &[shell, &["/install.sh"], arguments].concat()));
            assert_eq!(got, code, "{shell:?}: {out}{err}");
            assert!(err.contains(why) && err.contains("hint: "), "{shell:?}: {err}");
        };
        // Another package, none on the server, none at the named place.
        refuses(5, &["/newer.rpm"], "SHA-256");
        refuses(6, &[], "cannot download");
        refuses(7, &["/none.rpm"], "cannot read");
        // Conflicts are found before the package is installed.
        for (path, text, why) in [
            ("etc/init/amazon-ssm-agent.override", "manual\n", "masked"),
            ("etc/amazon/ssm/amazon-ssm-agent.json", "{}\n", "cannot merge"),
        ] {
            let place = root.join(path);
            fs::write(&place, text).expect("file");
            refuses(8, &["/agent.rpm"], why);
            fs::remove_file(&place).expect("file");
        }
        fs::write(
            root.join("etc/centos-release"),
            "CentOS Linux release 7.9.2009 (Core)\n",
        )
        .expect("file");
        refuses(3, &["/agent.rpm"], "version 7.9.2009");
        fs::write(root.join("etc/centos-release"), "Fedora release 12\n").expect("file");
        refuses(3, &["/agent.rpm"], "Fedora release 12");
        fs::write(root.join("etc/centos-release"), "CentOS release 6.10 (Final)\n").expect("file");
        must(&mut chroot(
            root,
            &["rpm", "-U", "--justdb", "--noscripts", "/newer.rpm"],
        ));
        refuses(8, &["/agent.rpm"], "newer than");
        must(&mut chroot(
            root,
            &["rpm", "-e", "--justdb", "--noscripts", "amazon-ssm-agent"],
        ));
        let mut changed = diff(&before, &tree(root, Times::Ignored));
        changed.retain(|line| !line.starts_with("~ var/lib/rpm/"));
        assert_eq!(changed, Vec::<String>::new(), "{shell:?}");
    }
}

#[test]
fn the_debian_script_uses_dpkg_and_starts_nothing() {
    let package = AgentPackage::new(V1).build(world().dir.path());
    let mirror = Mirror::http();
    mirror.publish(V1, "debian_amd64", &package, &world().signer.sign(&package));
    let script = world().dir.path().join("debian-12.sh");
    // Fetched and verified here: the script carries the digest of the signed file.
    let text = export(
        &["--os", "debian-12", "--arch", "amd64", "--version", V1],
        &mirror,
        &script,
    );
    assert!(text.contains(&sha256(&fs::read(&package).expect("package"))));
    let target = debootstrapped("bookworm");
    fs::copy(&script, target.path().join("install.sh")).expect("copy");
    fs::copy(&package, target.path().join("agent.deb")).expect("copy");
    must(&mut chroot(target.path(), &["sh", "/install.sh", "/agent.deb"]));
    must(&mut chroot(target.path(), &["dpkg", "-V", "amazon-ssm-agent"]));
    let (code, out, err) = outcome(ssmbake(&["audit", "--root"]).arg(target.path()));
    assert_eq!(code, 0, "{out}{err}");
    let again = must(&mut chroot(target.path(), &["sh", "/install.sh", "/agent.deb"]));
    assert!(String::from_utf8_lossy(&again.stdout).contains("nothing changed"));
}
