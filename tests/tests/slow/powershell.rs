//! Exported scripts for Windows: PowerShell cannot be had here, so parsers judge them. Needs what scripts/setup installs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::world::mirror;
use ssmbake_tests::{must, ssmbake, tool};

pub(crate) fn checked() -> Command {
    let mut check = Command::new(tool("python"));
    check.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slow/check-powershell.py"));
    check
}

fn export(format: &str, dir: &Path, mirror: &Mirror) -> PathBuf {
    let to = dir.join(format);
    mirror.put("latest/VERSION", b"3.3.4242.0".to_vec());
    let mut export = ssmbake(&[
        "export",
        "--format",
        format,
        "--os",
        "windows-server-2012-r2",
        "--arch",
        "amd64",
    ]);
    export.args([
        "--mirror",
        &mirror.url,
        "--set",
        "Ssm.Endpoint=vpce-1.ssm.eu-west-1.vpce.amazonaws.com",
    ]);
    export.args(["--proxy", "http://p:3128", "--sha256", &"AB".repeat(32), "--out"]);
    must(export.arg(&to));
    to
}

#[test]
fn scripts_for_windows_are_powershell() {
    let (dir, mirror) = (tempfile::tempdir().expect("directory"), mirror());
    let script = export("powershell", dir.path(), &mirror);
    must(checked().arg("parse").arg(&script));
    let text = fs::read_to_string(&script).expect("script");
    for part in [
        "$agent_version = '3.3.4242.0'",
        "/3.3.4242.0/windows_amd64/AmazonSSMAgentSetup.exe'",
        &format!("$digest = '{}'", "ab".repeat(32)),
        "$publisher = 'Amazon.com Services LLC'",
        "$os_builds = @('9600')",
        "\"Endpoint\": \"vpce-1.ssm.eu-west-1.vpce.amazonaws.com\"",
        "Write-Proxy 'http_proxy=http://p:3128', 'https_proxy=http://p:3128', 'no_proxy=169.254.169.254'",
        "Add-Anchor 'Amazon Root CA 1' 'MII",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let order = [
        "Test-System\n",
        "Install-Agent $args",
        "Enable-Agent\n",
        "Add-Anchor 'A",
        "Write-Config\n",
        "Write-Proxy 'h",
    ];
    let places: Vec<usize> = order
        .iter()
        .map(|call| {
            text.rfind(&format!("    {call}"))
                .unwrap_or_else(|| panic!("{call}"))
        })
        .collect();
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn answer_files_carry_the_script_unchanged() {
    let (dir, mirror) = (tempfile::tempdir().expect("directory"), mirror());
    let (script, answers) = (
        export("powershell", dir.path(), &mirror),
        export("autounattend", dir.path(), &mirror),
    );
    // What Windows Setup sees: one command within its limit of 1024 characters, and the script where the command looks for it.
    let program = r#"
import sys, xml.etree.ElementTree as tree
root = tree.parse(sys.argv[1]).getroot()
setup = "{urn:schemas-microsoft-com:unattend}"
assert root.tag == setup + "unattend"
place = f"./{setup}settings[@pass='oobeSystem']/{setup}component[@name='Microsoft-Windows-Shell-Setup'][@processorArchitecture='amd64']"
(command,) = root.findall(f"{place}/{setup}FirstLogonCommands/{setup}SynchronousCommand")
assert command.find(setup + "Order").text == "1"
line = command.find(setup + "CommandLine").text
assert len(line) < 1024 and ".unattend.Extensions.Script" in line, line
script = root.find("{urn:ssmbake}Extensions/{urn:ssmbake}Script").text
assert script == open(sys.argv[2]).read()
open(sys.argv[3], "w").write(line.split('-Command "', 1)[1].rsplit('" >', 1)[0])
"#;
    let command = dir.path().join("command.ps1");
    must(
        Command::new(tool("python"))
            .args(["-c", program])
            .args([&answers, &script, &command]),
    );
    must(checked().arg("parse").arg(&command));
}
