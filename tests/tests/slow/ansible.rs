//! Ansible bakes a fleet: the role, and the playbook that `export` prints. Needs root and what scripts/setup installs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use ssmbake_tests::machine::{Key, SshServer, managed};
use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::world::{V1, mirror, world};
use ssmbake_tests::{must, outcome, ssmbake, tool};
use tempfile::TempDir;

use crate::snippets::binary;

/// Three machines, the last of which cannot be baked: its system is none.
struct Fleet {
    dir: TempDir,
    trees: Vec<TempDir>,
    _servers: Vec<SshServer>,
    mirror: Mirror,
}

fn fleet() -> Fleet {
    let (dir, key, mirror) = (tempfile::tempdir().expect("directory"), Key::new(), mirror());
    let trees: Vec<TempDir> = (0..3).map(|_| managed()).collect();
    let mut servers = Vec::new();
    let key_copy = dir.path().join("key");
    fs::copy(key.path(), &key_copy).expect("copy");
    must(Command::new("chmod").arg("600").arg(&key_copy));
    let mut inventory = String::new();
    for (index, tree) in trees.iter().enumerate() {
        key.admit(tree.path());
        fs::copy(&world().keyring, tree.path().join("etc/keyring.asc")).expect("copy");
        let server = SshServer::start(tree.path());
        inventory.push_str(&format!(
            "vm{index} ansible_host=127.0.0.1 ansible_port={} ansible_user=root\n",
            server.port
        ));
        servers.push(server);
    }
    fs::write(
        trees[2].path().join("usr/lib/os-release"),
        "ID=haiku\nNAME=Haiku\n",
    )
    .expect("os-release");
    inventory.push_str(&format!(
        "[all:vars]\nansible_ssh_private_key_file={}\nansible_python_interpreter=/usr/bin/python3\n\
         ansible_ssh_common_args=-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null\n",
        key_copy.display()
    ));
    fs::write(dir.path().join("inventory"), inventory).expect("inventory");
    fs::copy(binary(), dir.path().join("ssmbake")).expect("copy");
    Fleet {
        dir,
        trees,
        _servers: servers,
        mirror,
    }
}

impl Fleet {
    fn options(&self) -> [String; 6] {
        let url = self.mirror.url.replace("localhost", "127.0.0.1");
        ["--mirror", &url, "--version", V1, "--keyring", "/etc/keyring.asc"].map(str::to_owned)
    }

    /// Runs a playbook; its exit code, the line of each machine in the recap, and the merged report.
    fn play(&self, playbook: &Path, more: &[&str]) -> (i32, String, Value) {
        let (code, out, err) = outcome(ansible(self.dir.path(), playbook).args(more));
        let report = fs::read(self.dir.path().join("ssmbake-report.json"))
            .unwrap_or_else(|error| panic!("{error}: {out}{err}"));
        (code, out, serde_json::from_slice(&report).expect("JSON"))
    }

    #[track_caller]
    fn check(&self, playbook: &Path, more: &[&str]) {
        let (code, out, report) = self.play(playbook, more);
        // One failed, the others were changed.
        assert_eq!(code, 2, "{out}");
        let exits = ["vm0", "vm1", "vm2"].map(|host| report[host]["exit"].as_i64());
        assert_eq!(exits, [Some(20), Some(20), Some(3)], "{out}{report:#}");
        assert!(
            report["vm2"]["error"]
                .as_str()
                .is_some_and(|error| error.contains("hint: ")),
            "{report:#}"
        );
        assert!(
            report["vm0"]["report"]["receipt"]["entries"].is_array(),
            "{report:#}"
        );
        for tree in &self.trees[..2] {
            let mut enabled = Command::new("systemctl");
            must(
                enabled
                    .arg("--root")
                    .arg(tree.path())
                    .args(["is-enabled", "amazon-ssm-agent"]),
            );
        }
        let (_, out, report) = self.play(playbook, more);
        for host in ["vm0", "vm1"] {
            assert_eq!(report[host]["exit"], 0, "{out}");
            let recap = out.lines().find(|line| line.starts_with(host)).expect("recap");
            assert!(recap.contains("changed=0"), "{recap}");
        }
        for tree in &self.trees {
            let left = fs::read_dir(tree.path().join("var/tmp"))
                .expect("directory")
                .count();
            assert_eq!(left, 0, "{out}");
        }
    }
}

/// What a fleet is told where no machine works: one is not there, on the other ssmbake ends with 3.
#[track_caller]
fn check_failures(dir: &Path, playbook: &Path, more: &[&str]) {
    let play = |limit: &[&str]| {
        fs::write(dir.join("ssmbake-report.json"), "old").expect("file");
        let mut command = ansible(dir, playbook);
        let (code, out, err) = outcome(command.args(more).args(limit));
        let text = fs::read(dir.join("ssmbake-report.json")).expect("report");
        let report: Value =
            serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
        // 4 is Ansible's for machines that were not reached.
        assert!(code == 2 || code == 4 || code == 6, "{code}: {out}{err}");
        report
    };
    let report = play(&[]);
    assert_eq!(report["bad"]["exit"], 3, "{report:#}");
    assert_eq!(report["bad"]["error"], "hint: none", "{report:#}");
    assert_eq!(report["far"]["exit"], -1, "{report:#}");
    let why = report["far"]["error"].as_str().unwrap_or_default();
    assert!(why.contains("connect"), "{report:#}");
    for host in ["far", "bad"] {
        let report = play(&["--limit", host]);
        let hosts: Vec<&String> = report.as_object().expect("object").keys().collect();
        assert_eq!(hosts, [host], "{report:#}");
    }
}

#[test]
fn a_fleet_in_which_all_fail_has_its_report() {
    let dir = tempfile::tempdir().expect("directory");
    let inventory = "far ansible_host=127.0.0.1 ansible_port=1\nbad ansible_connection=local\n";
    fs::write(dir.path().join("inventory"), inventory).expect("inventory");
    let program = dir.path().join("ssmbake");
    fs::write(&program, "#!/bin/sh\necho 'hint: none' >&2\nexit 3\n").expect("program");
    let playbook = dir.path().join("ssmbake.yml");
    let mut export = ssmbake(&["export", "--format", "ansible", "--out"]);
    must(export.arg(&playbook));
    check_failures(dir.path(), &playbook, &[]);
    let site = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/ansible/site.yml");
    let binary = format!("ssmbake_binary={}", program.display());
    check_failures(dir.path(), &site, &["--extra-vars", &binary]);
}

fn ansible(dir: &Path, playbook: &Path) -> Command {
    let mut command = Command::new(tool("ansible-playbook"));
    command
        .args(["--forks", "3", "-i"])
        .arg(dir.join("inventory"))
        .arg(playbook)
        .current_dir(dir)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("PWD", dir)
        .env("HOME", dir)
        .env("LC_ALL", "C.UTF-8");
    command
}

#[test]
fn the_exported_playbook_bakes_a_fleet() {
    let fleet = fleet();
    let playbook: PathBuf = fleet.dir.path().join("ssmbake.yml");
    let mut export = ssmbake(&["export", "--format", "ansible", "--out"]);
    must(export.arg(&playbook).args(fleet.options()));
    fleet.check(&playbook, &[]);
}

#[test]
fn the_role_bakes_a_fleet() {
    let fleet = fleet();
    let site = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/ansible/site.yml");
    let options = serde_json::json!({ "ssmbake_options": fleet.options(), "ssmbake_binary": fleet.dir.path().join("ssmbake") });
    fleet.check(&site, &["--extra-vars", &options.to_string()]);
}
