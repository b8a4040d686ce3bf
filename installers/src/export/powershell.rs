//! A plan as a PowerShell script for Windows, on its own or inside of an answer file for Windows Setup.
//!
//! It asks nobody but the server of the package, and runs that only with AWS's Authenticode signature.

use ssmbake_manifests::{AgentFacts, Arch, Os, VersionMatch};

use crate::config;
use crate::config::proxy::Proxy;
use crate::plan::{Downgrade, Plan, Step, VersionSpec};
use crate::trust::Anchor;
use crate::trust::x509::pem_blocks;

const FUNCTIONS: &str = include_str!("functions.ps1");
const ANSWER_FILE: &str = include_str!("templates/autounattend.xml");

/// The script for `plan` on a machine of `os` and `arch`. `url` and `digest` (SHA-256, hex) are the package's; without
/// a digest its signature alone is judged.
pub fn render(
    plan: &Plan,
    os: &Os,
    arch: Arch,
    agent: &AgentFacts,
    url: &str,
    digest: Option<&str>,
) -> String {
    let mut text = format!(
        "# amazon-ssm-agent for {} ({arch}), rendered by ssmbake {}.\n# Usage: powershell -ExecutionPolicy Bypass -File \
         SCRIPT [PACKAGE]; PACKAGE is a file, for machines that cannot download it.\n# Exit codes are ssmbake's: 0 ok, 3 \
         another system, 5 verification failed, 6 network, 7 I/O, 8 conflict, 10 failed and rolled back,\n# 20 changed (with \
         SSMBAKE_DETAILED_EXITCODE=1). A second run changes nothing.\n$ErrorActionPreference = 'Stop'\n",
        os.name,
        env!("CARGO_PKG_VERSION"),
    );
    for (name, value) in settings(plan, os, arch, agent, url, digest) {
        text.push_str(&format!("${name} = {value}\n"));
    }
    text.push_str(FUNCTIONS);
    for step in &plan.steps {
        text.push_str(&call(step));
    }
    text.push_str(
        "} catch {\n    Stop-Here 7 $_.Exception.Message 'see above what was done'\n}\nClear-Work\n\
         if (-not $changed) { Say 'nothing changed: all is as wanted'; exit 0 }\n\
         if ($env:SSMBAKE_DETAILED_EXITCODE -eq '1') { exit 20 }\nexit 0\n",
    );
    text
}

/// An answer file for Windows Setup that runs `script` at the first logon.
pub fn answer_file(script: &str, arch: Arch) -> String {
    let arch = match arch {
        Arch::I386 => "x86",
        _ => "amd64",
    };
    ANSWER_FILE
        .replace("@ARCH@", arch)
        .replace("@SCRIPT@", &xml(script))
}

fn settings(
    plan: &Plan,
    os: &Os,
    arch: Arch,
    agent: &AgentFacts,
    url: &str,
    digest: Option<&str>,
) -> Vec<(&'static str, String)> {
    let version = plan.steps.iter().find_map(|step| match step {
        Step::InstallPackage {
            version: VersionSpec::Exact(version),
            ..
        } => Some(version.to_string()),
        _ => None,
    });
    let config = plan.steps.iter().find_map(|step| match step {
        // An empty file and edits that were checked always merge.
        Step::WriteConfig { edits } => config::merge(None, edits).ok().flatten(),
        _ => None,
    });
    let builds: Vec<String> = os.matches.iter().flat_map(|rule| builds(&rule.version)).collect();
    let downgrade = match plan.request.downgrade {
        Downgrade::Allow => "allow",
        Downgrade::Refuse => "refuse",
    };
    // As PROCESSOR_ARCHITECTURE has it.
    let arch = match arch {
        Arch::I386 => "x86",
        _ => "AMD64",
    };
    vec![
        ("os_name", quoted(&os.name)),
        ("os_builds", format!("@({})", list(&builds))),
        ("arch", quoted(arch)),
        ("agent_version", quoted(&version.unwrap_or_default())),
        ("downgrade", quoted(downgrade)),
        ("url", quoted(url)),
        ("digest", quoted(digest.unwrap_or_default())),
        ("publisher", quoted(&agent.publisher)),
        ("config", quoted(&config.unwrap_or_default())),
    ]
}

fn builds(version: &VersionMatch) -> Vec<String> {
    match version {
        VersionMatch::Exact(one) | VersionMatch::Major(one) => vec![one.clone()],
        VersionMatch::OneOf(builds) => builds.clone(),
        VersionMatch::Any => Vec::new(),
    }
}

fn call(step: &Step) -> String {
    match step {
        Step::InstallPackage { .. } => "    Install-Agent $args[0]\n".to_owned(),
        Step::EnableService { .. } => "    Enable-Agent\n".to_owned(),
        Step::TrustAnchors { anchors, .. } => anchors.iter().map(anchor).collect(),
        Step::WriteConfig { .. } => "    Write-Config\n".to_owned(),
        Step::WriteProxy { proxy, .. } => format!("    Write-Proxy {}\n", list(&proxy_lines(proxy))),
        // No plan for Windows has any of these.
        Step::HoldRefresh
        | Step::LabelFiles { .. }
        | Step::RequestRelabel
        | Step::RegisterAtFirstBoot { .. }
        | Step::ActivateAtFirstBoot { .. }
        | Step::WaitForNetwork { .. }
        | Step::ReloadManager { .. }
        | Step::RegisterNow { .. }
        | Step::StartService { .. } => String::new(),
    }
}

fn proxy_lines(proxy: &Proxy) -> [String; 3] {
    [
        format!("http_proxy={}", proxy.url),
        format!("https_proxy={}", proxy.url),
        format!("no_proxy={}", proxy.no_proxy.join(",")),
    ]
}

fn anchor(anchor: &Anchor) -> String {
    let lines = anchor.pem.lines().filter(|line| !line.starts_with("-----"));
    let der: String = lines.collect();
    debug_assert_eq!(pem_blocks(anchor.pem.as_bytes()).len(), 1);
    format!("    Add-Anchor {} {}\n", quoted(&anchor.label), quoted(&der))
}

/// A list of PowerShell's.
fn list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    words.join(", ")
}

/// A string of PowerShell's that is taken as it stands. Typographic quotes end one as well as ASCII's.
fn quoted(text: &str) -> String {
    let mut out = String::from("'");
    for letter in text.chars() {
        if matches!(letter, '\'' | '\u{2018}'..='\u{201b}') {
            out.push(letter);
        }
        out.push(letter);
    }
    out + "'"
}

/// Text of an XML element.
fn xml(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_stay_what_they_are() {
        assert_eq!(quoted("a $b `c` \"d\""), "'a $b `c` \"d\"'");
        assert_eq!(quoted("it's \u{2019}"), "'it''s \u{2019}\u{2019}'");
        assert_eq!(xml("a<b> & ]]>"), "a&lt;b&gt; &amp; ]]&gt;");
    }
}
