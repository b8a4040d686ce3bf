//! Locks, bundles and keys: what is pinned is what is installed, or nothing is.

use std::fs;
use std::path::{Path, PathBuf};

use ssmbake_tests::digest::{Times, diff, tree};
use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::package::{AgentPackage, Signer};
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{
    FOLDER, V1, V2, choice, deb, mirror, mirror_of_two_architectures, refused, world,
};
use ssmbake_tests::{must, outcome, sha256, ssmbake};
use tempfile::TempDir;

/// A lock of the mirror's V1 for Debian 12.
pub(crate) fn lock(mirror: &Mirror, dir: &Path) -> PathBuf {
    let path = dir.join("ssmbake.lock");
    let mut command = ssmbake(&["lock", "--keyring"]);
    command.arg(&world().keyring).args(choice(mirror));
    must(command.arg("--out").arg(&path));
    path
}

pub(crate) fn bundle(lock: &Path, out: &Path) -> PathBuf {
    let mut command = ssmbake(&["bundle", "create", "--lock"]);
    command.arg(lock).arg("--keyring").arg(&world().keyring);
    must(command.arg("--out").arg(out));
    out.to_owned()
}

pub(crate) fn apply(tree: &MiniTree, words: &[&str], file: &Path) -> std::process::Command {
    let mut command = ssmbake(&["apply", "--region", "eu-west-1", "--root"]);
    command.arg(tree.path()).args(words).arg(file);
    command.arg("--keyring").arg(&world().keyring);
    command
}

pub(crate) fn place() -> TempDir {
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
fn audit_says_whether_the_agent_is_the_locked_one() {
    let (mirror, dir) = (mirror(), place());
    let path = lock(&mirror, dir.path());
    let verdict = |tree: &MiniTree| {
        let mut command = ssmbake(&["audit", "--output", "json", "--lock"]);
        let (_, out, err) = outcome(command.arg(&path).arg("--root").arg(tree.path()));
        let report: serde_json::Value =
            serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
        let checks = report["checks"].as_array().expect("checks");
        let found = checks
            .iter()
            .find(|check| check["id"] == "SSMB085")
            .expect("check");
        let text = |name: &str| found[name].as_str().expect("text").to_owned();
        (text("verdict"), text("detail"))
    };
    let tree = MiniTree::debian();
    assert_eq!(verdict(&tree).0, "fail");
    must(&mut apply(&tree, &["--lock"], &path));
    assert_eq!(verdict(&tree).0, "pass");
    let receipt = tree.path().join("var/lib/ssmbake/receipt.json");
    let text = fs::read_to_string(&receipt).expect("receipt");
    let digest = sha256(&fs::read(deb(V1)).expect("package"));
    fs::write(&receipt, text.replace(&digest, &"0".repeat(64))).expect("receipt");
    let (word, detail) = verdict(&tree);
    assert!(word == "fail" && detail.contains(&digest), "{detail}");
    fs::remove_file(&receipt).expect("remove");
    assert_eq!(verdict(&tree).0, "warn");
    let other = MiniTree::debian();
    must(&mut ssmbake_tests::world::apply(other.path(), &mirror, V2));
    let (word, detail) = verdict(&other);
    assert!(word == "fail" && detail.contains(V2), "{detail}");
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
    // Nothing newer runs on these, as long as no other system shares the package.
    let text = fs::read_to_string(&path).expect("lock");
    let old = text
        .replace(V1, "3.0.1479.0")
        .replace("\"debian-12\"", "\"centos-6\", \"rhel-6\"");
    let shared = old.replace("\"rhel-6\"", "\"debian-12\"");
    for (text, is_told) in [(old, false), (shared, true)] {
        fs::write(&path, text).expect("lock");
        let (_, out, err) = check(&[], true);
        assert_eq!(out.contains("is newer"), is_told, "{out}{err}");
    }
    fs::write(&path, text).expect("lock");
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
    // A key without an end, for a mirror of the user's own, signs nothing for AWS; and the other way round.
    let with = |keyring: &Path, at: &str| {
        let mut command = ssmbake(&["keys", "check", "--at", at, "--keyring"]);
        outcome(command.arg(keyring))
    };
    let (code, out, _) = with(&world().keyring, "2028-01-01T00:00:00Z");
    assert!(
        code == 9 && out.contains("FAIL the last signing key 1C5B"),
        "{out}"
    );
    let short = Signer::new("ed25519", Some("20260101T000000"), "30d");
    let file = tempfile::NamedTempFile::new().expect("file");
    fs::write(file.path(), short.certificate()).expect("keyring");
    let (code, out, _) = with(file.path(), "2026-11-26T00:00:00Z");
    assert!(code == 9 && out.contains("FAIL your last signing key"), "{out}");
    // Roots of programs for Windows end as well.
    let (_, out, _) = check("2031-11-01T00:00:00Z");
    assert!(
        out.contains("of programs for Windows expires at 2031-11-10T00:00:00Z"),
        "{out}"
    );
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

    // Anybody's tools can look into it.
    let unpacked = place();
    let mut tar = std::process::Command::new("tar");
    must(tar.arg("-C").arg(unpacked.path()).arg("-xf").arg(&one));
    let mut sums = std::process::Command::new("sha256sum");
    must(
        sums.args(["--quiet", "--check", "SHA256SUMS"])
            .current_dir(unpacked.path()),
    );

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

    // A package that is listed twice cannot be there twice.
    let text = fs::read_to_string(&path).expect("lock");
    let twice = text.clone() + &text[text.find("[[package]]").expect("package")..];
    fs::write(&path, twice).expect("lock");
    let mut create = ssmbake(&["bundle", "create", "--lock"]);
    create.arg(&path).arg("--keyring").arg(&world().keyring);
    let (code, _, err) = outcome(create.arg("--out").arg(dir.path().join("none")));
    assert!(code == 2 && err.contains("is in it twice"), "{err}");

    // Nothing is left of a bundle that could not be made.
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

fn sync(to: &str, words: &[&str]) -> std::process::Command {
    let mut command = ssmbake(&["mirror", "sync", "--to", to, "--keyring"]);
    command
        .arg(&world().keyring)
        .args(words)
        .env("SSMBAKE_RETRIES", "1");
    command
}

/// Every file below `dir`, by its path.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).expect("list").flatten() {
            match entry.path() {
                path if path.is_dir() => open.push(path),
                path => {
                    let name = path
                        .strip_prefix(dir)
                        .expect("below")
                        .to_str()
                        .expect("UTF-8")
                        .to_owned();
                    found.push((name, fs::read(&path).expect("file")));
                }
            }
        }
    }
    found.sort();
    found.retain(|(name, _)| name != ".ssmbake-writer");
    found
}

fn names(dir: &Path) -> Vec<String> {
    files(dir).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn a_mirror_has_the_layout_of_the_bucket() {
    let (mirror, dir) = (mirror(), place());
    let path = lock(&mirror, dir.path());
    let to = dir.path().join("www/ssm");
    let (to, lock) = (to.to_str().expect("UTF-8"), path.to_str().expect("UTF-8"));
    let out = must(&mut sync(to, &["--lock", lock])).stdout;
    assert!(String::from_utf8_lossy(&out).contains("3.3.1957.0 debian_amd64 is there now"));
    let wanted = [
        "3.3.1957.0/debian_amd64/amazon-ssm-agent.deb",
        "3.3.1957.0/debian_amd64/amazon-ssm-agent.deb.sig",
        "latest/VERSION",
        "latest/debian_amd64/amazon-ssm-agent.deb",
        "latest/debian_amd64/amazon-ssm-agent.deb.sig",
        "stable/VERSION",
        "stable/debian_amd64/amazon-ssm-agent.deb",
        "stable/debian_amd64/amazon-ssm-agent.deb.sig",
    ];
    assert_eq!(names(Path::new(to)), wanted);
    let package = fs::read(deb(V1)).expect("package");
    assert!(fs::read(Path::new(to).join(wanted[3])).expect("package") == package);
    assert_eq!(
        fs::read(Path::new(to).join("latest/VERSION")).expect("version"),
        b"3.3.1957.0\n"
    );

    // Any server that offers the directory is a mirror.
    let server = Mirror::http();
    for (name, bytes) in files(Path::new(to)) {
        server.put(&name, bytes);
    }
    let tree = MiniTree::debian();
    let mut apply = ssmbake(&["apply", "--mirror", &server.url, "--version", "stable", "--root"]);
    must(apply.arg(tree.path()).arg("--keyring").arg(&world().keyring));

    // What is there is not fetched again; what was changed there is.
    let requests = mirror.requests();
    let out = must(&mut sync(to, &["--lock", lock])).stdout;
    assert!(String::from_utf8_lossy(&out).contains("3.3.1957.0 debian_amd64 is there\n"));
    assert_eq!(mirror.requests(), requests);
    let there = |at: usize| fs::read(Path::new(to).join(wanted[at])).expect("file");
    let mut bytes = package.clone();
    bytes[100] ^= 1;
    let signature = there(1);
    for (changed, bytes) in [(0, bytes), (1, b"another".to_vec())] {
        fs::write(Path::new(to).join(wanted[changed]), bytes).expect("file");
        must(&mut sync(to, &["--lock", lock]));
        assert!(there(0) == package && there(1) == signature);
    }

    // Without a lock the signature tells whether it is still the same: it alone is fetched.
    let words = [
        "--os",
        "debian-12",
        "--arch",
        "amd64",
        "--mirror",
        &mirror.url,
        "--version",
        V1,
    ];
    let requests = mirror.requests();
    let out = must(&mut sync(to, &words)).stdout;
    assert!(String::from_utf8_lossy(&out).contains("3.3.1957.0 debian_amd64 is there\n"));
    assert_eq!(mirror.requests(), requests + 1);
    let other = fs::read(deb(V2)).expect("package");
    for (changed, bytes) in [(0, other), (1, b"another".to_vec())] {
        fs::write(Path::new(to).join(wanted[changed]), bytes).expect("file");
        must(&mut sync(to, &words));
        assert!(there(0) == package && there(1) == signature);
    }
    // The same package, signed anew: the mirror follows, and is at rest again.
    let anew = world()
        .signer
        .sign_with(&deb(V1), &["--digest-algo", "SHA512"], None);
    mirror.publish(V1, FOLDER, &deb(V1), &anew);
    must(&mut sync(to, &words));
    assert!(there(0) == package && there(1) == anew);
    let requests = mirror.requests();
    must(&mut sync(to, &words));
    assert_eq!(mirror.requests(), requests + 1);
}

#[test]
fn a_mirror_names_a_version_when_all_of_it_is_there() {
    let (mirror, dir) = (mirror_of_two_architectures(), place());
    let to = dir.path().join("www");
    let to = to.to_str().expect("UTF-8");
    let words = [
        "--os",
        "debian-12",
        "--mirror",
        &mirror.url,
        "--jobs",
        "1",
        "--offer",
        "latest",
        "--version",
    ];
    let broken = format!("{V2}/debian_arm64/amazon-ssm-agent.deb");
    mirror.fault(&broken, ssmbake_tests::mirror::Fault::CutShort(2));
    let run = |version: &str| outcome(&mut sync(to, &[&words[..], &[version]].concat()));
    let (code, _, err) = run(V2);
    assert_eq!(code, 6, "{err}");
    let done = format!("{V2}/debian_amd64/amazon-ssm-agent.deb");
    let there = names(Path::new(to));
    assert!(
        there.contains(&done) && !there.iter().any(|name| name.starts_with("latest")),
        "{there:?}"
    );
    let (code, _, err) = run("latest");
    assert_eq!(code, 0, "{err}");
    let version = || fs::read_to_string(Path::new(to).join("latest/VERSION")).expect("version");
    assert_eq!(version(), format!("{V2}\n"));
    // An older one is offered by its own name only.
    let newest = fs::read(Path::new(to).join("latest/debian_amd64/amazon-ssm-agent.deb")).expect("package");
    assert_eq!(run(V1).0, 0);
    assert_eq!(version(), format!("{V2}\n"));
    let kept = fs::read(Path::new(to).join("latest/debian_amd64/amazon-ssm-agent.deb")).expect("package");
    assert!(
        kept == newest && names(Path::new(to)).contains(&format!("{V1}/debian_arm64/amazon-ssm-agent.deb"))
    );
    for (words, code) in [
        (&["--os", "debian-12"][..], 2),
        (&["--mirror", &mirror.url], 2),
        (
            &[
                "--os",
                "debian-12",
                "--mirror",
                &mirror.url,
                "--version",
                "1.1.1.1",
            ],
            5,
        ),
    ] {
        let (got, _, err) = outcome(&mut sync(to, words));
        assert_eq!(got, code, "{words:?}: {err}");
    }
    let (code, _, err) = outcome(&mut sync(
        "s3://bucket",
        &["--os", "debian-12", "--mirror", &mirror.url],
    ));
    assert!(code == 6 || code == 2, "{code}: {err}");
}

#[test]
fn two_writers_and_a_killed_one_leave_a_whole_mirror() {
    let (mirror, dir) = (mirror(), place());
    let path = lock(&mirror, dir.path());
    let to = dir.path().join("www");
    let (to, lock) = (to.to_str().expect("UTF-8"), path.to_str().expect("UTF-8"));
    let package = format!("{V1}/{FOLDER}/amazon-ssm-agent.deb");
    mirror.fault(&package, ssmbake_tests::mirror::Fault::Stall);
    let mut killed = sync(to, &["--lock", lock]).spawn().expect("start");
    while mirror.requests() < 4 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    killed.kill().expect("kill");
    killed.wait().expect("end");
    mirror.fault(&package, ssmbake_tests::mirror::Fault::CutShort(0));
    let older = [
        "--os",
        "debian-12",
        "--arch",
        "amd64",
        "--mirror",
        &mirror.url,
        "--version",
    ];
    let mut writers: Vec<_> = [V1, V2, V1, V2]
        .iter()
        .map(|version| {
            sync(to, &[&older[..], &[*version]].concat())
                .spawn()
                .expect("start")
        })
        .collect();
    for writer in &mut writers {
        assert!(writer.wait().expect("end").success());
    }
    let at = |name: &str| fs::read(Path::new(to).join(name)).expect("file");
    assert_eq!(at("latest/VERSION"), format!("{V2}\n").into_bytes());
    assert!(at("latest/debian_amd64/amazon-ssm-agent.deb") == fs::read(deb(V2)).expect("package"));
    assert!(at(&package) == fs::read(deb(V1)).expect("package"));
    let there = names(Path::new(to));
    assert_eq!(there.len(), 10, "{there:?}");
}
