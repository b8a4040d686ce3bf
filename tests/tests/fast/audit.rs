//! The audit of trees in which a file is odd: each check says so for itself, and the others go on.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use serde_json::Value;
use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{V1, apply, mirror};
use ssmbake_tests::{must, outcome, ssmbake};

const AGENT_JSON: &str = "etc/amazon/ssm/amazon-ssm-agent.json";
/// A byte more than is read.
const TOO_MUCH: usize = 1024 * 1024 + 1;

/// A tree with the agent, without a remark.
fn baked(mirror: &Mirror) -> MiniTree {
    let tree = MiniTree::debian();
    tree.put("usr/sbin/chronyd", "");
    must(&mut apply(tree.path(), mirror, V1));
    tree
}

/// All checks of a tree.
fn checks(tree: &MiniTree, options: &[&str]) -> Vec<Value> {
    let mut command = ssmbake(&["audit", "--output", "json", "--root"]);
    let (code, out, err) = outcome(command.arg(tree.path()).args(options));
    assert!(matches!(code, 0 | 9), "{code}: {out}{err}");
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    report["checks"].as_array().expect("checks").clone()
}

/// Id, verdict and detail of what did not pass.
fn remarks(tree: &MiniTree, options: &[&str]) -> Vec<(String, String, String)> {
    let text = |check: &Value, name: &str| check[name].as_str().expect("text").to_owned();
    checks(tree, options)
        .iter()
        .filter(|check| check["verdict"] != "pass")
        .map(|check| (text(check, "id"), text(check, "verdict"), text(check, "detail")))
        .collect()
}

/// Asserts that these checks and no others remark, in this way, on this.
#[track_caller]
fn expect(tree: &MiniTree, wanted: &[(&str, &str, &str)]) {
    let found = remarks(tree, &[]);
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    for ((id, verdict, detail), (wanted_id, wanted_verdict, part)) in found.iter().zip(wanted) {
        assert_eq!(
            (id.as_str(), verdict.as_str()),
            (*wanted_id, *wanted_verdict),
            "{detail}"
        );
        assert!(detail.contains(part), "{detail}");
    }
}

#[test]
fn an_odd_file_is_a_finding_and_not_the_end() {
    let clean = baked(&mirror());
    expect(&clean, &[]);

    // Nobody can follow it: it is no file to anyone.
    let tree = clean.copy();
    for dir in ["etc/profile.d", "etc/default"] {
        fs::create_dir_all(tree.path().join(dir)).expect("directory");
    }
    symlink("loop.sh", tree.path().join("etc/profile.d/loop.sh")).expect("link");
    symlink("grub", tree.path().join("etc/default/grub")).expect("link");
    expect(&tree, &[]);

    let tree = clean.copy();
    tree.put("etc/profile.d/a.sh", &"#".repeat(TOO_MUCH));
    expect(
        &tree,
        &[(
            "SSMB073",
            "warn",
            "cannot be judged: cannot read `/etc/profile.d/a.sh`",
        )],
    );
    // It does not hide what another file has.
    tree.put("etc/profile.d/b.sh", "export https_proxy=http://u:secret@p:1\n");
    expect(&tree, &[("SSMB073", "fail", "/etc/profile.d/b.sh")]);

    let tree = clean.copy();
    tree.put("etc/environment", &"#".repeat(TOO_MUCH));
    expect(
        &tree,
        &[
            ("SSMB073", "warn", "cannot be judged"),
            ("SSMB074", "fail", "cannot be judged"),
        ],
    );
}

#[test]
fn a_configuration_that_is_no_file_is_a_finding() {
    let clean = baked(&mirror());
    let tree = clean.copy();
    fs::create_dir_all(tree.path().join(AGENT_JSON)).expect("directory");
    expect(&tree, &[("SSMB007", "fail", "not a regular file")]);
    let (code, _, err) = outcome(&mut {
        let mut bake = apply(tree.path(), &mirror(), V1);
        bake.args(["--set", "Agent.SelfUpdate=true"]);
        bake
    });
    assert!(code == 8 && err.contains(AGENT_JSON), "{err}");

    let tree = clean.copy();
    tree.put(AGENT_JSON, &" ".repeat(TOO_MUCH));
    expect(&tree, &[("SSMB007", "fail", "larger than")]);

    let tree = clean.copy();
    symlink("amazon-ssm-agent.json", tree.path().join(AGENT_JSON)).expect("link");
    expect(&tree, &[("SSMB007", "fail", "cannot be judged")]);
}

#[test]
fn what_a_seal_rule_cannot_read_is_a_finding() {
    let tree = baked(&mirror());
    fs::create_dir_all(tree.path().join("home/u/.ssh")).expect("directory");
    symlink("authorized_keys", tree.path().join("home/u/.ssh/authorized_keys")).expect("link");
    // How each rule takes it is its own matter; the report comes.
    let checks = checks(&tree, &["--profile", "image"]);
    assert!(checks.iter().any(|check| check["id"] == "SSMB040"));
}

#[test]
fn image_builder_s_profile_is_that_of_images() {
    let tree = baked(&mirror());
    assert_eq!(
        checks(&tree, &["--profile", "image-builder"]),
        checks(&tree, &["--profile", "image"])
    );
}

#[test]
fn activations_are_found_in_every_form_and_place() {
    let clean = baked(&mirror());
    for (path, text) in [
        ("etc/environment", "SSM_ACTIVATION_CODE=x\n"),
        (
            "etc/systemd/system.conf",
            "[Manager]\nDefaultEnvironment=\"SSM_ACTIVATION_CODE=x\"\n",
        ),
        (
            "etc/systemd/system.conf.d/a.conf",
            "[Manager]\nDefaultEnvironment=SSM_ACTIVATION_CODE=x\n",
        ),
        (
            "boot/loader/entries/a.conf",
            "options ro systemd.setenv=SSM_ACTIVATION_CODE=x\n",
        ),
        ("boot/cmdline.txt", "console=tty1 ssm-activation:1:2\n"),
        ("boot/firmware/cmdline.txt", "console=tty1 ssm-activation:1:2\n"),
        (
            "root/anaconda-ks.cfg",
            "bootloader --append=\"ssm-activation:1:2\"\n",
        ),
    ] {
        let tree = clean.copy();
        tree.put(path, text);
        expect(&tree, &[("SSMB074", "fail", path)]);
    }
}

#[test]
fn who_can_replace_a_program_can_change_it() {
    let clean = baked(&mirror());
    let tree = clean.copy();
    fs::set_permissions(tree.path().join("usr/bin"), fs::Permissions::from_mode(0o777)).expect("mode");
    expect(&tree, &[("SSMB067", "fail", "`/usr/bin` has mode 0777")]);
    // To root a tree that belongs to a user is no tree of root's.
    let tree = clean.copy();
    for path in ["", "usr/bin/amazon-ssm-agent"] {
        chown(tree.path().join(path), Some(1000), None).expect("owner");
    }
    let found = remarks(&tree, &[]);
    assert!(
        found
            .iter()
            .any(|(id, _, detail)| id == "SSMB067" && detail.contains("belongs to user 1000")),
        "{found:#?}"
    );
}

#[test]
fn proxies_are_read_as_systemd_reads_them() {
    let clean = baked(&mirror());
    let drop_in = |text: &str| {
        let tree = clean.copy();
        tree.put("etc/systemd/system/amazon-ssm-agent.service.d/own.conf", text);
        tree
    };
    for good in [
        "Environment=\"https_proxy=http://p:1\" \"no_proxy=169.254.169.254\"",
        "Environment='https_proxy=http://p:1' 'no_proxy=a,169.254.169.254'",
        "Environment = https_proxy=http://p:1 \\\n  no_proxy=169.254.169.254",
        // What is taken back is not in force.
        "Environment=https_proxy=http://u:secret@p:1\nEnvironment=",
        "# Environment=https_proxy=http://u:secret@p:1",
    ] {
        expect(&drop_in(&format!("[Service]\n{good}\n")), &[]);
    }
    // systemd ignores what is in no section.
    expect(&drop_in("Environment=https_proxy=http://p:1\n"), &[]);

    let tree = drop_in("[Service]\nEnvironmentFile=-/etc/default/agent\n");
    expect(&tree, &[]);
    tree.put(
        "etc/default/agent",
        "no_proxy=169.254.169.254\nhttps_proxy=\"http://u:secret@p:1\"\n",
    );
    expect(&tree, &[("SSMB071", "warn", "https_proxy has a password")]);
    // Of two drop-ins of one name only the administrator's counts.
    tree.put(
        "etc/systemd/system/amazon-ssm-agent.service.d/vendor.conf",
        "[Service]\nEnvironmentFile=\n",
    );
    tree.put(
        "usr/lib/systemd/system/amazon-ssm-agent.service.d/vendor.conf",
        "[Service]\nEnvironment=http_proxy=http://p:1\n",
    );
    expect(&tree, &[]);
}

#[test]
fn a_configuration_that_go_loads_is_no_defect() {
    let clean = baked(&mirror());
    let with = |bytes: &[u8]| {
        let tree = clean.copy();
        tree.put(AGENT_JSON, "");
        fs::write(tree.path().join(AGENT_JSON), bytes).expect("file");
        tree
    };
    for good in [
        &b"null"[..],
        b"{\"Agent\": null}",
        b"{\"Agent\": {\"SelfUpdate\": null}, \"Mgs\": {\"DeniedPortForwardingRemoteIPs\": null}}",
        b"{\"Profile\": {\"ShareProfile\": \"caf\xe9\"}}",
    ] {
        expect(&with(good), &[]);
    }
    // What nobody can write back as it was is not edited.
    let tree = with(b"{\"Profile\": {\"ShareProfile\": \"caf\xe9\"}}");
    let mirror = mirror();
    let mut bake = apply(tree.path(), &mirror, V1);
    let (code, _, err) = outcome(bake.args(["--set", "Agent.SelfUpdate=true"]));
    assert!(code == 8 && err.contains("UTF-8"), "{code}: {err}");
}

#[test]
fn a_mounted_snap_tells_its_version() {
    let tree = MiniTree::debian();
    for (version, wanted) in [("2.3.50.0", "fail"), ("'3.3.1957.0'", "pass")] {
        tree.put(
            "snap/amazon-ssm-agent/current/meta/snap.yaml",
            &format!("name: amazon-ssm-agent\nversion: {version}\n"),
        );
        let checks = checks(&tree, &[]);
        let check = checks
            .iter()
            .find(|check| check["id"] == "SSMB005")
            .expect("check");
        assert_eq!(check["verdict"], wanted, "{check}");
    }
}
