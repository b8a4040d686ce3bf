//! `seal`: every class is planted, found, removed, and nothing else is.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ssmbake_manifests::SealAction;
use ssmbake_tests::digest::{Times, diff, tree};
use ssmbake_tests::plant::{LEFT, SECRET, plant};
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::refused;
use ssmbake_tests::{must, outcome, ssmbake, ssmbake_bin};

fn run(verb: &[&str], root: &Path) -> (i32, String, String) {
    outcome(ssmbake(verb).arg("--root").arg(root))
}

fn secrets_in(root: &Path) -> String {
    outcome(Command::new("grep").args(["-rlF", SECRET]).arg(root)).1
}

#[test]
fn every_planted_sample_is_found_and_removed() {
    let target = MiniTree::debian();
    let samples = plant(target.path());
    let classes: BTreeSet<&str> = samples.iter().map(|sample| sample.class.as_str()).collect();
    let before = tree(target.path(), Times::Count);
    let (code, planned, err) = run(&["plan", "seal", "--profile", "image"], target.path());
    assert_eq!(code, 0, "{planned}{err}");
    let (code, audited, _) = run(&["audit", "--profile", "image"], target.path());
    assert_eq!(code, 9);
    for class in &classes {
        assert!(planned.contains(&format!("({class}: ")), "{class}: {planned}");
        let failed = format!("nothing is left of the class {class}: `");
        assert!(
            audited
                .lines()
                .any(|line| !line.starts_with("pass") && line.contains(&failed)),
            "{class}: {audited}"
        );
    }
    assert_eq!(
        diff(&before, &tree(target.path(), Times::Count)),
        Vec::<String>::new()
    );

    let seal = ["seal", "--profile", "image", "--detailed-exitcode"];
    let (code, out, err) = run(&seal, target.path());
    assert_eq!(code, 20, "{out}{err}");
    assert_eq!(secrets_in(target.path()), "");
    for sample in &samples {
        let place = target.path().join(&sample.path);
        match sample.action {
            SealAction::Remove | SealAction::Empty | SealAction::RemoveFiles => {
                assert!(!place.exists(), "{sample:?}")
            }
            // Another rule of this profile takes the whole file.
            SealAction::DropSections => assert!(!place.exists(), "{sample:?}"),
            SealAction::Truncate => assert_eq!(fs::read(&place).expect("file"), b""),
            SealAction::DropLines => {
                assert_eq!(
                    fs::read_to_string(&place).expect("file"),
                    format!("{}\n", sample.kept)
                )
            }
        }
    }
    // Directories that programs take for granted.
    for dir in ["var/lib/amazon/ssm", "var/log/below", "tmp", "var/lib/apt/lists"] {
        assert!(target.path().join(dir).is_dir(), "{dir}");
    }
    let sealed = tree(target.path(), Times::Count);
    let (code, out, _) = run(&seal, target.path());
    assert_eq!((code, out.as_str()), (0, "nothing to seal\n"));
    assert_eq!(
        diff(&sealed, &tree(target.path(), Times::Count)),
        Vec::<String>::new()
    );
    let (_, audited, _) = run(&["audit", "--profile", "image"], target.path());
    for class in classes {
        assert!(
            audited.contains(&format!("nothing is left of the class {class}: nothing")),
            "{audited}"
        );
    }
}

#[test]
fn the_agent_s_profile_leaves_the_machine_s_own() {
    let target = MiniTree::debian();
    plant(target.path());
    must(ssmbake(&["seal", "--root"]).arg(target.path()));
    assert_eq!(
        target.read("root/.aws/credentials"),
        "[own]\naws_access_key_id = AKIA\n"
    );
    assert!(!target.path().join("var/lib/amazon/ssm/below").exists());
    for path in [
        "etc/machine-id",
        "var/log/wtmp",
        "etc/ssh/ssh_host_x_key",
        "root/.xhistory",
    ] {
        assert!(target.read(path).contains(SECRET), "{path}");
    }
}

#[test]
fn what_is_known_to_be_left_goes_without_asking_the_rules() {
    let target = MiniTree::debian();
    for path in LEFT {
        target.put(path, SECRET);
    }
    target.put("etc/hostname", "lock01\n");
    must(ssmbake(&["seal", "--profile", "image", "--root"]).arg(target.path()));
    assert_eq!(secrets_in(target.path()), "");
    assert_eq!(target.read("etc/hostname"), "");
}

#[test]
fn a_keyring_with_secret_keys_is_its_user_s() {
    for (path, goes) in [
        ("root/.gnupg/trustdb.gpg", true),
        ("root/.gnupg/private-keys-v1.d/x.key", false),
        ("root/.gnupg/secring.gpg", false),
    ] {
        let target = MiniTree::debian();
        target.put("root/.gnupg/secring.gpg", "");
        target.put("root/.gnupg/pubring.kbx", SECRET);
        target.put(path, SECRET);
        must(ssmbake(&["seal", "--root"]).arg(target.path()));
        assert_eq!(!target.path().join("root/.gnupg").exists(), goes, "{path}");
    }
}

#[test]
fn links_sockets_and_second_names_are_no_way_out() {
    let (target, outside) = (MiniTree::debian(), tempfile::tempdir().expect("directory"));
    let kept = outside.path().join("kept");
    fs::write(&kept, "kept").expect("file");
    target.put("var/lib/amazon/ssm/file", "x");
    symlink(outside.path(), target.path().join("var/lib/amazon/ssm/outside")).expect("link");
    symlink(&kept, target.path().join("var/lib/amazon/ssm/kept")).expect("link");
    must(Command::new("mkfifo").arg(target.path().join("var/lib/amazon/ssm/fifo")));
    // A log with a second name that is none of ours.
    target.put("var/log/app.log", "application");
    target.put("opt/keep/README", "");
    fs::hard_link(
        target.path().join("var/log/app.log"),
        target.path().join("opt/keep/app.log"),
    )
    .expect("hard link");
    // A directory of the image that is a link inside the image.
    target.put("srv/cloud/instance/user-data.txt", SECRET);
    symlink("/srv/cloud", target.path().join("var/lib/cloud")).expect("link");
    must(ssmbake(&["seal", "--profile", "image", "--root"]).arg(target.path()));
    assert_eq!(fs::read_to_string(&kept).expect("file"), "kept");
    assert_eq!(target.read("opt/keep/app.log"), "application");
    assert_eq!(
        fs::read_dir(target.path().join("var/lib/amazon/ssm"))
            .expect("list")
            .count(),
        0
    );
    assert_eq!(secrets_in(target.path()), "");
}

#[test]
fn what_stands_behind_links_is_found_and_goes() {
    let target = MiniTree::debian();
    let link = |place: &str, to: &str| {
        let place = target.path().join(place);
        fs::create_dir_all(place.parent().expect("parent")).expect("directory");
        symlink(to, place).expect("link");
    };
    let key = format!("ssh-rsa {SECRET} packer_01234567-89ab-cdef-0123-456789abcdef\n");
    target.put("srv/ak", &format!("ssh-ed25519 AAAA me@home\n{key}"));
    target.put("srv/id", SECRET);
    for (path, mode) in [("srv/ak", 0o600), ("srv/id", 0o444)] {
        fs::set_permissions(target.path().join(path), fs::Permissions::from_mode(mode)).expect("mode");
    }
    link("root/.ssh/authorized_keys", "/srv/ak");
    link("etc/machine-id", "../srv/id");
    link("var/lib/dbus/machine-id", "/etc/machine-id");
    link("var/log/wtmp", "/srv/wtmp");
    for (place, behind) in [
        ("etc/ssh/ssh_host_rsa_key", "srv/key"),
        ("root/.bash_history", "srv/history"),
        ("root/.gnupg", "srv/gnupg/private-keys-v1.d/key"),
        ("var/lib/amazon/ssm/Vault", "srv/vault/Store/RegistrationKey"),
        ("var/lib/dhcp/dhclient.leases", "srv/leases"),
        ("var/log/wtmp", "srv/wtmp"),
    ] {
        target.put(behind, SECRET);
        let top: Vec<&str> = behind.split('/').take(2).collect();
        if place != "var/log/wtmp" {
            link(place, &format!("/{}", top.join("/")));
        }
    }
    let audit = || run(&["audit", "--profile", "image"], target.path());
    assert_eq!(audit().0, 9);
    must(ssmbake(&["seal", "--profile", "image", "--root"]).arg(target.path()));
    assert_eq!(secrets_in(target.path()), "");
    let (_, audited, _) = audit();
    assert!(
        !audited.contains("nothing is left of the class machine-id: `"),
        "{audited}"
    );
    assert!(
        audited.contains("nothing is left of the class ssh-host-keys: nothing"),
        "{audited}"
    );
    // Files that stay are themselves, and so are the links to them.
    let mode = |path: &str| target.path().join(path).symlink_metadata().expect(path).mode() & 0o177_777;
    assert_eq!((mode("srv/ak"), mode("srv/id")), (0o100_600, 0o100_444));
    assert_eq!(target.read("srv/ak"), "ssh-ed25519 AAAA me@home\n");
    for place in ["root/.ssh/authorized_keys", "etc/machine-id", "var/log/wtmp"] {
        assert_eq!(mode(place), 0o120_777, "{place}");
    }
    assert!(!target.path().join("srv/gnupg").exists() && !target.path().join("srv/vault").exists());
}

#[test]
fn names_that_are_no_text_are_found_and_go() {
    let target = MiniTree::debian();
    let places: [&[u8]; 7] = [
        b"var/lib/amazon/ssm/Vault/k\xffey",
        b"var/lib/amazon/ssm/Vault/a\nb",
        b"var/lib/amazon/ssm/\xff\xfe/deep\x01/key",
        b"var/log/app\xe9.log",
        b"root/.\xe9_history",
        b"home/j\xfcrgen/.bash_history",
        "var/lib/amazon/ssm/\u{f7ff}".as_bytes(),
    ];
    for raw in places {
        let place = target.path().join(OsStr::from_bytes(raw));
        fs::create_dir_all(place.parent().expect("parent")).expect("directory");
        fs::write(place, SECRET).expect("file");
    }
    // A link's text need not be text either.
    let place = target.path().join("root/.lesshst");
    symlink(OsStr::from_bytes(b"../home/j\xfcrgen/less"), &place).expect("link");
    fs::write(
        target.path().join(OsStr::from_bytes(b"home/j\xfcrgen/less")),
        SECRET,
    )
    .expect("file");
    let (code, audited, _) = run(&["audit", "--profile", "image"], target.path());
    assert_eq!(code, 9);
    assert!(audited.contains("`/root/.\\xe9_history`"), "{audited}");
    must(ssmbake(&["seal", "--profile", "image", "--root"]).arg(target.path()));
    assert_eq!(secrets_in(target.path()), "");
    assert_eq!(
        fs::read_dir(target.path().join("var/lib/amazon/ssm"))
            .expect("list")
            .count(),
        0
    );
    let (_, audited, _) = run(&["audit", "--profile", "image"], target.path());
    for class in ["agent-identity", "shell-history", "logs"] {
        assert!(
            audited.contains(&format!("of the class {class}: nothing")),
            "{audited}"
        );
    }
}

#[test]
fn no_depth_of_directories_hides_anything() {
    let target = MiniTree::debian();
    let deep = |levels: usize| format!("var/lib/amazon/ssm/{}key", "d/".repeat(levels));
    target.put(&deep(300), SECRET);
    let seal = ["seal", "--profile", "image", "--detailed-exitcode"];
    assert_eq!(run(&seal, target.path()).0, 20);
    assert_eq!(
        fs::read_dir(target.path().join("var/lib/amazon/ssm"))
            .expect("list")
            .count(),
        0
    );
    assert_eq!(run(&seal, target.path()).0, 0);
    // What cannot be named cannot be left out silently.
    let script =
        "cd $0/var/lib/amazon/ssm; for i in $(seq 25); do mkdir -p $1; cd $1; done; echo planted-secret >key";
    let mut fill = Command::new("bash");
    fill.args(["-c", script]).arg(target.path()).arg("n".repeat(200));
    must(&mut fill);
    let (code, out, err) = run(&seal, target.path());
    assert!(
        code == 7 && err.contains("it is longer than 4095 bytes"),
        "{out}{err}"
    );
    let (code, out, err) = run(&["audit", "--profile", "image"], target.path());
    assert_eq!(code, 9, "{out}{err}");
    assert!(
        out.contains("FAIL SSMB040 nothing is left of the class agent-identity: cannot be judged: "),
        "{out}"
    );
}

#[test]
fn a_directory_that_stays_is_told() {
    let target = MiniTree::debian();
    target.put("var/lib/amazon/ssm/ipc/socket", SECRET);
    let place = target.path().join("var/lib/amazon/ssm/ipc/mounted");
    fs::create_dir(&place).expect("directory");
    must(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&place));
    let (code, out, err) = run(&["seal"], target.path());
    must(Command::new("umount").arg("-l").arg(&place));
    assert_eq!(code, 8, "{out}{err}");
    assert!(err.contains("`/var/lib/amazon/ssm/ipc` is not empty"), "{err}");
    assert_eq!(secrets_in(target.path()), "");
    assert_eq!(run(&["seal", "--detailed-exitcode"], target.path()).0, 20);
    assert_eq!(run(&["seal", "--detailed-exitcode"], target.path()).0, 0);
}

#[test]
#[ignore = "takes seconds: scripts/test without `fast` runs it"]
fn writers_do_not_keep_a_system_from_being_sealed() {
    let target = MiniTree::debian();
    let logs: Vec<_> = (0..300)
        .map(|number| target.path().join(format!("var/log/{number}.log")))
        .collect();
    target.put("var/log/wtmp", SECRET);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let wtmp = target.path().join("var/log/wtmp");
            while !done.load(Ordering::Relaxed) {
                for log in logs.iter().chain([&wtmp]) {
                    let mut file = fs::File::options()
                        .append(true)
                        .create(true)
                        .open(log)
                        .expect("log");
                    file.write_all(b"a line more\n").expect("write");
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let outcomes: Vec<_> = (0..20)
            .map(|_| run(&["seal", "--profile", "image"], target.path()))
            .collect();
        done.store(true, Ordering::Relaxed);
        for (code, out, err) in outcomes {
            assert_eq!(code, 0, "{out}{err}");
        }
    });
    assert_eq!(secrets_in(target.path()), "");
}

#[test]
fn sparse_files_cost_neither_memory_nor_disk() {
    let target = MiniTree::debian();
    for path in ["var/log/lastlog", "var/log/sparse.log", "etc/machine-id"] {
        target.put(path, SECRET);
        let file = fs::File::options()
            .write(true)
            .open(target.path().join(path))
            .expect(path);
        file.set_len(300 << 30).expect(path);
    }
    let bounded = |verb: &[&str]| {
        let words = verb.iter().copied().chain(["--profile", "image", "--root"]);
        let mut limited = Command::new("prlimit");
        limited
            .args(["--as=1000000000", "--fsize=400000000000"])
            .arg(ssmbake_bin())
            .args(words);
        outcome(limited.arg(target.path()))
    };
    assert_eq!(bounded(&["audit"]).0, 9);
    let (code, out, err) = bounded(&["seal"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(!target.path().join("var/log/sparse.log").exists());
    assert_eq!(
        target.read("var/log/lastlog") + &target.read("etc/machine-id"),
        ""
    );
}

#[test]
fn links_do_not_have_other_people_s_files_removed() {
    let target = MiniTree::debian();
    for (place, to) in [
        // A user's link to what is not theirs.
        ("home/jo/.bash_history", "/etc/os-release"),
        ("home/jo/.lesshst", ".lesshst"),
        ("home/jo/.viminfo", &"x".repeat(300)),
        ("home/jo/.ssh", ".ssh"),
        // Where the link itself lives, the top, and what classes without secrets point at.
        ("root/.gnupg", "/root"),
        ("var/lib/amazon/ssm/up", "/"),
        ("var/lib/amazon/ssm/usr", "/usr"),
        ("tmp/amazon-ssm-agent", "/usr/bin/sh"),
        ("var/log/README", "../../usr/share/README"),
    ] {
        target.put("usr/share/README", "");
        let place = target.path().join(place);
        fs::create_dir_all(place.parent().expect("parent")).expect("directory");
        symlink(to, &place).expect("link");
        if place.starts_with(target.path().join("home")) {
            lchown(&place, Some(1000), Some(1000)).expect("owner");
        }
    }
    target.put("root/kept", "");
    must(ssmbake(&["seal", "--profile", "image", "--root"]).arg(target.path()));
    for path in ["etc/os-release", "root/kept", "usr/bin/sh", "usr/share/README"] {
        assert!(target.path().join(path).exists(), "{path}");
    }
    assert!(!target.path().join("home/jo/.bash_history").is_symlink());
}

#[test]
fn files_where_homes_are_looked_for_are_no_obstacle() {
    let target = MiniTree::debian();
    target.put("home/aquota.user", "");
    target.put("home/me/.bash_history", SECRET);
    must(ssmbake(&["seal", "--profile", "image", "--root"]).arg(target.path()));
    assert_eq!(secrets_in(target.path()), "");
}

#[test]
fn what_nobody_makes_anew_is_said() {
    let target = MiniTree::debian();
    target.put("etc/ssh/ssh_host_rsa_key", "key");
    let (_, _, err) = run(&["plan", "seal", "--profile", "image"], target.path());
    assert!(err.contains("ssh-keygen -A"), "{err}");
    target.put("usr/bin/cloud-init", "");
    let (_, _, err) = run(&["plan", "seal", "--profile", "image"], target.path());
    assert!(!err.contains("ssh-keygen"), "{err}");
}

#[test]
fn a_tree_that_cannot_be_written_stays_whole() {
    let target = MiniTree::debian();
    plant(target.path());
    // Another run is at work.
    let journal = target.path().join("var/lib/.ssmbake-journal");
    fs::write(&journal, "{}").expect("journal");
    let held = fs::File::open(&journal).expect("open");
    held.lock().expect("lock");
    let mut seal = ssmbake(&["seal", "--profile", "image", "--root"]);
    refused(seal.arg(target.path()), target.path(), 8);
}
