//! What the tests need: packages with the agent's layout, signatures, a loopback mirror, trees and their digests.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "test support works on the build machine and may panic"
)]

pub mod authenticode;
pub mod digest;
pub mod family;
pub mod forge;
pub mod gate;
pub mod machine;
pub mod mirror;
pub mod package;
pub mod plant;
pub mod proxy;
pub mod rpm;
pub mod tree;
pub mod windows;
pub mod world;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program under test, built beside the tests.
pub fn ssmbake_bin() -> PathBuf {
    if let Some(path) = std::env::var_os("SSMBAKE_TEST_BIN") {
        return path.into();
    }
    let own = std::env::current_exe().expect("own path");
    let dir = own.parent().and_then(Path::parent).expect("target directory");
    let beside = dir.join("ssmbake");
    if beside.exists() {
        beside
    } else {
        own.parent().expect("directory").join("ssmbake")
    }
}

/// ssmbake with a clean environment.
pub fn ssmbake(arguments: &[&str]) -> Command {
    let mut command = Command::new(ssmbake_bin());
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("TMPDIR", std::env::temp_dir());
    command
}

/// A validator or such that scripts/setup installs from PyPI.
pub fn tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/tools/bin")
        .join(name)
}

/// Runs a command; panics with its output when it fails.
pub fn must(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The exit code and what was printed, stdout and stderr.
pub fn outcome(command: &mut Command) -> (i32, String, String) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code().unwrap_or(-1),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// SHA-256, hex.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    ssmbake_manifests::hex::encode(&sha2::Sha256::digest(bytes))
}
