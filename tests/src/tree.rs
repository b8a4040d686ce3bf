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
        let tree = Self::bare(id, name, version, arch);
        for dir in ["var/lib/dpkg/info", "var/lib/dpkg/updates"] {
            fs::create_dir_all(tree.path().join(dir)).expect("directory");
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

    /// Without any package database.
    pub fn bare(id: &str, name: &str, version: &str, arch: &str) -> Self {
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
            "var/lib",
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
        tree
    }

    /// Debian 12 on amd64.
    pub fn debian() -> Self {
        Self::new("debian", "Debian GNU/Linux", "12", "amd64")
    }

    /// Another tree like this one.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = Self {
            dir: tempfile::tempdir().expect("directory"),
        };
        must(
            Command::new("cp")
                .arg("-a")
                .arg(self.path().join("."))
                .arg(copy.path()),
        );
        copy
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

/// The header of a program.
pub fn elf(arch: &str) -> Vec<u8> {
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
    cached(&format!("{suite}-minbase"), |tree| {
        strap(tree, suite, "ca-certificates,openssl,systemd-sysv,dbus");
    })
}

/// debootstrap's smallest tree and these packages.
pub(crate) fn strap(tree: &Path, suite: &str, packages: &str) {
    must(
        Command::new("debootstrap")
            .args(["--variant=minbase", &format!("--include={packages}"), suite])
            .arg(tree)
            .arg(ARCHIVE),
    );
}

const ARCHIVE: &str = "http://deb.debian.org/debian";

/// A real tree of another architecture: every package unpacked and in dpkg's database, no script of it ever run. Its
/// programs are traps: run, they leave a file `trapped` beside them.
pub fn foreign(suite: &str, arch: &str) -> TempDir {
    cached(&format!("{suite}-{arch}-foreign"), |tree| {
        must(
            Command::new("debootstrap")
                .args([
                    "--foreign",
                    "--variant=minbase",
                    "--include=ca-certificates,systemd-sysv",
                ])
                .args(["--arch", arch, suite])
                .arg(tree)
                .arg(ARCHIVE),
        );
        must(Command::new("sh").args(["-c", UNPACK, "sh"]).arg(tree));
    })
}

/// What `dpkg --unpack` would record, without the maintainer scripts that cannot run here.
const UNPACK: &str = r#"set -e
cd "$1"
info=var/lib/dpkg/info
mkdir -p $info
: > var/lib/dpkg/status
echo 1 > $info/format
for deb in var/cache/apt/archives/*.deb; do
    name=$(dpkg-deb -f "$deb" Package)
    [ "$(dpkg-deb -f "$deb" Multi-Arch)" != same ] || name="$name:$(dpkg-deb -f "$deb" Architecture)"
    dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -f -
    dpkg-deb -e "$deb" control
    { echo /.; dpkg-deb --fsys-tarfile "$deb" | tar -t | sed -n 's,^\.\(/.*[^/]\)/*$,\1,p'; } > "$info/$name.list"
    { dpkg-deb -f "$deb" | sed '1aStatus: install ok installed'; echo; } >> var/lib/dpkg/status
    rm control/control
    for file in control/*; do [ ! -e "$file" ] || mv "$file" "$info/$name.${file##*/}"; done
    rm -rf control
done
rm -rf debootstrap var/cache/apt/archives/*.deb
for file in usr/bin/* usr/sbin/* usr/lib/systemd/systemd; do
    [ -f "$file" ] && [ ! -L "$file" ] || continue
    printf '#!/bin/sh\ntouch "${0%%/*}/trapped"\n' > "$file"
done
"#;

/// A copy of the tree that `make` makes in a new folder.
pub(crate) fn cached(name: &str, make: impl FnOnce(&Path)) -> TempDir {
    let cache = std::env::var_os("SSMBAKE_TREES")
        .map_or_else(|| std::env::temp_dir().join("ssmbake-trees"), PathBuf::from);
    fs::create_dir_all(&cache).expect("cache");
    let tarball = cache.join(format!("{name}.tar"));
    let lock = fs::File::create(cache.join(format!("{name}.lock"))).expect("lock");
    lock.lock().expect("lock");
    if !tarball.exists() {
        let work = tempfile::tempdir_in(&cache).expect("directory");
        let tree = work.path().join("tree");
        make(&tree);
        let new = cache.join(format!("{name}.new"));
        must(
            Command::new("tar")
                .arg("-C")
                .arg(tree)
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

/// A real tree with rpm, the usual shells and nothing that says which system it is: the caller does.
pub fn shells_and_rpm() -> TempDir {
    cached("bookworm-shells-rpm", |tree| {
        strap(tree, "bookworm", "rpm,busybox-static,bash,dash,wget");
    })
}
