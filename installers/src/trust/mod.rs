//! Trust stores: which anchors a tree trusts, and what has to change so that it trusts more. Never removes one.

pub mod debian;
pub mod x509;

use serde::{Deserialize, Serialize};
use ssmbake_manifests::TrustStore;

use crate::root::RootPath;

/// Where the agent finds the bundle, by trust store; the first that exists counts.
pub fn bundles(store: TrustStore) -> &'static [&'static str] {
    match store {
        TrustStore::Debian => &[debian::BUNDLE],
        TrustStore::P11Kit | TrustStore::El6 => &[
            "/etc/pki/tls/certs/ca-bundle.crt",
            "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        ],
        // No file.
        TrustStore::Registry => &[],
        TrustStore::Suse => &["/etc/ssl/ca-bundle.pem", "/var/lib/ca-certificates/ca-bundle.pem"],
    }
}

/// A trust anchor to install.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// File stem in the store: `ssmbake-amazon-root-ca-1`, or the stem of the user's own file.
    pub name: String,
    /// What people call it.
    pub label: String,
    /// SHA-256 of the DER, hex.
    pub sha256: String,
    /// The certificate.
    pub pem: String,
}

/// How a tree stands to one anchor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum AnchorState {
    /// In the bundle.
    Trusted,
    /// Not there.
    Missing,
    /// The administrator distrusts it, in this file and line.
    Blocked {
        /// The file.
        path: RootPath,
        /// From 1.
        line: usize,
    },
}
