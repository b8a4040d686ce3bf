//! The keys of amazon-ssm-agent.json. Reading, merging and judging a file is not done here.

use serde::{Deserialize, Serialize};

use crate::agent::AgentVersion;

/// One key of the agent's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ConfigKey {
    /// Section and key: `Ssm.HealthFrequencyMinutes`.
    pub path: String,
    /// What its value may be.
    pub kind: ConfigKind,
    /// What the agent takes when the key is absent; unset: nothing, or it depends on the instance.
    #[serde(default)]
    pub default: Option<ConfigDefault>,
    /// The first version that has the key, where that is known.
    #[serde(default)]
    pub since: Option<AgentVersion>,
    /// A version known not to have the key yet.
    #[serde(default)]
    pub absent_in: Option<AgentVersion>,
    /// What goes wrong with it.
    #[serde(default)]
    pub note: Option<String>,
}

impl ConfigKey {
    /// `Ssm` and `HealthFrequencyMinutes`.
    pub fn section_and_name(&self) -> (&str, &str) {
        // A test proves that each path has a dot.
        self.path.split_once('.').unwrap_or(("", &self.path))
    }
}

/// Types of values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ConfigKind {
    /// true or false.
    Bool,
    /// A number within inclusive bounds.
    Integer {
        /// Smallest.
        #[serde(default)]
        min: Option<i64>,
        /// Largest.
        #[serde(default)]
        max: Option<i64>,
    },
    /// One of some words, case-sensitive.
    Choice {
        /// The words.
        values: Vec<String>,
    },
    /// Any string.
    Text,
    /// A host name or an https URL.
    Endpoint,
    /// The same, but a host name with a port and no scheme is lost silently.
    BareEndpoint,
    /// A region id.
    Region,
    /// Strings.
    TextList,
    /// Some of some words, in order, case-sensitive.
    ChoiceList {
        /// The words.
        values: Vec<String>,
    },
    /// A list of objects.
    Objects,
}

/// A default value, by type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigDefault {
    /// true or false.
    Bool(bool),
    /// A number.
    Integer(i64),
    /// A string.
    Text(String),
    /// Strings; empty for a list of objects.
    List(Vec<String>),
}
