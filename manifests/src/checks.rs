//! What is checked in an audit.

use serde::{Deserialize, Serialize};

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth a look.
    Low,
    /// A part will not work.
    Medium,
    /// The machine will not come up, or gives away what it must not.
    High,
}

/// One check's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckFacts {
    /// Stable: `SSMB001`.
    pub id: String,
    /// What a failure means.
    pub severity: Severity,
    /// What holds when it passes.
    pub title: String,
    /// Why that matters.
    pub why: String,
    /// Where that is written: the URL of a page for everybody.
    pub link: String,
}
