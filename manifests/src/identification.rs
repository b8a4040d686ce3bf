//! How a root tree says which system it holds, besides os-release; and the systems that are known and refused.

use serde::Deserialize;

use crate::os::begins_with_words;
use crate::words::words;

words! {
    /// How a distribution's file is written.
    Grammar, "grammar" {
        /// `NAME release VERSION (CODE NAME)`.
        Release = "release",
        /// The name, then lines with VERSION and PATCHLEVEL.
        Suse = "suse",
        /// DISTRIB_ID and DISTRIB_RELEASE.
        Lsb = "lsb",
        /// Nothing but the version.
        Version = "version",
        /// Nothing at all.
        Empty = "empty",
        /// A Common Platform Enumeration.
        Cpe = "cpe",
    }
}

/// A distribution's own file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VendorFile {
    /// Absolute, inside the root.
    pub path: String,
    /// How to read it.
    pub grammar: Grammar,
    /// Whose file it is, where the file itself does not say.
    #[serde(default)]
    pub id: Option<String>,
}

/// What a name means.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KnownName {
    /// Its first words.
    pub starts: String,
    /// os-release's ID of the system.
    pub id: String,
}

/// A link that makes a system another one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Flavour {
    /// ID.
    pub id: String,
    /// Absolute, inside the root.
    pub path: String,
    /// The file name that the link ends in.
    pub link: String,
    /// The ID instead.
    pub becomes: String,
}

/// A system that keeps the ID of another.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Masquerade {
    /// Absolute, inside the root.
    pub path: String,
    /// Words in that file; none: its existence tells.
    #[serde(default)]
    pub contains: Option<String>,
    /// What it is.
    pub name: String,
}

/// A file that has to name the same system as os-release.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Witness {
    /// One of the [`VendorFile`]s.
    pub path: String,
    /// IDs whose trees it has to confirm, where it exists.
    pub ids: Vec<String>,
}

/// Systems that are known and refused.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Refusal {
    /// IDs; none: the markers alone decide.
    pub ids: Vec<String>,
    /// VARIANT_IDs; none: any.
    #[serde(default)]
    pub variants: Vec<String>,
    /// Major versions; none: any.
    #[serde(default)]
    pub versions: Vec<String>,
    /// Paths, relative to the root, any of which is proof by itself.
    #[serde(default)]
    pub markers: Vec<String>,
    /// The right way to the agent there.
    pub hint: String,
}

impl Refusal {
    /// Whether this is such a system, by its os-release.
    pub fn covers(&self, id: &str, version: &str, variant: Option<&str>) -> bool {
        let major = version.split('.').next().unwrap_or_default();
        self.ids.iter().any(|one| one == id)
            && (self.versions.is_empty() || self.versions.iter().any(|one| one == major))
            && (self.variants.is_empty() || self.variants.iter().any(|one| Some(one.as_str()) == variant))
    }
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Identification {
    /// Most specific first.
    #[serde(rename = "file")]
    pub files: Vec<VendorFile>,
    /// Names.
    #[serde(rename = "name")]
    pub names: Vec<KnownName>,
    /// Flavours.
    #[serde(rename = "flavour")]
    pub flavours: Vec<Flavour>,
    /// Masquerades.
    #[serde(rename = "masquerade")]
    pub masquerades: Vec<Masquerade>,
    /// Witnesses.
    #[serde(rename = "witness")]
    pub witnesses: Vec<Witness>,
    /// Refusals.
    #[serde(rename = "refusal")]
    pub refusals: Vec<Refusal>,
}

impl Identification {
    /// The ID of the system with this name, by the longest beginning that ends where a word ends.
    pub fn id_of_name(&self, name: &str) -> Option<&str> {
        let fits = |known: &&KnownName| begins_with_words(name, &known.starts);
        let longest = self
            .names
            .iter()
            .filter(fits)
            .max_by_key(|known| known.starts.len());
        longest.map(|known| known.id.as_str())
    }
}
