//! rpm's older forms of database: read as their own programs write them, and told apart from damage.

use std::fs;

use proptest::prelude::*;
use ssmbake_installers::packages::rpm::database::{Backend, bdb, ndb};
use ssmbake_tests::rpm::{load_berkeley, rpm_mirror};
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{V1, apply, refused, world};
use ssmbake_tests::{must, outcome, ssmbake};

/// Small and large, one larger than several pages.
fn records() -> Vec<(u32, Vec<u8>)> {
    let blob = |number: u32| -> Vec<u8> {
        (0..number * number * 11)
            .map(|at| (at * number % 251) as u8)
            .collect()
    };
    (1..130).map(|number| (number, blob(number))).collect()
}

#[test]
#[ignore = "takes seconds: scripts/test without `fast` runs it"]
fn berkeley_databases_of_every_page_size_and_order_are_read() {
    let mut input = records();
    // Where rpm keeps the next free number.
    input.push((0, vec![200, 0, 0, 0]));
    for settings in [
        "db_pagesize=512\n",
        "db_pagesize=4096\n",
        "db_pagesize=65536\n",
        "db_pagesize=4096\ndb_lorder=4321\n",
    ] {
        let place = world().dir.path().join(format!("bdb-{}", settings.len()));
        if place.exists() {
            fs::remove_file(&place).expect("remove");
        }
        load_berkeley(&input, settings, &place);
        let found = bdb::packages(&fs::read(&place).expect("database")).expect(settings);
        assert!(found == records(), "{settings}: {} packages", found.len());
    }
}

fn small_berkeley() -> Vec<u8> {
    let place = world().dir.path().join("bdb-small");
    load_berkeley(
        &[(1, vec![1; 3000]), (2, vec![2; 40])],
        "db_pagesize=512\n",
        &place,
    );
    let bytes = fs::read(&place).expect("database");
    fs::remove_file(&place).expect("remove");
    bytes
}

#[test]
fn damaged_berkeley_databases_are_errors_and_no_panics() {
    let good = small_berkeley();
    assert!(bdb::packages(&good).is_ok());
    for damage in [&good[..good.len() - 600], &good[..100], b"", b"SQLite format 3\0"] {
        assert!(bdb::packages(damage).is_err());
    }
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(2000));
    runner
        .run(
            &(0..good.len(), any::<u8>(), 0..good.len()),
            |(at, value, cut)| {
                let mut bytes = good.clone();
                bytes[at] = value;
                bytes.truncate(bytes.len() - cut / 4);
                let _ = bdb::packages(&bytes);
                Ok(())
            },
        )
        .expect("no panic");
}

#[test]
fn an_ndb_database_gets_the_record_and_its_neighbours_stay() {
    let mirror = rpm_mirror();
    let target = MiniTree::rpm_with("sles", "SLES", "15.5", "amd64", Backend::Ndb);
    let place = target.path().join("usr/lib/sysimage/rpm/Packages.db");
    let before = ndb::packages(&fs::read(&place).expect("database")).expect("packages");
    must(&mut apply(target.path(), &mirror, V1));
    let after = ndb::packages(&fs::read(&place).expect("database")).expect("packages");
    assert_eq!(after.len(), before.len() + 1);
    assert_eq!(after[..before.len()], before[..]);
    let (_, detected, _) = outcome(&mut ssmbake(&["detect", "--root", target.arg()]));
    assert!(
        detected.contains(&format!("rpm {V1}-1 (installed), enabled")),
        "{detected}"
    );
}

#[test]
fn berkeley_databases_are_left_to_rpm_at_first_boot() {
    let mirror = rpm_mirror();
    let target = MiniTree::rpm_with("amzn", "Amazon Linux", "2", "amd64", Backend::Bdb);
    let database = fs::read(target.path().join("var/lib/rpm/Packages")).expect("database");
    let (code, out, err) = outcome(&mut apply(target.path(), &mirror, V1));
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("let rpm register the package at first boot (systemd)"),
        "{out}"
    );
    assert!(err.contains("kind `bdb`"), "{err}");
    assert_eq!(
        fs::read(target.path().join("var/lib/rpm/Packages")).expect("database"),
        database
    );
    let (_, detected, _) = outcome(&mut ssmbake(&["detect", "--root", target.arg()]));
    assert!(detected.contains("(unregistered), enabled"), "{detected}");
    // This machine's rpm does not write it, and says so before anything happens.
    let target = MiniTree::rpm_with("amzn", "Amazon Linux", "2", "amd64", Backend::Bdb);
    let err = refused(
        apply(target.path(), &mirror, V1).args(["--registration", "host-rpm"]),
        target.path(),
        8,
    );
    assert!(err.contains("no rpm that writes a `bdb` database"), "{err}");
    target.put("var/lib/rpm/Packages", &"damaged ".repeat(100));
    assert!(
        refused(&mut apply(target.path(), &mirror, V1), target.path(), 8).contains("no Berkeley DB hash")
    );
}
