//! scripts/bootstrap.sh, with several shells and tool sets, against a release on a loopback server. As root.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::{must, outcome, sha256};
use tempfile::TempDir;

const ARCHES: [(&str, &str); 6] = [
    ("x86_64", "x86_64"),
    ("aarch64", "aarch64"),
    ("armv7l", "armv7"),
    ("armv8l", "armv7"),
    ("i686", "i686"),
    ("i586", "i686"),
];
const BASIC: [&str; 11] = [
    "mktemp",
    "chmod",
    "cp",
    "rm",
    "sed",
    "cut",
    "head",
    "basename",
    "sha256sum",
    "cat",
    "mkdir",
];

struct Release {
    dir: TempDir,
    mirror: Mirror,
}

/// A release whose binaries say who they are and end with 9.
fn release() -> Release {
    let dir = tempfile::tempdir().expect("directory");
    let mirror = Mirror::http();
    let key = dir.path().join("private.pem");
    let mut make = Command::new("openssl");
    must(
        make.args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"])
            .arg(&key),
    );
    let mut public = Command::new("openssl");
    must(
        public
            .args(["ec", "-pubout", "-in"])
            .arg(&key)
            .arg("-out")
            .arg(dir.path().join("key.pem")),
    );
    let mut list = String::new();
    for arch in ["x86_64", "aarch64", "armv7", "i686"] {
        let name = format!("ssmbake-0.1.0-linux-{arch}");
        let program = program(arch);
        list.push_str(&format!("{}  {name}\n", sha256(program.as_bytes())));
        mirror.put(&name, program);
    }
    fs::write(dir.path().join("list"), &list).expect("list");
    let mut sign = Command::new("openssl");
    sign.args(["dgst", "-sha256", "-sign"])
        .arg(&key)
        .arg(dir.path().join("list"));
    let signature = must(&mut sign).stdout;
    mirror.put("SHA256SUMS", list);
    mirror.put("SHA256SUMS.sig", signature);
    mirror.put("VERSION", "0.1.0\n");
    Release { dir, mirror }
}

fn program(arch: &str) -> String {
    format!("#!/bin/sh\necho \"{arch}:$*\"\nexit 9\n")
}

impl Release {
    fn key(&self) -> PathBuf {
        self.dir.path().join("key.pem")
    }

    /// A directory of programs: the basic ones, `more`, and a `uname` for `machine`.
    fn tools(&self, machine: &str, more: &[&str]) -> TempDir {
        let bin = tempfile::tempdir().expect("directory");
        for tool in BASIC.iter().chain(more) {
            let place = ["/usr/bin", "/bin", "/usr/sbin"].map(|dir| Path::new(dir).join(tool));
            let place = place
                .iter()
                .find(|place| place.exists())
                .unwrap_or_else(|| panic!("no {tool}"));
            symlink(place, bin.path().join(tool)).expect("link");
        }
        put_uname(bin.path(), machine);
        bin
    }

    fn run(&self, shell: &[&str], bin: &Path, options: &[&str]) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/bootstrap.sh");
        let tmp = self.dir.path().join("tmp");
        fs::create_dir_all(&tmp).expect("directory");
        let mut command = Command::new(shell[0]);
        command
            .args(&shell[1..])
            .arg(script)
            .args(options)
            .args(["--", "apply", "--set", "a b"])
            .env_clear()
            .env("PATH", bin)
            .env("TMPDIR", tmp);
        command
    }

    fn signed(&self) -> [String; 4] {
        [
            "--url".to_owned(),
            self.mirror.url.clone(),
            "--key".to_owned(),
            self.key().display().to_string(),
        ]
    }

    #[track_caller]
    fn leaves_nothing(&self) {
        let left = fs::read_dir(self.dir.path().join("tmp"))
            .expect("directory")
            .count();
        assert_eq!(left, 0);
    }
}

fn put_uname(bin: &Path, machine: &str) {
    let place = bin.join("uname");
    fs::write(&place, format!("#!/bin/sh\necho {machine}\n")).expect("uname");
    fs::set_permissions(place, fs::Permissions::from_mode(0o755)).expect("mode");
}

fn words(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

#[test]
fn every_shell_and_fetcher_runs_the_right_binary() {
    let release = release();
    for (machine, arch) in ARCHES {
        let bin = release.tools(machine, &["curl", "openssl"]);
        let (code, out, err) =
            outcome(&mut release.run(&["/bin/dash"], bin.path(), &words(&release.signed())));
        assert_eq!(
            (code, out.as_str()),
            (9, &*format!("{arch}:apply --set a b\n")),
            "{machine}: {err}"
        );
    }
    let bin = release.tools("x86_64", &["wget", "openssl"]);
    let mut bash = release.run(&["/bin/bash", "--posix"], bin.path(), &words(&release.signed()));
    assert_eq!(outcome(&mut bash).0, 9);
    // Nothing but busybox; it checks no signatures.
    let bin = tempfile::tempdir().expect("directory");
    for tool in BASIC.iter().chain(&["sh", "wget", "printf"]) {
        symlink("/bin/busybox", bin.path().join(tool)).expect("link");
    }
    put_uname(bin.path(), "x86_64");
    let digest = sha256(program("x86_64").as_bytes());
    let options = ["--url", &release.mirror.url, "--sha256", &digest];
    let (code, out, err) = outcome(&mut release.run(&["/bin/busybox", "sh"], bin.path(), &options));
    assert_eq!((code, out.as_str()), (9, "x86_64:apply --set a b\n"), "{err}");
    release.leaves_nothing();
}

/// Ends with 7 when it is told to, and says what is on its stdin.
const PATIENT: &str = "#!/bin/sh\ntrap 'exit 7' HUP INT TERM\nread -r line\necho \"ready $line\"\n\
    n=0; while [ $n -lt 100 ]; do sleep 0.1; n=$((n + 1)); done\n";

#[test]
#[ignore = "takes seconds: scripts/test without `fast` runs it"]
fn a_signal_reaches_the_program_and_its_code_comes_back() {
    let release = release();
    release.mirror.put("ssmbake-0.1.0-linux-x86_64", PATIENT);
    let digest = sha256(PATIENT.as_bytes()).to_uppercase();
    let options = ["--url", &release.mirror.url, "--sha256", &digest];
    let bin = release.tools("x86_64", &["curl", "sleep"]);
    for shell in [&["/bin/dash"][..], &["/bin/busybox", "sh"], &["/bin/bash"]] {
        for signal in ["HUP", "INT", "TERM"] {
            let mut command = release.run(shell, bin.path(), &options);
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn().expect("shell");
            let mut stdin = child.stdin.take().expect("pipe");
            writeln!(stdin, "told").expect("stdin");
            let mut line = String::new();
            BufReader::new(child.stdout.take().expect("pipe"))
                .read_line(&mut line)
                .expect("line");
            assert_eq!(line, "ready told\n", "{shell:?}");
            release.leaves_nothing();
            must(Command::new("kill").args(["-s", signal, &child.id().to_string()]));
            let status = child.wait().expect("status");
            assert_eq!(status.code(), Some(7), "{shell:?} {signal}");
        }
    }
}

#[test]
fn a_chroot_without_proc_gets_the_program_s_own_code() {
    let release = release();
    let bin = release.tools("x86_64", &["curl", "openssl"]);
    let hidden = "/bin/mount -t tmpfs tmpfs /proc && exec /bin/dash \"$0\" \"$@\"";
    let shell = ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", hidden];
    let (code, out, err) = outcome(&mut release.run(&shell, bin.path(), &words(&release.signed())));
    assert_eq!((code, out.as_str()), (9, "x86_64:apply --set a b\n"), "{err}");
    release.leaves_nothing();
}

#[test]
fn nothing_runs_that_was_not_checked() {
    let release = release();
    let (url, key) = (release.mirror.url.clone(), release.key().display().to_string());
    let other = self::release();
    let stranger = other.key().display().to_string();
    let local = release.dir.path().join("local");
    fs::write(&local, program("x86_64")).expect("file");
    let (local, digest) = (local.display().to_string(), sha256(program("x86_64").as_bytes()));
    let wrong = "0".repeat(64);
    for (name, machine, tools, options, code) in [
        (
            "another key",
            "x86_64",
            vec!["curl", "openssl"],
            vec!["--url", &url, "--key", &stranger],
            5,
        ),
        (
            "no key",
            "x86_64",
            vec!["curl", "openssl"],
            vec!["--url", &url],
            2,
        ),
        (
            "no openssl",
            "x86_64",
            vec!["curl"],
            vec!["--url", &url, "--key", &key],
            5,
        ),
        (
            "another digest",
            "x86_64",
            vec!["curl"],
            vec!["--url", &url, "--sha256", &wrong],
            5,
        ),
        (
            "no fetcher",
            "x86_64",
            vec!["openssl"],
            vec!["--url", &url, "--key", &key],
            6,
        ),
        (
            "no server",
            "x86_64",
            vec!["curl"],
            vec!["--url", "http://127.0.0.1:1", "--sha256", &wrong],
            6,
        ),
        (
            "no such architecture",
            "riscv64",
            vec!["curl"],
            vec!["--url", &url, "--key", &key],
            3,
        ),
        ("nowhere", "x86_64", vec!["curl"], vec![], 2),
        ("an unknown option", "x86_64", vec!["curl"], vec!["--yes"], 2),
        ("a file unchecked", "x86_64", vec![], vec!["--file", &local], 2),
        (
            "another file",
            "x86_64",
            vec![],
            vec!["--file", &local, "--sha256", &wrong],
            5,
        ),
        (
            "the file",
            "x86_64",
            vec![],
            vec!["--file", &local, "--sha256", &digest],
            9,
        ),
    ] {
        let bin = release.tools(machine, &tools);
        let (got, out, err) = outcome(&mut release.run(&["/bin/dash"], bin.path(), &options));
        assert_eq!(got, code, "{name}: {out}{err}");
        assert!(
            code == 9 || out.is_empty() && err.contains("hint: "),
            "{name}: {out}{err}"
        );
        release.leaves_nothing();
    }
    // A release that was copied here is checked as well, without curl and wget.
    let copy = release.dir.path().join("copy");
    fs::create_dir(&copy).expect("directory");
    let bin = release.tools("x86_64", &["curl", "openssl"]);
    for name in [
        "VERSION",
        "SHA256SUMS",
        "SHA256SUMS.sig",
        "ssmbake-0.1.0-linux-x86_64",
    ] {
        let mut curl = Command::new("curl");
        must(
            curl.args(["-fsSo", name, &format!("{url}/{name}")])
                .current_dir(&copy),
        );
    }
    fs::remove_file(bin.path().join("curl")).expect("link");
    for (changed, code) in [(false, 9), (true, 5)] {
        if changed {
            fs::write(copy.join("ssmbake-0.1.0-linux-x86_64"), "#!/bin/sh\necho evil\n").expect("file");
        }
        let options = ["--url", copy.to_str().expect("UTF-8"), "--key", &key];
        let (got, _, err) = outcome(&mut release.run(&["/bin/dash"], bin.path(), &options));
        assert_eq!(got, code, "{err}");
        release.leaves_nothing();
    }
    // The list is genuine and the binary is not; the list does not name it at all.
    release
        .mirror
        .put("ssmbake-0.1.0-linux-x86_64", "#!/bin/sh\necho evil\n");
    release.mirror.put("ssmbake-0.2.0-linux-i686", program("i686"));
    for (machine, version) in [("x86_64", "0.1.0\n"), ("i686", "0.2.0\n")] {
        release.mirror.put("VERSION", version);
        let bin = release.tools(machine, &["curl", "openssl"]);
        let (code, out, err) =
            outcome(&mut release.run(&["/bin/dash"], bin.path(), &words(&release.signed())));
        assert!(code == 5 && out.is_empty(), "{machine}: {code}: {out}{err}");
    }
    release.leaves_nothing();
}

#[test]
fn a_tmp_without_exec_and_a_proxy_are_no_obstacles() {
    let release = release();
    let bin = release.tools("x86_64", &["curl", "openssl"]);
    let mut command = release.run(
        &[
            "/usr/bin/unshare",
            "--mount",
            "/bin/sh",
            "-c",
            "/bin/mount -t tmpfs -o noexec tmpfs \"$TMPDIR\" && exec /bin/dash \"$0\" \"$@\"",
        ],
        bin.path(),
        &words(&release.signed()),
    );
    let (code, out, err) = outcome(&mut command);
    assert_eq!((code, out.as_str()), (9, "x86_64:apply --set a b\n"), "{err}");
    let key = release.key().display().to_string();
    let options = ["--url", "http://release.invalid", "--key", &key];
    let mut command = release.run(&["/bin/dash"], bin.path(), &options);
    let (code, _, err) = outcome(command.env("http_proxy", &release.mirror.url));
    assert_eq!(code, 9, "{err}");
    assert!(release.mirror.proxied() > 2);
}
