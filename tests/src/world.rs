//! What most tests start from: one key, one package a version, a mirror that offers them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use tempfile::TempDir;

use crate::digest::{Times, diff, tree};
use crate::mirror::Mirror;
use crate::package::{AgentPackage, Signer};
use crate::{outcome, ssmbake};

/// The version that is asked for.
pub const V1: &str = "3.3.1957.0";
/// A newer one.
pub const V2: &str = "3.3.3572.0";
/// The bucket's folder for amd64.
pub const FOLDER: &str = "debian_amd64";

/// What all tests of a process share.
#[derive(Debug)]
pub struct World {
    /// Packages and keyring.
    pub dir: TempDir,
    /// Who signs.
    pub signer: Signer,
    /// The signer's certificate.
    pub keyring: PathBuf,
}

/// Keys take a second to make: one for all tests.
pub fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let dir = tempfile::tempdir().expect("directory");
        let signer = Signer::new("rsa2048", None, "0");
        let keyring = dir.path().join("keyring.asc");
        fs::write(&keyring, signer.certificate()).expect("keyring");
        clean_up_after(std::process::id(), &[dir.path(), signer.home()]);
        World { dir, signer, keyring }
    })
}

/// Nothing is dropped that lives as long as the process: somebody else removes it, and with its home the signer's agent ends.
fn clean_up_after(process: u32, dirs: &[&Path]) {
    let wait = "while [ -d /proc/$0 ]; do sleep 1; done; exec rm -rf \"$@\"";
    let mut watch = Command::new("setsid");
    watch.args(["sh", "-c", wait, &process.to_string()]).args(dirs);
    let quiet = || std::process::Stdio::null();
    watch.stdin(quiet()).stdout(quiet()).stderr(quiet());
    drop(watch.spawn().expect("watch"));
}

/// A built package of `version`, cached.
pub fn deb(version: &str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let build = || {
        let unit_comment = format!("# {version}\n");
        let package = AgentPackage {
            unit_comment,
            ..AgentPackage::new(version)
        };
        package.build(world().dir.path())
    };
    let mut built = BUILT.lock().expect("lock");
    built.entry(version.to_owned()).or_insert_with(build).clone()
}

/// A mirror with both versions.
pub fn mirror() -> Mirror {
    let mirror = Mirror::http();
    for version in [V1, V2] {
        mirror.publish(
            version,
            FOLDER,
            &deb(version),
            &world().signer.sign(&deb(version)),
        );
    }
    mirror
}

/// Other architectures and their folders in the bucket.
pub const FOREIGN: [(&str, &str); 3] = [
    ("arm64", "debian_arm64"),
    ("armhf", "debian_arm"),
    ("i386", "debian_386"),
];

/// As [`mirror`], and both versions for arm64 too.
pub fn mirror_of_two_architectures() -> Mirror {
    let (mirror, (arch, folder)) = (mirror(), FOREIGN[0]);
    for version in [V1, V2] {
        publish(&mirror, version, arch, folder);
    }
    mirror
}

fn publish(mirror: &Mirror, version: &str, arch: &str, folder: &str) {
    let package = AgentPackage {
        arch: arch.to_owned(),
        ..AgentPackage::new(version)
    };
    let deb = package.build(world().dir.path());
    mirror.publish(version, folder, &deb, &world().signer.sign(&deb));
}

/// A mirror with a package of `arch` in `folder`.
pub fn mirror_of(arch: &str, folder: &str) -> Mirror {
    let mirror = Mirror::http();
    publish(&mirror, V1, arch, folder);
    mirror
}

/// Words that choose the package of [`V1`] for [`FOLDER`]'s system.
pub fn choice(mirror: &Mirror) -> [&str; 8] {
    let url = &mirror.url;
    [
        "--os",
        "debian-12",
        "--arch",
        "amd64",
        "--version",
        V1,
        "--mirror",
        url,
    ]
}

/// `ssmbake apply` of `version` from `mirror`, its signer accepted.
pub fn apply(root: &Path, mirror: &Mirror, version: &str) -> Command {
    let mut command = ssmbake(&["apply", "--mirror", &mirror.url, "--version", version]);
    command
        .arg("--root")
        .arg(root)
        .arg("--keyring")
        .arg(&world().keyring)
        .env("SSMBAKE_RETRIES", "2");
    command
}

/// Runs a command that must fail with `code` and leave the tree as it is.
#[track_caller]
pub fn refused(command: &mut Command, root: &Path, code: i32) -> String {
    let before = tree(root, Times::Count);
    let (got, out, err) = outcome(command);
    assert_eq!(got, code, "{out}{err}");
    assert!(err.contains("error: "), "{err}");
    assert_eq!(diff(&before, &tree(root, Times::Count)), Vec::<String>::new());
    err
}
