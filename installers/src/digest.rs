//! SHA-256 as text, the identity of files and certificates in facts, receipts and reports.

use sha2::{Digest, Sha256};
use ssmbake_manifests::hex;

/// SHA-256 of `bytes`, lower-case hex.
pub(crate) fn sha256_hex(bytes: impl AsRef<[u8]>) -> String {
    hex::encode(&Sha256::digest(bytes))
}
