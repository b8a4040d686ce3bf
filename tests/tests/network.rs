//! Servers that fail, and the cache.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests work on the build machine and may panic"
)]

use std::fs;

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
