//! rpms that are not what they seem: signed by an accepted key, and refused with nothing written.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ssmbake_tests::forge::Forge;
use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::must;
use ssmbake_tests::rpm::{AgentRpm, RPM_FOLDER, host_rpm, publish, rpm, rpm_mirror};
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{V1, V2, apply, refused, world};

/// Unpacked, with a symbolic link and a hard link.
fn honest() -> Forge {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let path = BUILT.get_or_init(|| {
        let package = AgentRpm {
            payload: "w.ufdio".to_owned(),
            binary_size: 1024,
            install: "ln -s amazon-ssm-agent %{buildroot}/usr/bin/ssm-link\nln %{buildroot}/usr/bin/ssm-cli %{buildroot}/usr/bin/ssm-hard".to_owned(),
            ..AgentRpm::new(V1)
        };
        package.build(world().dir.path())
    });
    Forge::new(&fs::read(path).expect("package"))
}

fn offer(name: &str, bytes: &[u8]) -> Mirror {
    let path = world().dir.path().join(format!("{name}.rpm"));
    fs::write(&path, bytes).expect("package");
    let mirror = Mirror::http();
    publish(&mirror, V1, RPM_FOLDER, &path);
    mirror
}

/// Where the number of a file stands in a list of the header.
fn index_of(forge: &Forge, base_name: &str) -> usize {
    let at = ssmbake_tests::forge::place(&forge.header, 1117);
    let names = forge.header[at..].split(|byte| *byte == 0);
    names
        .map(String::from_utf8_lossy)
        .position(|name| name == base_name)
        .expect("file")
}

#[test]
fn links_and_ghosts_of_honest_packages_are_installed() {
    let mirror = offer("honest", &honest().finish());
    let target = MiniTree::rhel();
    must(&mut apply(target.path(), &mirror, V1));
    let verified = must(&mut host_rpm(
        target.path(),
        &["-V", "--nodeps", "amazon-ssm-agent"],
    ));
    assert_eq!(String::from_utf8_lossy(&verified.stdout), "");
    let inode = |path: &str| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(target.path().join(path)).expect("file").ino()
    };
    assert_eq!(inode("usr/bin/ssm-cli"), inode("usr/bin/ssm-hard"));
    assert_eq!(
        fs::read_link(target.path().join("usr/bin/ssm-link")).expect("link"),
        Path::new("amazon-ssm-agent")
    );
}

#[test]
#[ignore = "takes seconds: scripts/test without `fast` runs it"]
fn lies_are_refused_with_nothing_written() {
    let forge = honest;
    let size_at = 4 * index_of(&forge(), "ssm-document-worker");
    let mode_at = 2 * index_of(&forge(), "ssm-document-worker");
    let worker = "usr/bin/ssm-document-worker";
    let cases: Vec<(&str, Forge, &str)> = vec![
        (
            "unlisted",
            forge().payload_text(
                b"./usr/bin/ssm-document-worker\0",
                b"./usr/bin/ssm-document-wicked\0",
            ),
            "is not in the header",
        ),
        (
            "absolute",
            forge().payload_text(
                b"./usr/bin/ssm-document-worker\0",
                b"//usr/bin/ssm-document-worker\0",
            ),
            "absolute path",
        ),
        (
            "escape",
            forge().payload_text(
                b"./usr/bin/ssm-document-worker\0",
                b"./usr/../../tmp/document-work\0",
            ),
            "out of the root",
        ),
        (
            "escape-in-header",
            forge().header_at(1118, find(&forge(), 1118, b"/usr/bin/\0"), b"/../../x/\0"),
            "path that is not plain",
        ),
        (
            "slash-in-name",
            forge().header_at(1117, find(&forge(), 1117, b"ssm-cli\0"), b"ssm/cli\0"),
            "path that is not plain",
        ),
        (
            "twice",
            forge().payload_text(b"./usr/bin/ssm-agent-worker\0", b"./usr/bin/amazon-ssm-agent\0"),
            "stands twice",
        ),
        (
            "size-in-header",
            forge().header_at(1028, size_at, &7_u32.to_be_bytes()),
            "another size",
        ),
        (
            "size-in-archive",
            forge().member_field(worker, 6, 7),
            "another size",
        ),
        (
            "mode-in-archive",
            forge().member_field(worker, 1, 0o104_755),
            "another mode",
        ),
        (
            "device",
            forge()
                .header_at(1030, mode_at, &0o020_644_u16.to_be_bytes())
                .member_field(worker, 1, 0o020_644),
            "device node",
        ),
        (
            "fifo",
            forge()
                .header_at(1030, mode_at, &0o010_644_u16.to_be_bytes())
                .member_field(worker, 1, 0o010_644),
            "fifo",
        ),
        (
            "content",
            forge().payload_text(b"NOTICE.md 3.3.1957.0\n", b"NOTICE.md 3.3.1957.1\n"),
            "digest of `/etc/amazon/ssm/NOTICE.md`",
        ),
        (
            "link-text",
            forge().payload_after(b"./usr/bin/ssm-link\0", b"amazon-ssm-agent", b"/etc/ssm-agent/x"),
            "another link text",
        ),
        (
            "hard-link-without-data",
            forge().member_field("usr/bin/ssm-hard", 0, 0x7777),
            "hard link without data",
        ),
        (
            "not-hexadecimal",
            forge().payload_text(b"070701", b"070709"),
            "does not begin as members do",
        ),
        ("cut-off", forge().cut(1000), ""),
        (
            "no-end",
            forge().payload_text(b"TRAILER!!!", b"TRAILED!!!"),
            "is not in the header",
        ),
    ];
    for (name, forged, why) in cases {
        let mirror = offer(name, &forged.finish());
        let target = MiniTree::rhel();
        let err = refused(&mut apply(target.path(), &mirror, V1), target.path(), 5);
        assert!(err.contains(why), "{name}: {err}");
    }
}

fn find(forge: &Forge, tag: u32, text: &[u8]) -> usize {
    let at = ssmbake_tests::forge::place(&forge.header, tag);
    forge.header[at..]
        .windows(text.len())
        .position(|window| window == text)
        .expect("text")
}

#[test]
fn packages_that_do_not_hold_together_are_refused() {
    let good = fs::read(rpm(V1)).expect("package");
    let header_at = (96
        + 16
        + 16 * usize::from(good[96 + 11])
        + usize::from(good[96 + 14]) * 256
        + usize::from(good[96 + 15]))
    .next_multiple_of(8);
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("no-lead", changed(0, 0), "no binary rpm"),
        ("source", changed(7, 1), "no binary rpm"),
        ("signature-count", changed(96 + 8, 0x7f), "promises"),
        ("header-count", changed(header_at + 8, 0x7f), "promises"),
        (
            "header-byte",
            changed(header_at + 3000, good[header_at + 3000] ^ 1),
            "digest",
        ),
        (
            "payload-byte",
            changed(good.len() - 100, good[good.len() - 100] ^ 1),
            "digest",
        ),
        ("short", good[..good.len() - 50].to_vec(), "size"),
        ("only-headers", good[..header_at + 500].to_vec(), ""),
        ("trailing", [good.clone(), vec![0; 7]].concat(), "size"),
        ("empty", Vec::new(), ""),
        ("no-rpm", b"!<arch>\n".repeat(40), "no binary rpm"),
    ];
    for (name, bytes, why) in cases {
        let mirror = offer(name, &bytes);
        let target = MiniTree::rhel();
        let err = refused(&mut apply(target.path(), &mirror, V1), target.path(), 5);
        assert!(err.contains(why), "{name}: {err}");
    }
}

#[test]
fn another_package_under_the_right_name_is_refused() {
    let target = MiniTree::rhel();
    let mirror = Mirror::http();
    publish(&mirror, V1, RPM_FOLDER, &rpm(V2));
    assert!(refused(&mut apply(target.path(), &mirror, V1), target.path(), 5).contains("Version"));
    let build = |package: AgentRpm| {
        publish(&mirror, V1, RPM_FOLDER, &package.build(world().dir.path()));
        refused(&mut apply(target.path(), &mirror, V1), target.path(), 5)
    };
    assert!(
        build(AgentRpm {
            arch: "aarch64".to_owned(),
            ..AgentRpm::new(V1)
        })
        .contains("Arch")
    );
    assert!(
        build(AgentRpm {
            name: "amazon-ssm-agent-x".to_owned(),
            ..AgentRpm::new(V1)
        })
        .contains("Name")
    );
    assert!(
        build(AgentRpm {
            preamble: "Requires: rpmlib(Telepathy) <= 9\n".to_owned(),
            ..AgentRpm::new(V1)
        })
        .contains("rpmlib(Telepathy)")
    );
}

#[test]
fn a_named_digest_counts_besides_the_signature_and_instead_of_one() {
    let mirror = rpm_mirror();
    let digest = |path: &Path| ssmbake_tests::sha256(&fs::read(path).expect("package"));
    let target = MiniTree::rhel();
    let err = refused(
        apply(target.path(), &mirror, V1).args(["--sha256", &digest(&rpm(V2))]),
        target.path(),
        5,
    );
    assert!(err.contains("SHA-256"), "{err}");
    refused(
        apply(target.path(), &mirror, V1).args(["--sha256", "12"]),
        target.path(),
        2,
    );
    must(apply(target.path(), &mirror, V1).args(["--sha256", &digest(&rpm(V1)).to_uppercase()]));
    // Before 3.1.1141.0 there are no signatures.
    let old = "3.1.715.0";
    let package = AgentRpm::new(old).build(world().dir.path());
    let mirror = Mirror::http();
    mirror.put(
        &format!("{old}/{RPM_FOLDER}/amazon-ssm-agent.rpm"),
        fs::read(&package).expect("package"),
    );
    let target = MiniTree::rhel();
    let err = refused(&mut apply(target.path(), &mirror, old), target.path(), 3);
    assert!(err.contains("--sha256"), "{err}");
    refused(
        apply(target.path(), &mirror, old).args(["--sha256", &digest(&rpm(V1))]),
        target.path(),
        5,
    );
    must(apply(target.path(), &mirror, old).args(["--sha256", &digest(&package)]));
    assert!(
        target
            .read("var/lib/ssmbake/receipt.json")
            .contains("\"voucher\": \"pinned-digest\"")
    );
}

#[test]
fn an_embedded_signature_is_judged_when_its_key_is_known() {
    let path = world().dir.path().join("embedded.rpm");
    fs::copy(rpm(V1), &path).expect("copy");
    let gpg = world().signer.gpg(None);
    let home = gpg.get_args().nth(1).expect("home").to_owned();
    must(
        std::process::Command::new("rpmsign")
            .args([
                "--define",
                "_gpg_name test",
                "--define",
                "__gpg /usr/bin/gpg",
                "--addsign",
            ])
            .arg(&path)
            .env("GNUPGHOME", home),
    );
    let mirror = Mirror::http();
    publish(&mirror, V1, RPM_FOLDER, &path);
    let target = MiniTree::rhel();
    must(&mut apply(target.path(), &mirror, V1));
    // rpm keeps it in its database, where `rpm -V` and auditors look for it.
    let kept = must(&mut host_rpm(
        target.path(),
        &["-q", "--qf", "%{RSAHEADER:pgpsig}", "amazon-ssm-agent"],
    ));
    let kept = String::from_utf8_lossy(&kept.stdout).into_owned();
    assert!(kept.starts_with("RSA/SHA"), "{kept}");
    // The detached signature fits the file, the embedded one another header.
    let forged = Forge::new(&fs::read(&path).expect("package")).header_at(1004, 0, b"Stand");
    let mirror = offer("embedded-forged", &forged.finish());
    let target = MiniTree::rhel();
    let err = refused(&mut apply(target.path(), &mirror, V1), target.path(), 5);
    assert!(err.contains("does not fit"), "{err}");
}
