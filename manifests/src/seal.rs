//! What no copy of a machine may have.

use serde::{Deserialize, Serialize};

use crate::checks::Severity;

/// How much is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SealProfile {
    /// What the agent has left.
    Agent,
    /// And everything else that belongs to one machine only.
    Image,
}

/// What becomes of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SealAction {
    /// It goes, a directory with all below it.
    Remove,
    /// All below a directory goes.
    Empty,
    /// The files below a directory go.
    RemoveFiles,
    /// The file stays without content.
    Truncate,
    /// Lines go that match the rule's pattern.
    DropLines,
    /// Sections go with a line that matches the rule's pattern.
    DropSections,
}

/// Paths with one fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealRule {
    /// The check that finds them; one for each class.
    pub id: String,
    /// What they are; several rules may be of one class.
    pub class: String,
    /// What it means that they are there.
    #[serde(default = "high")]
    pub severity: Severity,
    /// From which profile on.
    pub profile: SealProfile,
    /// Why no copy may have them.
    pub why: String,
    /// Where that is written: the URL of a page for everybody.
    pub link: String,
    /// Their fate.
    pub action: SealAction,
    /// For [`SealAction::DropLines`] and [`SealAction::DropSections`]: a regular expression.
    pub pattern: Option<String>,
    /// Lines that stay although they match: another one.
    #[serde(default)]
    pub except: Option<String>,
    /// Files that, with something in them, mean that this is nobody's leftover.
    #[serde(default)]
    pub unless: Vec<String>,
    /// Whether a running system can do without.
    #[serde(default = "yes")]
    pub live: bool,
    /// Whether the old bytes have to be overwritten: not what anybody may fetch.
    #[serde(default = "yes")]
    pub secret: bool,
    /// Whether what a link leads to goes too.
    #[serde(default = "yes")]
    pub follow: bool,
    /// Absolute, with `*` for any part of one name.
    pub paths: Vec<String>,
}

fn high() -> Severity {
    Severity::High
}

fn yes() -> bool {
    true
}
