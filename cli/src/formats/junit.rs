//! JUnit's XML, for build servers.

use ssmbake_installers::audit::{Report, Verdict};

use super::escaped;

pub(super) fn render(report: &Report) -> String {
    let failures = report.checks.iter().filter(|check| check.fails()).count();
    let skipped = report.checks.iter().filter(|check| check.allowed).count();
    let count = report.checks.len();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"ssmbake audit\" tests=\"{count}\" \
         failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\">\n"
    );
    for check in &report.checks {
        let name = escaped(&format!("{} {}", check.id, check.title));
        let (detail, fix) = (escaped(&check.detail), escaped(&check.fix));
        let inner = match check.verdict {
            _ if check.allowed => format!("<skipped message=\"{detail}\"/>"),
            Verdict::Pass => String::new(),
            Verdict::Warn => format!("<system-out>{detail}\n{fix}</system-out>"),
            Verdict::Fail => format!("<failure message=\"{detail}\">{fix}</failure>"),
        };
        text.push_str(&format!(
            "<testcase classname=\"ssmbake.audit\" name=\"{name}\">{inner}</testcase>\n"
        ));
    }
    text.push_str("</testsuite>\n</testsuites>\n");
    text
}
