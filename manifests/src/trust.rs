//! The TLS roots that AWS endpoints chain to. Installing them is not done here.

use serde::{Deserialize, Serialize};

use crate::words::words;

words! {
    /// When an anchor is installed.
    AnchorSet, "anchor set" {
        /// Always.
        Default = "default",
        /// Only when asked for.
        Legacy = "legacy",
    }
}

/// A root certificate, with figures that need no X.509 parser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrustAnchor {
    /// `amazon-root-ca-1`.
    pub id: String,
    /// The subject's CN, or OU where it has none: `Amazon Root CA 1`.
    pub name: String,
    /// What Debian's ca-certificates calls the file, without extension.
    pub file_stem: String,
    /// When to install it.
    pub set: AnchorSet,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// RFC 3339 instant.
    pub not_before: String,
    /// RFC 3339 instant.
    pub not_after: String,
    /// RFC 3339 instant from which on Mozilla's programme, and with it most systems, trusts no new certificate of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distrust_after: Option<String>,
    /// SHA-256 of the DER form: the identity of a certificate here.
    #[serde(with = "crate::hex::array")]
    pub sha256: [u8; 32],
    /// SHA-1 of the DER form: Windows names registry keys by it.
    #[serde(with = "crate::hex::array")]
    pub sha1: [u8; 20],
    /// SHA-256 of the public key info.
    #[serde(with = "crate::hex::array")]
    pub spki_sha256: [u8; 32],
    /// OpenSSL's name for links since 1.0.0, eight digits.
    pub subject_hash: String,
    /// OpenSSL's name for links before that.
    pub subject_hash_old: String,
    /// The certificate, with a newline at the end.
    pub pem: String,
}

impl TrustAnchor {
    /// The certificate's bytes.
    pub fn der(&self) -> Vec<u8> {
        let lines = self.pem.lines().filter(|line| !line.starts_with("-----"));
        decode_base64(lines.flat_map(str::bytes))
    }
}

/// `TrustAnchor` as roots.toml has it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct RawAnchor {
    id: String,
    name: String,
    file_stem: String,
    set: AnchorSet,
    serial: String,
    not_before: String,
    not_after: String,
    #[serde(default)]
    distrust_after: Option<String>,
    #[serde(with = "crate::hex::array")]
    sha256: [u8; 32],
    #[serde(with = "crate::hex::array")]
    sha1: [u8; 20],
    #[serde(with = "crate::hex::array")]
    spki_sha256: [u8; 32],
    subject_hash: String,
    subject_hash_old: String,
}

impl RawAnchor {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Adds the PEM of the same id; a test compares the digest of each.
    pub(crate) fn with_pem(self, pem: &str) -> TrustAnchor {
        TrustAnchor {
            id: self.id,
            name: self.name,
            file_stem: self.file_stem,
            set: self.set,
            serial: self.serial,
            not_before: self.not_before,
            not_after: self.not_after,
            distrust_after: self.distrust_after,
            sha256: self.sha256,
            sha1: self.sha1,
            spki_sha256: self.spki_sha256,
            subject_hash: self.subject_hash,
            subject_hash_old: self.subject_hash_old,
            pem: pem.to_owned(),
        }
    }
}

/// Only for the embedded certificates: anything outside the alphabet, padding included, is passed over.
pub(crate) fn decode_base64(text: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut buffer, mut bits) = (0u32, 0);
    for symbol in text {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        buffer = (buffer << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits) as u8);
        }
    }
    bytes
}
