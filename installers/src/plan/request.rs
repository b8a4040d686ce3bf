//! What the user asks for.

use std::fmt;

use serde::{Deserialize, Serialize};
use ssmbake_manifests::{AgentFacts, AgentVersion, Region};

use crate::activation;
use crate::config::Edit;
use crate::config::proxy::Proxy;
use crate::supply::lockfile::Signer;
use crate::trust::Anchor;

/// Which version of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VersionSpec {
    /// The newest in the bucket, known only after asking it.
    Latest,
    /// The newest that AWS calls stable.
    Stable,
    /// This one.
    Exact(AgentVersion),
}

/// Where packages come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The bucket of the region.
    Regional,
    /// The bucket for all regions.
    Global,
    /// A mirror with the same layout: an http(s) URL.
    Mirror(String),
}

impl Source {
    /// Its base URL; none where a region is needed and not named.
    pub fn base_url(&self, region: Option<&Region>, agent: &AgentFacts) -> Option<String> {
        match (self, region) {
            (Self::Mirror(url), _) => Some(url.trim_end_matches('/').to_owned()),
            (Self::Global, _) => Some(agent.global_base()),
            (Self::Regional, region) => region.map(|region| agent.regional_base(region)),
        }
    }
}

/// What kind of machine the image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetKind {
    /// An EC2 instance: identity and region come from its metadata.
    Ec2,
    /// A machine elsewhere, registered by an activation.
    Hybrid,
}

/// Which of the agent's install channels to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelChoice {
    /// The snap where a running system has one, else the package.
    Auto,
    /// The package; a snap is a conflict.
    Package,
    /// The snap that is there; without one it is a conflict.
    Snap,
}

/// Whether the agent shall run when all is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// At once on a running hybrid machine that no image is built on, else at the next boot.
    Auto,
    /// At the next boot: it writes its identity into an image that it runs in.
    AtBoot,
    /// At once.
    Now,
}

/// How the agent comes online.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Connect {
    /// As AWS packaged it: without network or role it sleeps up to half an hour.
    #[default]
    Standard,
    /// It waits for the network, and looks for credentials again every minute.
    Fast,
}

/// Whether an older version may replace a newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Downgrade {
    /// Exit with a conflict.
    Refuse,
    /// Replace it.
    Allow,
}

/// Which of the catalog's anchors to install.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Roots {
    /// The five that AWS uses today.
    Default,
    /// And Starfield Class 2.
    Legacy,
    /// None.
    None,
}

/// Who tells rpm's database of the package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegistrationChoice {
    /// ssmbake where it writes the form of the database, else this machine's rpm where that does, else first boot.
    Auto,
    /// This machine's rpm.
    HostRpm,
    /// The target's own rpm: the only program of a tree that is ever run, and only where the user says so.
    TargetRpm,
    /// The target's own rpm at first boot.
    FirstBoot,
}

/// What to do about SELinux labels where SELinux is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelChoice {
    /// Label what is new; where the policy cannot be read, ask for a relabelling.
    Label,
    /// Ask the first boot to label all files.
    Relabel,
    /// Nothing: the caller does.
    Ignore,
}

/// Which endpoints the agent shall use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Endpoints {
    /// Those the agent finds itself.
    Standard,
    /// FIPS ones, written into its configuration.
    Fips,
}

/// All that the user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The region to download from and whose FIPS hosts to use.
    pub region: Option<Region>,
    /// The version.
    pub version: VersionSpec,
    /// SHA-256 that the package must have, hex.
    pub sha256: Option<String>,
    /// Who must have signed it, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<Signer>,
    /// The bucket.
    pub source: Source,
    /// The install channel.
    pub channel: ChannelChoice,
    /// The kind of machine.
    pub target: TargetKind,
    /// Downgrades.
    pub downgrade: Downgrade,
    /// Anchors of the catalog.
    pub roots: Roots,
    /// The user's own anchors.
    pub extra_anchors: Vec<Anchor>,
    /// The package database.
    pub registration: RegistrationChoice,
    /// SELinux labels.
    pub labels: LabelChoice,
    /// Endpoints.
    pub endpoints: Endpoints,
    /// Configuration keys, in order; the last of a kind wins.
    pub settings: Vec<Edit>,
    /// The agent's proxy.
    pub proxy: Option<Proxy>,
    /// How long a machine may take from its boot to Systems Manager.
    #[serde(default)]
    pub connect: Connect,
    /// When the agent starts.
    pub start: Start,
    /// Where the first boot looks for the activation of a hybrid machine; none leaves registration to others.
    #[serde(default)]
    pub activation: Vec<activation::Source>,
}

impl fmt::Display for VersionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Stable => f.write_str("stable"),
            Self::Exact(version) => version.fmt(f),
        }
    }
}
