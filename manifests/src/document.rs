//! A catalog as one document, for binaries that were built before it. Whether it may be believed is not judged here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// All facts and what they are worth.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Version of this shape.
    pub schema: u32,
    /// Rises with every change.
    pub serial: u64,
    /// RFC 3339, UTC.
    pub issued: String,
    /// RFC 3339, UTC: from then on nobody takes it for news.
    pub expires: String,
    /// TOML, by the name of its file.
    pub sections: BTreeMap<String, String>,
    /// A JSON object for each system, by its id.
    pub os: BTreeMap<String, String>,
    /// PEM, by the id of the anchor.
    pub roots: BTreeMap<String, String>,
}

impl Document {
    /// The version of this shape.
    pub const SCHEMA: u32 = 1;

    /// Reads one; what it holds is read by [`crate::Catalog::of`].
    pub fn parse(bytes: &[u8]) -> Result<Self, CatalogError> {
        let document: Self =
            serde_json::from_slice(bytes).map_err(|error| CatalogError::new("document", error))?;
        match document.schema == Self::SCHEMA {
            true => Ok(document),
            false => Err(CatalogError::new(
                "document",
                format!(
                    "its schema is {}, this ssmbake reads {}",
                    document.schema,
                    Self::SCHEMA
                ),
            )),
        }
    }

    /// The same bytes for the same facts.
    pub fn render(&self) -> String {
        // Strings, numbers and maps of strings: it cannot fail to serialise.
        let text = serde_json::to_string_pretty(self).unwrap_or_else(|error| error.to_string());
        text + "\n"
    }
}

/// What is wrong with a catalog.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("catalog, `{section}`: {why}")]
pub struct CatalogError {
    section: String,
    why: String,
}

impl CatalogError {
    pub(crate) fn new(section: &str, why: impl ToString) -> Self {
        Self {
            section: section.to_owned(),
            why: why.to_string(),
        }
    }
}
