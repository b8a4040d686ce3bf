//! scripts/release: packages of ssmbake itself, judged by dpkg and rpm, and a signed release that bootstrap.sh fetches.
//! Needs root and what scripts/setup installs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::tree::debootstrapped;
use ssmbake_tests::{must, outcome};
use tempfile::TempDir;

use crate::powershell::checked;
use crate::snippets::binary;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const EPOCH: &str = "1700000000";

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A directory for what is published.
fn release(dist: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command
        .arg(top().join("scripts/release"))
        .args(arguments)
        .env("SSMBAKE_DIST", dist)
        .env("SOURCE_DATE_EPOCH", EPOCH);
    command
}

fn file_with_end(dir: &Path, end: &str) -> PathBuf {
    let mut entries = fs::read_dir(dir)
        .expect("list")
        .flatten()
        .map(|entry| entry.path());
    entries
        .find(|path| path.to_string_lossy().ends_with(end))
        .unwrap_or_else(|| panic!("no {end}"))
}

/// Packages of the binary under test, twice.
fn packages() -> [TempDir; 2] {
    let built = tempfile::tempdir().expect("directory");
    let place = built.path().join("x86_64-unknown-linux-musl/dist");
    fs::create_dir_all(&place).expect("directory");
    [(), ()].map(|()| {
        fs::copy(binary(), place.join("ssmbake")).expect("copy");
        let dist = tempfile::tempdir().expect("directory");
        must(release(dist.path(), &["package", "x86_64"]).env("CARGO_TARGET_DIR", built.path()));
        dist
    })
}

#[test]
fn packages_install_what_a_user_expects() {
    let [one, other] = packages();
    for end in [".deb", ".rpm"] {
        let [one, other] =
            [&one, &other].map(|dist| fs::read(file_with_end(dist.path(), end)).expect("read"));
        assert!(one == other, "the {end} differs between two runs");
    }

    let tree = debootstrapped("bookworm");
    fs::copy(file_with_end(one.path(), ".deb"), tree.path().join("ssmbake.deb")).expect("copy");
    let inside = |words: &[&str]| must(Command::new("chroot").arg(tree.path()).args(words)).stdout;
    inside(&["dpkg", "-i", "/ssmbake.deb"]);
    assert_eq!(
        String::from_utf8_lossy(&inside(&["ssmbake", "--version"])),
        format!("ssmbake {VERSION}\n")
    );
    assert_eq!(String::from_utf8_lossy(&inside(&["dpkg", "-V", "ssmbake"])), "");
    inside(&[
        "bash",
        "-c",
        ". /usr/share/bash-completion/completions/ssmbake && complete -p ssmbake",
    ]);

    let dir = tempfile::tempdir().expect("directory");
    let rpm = || {
        let mut command = Command::new("rpm");
        command.arg("--root").arg(dir.path());
        command
    };
    must(
        rpm()
            .args(["--install", "--nodeps", "--noscripts"])
            .arg(file_with_end(one.path(), ".rpm")),
    );
    must(rpm().args(["--verify", "--nodeps", "ssmbake"]));
    for tree in [tree.path(), dir.path()] {
        for page in ["ssmbake.1.gz", "ssmbake-apply.1.gz", "ssmbake-audit.1.gz"] {
            let packed = tree.join("usr/share/man/man1").join(page);
            let text = must(Command::new("gzip").arg("-dc").arg(&packed)).stdout;
            assert!(String::from_utf8_lossy(&text).contains(".SH SYNOPSIS"), "{page}");
        }
        for path in [
            "usr/share/fish/vendor_completions.d/ssmbake.fish",
            "usr/share/doc/ssmbake/README.md",
        ] {
            assert!(tree.join(path).is_file(), "{path}");
        }
    }
}

#[test]
fn a_signed_release_is_fetched_and_checked() {
    let (dist, mirror) = (tempfile::tempdir().expect("directory"), Mirror::http());
    let key = dist.path().join("private.pem");
    must(Command::new("openssl").args(["genrsa", "-out"]).arg(&key));
    let name = format!("ssmbake-{VERSION}-linux-x86_64");
    fs::copy(binary(), dist.path().join(&name)).expect("copy");
    must(
        release(dist.path(), &["sign"])
            .arg(&key)
            .arg(mirror.url.replace("localhost", "127.0.0.1")),
    );
    let read = |name: &str| fs::read(dist.path().join(name)).expect("read");
    for name in [name.as_str(), "SHA256SUMS", "SHA256SUMS.sig", "VERSION"] {
        mirror.put(name, read(name));
    }
    let run = || {
        let mut command = Command::new("sh");
        command.arg(dist.path().join("bootstrap.sh"));
        outcome(
            command
                .args(["--", "--version"])
                .env_clear()
                .env("PATH", "/usr/bin:/bin"),
        )
    };
    let (code, out, err) = run();
    assert_eq!((code, out), (0, format!("ssmbake {VERSION}\n")), "{err}");

    // PowerShell cannot be had here: a parser reads the script, and the number in it is tried on the signature.
    must(checked().arg("release").arg(dist.path()));

    let mut list = read("SHA256SUMS");
    list[0] ^= 1;
    mirror.put("SHA256SUMS", list);
    let (code, _, err) = run();
    assert_eq!(code, 5, "{err}");
    assert!(err.contains("signature"), "{err}");
}

#[test]
fn only_rsa_keys_sign_what_old_windows_shall_check() {
    let dist = tempfile::tempdir().expect("directory");
    let key = dist.path().join("private.pem");
    let mut make = Command::new("openssl");
    make.args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"]);
    must(make.arg(&key));
    let (code, ..) = outcome(
        release(dist.path(), &["sign"])
            .arg(&key)
            .arg("https://example.com"),
    );
    assert_ne!(code, 0);
    assert!(!dist.path().join("SHA256SUMS.sig").exists());
}
