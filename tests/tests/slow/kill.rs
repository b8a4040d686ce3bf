//! kill -9 at any instant.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ssmbake_tests::digest::{Times, diff, tree};
use ssmbake_tests::plant::plant;
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{V1, apply, mirror};
use ssmbake_tests::{must, outcome, ssmbake, ssmbake_bin};

/// kill -9 after `delay`, if it still runs.
fn kill_after(command: &mut Command, delay: Duration) {
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = quiet.spawn().expect("start");
    std::thread::sleep(delay);
    child.kill().expect("kill");
    child.wait().expect("wait");
}

#[test]
fn killed_at_any_instant_the_tree_is_as_before_or_as_wanted() {
    let mirror = mirror();
    let wanted = MiniTree::debian();
    must(&mut apply(wanted.path(), &mirror, V1));
    let mut wanted = tree(wanted.path(), Times::Ignored);
    wanted.remove("var/lib/ssmbake/receipt.json");
    let target = MiniTree::debian();
    let before = tree(target.path(), Times::Count);
    let started = std::time::Instant::now();
    must(&mut apply(MiniTree::debian().path(), &mirror, V1));
    // The instant that divides the two outcomes moves with the machine's load, so each kill goes by the last one:
    // earlier after a finished run, later after one that was taken back.
    let mut delay = started.elapsed();
    let mut outcomes = [0, 0];
    for number in 0..120 {
        kill_after(&mut apply(target.path(), &mirror, V1), delay);
        // It settles what was left, and finds nothing of its own to do.
        must(&mut ssmbake(&["seal", "--root", target.arg()]));
        if diff(&before, &tree(target.path(), Times::Count)).is_empty() {
            outcomes[0] += 1;
            delay = delay.mul_f64(1.04);
            continue;
        }
        let mut after = tree(target.path(), Times::Ignored);
        after.remove("var/lib/ssmbake/receipt.json");
        assert_eq!(
            diff(&wanted, &after),
            Vec::<String>::new(),
            "kill number {number}"
        );
        outcomes[1] += 1;
        delay = delay.mul_f64(0.92);
        must(&mut ssmbake(&["revert", "--root", target.arg()]));
        return_times(target.path(), &before);
    }
    println!("before: {}, after: {}", outcomes[0], outcomes[1]);
    assert!(outcomes[0] > 0, "no kill came early enough");
    assert!(outcomes[1] > 0, "no kill came late enough");
}

/// After a revert only directory times differ; put them back for the next round.
fn return_times(root: &Path, before: &ssmbake_tests::digest::Tree) {
    for path in diff(before, &tree(root, Times::Count)) {
        let path = path.trim_start_matches("~ ");
        let line = &before[path];
        let time = line.split(' ').nth(3).expect("time");
        must(
            Command::new("touch")
                .args(["-h", "-d", &format!("@{time}")])
                .arg(root.join(path)),
        );
    }
    assert_eq!(diff(before, &tree(root, Times::Count)), Vec::<String>::new());
}

#[test]
fn a_seal_that_is_killed_is_whole_or_undone() {
    let target = MiniTree::debian();
    plant(target.path());
    let before = tree(target.path(), Times::Ignored);
    let seal = |root: &Path| {
        let mut command = ssmbake(&["seal", "--profile", "image", "--root"]);
        command.arg(root);
        command
    };
    let copy = target.copy();
    let started = std::time::Instant::now();
    must(&mut seal(copy.path()));
    let mut delay = started.elapsed();
    let sealed = tree(copy.path(), Times::Ignored);
    let mut outcomes = [0, 0];
    for number in 0..60 {
        let copy = target.copy();
        kill_after(&mut seal(copy.path()), delay);
        must(ssmbake(&["revert", "--root"]).arg(copy.path()));
        let after = tree(copy.path(), Times::Ignored);
        let is_undone = diff(&before, &after).is_empty();
        assert!(
            is_undone || diff(&sealed, &after).is_empty(),
            "kill number {number}"
        );
        outcomes[usize::from(!is_undone)] += 1;
        delay = delay.mul_f64(if is_undone { 1.04 } else { 0.92 });
    }
    println!("before: {}, after: {}", outcomes[0], outcomes[1]);
    assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
}

/// A hundred thousand small logs: bounded by the processor's time, which other programs do not lengthen, and by the times
/// that the disk is waited for.
#[test]
fn many_files_are_audited_and_sealed_in_time() {
    let target = MiniTree::debian();
    let script = "for d in $(seq 100); do mkdir -p $0/var/log/$d; cd $0/var/log/$d; for i in $(seq 1000); do echo line >$i.log; done; done";
    must(Command::new("bash").args(["-c", script]).arg(target.path()));
    let syncs = tempfile::NamedTempFile::new().expect("file");
    let within = |seconds: u32, verb: &str| {
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--cpu={seconds}"));
        limited.args([
            "strace",
            "-f",
            "--seccomp-bpf",
            "-e",
            "trace=fsync,fdatasync,syncfs",
            "-o",
        ]);
        limited.arg(syncs.path()).arg(ssmbake_bin());
        limited.args([verb, "--profile", "image", "--root"]);
        outcome(limited.arg(target.path())).0
    };
    assert_eq!(within(4, "audit"), 9);
    assert_eq!(within(60, "seal"), 0);
    let waits = std::fs::read_to_string(syncs.path()).expect("record");
    assert!((1..20).contains(&waits.matches("sync").count()), "{waits}");
    let left = must(
        Command::new("find")
            .arg(target.path().join("var/log"))
            .args(["-type", "f"]),
    );
    assert_eq!(left.stdout, b"");
}
