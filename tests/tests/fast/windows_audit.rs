//! Audits of Windows trees: a good one, and one for each way to be bad.

use std::fs;
use std::path::Path;

use serde_json::Value;
use ssmbake_tests::windows::WindowsTree;
use ssmbake_tests::{must, outcome, ssmbake};
use tempfile::TempDir;

const STATE: &str = r"Microsoft\Windows\CurrentVersion\Setup\State";
const ENTRY: &str = r"WOW6432Node\Microsoft\Windows\CurrentVersion\Uninstall\{6F4E3A2C}";
const ROOTS: [&str; 5] = [
    "8DA7F965EC5EFC37910F1C6E59FDC1CC6A6EDE16",
    "5A8CEF45D7A69859767A8C8B4496B578CF474B1A",
    "0D44DD8C3C8C1A1A58756481E90F2E2AFFB3D26E",
    "F6108407D6F8BB67980CC2E244C2EBAE1CEF63BE",
    "925A8F8D2C6D04E0665F596AFF22D863E8256F3F",
];
const COMPLETE: &[(&str, &str, &str)] = &[
    (STATE, "ImageState", "IMAGE_STATE_COMPLETE"),
    (ENTRY, "DisplayName", "Amazon SSM Agent"),
    (ENTRY, "DisplayVersion", "3.3.1957.0"),
];
const AGENT: &str = "Program Files/Amazon/SSM/amazon-ssm-agent.exe";
const CONFIG: &str = "Program Files/Amazon/SSM/amazon-ssm-agent.json";

/// Server 2019 with everything that Systems Manager needs.
fn ready() -> WindowsTree<'static> {
    WindowsTree {
        roots: &ROOTS,
        software: COMPLETE,
        service: Some((2, &["https_proxy=http://p:1", "NO_PROXY=169.254.169.254"])),
        ..WindowsTree::server_2019()
    }
}

fn put(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().expect("parent")).expect("directory");
    fs::write(path, text).expect("file");
}

/// The tree with the agent's programs.
fn with_programs(tree: &WindowsTree<'_>) -> TempDir {
    let dir = tree.build();
    put(dir.path(), AGENT, "");
    put(dir.path(), "Program Files/Amazon/SSM/SSM-Agent-Worker.exe", "");
    dir
}

fn audit(root: &Path, profile: &str) -> (i32, Vec<Value>) {
    let mut command = ssmbake(&["audit", "--output", "json", "--profile", profile, "--root"]);
    let (code, out, err) = outcome(command.arg(root));
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    (code, report["checks"].as_array().expect("checks").clone())
}

fn told(checks: &[Value]) -> Vec<(&str, &str)> {
    let word = |check: &'_ Value, name: &str| check[name].as_str().expect("text").to_owned();
    for check in checks.iter().filter(|check| check["verdict"] != "pass") {
        assert_ne!(word(check, "fix"), "", "{check}");
        assert!(!word(check, "fix").contains("ssmbake apply"), "{check}");
    }
    checks
        .iter()
        .filter(|check| check["verdict"] != "pass")
        .map(|check| {
            (
                check["id"].as_str().expect("id"),
                check["verdict"].as_str().expect("verdict"),
            )
        })
        .collect()
}

#[test]
fn a_server_that_is_ready_passes() {
    let dir = with_programs(&ready());
    put(dir.path(), CONFIG, "{\"Agent\": {\"SelfUpdate\": true}}");
    for profile in ["any", "image", "ec2"] {
        let (code, checks) = audit(dir.path(), profile);
        assert_eq!((code, told(&checks)), (0, Vec::new()), "{profile}");
        assert!(checks.len() >= 21, "{}", checks.len());
    }
    for id in ["SSMB016", "SSMB017", "SSMB018", "SSMB019"] {
        let out = must(&mut ssmbake(&["audit", "--explain", id])).stdout;
        assert!(String::from_utf8_lossy(&out).starts_with(id));
    }
}

#[test]
fn an_image_that_sysprep_sealed_passes() {
    let sealed = [
        (STATE, "ImageState", "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE"),
        COMPLETE[1],
        COMPLETE[2],
    ];
    let tree = WindowsTree {
        software: &sealed,
        ..ready()
    };
    let (code, checks) = audit(with_programs(&tree).path(), "image");
    assert_eq!((code, told(&checks)), (0, Vec::new()));
}

#[test]
fn defects_of_the_registry_are_found() {
    let plain = ready();
    let undone = [
        (STATE, "ImageState", "IMAGE_STATE_UNDEPLOYABLE"),
        COMPLETE[1],
        COMPLETE[2],
    ];
    let old = [COMPLETE[0], COMPLETE[1], (ENTRY, "DisplayVersion", "3.1.1.0")];
    let nano = [COMPLETE[0]];
    let cases: [(&str, &str, WindowsTree<'_>); 11] = [
        (
            "SSMB005",
            "fail",
            WindowsTree {
                software: &old,
                ..plain
            },
        ),
        (
            "SSMB005",
            "warn",
            WindowsTree {
                software: &nano,
                ..plain
            },
        ),
        (
            "SSMB006",
            "fail",
            WindowsTree {
                service: Some((4, &[])),
                ..plain
            },
        ),
        (
            "SSMB006",
            "fail",
            WindowsTree {
                service: None,
                ..plain
            },
        ),
        (
            "SSMB009",
            "warn",
            WindowsTree {
                roots: &ROOTS[..2],
                ..plain
            },
        ),
        (
            "SSMB016",
            "fail",
            WindowsTree {
                software: &undone,
                ..plain
            },
        ),
        (
            "SSMB017",
            "fail",
            WindowsTree {
                powershell: ("2.0", ""),
                ..plain
            },
        ),
        (
            "SSMB017",
            "fail",
            WindowsTree {
                powershell: ("", ""),
                ..plain
            },
        ),
        (
            "SSMB070",
            "fail",
            WindowsTree {
                service: Some((2, &["HTTPS_PROXY=http://p:1"])),
                ..plain
            },
        ),
        (
            "SSMB071",
            "warn",
            WindowsTree {
                service: Some((
                    2,
                    &["https_proxy=http://u:secret@p:1", "no_proxy=169.254.169.254"],
                )),
                ..plain
            },
        ),
        (
            "SSMB072",
            "fail",
            WindowsTree {
                service: Some((2, &["http_proxy=http://p:1"])),
                ..plain
            },
        ),
    ];
    for (id, verdict, tree) in cases {
        let (code, checks) = audit(with_programs(&tree).path(), "any");
        assert_eq!(told(&checks), [(id, verdict)], "{tree:?}");
        assert_eq!(code, if verdict == "fail" { 9 } else { 0 });
        let shown = format!("{checks:?}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}

#[test]
fn defects_of_files_are_found() {
    let whole = with_programs(&ready());
    let empty = ready().build();
    let (_, checks) = audit(empty.path(), "any");
    assert_eq!(told(&checks), [("SSMB004", "fail")]);
    let nothing = WindowsTree {
        software: &[],
        service: None,
        ..ready()
    }
    .build();
    let found = |checks: &[Value]| {
        told(checks)
            .iter()
            .map(|(id, _)| (*id).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(found(&audit(nothing.path(), "any").1), ["SSMB002", "SSMB006"]);
    put(
        nothing.path(),
        "Program Files/Amazon/Ec2ConfigService/Ec2Config.exe",
        "",
    );
    assert_eq!(
        found(&audit(nothing.path(), "any").1),
        ["SSMB002", "SSMB006", "SSMB018"]
    );

    for (text, id) in [
        ("{\"Agent\": {\"SelfUpdate\": true,}}", "SSMB007"),
        ("\u{feff}{}", "SSMB007"),
        ("{\"Mgs\": {\"Endpoint\": \"host:443\"}}", "SSMB008"),
        ("{\"Agent\": {}, \"agent\": {}}", "SSMB060"),
        ("{\"Mgs\": {\"DeniedPortForwardingRemoteIPs\": []}}", "SSMB064"),
    ] {
        put(whole.path(), CONFIG, text);
        assert_eq!(told(&audit(whole.path(), "any").1), [(id, "fail")], "{text}");
    }
    fs::remove_file(whole.path().join(CONFIG)).expect("remove");
    // Case does not count, nor do empty directories.
    put(
        whole.path(),
        "programdata/amazon/ssm/instancedata/registration",
        "{}",
    );
    fs::create_dir_all(whole.path().join("programdata/amazon/ssm/Download")).expect("directory");
    assert_eq!(told(&audit(whole.path(), "image").1), [("SSMB010", "fail")]);
    put(
        whole.path(),
        "programdata/amazon/ssm/LOGS/amazon-ssm-agent.log",
        "",
    );
    assert_eq!(
        told(&audit(whole.path(), "image").1),
        [("SSMB010", "fail"), ("SSMB019", "fail")]
    );
}

#[test]
fn windows_trees_are_not_sealed() {
    let dir = with_programs(&ready());
    let (code, _, err) = outcome(ssmbake(&["seal", "--root"]).arg(dir.path()));
    assert!(code == 3 && err.contains("sysprep"), "{err}");
}

#[test]
fn scripts_are_for_the_system_that_runs_them() {
    let export = |words: &[&str]| {
        let mut command = ssmbake(&["export", "--region", "eu-west-1", "--version", "3.3.1957.0"]);
        outcome(command.args(words))
    };
    let server = ["--os", "windows-server-2022", "--arch", "amd64"];
    for (words, code) in [
        (["--format", "sh"], 2),
        (["--format", "powershell"], 0),
        (["--format", "autounattend"], 0),
    ] {
        let (got, _, err) = export(&[&words[..], &server].concat());
        assert_eq!(got, code, "{words:?}: {err}");
    }
    let (code, _, err) = export(&["--format", "powershell", "--os", "debian-12", "--arch", "amd64"]);
    assert!(code == 2 && err.contains("sh for all others"), "{err}");
    let hybrid = [
        "--format",
        "powershell",
        "--target",
        "hybrid",
        "--activation-source",
        "env",
    ];
    let (code, _, err) = export(&[&hybrid[..], &server].concat());
    assert!(code == 3 && err.contains("CODE="), "{err}");
    // The last agent of an old system, which is older than signatures beside packages.
    let mut last = ssmbake(&["export", "--region", "eu-west-1", "--format", "powershell"]);
    let (code, out, err) = outcome(last.args(["--os", "windows-server-2008", "--arch", "i386"]));
    assert!(
        code == 0 && out.contains("/2.3.1644.0/windows_386/") && out.contains("$arch = 'x86'"),
        "{out}{err}"
    );
    // Of a tree, only what it lacks.
    let dir = with_programs(&WindowsTree {
        service: Some((4, &[])),
        ..ready()
    });
    let mut of_tree = ssmbake(&[
        "export",
        "--region",
        "eu-west-1",
        "--format",
        "powershell",
        "--version",
        "3.3.2000.0",
    ]);
    let (code, out, err) = outcome(of_tree.arg("--root").arg(dir.path()));
    assert!(
        code == 0 && out.contains("    Enable-Agent\n") && !out.contains("    Add-Anchor"),
        "{out}{err}"
    );
}
