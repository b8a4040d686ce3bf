//! Servers that fail, and the cache.

use std::fs;
use std::process::Command;

use ssmbake_tests::mirror::{Certificate, Fault, Mirror};
use ssmbake_tests::must;
use ssmbake_tests::proxy::Proxy;
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{FOLDER, V1, apply, deb, mirror, refused, world};

#[test]
fn downloads_survive_what_networks_do() {
    let deb_path = format!("{V1}/{FOLDER}/amazon-ssm-agent.deb");
    let cut = mirror();
    cut.fault(&deb_path, Fault::CutShort(2));
    must(&mut apply(MiniTree::debian().path(), &cut, V1));
    assert!(cut.ranges() >= 1);
    let busy = mirror();
    busy.fault(&deb_path, Fault::Status(503, 2));
    must(&mut apply(MiniTree::debian().path(), &busy, V1));
    let target = MiniTree::debian();
    busy.fault(&deb_path, Fault::Status(503, 9));
    refused(&mut apply(target.path(), &busy, V1), target.path(), 6);
    refused(&mut apply(target.path(), &cut, "3.3.1999.0"), target.path(), 6);
    let secure = Mirror::https();
    secure.publish(V1, FOLDER, &deb(V1), &world().signer.sign(&deb(V1)));
    let err = refused(&mut apply(target.path(), &secure, V1), target.path(), 6);
    assert!(err.contains("--ca-file"), "{err}");
    let ca = tempfile::NamedTempFile::new().expect("file");
    fs::write(ca.path(), secure.ca_pem.as_ref().expect("CA")).expect("CA");
    secure.fault(&deb_path, Fault::Redirect(format!("{}/{deb_path}", cut.url)));
    refused(
        apply(target.path(), &secure, V1).arg("--ca-file").arg(ca.path()),
        target.path(),
        6,
    );
    secure.fault(&deb_path, Fault::Status(500, 0));
    must(apply(target.path(), &secure, V1).arg("--ca-file").arg(ca.path()));
}

#[test]
fn the_cache_serves_only_what_it_can_prove() {
    let mirror = mirror();
    let cache = tempfile::tempdir().expect("directory");
    let run = |target: &MiniTree| {
        must(
            apply(target.path(), &mirror, V1)
                .arg("--cache-dir")
                .arg(cache.path()),
        )
    };
    run(&MiniTree::debian());
    let requests = mirror.requests();
    run(&MiniTree::debian());
    assert_eq!(mirror.requests(), requests);
    for entry in fs::read_dir(cache.path().join("sha256"))
        .expect("cache")
        .flatten()
    {
        fs::write(entry.path(), "poison").expect("write");
    }
    run(&MiniTree::debian());
    assert!(mirror.requests() > requests);
}

#[test]
#[ignore = "takes seconds: scripts/test without `fast` runs it"]
fn servers_that_misbehave_are_bounded() {
    let target = MiniTree::debian();
    let deb_path = format!("{V1}/{FOLDER}/amazon-ssm-agent.deb");
    let sig_path = format!("{deb_path}.sig");
    let polite = mirror();
    polite.fault(&deb_path, Fault::Busy(1));
    let started = std::time::Instant::now();
    let fresh = MiniTree::debian();
    must(&mut apply(fresh.path(), &polite, V1));
    assert!(
        started.elapsed() >= std::time::Duration::from_secs(1),
        "Retry-After"
    );
    // A server that cannot go on in the middle sends the whole again.
    let forgetful = mirror();
    forgetful.fault(&deb_path, Fault::WholeOnly(2));
    let fresh = MiniTree::debian();
    must(&mut apply(fresh.path(), &forgetful, V1));
    for (path, fault) in [
        (&deb_path, Fault::Stall),
        (&deb_path, Fault::Endless),
        (&sig_path, Fault::Endless),
        (&sig_path, Fault::Status(404, 9)),
        (
            &deb_path,
            Fault::Redirect(format!("{}/{deb_path}", polite.url.replace("http:", "ftp:"))),
        ),
    ] {
        let mirror = mirror();
        println!("{path} {fault:?}");
        mirror.fault(path, fault);
        refused(
            apply(target.path(), &mirror, V1).args(["--timeout", "2", "--retries", "0"]),
            target.path(),
            6,
        );
    }
    let turning = mirror();
    turning.fault(&deb_path, Fault::Redirect(format!("{}/{deb_path}", turning.url)));
    refused(&mut apply(target.path(), &turning, V1), target.path(), 6);
    let wordless = mirror();
    wordless.put("latest/VERSION", "soon");
    refused(&mut apply(target.path(), &wordless, "latest"), target.path(), 6);
    wordless.fault("latest/VERSION", Fault::Endless);
    refused(&mut apply(target.path(), &wordless, "latest"), target.path(), 6);
}

#[test]
fn proxies_are_used_where_they_are_named_and_only_there() {
    // A mirror serves as the proxy: it sees absolute URLs.
    let (proxy, mirror) = (mirror(), mirror());
    let run = |set: &dyn Fn(&mut Command) -> &mut Command| {
        let target = MiniTree::debian();
        let mut command = apply(target.path(), &mirror, V1);
        set(&mut command);
        let before = (proxy.proxied(), mirror.requests());
        must(&mut command);
        (proxy.proxied() > before.0, mirror.requests() > before.1)
    };
    assert_eq!(run(&|c| c), (false, true));
    assert_eq!(run(&|c| c.args(["--download-proxy", &proxy.url])), (true, false));
    assert_eq!(run(&|c| c.env("HTTP_PROXY", &proxy.url)), (true, false));
    assert_eq!(
        run(&|c| c.env("http_proxy", &proxy.url).env("NO_PROXY", "localhost")),
        (false, true)
    );
}

/// The mirror's package goes wrong like this.
fn with_fault(fault: Fault) -> Mirror {
    let mirror = mirror();
    mirror.fault(&format!("{V1}/{FOLDER}/amazon-ssm-agent.deb"), fault);
    mirror
}

#[test]
fn broken_transfers_end_right() {
    let package = fs::read(deb(V1)).expect("package");
    let mut other = package.clone();
    other.truncate(package.len() - 10);
    for fault in [
        Fault::Reset(1000, 2),
        Fault::OtherRange {
            is_told: true,
            left: 2,
        },
        Fault::CutShort(2),
    ] {
        println!("{fault:?}");
        let tree = MiniTree::debian();
        must(&mut apply(tree.path(), &with_fault(fault), V1));
        assert!(tree.read("var/lib/dpkg/status").contains(V1));
    }
    // The file became another between two parts: it is fetched anew, and judged as it is.
    let tree = MiniTree::debian();
    let err = refused(
        &mut apply(tree.path(), &with_fault(Fault::Changed(other, 1)), V1),
        tree.path(),
        5,
    );
    assert!(err.contains("does not fit"), "{err}");
    let changing = with_fault(Fault::Changed(package, 1));
    must(&mut apply(tree.path(), &changing, V1));
}

#[test]
fn lies_of_servers_are_seen_through() {
    let tree = MiniTree::debian();
    let package = fs::read(deb(V1)).expect("package");
    // A gigabyte of zeros in a megabyte: it is never unpacked.
    let mut bomb = Command::new("sh");
    bomb.args(["-c", "head -c 100M /dev/zero | gzip -9"]);
    let bomb = must(&mut bomb).stdout;
    for (fault, code) in [
        (Fault::Encoded(bomb), 5),
        (Fault::Announce(package.len() - 1), 5),
        (Fault::Announce(package.len() + 1), 6),
        (Fault::Announce(usize::MAX / 2), 6),
        (
            Fault::OtherRange {
                is_told: false,
                left: 2,
            },
            5,
        ),
        (Fault::Trickle, 6),
        (Fault::Reset(0, 99), 6),
        (Fault::Redirect("https://[".to_owned()), 6),
    ] {
        println!("{fault:?}");
        let mirror = with_fault(fault);
        let started = std::time::Instant::now();
        refused(
            apply(tree.path(), &mirror, V1).args(["--timeout", "1", "--retries", "1"]),
            tree.path(),
            code,
        );
        assert!(started.elapsed() < std::time::Duration::from_secs(10));
    }
    let encoded = mirror();
    encoded.fault(
        &format!("{V1}/{FOLDER}/amazon-ssm-agent.deb.sig"),
        Fault::Encoded(vec![0; 1 << 20]),
    );
    refused(&mut apply(tree.path(), &encoded, V1), tree.path(), 6);
}

#[test]
fn servers_that_are_not_whom_they_should_be_get_nothing_installed() {
    let tree = MiniTree::debian();
    let run = |mirror: &Mirror, words: &str| {
        mirror.publish(V1, FOLDER, &deb(V1), &world().signer.sign(&deb(V1)));
        let ca = tempfile::NamedTempFile::new().expect("file");
        let mut command = apply(tree.path(), mirror, V1);
        if let Some(pem) = &mirror.ca_pem {
            fs::write(ca.path(), pem).expect("CA");
            command.arg("--ca-file").arg(ca.path());
        }
        let err = refused(command.args(["--retries", "1"]), tree.path(), 6);
        assert!(err.contains(words), "{words}: {err}");
        assert_eq!(mirror.requests(), 0);
    };
    run(&Mirror::https_with(Certificate::OtherName), "not valid for name");
    run(&Mirror::https_with(Certificate::Expired), "expired");
    run(&Mirror::no_tls(), "https://localhost");
    for url in [
        "http://no-such-host.invalid",
        "http://127.0.0.1:1",
        "http://[::1]:1",
    ] {
        let mut command = ssmbake_tests::ssmbake(&["apply", "--mirror", url, "--version", V1, "--root"]);
        command
            .arg(tree.path())
            .args(["--retries", "0", "--timeout", "20"]);
        let err = refused(&mut command, tree.path(), 6);
        assert!(err.contains(url), "{err}");
    }
}

#[test]
fn machines_with_ipv6_alone_are_served() {
    let mirror = Mirror::ipv6();
    mirror.publish(V1, FOLDER, &deb(V1), &world().signer.sign(&deb(V1)));
    must(&mut apply(MiniTree::debian().path(), &mirror, V1));
    assert!(mirror.requests() >= 2);
}

#[test]
fn proxies_with_passwords_are_used_and_never_shown() {
    let (plain, secure) = (mirror(), Mirror::https());
    secure.publish(V1, FOLDER, &deb(V1), &world().signer.sign(&deb(V1)));
    let ca = tempfile::NamedTempFile::new().expect("file");
    fs::write(ca.path(), secure.ca_pem.as_ref().expect("CA")).expect("CA");
    // user:hunter2
    let proxy = Proxy::wanting("Basic dXNlcjpodW50ZXIy");
    for mirror in [&plain, &secure] {
        for (user, code) in [("user:hunter2", 0), ("user:hunter3", 6)] {
            let tree = MiniTree::debian();
            let report = tree.path().join("report.json");
            let mut command = apply(tree.path(), mirror, V1);
            command
                .arg("--ca-file")
                .arg(ca.path())
                .arg("--report")
                .arg(&report);
            command.args(["--retries", "0", "-v", "--download-proxy", &proxy.url(user)]);
            let before = proxy.served();
            let (got, out, err) = ssmbake_tests::outcome(&mut command);
            assert_eq!(got, code, "{}: {out}{err}", mirror.url);
            assert_eq!(proxy.served() > before, code == 0);
            let said = format!("{out}{err}{}", fs::read_to_string(&report).unwrap_or_default());
            assert!(!said.contains("hunter"), "{said}");
        }
    }
}

#[test]
fn locks_at_a_url_are_fetched_as_packages_are() {
    let (plain, secure, dir) = (mirror(), Mirror::https(), tempfile::tempdir().expect("directory"));
    let lock = crate::supply::lock(&plain, dir.path());
    secure.put("ssmbake.lock", fs::read(&lock).expect("lock"));
    plain.put("ssmbake.lock", fs::read(&lock).expect("lock"));
    let ca = dir.path().join("ca.pem");
    fs::write(&ca, secure.ca_pem.as_ref().expect("CA")).expect("CA");
    let tree = MiniTree::debian();
    let run = |place: &str| {
        let mut command = ssmbake_tests::ssmbake(&["apply", "--lock", place, "--keyring"]);
        command.arg(&world().keyring).arg("--root").arg(tree.path());
        command
    };
    let place = format!("{}/ssmbake.lock", secure.url);
    refused(run(&place).args(["--retries", "0"]), tree.path(), 6);
    must(run(&place).arg("--ca-file").arg(&ca));
    // Through the proxy that is named, and no longer than is said.
    let proxy = mirror();
    let place = format!("{}/ssmbake.lock", plain.url);
    proxy.put("ssmbake.lock", fs::read(&lock).expect("lock"));
    must(run(&place).args(["--download-proxy", &proxy.url]));
    assert!(proxy.proxied() > 0);
    plain.fault("ssmbake.lock", Fault::Stall);
    let started = std::time::Instant::now();
    refused(run(&place).args(["--timeout", "1"]), tree.path(), 6);
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
#[ignore = "takes seconds: scripts/test without `fast` runs it"]
fn all_downloads_together_have_one_limit() {
    let mirror = mirror();
    let deb_path = format!("{V1}/{FOLDER}/amazon-ssm-agent.deb");
    let tree = MiniTree::debian();
    // The list of versions takes a second and a half of the two, and so would the signature.
    for path in ["latest/VERSION", &format!("{deb_path}.sig")] {
        mirror.fault(path, Fault::Late(1500));
    }
    mirror.put("latest/VERSION", format!("{V1}\n"));
    let err = refused(
        apply(tree.path(), &mirror, "latest").args(["--timeout", "2"]),
        tree.path(),
        6,
    );
    assert!(err.contains("not finished after 2 s"), "{err}");
}

#[test]
fn trust_and_proxies_that_cannot_be_used_are_told() {
    let (mirror, tree, dir) = (
        mirror(),
        MiniTree::debian(),
        tempfile::tempdir().expect("directory"),
    );
    let empty = dir.path().join("empty.pem");
    fs::write(&empty, "no certificate\n").expect("file");
    let (missing, text) = (dir.path().join("missing.pem"), empty.to_str().expect("UTF-8"));
    let run = |set: &dyn Fn(&mut Command) -> &mut Command, word: &str| {
        let mut command = apply(tree.path(), &mirror, V1);
        set(command.args(["--cache-dir"]).arg(dir.path().join("cache")));
        let err = refused(&mut command, tree.path(), 2);
        assert!(err.contains(word) && err.contains("hint: "), "{word}: {err}");
        assert!(!err.contains("s3cret"), "{err}");
    };
    for name in ["AWS_CA_BUNDLE", "SSL_CERT_FILE"] {
        run(&|c| c.env(name, &missing), name);
        run(&|c| c.env(name, &empty), name);
    }
    run(&|c| c.arg("--ca-file").arg(&missing), "missing.pem");
    run(&|c| c.args(["--ca-file", text]), "empty.pem");
    for url in [
        "foo://user:s3cret@host",
        "http://user:s3cret@",
        "host:port",
        "http://[",
    ] {
        run(&|c| c.args(["--download-proxy", url]), "--download-proxy");
        run(&|c| c.env("http_proxy", url), "http_proxy");
    }
    assert_eq!(mirror.requests(), 0);
    assert!(!dir.path().join("cache").exists());
    // A variable that is set to nothing names nothing, and a host alone is a proxy of plain http.
    let proxy = ssmbake_tests::world::mirror();
    let host = proxy.url.trim_start_matches("http://").to_owned();
    let mut command = apply(tree.path(), &mirror, V1);
    command
        .env("AWS_CA_BUNDLE", "")
        .env("HTTP_PROXY", "")
        .env("http_proxy", &host);
    must(&mut command);
    assert!(proxy.proxied() > 0);
}
