//! An audit's report for other readers than people at a terminal.

mod html;
mod junit;
mod sarif;

use ssmbake_installers::audit::Report;
use ssmbake_manifests::Catalog;

use crate::args::FormatOfAudit;

/// `report` of `root` as a document.
pub(crate) fn render(format: FormatOfAudit, report: &Report, root: &str, catalog: &Catalog) -> String {
    match format {
        FormatOfAudit::Sarif => sarif::render(report, catalog),
        FormatOfAudit::Junit => junit::render(report),
        FormatOfAudit::Html => html::render(report, root, catalog),
    }
}

/// Text between tags and in attributes. Signs that XML cannot carry at all become a mark.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(sign),
            sign if sign.is_control() || matches!(sign, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            sign => out.push(sign),
        }
    }
    out
}
