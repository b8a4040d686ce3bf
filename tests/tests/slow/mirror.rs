//! Mirrors as data centres have them: a bucket of a real S3-compatible server, and a real web server under load. Needs what
//! scripts/setup installs.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ssmbake_tests::gate::Gate;
use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{FOLDER, V1, V2, deb, mirror, mirror_of_two_architectures, world};
use ssmbake_tests::{must, outcome, ssmbake, tool};
use tempfile::TempDir;

/// A program that listens, and ends with the test.
pub(crate) struct Server {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Killed at once, nginx would leave its workers behind.
        let terminated = Command::new("kill").arg(self.child.id().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(10);
        while terminated.is_ok() && Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.local_addr().expect("address").port()
}

impl Server {
    fn start(mut command: Command, port: u16, dir: TempDir) -> Self {
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start");
        let server = Self {
            child,
            port,
            _dir: dir,
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the server does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    pub(crate) fn s3() -> Self {
        let (port, dir) = (free_port(), tempfile::tempdir().expect("directory"));
        let mut command = Command::new(tool("moto_server"));
        command
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .env_clear();
        command.env("PATH", "/usr/bin:/bin").env("HOME", dir.path());
        let server = Self::start(command, port, dir);
        assert!(server.ask("PUT", "/bucket", "").starts_with("HTTP/1.1 200"));
        // Machines read without credentials, as they would by the policy of an endpoint.
        let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*"}]}"#;
        assert!(
            server
                .ask("PUT", "/bucket?policy", policy)
                .starts_with("HTTP/1.1 20")
        );
        server
    }

    /// What AWS's tools, and ours, are told of it.
    pub(crate) fn environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        Self::environment_at(self.port, command)
    }

    fn environment_at(port: u16, command: &mut Command) -> &mut Command {
        command
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"))
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST")
            .env("AWS_SECRET_ACCESS_KEY", "secret-secret-secret")
    }

    fn nginx(root: &Path) -> Self {
        let (port, dir) = (free_port(), tempfile::tempdir().expect("directory"));
        let config = dir.path().join("nginx.conf");
        let text = format!(
            "daemon off; user root; worker_processes 2; pid {dir}/pid; error_log {dir}/error; events {{ worker_connections 2048; }}\n\
             http {{ access_log off; client_body_temp_path {dir}/1; proxy_temp_path {dir}/2; fastcgi_temp_path {dir}/3;\n\
             uwsgi_temp_path {dir}/4; scgi_temp_path {dir}/5;\n\
             server {{ listen 127.0.0.1:{port} backlog=1024; root {}; }} }}\n",
            root.display(),
            dir = dir.path().display()
        );
        fs::write(&config, text).expect("configuration");
        let mut command = Command::new(tool("../nginx/usr/sbin/nginx"));
        command
            .arg("-c")
            .arg(&config)
            .arg("-e")
            .arg(dir.path().join("error"));
        Self::start(command, port, dir)
    }

    /// The whole answer, as text.
    fn ask(&self, verb: &str, path: &str, body: &str) -> String {
        String::from_utf8_lossy(&self.answer(verb, path, body)).into_owned()
    }

    fn answer(&self, verb: &str, path: &str, body: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connect");
        let request = format!(
            "{verb} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("request");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("answer");
        answer
    }

    pub(crate) fn body(&self, path: &str) -> Vec<u8> {
        let answer = self.answer("GET", path, "");
        let head = answer
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .expect("head");
        let status = String::from_utf8_lossy(&answer[..head]).into_owned();
        assert!(status.starts_with("HTTP/1.1 200"), "{path}: {status}");
        answer[head + 4..].to_vec()
    }
}

fn sync(to: &str, mirror: &Mirror, version: &str) -> Command {
    sync_for("amd64", to, mirror, version)
}

fn sync_for(arch: &str, to: &str, mirror: &Mirror, version: &str) -> Command {
    let mut command = ssmbake(&["mirror", "sync", "--to", to, "--os", "debian-12", "--arch", arch]);
    command
        .args(["--mirror", &mirror.url, "--version", version, "--keyring"])
        .arg(&world().keyring);
    command
}

#[test]
fn a_bucket_is_a_mirror() {
    let (server, mirror) = (Server::s3(), mirror());
    let run = |version: &str| {
        let mut command = sync("s3://bucket/ssm", &mirror, version);
        server.environment(&mut command);
        command
    };
    must(&mut run(V1));
    assert!(
        server.body(&format!("/bucket/ssm/{V1}/{FOLDER}/amazon-ssm-agent.deb"))
            == fs::read(deb(V1)).expect("package")
    );
    assert_eq!(
        server.body("/bucket/ssm/latest/VERSION"),
        format!("{V1}\n").into_bytes()
    );
    let out = must(&mut run(V1)).stdout;
    assert!(String::from_utf8_lossy(&out).contains("is there\n"));
    // Two writers at once: the newest version wins, whoever ends last.
    let mut writers: Vec<_> = [V2, V1, V2, V1]
        .iter()
        .map(|version| run(version).spawn().expect("start"))
        .collect();
    for writer in &mut writers {
        assert!(writer.wait().expect("end").success());
    }
    assert_eq!(
        server.body("/bucket/ssm/stable/VERSION"),
        format!("{V2}\n").into_bytes()
    );
    assert!(
        server.body(&format!("/bucket/ssm/latest/{FOLDER}/amazon-ssm-agent.deb"))
            == fs::read(deb(V2)).expect("package")
    );

    let tree = MiniTree::debian();
    let url = format!("http://127.0.0.1:{}/bucket/ssm", server.port);
    let mut apply = ssmbake(&["apply", "--mirror", &url, "--root"]);
    must(apply.arg(tree.path()).arg("--keyring").arg(&world().keyring));
    assert!(tree.read("var/lib/dpkg/status").contains(V2));

    let (code, out, err) = outcome(
        run(V1)
            .env("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
            .env("SSMBAKE_RETRIES", "0"),
    );
    assert_eq!(code, 6, "{out}{err}");
    assert!(!err.contains("secret-secret"), "{err}");
}

/// A writer of `slow` is stopped at a request that has `words`, while one of `quick` does all it has to.
fn the_newest_wins(slow: &str, quick: &str, words: &'static [&'static str]) {
    let (server, mirror) = (Server::s3(), mirror());
    let gate = Gate::before(server.port, words);
    let run = |version: &str, port| {
        let mut command = sync("s3://bucket/ssm", &mirror, version);
        Server::environment_at(port, &mut command);
        command
    };
    must(&mut run(V1, server.port));
    let mut slow = run(slow, gate.port()).spawn().expect("start");
    gate.wait();
    must(&mut run(quick, server.port));
    gate.open();
    assert!(slow.wait().expect("end").success());
    for channel in ["latest", "stable"] {
        assert_eq!(
            server.body(&format!("/bucket/ssm/{channel}/VERSION")),
            format!("{V2}\n").into_bytes()
        );
        for file in ["amazon-ssm-agent.deb", "amazon-ssm-agent.deb.sig"] {
            let offered = server.body(&format!("/bucket/ssm/{channel}/{FOLDER}/{file}"));
            let newest = server.body(&format!("/bucket/ssm/{V2}/{FOLDER}/{file}"));
            assert!(offered == newest, "{channel} {file}");
        }
    }
}

#[test]
fn an_old_writer_of_a_bucket_does_not_undo_a_new_one() {
    the_newest_wins(V1, V2, &["PUT ", "/latest/", ".deb HTTP", "x-amz-copy-source"]);
}

#[test]
fn a_new_writer_of_a_bucket_sees_what_an_old_one_did_meanwhile() {
    the_newest_wins(V2, V1, &["PUT ", "/latest/VERSION HTTP"]);
}

#[test]
fn a_channel_of_a_bucket_waits_for_everybody_whom_it_serves() {
    let (server, mirror) = (Server::s3(), mirror_of_two_architectures());
    let step = |arch: &str, version: &str| {
        let mut command = sync_for(arch, "s3://bucket/ssm", &mirror, version);
        let (code, _, err) = outcome(server.environment(&mut command));
        assert_eq!(code, 0, "{err}");
        let named = server.body("/bucket/ssm/latest/VERSION");
        (err, String::from_utf8(named).expect("UTF-8"))
    };
    step("amd64,arm64", V1);
    let (err, named) = step("arm64", V2);
    assert!(
        err.contains("debian_amd64") && named == format!("{V1}\n"),
        "{named} {err}"
    );
    let (err, named) = step("amd64", V2);
    assert!(
        !err.contains("does not name") && named == format!("{V2}\n"),
        "{named} {err}"
    );
    let offered = server.body("/bucket/ssm/latest/debian_arm64/amazon-ssm-agent.deb");
    assert!(offered == server.body(&format!("/bucket/ssm/{V2}/debian_arm64/amazon-ssm-agent.deb")));
}

#[test]
fn a_full_disk_is_no_trouble_of_the_network() {
    let (dir, mirror) = (tempfile::tempdir().expect("directory"), mirror());
    let sync = sync(dir.path().to_str().expect("UTF-8"), &mirror, V1);
    let script = "mount -t tmpfs -o size=64k none \"$0\"; \"$@\"; code=$?; find \"$0\" -name VERSION -o -name '*.deb'; exit $code";
    let mut alone = Command::new("unshare");
    alone.args(["--mount", "sh", "-c", script]).arg(dir.path());
    alone.arg(sync.get_program()).args(sync.get_args());
    let (code, out, err) = outcome(&mut alone);
    assert_eq!(code, 7, "{out}{err}");
    assert!(
        err.contains("No space left") && err.contains("make room"),
        "{err}"
    );
    assert!(!out.contains(dir.path().to_str().expect("UTF-8")), "{out}");
}

#[test]
fn five_hundred_machines_are_served_at_once() {
    let (dir, mirror) = (tempfile::tempdir().expect("directory"), mirror());
    let www = dir.path().join("www");
    must(&mut sync(www.to_str().expect("UTF-8"), &mirror, V1));
    let server = Server::nginx(&www);
    let package = fs::read(deb(V1)).expect("package");
    let path = format!("/{V1}/{FOLDER}/amazon-ssm-agent.deb");
    let started = std::sync::Barrier::new(500);
    std::thread::scope(|scope| {
        for _ in 0..500 {
            scope.spawn(|| {
                started.wait();
                assert_eq!(server.body("/latest/VERSION"), format!("{V1}\n").into_bytes());
                assert!(!server.body(&format!("{path}.sig")).is_empty());
                assert!(server.body(&path) == package);
            });
        }
    });
}
