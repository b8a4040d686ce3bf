//! Facts, plans and reports as text for people.

use std::fmt::Write;

use ssmbake_installers::audit::{Report, Verdict};
use ssmbake_installers::plan::Plan;
use ssmbake_installers::probe::{ConfigFacts, Evidence, Facts, TrustFacts};
use ssmbake_installers::seal::{Item, SealPlan};
use ssmbake_installers::service::Enablement;
use ssmbake_installers::trust::AnchorState;
use ssmbake_manifests::{Capabilities, CheckFacts, Os, SealAction, Severity};

/// Whether the evidence is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    Answers,
    Evidence,
}

pub(crate) fn facts(facts: &Facts, detail: Detail) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String, evidence: &[Evidence]| {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{name:<17} {value}");
        for one in evidence.iter().filter(|_| detail == Detail::Evidence) {
            let at = one.line.map(|line| format!(":{line}")).unwrap_or_default();
            let _infallible = writeln!(text, "{:<17}   {}{at}: {}", "", one.path, one.says);
        }
    };
    let os = &facts.os.value;
    line(
        "system",
        format!("{} (version {})", os.name, os.version),
        &facts.os.evidence,
    );
    if let Some(variant) = &os.variant {
        line("variant", variant.clone(), &[]);
    }
    if let Some(windows) = &facts.windows {
        line("product", windows.product.clone(), &[]);
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
        line("PowerShell", or_none(&windows.powershell), &[]);
        line("launch agent", or_none(&windows.launch_agent), &[]);
    }
    line("architecture", facts.arch.value.to_string(), &facts.arch.evidence);
    line(
        "service manager",
        facts.service_manager.value.to_string(),
        &facts.service_manager.evidence,
    );
    line(
        "package manager",
        facts.package_manager.value.clone(),
        &facts.package_manager.evidence,
    );
    line("trust store", trust(&facts.trust.value), &facts.trust.evidence);
    if let Some(selinux) = &facts.selinux {
        line(
            "SELinux",
            format!("{}, policy {}", selinux.mode, selinux.policy),
            &[],
        );
    }
    line("agent", agent(facts), &[]);
    line("capabilities", able(&facts.capabilities), &[]);
    let config = match &facts.agent.config {
        ConfigFacts::Absent => "none".to_owned(),
        ConfigFacts::Valid { .. } => "valid".to_owned(),
        ConfigFacts::Unread { why } => format!("unknown: {why}"),
        ConfigFacts::Invalid { why } => format!("invalid: {why}"),
    };
    line("configuration", config, &[]);
    let place = serde_json::to_value(facts.environment.place.value).unwrap_or_default();
    line(
        "environment",
        place.as_str().unwrap_or("").to_owned(),
        &facts.environment.place.evidence,
    );
    text
}

fn trust(trust: &TrustFacts) -> String {
    let states = trust.anchors.values();
    let trusted = states.filter(|state| **state == AnchorState::Trusted).count();
    format!("{}, {trusted} of {} AWS roots", trust.store, trust.anchors.len())
}

fn able(capabilities: &Capabilities) -> String {
    format!(
        "Patch Manager: {}, Session Manager: {}, agent updates itself: {}",
        capabilities.patch_manager, capabilities.session_manager, capabilities.self_update
    )
}

fn agent(facts: &Facts) -> String {
    let start = match &facts.agent.enablement {
        Enablement::Missing => "no service",
        Enablement::Enabled(_) => "enabled",
        Enablement::Disabled => "disabled",
        Enablement::Masked(_) => "masked",
    };
    if let Some(why) = &facts.agent.package_unknown {
        return format!("unknown: {why}");
    }
    match (&facts.agent.package, &facts.agent.snap) {
        (Some(package), _) => format!(
            "{} {} ({}), {start}",
            package.format, package.version, package.state
        ),
        (None, Some(snap)) if snap.is_seeded => format!("snap, seeded in {}", snap.path),
        (None, Some(snap)) => format!("snap in {}", snap.path),
        (None, None) => "none".to_owned(),
    }
}

/// The systems of the catalog and what works there.
pub(crate) fn systems(oses: &[Os]) -> String {
    let mut text = format!(
        "{:<24} {:<14} {:<16} {:<14} {}\n",
        "SYSTEM", "PATCH MANAGER", "SESSION MANAGER", "AGENT UPDATES", "NAME"
    );
    for os in oses {
        let able = &os.capabilities;
        let _infallible = writeln!(
            text,
            "{:<24} {:<14} {:<16} {:<14} {}",
            os.id, able.patch_manager, able.session_manager, able.self_update, os.name
        );
    }
    text
}

pub(crate) fn plan(plan: &Plan) -> String {
    let mut text = String::new();
    for (number, step) in plan.steps.iter().enumerate() {
        let _infallible = writeln!(text, "{}. {step}", number + 1);
    }
    if plan.steps.is_empty() {
        text.push_str("nothing to do: all is as wanted\n");
    }
    text
}

pub(crate) fn seal(plan: &SealPlan) -> String {
    if plan.items.is_empty() {
        return "nothing to seal\n".to_owned();
    }
    plan.items.iter().map(|one| format!("{}\n", item(one))).collect()
}

/// One line of a plan to seal.
pub(crate) fn item(item: &Item) -> String {
    let (path, count) = (&item.path, item.count);
    let what = match item.action {
        SealAction::Remove if count == 1 => format!("remove {path}"),
        SealAction::Remove => format!("remove {path} and what is below, {count} paths"),
        SealAction::Empty => format!("remove what is below {path}, {count} paths"),
        SealAction::RemoveFiles => format!("remove the files below {path}, {count} paths"),
        SealAction::Truncate => format!("empty {path}"),
        SealAction::DropLines => format!("remove lines from {path}"),
        SealAction::DropSections => format!("remove sections from {path}"),
    };
    format!("{what} ({}: {})", item.class, item.why)
}

pub(crate) fn explanation(check: &CheckFacts) -> String {
    let severity = match check.severity {
        Severity::High => "high: a machine will not come up, or gives away what it must not",
        Severity::Medium => "medium: a part of it will not work",
        Severity::Low => "low: worth a look",
    };
    format!(
        "{} {}\n{}\nseverity {severity}\nsee {}\n",
        check.id, check.title, check.why, check.link
    )
}

pub(crate) fn report(report: &Report) -> String {
    let mut text = String::new();
    for check in &report.checks {
        let word = match check.verdict {
            _ if check.allowed => "allow",
            Verdict::Pass => "pass",
            Verdict::Warn => "WARN",
            Verdict::Fail => "FAIL",
        };
        let _infallible = writeln!(text, "{word} {} {}: {}", check.id, check.title, check.detail);
        if !check.fix.is_empty() {
            let _infallible = writeln!(text, "     fix: {}", check.fix);
        }
    }
    text
}
