//! The command line: stored plans, help, unprivileged callers, systems with upstart.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests work on the build machine and may panic"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use ssmbake_tests::digest::{Times, diff, tree};
use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::package::AgentPackage;
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{FOLDER, V1, V2, apply, deb, mirror, refused, world};
use ssmbake_tests::{must, outcome, ssmbake};

#[test]
fn a_stored_plan_is_carried_out_or_refused() {
    let (target, mirror) = (MiniTree::debian(), mirror());
    let plan = target.path().with_extension("plan.json");
    let make = |version: &str| {
        must(
            ssmbake(&[
                "plan",
                "--root",
                target.arg(),
                "--mirror",
                &mirror.url,
                "--version",
                version,
            ])
            .args(["--set", "Agent.SelfUpdate=true", "--report"])
            .arg(&plan),
        );
    };
    let carry_out = || {
        let mut command = ssmbake(&["apply", "--root", target.arg()]);
        command
            .arg("--plan")
            .arg(&plan)
            .arg("--keyring")
            .arg(&world().keyring);
        command
    };
    make(V1);
    must(&mut carry_out());
    assert!(
        target
            .read("var/lib/dpkg/status")
            .contains(&format!("Version: {V1}-1"))
    );
    assert!(
        target
            .read("etc/amazon/ssm/amazon-ssm-agent.json")
            .contains("SelfUpdate")
    );
    // The tree is another now.
    let err = refused(&mut carry_out(), target.path(), 8);
    assert!(err.contains("changed since the plan was made"), "{err}");
    make(V2);
    must(&mut carry_out());
    fs::write(&plan, "{}").expect("plan");
    refused(&mut carry_out(), target.path(), 2);
    fs::remove_file(&plan).expect("plan");
    refused(&mut carry_out(), target.path(), 7);
}

#[test]
fn every_verb_has_help_with_its_flags_a_manual_and_completions() {
    let text =
        |arguments: &[&str]| String::from_utf8_lossy(&must(&mut ssmbake(arguments)).stdout).into_owned();
    let script = text(&["completions", "bash"]);
    for verb in ["detect", "plan", "apply", "audit", "revert", "regions"] {
        let help = text(&[verb, "--help"]);
        let manual = text(&["man", verb]);
        assert!(manual.contains(&format!(".TH ssmbake-{verb}")), "{manual}");
        let flags: Vec<&str> = help
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("--"))
            .map(|flag| flag.trim_end_matches([',', '.', '`', '>', ']']))
            .collect();
        assert!(
            flags.contains(&"root") && flags.contains(&"report"),
            "{verb}: {flags:?}"
        );
        for flag in flags {
            assert!(
                script.contains(&format!("--{flag}")),
                "{verb} --{flag} is not completed"
            );
            let escaped = flag.replace('-', "\\-");
            assert!(manual.contains(&escaped), "{verb} --{flag} is not in the manual");
        }
    }
    assert!(text(&["man"]).contains(".TH ssmbake "));
    assert_eq!(outcome(&mut ssmbake(&["man", "bake"])).0, 2);
    for shell in ["zsh", "fish", "powershell", "elvish"] {
        assert!(
            text(&["completions", shell]).contains("allow-downgrade"),
            "{shell}"
        );
    }
}

/// The same command in the name of nobody.
fn as_nobody(command: &Command) -> Command {
    let mut other = Command::new("setpriv");
    other
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .env("PATH", "/usr/bin:/bin");
    other
}

/// The program where anybody can run it.
fn public_binary(dir: &Path) -> std::path::PathBuf {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("mode");
    let place = dir.join("ssmbake");
    fs::copy(ssmbake_tests::ssmbake_bin(), &place).expect("copy");
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).expect("mode");
    place
}

#[test]
fn plans_need_no_rights_and_changes_do() {
    let (target, mirror) = (MiniTree::debian(), mirror());
    fs::set_permissions(target.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    let work = tempfile::tempdir().expect("directory");
    let program = public_binary(work.path());
    let keyring = work.path().join("keyring.asc");
    fs::copy(&world().keyring, &keyring).expect("copy");
    fs::set_permissions(&keyring, fs::Permissions::from_mode(0o644)).expect("mode");
    let run = |verb: &str| {
        let mut command = Command::new(&program);
        command.args([
            verb,
            "--root",
            target.arg(),
            "--mirror",
            &mirror.url,
            "--version",
            V1,
        ]);
        if verb == "apply" {
            command.arg("--keyring").arg(&keyring);
        }
        as_nobody(&command)
    };
    let before = tree(target.path(), Times::Count);
    must(&mut run("plan"));
    let err = refused(&mut run("apply"), target.path(), 7);
    assert!(err.contains("hint: "), "{err}");
    // What he may not read is named, and nothing is guessed instead.
    let status = target.path().join("var/lib/dpkg/status");
    fs::set_permissions(&status, fs::Permissions::from_mode(0o600)).expect("mode");
    let (code, out, err) = outcome(&mut run("plan"));
    assert_eq!(code, 7, "{out}{err}");
    assert!(
        err.contains("var/lib/dpkg/status") && err.contains("hint: "),
        "{err}"
    );
    fs::set_permissions(&status, fs::Permissions::from_mode(0o644)).expect("mode");
    assert_eq!(
        diff(&before, &tree(target.path(), Times::Count)),
        Vec::<String>::new()
    );
}

#[test]
fn systems_with_upstart_are_baked() {
    for version in ["12.04", "14.04"] {
        let (target, mirror) = (MiniTree::new("ubuntu", "Ubuntu", version, "amd64"), mirror());
        must(apply(target.path(), &mirror, V1).args(["--proxy", "http://proxy:3128"]));
        assert!(target.read("etc/init/amazon-ssm-agent.conf").contains("start on"));
        let proxy = target.read("etc/init/amazon-ssm-agent.override");
        assert!(proxy.contains("env http_proxy=http://proxy:3128"), "{proxy}");
        assert!(!target.path().join("etc/systemd").exists());
        let (code, out, err) = outcome(&mut ssmbake(&["audit", "--root", target.arg()]));
        assert_eq!(code, 0, "{out}{err}");
        let dpkg = must(Command::new("dpkg").args(["--root", target.arg(), "-V", "amazon-ssm-agent"]));
        assert_eq!(String::from_utf8_lossy(&dpkg.stdout), "");
        let manual = MiniTree::new("ubuntu", "Ubuntu", version, "amd64");
        manual.put("etc/init/amazon-ssm-agent.override", "manual\n");
        let err = refused(&mut apply(manual.path(), &mirror, V1), manual.path(), 8);
        assert!(err.contains("override"), "{err}");
    }
}

#[test]
fn all_architectures_of_a_release_are_baked() {
    for (arch, folder) in [
        ("arm64", "debian_arm64"),
        ("armhf", "debian_arm"),
        ("i386", "debian_386"),
    ] {
        let package = AgentPackage {
            arch: arch.to_owned(),
            ..AgentPackage::new(V1)
        };
        let deb = package.build(world().dir.path());
        let mirror = Mirror::http();
        mirror.publish(V1, folder, &deb, &world().signer.sign(&deb));
        let target = MiniTree::new("debian", "Debian GNU/Linux", "12", arch);
        must(&mut apply(target.path(), &mirror, V1));
        assert!(
            target
                .read("var/lib/dpkg/status")
                .contains(&format!("Architecture: {arch}\n"))
        );
    }
    // The folder of another architecture holds nothing for this tree.
    let mirror = Mirror::http();
    mirror.publish(V1, FOLDER, &deb(V1), &world().signer.sign(&deb(V1)));
    let target = MiniTree::new("debian", "Debian GNU/Linux", "12", "arm64");
    refused(&mut apply(target.path(), &mirror, V1), target.path(), 6);
}
