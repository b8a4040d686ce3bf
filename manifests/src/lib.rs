//! What ssmbake knows of the world: facts as TOML, typed here, with no I/O.
//!
//! | module | facts | data |
//! |---|---|---|
//! | [`os`] | operating systems: how to recognise one, its package format, trust store, service manager, architectures | `os/*.toml`, one file each |
//! | [`agent`] | agent versions, advisories, download layout, limits | `agent.toml` |
//! | [`regions`] | partitions, regions, host names of the services the agent talks to | `regions.toml`, made by `scripts/refresh-regions` |
//! | [`trust`] | the six TLS roots of AWS endpoints | `roots.toml`, `roots/*.pem` |
//! | [`authenticode`] | whom Windows trusts for programs | `authenticode.toml` |
//! | [`keys`] | the OpenPGP keys that sign agent packages | `keys.toml` |
//! | [`access`] | what an account grants: actions, buckets, endpoints | `access.toml` |
//! | [`config_keys`] | keys of `amazon-ssm-agent.json`, their types and ranges | `config-keys.toml` |
//! | [`checks`] | what an audit checks, and why | `checks.toml` |
//! | [`seal`] | what no copy of a machine may have | `seal.toml` |
//! | [`document`] | all of them in one file, for older binaries | `catalog.toml` has its number |
//! | [`hex`] | hexadecimal text | |
//! | [`words`] | the error of a word that no enum here has | |
//!
//! [`catalog`] is the way in: every section is parsed at its first use and kept. The data is embedded, so it cannot fail
//! at run time in a way that the tests of this crate do not see.
//!
//! What this crate is not: it detects nothing (it is asked with what a probe has read), decides nothing and verifies
//! nothing. Adding a release of a known family is one file in `os/`.

pub mod access;
pub mod agent;
pub mod authenticode;
mod catalog;
pub mod checks;
pub mod config_keys;
pub mod document;
pub mod hex;
pub mod identification;
pub mod keys;
pub mod os;
pub mod regions;
pub mod seal;
pub mod trust;
pub mod words;

pub use access::{Access, Grant};
pub use agent::{
    Advisory, AgentFacts, AgentVersion, Channel, DownloadLayout, InvalidVersion, KernelLimit, Limits,
};
pub use authenticode::CodeRoot;
pub use catalog::{Catalog, catalog, install};
pub use checks::{CheckFacts, Severity};
pub use config_keys::{ConfigDefault, ConfigKey, ConfigKind};
pub use document::{CatalogError, Document};
pub use identification::{Grammar, Identification, Masquerade, Refusal, VendorFile, Witness};
pub use keys::{Revocation, RevocationReason, SigningKey};
pub use os::{
    Arch, Capabilities, Capability, Family, MatchRule, Os, OsIdentity, PackageFormat, ServiceManager,
    SnapUse, TrustStore, VersionMatch,
};
pub use regions::{HostVariant, Partition, Region, RegionMatch, Regions, Service, UnknownRegion};
pub use seal::{SealAction, SealProfile, SealRule};
pub use trust::{AnchorSet, TrustAnchor};
pub use words::UnknownWord;
