//! What is written on the build machine: into what the user named, as a whole, and nowhere else.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ssmbake_tests::world::{FOLDER, V1, mirror, world};
use ssmbake_tests::{must, outcome, ssmbake};

use crate::supply::{bundle, lock, place};

fn create(lock: &Path, out: &Path) -> Command {
    let mut command = ssmbake(&["bundle", "create", "--lock"]);
    command.arg(lock).arg("--keyring").arg(&world().keyring);
    command.arg("--out").arg(out);
    command
}

#[test]
fn bundles_go_into_pipes_devices_links_and_files_as_they_are() {
    let (mirror, dir) = (mirror(), place());
    let lock = lock(&mirror, dir.path());
    let whole = fs::read(bundle(&lock, &dir.path().join("whole"))).expect("bundle");
    let (pipe, device) = (dir.path().join("pipe"), dir.path().join("device"));
    must(Command::new("mkfifo").arg(&pipe));
    let reader = pipe.clone();
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let mut file = fs::File::open(reader).expect("pipe");
        file.read_to_end(&mut bytes).expect("read");
        bytes
    });
    must(&mut create(&lock, &pipe));
    assert!(reader.join().expect("reader") == whole);
    assert!(fs::metadata(&pipe).expect("pipe").file_type().is_fifo());
    // A copy of the null device, where tests may make one.
    let mut mknod = Command::new("mknod");
    if mknod
        .arg(&device)
        .args(["c", "1", "3"])
        .output()
        .expect("mknod")
        .status
        .success()
    {
        must(&mut create(&lock, &device));
        assert!(
            fs::metadata(&device)
                .expect("device")
                .file_type()
                .is_char_device()
        );
    }
    let (real, link) = (dir.path().join("real"), dir.path().join("link"));
    fs::write(&real, "old").expect("file");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).expect("mode");
    symlink("real", &link).expect("link");
    must(&mut create(&lock, &link));
    assert!(link.is_symlink() && fs::read(&real).expect("file") == whole);
    assert_eq!(
        fs::metadata(&real).expect("file").permissions().mode() & 0o777,
        0o600
    );
    let left: Vec<_> = fs::read_dir(dir.path())
        .expect("list")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(".ssmbake"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

fn sync(to: &str, lock: &Path) -> Command {
    let mut command = ssmbake(&["mirror", "sync", "--to", to, "--keyring"]);
    command.arg(&world().keyring).arg("--lock").arg(lock);
    command
}

#[test]
fn a_bucket_that_never_answers_is_given_up_before_anything_is_fetched() {
    let (mirror, dir) = (mirror(), place());
    let lock = lock(&mirror, dir.path());
    let requests = mirror.requests();
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let url = format!("http://{}", silent.local_addr().expect("address"));
    let closed = "http://127.0.0.1:1";
    let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
    for (endpoint, keys, code, words) in [
        (url.as_str(), &keys[..], 6, "error: "),
        (closed, &keys, 6, "127.0.0.1:1"),
        // The machine's own endpoint for credentials stands in for one that is none.
        (closed, &[], 2, "AWS_ACCESS_KEY_ID"),
    ] {
        let started = Instant::now();
        let mut command = sync("s3://bucket/ssm", &lock);
        command.args(["--timeout", "1", "--retries", "0"]);
        command
            .env("AWS_ENDPOINT_URL", endpoint)
            .env("AWS_REGION", "eu-west-1");
        command.env("AWS_METADATA_ENDPOINT", endpoint);
        for key in keys {
            command.env(key, "secret-secret");
        }
        let (got, out, err) = outcome(&mut command);
        assert_eq!(got, code, "{out}{err}");
        assert!(err.contains(words) && err.contains("hint: "), "{words}: {err}");
        assert!(!err.contains("secret-secret"), "{err}");
        assert!(started.elapsed() < Duration::from_secs(10), "{err}");
    }
    assert_eq!(mirror.requests(), requests);
}

#[test]
fn places_of_other_kinds_are_no_directories() {
    let (mirror, dir) = (mirror(), place());
    let lock = lock(&mirror, dir.path());
    let before = fs::read_dir(dir.path()).expect("list").count();
    for to in [
        "file:///x",
        "S3://bucket/ssm",
        "https://user:s3cret@host/x",
        "s3:///ssm",
    ] {
        let (code, out, err) = outcome(sync(to, &lock).current_dir(dir.path()));
        assert_eq!(code, 2, "{to}: {out}{err}");
        assert!(
            err.contains("hint: give a directory") && !err.contains("s3cret"),
            "{err}"
        );
    }
    assert_eq!(fs::read_dir(dir.path()).expect("list").count(), before);
}

#[test]
fn what_a_killed_writer_left_goes_with_the_next_one_unless_another_writes() {
    let (mirror, dir) = (mirror(), place());
    let lock = lock(&mirror, dir.path());
    let to = dir.path().join("www");
    let folder = to.join(V1).join(FOLDER);
    fs::create_dir_all(&folder).expect("directory");
    let left = folder.join("amazon-ssm-agent.deb#1");
    let others = ["notes#", "#1", "a#b", "deb#1x"].map(|name| folder.join(name));
    others
        .iter()
        .chain([&left])
        .for_each(|path| fs::write(path, "half").expect("file"));
    let run = || must(&mut sync(to.to_str().expect("UTF-8"), &lock));
    let other_writer = fs::File::open(&to).expect("directory");
    other_writer.lock_shared().expect("lock");
    run();
    assert!(left.exists(), "another writer's file is gone");
    drop(other_writer);
    run();
    assert!(!left.exists() && others.iter().all(|path| path.exists()));
}
