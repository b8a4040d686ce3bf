//! A page of its own, without anything from elsewhere: it can be mailed and kept.

use ssmbake_installers::audit::{Check, Report, Verdict};
use ssmbake_manifests::{Catalog, Severity};

use super::escaped;

const STYLE: &str = include_str!("page.css");

pub(super) fn render(report: &Report, root: &str, catalog: &Catalog) -> String {
    let count = |word: &str| report.checks.iter().filter(|check| class(check) == word).count();
    let tiles: String = [
        ("fail", "failed"),
        ("warn", "to look at"),
        ("allowed", "allowed"),
        ("pass", "passed"),
    ]
    .into_iter()
    .map(|(word, title)| format!("<li class=\"tile {word}\"><b>{}</b> {title}</li>\n", count(word)))
    .collect();
    let verdict = match report.has_failures() {
        true => "Not ready for Systems Manager",
        false => "Ready for Systems Manager",
    };
    // What needs a hand first, the worst of it at the top; checks of one kind stay in the order of their ids.
    let mut checks: Vec<&Check> = report.checks.iter().collect();
    checks.sort_by_key(|check| (order(check), std::cmp::Reverse(check.severity)));
    let rows: String = checks.into_iter().map(|check| row(check, catalog)).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{verdict}: {root}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <header>\n<p class=\"name\">ssmbake {version} audit of <code>{root}</code></p>\n<h1>{verdict}</h1>\n\
         <ul class=\"tiles\">\n{tiles}</ul>\n</header>\n{rows}</main>\n</body>\n</html>\n",
        root = escaped(root),
        version = env!("CARGO_PKG_VERSION"),
    )
}

fn class(check: &Check) -> &'static str {
    match check.verdict {
        _ if check.allowed => "allowed",
        Verdict::Pass => "pass",
        Verdict::Warn => "warn",
        Verdict::Fail => "fail",
    }
}

fn order(check: &Check) -> u8 {
    match class(check) {
        "fail" => 0,
        "warn" => 1,
        "allowed" => 2,
        _ => 3,
    }
}

fn row(check: &Check, catalog: &Catalog) -> String {
    let (why, link) = catalog
        .check(&check.id)
        .map_or(("", ""), |facts| (facts.why.as_str(), facts.link.as_str()));
    let severity = match check.severity {
        Severity::High => "high",
        Severity::Medium => "medium",
        Severity::Low => "low",
    };
    let class = class(check);
    let label = if check.verdict == Verdict::Pass {
        ""
    } else {
        severity
    };
    let open = if class == "fail" { " open" } else { "" };
    let fix = match check.fix.is_empty() {
        true => String::new(),
        false => format!("<p class=\"fix\"><b>What to do</b> {}</p>", marked(&check.fix)),
    };
    format!(
        "<details class=\"{class}\"{open}>\n<summary><span class=\"mark\">{class}</span> <span class=\"id\">{id}</span> \
         <span class=\"title\">{title}</span> <span class=\"severity\">{label}</span></summary>\n\
         <p>{detail}</p>{fix}<p class=\"why\">{why} <a href=\"{link}\" rel=\"noreferrer\">Read more</a></p>\n</details>\n",
        id = escaped(&check.id),
        title = escaped(&check.title),
        detail = marked(&check.detail),
        why = marked(why),
        link = escaped(link),
    )
}

/// Words in backticks as code.
fn marked(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in text.split('`').enumerate() {
        match index % 2 {
            0 => out.push_str(&escaped(part)),
            _ => out.push_str(&format!("<code>{}</code>", escaped(part))),
        }
    }
    out
}
