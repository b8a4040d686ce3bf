//! Trees: small synthetic ones in a millisecond, and real ones from debootstrap, cached.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::must;

/// A synthetic Debian-family tree.
#[derive(Debug)]
pub struct MiniTree {
    dir: TempDir,
}

impl MiniTree {
    /// `id` and `version` as in os-release, `arch` as dpkg names it.
    pub fn new(id: &str, name: &str, version: &str, arch: &str) -> Self {
        let tree = Self {
            dir: tempfile::tempdir().expect("directory"),
        };
        tree.put(
            "etc/os-release",
            &format!("NAME=\"{name}\"\nID={id}\nVERSION_ID=\"{version}\"\n"),
        );
        for dir in [
            "usr/bin",
            "usr/lib",
            "usr/sbin",
            "var/lib/dpkg/info",
            "var/lib/dpkg/updates",
            "etc/ssl/certs",
            "tmp",
        ] {
            fs::create_dir_all(tree.path().join(dir)).expect("directory");
        }
        for (link, target) in [("bin", "usr/bin"), ("lib", "usr/lib"), ("sbin", "usr/sbin")] {
            symlink(target, tree.path().join(link)).expect("link");
        }
        for program in ["sh", "bash", "ls", "cat"] {
            fs::write(tree.path().join("usr/bin").join(program), elf(arch)).expect("program");
        }
        tree.put(
            "var/lib/dpkg/status",
            &format!(
                "Package: libc6\nStatus: install ok installed\nArchitecture: {arch}\nVersion: 2.36-9\n\n"
            ),
        );
        tree.put("var/lib/dpkg/lock", "");
        tree.put("etc/ca-certificates.conf", "# none\n");
        tree.put("etc/ssl/certs/ca-certificates.crt", "");
        tree
    }

    /// Debian 12 on amd64.
    pub fn debian() -> Self {
        Self::new("debian", "Debian GNU/Linux", "12", "amd64")
    }

    /// Its top.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Its top as text.
    pub fn arg(&self) -> &str {
        self.path().to_str().expect("UTF-8")
    }

    /// Writes a file.
    pub fn put(&self, path: &str, text: &str) {
        let place = self.path().join(path);
        fs::create_dir_all(place.parent().expect("parent")).expect("directory");
        fs::write(place, text).expect("file");
    }

    /// Reads a file.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

fn elf(arch: &str) -> Vec<u8> {
    let (class, machine, flags): (u8, u16, u32) = match arch {
        "amd64" => (2, 62, 0),
        "i386" => (1, 3, 0),
        "arm64" => (2, 183, 0),
        "armhf" => (1, 40, 0x0500_0400),
        other => panic!("no ELF header for {other}"),
    };
    let mut bytes = vec![0; 64];
    bytes[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, 1]);
    bytes[18..20].copy_from_slice(&machine.to_le_bytes());
    bytes[0x24..0x28].copy_from_slice(&flags.to_le_bytes());
    bytes
}

/// A copy of a real tree, made by debootstrap once and cached as a tarball.
pub fn debootstrapped(suite: &str) -> TempDir {
    let cache = std::env::var_os("SSMBAKE_TREES")
        .map_or_else(|| std::env::temp_dir().join("ssmbake-trees"), PathBuf::from);
    fs::create_dir_all(&cache).expect("cache");
    let tarball = cache.join(format!("{suite}-minbase.tar"));
    let lock = fs::File::create(cache.join(format!("{suite}.lock"))).expect("lock");
    lock.lock().expect("lock");
    if !tarball.exists() {
        let work = tempfile::tempdir_in(&cache).expect("directory");
        must(
            Command::new("debootstrap")
                .args([
                    "--variant=minbase",
                    "--include=ca-certificates,openssl,systemd-sysv,dbus",
                    suite,
                ])
                .arg(work.path().join("tree"))
                .arg("http://deb.debian.org/debian"),
        );
        let new = cache.join(format!("{suite}.new"));
        must(
            Command::new("tar")
                .arg("-C")
                .arg(work.path().join("tree"))
                .arg("-cf")
                .arg(&new)
                .arg("."),
        );
        fs::rename(new, &tarball).expect("rename");
    }
    let tree = tempfile::tempdir_in(&cache).expect("directory");
    must(
        Command::new("tar")
            .arg("-C")
            .arg(tree.path())
            .args(["--numeric-owner", "-xf"])
            .arg(&tarball),
    );
    tree
}
