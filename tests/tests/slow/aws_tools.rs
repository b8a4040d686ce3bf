//! A mirror that AWS's own tools use: ssm-setup-cli with `-manifest-url`, and agents that update themselves. The stand-in
//! for them takes the same files in the same order and looks at them as they do. Needs what scripts/setup installs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use ssmbake_tests::mirror::{Fault, Mirror};
use ssmbake_tests::tree::debootstrapped;
use ssmbake_tests::world::{FOLDER, V1, V2, deb, world};
use ssmbake_tests::{must, outcome, sha256, ssmbake};
use tempfile::TempDir;

use crate::mirror::Server;

const AGENT: &str = "amazon-ssm-agent";
const UPDATER: &str = "amazon-ssm-agent-updater";
const PUBLIC: &str = "https://mirror.example/ssm/";

/// AWS's bucket with V1 and V2 for Debian, and where its files are made.
pub(crate) struct Origin {
    dir: TempDir,
    pub(crate) mirror: Mirror,
    list: Value,
}

/// A gzipped tar archive of `files`.
fn archive(dir: &Path, files: &[(&str, &[u8])]) -> Vec<u8> {
    let place = tempfile::tempdir_in(dir).expect("directory");
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "-C"])
        .arg(place.path());
    tar.arg("-czf").arg(dir.join("archive"));
    for (name, bytes) in files {
        fs::write(place.path().join(name), bytes).expect("file");
        tar.arg(name);
    }
    must(&mut tar);
    fs::read(dir.join("archive")).expect("archive")
}

fn file_of(name: &str) -> String {
    format!("{name}-ubuntu-amd64.tar.gz")
}

fn path_of(name: &str, version: &str) -> String {
    format!("{name}/{version}/{}", file_of(name))
}

impl Origin {
    pub(crate) fn new() -> Self {
        let mut origin = Self {
            dir: tempfile::tempdir().expect("directory"),
            mirror: Mirror::https(),
            list: json!({
                "SchemaVersion": "1.0",
                "UriFormat": "https://s3.{Region}.amazonaws.com/amazon-ssm-{Region}/{PackageName}/{PackageVersion}/{FileName}",
                "Packages": [],
            }),
        };
        fs::write(
            origin.at("ca.pem"),
            origin.mirror.ca_pem.as_ref().expect("certificate"),
        )
        .expect("file");
        for version in [V1, V2] {
            let package = deb(version);
            let signature = world().signer.sign(&package);
            origin.mirror.publish(version, FOLDER, &package, &signature);
            let package = fs::read(package).expect("package");
            origin.offer(AGENT, version, &agent(&package));
            origin.offer(UPDATER, version, &[("updater", version.as_bytes())]);
        }
        let installer = origin.at("ssm-setup-cli");
        fs::write(&installer, "#!/bin/sh\n").expect("file");
        origin.put_installer(&world().signer.sign(&installer));
        origin
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put_installer(&self, signature: &[u8]) {
        let path = format!("latest/{FOLDER}/ssm-setup-cli");
        self.mirror
            .put(&path, fs::read(self.at("ssm-setup-cli")).expect("file"));
        self.mirror.put(&format!("{path}.sig"), signature);
    }

    /// An archive, and its line in the list.
    fn offer(&mut self, name: &str, version: &str, files: &[(&str, &[u8])]) {
        let bytes = archive(self.dir.path(), files);
        let digest = sha256(&bytes);
        self.mirror.put(&path_of(name, version), bytes);
        self.say(name, version, &digest);
    }

    fn say(&mut self, name: &str, version: &str, digest: &str) {
        let packages = self.list["Packages"].as_array_mut().expect("list");
        let place = packages.iter().position(|one| one["Name"] == name);
        let place = place.unwrap_or_else(|| {
            packages
                .push(json!({ "Name": name, "Files": [{ "Name": file_of(name), "AvailableVersions": [] }] }));
            packages.len() - 1
        });
        let lines = packages[place]["Files"][0]["AvailableVersions"]
            .as_array_mut()
            .expect("list");
        lines.retain(|line| line["Version"] != version);
        // In both of the spellings that there are.
        let word = if version == V1 { "CheckSum" } else { "Checksum" };
        lines.push(json!({ "Version": version, word: digest, "Status": "Active" }));
        self.mirror.put("ssm-agent-manifest.json", self.list.to_string());
    }

    fn sync(&self, version: &str) -> Command {
        self.sync_to(&self.at("www"), version)
    }

    fn sync_to(&self, to: &Path, version: &str) -> Command {
        let mut command = ssmbake(&["mirror", "sync", "--os", "debian-12", "--arch", "amd64"]);
        command
            .args(["--mirror", &self.mirror.url, "--version", version])
            .args(["--public-url", PUBLIC, "--to"])
            .arg(to);
        command
            .arg("--keyring")
            .arg(&world().keyring)
            .arg("--ca-file")
            .arg(self.at("ca.pem"));
        command.env("SSMBAKE_RETRIES", "0");
        command
    }

    #[track_caller]
    fn refuses(&self, code: i32, words: &str) {
        let (got, out, err) = outcome(&mut self.sync(V2));
        assert_eq!(got, code, "{out}{err}");
        assert!(err.contains(words) && err.contains("hint: "), "{err}");
        assert!(!self.at("www/latest/VERSION").exists() && !self.at("www/ssm-agent-manifest.json").exists());
    }
}

fn agent(package: &[u8]) -> [(&'static str, &[u8]); 3] {
    let script = b"#!/bin/sh\ndpkg -i amazon-ssm-agent.deb\n";
    [
        ("amazon-ssm-agent.deb", package),
        ("install.sh", script),
        ("uninstall.sh", script),
    ]
}

/// What ssm-setup-cli does with `-manifest-url`, and the agent with its own list, as far as files go: $1 is the list's URL, $2
/// the version or a channel, $3 where files go, $4 the key, $5 the installer that runs.
const SETUP_CLI: &str = r#"
import hashlib, json, os, re, subprocess, sys, tarfile, urllib.request
manifest_url, wanted, place, key, own = sys.argv[1:]
base = manifest_url.removesuffix("/ssm-agent-manifest.json")
get = lambda path: urllib.request.urlopen(f"{base}/{path}").read()
manifest = json.loads(get("ssm-agent-manifest.json"))
assert manifest["UriFormat"]
assert hashlib.sha256(get("latest/debian_amd64/ssm-setup-cli")).digest() == hashlib.sha256(open(own, "rb").read()).digest()
def lines(package):
    for one in manifest["Packages"]:
        for listed in one["Files"] if one["Name"] == package else []:
            if listed["Name"] == f"{package}-ubuntu-amd64.tar.gz":
                return listed["AvailableVersions"]
number = lambda version: [int(part) for part in version.split(".")]
def newest(package):
    return max((line["Version"] for line in lines(package) if line["Status"] in ("", "Active")), key=number)
version = {"latest": lambda: newest("amazon-ssm-agent"), "stable": lambda: get("stable/VERSION").decode().strip()}.get(wanted, lambda: wanted)()
assert re.fullmatch(r"\d+\.\d+\.\d+\.\d+", version), version
def fetch(package, version):
    url = manifest["UriFormat"]
    for word, value in ("PackageName", package), ("PackageVersion", version), ("FileName", f"{package}-ubuntu-amd64.tar.gz"):
        url = url.replace("{" + word + "}", value)
    assert url.startswith("https://mirror.example/ssm/") and "{" not in url, url
    bytes = get(url.removeprefix("https://mirror.example/ssm/"))
    [checksum] = [line["Checksum"] for line in lines(package) if line["Version"] == version]
    assert hashlib.sha256(bytes).hexdigest() == checksum, package
    open(f"{place}/{package}", "wb").write(bytes)
    tarfile.open(f"{place}/{package}").extractall(place)
fetch("amazon-ssm-agent", version)
fetch("amazon-ssm-agent-updater", newest("amazon-ssm-agent-updater"))
open(f"{place}/agent.sig", "wb").write(get(f"{version}/debian_amd64/amazon-ssm-agent.deb.sig"))
os.mkdir(f"{place}/gnupg", 0o700)
gpg = ["gpg", "--quiet", "--batch", "--homedir", f"{place}/gnupg"]
subprocess.run([*gpg, "--import", key], check=True)
subprocess.run([*gpg, "--verify", f"{place}/agent.sig", f"{place}/amazon-ssm-agent.deb"], check=True)
subprocess.run(["gpgconf", "--homedir", f"{place}/gnupg", "--kill", "all"], check=True)
print(version)
"#;

#[test]
fn their_installer_and_updates_come_from_a_mirror() {
    let origin = Origin::new();
    let out = must(&mut origin.sync(V1)).stdout;
    let out = String::from_utf8_lossy(&out).into_owned();
    for name in [AGENT, UPDATER] {
        assert!(
            out.contains(&format!("{} is there now\n", path_of(name, V1))),
            "{out}"
        );
    }
    must(&mut origin.sync(V2));
    // A second run writes nothing.
    let list = fs::read_to_string(origin.at("www/ssm-agent-manifest.json")).expect("list");
    let requests = origin.mirror.requests();
    let out = must(&mut origin.sync(V2)).stdout;
    assert!(!String::from_utf8_lossy(&out).contains("is there now"));
    // The list, and the signatures of package and installer: nothing large is fetched again.
    assert_eq!(origin.mirror.requests(), requests + 3);
    assert_eq!(
        fs::read_to_string(origin.at("www/ssm-agent-manifest.json")).expect("list"),
        list
    );
    let list: Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(
        list["Packages"][0]["Files"][0]["AvailableVersions"]
            .as_array()
            .expect("list")
            .len(),
        2,
        "{list}"
    );

    let server = Mirror::http();
    for entry in must(
        Command::new("find")
            .arg(origin.at("www"))
            .args(["-type", "f", "-printf", "%P\\n"]),
    )
    .stdout
    .split(|byte| *byte == b'\n')
    {
        let name = std::str::from_utf8(entry).expect("UTF-8");
        if !name.is_empty() {
            server.put(name, fs::read(origin.at("www").join(name)).expect("file"));
        }
    }
    for (wanted, version) in [("latest", V2), ("stable", V2), (V1, V1)] {
        let place = tempfile::tempdir().expect("directory");
        let mut tool = Command::new("python3");
        tool.args([
            "-c",
            SETUP_CLI,
            &format!("{}/ssm-agent-manifest.json", server.url),
            wanted,
        ]);
        tool.arg(place.path())
            .arg(&world().keyring)
            .arg(origin.at("ssm-setup-cli"));
        tool.env_clear().env("PATH", "/usr/bin:/bin");
        let out = must(&mut tool).stdout;
        assert_eq!(String::from_utf8_lossy(&out).trim(), version);
        let package = fs::read(place.path().join("amazon-ssm-agent.deb")).expect("package");
        assert!(package == fs::read(deb(version)).expect("package"));
        // What runs last is the archive's own script.
        if wanted == "latest" {
            let tree = debootstrapped("bookworm");
            for name in ["amazon-ssm-agent.deb", "install.sh"] {
                fs::copy(place.path().join(name), tree.path().join(name)).expect("copy");
            }
            must(
                Command::new("chroot")
                    .arg(tree.path())
                    .args(["sh", "-c", "cd / && sh install.sh"])
                    .env("LC_ALL", "C"),
            );
        }
    }
}

#[test]
fn writers_of_a_bucket_list_what_each_of_them_brings() {
    let (origin, server) = (Origin::new(), Server::s3());
    let mut writers: Vec<_> = [V1, V2, V2, V1]
        .iter()
        .map(|version| {
            let mut sync = origin.sync_to(Path::new("s3://bucket/ssm"), version);
            // The server stumbles over writers of one object now and then.
            server
                .environment(sync.env("SSMBAKE_RETRIES", "5"))
                .spawn()
                .expect("start")
        })
        .collect();
    for writer in &mut writers {
        assert!(writer.wait().expect("end").success());
    }
    let list: Value =
        serde_json::from_slice(&server.body("/bucket/ssm/ssm-agent-manifest.json")).expect("JSON");
    for place in [0, 1] {
        let lines = &list["Packages"][place]["Files"][0]["AvailableVersions"];
        assert_eq!(
            [&lines[0]["Version"], &lines[1]["Version"], &lines[2]],
            [&json!(V1), &json!(V2), &Value::Null],
            "{list}"
        );
    }
    assert_eq!(
        server.body("/bucket/ssm/stable/VERSION"),
        format!("{V2}\n").into_bytes()
    );
}

/// Whatever VERSION and the list name is there, whole and signed.
fn assert_whole(www: &Path) -> usize {
    let read = |path: &str| fs::read(www.join(path)).ok();
    let mut named = 0;
    for channel in ["latest", "stable"] {
        let Some(version) = read(&format!("{channel}/VERSION")) else {
            continue;
        };
        let version = String::from_utf8(version).expect("UTF-8").trim().to_owned();
        let package = |version: &str| fs::read(deb(version)).expect("package");
        let path = format!("{version}/{FOLDER}/amazon-ssm-agent.deb");
        assert!(
            read(&path).is_some_and(|there| there == package(&version)),
            "{path}"
        );
        assert!(
            read(&format!("{path}.sig")).is_some_and(|there| !there.is_empty()),
            "{path}"
        );
        // Under the channel's own name a newer one may be there already.
        let there = read(&format!("{channel}/{FOLDER}/amazon-ssm-agent.deb")).expect("package");
        assert!(
            [V1, V2].iter().any(|version| there == package(version)),
            "{channel}"
        );
        named += 1;
    }
    let Some(list) = read("ssm-agent-manifest.json") else {
        assert_eq!(named, 0);
        return 0;
    };
    let list: Value = serde_json::from_slice(&list).expect("JSON");
    for package in list["Packages"].as_array().expect("list") {
        let name = package["Name"].as_str().expect("name");
        for line in package["Files"][0]["AvailableVersions"].as_array().expect("list") {
            let path = path_of(name, line["Version"].as_str().expect("version"));
            let there = read(&path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!(sha256(&there), line["Checksum"], "{path}");
            named += 1;
        }
    }
    named
}

#[test]
fn killed_at_any_instant_a_mirror_names_only_what_is_there() {
    let origin = Origin::new();
    let www = origin.at("www");
    let started = Instant::now();
    must(&mut origin.sync(V1));
    let mut delay = started.elapsed();
    let (mut seen, mut finished) = (std::collections::BTreeSet::new(), 0);
    for round in 0..40 {
        // From nothing, and over an older version.
        if round % 2 == 0 {
            fs::remove_dir_all(&www).expect("clean");
        }
        let mut running = origin.sync([V1, V2][round % 2]).spawn().expect("start");
        std::thread::sleep(delay);
        drop(running.kill());
        finished += usize::from(running.wait().expect("end").success());
        delay = delay.mul_f64(if finished * 4 > round { 0.93 } else { 1.04 });
        seen.insert(assert_whole(&www));
    }
    println!("finished {finished}, files named {seen:?}");
    assert!(finished > 0 && seen.len() > 1, "{finished} {seen:?}");
    must(&mut origin.sync(V2));
    assert!(assert_whole(&www) >= 4);
}

#[test]
fn archives_with_another_package_or_digest_are_refused() {
    let mut origin = Origin::new();
    let package = fs::read(deb(V2)).expect("package");
    let old = fs::read(deb(V1)).expect("package");
    // The list says that it is right; the package in it is signed, but of another version.
    origin.offer(AGENT, V2, &agent(&old));
    origin.refuses(5, "`amazon-ssm-agent.deb` in it has the SHA-256");
    origin.offer(AGENT, V2, &agent(&package)[1..]);
    origin.refuses(5, "is not in it");
    // Two of that name: which of them is unpacked?
    let twice = origin.at("twice.tar.gz");
    let script = "set -e; mkdir a b; cp \"$1\" a/amazon-ssm-agent.deb; cp \"$2\" b/amazon-ssm-agent.deb; tar -czf \"$3\" a b";
    must(
        Command::new("sh")
            .current_dir(origin.dir.path())
            .args(["-c", script, "sh"])
            .args([deb(V2), deb(V1), twice.clone()]),
    );
    let bytes = fs::read(&twice).expect("archive");
    origin.say(AGENT, V2, &sha256(&bytes));
    origin.mirror.put(&path_of(AGENT, V2), bytes);
    origin.refuses(5, "is in it twice");
    // The same after the first member of gzip's, and after the end that the tar names.
    for (name, cut, words) in [
        (
            "members",
            "size=$(stat -c %s a/amazon-ssm-agent.deb); head -c $((512 + (size + 511) / 512 * 512)) a.tar > first; gzip -n first",
            "is in it twice",
        ),
        ("behind", "gzip -nc a.tar > first.gz", "bytes follow its end"),
    ] {
        let script = format!(
            "set -e; tar -cf a.tar -C a amazon-ssm-agent.deb; tar -cf b.tar -C b amazon-ssm-agent.deb; rm -f first*; {cut}; \
             gzip -nc b.tar | cat first.gz - > {name}.tar.gz"
        );
        must(
            Command::new("sh")
                .current_dir(origin.dir.path())
                .args(["-c", &script]),
        );
        let bytes = fs::read(origin.at(&format!("{name}.tar.gz"))).expect("archive");
        origin.say(AGENT, V2, &sha256(&bytes));
        origin.mirror.put(&path_of(AGENT, V2), bytes);
        origin.refuses(5, words);
    }
    origin
        .mirror
        .put(&path_of(AGENT, V2), &b"\x1f\x8b is no archive"[..]);
    origin.say(AGENT, V2, &sha256(b"\x1f\x8b is no archive"));
    origin.refuses(5, &path_of(AGENT, V2));

    origin.offer(AGENT, V2, &agent(&package));
    origin.say(UPDATER, V2, &sha256(b"another"));
    origin.refuses(5, "SHA-256");
    origin.say(UPDATER, V2, "no digest");
    origin.refuses(5, "no SHA-256");
    origin.offer(UPDATER, V2, &[("updater", b"good")]);
    origin
        .mirror
        .fault(&path_of(UPDATER, V2), Fault::CutShort(usize::MAX));
    origin.refuses(6, &path_of(UPDATER, V2));
    origin.mirror.fault(&path_of(UPDATER, V2), Fault::CutShort(0));

    let stranger = ssmbake_tests::package::Signer::new("rsa2048", None, "0");
    origin.put_installer(&stranger.sign(&origin.at("ssm-setup-cli")));
    origin.refuses(5, "not in the key ring");
    origin.put_installer(&world().signer.sign(&deb(V1)));
    origin.refuses(5, "does not fit");
    // Where none is published, it is left out, and that is said.
    origin.mirror.fault(
        &format!("latest/{FOLDER}/ssm-setup-cli.sig"),
        Fault::Status(404, usize::MAX),
    );
    let (code, out, err) = outcome(&mut origin.sync(V2));
    assert_eq!(code, 0, "{out}{err}");
    assert!(
        err.contains("ssm-setup-cli was published without a signature"),
        "{err}"
    );
    assert!(!origin.at(&format!("www/latest/{FOLDER}/ssm-setup-cli")).exists());
}

#[test]
fn lists_that_nobody_vouches_for_are_refused() {
    let mut origin = Origin::new();
    origin.list["Packages"][0]["Files"][0]["AvailableVersions"]
        .as_array_mut()
        .expect("list")
        .retain(|line| line["Version"] != V2);
    origin
        .mirror
        .put("ssm-agent-manifest.json", origin.list.to_string());
    origin.refuses(6, &format!("no {AGENT} {V2} for {FOLDER}"));
    origin.mirror.put("ssm-agent-manifest.json", &b"<html>"[..]);
    origin.refuses(6, "is no list of releases");
    origin
        .mirror
        .fault("ssm-agent-manifest.json", Fault::Status(404, usize::MAX));
    origin.refuses(6, "not there");

    let plain = ssmbake_tests::world::mirror();
    let (code, _, err) = outcome(
        ssmbake(&[
            "mirror",
            "sync",
            "--os",
            "debian-12",
            "--arch",
            "amd64",
            "--version",
            V2,
        ])
        .args(["--mirror", &plain.url, "--public-url", PUBLIC, "--to"])
        .arg(origin.at("www"))
        .arg("--keyring")
        .arg(&world().keyring),
    );
    assert!(
        code == 5 && err.contains("only when it comes over https"),
        "{err}"
    );
    for url in [
        "http://mirror.example",
        "https://",
        "https://m.example/{Region}",
        "www",
    ] {
        let (code, _, err) = outcome(
            ssmbake(&[
                "mirror",
                "sync",
                "--os",
                "debian-12",
                "--to",
                "www",
                "--public-url",
                url,
            ])
            .current_dir(origin.dir.path()),
        );
        assert!(code == 2 && err.contains("https URL"), "{url}: {err}");
    }
    assert!(!origin.at("www/latest").exists());
}
