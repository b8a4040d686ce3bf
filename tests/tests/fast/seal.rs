//! `seal`: every class is planted, found, removed, and nothing else is.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use ssmbake_manifests::SealAction;
use ssmbake_tests::digest::{Times, diff, tree};
use ssmbake_tests::plant::{SECRET, plant};
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::refused;
use ssmbake_tests::{must, outcome, ssmbake};

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
