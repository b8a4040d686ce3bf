//! Signed catalogs: signers are cosign and sigstore's own test kit, not we. Needs what scripts/setup installs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{V1, mirror, refused, world};
use ssmbake_tests::{must, outcome, ssmbake, tool};
use tempfile::TempDir;

pub(crate) const IDENTITY: &str = "release@example.com";
pub(crate) const ISSUER: &str = "https://issuer.example";

/// A directory of its own, with a key of cosign's.
pub(crate) struct Desk {
    dir: TempDir,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let desk = Self {
            dir: tempfile::tempdir().expect("directory"),
        };
        must(desk.cosign().arg("generate-key-pair"));
        desk
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn cosign(&self) -> Command {
        let mut command = Command::new(tool("../cosign/usr/bin/cosign"));
        command.current_dir(self.dir.path()).env_clear();
        command
            .env("COSIGN_PASSWORD", "")
            .env("HOME", self.dir.path())
            .env("PATH", "/usr/bin:/bin");
        command
    }

    /// With the key, and without a log, which no machine without a network reaches.
    pub(crate) fn sign(&self, name: &str) {
        let mut sign = self.cosign();
        sign.args([
            "sign-blob",
            "--key",
            "cosign.key",
            "--tlog-upload=false",
            "--use-signing-config=false",
            "--yes",
        ]);
        must(
            sign.arg("--bundle")
                .arg(format!("{name}.sigstore.json"))
                .arg(name),
        );
    }

    /// With a certificate for [`IDENTITY`], in a log; the trusted root is `root.json`.
    pub(crate) fn sign_keyless(&self, name: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slow/sign-keyless.js");
        let mut node = Command::new("node");
        node.env("NODE_PATH", tool("../node/node_modules"))
            .arg(script)
            .arg(self.at(name));
        node.arg(self.at(&format!("{name}.sigstore.json")))
            .arg(self.at("root.json"));
        must(node.args([IDENTITY, ISSUER]));
    }

    /// With `key.pem`, in a log; the trusted root is `root.json`.
    pub(crate) fn sign_logged(&self, name: &str) {
        let key = self.at("key.pem");
        let mut make = Command::new("openssl");
        make.args([
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-out",
        ]);
        must(make.arg(&key));
        let mut public = Command::new("openssl");
        public.args(["pkey", "-pubout", "-in"]).arg(&key);
        must(public.arg("-out").arg(self.at("key.pub")));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slow/sign-keyless.js");
        let mut node = Command::new("node");
        node.env("NODE_PATH", tool("../node/node_modules")).arg(script);
        node.arg(self.at(name))
            .arg(self.at(&format!("{name}.sigstore.json")));
        must(node.arg(self.at("root.json")).arg("key").arg(key));
    }

    pub(crate) fn export(&self, name: &str, serial: u64, expires: &str) {
        let mut export = ssmbake(&[
            "catalog",
            "export",
            "--expires",
            expires,
            "--serial",
            &serial.to_string(),
        ]);
        must(
            export
                .env("SOURCE_DATE_EPOCH", "1700000000")
                .arg("--out")
                .arg(self.at(name)),
        );
    }

    /// ssmbake with the key pinned.
    pub(crate) fn ssmbake(&self, words: &[&str]) -> Command {
        let mut command = ssmbake(&["--signer-key"]);
        command.arg(self.at("cosign.pub")).args(words);
        command
    }

    pub(crate) fn verify(&self, name: &str) -> Command {
        let mut command = self.ssmbake(&["catalog", "verify"]);
        command.arg(self.at(name));
        command
    }

    pub(crate) fn keyless(&self, name: &str, identity: &str, issuer: &str) -> Command {
        let mut command = ssmbake(&["catalog", "verify"]);
        command
            .arg(self.at(name))
            .args(["--signer-identity", identity, "--signer-issuer", issuer]);
        command.arg("--trusted-root").arg(self.at("root.json"));
        command
    }
}

/// The number that is built in.
pub(crate) fn built_in() -> u64 {
    let out = must(&mut ssmbake(&["catalog", "show", "--output", "json"])).stdout;
    let document: Value = serde_json::from_slice(&out).expect("JSON");
    document["serial"].as_u64().expect("number")
}

#[track_caller]
pub(crate) fn told(command: &mut Command, code: i32, words: &str) {
    let (got, out, err) = outcome(command);
    assert_eq!(got, code, "{out}{err}");
    assert!(format!("{out}{err}").contains(words), "{words}: {out}{err}");
}

#[test]
fn catalogs_count_when_the_pinned_key_signed_them() {
    let desk = Desk::new();
    let now = built_in();
    desk.export("good", now, "2099-01-01T00:00:00Z");
    desk.sign("good");
    told(&mut desk.verify("good"), 0, "signed by the pinned key");
    // The same bytes for the same facts.
    desk.export("again", now, "2099-01-01T00:00:00Z");
    assert!(fs::read(desk.at("good")).expect("catalog") == fs::read(desk.at("again")).expect("catalog"));

    told(
        ssmbake(&["catalog", "verify"]).arg(desk.at("good")),
        2,
        "nobody is named",
    );
    told(&mut desk.verify("again"), 5, "again.sigstore.json");
    let other = Desk::new();
    fs::copy(other.at("cosign.pub"), desk.at("other.pub")).expect("copy");
    let mut wrong = ssmbake(&["catalog", "verify"]);
    told(
        wrong
            .arg(desk.at("good"))
            .arg("--signer-key")
            .arg(desk.at("other.pub")),
        5,
        "does not count",
    );
    let mut no_key = ssmbake(&["catalog", "verify"]);
    told(
        no_key
            .arg(desk.at("good"))
            .arg("--signer-key")
            .arg(desk.at("good")),
        2,
        "public key",
    );
    // One letter of the facts, and another form of the same signature.
    let text = fs::read_to_string(desk.at("good")).expect("catalog");
    fs::write(
        desk.at("again"),
        text.replacen("amazon-ssm-agent", "amazon-ssm-bgent", 1),
    )
    .expect("catalog");
    fs::copy(desk.at("good.sigstore.json"), desk.at("again.sigstore.json")).expect("copy");
    told(&mut desk.verify("again"), 5, "does not count");
    for signature in ["", "{}", "not JSON"] {
        fs::write(desk.at("good.sigstore.json"), signature).expect("signature");
        told(&mut desk.verify("good"), 5, "does not count");
    }
}

#[test]
fn with_a_trusted_root_a_key_s_signature_has_to_be_in_the_log() {
    let (desk, other) = (Desk::new(), Desk::new());
    for desk in [&desk, &other] {
        desk.export("good", built_in(), "2099-01-01T00:00:00Z");
        desk.sign_logged("good");
    }
    let verify = |key: &Path, root: &Path| {
        let mut command = ssmbake(&["catalog", "verify"]);
        command.arg(desk.at("good")).arg("--signer-key").arg(key);
        command.arg("--trusted-root").arg(root);
        command
    };
    let (key, root) = (desk.at("key.pub"), desk.at("root.json"));
    told(&mut verify(&key, &root), 0, "by the pinned key, and in the log");
    told(&mut verify(&other.at("key.pub"), &root), 5, "does not count");
    told(&mut verify(&key, &other.at("root.json")), 5, "does not count");

    let beside = |desk: &Desk| -> Value {
        let bytes = fs::read(desk.at("good.sigstore.json")).expect("signature");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    let (whole, entry) = (beside(&desk), "/verificationMaterial/tlogEntries/0");
    let of_another = beside(&other).pointer(entry).expect("entry").clone();
    let cases: [(&str, Value); 7] = [
        ("/verificationMaterial/tlogEntries", json!([])),
        (entry, of_another),
        (&format!("{entry}/integratedTime"), json!("1795715000")),
        (&format!("{entry}/integratedTime"), json!("0")),
        (
            &format!("{entry}/inclusionPromise/signedEntryTimestamp"),
            json!("AAAA"),
        ),
        (
            &format!("{entry}/inclusionProof/rootHash"),
            json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ),
        (&format!("{entry}/canonicalizedBody"), json!("e30=")),
    ];
    for (place, value) in cases {
        println!("{place}");
        let mut forged = whole.clone();
        *forged.pointer_mut(place).expect("place") = value;
        fs::write(desk.at("good.sigstore.json"), forged.to_string()).expect("signature");
        told(&mut verify(&key, &root), 5, "does not count");
    }
    // Without a root the key alone counts, as the documentation says.
    fs::write(desk.at("good.sigstore.json"), whole.to_string()).expect("signature");
    let mut alone = ssmbake(&["catalog", "verify"]);
    alone.arg(desk.at("good")).arg("--signer-key").arg(&key);
    told(&mut alone, 0, "by the pinned key");
    // cosign's own, without a log.
    desk.sign("good");
    told(&mut verify(&desk.at("cosign.pub"), &root), 5, "does not count");
}

#[test]
fn catalogs_count_when_the_pinned_identity_signed_them() {
    let desk = Desk::new();
    desk.export("good", built_in(), "2099-01-01T00:00:00Z");
    desk.sign_keyless("good");
    told(&mut desk.keyless("good", IDENTITY, ISSUER), 0, IDENTITY);
    for (identity, issuer) in [
        ("somebody@example.com", ISSUER),
        (IDENTITY, "https://other.example"),
        ("release@example.co", ISSUER),
    ] {
        told(&mut desk.keyless("good", identity, issuer), 5, "does not count");
    }
    // A certificate is none of the pinned key's.
    told(&mut desk.verify("good"), 5, "certificate");
    let mut rootless = ssmbake(&["catalog", "verify"]);
    rootless
        .arg(desk.at("good"))
        .args(["--signer-identity", IDENTITY, "--signer-issuer", ISSUER]);
    told(&mut rootless, 2, "trusted root");

    let whole = fs::read(desk.at("good.sigstore.json")).expect("signature");
    let signature: Value = serde_json::from_slice(&whole).expect("JSON");
    let entry = "/verificationMaterial/tlogEntries/0";
    let log_of_another = {
        let other = Desk::new();
        fs::copy(desk.at("good"), other.at("good")).expect("copy");
        other.sign_keyless("good");
        let other: Value =
            serde_json::from_slice(&fs::read(other.at("good.sigstore.json")).expect("signature"))
                .expect("JSON");
        other.pointer(entry).expect("entry").clone()
    };
    let cases: [(&str, Value); 8] = [
        ("/inclusionPromise/signedEntryTimestamp", json!("AAAA")),
        ("/integratedTime", json!("1795715000")),
        ("/integratedTime", json!("0")),
        (
            "/inclusionProof/rootHash",
            json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ),
        (
            "/inclusionProof/checkpoint/envelope",
            json!("garbage\n1\nAAAA\n\n— garbage AAAA\n"),
        ),
        ("/logIndex", json!("7")),
        ("/canonicalizedBody", json!("e30=")),
        ("", log_of_another),
    ];
    for (place, value) in cases {
        let mut forged = signature.clone();
        *forged
            .pointer_mut(&format!("{entry}{place}"))
            .unwrap_or_else(|| panic!("{place}")) = value;
        fs::write(desk.at("good.sigstore.json"), forged.to_string()).expect("signature");
        println!("{place}");
        told(&mut desk.keyless("good", IDENTITY, ISSUER), 5, "does not count");
    }
    let mut logless = signature.clone();
    *logless
        .pointer_mut("/verificationMaterial/tlogEntries")
        .expect("entries") = json!([]);
    fs::write(desk.at("good.sigstore.json"), logless.to_string()).expect("signature");
    told(&mut desk.keyless("good", IDENTITY, ISSUER), 5, "does not count");
    // Another root: the same names, other keys.
    fs::write(desk.at("good.sigstore.json"), &whole).expect("signature");
    let other = Desk::new();
    fs::copy(desk.at("good"), other.at("good")).expect("copy");
    other.sign_keyless("good");
    fs::copy(other.at("root.json"), desk.at("root.json")).expect("copy");
    told(&mut desk.keyless("good", IDENTITY, ISSUER), 5, "does not count");
}

#[test]
fn nobody_goes_back_to_an_old_catalog_or_stays_with_one() {
    let desk = Desk::new();
    let now = built_in();
    let home = tempfile::tempdir().expect("directory");
    let take = |name: &str| {
        let mut command = desk.ssmbake(&["keys", "list", "--catalog"]);
        command.arg(desk.at(name)).env("HOME", home.path());
        command
    };
    for (name, serial, expires) in [
        ("newer", now + 5, "2099-01-01T00:00:00Z"),
        ("new", now + 1, "2099-01-01T00:00:00Z"),
        ("other", now + 5, "2098-01-01T00:00:00Z"),
    ] {
        desk.export(name, serial, expires);
        desk.sign(name);
    }
    let at_home = |mut command: Command| {
        command.env("HOME", home.path());
        command
    };
    told(&mut take("new"), 0, "signs from");
    // To look at one is not to take it.
    told(&mut at_home(desk.verify("newer")), 0, "signed");
    told(&mut take("new"), 0, "signs from");
    told(&mut take("newer"), 0, "signs from");
    told(&mut take("newer"), 0, "signs from");
    told(&mut take("new"), 5, "is not newer than");
    told(&mut at_home(desk.verify("new")), 5, "is not newer than");
    // Two at once: whoever is last, the newer one is remembered.
    for _ in 0..8 {
        let home = tempfile::tempdir().expect("directory");
        let take = |name: &str| {
            let mut command = take(name);
            command.env("HOME", home.path());
            command
        };
        let both = ["newer", "new"].map(|name| take(name).stdout(Stdio::null()).spawn().expect("start"));
        for mut child in both {
            child.wait().expect("end");
        }
        told(&mut take("new"), 5, "is not newer than");
    }
    // Without a place for it there is no memory, and that is said.
    told(&mut desk.verify("new"), 0, "not remembered: HOME is not set");
    // One number, two contents.
    told(&mut take("other"), 5, "is not newer than");
    // Another signer's numbers are another's.
    let stranger = Desk::new();
    stranger.export("last", u64::MAX, "2099-01-01T00:00:00Z");
    stranger.sign("last");
    let mut command = stranger.ssmbake(&["keys", "list", "--catalog"]);
    command.arg(stranger.at("last"));
    told(&mut at_home(command), 0, "signs from");
    told(&mut take("newer"), 0, "signs from");
    // What is damaged does not make it forget.
    let state = home.path().join(".local/state/ssmbake");
    for entry in fs::read_dir(&state).expect("memory").flatten() {
        if entry.path().extension().is_some_and(|end| end == "json") {
            fs::write(entry.path(), "{").expect("damage");
        }
    }
    told(&mut take("newer"), 7, "is damaged");
    told(&mut take("new"), 7, "is damaged");

    // Signed by the right one, and too old: for this program, or for the calendar.
    let rewrite = |from: &str, to: &str, name: &str| {
        let text = fs::read_to_string(desk.at("newer")).expect("catalog");
        assert!(text.contains(from), "{from}");
        fs::write(desk.at(name), text.replace(from, to)).expect("catalog");
        desk.sign(name);
    };
    rewrite(
        &format!("\"serial\": {}", now + 5),
        "\"serial\": 20200101",
        "ancient",
    );
    told(&mut desk.verify("ancient"), 5, "which is built in");
    rewrite("2099-01-01T00:00:00Z", "2024-01-01T00:00:00Z", "expired");
    told(&mut desk.verify("expired"), 5, "ended at 2024-01-01");
    rewrite("2099-01-01T00:00:00Z", "", "endless");
    told(&mut desk.verify("endless"), 5, "ended at");
    rewrite("\"schema\": 1,", "\"schema\": 9,", "future");
    told(&mut desk.verify("future"), 5, "schema is 9");
    rewrite("[[key]]", "[[kee]]", "broken");
    told(&mut desk.verify("broken"), 5, "`keys`");
    for (words, code) in [
        (&["--expires", "2020-01-01T00:00:00Z"][..], 2),
        (&["--expires", "soon"], 2),
        (&["--expires", "2099-01-01T00:00:00Z", "--serial", "1"], 2),
    ] {
        assert_eq!(outcome(ssmbake(&["catalog", "export"]).args(words)).0, code);
    }
}

/// The signer's key as keys.toml has keys.
pub(crate) fn figures() -> String {
    let packet = must(world().signer.gpg(None).arg("--export")).stdout;
    // An old packet of a public key: tag, length, version, creation, algorithm, two numbers after their lengths in bits.
    let body = &packet[3..3 + usize::from(u16::from_be_bytes([packet[1], packet[2]]))];
    let number = |at: usize| {
        let bits = usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
        (&body[at + 2..at + 2 + bits.div_ceil(8)], bits)
    };
    let (modulus, bits) = number(6);
    let (exponent, _) = number(8 + modulus.len());
    let created = u32::from_be_bytes([body[1], body[2], body[3], body[4]]);
    let exponent = exponent
        .iter()
        .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    format!(
        "\n[[key]]\nfingerprint = \"{}\"\nuser-id = \"test\"\ncreated = {created}\nnot-after = 4102444800\nbits = {bits}\n\
         exponent = {exponent}\nmodulus = \"{}\"\n",
        world().signer.fingerprint().to_lowercase(),
        ssmbake_manifests::hex::encode(modulus)
    )
}

#[test]
fn a_new_signing_key_arrives_in_a_signed_catalog() {
    let (desk, mirror, tree) = (Desk::new(), mirror(), MiniTree::debian());
    desk.export("plain", built_in() + 1, "2099-01-01T00:00:00Z");
    let mut document: Value =
        serde_json::from_slice(&fs::read(desk.at("plain")).expect("catalog")).expect("JSON");
    let keys = document["sections"]["keys"].as_str().expect("keys").to_owned() + &figures();
    document["sections"]["keys"] = keys.into();
    fs::write(desk.at("catalog"), document.to_string()).expect("catalog");
    desk.sign("catalog");
    let apply = || {
        let mut command = desk.ssmbake(&["apply", "--mirror", &mirror.url, "--version", V1, "--root"]);
        command.arg(tree.path());
        command
    };
    let err = refused(&mut apply(), tree.path(), 5);
    assert!(err.contains("not in the key ring"), "{err}");
    must(apply().arg("--catalog").arg(desk.at("catalog")));
    // From a server as well as from a file.
    mirror.put("catalog.json", fs::read(desk.at("catalog")).expect("catalog"));
    mirror.put(
        "catalog.json.sigstore.json",
        fs::read(desk.at("catalog.sigstore.json")).expect("signature"),
    );
    let url = format!("{}/catalog.json", mirror.url);
    told(
        desk.ssmbake(&["keys", "list", "--catalog", &url])
            .env("HOME", desk.dir.path()),
        0,
        &world().signer.fingerprint(),
    );
    mirror.put("catalog.json.sigstore.json", "{}");
    told(
        &mut desk.ssmbake(&["keys", "list", "--catalog", &url]),
        5,
        "does not count",
    );
    refused(apply().arg("--catalog").arg(desk.at("plain")), tree.path(), 5);
}

#[test]
fn a_catalog_revokes_a_key() {
    let (desk, mirror, tree) = (Desk::new(), mirror(), MiniTree::debian());
    desk.export("plain", built_in() + 1, "2099-01-01T00:00:00Z");
    let document: Value =
        serde_json::from_slice(&fs::read(desk.at("plain")).expect("catalog")).expect("JSON");
    let lock = |catalog: &str| {
        let mut command = desk.ssmbake(&["lock", "--os", "debian-12", "--arch", "amd64", "--version", V1]);
        command
            .args(["--mirror", &mirror.url, "--catalog"])
            .arg(desk.at(catalog));
        command.arg("--out").arg(desk.at("lock"));
        command
    };
    for (name, at, reason, code) in [
        ("good", 4_102_444_799_u64, "superseded", 0),
        ("retired", 0, "retired", 5),
        ("stolen", 4_102_444_799, "compromised", 5),
    ] {
        let revoked = format!("revoked = {{ at = {at}, reason = \"{reason}\" }}\n");
        let mut document = document.clone();
        let keys = document["sections"]["keys"].as_str().expect("keys").to_owned();
        document["sections"]["keys"] = (keys + &figures() + &revoked).into();
        fs::write(desk.at(name), document.to_string()).expect("catalog");
        desk.sign(name);
        let words = if code == 0 { V1 } else { reason };
        told(&mut lock(name), code, words);
    }
    let mut apply = desk.ssmbake(&["apply", "--mirror", &mirror.url, "--version", V1, "--catalog"]);
    apply.arg(desk.at("stolen")).arg("--root").arg(tree.path());
    let err = refused(&mut apply, tree.path(), 5);
    assert!(err.contains("revoked at 4102444799: compromised"), "{err}");
    desk.sign("lock");
    let mut check = desk.ssmbake(&["lock", "--check", "--no-network", "--catalog"]);
    check.arg(desk.at("stolen")).arg("--out").arg(desk.at("lock"));
    told(
        &mut check,
        9,
        &format!("the key {}, revoked at", world().signer.fingerprint()),
    );
    let mut list = desk.ssmbake(&["keys", "list", "--catalog"]);
    told(list.arg(desk.at("stolen")), 0, ": compromised");
}

#[test]
fn without_a_signature_nothing_of_a_catalog_is_believed() {
    let (server, tree) = (Mirror::http(), MiniTree::debian());
    server.put("catalog.json", "{}");
    let url = format!("{}/catalog.json", server.url);
    let mut command = ssmbake(&["apply", "--region", "eu-west-1", "--catalog", &url, "--root"]);
    refused(command.arg(tree.path()), tree.path(), 2);
}
