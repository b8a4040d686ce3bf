//! Whom Windows trusts for signatures of programs. Judging one is not done here.

use serde::{Deserialize, Serialize};

use crate::trust::decode_base64;

/// A root certificate for code and timestamps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CodeRoot {
    /// `digicert-trusted-root-g4`.
    pub id: String,
    /// The subject's CN.
    pub name: String,
    /// SHA-256 of the DER form.
    #[serde(with = "crate::hex::array")]
    pub sha256: [u8; 32],
    /// The certificate.
    pub pem: String,
}

impl CodeRoot {
    /// The certificate's bytes.
    pub fn der(&self) -> Vec<u8> {
        let lines = self.pem.lines().filter(|line| !line.starts_with("-----"));
        decode_base64(lines.flat_map(str::bytes))
    }
}
