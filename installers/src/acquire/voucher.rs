//! Who vouches for a file, and why somebody does not.

use ssmbake_manifests::Revocation;

use super::authenticode::Publisher;

/// Who vouched for a file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vouched {
    /// Of the signing key, upper-case hex.
    pub fingerprint: String,
    /// Seconds since the epoch.
    pub signed_at: i64,
    /// The signature's digest algorithm.
    pub digest_algorithm: String,
}

/// What vouches for a file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Voucher {
    /// A signature by a key of the ring.
    Signature(Vouched),
    /// A signature inside of a Windows program.
    Authenticode(Publisher),
    /// The user, who named its SHA-256: there is no signature.
    PinnedDigest,
}

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// No OpenPGP signature, or more than signatures.
    #[error("the signature is malformed: {0}")]
    Malformed(String),
    /// Made by a key that is not in the ring.
    #[error("the signature was made by the key {issuer}, which is not in the key ring")]
    UnknownKey {
        /// Fingerprint or key id.
        issuer: String,
    },
    /// Made with a digest that can be forged.
    #[error("the signature uses {algorithm}, which is too weak")]
    WeakDigest {
        /// Its name.
        algorithm: String,
    },
    /// Made before the key existed or after it had expired.
    #[error(
        "the signature was made at {created} by the key {fingerprint}, which is valid from {from} until {until}"
    )]
    OutsideValidity {
        /// The key.
        fingerprint: String,
        /// Seconds since the epoch.
        created: i64,
        /// Seconds since the epoch.
        from: i64,
        /// Seconds since the epoch.
        until: i64,
    },
    /// Its owner withdrew the key.
    #[error("the signature was made at {created} by the key {fingerprint}, which was revoked at {}: {}", revoked.at, revoked.reason)]
    Revoked {
        /// The key.
        fingerprint: String,
        /// Seconds since the epoch.
        created: i64,
        /// When and why.
        revoked: Revocation,
    },
    /// It is over other bytes.
    #[error("the signature by the key {fingerprint} does not fit the file")]
    BadSignature {
        /// The key.
        fingerprint: String,
    },
    /// A certificate leads to no root that counts, or not then, or not for this.
    #[error("{0}")]
    Untrusted(String),
    /// Signed by somebody else.
    #[error("the program was signed by {found}, not by {wanted}")]
    OtherPublisher {
        /// As it should be.
        wanted: String,
        /// As it is.
        found: String,
    },
    /// Its SHA-256 is another than the user named.
    #[error("its SHA-256 is {found}, {pinned} was named")]
    OtherDigest {
        /// As named, hex.
        pinned: String,
        /// As it is, hex.
        found: String,
    },
}
