//! Packages, signatures, trees and disks that mean ill.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use ssmbake_tests::digest::{Times, diff, tree};
use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::package::{AgentPackage, Signer};
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{FOLDER, V1, V2, apply, deb, mirror, refused, world};
use ssmbake_tests::{must, outcome, ssmbake};

#[test]
fn bad_signatures_and_packages_are_refused_before_anything_is_written() {
    let target = MiniTree::debian();
    let good = deb(V1);
    let work = tempfile::tempdir().expect("directory");
    let stranger = Signer::new("ed25519", None, "0");
    let offer = |package: &Path, signature: &[u8]| {
        let mirror = Mirror::http();
        mirror.publish(V1, FOLDER, package, signature);
        mirror
    };
    let signer = &world().signer;
    let edited = |name: &str, edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(&good).expect("package");
        edit(&mut bytes);
        let path = work.path().join(name);
        fs::write(&path, bytes).expect("write");
        path
    };
    let tampered = edited("tampered.deb", &|bytes| {
        let at = bytes.len() - 100;
        bytes[at] ^= 1;
    });
    let truncated = edited("truncated.deb", &|bytes| bytes.truncate(bytes.len() - 1000));
    let trailing = edited("trailing.deb", &|bytes| {
        bytes.extend(b"trailing bytes that nobody asked for")
    });
    let no_package = edited("none.deb", &|bytes| bytes.clear());
    let other_name = AgentPackage {
        name: "amazon-ssm-agenx".to_owned(),
        ..AgentPackage::new("3.3.1958.0")
    }
    .build(work.path());
    let other_arch = AgentPackage {
        arch: "arm64".to_owned(),
        ..AgentPackage::new("3.3.1959.0")
    }
    .build(work.path());
    let cases = [
        ("wrong key", offer(&good, &stranger.sign(&good))),
        ("tampered data", offer(&tampered, &signer.sign(&good))),
        ("swapped signature", offer(&good, &signer.sign(&deb(V2)))),
        (
            "weak digest",
            offer(
                &good,
                &signer.sign_with(
                    &good,
                    &["--digest-algo", "SHA1", "--allow-weak-digest-algos"],
                    None,
                ),
            ),
        ),
        ("truncated signature", offer(&good, &signer.sign(&good)[..60])),
        (
            "trailing bytes after the signature",
            offer(&good, &[signer.sign(&good), b"xx".to_vec()].concat()),
        ),
        ("no signature", offer(&good, b"")),
        ("replayed version", offer(&deb(V2), &signer.sign(&deb(V2)))),
        ("truncated package", offer(&truncated, &signer.sign(&truncated))),
        ("trailing bytes", offer(&trailing, &signer.sign(&trailing))),
        ("empty package", offer(&no_package, &signer.sign(&no_package))),
        ("other package", offer(&other_name, &signer.sign(&other_name))),
        (
            "other architecture",
            offer(&other_arch, &signer.sign(&other_arch)),
        ),
    ];
    for (name, mirror) in &cases {
        println!("{name}");
        let err = refused(&mut apply(target.path(), mirror, V1), target.path(), 5);
        assert!(err.contains("hint: "), "{name}: {err}");
    }
}

#[test]
fn a_key_counts_only_inside_its_own_window() {
    let target = MiniTree::debian();
    let signer = Signer::new("rsa2048", Some("20200101T000000"), "30d");
    let keyring = tempfile::NamedTempFile::new().expect("file");
    fs::write(keyring.path(), signer.certificate()).expect("keyring");
    let run = |clock: &str, options: &[&str]| {
        let mirror = Mirror::http();
        mirror.publish(
            V1,
            FOLDER,
            &deb(V1),
            &signer.sign_with(&deb(V1), options, Some(clock)),
        );
        let mut command = ssmbake(&[
            "apply",
            "--mirror",
            &mirror.url,
            "--version",
            V1,
            "--root",
            target.arg(),
        ]);
        let (code, _, err) = outcome(command.arg("--keyring").arg(keyring.path()));
        (code, err)
    };
    let before = tree(target.path(), Times::Count);
    let (code, err) = run(
        "20190101T000000",
        &["--ignore-time-conflict", "--ignore-valid-from"],
    );
    assert_eq!(code, 5, "{err}");
    assert!(err.contains("which is valid from"), "{err}");
    assert_eq!(
        diff(&before, &tree(target.path(), Times::Count)),
        Vec::<String>::new()
    );
    // Good when it was made, whatever the calendar says today.
    assert_eq!(run("20200115T000000", &[]).0, 0);
}

/// A deb whose payload is made by GNU tar with `arguments` in a folder prepared by `script`.
fn crafted(work: &Path, name: &str, script: &str, arguments: &str) -> PathBuf {
    let package = work.join(format!("{name}.deb"));
    let shell = format!(
        "set -e; d=$(mktemp -d); cd $d; dpkg-deb -R {} base; cp -a base/DEBIAN control; rm -rf base/DEBIAN; cd base; {script}\n\
         test -e ../data.tar.gz || tar -P --owner=0 --group=0 -czf ../data.tar.gz {arguments}; cd ..; tar -C control --owner=0 --group=0 -czf control.tar.gz .\n\
         echo 2.0 > debian-binary; rm -f {deb}; ar rc {deb} debian-binary control.tar.gz data.tar.gz; rm -rf $d",
        deb(V1).display(),
        deb = package.display()
    );
    must(Command::new("sh").args(["-c", &shell]));
    package
}

/// A script that makes a payload of ten gigabytes of zeros in ten megabytes: members of `size` each.
fn bomb(name: &str, kind: &str, size: u64) -> String {
    format!(
        "python3 -c 'import gzip, tarfile\nout = open(\"../data.tar.gz\", \"wb\")\nzeros = gzip.compress(bytes(1 << 20), 1)\n\
         for i in range((10 << 30) // {size}):\n  h = tarfile.TarInfo(\"{name}\".replace(\"%d\", str(i))); h.size = {size}; h.type = b\"{kind}\"\n  \
         out.write(gzip.compress(h.tobuf(tarfile.GNU_FORMAT)) + zeros * ({size} >> 20))'"
    )
}

#[test]
#[ignore = "takes seconds: scripts/test without `fast` runs it"]
fn hostile_members_are_refused() {
    let target = MiniTree::debian();
    let work = tempfile::tempdir().expect("directory");
    let cases = [
        ("parent", "echo x > evil", "--transform 's,^./evil,./../evil,' ."),
        ("absolute", "echo x > evil", "--transform 's,^./evil,/evil,' ."),
        ("device", "mknod usr/bin/dev c 1 3", "."),
        ("fifo", "mkfifo usr/bin/fifo", "."),
        (
            "through-link",
            "ln -s /etc x; mkdir y; echo e > y/evil",
            "--transform 's,^./y/evil,./x/evil,' ./x ./y/evil .",
        ),
        ("twice", "true", "./usr/bin/ssm-cli ."),
        ("bomb", &bomb("./usr/bin/zeros", "0", 10 << 30), ""),
        ("bomb-of-many", &bomb("./usr/bin/zeros-%d", "0", 100 << 20), ""),
        ("long-name", &bomb("././@LongLink", "L", 10 << 30), ""),
        // dpkg does not read it either.
        (
            "pax",
            "echo x > usr/bin/x",
            "--format=pax --pax-option=comment=x .",
        ),
    ];
    for (name, script, arguments) in cases {
        println!("{name}");
        let package = crafted(work.path(), name, script, arguments);
        let mirror = Mirror::http();
        mirror.publish(V1, FOLDER, &package, &world().signer.sign(&package));
        refused(&mut apply(target.path(), &mirror, V1), target.path(), 5);
        assert!(
            !target.path().parent().expect("parent").join("evil").exists(),
            "{name}"
        );
    }
}

#[test]
fn links_in_the_tree_never_lead_outside() {
    let mirror = mirror();
    let outside = tempfile::tempdir().expect("directory");
    fs::write(outside.path().join("sentinel"), "here").expect("sentinel");
    let sentinel = tree(outside.path(), Times::Count);
    for dir in [
        "etc",
        "var/lib",
        "usr/bin",
        "etc/systemd",
        "usr/local/share",
        "var/lib/dpkg",
        "etc/ssl",
        "etc/amazon",
    ] {
        for target_text in [
            outside.path().to_str().expect("UTF-8").to_owned(),
            format!("../../../../../..{}", outside.path().display()),
        ] {
            let target = MiniTree::debian();
            let place = target.path().join(dir);
            fs::create_dir_all(place.parent().expect("parent")).expect("directory");
            if place.exists() {
                let inside = target
                    .path()
                    .join(outside.path().strip_prefix("/").expect("absolute"));
                fs::create_dir_all(inside.parent().expect("parent")).expect("directory");
                fs::rename(&place, inside).expect("move");
            }
            symlink(&target_text, &place).expect("link");
            let (code, out, err) = outcome(&mut apply(target.path(), &mirror, V1));
            assert!(
                [0, 7, 8].contains(&code),
                "{dir} -> {target_text}: {code} {out}{err}"
            );
            assert_eq!(
                diff(&sentinel, &tree(outside.path(), Times::Count)),
                Vec::<String>::new(),
                "{dir} -> {target_text}"
            );
        }
    }
}

#[test]
fn a_full_or_read_only_disk_changes_nothing() {
    let mirror = mirror();
    let mount = |options: &str| {
        let dir = tempfile::tempdir().expect("directory");
        must(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", options, "none"])
                .arg(dir.path()),
        );
        let model = MiniTree::debian();
        must(
            Command::new("cp")
                .arg("-a")
                .arg(format!("{}/.", model.arg()))
                .arg(dir.path()),
        );
        dir
    };
    // A program that another test starts in this moment may still hold a file of the mount, until it is another program.
    let soon = |command: &mut Command| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while outcome(command).0 != 0 {
            assert!(std::time::Instant::now() < deadline, "{command:?}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    let full = mount("size=300k");
    refused(&mut apply(full.path(), &mirror, V1), full.path(), 7);
    soon(Command::new("umount").arg(full.path()));
    let read_only = mount("size=30m");
    soon(
        Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(read_only.path()),
    );
    refused(&mut apply(read_only.path(), &mirror, V1), read_only.path(), 7);
    soon(Command::new("umount").arg(read_only.path()));
}

#[test]
fn a_full_temporary_directory_changes_nothing() {
    let (target, mirror) = (MiniTree::debian(), mirror());
    let small = tempfile::tempdir().expect("directory");
    must(
        Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "none"])
            .arg(small.path()),
    );
    let mut command = apply(target.path(), &mirror, V1);
    let err = refused(command.env("TMPDIR", small.path()), target.path(), 7);
    assert!(err.contains("TMPDIR"), "{err}");
    must(Command::new("umount").arg(small.path()));
    let mut command = apply(target.path(), &mirror, V1);
    refused(command.env("TMPDIR", "/nonexistent"), target.path(), 7);
}

/// A journal that the tree brings along; `entry` is the text of its only one.
fn journal(target: &MiniTree, entry: &str, end: &str) -> PathBuf {
    let place = target.path().join("var/lib/.ssmbake-journal");
    let line = format!("{{\"schema\":1,\"entries\":[{entry}],\"dirs\":[],\"epoch\":null}}\n{end}");
    fs::write(&place, line).expect("journal");
    place
}

#[test]
fn journals_of_strangers_are_not_followed() {
    let outside = tempfile::tempdir().expect("directory");
    fs::write(outside.path().join("victim"), "here").expect("file");
    let sentinel = tree(outside.path(), Times::Count);
    let absolute = outside.path().join("victim").display().to_string();
    let up = format!("../../../../../../..{absolute}");
    let mut cases = Vec::new();
    for name in [
        absolute.as_str(),
        up.as_str(),
        "..",
        ".ssmbake-1.new",
        ".ssmbake-0.old/x",
        "passwd",
    ] {
        for (undo, end) in [
            (format!("\"undo\":\"remove\",\"temp\":\"{name}\""), ""),
            (
                format!("\"undo\":{{\"restore\":{{\"backup\":\"{name}\"}}}},\"temp\":null"),
                "",
            ),
            (
                format!("\"undo\":{{\"restore\":{{\"backup\":\"{name}\"}}}},\"temp\":null,\"wipe\":true"),
                "committed\n",
            ),
        ] {
            cases.push((format!("{{\"path\":\"/etc/x\",{undo}}}"), end));
        }
    }
    for (entry, end) in &cases {
        let target = MiniTree::debian();
        journal(&target, entry, end);
        for verb in [["seal"].as_slice(), &["revert"], &["apply"]] {
            let err = refused(ssmbake(verb).arg("--root").arg(target.path()), target.path(), 11);
            assert!(err.contains("is not usable: it names `"), "{entry}: {err}");
        }
        assert_eq!(
            diff(&sentinel, &tree(outside.path(), Times::Count)),
            Vec::<String>::new(),
            "{entry}"
        );
    }
}

#[test]
fn a_journal_counts_only_when_nobody_else_could_have_written_it() {
    let good = "{\"path\":\"/etc/x\",\"undo\":\"remove\",\"temp\":\".ssmbake-0.new\"}";
    type Spoil<'a> = (&'a str, &'a dyn Fn(&Path));
    let spoilt: [Spoil<'_>; 4] = [
        ("its mode is 0666", &|place| {
            fs::set_permissions(place, fs::Permissions::from_mode(0o666)).expect("mode");
        }),
        ("it belongs to user 12345", &|place| {
            chown(place, Some(12345), None).expect("owner");
        }),
        ("it is not a regular file", &|place| {
            fs::rename(place, place.with_file_name("elsewhere")).expect("move");
            symlink("elsewhere", place).expect("link");
        }),
        ("it is not a regular file", &|place| {
            fs::remove_file(place).expect("remove");
            must(Command::new("mkfifo").arg(place));
        }),
    ];
    for (why, spoil) in spoilt {
        let target = MiniTree::debian();
        spoil(&journal(&target, good, ""));
        let err = refused(
            ssmbake(&["revert", "--root"]).arg(target.path()),
            target.path(),
            11,
        );
        assert!(err.contains(why), "{why}: {err}");
    }
}

#[test]
fn who_looks_at_a_tree_that_is_half_changed_says_so_and_leaves_it() {
    let target = MiniTree::debian();
    target.put("etc/x", "new");
    let entry = "{\"path\":\"/etc/x\",\"undo\":\"remove\",\"temp\":\".ssmbake-0.new\"}";
    journal(&target, entry, "");
    let before = tree(target.path(), Times::Count);
    for verb in [
        ["detect"].as_slice(),
        &["plan", "--region", "eu-west-1"],
        &["plan", "seal"],
        &["audit"],
    ] {
        let (code, out, err) = outcome(ssmbake(verb).arg("--root").arg(target.path()));
        assert_eq!(
            code,
            if verb == ["audit"] { 9 } else { 0 },
            "{verb:?}: {out}{err}"
        );
        assert!(err.contains("is under way or was interrupted"), "{verb:?}: {err}");
        assert_eq!(
            out.contains("no change by ssmbake is half done: a change"),
            verb == ["audit"],
            "{out}"
        );
    }
    assert_eq!(
        diff(&before, &tree(target.path(), Times::Count)),
        Vec::<String>::new()
    );
    must(ssmbake(&["revert", "--root"]).arg(target.path()));
    assert!(!target.path().join("etc/x").exists());
}
