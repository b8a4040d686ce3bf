//! The README's commands, as printed. Needs root and what scripts/setup installs.

use std::fs;
use std::path::Path;
use std::process::Command;

use ssmbake_tests::tree::debootstrapped;
use ssmbake_tests::world::world;
use ssmbake_tests::{outcome, ssmbake_bin};

use crate::aws_tools::Origin;

/// Commands that need more than a tree and a mirror, and who runs them.
const ELSEWHERE: [(&str, &str); 18] = [
    ("scripts/demo ", ".ci/run"),
    ("scripts/test ", ".ci/run"),
    ("ssmbake audit --region eu-west-1", "slow/prerequisites.rs"),
    ("ssmbake regions --nearest", "slow/prerequisites.rs"),
    ("packer build ", "slow/packer.rs"),
    (
        "ssmbake lock --check",
        "fast/supply.rs: what it says depends on the day",
    ),
    ("ssmbake keys check ", "fast/supply.rs"),
    ("cosign sign-blob ", "slow/signed.rs"),
    ("ssmbake catalog verify ", "slow/signed.rs"),
    (
        "ssmbake apply --root /mnt/image --region eu-west-1 --catalog ",
        "slow/signed.rs",
    ),
    (
        "ssmbake mirror sync --to www --lock ssmbake.lock --signer-key",
        "slow/carried.rs",
    ),
    (
        "ssmbake apply --root /mnt/image --region eu-west-1 --mirror ",
        "slow/carried.rs",
    ),
    ("sh bootstrap.sh ", "fast/bootstrap.rs"),
    ("scripts/release setup", "by hand: half an hour for a binary"),
    ("scripts/release build", "by hand: half an hour for a binary"),
    ("scripts/release package", "slow/release.rs"),
    ("scripts/release smoke", "by hand: after build"),
    ("scripts/release sign ", "slow/release.rs"),
];

/// The lines of indented blocks.
fn commands() -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = fs::read_to_string(readme).expect("README");
    let lines = text.lines().filter_map(|line| line.strip_prefix("    "));
    lines.map(str::to_owned).collect()
}

#[test]
fn the_readme_s_commands_do_what_they_are_printed_for() {
    let here: Vec<String> = commands()
        .into_iter()
        .filter(|line| !ELSEWHERE.iter().any(|(start, _)| line.starts_with(start)))
        .collect();
    assert!(here.len() >= 8, "{here:?}");
    for (start, _) in ELSEWHERE {
        assert!(
            commands().iter().any(|line| line.starts_with(start)),
            "the README has no `{start}`"
        );
    }
    let (tree, origin, work) = (
        debootstrapped("bookworm"),
        Origin::new(),
        tempfile::tempdir().expect("directory"),
    );
    // A digest is what only the reader knows.
    let script = here.join("\n").replace("HEX", &"0".repeat(64));
    let mut shell = Command::new("unshare");
    shell
        .args(["--mount", "sh", "-exc"])
        .arg("mount -t tmpfs none /mnt && mkdir /mnt/image && mount --bind \"$0\" /mnt/image; eval \"$1\"")
        .arg(tree.path())
        .arg(&script)
        .current_dir(work.path())
        .env_clear()
        .env(
            "PATH",
            format!(
                "{}:/usr/sbin:/usr/bin:/sbin:/bin",
                ssmbake_bin().parent().expect("directory").display()
            ),
        )
        .env("SSMBAKE_MIRROR", &origin.mirror.url)
        .env("SSMBAKE_CA_FILE", origin.at("ca.pem"))
        .env("SSMBAKE_KEYRING", &world().keyring);
    let (code, out, err) = outcome(&mut shell);
    assert_eq!(code, 0, "{out}{err}");
    for said in ["Debian 12", "changed ", "took back ", "Raspberry Pi OS"] {
        assert!(out.contains(said), "{said}: {out}{err}");
    }
    for file in ["report.json", "install.sh", "ssmbake.pkr.hcl"] {
        assert!(work.path().join(file).exists(), "{file}: {out}{err}");
    }
}
