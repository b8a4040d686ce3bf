//! Signatures of the sigstore kind over files that others made: catalogs, locks, bundles. Judged offline: by a public key that
//! the user pins, or by an identity and its issuer under a trusted root that lies on this machine.
//!
//! With a trusted root everything in a signature's bundle must hold: log entry, its proof, its time. Without one, which only a
//! pinned key allows, the signature itself is all that counts: cosign makes keyed bundles without a log entry.

use std::io::Read;

use p256::ecdsa::signature::hazmat::PrehashVerifier;
use ring::digest;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rsa::pkcs1::DecodeRsaPublicKey;
use sigstore_verify::crypto::{
    CryptoProvider, Error as CryptoError, HashContext, SigningScheme, VerificationKey,
    install_default_provider,
};
use sigstore_verify::trust_root::TrustedRoot;
use sigstore_verify::types::bundle::SignatureContent;
use sigstore_verify::types::{Bundle, DerPublicKey, HashAlgorithm};
use sigstore_verify::{PublicKeyVerificationPolicy, VerificationPolicy, Verifier};

use crate::digest::{read_through, sha256_hex};

/// What a signature's name adds to that of its file.
pub const BESIDE: &str = ".sigstore.json";

/// Whose signature counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signer {
    /// Whoever has this key: PEM, SubjectPublicKeyInfo.
    Key(String),
    /// Whom the issuer knows under this name.
    Identity {
        /// An e-mail address or a URI, exactly.
        identity: String,
        /// The URL of the OpenID Connect issuer, exactly.
        issuer: String,
    },
}

impl Signer {
    /// A name that no other signer has.
    pub fn name(&self) -> Result<String, SignedError> {
        Ok(match self {
            Self::Key(pem) => format!("key {}", sha256_hex(key(pem)?.as_bytes())),
            Self::Identity { identity, issuer } => format!("{identity}\n{issuer}"),
        })
    }
}

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignedError {
    /// What the user named to judge by is unusable.
    #[error("the {what} cannot be used: {why}")]
    Unusable {
        /// `public key`, `trusted root`.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// Not by whom it should be, or not over this file, or not in the log.
    #[error("the signature does not count: {0}")]
    Refused(String),
}

fn refused(error: impl std::fmt::Display) -> SignedError {
    SignedError::Refused(error.to_string())
}

/// Whether `bundle` (sigstore's JSON) is `signer`'s signature over all that `file` yields. Who it was, in words.
pub fn verify(
    file: impl Read,
    bundle: &[u8],
    signer: &Signer,
    trusted_root: Option<&[u8]>,
) -> Result<String, SignedError> {
    // A second installation finds the first, which is the same.
    let _is_first = install_default_provider(&PROVIDER).is_ok();
    let text = std::str::from_utf8(bundle).map_err(refused)?;
    let bundle = Bundle::from_json(text).map_err(refused)?;
    match (signer, trusted_root) {
        (Signer::Key(pem), None) => {
            by_key_alone(file, &bundle, &key(pem)?)?;
            Ok("by the pinned key".to_owned())
        }
        (Signer::Key(pem), Some(root)) => {
            let policy = PublicKeyVerificationPolicy::new(key(pem)?);
            verifier(root)?
                .verify_reader(file, &bundle, &policy)
                .map_err(refused)?;
            Ok("by the pinned key, and in the log".to_owned())
        }
        (Signer::Identity { identity, issuer }, Some(root)) => {
            let policy = VerificationPolicy::new(identity.as_str(), issuer.as_str());
            verifier(root)?
                .verify_reader(file, &bundle, &policy)
                .map_err(refused)?;
            Ok(format!("by {identity}, whom {issuer} knows"))
        }
        (Signer::Identity { .. }, None) => Err(SignedError::Unusable {
            what: "trusted root",
            why: "an identity is judged under one, and none is named".to_owned(),
        }),
    }
}

fn key(pem: &str) -> Result<DerPublicKey, SignedError> {
    DerPublicKey::from_pem(pem).map_err(|error| SignedError::Unusable {
        what: "public key",
        why: error.to_string(),
    })
}

fn verifier(root: &[u8]) -> Result<Verifier, SignedError> {
    let unusable = |why: String| SignedError::Unusable {
        what: "trusted root",
        why,
    };
    let text = std::str::from_utf8(root).map_err(|error| unusable(error.to_string()))?;
    let root = TrustedRoot::from_json(text).map_err(|error| unusable(error.to_string()))?;
    Verifier::new(&root).map_err(|error| unusable(error.to_string()))
}

/// The one signature in a bundle, over the file, by this key. What else is in the bundle is not looked at.
fn by_key_alone(mut file: impl Read, bundle: &Bundle, key: &DerPublicKey) -> Result<(), SignedError> {
    let SignatureContent::MessageSignature(message) = &bundle.content else {
        return Err(refused("it is over a statement, not over the file"));
    };
    if bundle.signing_certificate().is_some() {
        return Err(refused(
            "it was made with a certificate, not with a key of one's own",
        ));
    }
    let key = VerificationKey::from_spki(key).map_err(|error| SignedError::Unusable {
        what: "public key",
        why: error.to_string(),
    })?;
    let Some(algorithm) = key.scheme().hash_algorithm() else {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(refused)?;
        return key.verify(&bytes, &message.signature).map_err(refused);
    };
    let mut hash = PROVIDER.hash(algorithm).map_err(refused)?;
    read_through(file, |bytes| hash.update(bytes)).map_err(refused)?;
    key.verify_prehashed(&hash.finalize(), &message.signature)
        .map_err(refused)
}

static PROVIDER: Provider = Provider;

/// ring, and RustCrypto where only a digest is there.
#[derive(Debug)]
struct Provider;

struct Hash(digest::Context);

impl HashContext for Hash {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finalize(self: Box<Self>) -> Vec<u8> {
        self.0.finish().as_ref().to_vec()
    }
}

fn unsupported(what: impl std::fmt::Debug) -> CryptoError {
    CryptoError::UnsupportedAlgorithm(format!("{what:?}"))
}

fn wrong(scheme: SigningScheme) -> CryptoError {
    CryptoError::Verification(format!("{} signature invalid", scheme.name()))
}

/// ring's judge of signatures over messages.
fn algorithm(scheme: SigningScheme) -> Result<&'static dyn VerificationAlgorithm, CryptoError> {
    Ok(match scheme {
        SigningScheme::EcdsaP256Sha256 => &signature::ECDSA_P256_SHA256_ASN1,
        SigningScheme::EcdsaP256Sha384 => &signature::ECDSA_P256_SHA384_ASN1,
        SigningScheme::EcdsaP384Sha256 => &signature::ECDSA_P384_SHA256_ASN1,
        SigningScheme::EcdsaP384Sha384 => &signature::ECDSA_P384_SHA384_ASN1,
        SigningScheme::Ed25519 => &signature::ED25519,
        SigningScheme::RsaPssSha256 => &signature::RSA_PSS_2048_8192_SHA256,
        SigningScheme::RsaPssSha384 => &signature::RSA_PSS_2048_8192_SHA384,
        SigningScheme::RsaPssSha512 => &signature::RSA_PSS_2048_8192_SHA512,
        SigningScheme::RsaPkcs1Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        SigningScheme::RsaPkcs1Sha384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        SigningScheme::RsaPkcs1Sha512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        other => return Err(unsupported(other)),
    })
}

impl CryptoProvider for Provider {
    fn hash(&self, algorithm: HashAlgorithm) -> Result<Box<dyn HashContext>, CryptoError> {
        let algorithm = match algorithm {
            HashAlgorithm::Sha2256 => &digest::SHA256,
            HashAlgorithm::Sha2384 => &digest::SHA384,
            HashAlgorithm::Sha2512 => &digest::SHA512,
            other => return Err(unsupported(other)),
        };
        Ok(Box::new(Hash(digest::Context::new(algorithm))))
    }

    fn verify_raw(
        &self,
        scheme: SigningScheme,
        key: &[u8],
        data: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        UnparsedPublicKey::new(algorithm(scheme)?, key)
            .verify(data, signature)
            .map_err(|_| wrong(scheme))
    }

    fn verify_prehashed(
        &self,
        scheme: SigningScheme,
        key: &[u8],
        digest: &[u8],
        signature: &[u8],
    ) -> Result<(), CryptoError> {
        let is_good = match scheme {
            SigningScheme::EcdsaP256Sha256 | SigningScheme::EcdsaP256Sha384 => {
                let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(key);
                let signature = p256::ecdsa::Signature::from_der(signature);
                matches!((key, signature), (Ok(key), Ok(signature)) if key.verify_prehash(digest, &signature).is_ok())
            }
            SigningScheme::EcdsaP384Sha256 | SigningScheme::EcdsaP384Sha384 => {
                let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(key);
                let signature = p384::ecdsa::Signature::from_der(signature);
                matches!((key, signature), (Ok(key), Ok(signature)) if key.verify_prehash(digest, &signature).is_ok())
            }
            SigningScheme::RsaPkcs1Sha256 | SigningScheme::RsaPkcs1Sha384 | SigningScheme::RsaPkcs1Sha512 => {
                rsa::RsaPublicKey::from_pkcs1_der(key)
                    .is_ok_and(|key| key.verify(pkcs1(scheme), digest, signature).is_ok())
            }
            other => return Err(unsupported(other)),
        };
        is_good.then_some(()).ok_or_else(|| wrong(scheme))
    }
}

/// PKCS #1 1.5 with the prefix of a digest algorithm: RFC 8017, section 9.2.
fn pkcs1(scheme: SigningScheme) -> rsa::Pkcs1v15Sign {
    let (last, length) = match scheme {
        SigningScheme::RsaPkcs1Sha384 => (2, 48),
        SigningScheme::RsaPkcs1Sha512 => (3, 64),
        _ => (1, 32),
    };
    let prefix = [
        0x30,
        0x11 + length,
        0x30,
        0x0d,
        0x06,
        0x09,
        0x60,
        0x86,
        0x48,
        0x01,
        0x65,
        0x03,
        0x04,
        0x02,
        last,
        0x05,
        0x00,
        0x04,
        length,
    ];
    rsa::Pkcs1v15Sign {
        hash_len: Some(usize::from(length)),
        prefix: prefix.into(),
    }
}
