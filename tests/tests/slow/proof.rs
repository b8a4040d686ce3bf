//! Ready at first boot, proved by booting: images are made, copied, booted with a fake AWS around them, sealed, and searched
//! to the last block. Needs root and what scripts/setup installs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ssmbake_tests::machine::{COMMAND_LINE, Key, Machine, clouded, disk, machine};
use ssmbake_tests::plant::{SECRET, plant};
use ssmbake_tests::tree::debootstrapped;
use ssmbake_tests::world::{V1, apply, mirror};
use ssmbake_tests::{must, outcome, ssmbake};
use tempfile::TempDir;

use crate::prerequisites::Network;

const ID: &str = "11111111-2222-3333-4444-555555555555";
/// Ends the machine once the agent has said who it is.
const END: &str = "[Unit]\nAfter=amazon-ssm-agent.service ssmbake-first-boot.service\n[Service]\nType=oneshot\n\
    ExecStart=/bin/sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do test -e /var/lib/amazon-test/identity && break; sleep 1; done; \
    systemctl is-active amazon-ssm-agent >/var/lib/amazon-test/active; \
    systemctl show -p Wants amazon-ssm-agent >/var/lib/amazon-test/wants; systemctl --no-block poweroff'\n\
    [Install]\nWantedBy=multi-user.target\n";

/// A disk image of a baked tree, sealed before it was made.
struct Disk {
    _dir: TempDir,
    image: PathBuf,
}

/// Where a disk is mounted; unmounted when dropped.
struct Mounted {
    dir: TempDir,
}

impl Mounted {
    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path().join(path)).unwrap_or_default()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        must(Command::new("umount").arg(self.dir.path()));
    }
}

impl Disk {
    /// Of a directory.
    fn of(tree: &Path) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let image = dir.path().join("disk");
        let mut format = Command::new("mke2fs");
        format.args(["-q", "-t", "ext4", "-d"]).arg(tree);
        must(format.arg(&image).arg("1G"));
        Self { _dir: dir, image }
    }

    fn copy(&self) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let image = dir.path().join("disk");
        must(
            Command::new("cp")
                .arg("--sparse=always")
                .arg(&self.image)
                .arg(&image),
        );
        Self { _dir: dir, image }
    }

    fn mount(&self) -> Mounted {
        let dir = tempfile::tempdir().expect("directory");
        must(
            Command::new("mount")
                .args(["-o", "loop"])
                .arg(&self.image)
                .arg(dir.path()),
        );
        Mounted { dir }
    }

    /// Boots it until it switches itself off.
    fn boot(&self, network: &Network) {
        let mounted = self.mount();
        let mut boot = network.enter();
        boot.args([
            "timeout",
            "180",
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
        ])
        .args(["--resolv-conf=off", "--boot", "-D"])
        .arg(mounted.path());
        let (_, out, err) = outcome(&mut boot);
        assert!(
            mounted.path().join("var/lib/amazon-test/active").exists(),
            "{out}{err}"
        );
    }

    /// Whether a block of it holds `text`, also one that belongs to no file.
    fn holds(&self, text: &str) -> bool {
        outcome(Command::new("grep").args(["-qaF", text]).arg(&self.image)).0 == 0
    }
}

/// A baked and sealed image that reaches the fake AWS.
fn image(network: &Network, options: &[&str]) -> Disk {
    let (tree, mirror) = (clouded(), mirror());
    let mut bake = apply(tree.path(), &mirror, V1);
    bake.args(["--region", "eu-west-1", "--extra-ca"])
        .arg(network.ca());
    must(bake.args(options));
    let put = |path: &str, text: &str| fs::write(tree.path().join(path), text).expect("file");
    put(
        "etc/hosts",
        "127.0.0.1 localhost\n203.0.113.5 ssm.eu-west-1.amazonaws.com\n",
    );
    put("etc/amazon-test-endpoint", "");
    put("etc/systemd/system/test-end.service", END);
    let mut enable = Command::new("systemctl");
    must(enable.arg("--root").arg(tree.path()).args(["enable", "test-end"]));
    must(ssmbake(&["seal", "--profile", "image", "--root"]).arg(tree.path()));
    let (_, audited, _) = outcome(ssmbake(&["audit", "--profile", "image", "--root"]).arg(tree.path()));
    assert!(!audited.contains("FAIL"), "{audited}");
    Disk::of(tree.path())
}

#[test]
fn clones_register_each_for_itself_and_once() {
    let network = Network::start();
    let source = "file:/var/lib/activation.json";
    let golden = image(&network, &["--target", "hybrid", "--activation-source", source]);
    let clones = [golden.copy(), golden.copy()];
    let codes = ["code-of-the-first-clone", "code-of-the-second-clone"];
    for (clone, code) in clones.iter().zip(codes) {
        fs::write(
            clone.mount().path().join("var/lib/activation.json"),
            format!("{{\"ActivationId\": \"{ID}\", \"ActivationCode\": \"{code}\"}}"),
        )
        .expect("activation");
        assert!(clone.holds(code));
        clone.boot(&network);
        // Neither in a file nor in a free block.
        assert!(!clone.holds(code), "{code}");
    }
    let expected: Vec<String> = codes
        .iter()
        .zip(1..)
        .map(|(code, number)| format!("{ID} {code} mi-{number:017x}"))
        .collect();
    assert_eq!(network.registrations(), expected);
    clones[0].boot(&network);
    assert_eq!(network.registrations(), expected);
    let ids = clones.each_ref().map(|clone| {
        let mounted = clone.mount();
        assert_eq!(mounted.read("var/lib/amazon-test/active").trim(), "active");
        assert_eq!(
            mounted.read("var/lib/amazon-test/identity").trim(),
            "eu-west-1 ssm.eu-west-1.amazonaws.com"
        );
        mounted.read("etc/machine-id")
    });
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn an_instance_comes_up_and_its_image_is_clean_once_it_is_sealed() {
    let network = Network::start();
    let endpoint = "ssm=vpce-1.ssm.eu-west-1.vpce.amazonaws.com";
    let disk = image(&network, &["--fast-connect", "--endpoint", endpoint]);
    disk.boot(&network);
    let identity = "private key of an instance";
    assert!(disk.holds(identity));
    let mounted = disk.mount();
    assert_eq!(mounted.read("var/lib/amazon-test/active").trim(), "active");
    assert_eq!(
        mounted.read("var/lib/amazon-test/identity").trim(),
        "eu-west-1 vpce-1.ssm.eu-west-1.vpce.amazonaws.com"
    );
    assert!(
        mounted
            .read("var/lib/amazon-test/wants")
            .contains("network-online.target")
    );
    // What the session left is found, and goes.
    let audit = || outcome(ssmbake(&["audit", "--profile", "image", "--root"]).arg(mounted.path()));
    assert_eq!(audit().0, 9);
    must(ssmbake(&["seal", "--profile", "image", "--root"]).arg(mounted.path()));
    let (code, out, _) = audit();
    assert_eq!(code, 0, "{out}");
    drop(mounted);
    assert!(!disk.holds(identity));
}

#[test]
fn nothing_sealed_is_left_in_any_block() {
    let tree = debootstrapped("bookworm");
    let samples = plant(tree.path());
    let disk = Disk::of(tree.path());
    // Nobody sealed a copy by copying it.
    assert!(disk.holds(SECRET));
    let mounted = disk.mount();
    must(ssmbake(&["seal", "--profile", "image", "--root"]).arg(mounted.path()));
    drop(mounted);
    for (number, sample) in samples.iter().enumerate() {
        // What anybody may fetch is no secret, and not overwritten.
        let is_left = disk.holds(&format!("{SECRET} <{number}>"));
        assert!(!is_left || sample.class == "package-caches", "{sample:?}");
    }
}

/// Forgets the registration and looks again, at this source alone.
const AGAIN: &str = r#"
set -e
systemctl stop amazon-ssm-agent
cat /var/lib/ssmbake/first-boot.json
for source in fw_cfg cmdline volume:SSM; do
    rm -rf /var/lib/amazon/ssm /var/lib/ssmbake/machine-id
    sed "s/^sources=.*/sources='$source'/" /usr/lib/ssmbake/first-boot >/run/first-boot
    sh /run/first-boot >/dev/null
    cat /var/lib/ssmbake/first-boot.json
done
"#;

#[test]
fn a_virtual_machine_registers_by_its_firmware_its_command_line_and_a_seed() {
    let (tree, mirror, key) = (machine(), mirror(), Key::new());
    let mut bake = apply(tree.path(), &mirror, V1);
    bake.args(["--target", "hybrid", "--region", "eu-west-1"]);
    must(bake.args(["--activation-source", "smbios,fw-cfg,cmdline,volume"]));
    key.admit(tree.path());
    let dir = tempfile::tempdir().expect("directory");
    let image = disk(tree.path(), dir.path(), 1500);
    let seed = dir.path().join("seed");
    fs::create_dir(&seed).expect("directory");
    let activation = |code: &str| format!("ssm-activation:{ID}:a-code-of-the-{code}");
    fs::write(seed.join("ssm-activation"), activation("seed-volume")).expect("seed");
    let drive = dir.path().join("seed.img");
    let mut format = Command::new("mke2fs");
    format.args(["-q", "-t", "ext4", "-L", "SSM", "-d"]).arg(&seed);
    must(format.arg(&drive).arg("4M"));
    let options = [
        "-smbios".to_owned(),
        format!("type=11,value={}", activation("oem-string")),
        "-fw_cfg".to_owned(),
        format!(
            "name=opt/com.amazonaws.ssm/activation,string={}",
            activation("firmware")
        ),
        "-drive".to_owned(),
        format!("file={},format=raw,if=virtio", drive.display()),
        "-append".to_owned(),
        format!("{COMMAND_LINE} {}", activation("command-line")),
    ];
    let said = Machine::boot_with(&image, dir.path(), &options).ssh(&key, AGAIN);
    let reports: Vec<serde_json::Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {said}")))
        .collect();
    let told: Vec<_> = reports
        .iter()
        .map(|report| (report["state"].as_str(), report["source"].as_str()))
        .collect();
    let expected = ["smbios", "fw_cfg", "cmdline", "volume:SSM"];
    assert_eq!(
        told,
        expected.map(|source| (Some("registered"), Some(source))),
        "{said}"
    );
}
