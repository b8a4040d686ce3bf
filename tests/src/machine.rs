//! Machines: a tree with a kernel and an SSH server, and disk images of it that QEMU boots without KVM.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::must;
use crate::tree::{cached, strap};

/// Installed in the tree beyond what boots.
const PACKAGES: &str = "ca-certificates,openssl,systemd-sysv,dbus,openssh-server,sudo,linux-image-cloud-amd64,\
    systemd-resolved";
/// What QEMU passes to the kernel of a disk without a boot loader.
pub const COMMAND_LINE: &str = "root=/dev/vda rw console=ttyS0 quiet";

/// A bookworm that boots, configures its network by DHCP and lets root in by SSH with a key.
pub fn machine() -> TempDir {
    cached("bookworm-machine", |tree| {
        strap(tree, "bookworm", PACKAGES);
        let put = |path: &str, text: &str| fs::write(tree.join(path), text).expect("file");
        put(
            "etc/systemd/network/lan.network",
            "[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n",
        );
        put("etc/hostname", "machine\n");
        put("etc/fstab", "/dev/vda / ext4 rw 0 1\n");
        let mut enable = Command::new("systemctl");
        must(
            enable
                .arg("--root")
                .arg(tree)
                .args(["enable", "systemd-networkd", "ssh"]),
        );
    })
}

/// A bookworm with cloud-init, which looks for its data in the tree and leaves the network alone.
pub fn clouded() -> TempDir {
    cached("bookworm-cloud", |tree| {
        strap(tree, "bookworm", "ca-certificates,systemd-sysv,dbus,curl");
        // debootstrap does not resolve what cloud-init depends on; apt in the tree does, with this machine's network.
        let script = "cat /etc/resolv.conf >\"$0/etc/resolv.conf\"; cat /etc/hosts >\"$0/etc/hosts\"; \
            chroot \"$0\" sh -c 'apt-get -q update && apt-get -qy install --no-install-recommends cloud-init && apt-get clean'";
        let mut install = Command::new("sh");
        must(
            install
                .args(["-ec", script])
                .arg(tree)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        );
        let settings = "datasource_list: [NoCloud]\nnetwork: {config: disabled}\nlocale: C.UTF-8\n";
        fs::write(tree.join("etc/cloud/cloud.cfg.d/99-test.cfg"), settings).expect("file");
    })
}

/// A bookworm with an SSH server and Python, as Ansible wants its machines.
pub fn managed() -> TempDir {
    cached("bookworm-managed", |tree| {
        strap(
            tree,
            "bookworm",
            "ca-certificates,systemd-sysv,openssh-server,python3,sudo",
        );
    })
}

/// An SSH key of its own for every test.
#[derive(Debug)]
pub struct Key {
    dir: TempDir,
}

impl Key {
    /// A new one.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let mut keygen = Command::new("ssh-keygen");
        // Packer 1.6 and its time do not read the newer format.
        must(
            keygen
                .args(["-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f"])
                .arg(dir.path().join("key")),
        );
        Self { dir }
    }

    /// The private half.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("key")
    }

    /// Lets its owner in as root.
    pub fn admit(&self, root: &Path) {
        let home = root.join("root/.ssh");
        fs::create_dir_all(&home).expect("directory");
        fs::copy(self.dir.path().join("key.pub"), home.join("authorized_keys")).expect("copy");
    }
}

impl Key {
    /// Lets its owner in as the user `vagrant`, who may do everything.
    pub fn admit_vagrant(&self, root: &Path) {
        let script = "useradd -m -s /bin/bash vagrant && install -d -o vagrant -g vagrant /home/vagrant/.ssh \
            && echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/vagrant";
        must(Command::new("chroot").arg(root).args(["sh", "-c", script]));
        let public = self.dir.path().join("key.pub");
        fs::copy(public, root.join("home/vagrant/.ssh/authorized_keys")).expect("copy");
    }
}

impl Default for Key {
    fn default() -> Self {
        Self::new()
    }
}

/// A free TCP port of the loopback.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
    listener.local_addr().expect("address").port()
}

/// Waits until somebody listens on `port`.
pub fn await_port(port: u16, limit: Duration) {
    let deadline = Instant::now() + limit;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "nobody listens on port {port}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An SSH server whose world is the tree; gone, with its mounts, when dropped.
#[derive(Debug)]
pub struct SshServer {
    child: Child,
    /// Where it listens on the loopback.
    pub port: u16,
}

impl SshServer {
    /// Starts it in namespaces of its own, where /proc and /dev are mounted as image builders do.
    pub fn start(root: &Path) -> Self {
        let port = free_port();
        let script = "mount --bind /dev \"$0/dev\" && mount -t proc proc \"$0/proc\" && mkdir -p \"$0/run/sshd\" \
            && exec chroot \"$0\" /usr/sbin/sshd -D -e -p \"$1\" -o ListenAddress=127.0.0.1 -o UsePAM=no";
        let child = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script])
            .arg(root)
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sshd");
        await_port(port, Duration::from_secs(20));
        Self { child, port }
    }
}

impl SshServer {
    /// What Packer has to know of it.
    pub fn variables(&self, key: &Key) -> [String; 3] {
        [
            "host=127.0.0.1".to_owned(),
            format!("port={}", self.port),
            format!("ssh_private_key_file={}", key.path().display()),
        ]
    }
}

impl Drop for SshServer {
    fn drop(&mut self) {
        // It ends with its namespaces; one that is gone already is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A raw disk image of `size` megabytes with the tree as its only file system; kernel and initrd beside it.
pub fn disk(root: &Path, dir: &Path, size: u32) -> PathBuf {
    let image = dir.join("disk.raw");
    let mut format = Command::new("mke2fs");
    must(
        format
            .args(["-q", "-t", "ext4", "-d"])
            .arg(root)
            .arg(&image)
            .arg(format!("{size}M")),
    );
    for (link, name) in [("vmlinuz", "kernel"), ("initrd.img", "initrd")] {
        fs::copy(root.join(link), dir.join(name)).expect("copy");
    }
    image
}

/// A running virtual machine; switched off when dropped.
#[derive(Debug)]
pub struct Machine {
    child: Child,
    port: u16,
}

impl Machine {
    /// Boots `image` with the kernel and initrd of `dir`; what it writes is forgotten.
    pub fn boot(image: &Path, dir: &Path) -> Self {
        Self::boot_with(image, dir, &[])
    }

    /// As [`Machine::boot`], with more of QEMU's options.
    pub fn boot_with(image: &Path, dir: &Path, options: &[String]) -> Self {
        let port = free_port();
        let child = Command::new("qemu-system-x86_64")
            .args([
                "-accel",
                "tcg",
                "-m",
                "1024",
                "-nographic",
                "-snapshot",
                "-append",
                COMMAND_LINE,
            ])
            .arg("-kernel")
            .arg(dir.join("kernel"))
            .arg("-initrd")
            .arg(dir.join("initrd"))
            .arg("-drive")
            .arg(format!("file={},format=raw,if=virtio", image.display()))
            .args(["-device", "virtio-net,netdev=lan", "-netdev"])
            .arg(format!("user,id=lan,hostfwd=tcp:127.0.0.1:{port}-:22"))
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("qemu");
        Self { child, port }
    }

    /// What `script` prints there, once SSH answers.
    pub fn ssh(&self, key: &Key, script: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(240);
        loop {
            let mut ssh = Command::new("ssh");
            ssh.args([
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
            ])
            .args([
                "-o",
                "BatchMode=yes",
                "-o",
                "ConnectTimeout=5",
                "-o",
                "LogLevel=ERROR",
                "-i",
            ])
            .arg(key.path())
            .arg("-p")
            .arg(self.port.to_string())
            .args(["root@127.0.0.1", script]);
            let (code, out, err) = crate::outcome(&mut ssh);
            // 255 is ssh's own: no connection yet.
            if code != 255 {
                return out;
            }
            assert!(Instant::now() < deadline, "{err}");
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
