//! Servers that fail, and the cache.

use std::fs;
use std::process::Command;

use ssmbake_tests::mirror::{Fault, Mirror};
use ssmbake_tests::must;
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
