//! What `export` prints for image builders and installers: judged by their own validators, then carried out as they would.
//! Needs root and what scripts/setup installs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use ssmbake_tests::machine::clouded;
use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::tree::debootstrapped;
use ssmbake_tests::world::{V1, mirror, world};
use ssmbake_tests::{must, outcome, sha256, ssmbake, ssmbake_bin, tool};
use tempfile::TempDir;

use crate::live::boot_session;

/// Symbols are nine tenths of a debug build.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let path = world().dir.path().join("ssmbake-stripped");
        must(Command::new("strip").arg("-o").arg(&path).arg(ssmbake_bin()));
        path
    })
}

/// A snippet, the mirror that its machine fetches from, and a directory of its own.
struct Snippet {
    dir: TempDir,
    mirror: Mirror,
    text: String,
}

/// `keyring` is where the machine that runs `apply` has the signer's certificate.
fn snippet(format: &str, keyring: &Path) -> Snippet {
    let (dir, mirror) = (tempfile::tempdir().expect("directory"), mirror());
    let bytes = fs::read(binary()).expect("binary");
    let (url, digest) = (mirror.url.replace("localhost", "127.0.0.1"), sha256(&bytes));
    mirror.put("ssmbake", bytes);
    let mut export = ssmbake(&[
        "export",
        "--format",
        format,
        "--mirror",
        &url,
        "--version",
        V1,
        "--keyring",
    ]);
    export.arg(keyring);
    // These have it beside.
    if !["mkosi", "debos", "dockerfile"].contains(&format) {
        export.args(["--binary-url", &format!("{url}/ssmbake")]);
        export.args(["--binary-sha256", &digest]);
    }
    must(export.arg("--out").arg(dir.path().join(format)));
    let text = fs::read_to_string(dir.path().join(format)).expect("snippet");
    Snippet { dir, mirror, text }
}

impl Snippet {
    fn path(&self, format: &str) -> PathBuf {
        self.dir.path().join(format)
    }

    /// The text at a place in a YAML document.
    fn yaml(&self, format: &str, place: &str) -> String {
        let program = format!("import sys, yaml\nprint(yaml.safe_load(open(sys.argv[1])){place}, end='')");
        let out = must(
            Command::new(tool("python3"))
                .args(["-c", &program])
                .arg(self.path(format)),
        );
        String::from_utf8(out.stdout).expect("UTF-8")
    }
}

/// `script` as an installer runs it, with the tree at `place`; what is mounted ends with it.
fn install(script: &str, root: &Path, place: &str) {
    // A mount point that is removed is unmounted in every namespace: one installer at a time.
    static PLACES: Mutex<()> = Mutex::new(());
    let _alone = PLACES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c"])
        .arg("set -eu; mkdir -p \"$1\"; mount --bind \"$0\" \"$1\"; status=0; sh -c \"$2\" || status=$?; umount \"$1\"; exit $status")
        .arg(root)
        .args([place, script])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let (code, out, err) = outcome(&mut command);
    // Empty when it was not there before.
    drop(fs::remove_dir(place));
    assert_eq!(code, 0, "{out}{err}");
}

#[track_caller]
fn assert_baked(root: &Path) {
    let mut enabled = Command::new("systemctl");
    must(
        enabled
            .arg("--root")
            .arg(root)
            .args(["is-enabled", "amazon-ssm-agent"]),
    );
    // An agent that ran has its identity.
    let ran = root.join("var/lib/amazon/ssm/Vault").exists();
    let (code, out, err) = outcome(ssmbake(&["audit", "--root"]).arg(root));
    let failures: Vec<&str> = out.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert_eq!(failures.len(), usize::from(ran), "{out}{err}");
    assert_eq!(code, if ran { 9 } else { 0 });
    assert!(failures.iter().all(|line| line.contains("SSMB010")), "{out}");
    let left: Vec<_> = fs::read_dir(root.join("var/tmp")).expect("directory").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_kickstart_section_bakes_the_installed_system() {
    let snippet = snippet("kickstart", &world().keyring);
    for release in ["RHEL7", "RHEL9", "F40"] {
        must(
            Command::new(tool("ksvalidator"))
                .args(["-v", release])
                .arg(snippet.path("kickstart")),
        );
    }
    let (_, rest) = snippet.text.split_once("%post").expect("section");
    let (_, rest) = rest.split_once('\n').expect("options");
    let (script, _) = rest.split_once("%end").expect("end");
    let target = debootstrapped("bookworm");
    install(script, target.path(), "/mnt/sysimage");
    assert_baked(target.path());
}

#[test]
fn a_preseed_line_bakes_the_installed_system() {
    let snippet = snippet("preseed", &world().keyring);
    must(
        Command::new("debconf-set-selections")
            .arg("--checkonly")
            .arg(snippet.path("preseed")),
    );
    let (_, command) = snippet.text.split_once("string").expect("type");
    let target = debootstrapped("bookworm");
    install(&command.replace("\\\n", " "), target.path(), "/target");
    assert_baked(target.path());
    assert!(!Path::new("/tmp/ssmbake").exists());
}

#[test]
fn an_autoinstall_bakes_the_installed_system() {
    let snippet = snippet("autoinstall", &world().keyring);
    must(
        Command::new("cloud-init")
            .args(["schema", "--config-file"])
            .arg(snippet.path("autoinstall")),
    );
    let script = snippet.yaml("autoinstall", "['autoinstall']['late-commands'][0]");
    let target = debootstrapped("bookworm");
    install(&script, target.path(), "/target");
    assert_baked(target.path());
}

#[test]
fn mkosi_debos_and_docker_bake_their_trees() {
    let snippet_of = |format| snippet(format, &world().keyring);
    let mkosi = snippet_of("mkosi");
    must(Command::new("shellcheck").arg(mkosi.path("mkosi")));
    let target = debootstrapped("bookworm");
    fs::copy(binary(), mkosi.path("ssmbake")).expect("copy");
    let mut run = Command::new("sh");
    must(
        run.arg(mkosi.path("mkosi"))
            .env("SRCDIR", mkosi.dir.path())
            .env("BUILDROOT", target.path()),
    );
    assert_baked(target.path());

    let debos = snippet_of("debos");
    must(
        Command::new("debos")
            .args(["--dry-run", "--disable-fakemachine"])
            .arg(debos.path("debos")),
    );
    let target = debootstrapped("bookworm");
    fs::copy(binary(), debos.path("ssmbake")).expect("copy");
    let command = debos.yaml("debos", "['actions'][0]['command']");
    let mut run = Command::new("sh");
    must(
        run.args(["-c", &command])
            .env("RECIPEDIR", debos.dir.path())
            .env("ROOTDIR", target.path()),
    );
    assert_baked(target.path());

    let docker = snippet("dockerfile", Path::new("/etc/keyring.asc"));
    must(Command::new(tool("hadolint")).arg(docker.path("dockerfile")));
    let target = debootstrapped("bookworm");
    fs::copy(binary(), target.path().join("ssmbake")).expect("copy");
    fs::copy(&world().keyring, target.path().join("etc/keyring.asc")).expect("copy");
    let (_, command) = docker.text.split_once("target=/ssmbake \\\n").expect("command");
    must(
        Command::new("chroot")
            .arg(target.path())
            .args(["sh", "-c", command]),
    );
    assert_baked(target.path());
}

#[test]
fn an_image_builder_component_bakes_the_running_image() {
    let snippet = snippet("imagebuilder", Path::new("/etc/keyring.asc"));
    let step = |index: usize, rest: &str| {
        snippet.yaml("imagebuilder", &format!("['phases'][0]['steps'][{index}]{rest}"))
    };
    assert_eq!(snippet.yaml("imagebuilder", "['schemaVersion']"), "1.0");
    assert_eq!(
        (step(0, "['action']").as_str(), step(1, "['action']").as_str()),
        ("WebDownload", "ExecuteBash")
    );
    let bytes = fs::read(binary()).expect("binary");
    let input = |key: &str| step(0, &format!("['inputs'][0]['{key}']"));
    assert_eq!(
        (input("checksum"), input("algorithm")),
        (sha256(&bytes), "SHA256".to_owned())
    );
    let target = debootstrapped("bookworm");
    let root = target.path();
    fs::copy(&world().keyring, root.join("etc/keyring.asc")).expect("copy");
    // AWSTOE downloads, checks and does not set the mode.
    let place = input("destination");
    let mut curl = Command::new("curl");
    must(
        curl.args(["-fsS", "-o"])
            .arg(root.join(place.trim_start_matches('/')))
            .arg(input("source")),
    );
    must(
        Command::new("chroot")
            .arg(root)
            .args(["bash", "-c", &step(1, "['inputs']['commands'][0]")]),
    );
    assert_baked(root);
}

#[test]
fn cloud_init_installs_and_starts_the_agent_at_first_boot() {
    let snippet = snippet("cloud-init", Path::new("/etc/keyring.asc"));
    must(
        Command::new("cloud-init")
            .args(["schema", "--config-file"])
            .arg(snippet.path("cloud-init")),
    );
    let target = clouded();
    let root = target.path();
    fs::copy(&world().keyring, root.join("etc/keyring.asc")).expect("copy");
    let seed = root.join("var/lib/cloud/seed/nocloud");
    fs::create_dir_all(&seed).expect("directory");
    fs::write(seed.join("user-data"), &snippet.text).expect("user data");
    fs::write(seed.join("meta-data"), "instance-id: first\n").expect("meta data");
    let results = boot_session(
        root,
        "run done cloud-init status --wait --long\nrun active systemctl is-active amazon-ssm-agent\n\
         cp /var/log/cloud-init-output.log /results/log\n",
    );
    assert_eq!(
        results.read("active.out").trim(),
        "active",
        "{}",
        results.read("log")
    );
    results.expect("done", "0");
    assert_baked(root);
    assert!(snippet.mirror.requests() > 1);
}
