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
        let mut command = Command::new(tool("ansible-playbook"));
        command
            .args(["--forks", "3", "-i"])
            .arg(self.dir.path().join("inventory"))
            .arg(playbook)
            .args(more)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("PWD", self.dir.path())
            .env("HOME", self.dir.path())
            .env("LC_ALL", "C.UTF-8");
        let (code, out, err) = outcome(&mut command);
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
