//! Which keys may sign, and when.

use std::fs;
use std::path::Path;
use std::process::Command;

use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::package::Signer;
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{FOLDER, V1, apply, deb, refused, world};
use ssmbake_tests::{must, ssmbake};

/// `apply` with a package that `signer` signed with `options`, and the certificate `ring` accepted.
fn with_ring(target: &Path, ring: &[u8], signature: &[u8]) -> (Command, tempfile::NamedTempFile, Mirror) {
    let mirror = Mirror::http();
    mirror.publish(V1, FOLDER, &deb(V1), signature);
    let file = tempfile::NamedTempFile::new().expect("file");
    fs::write(file.path(), ring).expect("keyring");
    let mut command = apply(target, &mirror, V1);
    command.arg("--keyring").arg(file.path());
    (command, file, mirror)
}

#[test]
fn keyrings_with_unfit_keys_are_refused() {
    let target = MiniTree::debian();
    let good = &world().signer;
    let binary = must(good.gpg(None).arg("--export")).stdout;
    // A public key packet of old format: tag, two bytes of length.
    let length = usize::from(u16::from_be_bytes([binary[1], binary[2]]));
    let weak = Signer::new("rsa1024", None, "0");
    let secret = must(
        good.gpg(None)
            .args(["--armor", "--passphrase", "", "--export-secret-keys"]),
    )
    .stdout;
    let cases: [(&str, &[u8]); 5] = [
        ("without a self-signature", &binary[..3 + length]),
        ("only 1024 bits", &weak.certificate()),
        ("secret key", &secret),
        ("keyring", b"not a keyring"),
        ("keyring", b""),
    ];
    for (words, ring) in cases {
        println!("{words}");
        let (mut command, _file, _mirror) = with_ring(target.path(), ring, &good.sign(&deb(V1)));
        let err = refused(&mut command, target.path(), 2);
        assert!(err.contains(words), "{words}: {err}");
    }
}

#[test]
fn subkeys_sign_and_expired_keys_do_not() {
    let target = MiniTree::debian();
    let signer = Signer::certifier(None, "0");
    signer.add_subkey(None, "0");
    for ring in [
        signer.certificate(),
        must(signer.gpg(None).arg("--export")).stdout,
    ] {
        let tree = MiniTree::debian();
        let (mut command, _file, _mirror) = with_ring(tree.path(), &ring, &signer.sign(&deb(V1)));
        must(&mut command);
    }
    // Made while the key was good, and it has expired since.
    let signer = Signer::certifier(Some("20200101T000000"), "0");
    signer.add_subkey(Some("20200101T000000"), "30d");
    let late = signer.sign_with(
        &deb(V1),
        &["--ignore-time-conflict", "--ignore-valid-from"],
        Some("20200110T000000"),
    );
    let tree = MiniTree::debian();
    let (mut command, _file, _mirror) = with_ring(tree.path(), &signer.certificate(), &late);
    must(&mut command);
    // The subkey's life was cut short after the fact: the signature lies outside it now, the certificate's own does not end.
    let shortened = Signer::certifier(Some("20200101T000000"), "0");
    shortened.add_subkey(Some("20200101T000000"), "0");
    let later = shortened.sign_with(&deb(V1), &[], Some("20200301T000000"));
    shortened.expire_subkeys("20200105T000000", "20d");
    let (mut command, _file, _mirror) = with_ring(target.path(), &shortened.certificate(), &later);
    let err = refused(&mut command, target.path(), 5);
    assert!(err.contains("which is valid from"), "{err}");
    let backdated = must(signer.gpg(Some("20200301T000000")).args(["--armor", "--export"])).stdout;
    let stranger = Signer::new("ed25519", Some("20200101T000000"), "0");
    let (mut command, _file, _mirror) = with_ring(target.path(), &backdated, &stranger.sign(&deb(V1)));
    let err = refused(&mut command, target.path(), 5);
    assert!(err.contains("which is not in the key ring"), "{err}");
}

#[test]
fn nothing_that_a_revoked_key_signed_is_installed() {
    let target = MiniTree::debian();
    let (good, revoked) = (&world().signer, Signer::new("ed25519", None, "0"));
    let subkey = Signer::certifier(None, "0");
    subkey.add_subkey(None, "0");
    let signatures = [revoked.sign(&deb(V1)), subkey.sign(&deb(V1))];
    revoked.revoke();
    subkey.revoke();
    for (signer, signature) in [&revoked, &subkey].into_iter().zip(&signatures) {
        let (mut command, _file, _mirror) = with_ring(target.path(), &signer.certificate(), signature);
        let err = refused(&mut command, target.path(), 5);
        assert!(
            err.contains("which was revoked at") && err.contains("no reason given"),
            "{err}"
        );
        assert!(!err.contains("--keyring"), "{err}");
    }
    // It spoils no other key.
    let both = [revoked.certificate(), good.certificate()].concat();
    let tree = MiniTree::debian();
    let (mut command, _file, _mirror) = with_ring(tree.path(), &both, &good.sign(&deb(V1)));
    must(&mut command);
    let mut list = ssmbake(&["keys", "list", "--keyring"]);
    let file = tempfile::NamedTempFile::new().expect("file");
    fs::write(file.path(), &both).expect("keyring");
    let out = String::from_utf8(must(list.arg(file.path())).stdout).expect("UTF-8");
    let line = out.lines().find(|line| line.contains(&revoked.fingerprint()));
    assert!(
        line.is_some_and(|line| line.ends_with(": no reason given")),
        "{out}"
    );
    let mut check = ssmbake(&["keys", "check", "--at", "2026-11-26T00:00:00Z", "--keyring"]);
    let out = String::from_utf8(must(check.arg(file.path())).stdout).expect("UTF-8");
    assert!(
        out.contains(&format!("WARN the key {}, revoked at", revoked.fingerprint())),
        "{out}"
    );
}

#[test]
fn a_certificate_without_the_revocation_does_not_hide_it() {
    let target = MiniTree::debian();
    let signer = Signer::new("ed25519", None, "0");
    let (before, signature) = (signer.certificate(), signer.sign(&deb(V1)));
    signer.revoke();
    for ring in [
        [before.clone(), signer.certificate()].concat(),
        [signer.certificate(), before].concat(),
    ] {
        let (mut command, _file, _mirror) = with_ring(target.path(), &ring, &signature);
        let err = refused(&mut command, target.path(), 5);
        assert!(err.contains("which was revoked at"), "{err}");
    }
}

#[test]
fn one_good_signature_among_several_suffices() {
    let (good, stranger) = (&world().signer, Signer::new("ed25519", None, "0"));
    let both = [stranger.sign(&deb(V1)), good.sign(&deb(V1))].concat();
    for (digest, signature) in [
        ("SHA256", both),
        (
            "SHA512",
            good.sign_with(&deb(V1), &["--digest-algo", "SHA512"], None),
        ),
        ("armoured", good.sign_with(&deb(V1), &["--armor"], None)),
    ] {
        println!("{digest}");
        let tree = MiniTree::debian();
        let (mut command, _file, _mirror) = with_ring(tree.path(), &good.certificate(), &signature);
        must(&mut command);
    }
}
