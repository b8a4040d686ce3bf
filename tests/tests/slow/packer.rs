//! Packer runs what `export --format packer…` prints. Needs root, packer and QEMU.

use std::fs;
use std::path::Path;
use std::process::Command;

use ssmbake_tests::machine::{COMMAND_LINE, Key, Machine, SshServer, disk, machine};
use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::package::Signer;
use ssmbake_tests::tree::debootstrapped;
use ssmbake_tests::world::{V1, mirror, world};
use ssmbake_tests::{must, outcome, sha256, ssmbake, ssmbake_bin};
use tempfile::TempDir;

use crate::snippets::binary;

/// A newcomer's directory: the program and the exported template.
fn workplace(format: &str, url: &str, keyring: &Path) -> TempDir {
    let dir = template(format, url, keyring, &[]);
    std::os::unix::fs::symlink(ssmbake_bin(), dir.path().join("ssmbake")).expect("link");
    dir
}

/// A directory with nothing but the exported template.
fn template(format: &str, url: &str, keyring: &Path, more: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().expect("directory");
    let mut export = ssmbake(&["export", "--format", format, "--mirror", url, "--version", V1]);
    export.args(["--region", "eu-west-1", "--keyring"]).arg(keyring);
    export.args(more);
    must(export.arg("--out").arg(dir.path().join("ssmbake.pkr.hcl")));
    dir
}

fn packer(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("packer");
    command
        .args(arguments)
        .current_dir(dir)
        .env_clear()
        .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", dir.display()))
        .env("HOME", dir)
        .env("TMPDIR", dir)
        .env("CHECKPOINT_DISABLE", "1");
    command
}

#[track_caller]
fn is_enabled(root: &Path) {
    let mut command = Command::new("systemctl");
    must(
        command
            .arg("--root")
            .arg(root)
            .args(["is-enabled", "amazon-ssm-agent"]),
    );
}

/// The signer's certificate, where the machine has it.
const KEYRING: &str = "/etc/keyring.asc";

/// The mirror as a machine in the same network namespace sees it.
fn beside(mirror: &Mirror) -> String {
    mirror.url.replace("localhost", "127.0.0.1")
}

fn build(variables: &[String]) -> Vec<&str> {
    let mut arguments = vec!["build", "-color=false"];
    variables.iter().for_each(|one| arguments.extend(["-var", one]));
    arguments.push("ssmbake.pkr.hcl");
    arguments
}

#[test]
fn templates_are_valid_and_formatted() {
    let (mirror, key) = (mirror(), Key::new());
    let key = format!("ssh_private_key_file={}", key.path().display());
    for (format, variables) in [
        ("packer", vec!["source_ami=ami-1"]),
        ("packer-surrogate", vec!["source_ami=ami-1", "snapshot_id=snap-1"]),
        ("packer-chroot", vec!["source_ami=ami-1"]),
        ("packer-qemu", vec!["image=ssmbake", &key]),
        ("packer-ssh", vec!["host=localhost", &key]),
        ("packer-tree", vec!["root=/mnt/image"]),
    ] {
        let keyring = Path::new("/k'\"e y/${x}{{y}}");
        let digest = "ab".repeat(32);
        let fetched = ["--binary-url", "https://a/${x}'{{y}}", "--binary-sha256", &digest];
        let dirs = [
            workplace(format, &beside(&mirror), keyring),
            template(format, &beside(&mirror), keyring, &fetched),
        ];
        for dir in dirs {
            let mut arguments = vec!["validate"];
            variables.iter().for_each(|one| arguments.extend(["-var", one]));
            must(packer(dir.path(), &arguments).arg("ssmbake.pkr.hcl"));
            must(&mut packer(
                dir.path(),
                &["fmt", "-check", "-diff", "ssmbake.pkr.hcl"],
            ));
        }
    }
}

#[test]
fn a_machine_is_baked_over_ssh_and_its_report_comes_back() {
    let (target, mirror, key) = (machine(), mirror(), Key::new());
    let root = target.path();
    fs::copy(&world().keyring, root.join("etc/keyring.asc")).expect("copy");
    key.admit(root);
    let server = SshServer::start(root);
    let dir = workplace("packer-ssh", &beside(&mirror), Path::new(KEYRING));
    let variables = server.variables(&key);
    let (code, out, err) = outcome(&mut packer(dir.path(), &build(&variables)));
    assert_eq!(code, 0, "{out}{err}");
    // Each line of ours arrived, and only the warning that we asked for as an error, which Packer prints in red.
    for line in ["verified", "install amazon-ssm-agent", "changed ", "SSMB006"] {
        let is_there = |text: &str| text.starts_with("    null.machine: ") && text.contains(line);
        assert!(out.lines().any(is_there), "{line}: {out}");
    }
    let red = out
        .lines()
        .filter(|line| line.contains("warning:") || line.contains("error:"));
    let red: Vec<&str> = red.collect();
    assert!(
        red.len() == 1 && red[0].contains("are accepted as well") && err.is_empty(),
        "{red:?}{err}"
    );
    is_enabled(root);
    let report = fs::read(dir.path().join("ssmbake-report.json")).expect("report");
    let report: serde_json::Value = serde_json::from_slice(&report).expect("JSON");
    let environment = &report["facts"]["environment"];
    assert_eq!(
        (&environment["place"]["value"], &environment["packer"]),
        (&"container".into(), &"null".into())
    );
    assert!(
        report["changed"].as_array().is_some_and(|paths| paths.len() > 10),
        "{report}"
    );
    let sbom = fs::read(dir.path().join("ssmbake-sbom.cdx.json")).expect("bill of materials");
    let sbom: serde_json::Value = serde_json::from_slice(&sbom).expect("JSON");
    assert_eq!(sbom["bomFormat"], "CycloneDX", "{sbom}");
    assert!(sbom.to_string().contains(V1), "{sbom}");
    assert_eq!(left_behind(root), Vec::<String>::new());
}

/// As amazon-ebssurrogate does with a volume, and with one file on this side: the machine fetches the program.
#[test]
fn a_mounted_tree_is_baked_over_ssh_by_a_program_that_is_fetched() {
    let (target, mirror, key) = (machine(), mirror(), Key::new());
    let root = target.path();
    let volume = debootstrapped("bookworm");
    fs::create_dir_all(root.join("mnt")).expect("directory");
    must(
        Command::new("cp")
            .arg("-a")
            .arg(volume.path())
            .arg(root.join("mnt/image")),
    );
    fs::copy(&world().keyring, root.join("etc/keyring.asc")).expect("copy");
    key.admit(root);
    // The tree has neither curl nor wget of its own.
    fs::copy("/bin/busybox", root.join("usr/bin/wget")).expect("copy");
    let bytes = fs::read(binary()).expect("binary");
    let (url, digest) = (format!("{}/ssmbake", beside(&mirror)), sha256(&bytes));
    mirror.put("ssmbake", bytes);
    let server = SshServer::start(root);
    let fetched = ["--binary-url", &url, "--binary-sha256", &digest];
    let dir = template("packer-ssh", &beside(&mirror), Path::new(KEYRING), &fetched);
    let mut variables = server.variables(&key).to_vec();
    variables.push("root=/mnt/image".to_owned());
    let (code, out, err) = outcome(&mut packer(dir.path(), &build(&variables)));
    assert_eq!(code, 0, "{out}{err}");
    is_enabled(&root.join("mnt/image"));
    assert!(!root.join("usr/bin/amazon-ssm-agent").exists());
    for file in ["ssmbake-report.json", "ssmbake-sbom.cdx.json"] {
        assert!(dir.path().join(file).exists(), "{file}");
    }
    assert_eq!(left_behind(root), Vec::<String>::new());
}

/// What a build has left in the machine.
fn left_behind(root: &Path) -> Vec<String> {
    let entries = ["tmp", "var/tmp", "usr/local/sbin"]
        .into_iter()
        .flat_map(|dir| fs::read_dir(root.join(dir)).expect("directory"));
    entries
        .map(|entry| entry.expect("entry").path().display().to_string())
        .collect()
}

#[test]
fn a_build_that_cannot_be_verified_fails_and_leaves_nothing() {
    let (target, mirror, key) = (machine(), mirror(), Key::new());
    let root = target.path();
    let stranger = Signer::new("rsa2048", None, "0");
    fs::write(root.join("etc/keyring.asc"), stranger.certificate()).expect("keyring");
    key.admit(root);
    let server = SshServer::start(root);
    let dir = workplace("packer-ssh", &beside(&mirror), Path::new(KEYRING));
    let variables = server.variables(&key);
    let (code, out, err) = outcome(&mut packer(dir.path(), &build(&variables)));
    assert!(code == 1 && out.contains("hint: "), "{out}{err}");
    assert!(format!("{out}{err}").contains("exit status: 5"), "{out}{err}");
    assert!(!root.join("usr/bin/amazon-ssm-agent").exists());
    // Packer's own script stays in a machine that it throws away.
    let left = left_behind(root);
    assert!(left.iter().all(|path| path.contains("/script_")), "{left:?}");
}

#[test]
fn a_tree_is_baked_by_shell_local() {
    let (target, mirror) = (debootstrapped("bookworm"), mirror());
    let dir = workplace("packer-tree", &beside(&mirror), &world().keyring);
    let variables = [
        format!("root={}", target.path().display()),
        "sbom=image.spdx.json".to_owned(),
    ];
    must(&mut packer(dir.path(), &build(&variables)));
    is_enabled(target.path());
    assert!(dir.path().join("ssmbake-report.json").exists());
    let sbom = fs::read_to_string(dir.path().join("image.spdx.json")).expect("bill of materials");
    assert!(sbom.contains("SPDX-2.3"), "{sbom}");
    // One file is enough where the program is fetched; another digest than its own is not.
    let bytes = fs::read(binary()).expect("binary");
    let (url, digest) = (format!("{}/ssmbake", beside(&mirror)), sha256(&bytes));
    mirror.put("ssmbake", bytes);
    for (digest, is_good) in [(digest, true), ("0".repeat(64), false)] {
        let fetched = ["--binary-url", &url, "--binary-sha256", &digest];
        let dir = template("packer-tree", &beside(&mirror), &world().keyring, &fetched);
        let (code, out, err) = outcome(&mut packer(dir.path(), &build(&variables)));
        assert_eq!(code == 0, is_good, "{out}{err}");
        assert_eq!(dir.path().join("ssmbake-report.json").exists(), is_good);
    }
}

#[test]
fn a_disk_image_is_baked_by_qemu_and_is_ready_when_it_boots() {
    let (target, mirror, key) = (machine(), mirror(), Key::new());
    let root = target.path();
    fs::copy(&world().keyring, root.join("etc/keyring.asc")).expect("copy");
    key.admit(root);
    // QEMU's own network has this machine's loopback at 10.0.2.2.
    let url = mirror.url.replace("localhost", "10.0.2.2");
    let dir = workplace("packer-qemu", &url, Path::new(KEYRING));
    let image = disk(root, dir.path(), 1500);
    let kernel = dir.path().display();
    let variables = [
        format!("image={}", image.display()),
        format!("ssh_private_key_file={}", key.path().display()),
        "format=raw".to_owned(),
        "accelerator=tcg".to_owned(),
        format!(
            r#"qemuargs=[["-kernel","{kernel}/kernel"],["-initrd","{kernel}/initrd"],["-append","{COMMAND_LINE}"]]"#
        ),
    ];
    let (code, out, err) = outcome(&mut packer(dir.path(), &build(&variables)));
    assert_eq!(code, 0, "{out}{err}");
    for file in ["ssmbake-report.json", "ssmbake-sbom.cdx.json"] {
        assert!(dir.path().join(file).exists(), "{file}");
    }
    let machine = Machine::boot(&dir.path().join("output/packer-image"), dir.path());
    let said = machine.ssh(&key, "systemctl is-enabled amazon-ssm-agent; systemctl is-active amazon-ssm-agent; dpkg --verify amazon-ssm-agent; ls /var/tmp /usr/local/sbin");
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.contains("systemd-private"))
        .collect();
    assert_eq!(
        lines,
        ["enabled", "active", "/usr/local/sbin:", "", "/var/tmp:"],
        "{said}"
    );
}
