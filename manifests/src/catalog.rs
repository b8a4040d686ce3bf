//! The embedded catalog: which file is which section, each parsed at its first use.

use std::sync::{LazyLock, OnceLock};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::access::Access;
use crate::agent::AgentFacts;
use crate::authenticode::CodeRoot;
use crate::checks::CheckFacts;
use crate::config_keys::ConfigKey;
use crate::document::{CatalogError, Document};
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
#[derive(Debug, Default)]
pub struct Catalog {
    /// Where its texts are; none: in this binary.
    document: Option<Document>,
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
    code_roots: OnceLock<Vec<CodeRoot>>,
}

static INSTALLED: OnceLock<Catalog> = OnceLock::new();

/// The catalog that counts: the one that was installed, or the one that is part of this binary.
pub fn catalog() -> &'static Catalog {
    static EMBEDDED: LazyLock<Catalog> = LazyLock::new(Catalog::default);
    INSTALLED.get().unwrap_or_else(|| &EMBEDDED)
}

/// Puts another catalog in place of the embedded one, for all of this process. Only the first one counts.
pub fn install(catalog: Catalog) -> &'static Catalog {
    INSTALLED.get_or_init(|| catalog)
}

impl Catalog {
    /// Every operating system release, ordered by id.
    pub fn oses(&self) -> &[Os] {
        self.oses.get_or_init(|| embedded_data(self.read_oses()))
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
        self.access.get_or_init(|| embedded_data(self.read("access")))
    }

    /// What no copy of a machine may have.
    pub fn seal(&self) -> &[SealRule] {
        self.seal.get_or_init(|| embedded_data(self.read_seal()))
    }

    /// What an audit checks, ordered by id; the classes of [`Catalog::seal`] among them.
    pub fn checks(&self) -> &[CheckFacts] {
        self.checks.get_or_init(|| embedded_data(self.read_checks()))
    }

    /// The check with this id.
    pub fn check(&self, id: &str) -> Option<&CheckFacts> {
        self.checks().iter().find(|check| check.id == id)
    }

    /// How systems are told apart besides os-release.
    pub fn identification(&self) -> &Identification {
        self.identification
            .get_or_init(|| embedded_data(self.read("identification")))
    }

    /// Partitions, regions and host names.
    pub fn regions(&self) -> &Regions {
        self.regions.get_or_init(|| embedded_data(self.read("regions")))
    }

    /// Agent versions and their publication.
    pub fn agent(&self) -> &AgentFacts {
        self.agent.get_or_init(|| embedded_data(self.read("agent")))
    }

    /// The six TLS roots, Amazon's four first and the legacy one last.
    pub fn anchors(&self) -> &[TrustAnchor] {
        self.anchors.get_or_init(|| embedded_data(self.read_anchors()))
    }

    /// Whom Windows trusts for programs.
    pub fn code_roots(&self) -> &[CodeRoot] {
        self.code_roots
            .get_or_init(|| embedded_data(self.read_code_roots()))
    }

    /// The keys that have signed agent packages, oldest first.
    pub fn signing_keys(&self) -> &[SigningKey] {
        self.signing_keys
            .get_or_init(|| embedded_data(self.read::<Keys<SigningKey>>("keys")).key)
    }

    /// The known keys of amazon-ssm-agent.json, in the order of AWS's template.
    pub fn config_keys(&self) -> &[ConfigKey] {
        self.config_keys
            .get_or_init(|| embedded_data(self.read::<Keys<ConfigKey>>("config-keys")).key)
    }

    /// The key at `path` (`Ssm.Endpoint`), compared as the agent does: without regard to case.
    pub fn config_key(&self, path: &str) -> Option<&ConfigKey> {
        self.config_keys()
            .iter()
            .find(|key| key.path.eq_ignore_ascii_case(path))
    }
}

/// Sections whose file is a list of keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys<T> {
    key: Vec<T>,
}

/// What each section says, or why it cannot be read.
impl Catalog {
    fn read<T: DeserializeOwned>(&self, section: &'static str) -> Result<T, CatalogError> {
        let text = match &self.document {
            Some(document) => document.sections.get(section).map(String::as_str),
            None => embedded_section(section),
        };
        let text = text.ok_or_else(|| CatalogError::new(section, "it is missing"))?;
        toml::from_str(text).map_err(|error| CatalogError::new(section, error))
    }

    fn read_oses(&self) -> Result<Vec<Os>, CatalogError> {
        let read = |stem: &str, json: &str| {
            serde_json::from_str(json).map_err(|error| CatalogError::new(&format!("os/{stem}"), error))
        };
        match &self.document {
            Some(document) => document.os.iter().map(|(stem, json)| read(stem, json)).collect(),
            None => embedded::OS_FILES
                .iter()
                .map(|(stem, json)| read(stem, json))
                .collect(),
        }
    }

    fn read_seal(&self) -> Result<Vec<SealRule>, CatalogError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            rule: Vec<SealRule>,
        }
        Ok(self.read::<File>("seal")?.rule)
    }

    fn read_checks(&self) -> Result<Vec<CheckFacts>, CatalogError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            check: Vec<CheckFacts>,
        }
        let mut checks = self.read::<File>("checks")?.check;
        for rule in self.read_seal()? {
            if checks.iter().all(|check| check.id != rule.id) {
                checks.push(CheckFacts {
                    title: format!("nothing is left of the class {}", rule.class),
                    why: format!("No copy of a machine may have it: {}.", rule.why),
                    id: rule.id,
                    severity: rule.severity,
                    link: rule.link,
                });
            }
        }
        checks.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(checks)
    }

    fn read_code_roots(&self) -> Result<Vec<CodeRoot>, CatalogError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            root: Vec<CodeRoot>,
        }
        Ok(self.read::<File>("authenticode")?.root)
    }

    fn read_anchors(&self) -> Result<Vec<TrustAnchor>, CatalogError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            root: Vec<RawAnchor>,
        }
        let pem = |stem: &str| match &self.document {
            Some(document) => document.roots.get(stem).map(String::as_str),
            None => embedded::ROOT_FILES
                .iter()
                .find_map(|(name, pem)| (*name == stem).then_some(*pem)),
        };
        let raw = self.read::<File>("roots")?.root;
        let anchors = raw.into_iter().map(|raw| {
            let id = raw.id().to_owned();
            let pem =
                pem(&id).ok_or_else(|| CatalogError::new("roots", format!("`{id}` has no certificate")))?;
            Ok(raw.with_pem(pem))
        });
        anchors.collect()
    }

    /// The number of the embedded catalog.
    pub fn embedded_serial() -> u64 {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            serial: u64,
        }
        let file: Result<File, _> = toml::from_str(include_str!("../catalog.toml"));
        embedded_data(file.map_err(|error| CatalogError::new("catalog", error))).serial
    }

    /// The catalog of a document, every section of it read.
    pub fn of(document: Document) -> Result<Self, CatalogError> {
        let catalog = Self {
            document: Some(document),
            ..Self::default()
        };
        // Nothing was read of it before: each cell is filled here.
        drop(catalog.oses.set(catalog.read_oses()?));
        drop(catalog.identification.set(catalog.read("identification")?));
        drop(catalog.regions.set(catalog.read("regions")?));
        drop(catalog.agent.set(catalog.read("agent")?));
        drop(catalog.anchors.set(catalog.read_anchors()?));
        drop(
            catalog
                .signing_keys
                .set(catalog.read::<Keys<SigningKey>>("keys")?.key),
        );
        drop(
            catalog
                .config_keys
                .set(catalog.read::<Keys<ConfigKey>>("config-keys")?.key),
        );
        drop(catalog.access.set(catalog.read("access")?));
        drop(catalog.seal.set(catalog.read_seal()?));
        drop(catalog.checks.set(catalog.read_checks()?));
        drop(catalog.code_roots.set(catalog.read_code_roots()?));
        Ok(catalog)
    }

    /// What this catalog is made of. The embedded one has a number and no dates.
    pub fn own_document(&self) -> Document {
        let texts = |list: &[(&str, &str)]| {
            list.iter()
                .map(|(stem, text)| ((*stem).to_owned(), (*text).to_owned()))
                .collect()
        };
        self.document.clone().unwrap_or_else(|| Document {
            schema: Document::SCHEMA,
            serial: Self::embedded_serial(),
            issued: String::new(),
            expires: String::new(),
            sections: texts(&EMBEDDED_SECTIONS),
            os: texts(embedded::OS_FILES),
            roots: texts(embedded::ROOT_FILES),
        })
    }
}

const EMBEDDED_SECTIONS: [(&str, &str); 10] = [
    ("access", include_str!("../access.toml")),
    ("agent", include_str!("../agent.toml")),
    ("authenticode", include_str!("../authenticode.toml")),
    ("checks", include_str!("../checks.toml")),
    ("config-keys", include_str!("../config-keys.toml")),
    ("identification", include_str!("../identification.toml")),
    ("keys", include_str!("../keys.toml")),
    ("regions", include_str!("../regions.toml")),
    ("roots", include_str!("../roots.toml")),
    ("seal", include_str!("../seal.toml")),
];

fn embedded_section(name: &str) -> Option<&'static str> {
    EMBEDDED_SECTIONS
        .iter()
        .find_map(|(section, text)| (*section == name).then_some(*text))
}

/// Panics on a mistake in embedded data: it is part of the source, and a test of this crate parses all of it. The sections
/// of a document have been read before anybody asks.
fn embedded_data<T>(read: Result<T, CatalogError>) -> T {
    match read {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}
