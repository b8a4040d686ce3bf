//! Signed locks, bundles and mirrors, and the signed catalog in a bundle. Needs what scripts/setup installs.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{FOLDER, V1, V2, choice, deb, mirror, refused, world};
use ssmbake_tests::{must, outcome, sha256, ssmbake, ssmbake_bin};

use crate::signed::{Desk, IDENTITY, ISSUER, built_in, figures, told};

#[test]
fn locks_and_bundles_can_be_made_to_need_a_signature() {
    let (desk, mirror) = (Desk::new(), mirror());
    let keyring = &world().keyring;
    let make = || {
        let mut make = ssmbake(&["lock"]);
        make.args(choice(&mirror));
        must(
            make.arg("--keyring")
                .arg(keyring)
                .arg("--out")
                .arg(desk.at("lock")),
        );
        let mut make = ssmbake(&["bundle", "create", "--lock"]);
        must(
            make.arg(desk.at("lock"))
                .arg("--keyring")
                .arg(keyring)
                .arg("--out")
                .arg(desk.at("bundle")),
        );
    };
    make();
    let apply = |tree: &MiniTree, option: &str, place: &str| {
        let mut command = desk.ssmbake(&[
            "apply",
            "--require-signature",
            "--region",
            "eu-west-1",
            option,
            place,
            "--root",
        ]);
        command.arg(tree.path()).arg("--keyring").arg(keyring);
        command
    };
    for (option, name) in [("--lock", "lock"), ("--bundle", "bundle")] {
        let tree = MiniTree::debian();
        let place = desk.at(name);
        let place = place.to_str().expect("UTF-8");
        refused(&mut apply(&tree, option, place), tree.path(), 5);
        desk.sign(name);
        must(&mut apply(&tree, option, place));
        // Changed after it was signed.
        let mut bytes = fs::read(place).expect("file");
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        fs::write(place, bytes).expect("file");
        let tree = MiniTree::debian();
        refused(&mut apply(&tree, option, place), tree.path(), 5);
    }
    // By an identity instead of a key.
    let keyless = |tree: &MiniTree, option: &str, name: &str, identity: &str| {
        let mut command = ssmbake(&["apply", "--require-signature", "--region", "eu-west-1", option]);
        command
            .arg(desk.at(name))
            .arg("--root")
            .arg(tree.path())
            .arg("--keyring")
            .arg(keyring);
        command.args(["--signer-identity", identity, "--signer-issuer", ISSUER]);
        command.arg("--trusted-root").arg(desk.at("root.json"));
        command
    };
    make();
    for (option, name) in [("--lock", "lock"), ("--bundle", "bundle")] {
        let tree = MiniTree::debian();
        desk.sign_keyless(name);
        refused(
            &mut keyless(&tree, option, name, "somebody@example.com"),
            tree.path(),
            5,
        );
        must(&mut keyless(&tree, option, name, IDENTITY));
    }
    // Who names a signer means it.
    make();
    for (option, name) in [("--lock", "lock"), ("--bundle", "bundle")] {
        let tree = MiniTree::debian();
        fs::remove_file(desk.at(&format!("{name}.sigstore.json"))).expect("signature");
        let mut command = desk.ssmbake(&["apply", "--region", "eu-west-1", option]);
        command.arg(desk.at(name)).arg("--keyring").arg(keyring);
        let err = refused(command.arg("--root").arg(tree.path()), tree.path(), 5);
        assert!(err.contains("is not signed"), "{err}");
    }
}

/// Everything below a directory, as a server offers it.
fn serve(dir: &Path) -> Mirror {
    let mirror = Mirror::http();
    let mut left = vec![dir.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).expect("directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                left.push(path);
                continue;
            }
            let name = path.strip_prefix(dir).expect("name").to_str().expect("UTF-8");
            mirror.put(name, fs::read(&path).expect("file"));
        }
    }
    mirror
}

#[test]
fn a_mirror_can_be_made_to_need_a_signature() {
    let (desk, source, keyring) = (Desk::new(), mirror(), &world().keyring);
    let mut make = ssmbake(&["lock", "--os", "debian-12", "--arch", "amd64", "--version", V1]);
    make.args(["--mirror", &source.url, "--keyring"]).arg(keyring);
    must(make.arg("--out").arg(desk.at("lock")));
    let sync = |words: &[&str]| {
        let mut sync = desk.ssmbake(&["mirror", "sync", "--to"]);
        sync.arg(desk.at("www")).arg("--keyring").arg(keyring).args(words);
        sync
    };
    let lock = desk.at("lock");
    let lock = lock.to_str().expect("UTF-8");
    told(&mut sync(&["--lock", lock]), 5, "is not signed");
    told(
        &mut sync(&[
            "--require-signature",
            "--os",
            "debian-12",
            "--mirror",
            &source.url,
        ]),
        2,
        "name --lock",
    );
    let apply = |tree: &MiniTree, words: &[&str]| {
        let mut command = desk.ssmbake(&["apply", "--require-signature", "--region", "eu-west-1", "--root"]);
        command.arg(tree.path()).arg("--keyring").arg(keyring).args(words);
        command
    };
    let tree = MiniTree::debian();
    refused(&mut apply(&tree, &[]), tree.path(), 2);
    // Good packages, and no lock; then a lock that nobody signed.
    refused(&mut apply(&tree, &["--mirror", &source.url]), tree.path(), 5);
    let bytes = fs::read(lock).expect("lock");
    source.put("ssmbake.lock", &*bytes);
    refused(&mut apply(&tree, &["--mirror", &source.url]), tree.path(), 5);

    desk.sign("lock");
    must(&mut sync(&["--lock", lock]));
    let www = serve(&desk.at("www"));
    let on = |words: &[&str]| {
        let mut command = apply(&tree, &["--mirror", &www.url]);
        command.args(words);
        command
    };
    // Another version than the one that is locked, or another digest.
    refused(&mut on(&["--version", "3.3.1.0"]), tree.path(), 5);
    refused(&mut on(&["--sha256", &sha256(b"another")]), tree.path(), 5);
    // The mirror's channel names another version: the lock decides.
    www.publish(V2, FOLDER, &deb(V2), &world().signer.sign(&deb(V2)));
    www.put("latest/VERSION", V2);
    must(&mut on(&[]));
    let mut audit = ssmbake(&["audit", "--lock", lock, "--root"]);
    let (_, out, err) = outcome(audit.arg(tree.path()));
    assert!(!format!("{out}{err}").contains("FAIL SSMB085"), "{out}{err}");
    // Changed, or signed by another.
    let tree = MiniTree::debian();
    let changed = String::from_utf8(bytes.clone()).expect("UTF-8") + "\n";
    www.put("ssmbake.lock", changed);
    refused(&mut apply(&tree, &["--mirror", &www.url]), tree.path(), 5);
    www.put("ssmbake.lock", bytes);
    let other = Desk::new();
    fs::copy(lock, other.at("lock")).expect("copy");
    other.sign("lock");
    www.put(
        "ssmbake.lock.sigstore.json",
        fs::read(other.at("lock.sigstore.json")).expect("signature"),
    );
    refused(&mut apply(&tree, &["--mirror", &www.url]), tree.path(), 5);
}

#[test]
fn a_bundle_s_signed_catalog_is_used_where_no_network_is() {
    let (desk, mirror) = (Desk::new(), mirror());
    let place = |name: &str| desk.at(name).to_str().expect("UTF-8").to_owned();
    desk.export("plain", built_in() + 1, "2099-01-01T00:00:00Z");
    let text = fs::read_to_string(desk.at("plain")).expect("catalog");
    let mut document: Value = serde_json::from_str(&text).expect("JSON");
    let keys = document["sections"]["keys"].as_str().expect("keys").to_owned() + &figures();
    document["sections"]["keys"] = keys.into();
    fs::write(desk.at("catalog"), document.to_string()).expect("catalog");
    desk.sign("catalog");
    let make = |words: &[&str]| {
        let mut make = desk.ssmbake(words);
        must(make.args(["--catalog", &place("catalog")]));
    };
    make(&[&["lock", "--out", &place("lock")], &choice(&mirror)[..]].concat());
    desk.sign("lock");
    make(&[
        "bundle",
        "create",
        "--lock",
        &place("lock"),
        "--out",
        &place("bundle"),
    ]);
    desk.sign("bundle");

    let home = tempfile::tempdir().expect("directory");
    let key = place("cosign.pub");
    let on = |before: &[&str], words: &[&str]| {
        let mut command = Command::new("unshare");
        command.arg("--net").args(before).arg(ssmbake_bin()).args(words);
        command.arg(desk.at("bundle")).env_clear();
        command
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", home.path());
        command
    };
    let verify = ["bundle", "verify", "--signer-key", &key];
    told(&mut on(&[], &verify), 0, "1 packages are good");
    let tree = MiniTree::debian();
    let root = tree.path().to_str().expect("UTF-8");
    let apply = [
        "apply",
        "--region",
        "eu-west-1",
        "--root",
        root,
        "--signer-key",
        &key,
        "--bundle",
    ];
    told(&mut on(&[], &apply), 0, "changed");
    // Nobody is named: its catalog is a stranger's.
    let tree = MiniTree::debian();
    let root = tree.path().to_str().expect("UTF-8");
    told(&mut on(&[], &["bundle", "verify"]), 5, "not in the key ring");
    let unsigned = ["apply", "--region", "eu-west-1", "--root", root, "--bundle"];
    told(&mut on(&[], &unsigned), 5, "--signer-key");
    let other = Desk::new();
    let stranger = other.at("cosign.pub");
    let stranger = [
        "bundle",
        "verify",
        "--signer-key",
        stranger.to_str().expect("UTF-8"),
    ];
    told(&mut on(&[], &stranger), 5, "does not count");
    // Past its end, and older than what was seen here.
    let late = ["faketime", "-f", "2100-01-01 12:00:00"];
    told(&mut on(&late, &verify), 5, "ended at 2099-01-01");
    desk.export("newer", built_in() + 2, "2099-01-01T00:00:00Z");
    desk.sign("newer");
    let mut newer = desk.ssmbake(&["keys", "list", "--catalog", &place("newer")]);
    told(newer.env("HOME", home.path()), 0, "signs from");
    told(&mut on(&[], &verify), 5, "is not newer than");
}
