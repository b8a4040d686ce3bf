//! The command line: stored plans, help, unprivileged callers, systems with upstart.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use ssmbake_tests::digest::{Times, diff, tree};
use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{FOLDER, FOREIGN, V1, V2, apply, deb, mirror, mirror_of, refused, world};
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
fn the_systems_are_listed_with_what_works_there() {
    let text = must(&mut ssmbake(&["regions", "--systems"])).stdout;
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text
        .lines()
        .find(|line| line.starts_with("fedora "))
        .expect("Fedora");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words, ["fedora", "no", "yes", "no", "Fedora", "Linux"]);
    let json = must(&mut ssmbake(&["regions", "--systems", "--output", "json"])).stdout;
    let rows: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(rows.as_array().map(Vec::len), Some(text.lines().count() - 1));
    assert_eq!(rows[0]["capabilities"]["session-manager"], "yes");
    assert_eq!(outcome(&mut ssmbake(&["regions", "--systems", "eu-west-1"])).0, 2);
}

#[test]
fn every_verb_has_help_with_its_flags_a_manual_and_completions() {
    let text =
        |arguments: &[&str]| String::from_utf8_lossy(&must(&mut ssmbake(arguments)).stdout).into_owned();
    let script = text(&["completions", "bash"]);
    for verb in ["detect", "plan", "apply", "audit", "revert", "regions", "export"] {
        let help = text(&[verb, "--help"]);
        let manual = text(&["man", verb]);
        assert!(manual.contains(&format!(".TH ssmbake-{verb}")), "{manual}");
        let flags: Vec<&str> = help
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("--"))
            .map(|flag| flag.trim_end_matches([',', '.', ':', '`', '>', ']']))
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
fn nothing_is_started_in_a_tree_that_does_not_run() {
    let (target, mirror) = (MiniTree::debian(), mirror());
    let err = refused(apply(target.path(), &mirror, V1).arg("--start"), target.path(), 2);
    assert!(err.contains("hint: leave out --start"), "{err}");
    // The word that changes less holds, and the command line holds against a variable.
    must(apply(target.path(), &mirror, V1).args(["--start", "--no-start"]));
    let mut command = apply(target.path(), &mirror, V1);
    must(command.arg("--no-start").env("SSMBAKE_START", "true"));
    let mut audit = ssmbake(&["audit", "--no-network", "--root"]);
    must(audit.arg(target.path()).env("SSMBAKE_NETWORK", "true"));
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
    for (arch, folder) in FOREIGN {
        let mirror = mirror_of(arch, folder);
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

/// The plan as JSON, with `arguments` or variables.
fn planned(target: &MiniTree, arguments: &[&str], variables: &[(&str, &str)]) -> serde_json::Value {
    let mut command = ssmbake(&["plan", "--root", target.arg(), "--output", "json"]);
    command.args(arguments).envs(variables.iter().copied());
    serde_json::from_slice(&must(&mut command).stdout).expect("JSON")
}

#[test]
fn every_option_of_a_plan_changes_it_and_has_a_variable() {
    let target = MiniTree::debian();
    let region = ["--region", "eu-west-1"];
    let plain = planned(&target, &region, &[]);
    let ca = world().dir.path().join("extra.pem");
    fs::write(&ca, Mirror::https().ca_pem.expect("CA")).expect("CA");
    let ca = ca.to_str().expect("UTF-8");
    let cases = [
        ("--region", "us-gov-west-1", "SSMBAKE_REGION", "us-gov-west-1"),
        ("--version", V1, "SSMBAKE_AGENT_VERSION", V1),
        ("--source", "global", "SSMBAKE_SOURCE", "//s3."),
        (
            "--mirror",
            "https://m.example",
            "SSMBAKE_MIRROR",
            "https://m.example",
        ),
        ("--target", "hybrid", "SSMBAKE_TARGET", "hybrid"),
        ("--roots", "legacy", "SSMBAKE_ROOTS", "Starfield Class 2"),
        ("--extra-ca", ca, "SSMBAKE_EXTRA_CA", "ssmbake test CA"),
        (
            "--endpoint",
            "ssm=vpce.example",
            "SSMBAKE_ENDPOINT",
            "vpce.example",
        ),
        ("--proxy", "http://proxy:1", "SSMBAKE_PROXY", "http://proxy:1"),
        ("--set", "Agent.SelfUpdate=true", "SSMBAKE_SET", "SelfUpdate"),
    ];
    for (flag, value, variable, trace) in cases {
        let arguments = if flag == "--region" {
            vec![flag, value]
        } else {
            [&region[..], &[flag, value]].concat()
        };
        let by_flag = planned(&target, &arguments, &[]);
        assert_ne!(by_flag, plain, "{flag}");
        assert!(by_flag.to_string().contains(trace), "{flag}: {by_flag}");
        let rest = if flag == "--region" { &[][..] } else { &region[..] };
        assert_eq!(
            planned(&target, rest, &[(variable, value)]),
            by_flag,
            "{variable}"
        );
    }
    let none = planned(&target, &["--region", "eu-west-1", "--roots", "none"], &[]);
    assert!(!none.to_string().contains("BEGIN CERTIFICATE"));
    let fips = planned(&target, &["--region", "us-east-1", "--fips"], &[]);
    assert!(fips.to_string().contains("ssm-fips.us-east-1"), "{fips}");
    let direct = planned(
        &target,
        &[
            "--region",
            "eu-west-1",
            "--proxy",
            "http://p:1",
            "--no-proxy",
            "x.example",
        ],
        &[],
    );
    assert!(direct.to_string().contains("x.example"));
}

#[test]
fn output_is_as_asked() {
    let target = MiniTree::debian();
    let out = |arguments: &[&str]| {
        let (code, out, err) = outcome(ssmbake(&["detect", "--root", target.arg()]).args(arguments));
        assert_eq!(code, 0, "{err}");
        out
    };
    let human = out(&[]);
    assert!(human.contains("Debian") && !human.contains('{'), "{human}");
    assert!(out(&["--verbose"]).contains("os-release"));
    assert_eq!(out(&["--quiet"]), "");
    let json: serde_json::Value = serde_json::from_str(&out(&["--output", "json"])).expect("JSON");
    assert_eq!(json["arch"]["value"], "amd64");
    for line in out(&["--output", "jsonl"]).lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("JSON");
    }
    let report = target.path().with_extension("report.json");
    out(&["--report", report.to_str().expect("UTF-8")]);
    let stored: serde_json::Value =
        serde_json::from_slice(&fs::read(&report).expect("report")).expect("JSON");
    assert_eq!(stored, json);
    fs::remove_file(report).expect("report");
}

#[test]
fn stores_that_only_the_tree_can_update_are_named() {
    let target = MiniTree::debian();
    target.put("etc/ca-certificates/update.d/jks-keystore", "#!/bin/sh\n");
    let hook = target.path().join("etc/ca-certificates/update.d/jks-keystore");
    let plan = || {
        outcome(&mut ssmbake(&[
            "plan",
            "--root",
            target.arg(),
            "--region",
            "eu-west-1",
        ]))
        .2
    };
    assert!(!plan().contains("jks-keystore"));
    fs::set_permissions(hook, fs::Permissions::from_mode(0o755)).expect("mode");
    assert!(plan().contains("jks-keystore"), "{}", plan());
}

#[test]
fn snippets_are_refused_when_something_is_missing_or_odd() {
    let digest = "ab".repeat(32);
    for (arguments, says) in [
        (vec!["--format", "packer"], "a region is needed"),
        (vec!["--format", "cloud-init"], "must get ssmbake from somewhere"),
        (
            vec!["--format", "cloud-init", "--binary-url", "https://a/b"],
            "--binary-sha256",
        ),
        (
            vec![
                "--format",
                "preseed",
                "--binary-url",
                "ftp://a/b",
                "--binary-sha256",
                &digest,
            ],
            "no http or https URL",
        ),
        (
            vec![
                "--format",
                "preseed",
                "--binary-url",
                "https://a/b",
                "--binary-sha256",
                "ab",
            ],
            "no SHA-256",
        ),
        (
            vec!["--format", "mkosi", "--keyring", "a\nb"],
            "control characters",
        ),
        (
            vec!["--format", "mkosi", "--set", "Nothing.Known"],
            "Nothing.Known",
        ),
        (vec!["--format", "packer", "--region", "nowhere"], "nowhere"),
        (vec!["--format", "iam"], "a region is needed"),
        (
            vec!["--format", "iam", "--target", "hybrid", "--region", "eu-west-1"],
            "--account NUMBER",
        ),
        (
            vec!["--format", "iam", "--region", "eu-west-1", "--account", "12"],
            "no account number",
        ),
        (
            vec![
                "--format",
                "iam",
                "--region",
                "eu-west-1",
                "--also-region",
                "cn-north-1",
            ],
            "different partitions",
        ),
        (
            vec![
                "--format",
                "iam",
                "--region",
                "eu-west-1",
                "--output-bucket",
                "s3://x",
            ],
            "no bucket name",
        ),
        (
            vec![
                "--format",
                "cloudformation",
                "--region",
                "eu-west-1",
                "--also-region",
                "eu-west-2",
            ],
            "a stack is in one region",
        ),
    ] {
        let mut command = ssmbake(&["export"]);
        let (code, out, err) = outcome(command.args(&arguments));
        let expected = if says == "nowhere" { 4 } else { 2 };
        assert!(
            code == expected && err.contains(says) && out.is_empty(),
            "{arguments:?}: {code}: {err}"
        );
    }
    for (format, misplaced) in [
        ("packer", "--detailed-exitcode"),
        ("ansible", "--detailed-exitcode"),
        ("cloud-init", "--detailed-exitcode"),
        ("sh", "--detailed-exitcode"),
        ("packer", "--start"),
        ("packer-tree", "--start"),
        ("kickstart", "--start"),
        ("mkosi", "--start"),
        ("imagebuilder", "--start"),
        ("sh", "--start"),
        ("iam", "--fips"),
        ("cloudformation", "--proxy=http://proxy:1"),
        ("cloudformation", "--account=123456789012"),
        ("iam", "--binary-sha256=zz"),
        ("mkosi", "--binary-sha256=zz"),
        ("packer", "--os=debian-12"),
        ("sh", "--output-bucket=my-bucket"),
        ("powershell", "--sbom=image.cdx.json"),
    ] {
        let mut command = ssmbake(&["export", "--region", "eu-west-1", "--format", format, misplaced]);
        if misplaced.starts_with("--binary") {
            command.arg("--binary-url=https://a/b");
        }
        if misplaced.starts_with("--os") {
            command.arg("--arch=amd64");
        }
        let (code, out, err) = outcome(&mut command);
        assert!(
            code == 2 && out.is_empty() && err.contains("has no place in this format"),
            "{format} {misplaced}: {code}: {err}"
        );
    }
    for (format, taken) in [("ansible", "--start"), ("vagrant", "--start")] {
        let mut command = ssmbake(&["export", "--format", format, taken, "--region", "eu-west-1"]);
        let (code, out, err) = outcome(&mut command);
        assert!(code == 0 && out.contains("start"), "{format}: {err}");
    }
    // The region of the environment goes with it, and so do options that came from there.
    let mut command = ssmbake(&["export", "--format", "mkosi"]);
    let command = command
        .env("AWS_REGION", "eu-west-1")
        .env("SSMBAKE_ROOTS", "legacy")
        .env("SSMBAKE_FIPS", "true");
    let (code, out, err) = outcome(command);
    assert!(
        code == 0 && out.contains("--region eu-west-1 --roots legacy --fips"),
        "{out}{err}"
    );
    // What a variable switches off, or the command line, is no option.
    let off = ["SSMBAKE_START", "SSMBAKE_FIPS", "SSMBAKE_DETAILED_EXITCODE"];
    let mut command = ssmbake(&["export", "--format", "mkosi", "--region", "eu-west-1"]);
    let (code, out, _) = outcome(command.envs(off.map(|name| (name, "false"))));
    assert!(code == 0 && out.ends_with("--region eu-west-1\n"), "{out}");
    // Variables are for all verbs: what a format has no use for is left out.
    let (code, out, _) = outcome(command.envs([("SSMBAKE_START", "true"), ("SSMBAKE_OUTPUT_BUCKET", "b")]));
    assert!(code == 0 && out.ends_with("--region eu-west-1\n"), "{out}");
    let mut command = ssmbake(&["export", "--format", "ansible", "--no-start"]);
    let (code, out, err) = outcome(command.env("SSMBAKE_START", "true"));
    assert!(code == 0 && out.contains(r#"["--no-start"]"#), "{out}{err}");
}

#[test]
fn documents_that_cannot_be_written_are_told_before_the_change_or_called_what_they_are() {
    let dir = tempfile::tempdir().expect("directory");
    let target = MiniTree::debian();
    let before = tree(target.path(), Times::Count);
    let nowhere = dir.path().join("none/report.json");
    for option in ["--report", "--sbom", "--provenance"] {
        let mut command = apply(target.path(), &mirror(), V1);
        let (code, out, err) = outcome(command.arg(option).arg(&nowhere));
        assert_eq!(code, 7, "{out}{err}");
        assert_eq!(
            diff(&before, &tree(target.path(), Times::Count)),
            Vec::<String>::new()
        );
    }
    // A place that promised more than it holds.
    for full in ["--sbom", "--report"] {
        let target = MiniTree::debian();
        let mut command = apply(target.path(), &mirror(), V1);
        let (code, out, err) = outcome(command.args([full, "/dev/full"]));
        assert_eq!(code, 13, "{out}{err}");
        assert!(
            err.contains("all is done, but") && err.contains("No space left"),
            "{err}"
        );
        must(ssmbake(&["audit", "--root"]).arg(target.path()));
        // Nothing is to be done any more, and so nothing was.
        let mut again = apply(target.path(), &mirror(), V1);
        assert_eq!(outcome(again.args([full, "/dev/full"])).0, 7);
    }
}

#[test]
fn files_of_the_user_are_replaced_as_a_whole() {
    let dir = tempfile::tempdir().expect("directory");
    let at = |name: &str| dir.path().join(name);
    let export = |to: &Path| {
        let mut command = ssmbake(&["export", "--format", "iam", "--region", "eu-west-1", "--out"]);
        outcome(command.arg(to))
    };
    // Pipes and devices are written to, and stay what they are.
    let (code, out, err) = export(Path::new("/dev/stdout"));
    assert!(code == 0 && out.contains("\"Policy\""), "{out}{err}");
    let (code, _, err) = export(Path::new("/dev/full"));
    assert!(code == 7 && err.contains("No space left"), "{err}");
    // A link stays a link, and a mode a mode.
    fs::write(at("role.json"), "old").expect("file");
    fs::set_permissions(at("role.json"), fs::Permissions::from_mode(0o600)).expect("mode");
    std::os::unix::fs::symlink("role.json", at("link.json")).expect("link");
    assert_eq!(export(&at("link.json")).0, 0);
    assert!(at("link.json").is_symlink());
    let meta = fs::metadata(at("role.json")).expect("file");
    assert!(meta.len() > 1000 && meta.permissions().mode() & 0o777 == 0o600);
    assert_eq!(export(&at("none/role.json")).0, 7);
    assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 2);
}
