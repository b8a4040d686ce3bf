//! User names, passwords and queries of URLs: they open the server, and are nowhere to be found afterwards.

use std::fs;
use std::path::Path;
use std::process::Command;

use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{FOLDER, V1, mirror, refused, world};
use ssmbake_tests::{outcome, ssmbake};

use crate::supply::place;

const SECRETS: [&str; 3] = ["s3cret", "t0ken", "czNjcmV0"];

/// A mirror that wants `user:s3cret` and a token, and its URL with both.
fn guarded() -> (Mirror, String) {
    let mirror = mirror();
    mirror.guard("Basic dXNlcjpzM2NyZXQ=", "sig=t0ken");
    let url = mirror.url.replace("http://", "http://user:s3cret@") + "?sig=t0ken";
    (mirror, url)
}

#[track_caller]
fn holds_none(what: &str, text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{what}: {text}");
    }
}

/// Runs it; what it said and every file below `dirs` hold no secret.
#[track_caller]
fn run(command: &mut Command, code: i32, dirs: &[&Path]) -> String {
    let (got, out, err) = outcome(command.arg("--keyring").arg(&world().keyring));
    assert_eq!(got, code, "{out}{err}");
    let said = out + &err;
    holds_none("said", &said);
    let mut open: Vec<_> = dirs.iter().map(|dir| dir.to_path_buf()).collect();
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).expect("list").flatten() {
            match entry.file_type().expect("type") {
                kind if kind.is_dir() => open.push(entry.path()),
                kind if kind.is_file() => {
                    let bytes = fs::read(entry.path()).expect("file");
                    holds_none(
                        &entry.path().display().to_string(),
                        &String::from_utf8_lossy(&bytes),
                    );
                }
                _ => {}
            }
        }
    }
    said
}

#[test]
fn secrets_of_urls_open_the_server_and_are_stored_nowhere() {
    let ((mirror, url), dir) = (guarded(), place());
    let at = |name: &str| dir.path().join(name);
    let (tree, dirs) = (MiniTree::debian(), [dir.path()]);
    let root = tree.path().to_str().expect("UTF-8");
    let mut command = ssmbake(&[
        "plan",
        "--root",
        root,
        "--mirror",
        &url,
        "--version",
        V1,
        "--report",
    ]);
    let (code, out, err) = outcome(command.arg(at("plan")));
    assert_eq!(code, 0, "{out}{err}");
    holds_none(
        "plan",
        &(out + &err + &fs::read_to_string(at("plan")).expect("plan")),
    );
    for output in ["human", "jsonl"] {
        let tree = MiniTree::debian();
        let mut command = ssmbake(&[
            "apply",
            "-v",
            "--output",
            output,
            "--mirror",
            &url,
            "--version",
            "latest",
        ]);
        command
            .arg("--root")
            .arg(tree.path())
            .arg("--report")
            .arg(at("report"));
        command
            .arg("--sbom")
            .arg(at("a.cdx.json"))
            .arg("--sbom")
            .arg(at("a.spdx.json"));
        command
            .arg("--provenance")
            .arg(at("provenance"))
            .arg("--cache-dir")
            .arg(at("cache"));
        run(&mut command, 0, &[dir.path(), tree.path()]);
        let receipt = tree.read("var/lib/ssmbake/receipt.json");
        assert!(receipt.contains(&mirror.url), "{receipt}");
    }
    let lock = at("ssmbake.lock");
    let mut command = ssmbake(&[
        "lock",
        "--os",
        "debian-12",
        "--arch",
        "amd64",
        "--mirror",
        &url,
        "--version",
        V1,
    ]);
    run(command.arg("--out").arg(&lock), 0, &dirs);
    let mut command = ssmbake(&["bundle", "create", "--mirror", &url, "--lock"]);
    run(command.arg(&lock).arg("--out").arg(at("bundle")), 0, &dirs);
    let mut command = ssmbake(&["mirror", "sync", "--mirror", &url, "--lock"]);
    run(command.arg(&lock).arg("--to").arg(at("www")), 0, &dirs);
    let mut command = ssmbake(&[
        "export",
        "--format",
        "sh",
        "--mirror",
        &url,
        "--version",
        V1,
        "--root",
    ]);
    let said = run(command.arg(tree.path()).arg("--out").arg(at("script")), 0, &dirs);
    assert!(said.contains("are not exported"), "{said}");
    let mut command = ssmbake(&[
        "export",
        "--format",
        "vagrant",
        "--region",
        "eu-west-1",
        "--mirror",
        &url,
    ]);
    run(command.arg("--out").arg(at("Vagrantfile")), 0, &dirs);
    // The lock itself from a server that wants to know who asks.
    mirror.put("ssmbake.lock", fs::read(&lock).expect("lock"));
    let place = mirror.url.replace("http://", "http://user:s3cret@") + "/ssmbake.lock?sig=t0ken";
    let mut command = ssmbake(&["apply", "--mirror", &url, "--lock", &place, "--root"]);
    run(command.arg(tree.path()), 0, &[tree.path()]);
}

#[test]
fn errors_show_no_secret_of_a_url() {
    let (mirror, url) = guarded();
    let tree = MiniTree::debian();
    let attempt = |url: &str, version: &str, code| {
        let mut command = ssmbake(&[
            "apply",
            "--retries",
            "0",
            "--mirror",
            url,
            "--version",
            version,
            "--root",
        ]);
        let command = command.arg(tree.path()).arg("--keyring").arg(&world().keyring);
        holds_none(url, &refused(command, tree.path(), code));
    };
    mirror.put(
        &format!("{V1}/{FOLDER}/amazon-ssm-agent.deb.sig"),
        world().signer.sign(&world().keyring),
    );
    attempt(&url, V1, 5);
    attempt(&url, "3.3.1999.0", 6);
    attempt(&url.replace("user", "other"), V1, 6);
    attempt(&url.replace("localhost", "local host"), V1, 2);
    attempt(&url.replace("http:", "ftp:"), V1, 2);
    attempt("http://user:s3cret@127.0.0.1:1/t?t0ken", V1, 6);
    attempt("http://user:s3c/re@t@[", V1, 2);
    mirror.put("latest/VERSION", "soon");
    attempt(&url, "latest", 6);
    for option in ["--lock", "--catalog"] {
        let mut command = ssmbake(&["apply", option, &url, "--signer-key"]);
        let command = command.arg(&world().keyring).arg("--root").arg(tree.path());
        let (code, out, err) = outcome(command);
        assert!(code == 2 || code == 6, "{code}");
        holds_none(option, &(out + &err));
    }
}
