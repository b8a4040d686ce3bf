//! SARIF 2.1.0, for code-scanning services.

use serde_json::{Value, json};
use ssmbake_installers::audit::{Check, Report, Verdict};
use ssmbake_manifests::{Catalog, Severity};

pub(super) fn render(report: &Report, catalog: &Catalog) -> String {
    let rules: Vec<Value> = report
        .checks
        .iter()
        .filter_map(|check| catalog.check(&check.id))
        .map(|facts| {
            json!({
                "id": facts.id,
                "shortDescription": { "text": facts.title },
                "fullDescription": { "text": facts.why },
                "help": { "text": facts.why },
                "helpUri": facts.link,
                "defaultConfiguration": { "level": level(facts.severity) },
            })
        })
        .collect();
    let results: Vec<Value> = report.checks.iter().enumerate().map(result).collect();
    let document = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "ssmbake",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "results": results,
        }],
    });
    format!("{document:#}\n")
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low => "note",
    }
}

fn result((index, check): (usize, &Check)) -> Value {
    let (kind, level) = match check.verdict {
        Verdict::Pass => ("pass", "none"),
        Verdict::Warn => ("fail", "note"),
        Verdict::Fail => ("fail", "error"),
    };
    let text = match check.fix.is_empty() {
        true => check.detail.clone(),
        false => format!("{}. {}.", check.detail, check.fix),
    };
    let path = path_in(&check.detail).unwrap_or("etc/os-release");
    let mut result = json!({
        "ruleId": check.id,
        "ruleIndex": index,
        "kind": kind,
        "level": level,
        "message": { "text": text },
        // Services want a place for every result; one that is about the whole is about its system.
        "locations": [{ "physicalLocation": { "artifactLocation": { "uri": path } } }],
    });
    if check.allowed {
        result["suppressions"] = json!([{ "kind": "external", "justification": "allowed by --allow" }]);
    }
    result
}

/// The first path that a detail names, relative to the root, if a URI can carry it as it is.
fn path_in(detail: &str) -> Option<&str> {
    let path = detail.split('`').nth(1)?.strip_prefix('/')?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/@+".contains(&byte);
    (!path.is_empty() && path.bytes().all(is_plain)).then_some(path)
}
