//! Defects by the dozen, each seeded in a tree that was clean, and each found; and clean trees, in which none is found.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::plant::plant;
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{FOREIGN, V1, apply, mirror, world};
use ssmbake_tests::{must, outcome, ssmbake, ssmbake_bin};

/// A way to spoil a tree.
enum Seed {
    /// A file with this text.
    Put(&'static str, &'static str),
    /// A file with these bytes.
    Bytes(&'static str, &'static [u8]),
    /// The agent's configuration.
    Config(&'static str),
    /// A drop-in of the agent's unit.
    DropIn(&'static str),
    /// No such file, link or tree.
    Gone(&'static str),
    Mode(&'static str, u32),
    Owner(&'static str, u32),
    Link(&'static str, &'static str),
    /// Another text in a file.
    Edit(&'static str, &'static str, &'static str),
}
use Seed::{Bytes, Config, DropIn, Edit, Gone, Link, Mode, Owner, Put};

const AGENT_JSON: &str = "etc/amazon/ssm/amazon-ssm-agent.json";
const AGENT: &str = "usr/bin/amazon-ssm-agent";
const UNIT: &str = "lib/systemd/system/amazon-ssm-agent.service";
const WANTS: &str = "etc/systemd/system/multi-user.target.wants/amazon-ssm-agent.service";
const STATUS: &str = "var/lib/dpkg/status";
/// An ELF header of a 64-bit ARM.
const ARM64: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xb7\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

const DEFECTS: &[(&str, &str, Seed)] = &[
    // The package.
    (
        "SSMB002",
        "fail",
        Edit(STATUS, "Package: amazon-ssm-agent", "Package: other"),
    ),
    (
        "SSMB002",
        "fail",
        Edit(STATUS, "install ok installed", "install ok half-installed"),
    ),
    (
        "SSMB002",
        "fail",
        Edit(STATUS, "install ok installed", "deinstall ok config-files"),
    ),
    ("SSMB003", "fail", Put("snap/amazon-ssm-agent/current/x", "")),
    (
        "SSMB003",
        "fail",
        Put("var/lib/snapd/snaps/amazon-ssm-agent_1.snap", ""),
    ),
    ("SSMB004", "fail", Gone(AGENT)),
    ("SSMB004", "fail", Gone("usr/bin/ssm-session-worker")),
    (
        "SSMB005",
        "fail",
        Edit(STATUS, "Version: 3.3.1957.0-1", "Version: 3.2.1000.0-1"),
    ),
    (
        "SSMB005",
        "warn",
        Edit(STATUS, "Version: 3.3.1957.0-1", "Version: own-1"),
    ),
    ("SSMB012", "fail", Put("var/lib/dpkg/updates/0001", "")),
    ("SSMB086", "fail", Put("var/lib/.ssmbake-journal", "{}")),
    ("SSMB013", "warn", Put("usr/bin/ssm-cli", "another program")),
    ("SSMB069", "fail", Bytes(AGENT, ARM64)),
    (
        "SSMB077",
        "warn",
        Edit(STATUS, "Status: install ok", "Status: hold ok"),
    ),
    // The service.
    ("SSMB006", "fail", Gone(WANTS)),
    ("SSMB006", "fail", Gone(UNIT)),
    (
        "SSMB006",
        "fail",
        Link("etc/systemd/system/amazon-ssm-agent.service", "/dev/null"),
    ),
    ("SSMB068", "fail", Mode(UNIT, 0o666)),
    ("SSMB068", "fail", Owner(UNIT, 1000)),
    (
        "SSMB075",
        "warn",
        DropIn("[Service]\nExecStart=\nExecStart=/opt/agent\n"),
    ),
    // The configuration.
    ("SSMB007", "fail", Bytes(AGENT_JSON, b"\xef\xbb\xbf{}")),
    ("SSMB007", "fail", Bytes(AGENT_JSON, b"\xff\xfe{\0}\0")),
    ("SSMB007", "fail", Config("")),
    ("SSMB007", "fail", Config("{\"Agent\": {\"SelfUpdate\": true,}}")),
    ("SSMB007", "fail", Config("{\n// a comment\n}")),
    ("SSMB007", "fail", Config("{\"Agent\": []}")),
    ("SSMB007", "fail", Config("[]")),
    (
        "SSMB007",
        "fail",
        Config("{\"ssm\": {\"healthfrequencyminutes\": 5.5}}"),
    ),
    (
        "SSMB007",
        "fail",
        Config("{\"Identity\": {\"ConsumptionOrder\": [1]}}"),
    ),
    ("SSMB061", "warn", Config("{\"Foo\": 1}")),
    ("SSMB007", "fail", Config("{\"Agent\": {}")),
    (
        "SSMB007",
        "fail",
        Config("{\"Agent\": {\"SelfUpdate\": \"true\"}}"),
    ),
    (
        "SSMB008",
        "fail",
        Config("{\"Ssm\": {\"HealthFrequencyMinutes\": 61}}"),
    ),
    (
        "SSMB007",
        "fail",
        Config("{\"Ssm\": {\"HealthFrequencyMinutes\": \"5\"}}"),
    ),
    (
        "SSMB008",
        "fail",
        Config("{\"Ssm\": {\"SessionLogsDestination\": \"Disk\"}}"),
    ),
    (
        "SSMB008",
        "fail",
        Config("{\"Identity\": {\"ConsumptionOrder\": [\"onprem\", \"EC2\"]}}"),
    ),
    (
        "SSMB008",
        "fail",
        Config("{\"Identity\": {\"ConsumptionOrder\": [\"nope\"]}}"),
    ),
    (
        "SSMB008",
        "fail",
        Config("{\"Mgs\": {\"Endpoint\": \"host:443\"}}"),
    ),
    (
        "SSMB008",
        "fail",
        Config("{\"Ssm\": {\"Endpoint\": \"http://host\"}}"),
    ),
    ("SSMB008", "fail", Config("{\"Ssm\": {\"Endpoint\": \"a b\"}}")),
    (
        "SSMB060",
        "fail",
        Config("{\"Agent\": {\"SelfUpdate\": true, \"selfupdate\": false}}"),
    ),
    ("SSMB060", "fail", Config("{\"Agent\": {}, \"Agent\": {}}")),
    ("SSMB061", "warn", Config("{\"Agent\": {\"SelfUpdat\": true}}")),
    (
        "SSMB062",
        "warn",
        Config("{\"Identity\": {\"ConsumptionOrder\": [\"OnPrem\"]}}"),
    ),
    (
        "SSMB063",
        "warn",
        Config("{\"Agent\": {\"Region\": \"eu-west-1\"}}"),
    ),
    (
        "SSMB063",
        "warn",
        Config("{\"mgs\": {\"region\": \"eu-west-1\"}}"),
    ),
    (
        "SSMB064",
        "fail",
        Config("{\"Mgs\": {\"DeniedPortForwardingRemoteIPs\": [\"10.0.0.1\"]}}"),
    ),
    (
        "SSMB064",
        "fail",
        Config("{\"Mgs\": {\"DeniedPortForwardingRemoteIPs\": []}}"),
    ),
    (
        "SSMB064",
        "warn",
        Config("{\"Mgs\": {\"DeniedPortForwardingRemoteIPs\": [\"169.254.169.254\", \"fd00:ec2::254\"]}}"),
    ),
    (
        "SSMB065",
        "warn",
        Config("{\"Agent\": {\"ServiceDomain\": \"example.com\"}}"),
    ),
    ("SSMB066", "fail", Mode(AGENT_JSON, 0o666)),
    ("SSMB066", "fail", Owner(AGENT_JSON, 1000)),
    ("SSMB066", "fail", Mode("etc/amazon/ssm", 0o777)),
    ("SSMB067", "fail", Mode(AGENT, 0o775)),
    ("SSMB067", "fail", Owner("usr/bin/ssm-agent-worker", 1000)),
    // Trust.
    ("SSMB009", "fail", Gone("etc/ssl/certs")),
    // Identity.
    ("SSMB010", "fail", Put("var/lib/amazon/ssm/registration", "{}")),
    ("SSMB010", "fail", Put("var/lib/amazon/ssm/Vault/Manifest", "{}")),
    (
        "SSMB010",
        "fail",
        Put("var/lib/amazon/ssm/i-0123456789abcdef0/x", ""),
    ),
    ("SSMB010", "fail", Put("var/lib/ssmbake/machine-id", "x\n")),
    (
        "SSMB074",
        "fail",
        Put("etc/default/grub", "GRUB_CMDLINE_LINUX=\"ssm-activation:1:2\"\n"),
    ),
    (
        "SSMB074",
        "fail",
        Put(
            "var/lib/cloud/seed/nocloud/user-data",
            "{\"ActivationCode\": \"x\"}",
        ),
    ),
    (
        "SSMB078",
        "warn",
        Put(
            "etc/sudoers.d/ssm-agent-users",
            "ssm-user ALL=(ALL) NOPASSWD:ALL\n",
        ),
    ),
    ("SSMB081", "fail", Mode("var/lib/amazon/ssm", 0o777)),
    // Proxies.
    (
        "SSMB011",
        "warn",
        Put("etc/systemd/system/amazon-ssm-agent.service.d/proxy.override", ""),
    ),
    (
        "SSMB070",
        "fail",
        DropIn("[Service]\nEnvironment=\"https_proxy=http://p:1\"\n"),
    ),
    (
        "SSMB071",
        "warn",
        DropIn(
            "[Service]\nEnvironment=\"https_proxy=http://u:secret@p:1\"\nEnvironment=\"no_proxy=169.254.169.254\"\n",
        ),
    ),
    (
        "SSMB070",
        "fail",
        DropIn(
            "[Service]\nEnvironment=\"no_proxy=169.254.169.254\" 'https_proxy=http://p:1'\nEnvironment=no_proxy=a\n",
        ),
    ),
    (
        "SSMB071",
        "warn",
        DropIn("[Service]\nEnvironment=\"no_proxy=169.254.169.254\" \"https_proxy=http://u:s@p:1\"\n"),
    ),
    (
        "SSMB071",
        "warn",
        DropIn("[Service]\nEnvironment = 'https_proxy=http://u:s@p:1'\n"),
    ),
    (
        "SSMB071",
        "warn",
        Edit(
            UNIT,
            "[Service]",
            "[Service]\nEnvironment=https_proxy=http://u:s@p:1",
        ),
    ),
    (
        "SSMB071",
        "warn",
        Put(
            "usr/lib/systemd/system/amazon-ssm-agent.service.d/vendor.conf",
            "[Service]\nEnvironment=https_proxy=http://u:s@p:1\n",
        ),
    ),
    (
        "SSMB072",
        "fail",
        DropIn("[Service]\nEnvironment=http_proxy=http://p:1\n"),
    ),
    (
        "SSMB073",
        "fail",
        Put("etc/environment", "https_proxy=http://u:secret@p:1\n"),
    ),
    (
        "SSMB073",
        "fail",
        Put(
            "etc/apt/apt.conf.d/99proxy",
            "Acquire::http::Proxy \"http://u:secret@p:1/\";\n",
        ),
    ),
    // What surrounds it.
    ("SSMB015", "warn", Gone("usr/sbin/chronyd")),
    (
        "SSMB015",
        "warn",
        Link("etc/systemd/system/chrony.service", "/dev/null"),
    ),
    (
        "SSMB076",
        "warn",
        Put("etc/hosts", "10.0.0.1 ssm.eu-west-1.amazonaws.com\n"),
    ),
    (
        "SSMB079",
        "warn",
        Put("tmp/imagebuilder_service/ssm_installed", ""),
    ),
    ("SSMB080", "warn", Put(".autorelabel", "")),
    (
        "SSMB083",
        "fail",
        Put("etc/selinux/config", "SELINUX=enforcing\nSELINUXTYPE=targeted\n"),
    ),
    (
        "SSMB083",
        "warn",
        Put("etc/selinux/config", "SELINUX=permissive\nSELINUXTYPE=targeted\n"),
    ),
];

impl Seed {
    fn sow(&self, tree: &MiniTree) {
        let at = |path: &str| tree.path().join(path);
        match self {
            Put(path, text) => tree.put(path, text),
            Bytes(path, bytes) => fs::write(at(path), bytes).expect("file"),
            Config(text) => tree.put(AGENT_JSON, text),
            DropIn(text) => tree.put("etc/systemd/system/amazon-ssm-agent.service.d/own.conf", text),
            Gone(path) if at(path).is_dir() => fs::remove_dir_all(at(path)).expect("remove"),
            Gone(path) => fs::remove_file(at(path)).expect("remove"),
            Mode(path, mode) => {
                fs::set_permissions(at(path), fs::Permissions::from_mode(*mode)).expect("mode")
            }
            Owner(path, uid) => chown(at(path), Some(*uid), None).expect("owner"),
            Link(path, target) => symlink(target, at(path)).expect("link"),
            Edit(path, from, to) => {
                let text = tree.read(path);
                assert!(text.contains(from), "{path}: {from}");
                tree.put(path, &text.replace(from, to));
            }
        }
    }
}

/// A tree without a defect.
fn clean(mirror: &Mirror) -> MiniTree {
    let tree = MiniTree::debian();
    tree.put("usr/sbin/chronyd", "");
    must(apply(tree.path(), mirror, V1).args(["--set", "Agent.SelfUpdate=true"]));
    fs::create_dir_all(tree.path().join("var/lib/amazon/ssm")).expect("directory");
    tree
}

fn audit(root: &Path, options: &[&str]) -> (i32, Vec<Value>) {
    let mut command = ssmbake(&["audit", "--output", "json", "--root"]);
    let (code, out, err) = outcome(command.arg(root).args(options));
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    (code, report["checks"].as_array().expect("checks").clone())
}

fn remarks(checks: &[Value]) -> Vec<String> {
    let told = checks.iter().filter(|check| check["verdict"] != "pass");
    told.map(ToString::to_string).collect()
}

#[test]
#[ignore = "takes seconds: scripts/test without `fast` runs it"]
fn every_seeded_defect_is_found() {
    let mirror = mirror();
    let clean = clean(&mirror);
    let (code, checks) = audit(clean.path(), &[]);
    assert_eq!((code, remarks(&checks)), (0, Vec::new()));
    assert!(DEFECTS.len() >= 60);
    for (number, (id, verdict, seed)) in DEFECTS.iter().enumerate() {
        let tree = clean.copy();
        seed.sow(&tree);
        let (code, checks) = audit(tree.path(), &[]);
        let found = checks
            .iter()
            .find(|check| check["id"] == *id)
            .unwrap_or_else(|| panic!("{id} of {number}"));
        assert_eq!(
            found["verdict"],
            *verdict,
            "defect {number}: {found}, {:#?}",
            remarks(&checks)
        );
        assert_ne!(found["fix"], "", "{id}");
        let fails = checks.iter().any(|check| check["verdict"] == "fail");
        assert_eq!(code, if fails { 9 } else { 0 });
    }
}

#[test]
#[ignore = "takes seconds: scripts/test without `fast` runs it"]
fn clean_trees_are_clean() {
    let mirror = mirror();
    for (arch, folder) in FOREIGN.into_iter().filter(|(arch, _)| *arch == "arm64") {
        let package = ssmbake_tests::package::AgentPackage {
            arch: arch.to_owned(),
            ..ssmbake_tests::package::AgentPackage::new(V1)
        }
        .build(world().dir.path());
        mirror.publish(V1, folder, &package, &world().signer.sign(&package));
    }
    let systems = [
        ("debian", "Debian GNU/Linux", "10"),
        ("debian", "Debian GNU/Linux", "11"),
        ("debian", "Debian GNU/Linux", "12"),
        ("debian", "Debian GNU/Linux", "13"),
        ("ubuntu", "Ubuntu", "16.04"),
        ("ubuntu", "Ubuntu", "18.04"),
        ("ubuntu", "Ubuntu", "20.04"),
        ("ubuntu", "Ubuntu", "22.04"),
        ("ubuntu", "Ubuntu", "24.04"),
        ("ubuntu", "Ubuntu", "26.04"),
    ];
    for (id, name, version) in systems {
        for arch in ["amd64", "arm64"] {
            let tree = MiniTree::new(id, name, version, arch);
            tree.put("usr/sbin/chronyd", "");
            // As `seal` leaves it.
            tree.put("etc/machine-id", "");
            must(&mut apply(tree.path(), &mirror, V1));
            must(ssmbake(&["seal", "--profile", "image", "--root"]).arg(tree.path()));
            let (code, checks) = audit(tree.path(), &["--profile", "image"]);
            assert_eq!((code, remarks(&checks)), (0, Vec::new()), "{id} {version} {arch}");
        }
    }
}

#[test]
fn profiles_judge_identities() {
    let mirror = mirror();
    let verdict = |tree: &MiniTree, profile: &str, id: &str| {
        let (_, checks) = audit(tree.path(), &["--profile", profile]);
        let found = checks.iter().find(|check| check["id"] == id).expect("check");
        found["verdict"].as_str().expect("verdict").to_owned()
    };
    let tree = clean(&mirror);
    assert_eq!(verdict(&tree, "ec2", "SSMB014"), "pass");
    assert_eq!(verdict(&tree, "hybrid", "SSMB014"), "fail");
    tree.put(AGENT_JSON, "{\"Identity\": {\"ConsumptionOrder\": [\"OnPrem\"]}}");
    assert_eq!(verdict(&tree, "ec2", "SSMB062"), "fail");
    assert_eq!(verdict(&tree, "hybrid", "SSMB062"), "pass");
    let mut bake = apply(tree.path(), &mirror, V1);
    must(bake.args(["--target", "hybrid", "--activation-source", "env"]));
    assert_eq!(verdict(&tree, "ec2", "SSMB014"), "fail");
    assert_eq!(verdict(&tree, "hybrid", "SSMB014"), "pass");
    tree.put(AGENT_JSON, "{\"Identity\": {\"ConsumptionOrder\": [\"EC2\"]}}");
    assert_eq!(verdict(&tree, "any", "SSMB062"), "fail");
}

#[test]
fn a_user_audits_the_tree_that_is_theirs() {
    let (tree, bin) = (clean(&mirror()), tempfile::tempdir().expect("directory"));
    let program = bin.path().join("ssmbake");
    fs::copy(ssmbake_bin(), &program).expect("copy");
    for dir in [bin.path(), tree.path()] {
        must(Command::new("chown").args(["-Rh", "65534:65534"]).arg(dir));
    }
    let audit = |tree: &Path| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .args(["audit", "--profile", "image", "--root"])
            .arg(tree);
        outcome(&mut command)
    };
    let (code, out, err) = audit(tree.path());
    assert_eq!(code, 0, "{out}{err}");
    must(Command::new("chown").arg("1000").arg(tree.path().join(AGENT)));
    let (code, out, _) = audit(tree.path());
    assert!(code == 9 && out.contains("FAIL SSMB067"), "{out}");
}

#[test]
fn every_check_explains_itself() {
    let tree = clean(&mirror());
    let (_, checks) = audit(tree.path(), &["--profile", "image"]);
    for check in checks {
        let id = check["id"].as_str().expect("id");
        assert!(
            check["title"].as_str().is_some_and(|title| !title.is_empty()),
            "{id}"
        );
        let out = must(&mut ssmbake(&["audit", "--explain", id])).stdout;
        let text = String::from_utf8_lossy(&out);
        assert!(
            text.starts_with(id) && text.contains("severity ") && text.contains("\nsee https://"),
            "{text}"
        );
    }
    assert_eq!(outcome(&mut ssmbake(&["audit", "--explain", "SSMB999"])).0, 2);
    assert!(ssmbake_manifests::catalog().checks().len() >= 60);
}

#[test]
fn what_is_allowed_is_no_failure() {
    let tree = clean(&mirror());
    plant(tree.path());
    let (code, _) = audit(tree.path(), &[]);
    assert_eq!(code, 9);
    let (code, checks) = audit(tree.path(), &["--allow", "SSMB010"]);
    let allowed: Vec<_> = checks.iter().filter(|check| check["allowed"] == true).collect();
    assert_eq!((code, allowed.len()), (0, 1), "{:#?}", remarks(&checks));
    let (code, ..) = outcome(ssmbake(&["audit", "--allow", "SSMB999", "--root"]).arg(tree.path()));
    assert_eq!(code, 2);
}

#[test]
fn a_snap_that_is_held_for_good_is_told() {
    let tree = MiniTree::debian();
    tree.put("var/lib/snapd/snaps/amazon-ssm-agent_1.snap", "");
    let verdict = |state: &str| {
        tree.put("var/lib/snapd/state.json", state);
        let (_, checks) = audit(tree.path(), &[]);
        let found = checks
            .iter()
            .find(|check| check["id"] == "SSMB084")
            .expect("check");
        found["verdict"].as_str().expect("verdict").to_owned()
    };
    let own = |until: &str| {
        format!(
            "{{\"data\": {{\"snaps-hold\": {{\"amazon-ssm-agent\": {{\"system\": {{\"hold-until\": \"{until}\"}}}}}}}}}}"
        )
    };
    let all = |hold: &str| {
        format!("{{\"data\": {{\"config\": {{\"core\": {{\"refresh\": {{\"hold\": \"{hold}\"}}}}}}}}}}")
    };
    for (state, wanted) in [
        ("{}".to_owned(), "pass"),
        ("no JSON".to_owned(), "pass"),
        (own("2026-11-26T10:00:00Z"), "pass"),
        (own("2318-03-01T10:00:00Z"), "warn"),
        (all("2026-11-26T10:00:00Z"), "pass"),
        (all("forever"), "warn"),
    ] {
        assert_eq!(verdict(&state), wanted, "{state}");
    }
}
