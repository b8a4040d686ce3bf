//! Trees of other architectures: baked without running one program of theirs. Needs root, debootstrap and strace.

use std::fs;
use std::path::Path;
use std::process::Command;

use ssmbake_tests::tree::foreign;
use ssmbake_tests::world::{FOREIGN, V1, mirror_of, world};
use ssmbake_tests::{must, outcome, ssmbake};

#[test]
fn trees_of_other_architectures_are_baked_without_running_anything_of_theirs() {
    let work = tempfile::tempdir().expect("directory");
    for (arch, folder) in FOREIGN {
        println!("{arch}");
        let mirror = mirror_of(arch, folder);
        let target = foreign("bookworm", arch);
        let inner = ssmbake(&["apply", "--mirror", &mirror.url, "--version", V1]);
        let record = work.path().join(format!("{arch}.strace"));
        let mut traced = Command::new("strace");
        traced
            .args(["-f", "-e", "trace=execve,execveat", "-o"])
            .arg(&record)
            .arg(inner.get_program())
            .args(inner.get_args())
            .arg("--root")
            .arg(target.path())
            .arg("--keyring")
            .arg(&world().keyring)
            .env_clear()
            .env("PATH", "/usr/bin:/bin");
        must(&mut traced);
        let record = fs::read_to_string(&record).expect("record");
        let runs: Vec<&str> = record.lines().filter(|line| line.contains("exec")).collect();
        assert_eq!(runs.len(), 1, "only ssmbake itself: {runs:?}");
        let (code, out, err) = outcome(ssmbake(&["audit", "--root"]).arg(target.path()));
        assert_eq!(code, 0, "{out}{err}");
        host_tools_are_content(target.path(), arch);
        let trapped = must(Command::new("find").arg(target.path()).args(["-name", "trapped"]));
        assert_eq!(String::from_utf8_lossy(&trapped.stdout), "");
    }
}

fn host_tools_are_content(root: &Path, arch: &str) {
    let dpkg = |arguments: &[&str]| {
        let mut command = Command::new("dpkg");
        command.arg("--root").arg(root).args(arguments);
        String::from_utf8_lossy(&must(&mut command).stdout).into_owned()
    };
    // To the host's dpkg they are foreign.
    dpkg(&["--add-architecture", arch]);
    let status = dpkg(&["-s", "amazon-ssm-agent"]);
    assert!(
        status.contains("Status: install ok installed") && status.contains(&format!("Architecture: {arch}")),
        "{status}"
    );
    assert_eq!(dpkg(&["-V", "amazon-ssm-agent"]), "");
    assert_eq!(dpkg(&["--audit"]), "");
    let enabled = must(
        Command::new("systemctl")
            .arg("--root")
            .arg(root)
            .args(["is-enabled", "amazon-ssm-agent"]),
    );
    assert_eq!(String::from_utf8_lossy(&enabled.stdout).trim(), "enabled");
}
