//! The embedded catalog: which file is which section, each parsed at its first use.

use std::sync::OnceLock;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::access::Access;
use crate::agent::AgentFacts;
use crate::checks::CheckFacts;
use crate::config_keys::ConfigKey;
use crate::identification::Identification;
use crate::keys::SigningKey;
use crate::os::{Os, OsIdentity};
use crate::regions::Regions;
use crate::seal::SealRule;
use crate::trust::{RawAnchor, TrustAnchor};

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
}

/// All facts. Sections are independent: asking for one does not parse the others.
#[derive(Debug)]
pub struct Catalog {
    oses: OnceLock<Vec<Os>>,
    identification: OnceLock<Identification>,
    regions: OnceLock<Regions>,
    agent: OnceLock<AgentFacts>,
    anchors: OnceLock<Vec<TrustAnchor>>,
    signing_keys: OnceLock<Vec<SigningKey>>,
    config_keys: OnceLock<Vec<ConfigKey>>,
    access: OnceLock<Access>,
    seal: OnceLock<Vec<SealRule>>,
    checks: OnceLock<Vec<CheckFacts>>,
}

/// The catalog that is part of this binary.
pub fn catalog() -> &'static Catalog {
    static EMBEDDED: Catalog = Catalog {
        oses: OnceLock::new(),
        identification: OnceLock::new(),
        regions: OnceLock::new(),
        agent: OnceLock::new(),
        anchors: OnceLock::new(),
        signing_keys: OnceLock::new(),
        config_keys: OnceLock::new(),
        access: OnceLock::new(),
        seal: OnceLock::new(),
        checks: OnceLock::new(),
    };
    &EMBEDDED
}

impl Catalog {
    /// Every operating system release, ordered by id.
    pub fn oses(&self) -> &[Os] {
        self.oses.get_or_init(|| {
            embedded::OS_FILES
                .iter()
                .map(|(stem, json)| match serde_json::from_str(json) {
                    Ok(os) => os,
                    Err(error) => panic!("embedded manifest `{stem}`: {error}"),
                })
                .collect()
        })
    }

    /// The release with this id.
    pub fn os(&self, id: &str) -> Option<&Os> {
        self.oses().iter().find(|os| os.id == id)
    }

    /// The release that a root tree's identity names. A rule for the variant that was seen wins over a plain one, and
    /// a variant without a rule of its own falls back to the plain release.
    pub fn os_for(&self, seen: &OsIdentity<'_>) -> Option<&Os> {
        let plain = OsIdentity {
            variant: None,
            ..*seen
        };
        let by = |identity: &OsIdentity<'_>| self.oses().iter().find(|os| os.accepts(identity));
        by(seen).or_else(|| by(&plain))
    }

    /// What an account grants.
    pub fn access(&self) -> &Access {
        self.access
            .get_or_init(|| parse("access", include_str!("../access.toml")))
    }

    /// What no copy of a machine may have.
    pub fn seal(&self) -> &[SealRule] {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            rule: Vec<SealRule>,
        }
        self.seal
            .get_or_init(|| parse::<File>("seal", include_str!("../seal.toml")).rule)
    }

    /// What an audit checks, ordered by id; the classes of [`Catalog::seal`] among them.
    pub fn checks(&self) -> &[CheckFacts] {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            check: Vec<CheckFacts>,
        }
        self.checks.get_or_init(|| {
            let mut checks = parse::<File>("checks", include_str!("../checks.toml")).check;
            for rule in self.seal() {
                if checks.iter().all(|check| check.id != rule.id) {
                    checks.push(CheckFacts {
                        id: rule.id.clone(),
                        severity: rule.severity,
                        title: format!("nothing is left of the class {}", rule.class),
                        why: format!("No copy of a machine may have it: {}.", rule.why),
                        link: rule.link.clone(),
                    });
                }
            }
            checks.sort_by(|one, other| one.id.cmp(&other.id));
            checks
        })
    }

    /// The check with this id.
    pub fn check(&self, id: &str) -> Option<&CheckFacts> {
        self.checks().iter().find(|check| check.id == id)
    }

    /// How systems are told apart besides os-release.
    pub fn identification(&self) -> &Identification {
        self.identification
            .get_or_init(|| parse("identification", include_str!("../identification.toml")))
    }

    /// Partitions, regions and host names.
    pub fn regions(&self) -> &Regions {
        self.regions
            .get_or_init(|| parse("regions", include_str!("../regions.toml")))
    }

    /// Agent versions and their publication.
    pub fn agent(&self) -> &AgentFacts {
        self.agent
            .get_or_init(|| parse("agent", include_str!("../agent.toml")))
    }

    /// The six TLS roots, Amazon's four first and the legacy one last.
    pub fn anchors(&self) -> &[TrustAnchor] {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            root: Vec<RawAnchor>,
        }
        self.anchors.get_or_init(|| {
            let file: File = parse("roots", include_str!("../roots.toml"));
            file.root
                .into_iter()
                .map(|raw| raw.with_pem(embedded::ROOT_FILES))
                .collect()
        })
    }

    /// The keys that have signed agent packages, oldest first.
    pub fn signing_keys(&self) -> &[SigningKey] {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            key: Vec<SigningKey>,
        }
        self.signing_keys
            .get_or_init(|| parse::<File>("keys", include_str!("../keys.toml")).key)
    }

    /// The known keys of amazon-ssm-agent.json, in the order of AWS's template.
    pub fn config_keys(&self) -> &[ConfigKey] {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            key: Vec<ConfigKey>,
        }
        self.config_keys
            .get_or_init(|| parse::<File>("config-keys", include_str!("../config-keys.toml")).key)
    }

    /// The key at `path` (`Ssm.Endpoint`), compared as the agent does: without regard to case.
    pub fn config_key(&self, path: &str) -> Option<&ConfigKey> {
        self.config_keys()
            .iter()
            .find(|key| key.path.eq_ignore_ascii_case(path))
    }
}

/// Panics on a mistake in embedded data: it is part of the source, and a test of this crate parses all of it.
fn parse<T: DeserializeOwned>(file: &str, text: &str) -> T {
    match toml::from_str(text) {
        Ok(value) => value,
        Err(error) => panic!("embedded manifest `{file}`: {error}"),
    }
}
