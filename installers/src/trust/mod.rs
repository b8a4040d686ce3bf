//! Trust stores: which anchors a tree trusts, and what has to change so that it trusts more. Never removes one.

pub mod debian;
pub mod x509;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use ssmbake_manifests::TrustStore;

use crate::error::IoError;
use crate::root::{Root, RootPath};
use x509::{Certificate, pem_blocks};

const BUNDLE_LIMIT: usize = 32 * 1024 * 1024;

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

/// SHA-256 of the DER of every certificate that the agent finds, hex, and the bundle's place; no digests without a
/// bundle, no place where certificates are in no file.
pub(crate) fn read_bundle(
    root: &Root,
    store: TrustStore,
) -> Result<(Option<BTreeSet<String>>, &'static str), IoError> {
    let places = bundles(store);
    for path in places {
        if let Some(bytes) = root.read(&RootPath::fixed(path), BUNDLE_LIMIT)? {
            let digests = pem_blocks(&bytes).iter().map(Certificate::sha256).collect();
            return Ok((Some(digests), path));
        }
    }
    Ok((None, places.first().copied().unwrap_or_default()))
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
