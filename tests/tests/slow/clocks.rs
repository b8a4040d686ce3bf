//! Signatures of every key's time under every clock: when something was signed decides, and never when it is looked at. Needs
//! faketime, which scripts/setup installs.

use std::fs;
use std::path::Path;
use std::process::Command;

use ssmbake_manifests::catalog;
use ssmbake_tests::package::Signer;
use ssmbake_tests::{must, outcome, ssmbake_bin};
use time::OffsetDateTime;
use time::macros::format_description;

/// The days on which somebody looks.
const CLOCKS: [&str; 4] = ["2021-06-01", "2024-06-01", "2026-11-26", "2030-06-01"];
const DAY: i64 = 86_400;

/// As gpg takes times.
fn stamp(seconds: i64) -> String {
    let form = format_description!("[year][month][day]T[hour][minute][second]");
    let time = OffsetDateTime::from_unix_timestamp(seconds).expect("time");
    time.format(form).expect("time")
}

fn check(clock: &str, keyring: Option<&Path>, package: &Path, signature: &Path) -> (i32, String) {
    let mut command = Command::new("faketime");
    command
        .arg("-f")
        .arg(format!("{clock} 12:00:00"))
        .arg(ssmbake_bin())
        .args(["keys", "check"]);
    command.arg(package).arg(signature);
    if let Some(keyring) = keyring {
        command.arg("--keyring").arg(keyring);
    }
    let (code, out, err) = outcome(command.env_clear().env("PATH", "/usr/bin:/bin").env("TZ", "UTC"));
    (code, out + &err)
}

#[test]
fn the_time_of_signing_decides_under_every_clock() {
    let dir = tempfile::tempdir().expect("directory");
    let at = |name: &str| dir.path().join(name);
    fs::write(at("package"), "a package").expect("package");
    fs::write(at("other"), "another package").expect("package");
    for key in catalog().signing_keys() {
        // A key of ours with the life of one of AWS's.
        let signer = Signer::new("rsa2048", Some(&stamp(key.created)), "0");
        let options = [
            "--digest-algo",
            "SHA256",
            "--ignore-time-conflict",
            "--ignore-valid-from",
        ];
        let sign = |when: i64| signer.sign_with(&at("package"), &options, Some(&stamp(when)));
        let middle = (key.created + key.not_after) / 2;
        let cases = [
            ("first", key.created, None),
            ("middle", middle, None),
            ("last", key.not_after - 1, None),
            ("early", key.created - DAY, Some("which is valid from")),
            ("end", key.not_after, Some("which is valid from")),
            ("late", key.not_after + DAY, Some("which is valid from")),
        ];
        for (name, when, _) in cases {
            fs::write(at(name), sign(when)).expect("signature");
        }
        fs::write(at("short"), &sign(middle)[..100]).expect("signature");
        fs::write(
            at("swapped"),
            signer.sign_with(&at("other"), &options, Some(&stamp(middle))),
        )
        .expect("signature");
        let weak = [
            "--digest-algo",
            "SHA1",
            "--ignore-time-conflict",
            "--allow-weak-digest-algos",
        ];
        fs::write(
            at("weak"),
            signer.sign_with(&at("package"), &weak, Some(&stamp(middle))),
        )
        .expect("signature");
        let fingerprint = signer.fingerprint();
        let mut expire = signer.gpg(Some(&stamp(key.created + 1)));
        must(expire.args([
            "--passphrase",
            "",
            "--quick-set-expire",
            &fingerprint,
            &stamp(key.not_after),
        ]));
        fs::write(at("ring"), signer.certificate()).expect("ring");
        // Each certificate has the revocations before it as well.
        fs::write(at("after"), sign(middle + DAY)).expect("signature");
        for (name, reason) in [("retired", 3), ("superseded", 2), ("compromised", 1)] {
            signer.revoke_for(reason, &stamp(middle + DAY / 2));
            fs::write(at(name), signer.certificate()).expect("ring");
        }

        for clock in CLOCKS {
            for (name, _, refusal) in cases {
                let (code, said) = check(clock, Some(&at("ring")), &at("package"), &at(name));
                let wanted = if refusal.is_some() { 5 } else { 0 };
                assert_eq!(
                    code,
                    wanted,
                    "{} {name} in {clock}: {said}",
                    key.fingerprint_hex()
                );
                assert!(said.contains(refusal.unwrap_or(&fingerprint)), "{said}");
            }
            for (ring, signature, code, words) in [
                (Some("ring"), "short", 5, "malformed"),
                (Some("ring"), "swapped", 5, "does not fit"),
                (Some("ring"), "weak", 5, "Sha1, which is too weak"),
                (None, "middle", 5, "which is not in the key ring"),
                (Some("retired"), "middle", 0, &fingerprint),
                (Some("retired"), "after", 5, ": retired"),
                (Some("superseded"), "middle", 0, &fingerprint),
                (Some("superseded"), "after", 5, "which was revoked at"),
                (Some("compromised"), "middle", 5, ": compromised"),
                (Some("compromised"), "after", 5, ": compromised"),
            ] {
                let ring = ring.map(at);
                let (got, said) = check(clock, ring.as_deref(), &at("package"), &at(signature));
                assert_eq!(got, code, "{signature} in {clock}: {said}");
                assert!(said.contains(words), "{words}: {said}");
            }
        }
    }
    // The clocks are believed where they should be: what ends soon depends on when that is.
    for (clock, code) in [("2024-06-01", 0), ("2030-06-01", 9)] {
        let mut command = Command::new("faketime");
        command
            .arg("-f")
            .arg(format!("{clock} 12:00:00"))
            .arg(ssmbake_bin())
            .args(["keys", "check"]);
        assert_eq!(outcome(&mut command).0, code, "{clock}");
    }
}
