//! The keys that sign agent packages, as figures. Checking a signature is not done here.

use serde::{Deserialize, Serialize};

/// An OpenPGP version 4 RSA key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SigningKey {
    /// SHA-1 of the framed packet body.
    #[serde(with = "crate::hex::array")]
    pub fingerprint: [u8; 20],
    /// User ID on the key.
    pub user_id: String,
    /// Creation, unix seconds: the start of its validity.
    pub created: i64,
    /// Expiration, unix seconds: signatures made later are not its own.
    pub not_after: i64,
    /// Length of the modulus.
    pub bits: u32,
    /// RSA public exponent.
    pub exponent: u32,
    /// RSA modulus, big endian, no leading zero.
    #[serde(with = "crate::hex::bytes")]
    pub modulus: Vec<u8>,
    /// When and why its owner withdrew it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revocation>,
}

/// That a key counts no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// Unix seconds.
    pub at: i64,
    /// Why.
    pub reason: RevocationReason,
}

/// RFC 9580, 5.2.3.31.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationReason {
    /// Its owner did not say.
    Unspecified,
    /// Another key took its place.
    Superseded,
    /// Somebody else may have it.
    Compromised,
    /// It is out of use.
    Retired,
}

impl Revocation {
    /// Whether a signature of that time is void. A thief sets any time, so only a reason that excludes theft spares the
    /// signatures from before.
    pub fn covers(&self, signed_at: i64) -> bool {
        match self.reason {
            RevocationReason::Superseded | RevocationReason::Retired => signed_at >= self.at,
            RevocationReason::Unspecified | RevocationReason::Compromised => true,
        }
    }
}

impl std::fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "no reason given",
            Self::Superseded => "superseded",
            Self::Compromised => "compromised",
            Self::Retired => "retired",
        })
    }
}

impl SigningKey {
    /// The body of the public-key packet, RFC 4880 section 5.5.2: what a fingerprint is taken over.
    pub fn public_key_packet_body(&self) -> Vec<u8> {
        const VERSION_4: u8 = 4;
        const RSA: u8 = 1;
        let mut body = vec![VERSION_4];
        // The packet has 32 bits for the time; a test proves that each key's fits.
        body.extend_from_slice(&(self.created as u32).to_be_bytes());
        body.push(RSA);
        push_mpi(&mut body, &self.modulus);
        push_mpi(&mut body, &self.exponent.to_be_bytes());
        body
    }

    /// The fingerprint as gpg prints it, forty upper-case digits.
    pub fn fingerprint_hex(&self) -> String {
        crate::hex::encode(&self.fingerprint).to_uppercase()
    }
}

/// A multiprecision integer: its length in bits as two bytes, then its bytes without leading zeros.
fn push_mpi(body: &mut Vec<u8>, number: &[u8]) {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let number = &number[zeros..];
    let bits = number
        .first()
        .map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize);
    body.extend_from_slice(&(bits as u16).to_be_bytes());
    body.extend_from_slice(number);
}
