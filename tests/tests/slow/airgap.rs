//! Bundles where no network is: no system call asks for one, and memory stays flat however large the bundle. Needs root and
//! strace.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

use ssmbake_tests::tree::debootstrapped;
use ssmbake_tests::world::{choice, mirror, world};
use ssmbake_tests::{must, outcome, ssmbake, ssmbake_bin};
use tempfile::TempDir;

fn bundle(dir: &TempDir) -> PathBuf {
    let (lock, out) = (dir.path().join("lock"), dir.path().join("bundle"));
    let mirror = mirror();
    let mut make = ssmbake(&["lock", "--keyring"]);
    make.arg(&world().keyring).args(choice(&mirror));
    must(make.arg("--out").arg(&lock));
    let mut create = ssmbake(&["bundle", "create", "--lock"]);
    create.arg(&lock).arg("--keyring").arg(&world().keyring);
    must(create.arg("--out").arg(&out));
    out
}

/// `apply --bundle` behind the words of another program.
fn apply(before: &[&str], bundle: &Path, root: &Path) -> Command {
    let mut command = Command::new(before[0]);
    command
        .args(&before[1..])
        .arg(ssmbake_bin())
        .args(["apply", "--region", "eu-west-1", "--bundle"])
        .arg(bundle)
        .arg("--keyring")
        .arg(&world().keyring)
        .arg("--root")
        .arg(root)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

#[test]
fn a_bundle_asks_for_no_network() {
    let dir = tempfile::tempdir().expect("directory");
    let (bundle, tree, trace) = (bundle(&dir), debootstrapped("bookworm"), dir.path().join("trace"));
    let words = [
        "unshare",
        "--net",
        "strace",
        "-f",
        "-e",
        "trace=%network",
        "-o",
        trace.to_str().expect("UTF-8"),
    ];
    must(&mut apply(&words, &bundle, tree.path()));
    let text = fs::read_to_string(&trace).expect("trace");
    let calls: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("+++ exited") && !line.contains("--- SIG"))
        .collect();
    assert_eq!(calls, Vec::<&str>::new());
    let mut audit = ssmbake(&["audit", "--root"]);
    let (code, out, err) = outcome(audit.arg(tree.path()));
    assert_eq!(code, 0, "{out}{err}");
}

#[test]
fn memory_stays_flat_for_a_large_bundle() {
    let dir = tempfile::tempdir().expect("directory");
    let (bundle, tree) = (bundle(&dir), debootstrapped("bookworm"));
    // Another package of two gigabytes, most of it a hole, in front of the end of the archive.
    let size = 2_u64 << 30;
    let file = OpenOptions::new().write(true).open(&bundle).expect("bundle");
    let end = file.metadata().expect("size").len() - 1024;
    let mut header = tar::Header::new_gnu();
    header
        .set_path("packages/9.9.9.9/debian_arm64/amazon-ssm-agent.deb")
        .expect("name");
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    std::os::unix::fs::FileExt::write_all_at(&file, header.as_bytes(), end).expect("header");
    file.set_len(end + 512 + size + 1024).expect("size");
    must(&mut apply(&LIMIT, &bundle, tree.path()));
    // Every byte of it is hashed before the entry that nobody listed is told.
    let (code, out, err) = outcome(&mut verify(&bundle));
    assert!(code == 5 && err.contains("SHA256SUMS"), "{code} {out}{err}");
}

/// Kilobytes of address space; the program takes 60 MB of it before it does anything.
const LIMIT: [&str; 3] = ["sh", "-c", "ulimit -v 300000; exec \"$0\" \"$@\""];

fn verify(bundle: &Path) -> Command {
    let mut command = Command::new(LIMIT[0]);
    command
        .args(&LIMIT[1..])
        .arg(ssmbake_bin())
        .args(["bundle", "verify"])
        .arg(bundle)
        .arg("--keyring")
        .arg(&world().keyring)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

#[test]
fn an_entry_that_describes_the_next_one_takes_no_memory() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("bundle");
    for kind in [b'L', b'K', b'x', b'g', b'S'] {
        let mut header = tar::Header::new_gnu();
        header.set_path("packages/long").expect("name");
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(3 << 29);
        header.set_cksum();
        // All but the header is a hole.
        fs::write(&path, header.as_bytes()).expect("bundle");
        let file = OpenOptions::new().write(true).open(&path).expect("bundle");
        file.set_len((3 << 29) + 2048).expect("size");
        let (code, out, err) = outcome(&mut verify(&path));
        assert_eq!(code, 5, "{}: {out}{err}", kind as char);
        assert!(err.contains("it has an entry"), "{err}");
    }
}
