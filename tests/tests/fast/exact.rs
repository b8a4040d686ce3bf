//! A pin counts for what is installed already, and documents say what is known.

use std::fs;

use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::package::AgentPackage;
use ssmbake_tests::rpm::{AgentRpm, RPM_FOLDER, host_rpm, publish, rpm_mirror};
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{FOLDER, V1, deb, mirror, refused, world};
use ssmbake_tests::{must, outcome, sha256, ssmbake};

use crate::supply::{apply, bundle, lock, place};

#[test]
#[ignore = "takes seconds: scripts/test without `fast` runs it"]
fn another_package_of_the_locked_version_gives_way_to_the_locked_one() {
    let (one, dir) = (mirror(), place());
    let path = lock(&one, dir.path());
    let held_by_lock = |tree: &MiniTree| {
        let mut audit = ssmbake(&["audit", "--output", "json", "--lock"]);
        let (_, out, _) = outcome(audit.arg(&path).arg("--root").arg(tree.path()));
        let report: serde_json::Value = serde_json::from_str(&out).expect("report");
        let checks = report["checks"].as_array().expect("checks").clone();
        checks
            .iter()
            .any(|check| check["id"] == "SSMB085" && check["verdict"] == "pass")
    };
    // Signed as well, of the same version, and not the same.
    let other = AgentPackage {
        unit_comment: "# another\n".to_owned(),
        ..AgentPackage::new(V1)
    }
    .build(dir.path());
    let two = Mirror::http();
    two.publish(V1, FOLDER, &other, &world().signer.sign(&other));
    let unit = "lib/systemd/system/amazon-ssm-agent.service";
    let from_two = || {
        let tree = MiniTree::debian();
        must(&mut ssmbake_tests::world::apply(tree.path(), &two, V1));
        assert!(tree.read(unit).contains("another"));
        tree
    };
    let bundle = bundle(&path, &dir.path().join("bundle"));
    let digest = dir.path().join("digest");
    fs::write(&digest, sha256(&fs::read(deb(V1)).expect("package"))).expect("digest");
    let by_digest = |tree: &MiniTree| {
        let mut command = ssmbake_tests::world::apply(tree.path(), &one, V1);
        command
            .arg("--sha256")
            .arg(fs::read_to_string(&digest).expect("digest"));
        command
    };
    for (name, command) in [
        (
            "lock",
            &(|tree: &MiniTree| apply(tree, &["--lock"], &path))
                as &dyn Fn(&MiniTree) -> std::process::Command,
        ),
        ("bundle", &|tree| apply(tree, &["--bundle"], &bundle)),
        ("digest", &by_digest),
    ] {
        // By ssmbake from elsewhere, and by hand: nobody knows from which package.
        for is_known in [true, false] {
            println!("{name} {is_known}");
            let tree = from_two();
            if !is_known {
                fs::remove_dir_all(tree.path().join("var/lib/ssmbake")).expect("receipt");
            }
            must(&mut command(&tree));
            assert!(!tree.read(unit).contains("another") && held_by_lock(&tree));
            let (code, out, err) = outcome(command(&tree).arg("--detailed-exitcode"));
            assert_eq!(code, 0, "{out}{err}");
        }
    }
    // The locked bytes, but nobody knows: from then on it is known.
    let tree = MiniTree::debian();
    must(&mut apply(&tree, &["--lock"], &path));
    fs::remove_dir_all(tree.path().join("var/lib/ssmbake")).expect("receipt");
    must(&mut apply(&tree, &["--lock"], &path));
    assert!(held_by_lock(&tree));
    // The locked bytes with another signature: nothing there has the locked one.
    let later = world()
        .signer
        .sign_with(&deb(V1), &["--digest-algo", "SHA512"], Some("20300101T000000"));
    one.publish(V1, FOLDER, &deb(V1), &later);
    let tree = MiniTree::debian();
    must(&mut ssmbake_tests::world::apply(tree.path(), &one, V1));
    let err = refused(&mut apply(&tree, &["--lock"], &path), tree.path(), 5);
    assert!(err.contains("the signature of"), "{err}");
    must(&mut apply(&tree, &["--bundle"], &bundle));
}

#[test]
#[ignore = "takes seconds: scripts/test without `fast` runs it"]
fn another_rpm_of_the_locked_version_gives_way_to_the_locked_one() {
    let (one, two, dir) = (rpm_mirror(), Mirror::http(), place());
    let other = AgentRpm {
        unit_comment: "# another\n".to_owned(),
        ..AgentRpm::new(V1)
    }
    .build(dir.path());
    publish(&two, V1, RPM_FOLDER, &other);
    let path = dir.path().join("lock");
    let mut command = ssmbake(&["lock", "--os", "rhel-9", "--arch", "amd64", "--version", V1]);
    command
        .args(["--mirror", &one.url, "--keyring"])
        .arg(&world().keyring);
    must(command.arg("--out").arg(&path));
    let tree = MiniTree::rhel();
    let unit = "etc/systemd/system/amazon-ssm-agent.service";
    must(&mut ssmbake_tests::world::apply(tree.path(), &two, V1));
    assert!(tree.read(unit).contains("another"));
    must(&mut apply(&tree, &["--lock"], &path));
    assert!(!tree.read(unit).contains("another"));
    let query = ["-q", "--qf", "%{VERSION} ", "amazon-ssm-agent"];
    let known = must(&mut host_rpm(tree.path(), &query)).stdout;
    assert_eq!(String::from_utf8_lossy(&known), format!("{V1} "));
    must(&mut host_rpm(
        tree.path(),
        &["-V", "--nodeps", "amazon-ssm-agent"],
    ));
}

#[test]
fn another_program_in_the_place_of_a_locked_one_gives_way() {
    let (mirror, dir) = (mirror(), place());
    let path = lock(&mirror, dir.path());
    let tree = MiniTree::debian();
    must(&mut apply(&tree, &["--lock"], &path));
    let program = "usr/bin/amazon-ssm-agent";
    let locked = fs::read(tree.path().join(program)).expect("program");
    // The version, its record and the receipt stay.
    fs::write(tree.path().join(program), "another build").expect("program");
    must(&mut apply(&tree, &["--lock"], &path));
    assert!(fs::read(tree.path().join(program)).expect("program") == locked);
    let (code, out, err) = outcome(apply(&tree, &["--lock"], &path).arg("--detailed-exitcode"));
    assert_eq!(code, 0, "{out}{err}");
}

#[test]
fn a_stored_plan_keeps_the_signer_of_its_lock() {
    let (mirror, dir) = (mirror(), place());
    let (path, plan) = (lock(&mirror, dir.path()), dir.path().join("plan"));
    let tree = MiniTree::debian();
    let mut command = ssmbake(&["plan", "--lock"]);
    command.arg(&path).arg("--root").arg(tree.path());
    must(command.arg("--report").arg(&plan));
    let later = world().signer.sign_with(&deb(V1), &[], Some("20300101T000000"));
    mirror.publish(V1, FOLDER, &deb(V1), &later);
    let stored = || {
        let mut command = ssmbake(&["apply", "--plan"]);
        command.arg(&plan).arg("--root").arg(tree.path());
        command.arg("--keyring").arg(&world().keyring);
        command
    };
    let err = refused(&mut stored(), tree.path(), 5);
    assert!(err.contains("the signature of"), "{err}");
}

#[test]
fn provenance_says_where_the_agent_is_from_and_not_what_was_asked_later() {
    let (one, dir) = (mirror(), place());
    let path = lock(&one, dir.path());
    let statement = |tree: &MiniTree, words: &[&str]| -> serde_json::Value {
        let file = dir.path().join("provenance");
        let mut command = apply(tree, &["--provenance"], &file);
        must(command.args(words));
        serde_json::from_slice(&fs::read(&file).expect("statement")).expect("JSON")
    };
    let tree = MiniTree::debian();
    must(&mut apply(&tree, &["--lock"], &path));
    // Another source than then, and nothing is fetched.
    let elsewhere = ["--mirror", "http://127.0.0.1:1/elsewhere", "--version", V1];
    let text = statement(&tree, &elsewhere).to_string();
    assert!(text.contains(&one.url) && !text.contains("elsewhere"), "{text}");
    // By hand, then: nothing is known, and nothing is said.
    fs::remove_dir_all(tree.path().join("var/lib/ssmbake")).expect("receipt");
    let set = [&elsewhere[..], &["--set", "Agent.SelfUpdate=true"]].concat();
    let said = statement(&tree, &set);
    let text = said.to_string();
    assert!(!text.contains("elsewhere") && !text.contains("1970"), "{text}");
    let definition = &said["predicate"]["buildDefinition"];
    assert_eq!(definition["resolvedDependencies"], serde_json::json!([]));
    assert!(definition["externalParameters"]["version"].is_null(), "{text}");
}
