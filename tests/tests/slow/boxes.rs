//! Vagrant brings up, bakes, audits and destroys a box of our own with the project's Vagrantfile. Needs root,
//! vagrant-libvirt and QEMU. All runs in namespaces of its own: daemons, bridges and mounts end with the test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use ssmbake_tests::machine::{COMMAND_LINE, Key, disk, machine};
use ssmbake_tests::world::{FOLDER, V1, deb, world};
use ssmbake_tests::{must, outcome, ssmbake_bin};

/// libvirt without a host: no cgroups, no other users, no log daemon.
const QEMU_CONF: &str = "user = \"root\"\ngroup = \"root\"\nsecurity_driver = \"none\"\nstdio_handler = \"file\"\n\
    cgroup_controllers = []\ndynamic_ownership = 0\n";

const SESSION: &str = r#"set -eu
ip link set lo up
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib/libvirt
mkdir -p /var/lib/libvirt/images
mount -t tmpfs tmpfs /etc/libvirt
cp "$HOME/qemu.conf" /etc/libvirt/
libvirtd >"$HOME/libvirtd.log" 2>&1 &
python3 -m http.server --directory "$HOME/mirror" 8080 >/dev/null 2>&1 &
for _ in 1 2 3 4 5 6 7 8 9; do
    ! virsh -q -c qemu:///system list >/dev/null 2>&1 || break
    sleep 1
done
cd "$HOME/work"
vagrant box add --name test/box ../test.box --provider libvirt
vagrant up box --provider libvirt
vagrant ssh box -c 'sudo ssmbake audit --no-network' | tee "$HOME/audit"
vagrant provision box --provision-with register
vagrant destroy --force box
virsh -q -c qemu:///system list --all >"$HOME/left"
"#;

/// A box whose kernel lies beside it: the tree has no boot loader.
fn make_box(dir: &Path, key: &Key) {
    let target = machine();
    let root = target.path();
    key.admit_vagrant(root);
    fs::copy(&world().keyring, root.join("etc/keyring.asc")).expect("copy");
    let image = disk(root, dir, 1500);
    let mut convert = Command::new("qemu-img");
    must(
        convert
            .args(["convert", "-O", "qcow2"])
            .arg(&image)
            .arg(dir.join("box.img")),
    );
    fs::remove_file(image).expect("remove");
    let metadata = r#"{"provider": "libvirt", "format": "qcow2", "virtual_size": 2}"#;
    fs::write(dir.join("metadata.json"), metadata).expect("file");
    let (key, place) = (key.path(), dir.display());
    let settings = format!(
        r#"Vagrant.configure("2") do |config|
  config.ssh.private_key_path = "{}"
  config.ssh.insert_key = false
  config.ssh.sudo_command = "sudo -E -H %c"
  config.vm.boot_timeout = 300
  config.vm.provider :libvirt do |libvirt|
    libvirt.driver = "qemu"
    libvirt.memory = 1024
    libvirt.kernel = "{place}/kernel"
    libvirt.initrd = "{place}/initrd"
    libvirt.cmd_line = "{COMMAND_LINE}"
  end
end
"#,
        key.display()
    );
    fs::write(dir.join("Vagrantfile"), settings).expect("file");
    let mut tar = Command::new("tar");
    must(tar.arg("-C").arg(dir).arg("-cf").arg(dir.join("test.box")).args([
        "metadata.json",
        "Vagrantfile",
        "box.img",
    ]));
}

/// The project's Vagrantfile and box table in a directory of their own, which Vagrant fills with its state.
fn workplace(dir: &Path) {
    fs::create_dir(dir.join("work")).expect("directory");
    for name in ["Vagrantfile", "boxes.yaml", "program.rb"] {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../vagrant")
            .join(name);
        fs::copy(source, dir.join("work").join(name)).expect("copy");
    }
}

fn vagrant(dir: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(dir.join("work"))
        .env_clear()
        .env(
            "PATH",
            format!("{}/bin:/usr/sbin:/usr/bin:/sbin:/bin", dir.display()),
        )
        .env("HOME", dir)
        .env("VAGRANT_HOME", dir.join("home"))
        .env("BOX", "test/box")
        .env("SSMBAKE", dir.join("ssmbake"));
    command
}

#[test]
fn the_vagrantfile_is_valid_and_its_boxes_are_systems_of_the_catalog() {
    let dir = tempfile::tempdir().expect("directory");
    workplace(dir.path());
    fs::write(dir.path().join("ssmbake"), "").expect("file");
    let said = must(vagrant(dir.path(), "vagrant").args(["validate", "--ignore-provider"]));
    assert!(String::from_utf8_lossy(&said.stdout).contains("validated successfully"));
    let table = fs::read_to_string(dir.path().join("work/boxes.yaml")).expect("table");
    let rows: Vec<&str> = table.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(rows.len() > 28, "{}", rows.len());
    for row in rows {
        let (id, name) = row.split_once(": ").expect("id: box");
        assert!(ssmbake_manifests::catalog().os(id).is_some(), "{id}");
        assert!(name.split('/').count() == 2, "{name}");
        assert!(!id.ends_with("-6"), "{id}: its kernel runs no present-day binary");
    }
}

#[test]
fn a_program_that_old_boxes_cannot_run_is_told_from_a_static_one() {
    let dir = tempfile::tempdir().expect("directory");
    workplace(dir.path());
    let work = dir.path().join("work");
    let ruby = |script: &str, file: &Path| {
        let mut ruby = Command::new("ruby");
        ruby.args(["-r", "./program.rb", "-e", script]).arg(file);
        outcome(ruby.current_dir(&work))
    };
    let is_static = |file: &Path| ruby("exit Program.static?(ARGV[0])", file).0 == 0;
    assert!(is_static(Path::new("/sbin/ldconfig")));
    assert!(!is_static(&ssmbake_bin()) && !is_static(&work.join("boxes.yaml")));
    fs::create_dir_all(dir.path().join("target/dist")).expect("directory");
    let print = || ruby("print Program.default", Path::new("-")).1;
    assert!(print().contains("ssmbake-VERSION-linux-"));
    let arch = std::env::consts::ARCH;
    let made = dir.path().join(format!("target/dist/ssmbake-0.1.0-linux-{arch}"));
    fs::write(made, "").expect("file");
    assert!(print().ends_with(&format!("/ssmbake-0.1.0-linux-{arch}")));
    // Without a binary nothing comes up, and it is said where one comes from.
    let missing = dir.path().join("nowhere");
    let mut up = vagrant(dir.path(), "vagrant");
    let (code, out, err) = outcome(up.args(["up", "box"]).env("SSMBAKE", &missing));
    assert!(code != 0 && err.contains("scripts/release build"), "{out}{err}");
}

#[test]
fn a_box_comes_up_baked_and_is_deregistered_when_destroyed() {
    let work = tempfile::tempdir().expect("directory");
    let (dir, key) = (work.path(), Key::new());
    make_box(dir, &key);
    workplace(dir);
    fs::write(dir.join("qemu.conf"), QEMU_CONF).expect("file");
    let folder = dir.join("mirror").join(V1).join(FOLDER);
    fs::create_dir_all(&folder).expect("directory");
    fs::copy(deb(V1), folder.join("amazon-ssm-agent.deb")).expect("copy");
    fs::write(
        folder.join("amazon-ssm-agent.deb.sig"),
        world().signer.sign(&deb(V1)),
    )
    .expect("signature");
    fs::create_dir(dir.join("bin")).expect("directory");
    let aws = dir.join("bin/aws");
    fs::write(&aws, "#!/bin/sh\necho \"$*\" >>\"$HOME/aws.log\"\n").expect("file");
    fs::set_permissions(&aws, fs::Permissions::from_mode(0o755)).expect("mode");
    // Symbols are nine tenths of a debug build.
    must(
        Command::new("strip")
            .arg("-o")
            .arg(dir.join("ssmbake"))
            .arg(ssmbake_bin()),
    );
    let mut session = vagrant(dir, "unshare");
    session
        .args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .args(["timeout", "600", "bash", "-c", SESSION])
        .env("SSMBAKE_MIRROR", "http://192.168.121.1:8080")
        .env("SSMBAKE_AGENT_VERSION", V1)
        .env("SSMBAKE_KEYRING", "/etc/keyring.asc")
        .env("SSMBAKE_REGION", "eu-west-1")
        .env("SSM_ACTIVATION_CODE", "ThisIsTheSecret")
        .env("SSM_ACTIVATION_ID", "6ff1a5a2-0000-4000-8000-000000000001");
    let (code, out, err) = outcome(&mut session);
    // The progress of copying the box.
    let out: String = out
        .lines()
        .filter(|line| !line.contains("Progress"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(code, 0, "{out}{err}");
    assert!(
        out.contains("verified") && !out.contains("ThisIsTheSecret"),
        "{out}"
    );
    let audit = fs::read_to_string(dir.join("audit")).expect("audit");
    assert!(audit.contains("SSMB001") && !audit.contains("FAIL"), "{audit}");
    let calls = fs::read_to_string(dir.join("aws.log")).expect("calls of aws");
    assert_eq!(
        calls,
        "ssm deregister-managed-instance --instance-id mi-0123456789abcdef0 --region eu-west-1\n"
    );
    assert_eq!(fs::read_to_string(dir.join("left")).expect("domains").trim(), "");
}
