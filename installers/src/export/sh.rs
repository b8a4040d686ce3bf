//! A plan as a POSIX sh script, for machines where no present-day binary runs: Linux 2.6.32 on EL 6, busybox systems.
//!
//! The script carries every text it writes and the package's SHA-256; it asks nobody but the server of the package.

use ssmbake_manifests::{Arch, Os, PackageFormat, ServiceManager, VersionMatch};

use super::quoted;
use crate::activation::{self, FirstBoot};
use crate::config;
use crate::plan::{Downgrade, Plan, Step, VersionSpec};
use crate::service::online;
use crate::trust::x509::pem_blocks;
use crate::trust::{Anchor, bundles};

/// Functions that every script begins with.
const FUNCTIONS: &str = include_str!("functions.sh");
const END: &str = "SSMBAKE_END";

/// The script for `plan` on a machine of `os` and `arch`. `url` and `digest` (SHA-256, hex) are the package's.
pub fn render(plan: &Plan, os: &Os, arch: Arch, url: &str, digest: &str) -> String {
    let mut text = String::from("#!/bin/sh\n");
    text.push_str(&format!(
        "# amazon-ssm-agent for {} ({arch}), rendered by ssmbake {}.\n# Usage: sh SCRIPT [PACKAGE]; PACKAGE is a file, for \
         machines that cannot download it.\n# Exit codes are ssmbake's: 0 ok, 3 another system, 5 wrong SHA-256, 6 network, 7 \
         I/O, 8 conflict, 20 changed (with\n# SSMBAKE_DETAILED_EXITCODE=1). A second run changes nothing.\n# shellcheck disable=SC2317 # which functions are called \
         depends on the plan\nset -u\n",
        os.name,
        env!("CARGO_PKG_VERSION"),
    ));
    for (name, value) in settings(plan, os, arch, url, digest) {
        text.push_str(&format!("{name}={}\n", quoted(&value)));
    }
    text.push_str(FUNCTIONS);
    plan.steps
        .iter()
        .for_each(|step| text.push_str(&preparation(step)));
    plan.steps.iter().for_each(|step| text.push_str(&call(step)));
    text.push_str(
        "if [ \"$changed\" = 0 ]; then\n    say \"nothing changed: all is as wanted\"\n    exit 0\nfi\n\
         [ \"${SSMBAKE_DETAILED_EXITCODE:-}\" != 1 ] || exit 20\nexit 0\n",
    );
    text
}

fn settings(plan: &Plan, os: &Os, arch: Arch, url: &str, digest: &str) -> Vec<(&'static str, String)> {
    let version = plan.steps.iter().find_map(|step| match step {
        Step::InstallPackage {
            version: VersionSpec::Exact(version),
            ..
        } => Some(version.to_string()),
        _ => None,
    });
    let mut ids: Vec<&str> = os.matches.iter().map(|rule| rule.id.as_str()).collect();
    ids.dedup();
    let patterns: Vec<String> = os
        .matches
        .iter()
        .flat_map(|rule| patterns(&rule.version))
        .collect();
    let archs = match os.package {
        PackageFormat::Rpm => arch.rpm_names().join(" "),
        _ => arch.debian_name().to_owned(),
    };
    let downgrade = match plan.request.downgrade {
        Downgrade::Allow => "allow",
        Downgrade::Refuse => "refuse",
    };
    let words = os.matches.first().and_then(|rule| rule.names.first());
    vec![
        ("os_name", os.name.clone()),
        ("os_ids", ids.join(" ")),
        ("os_versions", patterns.join(" ")),
        ("os_words", words.cloned().unwrap_or_default()),
        ("archs", archs),
        ("format", os.package.to_string()),
        ("agent_version", version.unwrap_or_default()),
        ("downgrade", downgrade.to_owned()),
        ("url", url.to_owned()),
        ("digest", digest.to_owned()),
        ("service", os.service.to_string()),
        ("trust", os.trust.to_string()),
        ("bundles", bundles(os.trust).join(" ")),
        ("unit_dir", os.unit_dir.clone().unwrap_or_default()),
    ]
}

/// What VERSION_ID may be, as sh's `case` writes it.
fn patterns(version: &VersionMatch) -> Vec<String> {
    match version {
        VersionMatch::Exact(exact) => vec![exact.clone()],
        VersionMatch::Major(major) => vec![major.clone(), format!("{major}.*")],
        VersionMatch::OneOf(versions) => versions.clone(),
        VersionMatch::Any => vec!["*".to_owned()],
    }
}

/// What must be known before the first step.
fn preparation(step: &Step) -> String {
    let Step::WriteConfig { edits } = step else {
        return String::new();
    };
    match config::merge(None, edits) {
        Ok(Some(text)) => heredoc("prepare_config", &text),
        // An empty file and edits that were checked always merge; nothing to set is nothing to do.
        Ok(None) | Err(_) => String::new(),
    }
}

fn call(step: &Step) -> String {
    match step {
        Step::InstallPackage { .. } => "install_package\n".to_owned(),
        Step::ActivateAtFirstBoot {
            manager, first_boot, ..
        } => first_boot_calls(*manager, first_boot),
        Step::EnableService { manager, .. } => match manager {
            ServiceManager::Systemd => "enable_systemd\n".to_owned(),
            _ => "enable_upstart\n".to_owned(),
        },
        Step::TrustAnchors { anchors, .. } => {
            let calls: String = anchors.iter().map(anchor).collect();
            format!("{calls}refresh_trust\n")
        }
        Step::WriteConfig { .. } if preparation(step).is_empty() => String::new(),
        Step::WriteConfig { .. } => "configure\n".to_owned(),
        Step::WaitForNetwork { channel } => {
            let place = quoted(online::place(*channel).as_str());
            heredoc(&format!("put {place} 644"), online::TEXT)
        }
        Step::WriteProxy {
            manager,
            channel,
            proxy,
        } => {
            let place = config::proxy::place(*manager, *channel);
            heredoc(
                &format!("put {} 600", quoted(place.as_str())),
                &proxy.render(*manager),
            )
        }
        // The machine's own tools write its database and its labels.
        Step::RegisterAtFirstBoot { .. } | Step::LabelFiles { .. } | Step::RequestRelabel => String::new(),
        // Plans for exports are made for trees that do not run.
        Step::HoldRefresh
        | Step::ReloadManager { .. }
        | Step::RegisterNow { .. }
        | Step::StartService { .. } => String::new(),
    }
}

fn first_boot_calls(manager: ServiceManager, first_boot: &FirstBoot) -> String {
    let files = first_boot.files(manager).into_iter();
    let mut text: String = files
        .map(|(path, text, mode)| heredoc(&format!("put {} {mode:o}", quoted(path)), &text))
        .collect();
    if manager == ServiceManager::Systemd {
        let unit = activation::UNIT;
        text.push_str(&format!(
            "link /etc/systemd/system/{unit} /etc/systemd/system/multi-user.target.wants/{unit}\n"
        ));
    }
    text
}

fn anchor(anchor: &Anchor) -> String {
    let hash = pem_blocks(anchor.pem.as_bytes())
        .first()
        .and_then(|one| one.subject_hash());
    let lines: Vec<&str> = anchor
        .pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    let (first, last) = (lines.first().copied(), lines.last().copied());
    let words = [
        &anchor.name,
        &hash.unwrap_or_default(),
        first.unwrap_or(""),
        last.unwrap_or(""),
    ];
    let words: Vec<String> = words.into_iter().map(quoted).collect();
    heredoc(&format!("anchor {}", words.join(" ")), &anchor.pem)
}

/// `command` with `text` on its standard input, to the byte.
fn heredoc(command: &str, text: &str) -> String {
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    format!("{command} <<'{END}'\n{text}{newline}{END}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_everything() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's $HOME `x`"), "'it'\\''s $HOME `x`'");
    }

    #[test]
    fn versions_become_patterns() {
        assert_eq!(patterns(&VersionMatch::Major("6".to_owned())), ["6", "6.*"]);
        assert_eq!(patterns(&VersionMatch::Any), ["*"]);
    }
}
