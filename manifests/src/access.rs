//! What an account grants to its machines.

use serde::{Deserialize, Serialize};

/// Permissions, buckets and endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Access {
    /// Buckets of AWS's that the agent reads, with `{region}`.
    pub buckets: Vec<String>,
    /// Services with an interface endpoint.
    pub endpoints: Vec<String>,
    /// What every machine needs.
    pub machine: Vec<Grant>,
}

/// Actions that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Grant {
    /// The statement's `Sid`.
    pub id: String,
    /// `service:Action`.
    pub actions: Vec<String>,
    /// ARNs with `{partition}` and `{region}`; none: AWS knows no resources for these actions.
    #[serde(default)]
    pub resources: Vec<String>,
}

impl Access {
    /// The names of the buckets in a region.
    pub fn buckets_of(&self, region: &str) -> impl Iterator<Item = String> {
        self.buckets
            .iter()
            .map(move |name| name.replace("{region}", region))
    }
}
