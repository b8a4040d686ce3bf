//! Trust stores of the rpm families, judged by p11-kit and OpenSSL.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use ssmbake_installers::trust::x509::{Certificate, pem_blocks};
use ssmbake_manifests::{Arch, catalog};
use ssmbake_tests::digest::{Times, diff, tree};
use ssmbake_tests::family::tree_of;
use ssmbake_tests::rpm::{host_rpm, rpm_mirror};
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{V1, apply, refused};
use ssmbake_tests::{must, outcome, ssmbake};

fn target(os: &str) -> MiniTree {
    tree_of(catalog().os(os).expect("system"), Arch::Amd64)
}

fn bake(target: &MiniTree) {
    must(&mut apply(target.path(), &rpm_mirror(), V1));
}

/// Name, kind, mode and link text or bytes of everything in a directory.
fn listing(dir: &Path) -> Vec<String> {
    let mut lines: Vec<String> = fs::read_dir(dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| {
            let path = entry.expect("entry").path();
            let name = path.file_name().expect("name").to_string_lossy().into_owned();
            match fs::read_link(&path) {
                Ok(target) => format!("{name} -> {}", target.display()),
                Err(_) => {
                    let mode = fs::metadata(&path).expect("file").permissions().mode();
                    format!(
                        "{name} {mode:o} {}",
                        ssmbake_tests::sha256(&fs::read(&path).expect("file"))
                    )
                }
            }
        })
        .collect();
    lines.sort();
    lines
}

/// The labelled blocks of a bundle, sorted: p11-kit's own order is that of a hash table.
fn blocks(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("bundle");
    let mut blocks: Vec<String> = text.split("\n\n").map(|block| block.trim().to_owned()).collect();
    blocks.sort();
    blocks
}

/// p11-kit with the sources of a tree, in a namespace where its own configuration names them.
fn extract(sources: &[String], out: &Path) {
    let module = out.join("trust.module");
    let text = format!(
        "module: p11-kit-trust.so\npriority: 1\ntrust-policy: yes\nx-init-reserved: paths='{}'\n",
        sources.join(":")
    );
    fs::write(&module, text).expect("module");
    let script = "set -e; mount --bind \"$1/trust.module\" /usr/share/p11-kit/modules/p11-kit-trust.module; cd \"$1\"\n\
        bundle() { trust extract --format=pem-bundle --filter=ca-anchors --overwrite --comment --purpose \"$1\" \"$2\"; }\n\
        bundle server-auth tls.pem; bundle email email.pem; bundle code-signing objsign.pem\n\
        trust extract --format=pem-directory-hash --filter=ca-anchors --overwrite --purpose server-auth hashed";
    must(
        Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(out),
    );
}

#[test]
fn extracts_are_those_of_p11_kit() {
    let target = target("rhel-9");
    bake(&target);
    let out = tempfile::tempdir().expect("directory");
    let sources = ["etc/pki/ca-trust/source", "usr/share/pki/ca-trust-source"]
        .map(|dir| format!("{}/{dir}", target.arg()));
    extract(&sources, out.path());
    let pem = target.path().join("etc/pki/ca-trust/extracted/pem");
    for (ours, theirs) in [
        ("tls-ca-bundle.pem", "tls.pem"),
        ("email-ca-bundle.pem", "email.pem"),
        ("objsign-ca-bundle.pem", "objsign.pem"),
    ] {
        assert_eq!(
            blocks(&pem.join(ours)),
            blocks(&out.path().join(theirs)),
            "{ours}"
        );
        assert_eq!(
            fs::metadata(pem.join(ours)).expect("bundle").permissions().mode() & 0o777,
            0o444
        );
    }
    assert_eq!(
        listing(&pem.join("directory-hash")),
        listing(&out.path().join("hashed"))
    );
    assert_eq!(
        fs::metadata(pem.join("directory-hash"))
            .expect("directory")
            .permissions()
            .mode()
            & 0o777,
        0o555
    );
    for (store, path) in [("-CAfile", "tls-ca-bundle.pem"), ("-CApath", "directory-hash")] {
        let root = target
            .path()
            .join("etc/pki/ca-trust/source/anchors/ssmbake-amazon-root-ca-1.pem");
        let other = if store == "-CAfile" {
            "-no-CApath"
        } else {
            "-no-CAfile"
        };
        must(
            Command::new("openssl")
                .args(["verify", other, store])
                .arg(pem.join(path))
                .arg(root),
        );
    }
}

#[test]
fn suse_has_p11_kits_extracts_in_its_own_places() {
    let target = target("sles-15");
    // Its directory was empty: the certificate that is there already is the bundle's alone.
    fs::remove_file(target.path().join("usr/share/pki/trust/anchors/class-2.pem")).expect("remove");
    bake(&target);
    let out = tempfile::tempdir().expect("directory");
    extract(&[format!("{}/etc/pki/trust", target.arg())], out.path());
    let store = target.path().join("var/lib/ca-certificates");
    assert_eq!(listing(&store.join("pem")), listing(&out.path().join("hashed")));
    let bundle = blocks(&store.join("ca-bundle.pem"));
    assert_eq!(bundle.len(), 6);
    assert!(
        blocks(&out.path().join("tls.pem"))
            .iter()
            .all(|block| bundle.contains(block))
    );
}

#[test]
fn a_plain_bundle_gets_the_roots_and_files_that_outlive_it() {
    let target = target("amazon-linux-1");
    bake(&target);
    let certs = target.path().join("etc/pki/tls/certs");
    let bundle = fs::read(certs.join("ca-bundle.crt")).expect("bundle");
    assert_eq!(pem_blocks(&bundle).len(), 6);
    assert_eq!(
        fs::read_link(certs.join("ce5e74ef.0")).expect("link"),
        Path::new("ssmbake-amazon-root-ca-1.pem")
    );
    assert!(
        target
            .path()
            .join("etc/pki/ca-trust/source/anchors/ssmbake-amazon-root-ca-1.pem")
            .exists()
    );
    // The package that owns the bundle is updated: the files beside it still count for the agent.
    target.put("etc/pki/tls/certs/ca-bundle.crt", "");
    let (code, out, err) = outcome(&mut ssmbake(&["audit", "--root", target.arg()]));
    assert_eq!(code, 0, "{out}{err}");
}

#[test]
fn an_enabled_el6_store_is_p11_kits() {
    let target = target("amazon-linux-1");
    let bundle = target.path().join("etc/pki/tls/certs/ca-bundle.crt");
    target.put(
        "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        &fs::read_to_string(&bundle).expect("bundle"),
    );
    fs::remove_file(&bundle).expect("remove");
    symlink("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", &bundle).expect("link");
    bake(&target);
    assert!(fs::read_link(&bundle).is_ok(), "the link stays");
    let extracted = fs::read(
        target
            .path()
            .join("etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),
    )
    .expect("bundle");
    assert_eq!(pem_blocks(&extracted).len(), 6);
    assert!(!target.path().join("etc/pki/tls/certs/ce5e74ef.0").exists());
}

#[test]
fn what_the_administrator_distrusts_stays_distrusted() {
    let anchor = catalog()
        .anchors()
        .iter()
        .find(|anchor| anchor.id == "amazon-root-ca-2")
        .expect("anchor");
    let certificate = Certificate::from_der(anchor.der());
    let by_file: fn(&MiniTree, &str) =
        |target, pem| target.put("etc/pki/ca-trust/source/blocklist/x.pem", pem);
    let by_text: fn(&MiniTree, &str) = |target, pem| {
        target.put(
            "usr/share/pki/ca-trust-source/x.p11-kit",
            &format!("# own\n[p11-kit-object-v1]\nx-distrusted: true\n{pem}"),
        )
    };
    for (distrust, says) in [
        (by_file, "line 1 of `/etc/pki/ca-trust/source/blocklist/x.pem`"),
        (by_text, "line 2 of `/usr/share/pki/ca-trust-source/x.p11-kit`"),
    ] {
        let target = target("rhel-9");
        distrust(&target, &certificate.to_pem());
        let (code, _, err) = outcome(&mut apply(target.path(), &rpm_mirror(), V1));
        assert_eq!(code, 0, "{err}");
        assert!(
            err.contains("Amazon Root CA 2 stays distrusted") && err.contains(says),
            "{err}"
        );
        let bundle = fs::read(
            target
                .path()
                .join("etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),
        )
        .expect("bundle");
        assert!(!pem_blocks(&bundle).contains(&certificate));
    }
}

#[test]
fn stores_that_only_the_tree_can_update_are_named() {
    for (os, names) in [
        ("rhel-9", ["java/cacerts", "next `update-ca-trust`"]),
        ("sles-15", ["java-cacerts", "next `update-ca-certificates`"]),
    ] {
        let target = target(os);
        let (_, _, err) = outcome(&mut ssmbake(&[
            "plan",
            "--root",
            target.arg(),
            "--region",
            "eu-west-1",
            "--version",
            V1,
        ]));
        assert!(names.iter().all(|name| err.contains(name)), "{os}: {err}");
        let before = tree(target.path(), Times::Ignored);
        bake(&target);
        let changed = diff(&before, &tree(target.path(), Times::Ignored));
        assert!(!changed.iter().any(|line| line.contains("java")), "{changed:?}");
    }
}

#[test]
fn links_that_lead_out_of_the_tree_lead_nowhere() {
    let host = tempfile::tempdir().expect("directory");
    fs::write(host.path().join("bundle.pem"), "of the build machine\n").expect("file");
    let target = target("rhel-9");
    let bundle = target.path().join("etc/pki/tls/certs/ca-bundle.crt");
    fs::remove_file(&bundle).expect("remove");
    symlink(host.path().join("bundle.pem"), &bundle).expect("link");
    bake(&target);
    assert_eq!(
        fs::read_to_string(host.path().join("bundle.pem")).expect("file"),
        "of the build machine\n"
    );
    // In the tree the link leads nowhere, so the agent reads the next bundle, which has the roots.
    let (code, out, err) = outcome(&mut ssmbake(&["audit", "--root", target.arg()]));
    assert_eq!(code, 0, "{out}{err}");
    let anchors = target_with_linked_anchors(host.path());
    refused(&mut apply(anchors.path(), &rpm_mirror(), V1), anchors.path(), 7);
}

#[test]
fn certificates_beside_the_bundle_count_as_the_agent_counts_them() {
    let target = MiniTree::debian();
    let pem = |id: &str| {
        let anchor = catalog().anchors().iter().find(|anchor| anchor.id == id);
        Certificate::from_der(anchor.expect("anchor").der()).to_pem()
    };
    let (one, two, three) = (
        pem("amazon-root-ca-1"),
        pem("amazon-root-ca-2"),
        pem("amazon-root-ca-3"),
    );
    target.put("etc/ssl/certs/ca-certificates.crt", &one);
    // The same again with one more behind it; a link out of the directory; one within it, which Go passes over.
    target.put("etc/ssl/certs/both.pem", &format!("{one}{two}"));
    target.put("etc/other.pem", &three);
    symlink(
        "../../other.pem",
        target.path().join("etc/ssl/certs/elsewhere.pem"),
    )
    .expect("link");
    symlink("nothing.pem", target.path().join("etc/ssl/certs/dangling.pem")).expect("link");
    let states = || {
        let output = must(&mut ssmbake(&[
            "detect",
            "--output",
            "json",
            "--root",
            target.arg(),
        ]));
        let facts: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let state =
            |number: u32| facts["trust"]["value"]["anchors"][format!("amazon-root-ca-{number}")].clone();
        [state(1), state(2), state(3), state(4)]
    };
    assert_eq!(states(), ["trusted", "trusted", "trusted", "missing"]);
    fs::remove_file(target.path().join("etc/ssl/certs/both.pem")).expect("remove");
    assert_eq!(states(), ["trusted", "missing", "trusted", "missing"]);
}

/// A file of ours is somebody's link already.
fn target_with_linked_anchors(host: &Path) -> MiniTree {
    let target = target("rhel-9");
    let file = target
        .path()
        .join("etc/pki/ca-trust/source/anchors/ssmbake-amazon-root-ca-1.pem");
    symlink(host.join("bundle.pem"), file).expect("link");
    target
}

#[test]
fn revert_keeps_what_others_added_since() {
    let target = target("rhel-9");
    bake(&target);
    let bundle = "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem";
    let mode = fs::Permissions::from_mode(0o644);
    fs::set_permissions(target.path().join(bundle), mode).expect("mode");
    target.put(bundle, &format!("{}\n# theirs\n", target.read(bundle)));
    must(host_rpm(target.path(), &["--justdb", "--nodeps", "-U"]).arg(ssmbake_tests::rpm::other_rpm()));
    must(&mut ssmbake(&["revert", "--root", target.arg()]));
    let text = target.read(bundle);
    assert!(
        text.ends_with("# theirs\n") && text.starts_with("# Starfield Class 2"),
        "{text}"
    );
    assert_eq!(pem_blocks(text.as_bytes()).len(), 1);
    let packages = must(&mut host_rpm(target.path(), &["-qa"])).stdout;
    let packages = String::from_utf8_lossy(&packages).into_owned();
    assert!(
        packages.contains("other-1") && !packages.contains("amazon-ssm-agent"),
        "{packages}"
    );
}
