//! Locks, bundles and keys: what is pinned is what is installed, or nothing is.

use std::fs;
use std::path::{Path, PathBuf};

use ssmbake_tests::digest::{Times, diff, tree};
use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::package::AgentPackage;
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{FOLDER, V1, V2, deb, mirror, refused, world};
use ssmbake_tests::{must, outcome, sha256, ssmbake};
use tempfile::TempDir;

/// A lock of the mirror's V1 for Debian 12.
fn lock(mirror: &Mirror, dir: &Path) -> PathBuf {
    let path = dir.join("ssmbake.lock");
    let mut command = ssmbake(&["lock", "--os", "debian-12", "--arch", "amd64", "--version", V1]);
    command
        .args(["--mirror", &mirror.url, "--keyring"])
        .arg(&world().keyring);
    must(command.arg("--out").arg(&path));
    path
}

fn bundle(lock: &Path, out: &Path) -> PathBuf {
    let mut command = ssmbake(&["bundle", "create", "--lock"]);
    command.arg(lock).arg("--keyring").arg(&world().keyring);
    must(command.arg("--out").arg(out));
    out.to_owned()
}

fn apply(tree: &MiniTree, words: &[&str], file: &Path) -> std::process::Command {
    let mut command = ssmbake(&["apply", "--region", "eu-west-1", "--root"]);
    command.arg(tree.path()).args(words).arg(file);
    command.arg("--keyring").arg(&world().keyring);
    command
}

fn place() -> TempDir {
    tempfile::tempdir().expect("directory")
}

#[test]
fn a_lock_says_which_package_and_who_signed_it() {
    let (mirror, dir) = (mirror(), place());
    let path = lock(&mirror, dir.path());
    let text = fs::read_to_string(&path).expect("lock");
    let package = fs::read(deb(V1)).expect("package");
    for part in [
        "schema = 1\n",
        "version = \"3.3.1957.0\"\n",
        "folder = \"debian_amd64\"\n",
        "systems = [\"debian-12\"]\n",
        &format!("size = {}\n", package.len()),
        &format!("sha256 = \"{}\"\n", sha256(&package)),
        &format!("url = \"{}/{V1}/{FOLDER}/amazon-ssm-agent.deb\"\n", mirror.url),
        &format!("key = \"{}\"\n", world().signer.fingerprint()),
        "at = \"20",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    lock(&mirror, dir.path());
    assert_eq!(fs::read_to_string(&path).expect("lock"), text);
    let left: Vec<_> = fs::read_dir(dir.path()).expect("list").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn systems_that_share_a_package_share_its_entry() {
    let (mirror, dir) = (mirror(), place());
    let path = dir.path().join("lock");
    let mut command = ssmbake(&[
        "lock",
        "--os",
        "ubuntu-22.04,debian-12,debian-12",
        "--arch",
        "amd64",
    ]);
    command
        .args(["--mirror", &mirror.url, "--keyring"])
        .arg(&world().keyring);
    must(command.arg("--out").arg(&path));
    let text = fs::read_to_string(&path).expect("lock");
    assert_eq!(text.matches("[[package]]").count(), 1, "{text}");
    // The newest, and in order.
    assert!(
        text.contains(V2) && text.contains("systems = [\"debian-12\", \"ubuntu-22.04\"]"),
        "{text}"
    );
    for (words, code) in [
        (&["--os", "debian-99"][..], 2),
        (&["--arch", "amd64"], 2),
        (&["--os", "debian-12", "--arch", "vax"], 2),
        (&["--os", "amazon-linux-2023", "--arch", "armhf"], 3),
        (&["--os", "centos-6", "--arch", "amd64"], 5),
        (&["--os", "debian-12", "--arch", "arm64"], 6),
    ] {
        let mut command = ssmbake(&["lock", "--mirror", &mirror.url, "--version", V1, "--out"]);
        let (got, _, err) = outcome(command.arg(dir.path().join("other")).args(words));
        assert_eq!(got, code, "{words:?}: {err}");
        assert!(err.contains("hint: "), "{err}");
    }
    assert!(!dir.path().join("other").exists());
}

#[test]
fn apply_takes_what_is_locked_and_nothing_else() {
    let (mirror, dir) = (mirror(), place());
    let path = lock(&mirror, dir.path());
    let tree = MiniTree::debian();
    must(&mut apply(&tree, &["--lock"], &path));
    assert!(tree.read("var/lib/dpkg/status").contains("Version: 3.3.1957.0-1"));
    let (code, out, err) = outcome(&mut apply(&tree, &["--detailed-exitcode", "--lock"], &path));
    assert_eq!(code, 0, "{out}{err}");

    // The same version with another content, signed as well as the first.
    let other = AgentPackage {
        unit_comment: "# another\n".to_owned(),
        ..AgentPackage::new(V1)
    }
    .build(dir.path());
    mirror.publish(V1, FOLDER, &other, &world().signer.sign(&other));
    let tree = MiniTree::debian();
    let err = refused(&mut apply(&tree, &["--lock"], &path), tree.path(), 5);
    assert!(err.contains("SHA-256"), "{err}");
    // The same package with another signature.
    mirror.publish(V1, FOLDER, &deb(V1), &world().signer.sign(&deb(V1)));
    let text = fs::read_to_string(&path).expect("lock");
    let signed = |at: &str| {
        let (before, after) = text.split_once("\nat = \"").expect("time");
        let (_, after) = after.split_once('"').expect("end");
        format!("{before}\nat = \"{at}\"{after}")
    };
    fs::write(&path, signed("2020-01-01T00:00:00Z")).expect("lock");
    let err = refused(&mut apply(&tree, &["--lock"], &path), tree.path(), 5);
    assert!(err.contains("2020-01-01T00:00:00Z"), "{err}");

    for (from, to, code) in [
        ("debian-12", "debian-11", 5),
        ("schema = 1", "schema = 2", 2),
        ("folder = \"debian_amd64\"", "folder = \"../x\"", 2),
        ("[[package]]", "[[parcel]]", 2),
    ] {
        fs::write(&path, text.replace(from, to)).expect("lock");
        refused(&mut apply(&tree, &["--lock"], &path), tree.path(), code);
    }
    fs::write(&path, &text).expect("lock");
    refused(
        &mut apply(&tree, &["--version", V1, "--lock"], &path),
        tree.path(),
        2,
    );
    let mut plan = ssmbake(&["plan", "--region", "eu-west-1", "--root"]);
    let out = must(plan.arg(tree.path()).arg("--lock").arg(&path)).stdout;
    assert!(String::from_utf8_lossy(&out).contains(&format!("{V1} (amd64) from {}", mirror.url)));
}

#[test]
fn a_lock_is_compared_with_what_has_happened_since() {
    let (mirror, dir) = (mirror(), place());
    let path = lock(&mirror, dir.path());
    let check = |words: &[&str], keyring: bool| {
        let mut command = ssmbake(&["lock", "--check", "--at", "2026-11-26T00:00:00Z", "--out"]);
        command.arg(&path).args(words);
        if keyring {
            command.arg("--keyring").arg(&world().keyring);
        }
        outcome(&mut command)
    };
    mirror.put("latest/VERSION", format!("{V1}\n"));
    let (code, out, err) = check(&[], true);
    assert_eq!(
        (code, out.as_str()),
        (0, "nothing has happened since the lock was made\n"),
        "{err}"
    );
    mirror.put("latest/VERSION", format!("{V2}\n"));
    let (code, out, _) = check(&[], true);
    assert!(
        code == 0 && out.contains(&format!("WARN {V1} debian_amd64: {V2} is newer")),
        "{out}"
    );
    let (code, out, _) = check(&["--no-network"], true);
    assert!(code == 0 && out.contains("nothing has happened"), "{out}");
    let (code, out, _) = check(&["--no-network"], false);
    assert!(code == 9 && out.contains("is not in the key ring"), "{out}");
    let text = fs::read_to_string(&path).expect("lock");
    fs::write(&path, text.replace(V1, "3.2.1000.0")).expect("lock");
    let (code, out, _) = check(&["--no-network"], true);
    assert!(
        code == 9 && out.contains("FAIL 3.2.1000.0 debian_amd64: path traversal"),
        "{out}"
    );
}

#[test]
fn keys_and_roots_that_end_are_told_in_time() {
    let check = |at: &str| outcome(&mut ssmbake(&["keys", "check", "--at", at]));
    let (code, out, _) = check("2026-11-26T00:00:00Z");
    assert_eq!(
        (code, out.as_str()),
        (0, "no key and no root ends within 90 days\n")
    );
    let (code, out, _) = check("2027-01-20T00:00:00Z");
    assert!(
        code == 0 && out.contains("2027-04-15T00:00:00Z") && out.contains("Starfield"),
        "{out}"
    );
    let (code, out, _) = check("2027-09-01T00:00:00Z");
    assert!(
        code == 0 && out.contains("1C5B395CBE5E74E2F1CA21592784DBF388D19D46 ends at 2027-11-25"),
        "{out}"
    );
    let (code, out, _) = check("2028-01-01T00:00:00Z");
    assert!(code == 9 && out.contains("FAIL the last signing key"), "{out}");
    assert_eq!(check("tomorrow").0, 2);
    let out = must(&mut ssmbake(&["keys", "list"])).stdout;
    let list = String::from_utf8_lossy(&out).into_owned();
    assert_eq!(list.lines().count(), 5, "{list}");
    assert!(list.contains(
        "4855A9E6833216D6A77D8FE451A8E050D0052E5D  signs from 2025-01-22T18:19:26Z until 2026-07-15T18:19:26Z"
    ));
    let mut own = ssmbake(&["keys", "list", "--keyring"]);
    let out = must(own.arg(&world().keyring)).stdout;
    let list = String::from_utf8_lossy(&out).into_owned();
    assert!(list.lines().count() == 6 && list.contains("until ever"), "{list}");
}

#[test]
fn a_package_is_checked_by_hand() {
    let dir = place();
    let package = dir.path().join("agent.deb");
    fs::copy(deb(V1), &package).expect("copy");
    let signature = world().signer.sign(&package);
    fs::write(dir.path().join("agent.deb.sig"), &signature).expect("signature");
    let check = |keyring: bool| {
        let mut command = ssmbake(&["keys", "check"]);
        command.arg(&package);
        if keyring {
            command.arg("--keyring").arg(&world().keyring);
        }
        outcome(&mut command)
    };
    let (code, out, err) = check(true);
    assert!(
        code == 0 && out.contains(&world().signer.fingerprint()),
        "{out}{err}"
    );
    let (code, _, err) = check(false);
    assert!(code == 5 && err.contains("not in the key ring"), "{err}");
    fs::write(&package, b"other bytes").expect("package");
    let (code, _, err) = check(true);
    assert!(code == 5 && err.contains("does not fit"), "{err}");
    fs::remove_file(dir.path().join("agent.deb.sig")).expect("remove");
    assert_eq!(check(true).0, 7);
}

#[test]
fn bundles_are_the_same_for_the_same_lock_and_bake_the_same_tree() {
    let (mirror, dir) = (mirror(), place());
    let path = lock(&mirror, dir.path());
    let (one, other) = (
        bundle(&path, &dir.path().join("one")),
        bundle(&path, &dir.path().join("other")),
    );
    let bytes = fs::read(&one).expect("bundle");
    assert!(
        bytes == fs::read(&other).expect("bundle"),
        "two bundles of one lock differ"
    );
    let mut verify = ssmbake(&["bundle", "verify"]);
    let out = must(verify.arg(&one).arg("--keyring").arg(&world().keyring)).stdout;
    assert!(String::from_utf8_lossy(&out).contains("1 packages are good"));

    let from_mirror = MiniTree::debian();
    let from_bundle = from_mirror.copy();
    let requests = mirror.requests();
    let epoch = |command: &mut std::process::Command| {
        must(command.env("SOURCE_DATE_EPOCH", "1700000000"));
    };
    epoch(&mut apply(&from_bundle, &["--bundle"], &one));
    assert_eq!(mirror.requests(), requests, "the network was asked");
    epoch(&mut apply(&from_mirror, &["--lock"], &path));
    // Where a package came from is in the receipt.
    let of = |tree_: &MiniTree| {
        let receipt = tree_.path().join("var/lib/ssmbake/receipt.json");
        let text = fs::read_to_string(&receipt).expect("receipt");
        fs::write(&receipt, text.replace(&mirror.url, "bundle:")).expect("receipt");
        tree(tree_.path(), Times::Ignored)
    };
    assert_eq!(diff(&of(&from_mirror), &of(&from_bundle)), Vec::<String>::new());
}

#[test]
fn tampered_bundles_are_refused() {
    let (mirror, dir) = (mirror(), place());
    let path = lock(&mirror, dir.path());
    let whole = fs::read(bundle(&path, &dir.path().join("whole"))).expect("bundle");
    let find = |text: &[u8]| {
        let mut windows = whole.windows(text.len());
        windows.position(|window| window == text).expect("text")
    };
    let package = find(&fs::read(deb(V1)).expect("package"));
    let file = dir.path().join("bundle");
    let tree = MiniTree::debian();
    let try_with = |bytes: &[u8], apply_too: bool| {
        fs::write(&file, bytes).expect("bundle");
        let mut verify = ssmbake(&["bundle", "verify"]);
        let (code, _, err) = outcome(verify.arg(&file).arg("--keyring").arg(&world().keyring));
        assert_eq!(code, 5, "{err}");
        if apply_too {
            refused(&mut apply(&tree, &["--bundle"], &file), tree.path(), 5);
        }
    };
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    try_with(&flipped(package + 5000), true);
    // The end of the archive is two empty blocks.
    try_with(&whole[..package + 3000], true);
    try_with(b"", true);
    try_with(b"not a bundle", true);
    try_with(&flipped(find(b"-----BEGIN CERTIFICATE-----") + 40), false);
    let mut renamed = whole.clone();
    let at = find(b"packages/3.3.1957.0/debian_amd64/amazon-ssm-agent.deb\0");
    renamed[at..at + 8].copy_from_slice(b"elsewher");
    try_with(&renamed, true);
    // An entry of another kind: a link that leads out.
    let mut more = tar::Builder::new(whole[..find(b"catalog.json\0")].to_vec());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    more.append_link(&mut header, "packages/x", "/etc/shadow")
        .expect("entry");
    try_with(&more.into_inner().expect("bundle"), true);

    // Nothing is left of a bundle that could not be made.
    let text = fs::read_to_string(&path).expect("lock");
    fs::write(&path, text.replace("size = ", "size = 1")).expect("lock");
    let mut create = ssmbake(&["bundle", "create", "--lock"]);
    create.arg(&path).arg("--keyring").arg(&world().keyring);
    let (code, _, err) = outcome(create.arg("--out").arg(dir.path().join("none")));
    assert!(code == 5 && err.contains("size"), "{err}");
    let names: Vec<_> = fs::read_dir(dir.path())
        .expect("list")
        .flatten()
        .map(|one| one.file_name())
        .collect();
    assert!(
        names.iter().all(|name| !name.to_string_lossy().contains("none")),
        "{names:?}"
    );
}
