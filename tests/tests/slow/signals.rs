//! SIGINT, SIGTERM and SIGHUP at any instant: all is taken back at once, and the exit code says so.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use ssmbake_tests::digest::{Times, diff, tree};
use ssmbake_tests::mirror::Fault;
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{FOLDER, V1, apply, choice, mirror};
use ssmbake_tests::{must, ssmbake};

const SIGNALS: [(Signal, i32); 3] = [(Signal::HUP, 1), (Signal::INT, 2), (Signal::TERM, 15)];

/// Starts `command`, sends `signal` after `delay`; how it ended and what it said.
fn interrupted(command: &mut Command, delay: Duration, signal: Signal) -> (ExitStatus, String) {
    signalled(command, delay, &[signal])
}

fn signalled(command: &mut Command, delay: Duration, signals: &[Signal]) -> (ExitStatus, String) {
    // Whoever runs the tests in the background has SIGINT ignored, and ssmbake leaves it so.
    let mut fresh = Command::new("env");
    fresh
        .arg("--default-signal=HUP,INT,TERM")
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    let child = fresh
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start");
    let pid = Pid::from_raw(child.id().cast_signed()).expect("process");
    std::thread::sleep(delay);
    for signal in signals {
        // It may be over.
        let _over = kill_process(pid, *signal);
        // A signal that waits already is not sent twice.
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().expect("end");
    (
        output.status,
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn a_signal_at_any_instant_takes_all_back() {
    let mirror = mirror();
    let temp = tempfile::tempdir().expect("directory");
    let mut delay = Duration::from_millis(100);
    let mut counts = [0, 0, 0];
    for number in 0..90 {
        let target = MiniTree::debian();
        let before = tree(target.path(), Times::Count);
        let (signal, code) = SIGNALS[number % SIGNALS.len()];
        let mut command = apply(target.path(), &mirror, V1);
        let (status, said) = interrupted(command.env("TMPDIR", temp.path()), delay, signal);
        assert_eq!(std::fs::read_dir(temp.path()).expect("directory").count(), 0);
        if status.success() {
            must(ssmbake(&["audit", "--root"]).arg(target.path()));
            delay = delay.mul_f64(0.85);
            counts[0] += 1;
            continue;
        }
        delay = delay.mul_f64(1.04);
        assert_eq!(
            diff(&before, &tree(target.path(), Times::Count)),
            Vec::<String>::new(),
            "{said}"
        );
        if status.signal() == Some(code) {
            // Before it listened there was nothing to take back.
            counts[1] += 1;
            continue;
        }
        assert_eq!(status.code(), Some(128 + code), "{said}");
        assert!(
            said.contains("error: interrupted by SIG") && said.contains("hint: "),
            "{said}"
        );
        counts[2] += 1;
    }
    println!(
        "finished {}, not yet listening {}, taken back {}",
        counts[0], counts[1], counts[2]
    );
    assert!(counts[0] > 0 && counts[2] > 10, "{counts:?}");
}

#[test]
fn a_silent_server_does_not_hold_a_signal_up() {
    let mirror = mirror();
    mirror.fault(&format!("{V1}/{FOLDER}/amazon-ssm-agent.deb"), Fault::Stall);
    let target = MiniTree::debian();
    let before = tree(target.path(), Times::Count);
    let started = Instant::now();
    let mut command = apply(target.path(), &mirror, V1);
    let (status, said) = interrupted(&mut command, Duration::from_secs(2), Signal::INT);
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(started.elapsed() < Duration::from_secs(6), "{said}");
    assert_eq!(
        diff(&before, &tree(target.path(), Times::Count)),
        Vec::<String>::new()
    );
    // What nohup wants ignored is.
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg0("sh");
    let command = apply(target.path(), &mirror, V1);
    shell
        .arg(command.get_program())
        .args(command.get_args())
        .args(["--timeout", "4"])
        .env_clear();
    let (status, said) = interrupted(&mut shell, Duration::from_secs(1), Signal::HUP);
    assert_eq!(status.code(), Some(6), "{said}");
}

#[test]
fn verbs_that_write_files_leave_none_that_is_half_done() {
    let (mirror, dir) = (mirror(), tempfile::tempdir().expect("directory"));
    let at = |name: &str| dir.path().join(name);
    let keyring = &ssmbake_tests::world::world().keyring;
    let choice = choice(&mirror);
    let mut lock = ssmbake(&["lock", "--keyring"]);
    must(lock.arg(keyring).args(choice).arg("--out").arg(at("lock")));
    let mut sync = ssmbake(&["mirror", "sync", "--keyring"]);
    sync.arg(keyring)
        .arg("--lock")
        .arg(at("lock"))
        .arg("--to")
        .arg(at("www"));
    std::fs::write(at("there"), "as it was").expect("file");
    let files = || -> Vec<String> { tree(dir.path(), Times::Ignored).into_keys().collect() };
    let before = files();
    mirror.fault(&format!("{V1}/{FOLDER}/amazon-ssm-agent.deb"), Fault::Stall);
    let mut anew = ssmbake(&["lock", "--keyring"]);
    anew.arg(keyring).args(choice).arg("--out").arg(at("there"));
    let mut bundle = ssmbake(&["bundle", "create", "--keyring"]);
    bundle
        .arg(keyring)
        .arg("--lock")
        .arg(at("lock"))
        .arg("--out")
        .arg(at("there"));
    let mut export = ssmbake(&["export", "--format", "sh", "--keyring"]);
    export.arg(keyring).args(choice).arg("--out").arg(at("there"));
    let delay = Duration::from_secs(1);
    for (command, (signal, code)) in [&mut anew, &mut bundle, &mut export].into_iter().zip(SIGNALS) {
        let (status, said) = interrupted(command, delay, signal);
        assert_eq!(status.code(), Some(128 + code), "{said}");
        assert!(said.contains("nothing is left changed"), "{said}");
        assert_eq!(files(), before);
        assert_eq!(std::fs::read(at("there")).expect("file"), b"as it was");
    }
    let (status, said) = interrupted(&mut sync, delay, Signal::TERM);
    assert_eq!(status.code(), Some(143), "{said}");
    assert!(
        said.contains("whole; run it again") && !said.contains("nothing is left"),
        "{said}"
    );
    let left = tree(&at("www"), Times::Ignored);
    assert!(
        left.keys()
            .all(|name| !name.contains('#') && !name.contains("VERSION")),
        "{left:?}"
    );
}

#[test]
fn a_reader_that_goes_away_changes_nothing() {
    let mirror = mirror();
    let target = MiniTree::debian();
    let command = apply(target.path(), &mirror, V1);
    let mut shell = Command::new("bash");
    shell.args(["-c", "set -o pipefail; \"$@\" 2>&1 | true", "bash"]);
    must(
        shell
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear()
            .env("PATH", "/usr/bin:/bin"),
    );
    must(ssmbake(&["audit", "--root"]).arg(target.path()));
}

#[test]
fn a_signal_that_comes_twice_at_once_is_one() {
    let mirror = mirror();
    mirror.fault(&format!("{V1}/{FOLDER}/amazon-ssm-agent.deb"), Fault::Stall);
    let target = MiniTree::debian();
    let before = tree(target.path(), Times::Count);
    let mut command = apply(target.path(), &mirror, V1);
    // `timeout` sends it to the program and to its group.
    let (status, said) = signalled(&mut command, Duration::from_secs(2), &[Signal::TERM; 2]);
    assert_eq!(status.code(), Some(143), "{said}");
    assert!(said.contains("error: interrupted by SIGTERM"), "{said}");
    assert_eq!(
        diff(&before, &tree(target.path(), Times::Count)),
        Vec::<String>::new()
    );
}
