//! Programs for Windows: signed by osslsigncode, well and badly. Needs what scripts/setup installs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use ssmbake_installers::acquire::authenticode::verify;
use ssmbake_manifests::CodeRoot;
use ssmbake_tests::authenticode::{Authority, Purpose, program, sign};
use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::{must, outcome, sha256, ssmbake};
use tempfile::TempDir;

use crate::signed;

const NAME: &str = "Amazon.com Services LLC";
/// In the middle of 2025, when the signer's certificate is good.
const THEN: i64 = 1_750_000_000;
/// In the middle of 2028, when it is not.
const LATER: i64 = 1_845_000_000;

struct Desk {
    dir: TempDir,
    authority: Authority,
    clock: (PathBuf, PathBuf),
    signer: (PathBuf, PathBuf),
}

impl Desk {
    fn new() -> Self {
        let authority = Authority::new("ssmbake test root");
        Self {
            clock: authority.issue("ssmbake test clock", Purpose::Time, (2020, 2035)),
            signer: authority.issue(NAME, Purpose::Code, (2024, 2027)),
            authority,
            dir: tempfile::tempdir().expect("directory"),
        }
    }

    fn signed(
        &self,
        digest: &str,
        by: &(PathBuf, PathBuf),
        time: Option<(&(PathBuf, PathBuf), i64)>,
    ) -> Vec<u8> {
        let (plain, to) = (
            self.dir.path().join("plain.exe"),
            self.dir.path().join("signed.exe"),
        );
        fs::write(&plain, program([3, 3, 1957, 0])).expect("program");
        sign(&plain, &to, digest, by, time);
        fs::read(to).expect("program")
    }

    fn good(&self) -> Vec<u8> {
        self.signed("sha256", &self.signer, Some((&self.clock, THEN)))
    }

    fn roots(&self) -> Vec<CodeRoot> {
        vec![self.authority.root()]
    }

    #[track_caller]
    fn refused(&self, bytes: &[u8], words: &str) {
        let error = verify(bytes, NAME, &self.roots()).expect_err(words).to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn a_program_that_the_publisher_signed_is_good_at_any_time_afterwards() {
    let desk = Desk::new();
    for digest in ["sha256", "sha384", "sha512"] {
        let by = verify(
            &desk.signed(digest, &desk.signer, Some((&desk.clock, THEN))),
            NAME,
            &desk.roots(),
        );
        let by = by.unwrap_or_else(|error| panic!("{digest}: {error}"));
        assert_eq!((by.name.as_str(), by.signed_at), (NAME, THEN));
        assert_eq!(by.digest_algorithm, digest.to_uppercase());
    }
    // An independent judge says so, too.
    let root = desk.dir.path().join("root.pem");
    fs::write(&root, desk.authority.root().pem).expect("root");
    let mut check = Command::new("osslsigncode");
    check
        .arg("verify")
        .arg("-CAfile")
        .arg(&root)
        .arg("-TSA-CAfile")
        .arg(&root);
    must(
        check
            .args(["-time", &THEN.to_string(), "-in"])
            .arg(desk.dir.path().join("signed.exe")),
    );
}

#[test]
fn whatever_is_wrong_with_a_signature_is_told() {
    let desk = Desk::new();
    let good = desk.good();
    desk.refused(&program([3, 3, 1957, 0]), "there is none");
    desk.refused(b"MZ, and nothing else", "no Windows program");
    desk.refused(&[], "no Windows program");
    // Each part of the program is under the signature, but for the place of the signature itself and the checksum.
    for at in [2, 0x98 + 16, 0x240, 0x3ff] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        desk.refused(&bytes, "does not fit");
    }
    let with =
        |by: &(PathBuf, PathBuf), time: Option<(&(PathBuf, PathBuf), i64)>| desk.signed("sha256", by, time);
    let other_name = desk
        .authority
        .issue("Amazon.com Services Inc", Purpose::Code, (2024, 2027));
    desk.refused(
        &with(&other_name, Some((&desk.clock, THEN))),
        "by Amazon.com Services Inc, not by",
    );
    let server = desk.authority.issue(NAME, Purpose::Server, (2024, 2027));
    desk.refused(
        &with(&server, Some((&desk.clock, THEN))),
        "the signer's certificate: it leads to no root of the catalog for this purpose",
    );
    let stranger = Authority::new("another root");
    let stranger_signer = stranger.issue(NAME, Purpose::Code, (2024, 2027));
    desk.refused(
        &with(&stranger_signer, Some((&desk.clock, THEN))),
        "the signer's certificate: it leads to no root",
    );
    let stranger_clock = stranger.issue("another clock", Purpose::Time, (2020, 2035));
    desk.refused(
        &with(&desk.signer, Some((&stranger_clock, THEN))),
        "the timestamp's certificate",
    );
    desk.refused(&with(&desk.signer, None), "nobody vouches for it");
    // Signed after the certificate had ended, and before it began.
    desk.refused(
        &with(&desk.signer, Some((&desk.clock, LATER))),
        "the signer's certificate: it had ended by then",
    );
    desk.refused(
        &with(&desk.signer, Some((&desk.clock, 1_600_000_000))),
        "the signer's certificate: it had not begun by then",
    );
    desk.refused(
        &desk.signed("sha1", &desk.signer, Some((&desk.clock, THEN))),
        "SHA1",
    );

    // What nobody signed: bytes behind the signature, and in its place.
    let mut longer = good.clone();
    longer.extend([0; 16]);
    desk.refused(&longer, "goes on behind it");
    let mut smuggled = good.clone();
    smuggled.extend(*b"evil....");
    let table = 0x98 + 112 + 4 * 8;
    let grow = |bytes: &mut [u8], at: usize| {
        let size = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four")) + 8;
        bytes[at..at + 4].copy_from_slice(&size.to_le_bytes());
    };
    grow(&mut smuggled, table + 4);
    grow(&mut smuggled, 1024);
    desk.refused(&smuggled, "hidden behind it");
    // A timestamp of another signature.
    let mut other = good.clone();
    let marker = |bytes: &[u8]| {
        let oid = [0x2b, 6, 1, 4, 1, 0x82, 0x37, 3, 3, 1];
        bytes
            .windows(oid.len())
            .position(|window| window == oid)
            .expect("timestamp")
    };
    // Serial numbers of timestamps differ in length, and the parts have to fit.
    let length = |bytes: &[u8]| bytes[1024 + 8..1024 + 12].to_vec();
    let (plain, to) = (
        desk.dir.path().join("other.exe"),
        desk.dir.path().join("other-signed.exe"),
    );
    fs::write(&plain, program([3, 3, 1958, 0])).expect("program");
    let mut tries = (0..100).map(|_| {
        sign(&plain, &to, "sha256", &desk.signer, Some((&desk.clock, THEN)));
        fs::read(&to).expect("program")
    });
    let second = tries
        .find(|bytes| length(bytes) == length(&good))
        .expect("one that fits");
    let (from, to) = (marker(&second), marker(&good));
    assert_eq!(second.len() - from, good.len() - to);
    other[to..].copy_from_slice(&second[from..]);
    desk.refused(&other, "its timestamp is of another signature");
    for cut in [good.len() - 1, good.len() - 100, 1100, 1024, 700] {
        assert!(verify(&good[..cut], NAME, &desk.roots()).is_err(), "{cut}");
    }
    // No byte of it makes the judge fall over.
    for at in (1024..good.len()).step_by(7) {
        let mut bytes = good.clone();
        bytes[at] = bytes[at].wrapping_add(0x55);
        drop(verify(&bytes, NAME, &desk.roots()));
    }
}

#[test]
fn packages_for_windows_are_locked_mirrored_and_bundled() {
    let (desk, office, mirror) = (Desk::new(), signed::Desk::new(), Mirror::https());
    let at = |name: &str| office.at(name);
    let sign = |name: &str| office.sign(name);
    let good = desk.good();
    let path = "3.3.1957.0/windows_amd64/AmazonSSMAgentSetup.exe";
    mirror.put(path, good.clone());
    fs::write(at("signed.exe"), &good).expect("file");
    fs::write(at("ca.pem"), mirror.ca_pem.as_ref().expect("certificate")).expect("file");
    // The root arrives in a signed catalog.
    let mut export = ssmbake(&["catalog", "export", "--expires", "2099-01-01T00:00:00Z", "--out"]);
    must(export.arg(at("catalog")));
    let mut document: Value =
        serde_json::from_slice(&fs::read(at("catalog")).expect("catalog")).expect("JSON");
    let root = desk.authority.root();
    document["sections"]["authenticode"] = format!(
        "[[root]]\nid = \"test\"\nname = \"test\"\nsha256 = \"{}\"\npem = \"\"\"\n{}\"\"\"\n",
        sha256(&root.der()),
        root.pem
    )
    .into();
    fs::write(at("catalog"), document.to_string()).expect("catalog");
    sign("catalog");

    let run = |words: &[&str]| {
        let mut command = ssmbake(&["--catalog"]);
        command
            .arg(at("catalog"))
            .arg("--signer-key")
            .arg(at("cosign.pub"))
            .args(words);
        command.current_dir(at("")).env("SSMBAKE_CA_FILE", at("ca.pem"));
        outcome(&mut command)
    };
    let lock = [
        "lock",
        "--os",
        "windows-server-2022",
        "--arch",
        "amd64",
        "--version",
        "3.3.1957.0",
        "--mirror",
        &mirror.url,
    ];
    let (code, out, err) = run(&lock);
    assert_eq!(code, 0, "{out}{err}");
    let text = fs::read_to_string(at("ssmbake.lock")).expect("lock");
    assert!(
        text.contains("key = \"Amazon.com Services LLC, certificate ")
            && text.contains("2025-06-15T15:06:40Z"),
        "{text}"
    );
    sign("ssmbake.lock");
    for words in [
        &["mirror", "sync", "--to", "www", "--lock", "ssmbake.lock"][..],
        &["mirror", "sync", "--to", "www", "--lock", "ssmbake.lock"],
        &["bundle", "create"],
        &["bundle", "verify", "ssmbake.bundle"],
        &["lock", "--check", "--no-network", "--at", "2026-11-26T00:00:00Z"],
        &["keys", "check", "signed.exe"],
    ] {
        let (code, out, err) = run(words);
        assert_eq!(code, 0, "{words:?}: {out}{err}");
        if words == ["bundle", "create"] {
            sign("ssmbake.bundle");
        }
    }
    assert!(fs::read(at("www").join(path)).expect("package") == good);
    assert!(fs::read(at("www/latest/windows_amd64/AmazonSSMAgentSetup.exe")).expect("package") == good);
    assert!(!at("www").join(format!("{path}.sig")).exists());

    windows_updates_have_to_be_the_publishers(&mirror, &good, &|| {
        run(&[
            "mirror",
            "sync",
            "--to",
            "updates",
            "--lock",
            "ssmbake.lock",
            "--public-url",
            "https://m.example",
        ])
    });
    assert!(fs::read(at("updates/latest/windows_amd64/ssm-setup-cli.exe")).expect("program") == good);

    // An old program under a new version's name, and one by nobody.
    mirror.put("3.3.4000.0/windows_amd64/AmazonSSMAgentSetup.exe", good);
    mirror.put(
        "3.3.4001.0/windows_amd64/AmazonSSMAgentSetup.exe",
        program([3, 3, 4001, 0]),
    );
    for (version, words) in [("3.3.4000.0", "`3.3.1957.0`"), ("3.3.4001.0", "there is none")] {
        let (code, _, err) = run(&[
            "lock",
            "--os",
            "windows-server-2022",
            "--arch",
            "amd64",
            "--version",
            version,
            "--mirror",
            &mirror.url,
        ]);
        assert!(code == 5 && err.contains(words), "{err}");
    }
    fs::write(at("other.exe"), program([1, 2, 3, 4])).expect("program");
    let (code, _, err) = run(&["keys", "check", "other.exe"]);
    assert!(code == 5 && err.contains("there is none"), "{err}");
    // AWS's roots are not this one.
    let (code, _, err) = outcome(ssmbake(&["keys", "check"]).arg(at("signed.exe")));
    assert!(
        code == 5 && err.contains("leads to no root of the catalog"),
        "{err}"
    );
}

/// Archives in archives, as AWS makes them: what is in them is another matter than what the list says of them.
fn windows_updates_have_to_be_the_publishers(
    mirror: &Mirror,
    good: &[u8],
    sync: &dyn Fn() -> (i32, String, String),
) {
    let zip = |files: &[(&str, &[u8])]| {
        let dir = tempfile::tempdir().expect("directory");
        for (name, bytes) in files {
            fs::write(dir.path().join(name), bytes).expect("file");
        }
        let names = files.iter().map(|(name, _)| *name);
        let mut command = Command::new("python3");
        command.args(["-m", "zipfile", "-c", "out.zip"]).args(names);
        must(command.current_dir(dir.path()));
        fs::read(dir.path().join("out.zip")).expect("archive")
    };
    let offer = |package: &[u8], updater: &[u8]| {
        let mut packages = Vec::new();
        for (name, bytes) in [
            ("amazon-ssm-agent", package),
            ("amazon-ssm-agent-updater", updater),
        ] {
            let file = format!("{name}-windows-amd64.zip");
            mirror.put(&format!("{name}/3.3.1957.0/{file}"), bytes);
            packages.push(
                json!({ "Name": name, "Files": [{ "Name": file, "AvailableVersions": [
                { "Version": "3.3.1957.0", "Checksum": sha256(bytes) },
            ] }] }),
            );
        }
        let list = json!({ "SchemaVersion": "1.0", "UriFormat": "-", "Packages": packages });
        mirror.put("ssm-agent-manifest.json", list.to_string());
    };
    mirror.put("latest/windows_amd64/ssm-setup-cli.exe", good);
    let package = |agent: &[u8]| {
        let inner = zip(&[("amazon-ssm-agent.exe", agent), ("plugin.dll", b"somebody's")]);
        zip(&[("package.zip", &inner), ("install.bat", b"rem")])
    };
    let updater = zip(&[("updater.exe", good)]);
    let mut other = good.to_vec();
    other[700] ^= 1;
    for (package, updater, words) in [
        (package(&other), updater.clone(), "`amazon-ssm-agent.exe` in it: "),
        (
            package(&program([3, 3, 1957, 0])),
            updater.clone(),
            "there is none",
        ),
        (
            zip(&[("install.bat", b"rem")]),
            updater.clone(),
            "`amazon-ssm-agent.exe` is not in it",
        ),
        (
            zip(&[
                ("amazon-ssm-agent.exe", good),
                ("package.zip", &zip(&[("amazon-ssm-agent.exe", good)])),
            ]),
            updater.clone(),
            "is in it twice",
        ),
        (
            b"no archive".to_vec(),
            updater.clone(),
            "amazon-ssm-agent-windows-amd64.zip: ",
        ),
        (
            package(good),
            zip(&[("updater.exe", &other)]),
            "`updater.exe` in it: ",
        ),
    ] {
        offer(&package, &updater);
        let (code, out, err) = sync();
        assert!(code == 5 && err.contains(words), "{words}: {out}{err}");
    }
    offer(&package(good), &updater);
    mirror.put("latest/windows_amd64/ssm-setup-cli.exe", other);
    let (code, out, err) = sync();
    assert!(code == 5 && err.contains("ssm-setup-cli.exe"), "{out}{err}");
    mirror.put("latest/windows_amd64/ssm-setup-cli.exe", good);
    let (code, out, err) = sync();
    assert_eq!(code, 0, "{out}{err}");
}
