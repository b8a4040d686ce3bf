//! Partitions, regions and host names. Whether a host answers is not known here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::words::words;

/// Longest id that is compared with known ones; real ones have at most 16 characters.
const LONGEST_ID: usize = 32;
/// How many edits away a suggestion may be.
const FARTHEST: usize = 2;

words! {
    /// Services that the agent talks to.
    Service, "service" {
        /// Systems Manager.
        Ssm = "ssm",
        /// Its message gateway (sessions, newer agents' commands).
        Ssmmessages = "ssmmessages",
        /// Its older message service.
        Ec2messages = "ec2messages",
        /// Packages, documents and output.
        S3 = "s3",
        /// Session encryption.
        Kms = "kms",
        /// CloudWatch Logs.
        Logs = "logs",
    }
}

words! {
    /// Kinds of host that a service may have in a region.
    HostVariant, "host variant" {
        /// IPv4, ordinary cryptography.
        Standard = "standard",
        /// FIPS 140 validated.
        Fips = "fips",
        /// IPv6 and IPv4.
        DualStack = "dual-stack",
        /// Both.
        FipsDualStack = "fips-dual-stack",
    }
}

/// A group of regions with its own DNS suffix and accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Partition {
    /// `aws`, `aws-cn`; the second field of an ARN.
    pub id: String,
    /// For people.
    pub name: String,
    /// `amazonaws.com`.
    pub dns_suffix: String,
    /// Suffix of IPv6 hosts, where there are any.
    #[serde(default)]
    pub dual_stack_suffix: Option<String>,
    /// AWS's regular expression for region ids.
    pub region_pattern: String,
    /// The same as a list of what comes before the compass word: `us`, `us-gov`.
    pub prefixes: Vec<String>,
}

/// A region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Region {
    /// `eu-west-1`.
    pub id: String,
    /// Its [`Partition::id`].
    pub partition: String,
    /// `Europe (Ireland)`; empty for an assumed one.
    pub description: String,
    /// Whether the catalog lists it.
    #[serde(default = "listed")]
    pub known: bool,
}

fn listed() -> bool {
    true
}

/// An id that is a region's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegionMatch {
    /// In the catalog.
    Known(Region),
    /// Not there, but a partition names its regions so: probably newer than this catalog.
    Assumed(Region),
}

impl RegionMatch {
    /// The region, known or not.
    pub fn into_region(self) -> Region {
        match self {
            Self::Known(region) | Self::Assumed(region) => region,
        }
    }
}

/// An id that no partition's regions could have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown region `{}`", .id.escape_debug())]
pub struct UnknownRegion {
    /// The id, at most its first 64 characters.
    pub id: String,
    /// Up to three known ids that are spelt alike, nearest first.
    pub nearest: Vec<String>,
}

/// All partitions and regions. Compass words keep `eu-wst-1` from passing for a new region.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Regions {
    words: Vec<String>,
    default_hosts: BTreeMap<HostVariant, String>,
    partition: Vec<Partition>,
    region: Vec<Region>,
    host: Vec<HostRule>,
}

/// Hosts of a service and variant that differ from the default, or exist in some regions only.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct HostRule {
    service: Service,
    variant: HostVariant,
    pattern: String,
    /// Unset: every region.
    regions: Option<Vec<String>>,
}

impl HostRule {
    fn applies(&self, region: &Region, service: Service, variant: HostVariant) -> bool {
        let here = self.regions.as_ref().is_none_or(|ids| ids.contains(&region.id));
        self.service == service && self.variant == variant && here
    }
}

impl Regions {
    /// Every known region, by partition and then by id.
    pub fn all(&self) -> &[Region] {
        &self.region
    }

    /// Every partition.
    pub fn partitions(&self) -> &[Partition] {
        &self.partition
    }

    /// The partition that a region is in.
    pub fn partition_of(&self, region: &Region) -> Option<&Partition> {
        self.partition
            .iter()
            .find(|partition| partition.id == region.partition)
    }

    /// The region with exactly this id.
    ///
    /// # Errors
    /// When it is neither known nor shaped like a region of any partition.
    pub fn find(&self, id: &str) -> Result<RegionMatch, UnknownRegion> {
        if let Some(region) = self.region.iter().find(|region| region.id == id) {
            return Ok(RegionMatch::Known(region.clone()));
        }
        match self.partition.iter().find(|partition| self.fits(partition, id)) {
            Some(partition) => Ok(RegionMatch::Assumed(Region {
                id: id.to_owned(),
                partition: partition.id.clone(),
                description: String::new(),
                known: false,
            })),
            None => Err(UnknownRegion {
                id: id.chars().take(64).collect(),
                nearest: self.nearest(id),
            }),
        }
    }

    /// The host of a service in a region; `None` where that variant does not exist. FIPS hosts exist only where they
    /// are listed; standard and dual-stack ones wherever the partition has a suffix for them.
    pub fn host(&self, region: &Region, service: Service, variant: HostVariant) -> Option<String> {
        let partition = self.partition_of(region)?;
        if variant == HostVariant::DualStack && partition.dual_stack_suffix.is_none() {
            return None;
        }
        let own = self
            .host
            .iter()
            .find(|rule| rule.applies(region, service, variant))
            .map(|rule| &rule.pattern);
        let pattern = own.or_else(|| self.default_hosts.get(&variant))?;
        let dual_stack_suffix = partition.dual_stack_suffix.as_deref().unwrap_or_default();
        Some(
            pattern
                .replace("{service}", service.word())
                .replace("{region}", &region.id)
                .replace("{suffix}", &partition.dns_suffix)
                .replace("{dual-stack-suffix}", dual_stack_suffix),
        )
    }

    /// Whether `id` is PREFIX-WORD-NUMBER in this partition. Narrower than AWS's pattern, which takes any word.
    fn fits(&self, partition: &Partition, id: &str) -> bool {
        partition.prefixes.iter().any(|prefix| {
            let rest = id
                .strip_prefix(prefix.as_str())
                .and_then(|rest| rest.strip_prefix('-'));
            rest.and_then(|rest| rest.split_once('-'))
                .is_some_and(|(word, number)| {
                    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
                    let number = digits && matches!(number.len(), 1 | 2) && !number.starts_with('0');
                    number && self.words.iter().any(|known| known == word)
                })
        })
    }

    fn nearest(&self, id: &str) -> Vec<String> {
        if id.is_empty() || id.len() > LONGEST_ID {
            return Vec::new();
        }
        let id = id.to_ascii_lowercase();
        let mut near: Vec<(usize, &str)> = self
            .region
            .iter()
            .map(|region| {
                (
                    edit_distance(id.as_bytes(), region.id.as_bytes()),
                    region.id.as_str(),
                )
            })
            .filter(|(distance, _)| *distance <= FARTHEST)
            .collect();
        near.sort_unstable();
        near.into_iter().take(3).map(|(_, id)| id.to_owned()).collect()
    }
}

/// Levenshtein distance, one row of the table at a time.
fn edit_distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::edit_distance;

    #[test]
    fn edit_distance_counts_edits() {
        for (a, b, distance) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("ab", "ba", 2),
        ] {
            assert_eq!(edit_distance(a.as_bytes(), b.as_bytes()), distance, "{a} {b}");
        }
    }
}
