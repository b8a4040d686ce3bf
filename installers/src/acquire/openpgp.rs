//! Detached OpenPGP signatures, judged by our own policy over pinned raw keys.
//!
//! gpg exits 0 for expired keys and standard policies reject AWS's certificates, so neither decides here. A signature is
//! good when a key of the ring made it over these bytes with SHA-256 or better, inside the key's own window. No clock.

use std::io::Read;

use digest::DynDigest;
use pgp::composed::{Deserializable, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{
    Packet, PacketHeader, PacketParser, PublicKey, PublicSubkey, RevocationCode, Signature, SignatureConfig,
    SignatureType, SignatureVersion, SubpacketData,
};
use pgp::types::{KeyDetails, KeyVersion, Tag, VerifyingKey};

use ssmbake_manifests::{CodeRoot, Revocation, RevocationReason, hex};

use super::authenticode::{self, Publisher};
use super::voucher::{VerifyError, Vouched, Voucher};

const MIN_RSA_BITS: u16 = 2048;
const RING_LIMIT: usize = 1024 * 1024;
/// Signatures of one file that are looked at; each may cost a hash over the whole package.
const CANDIDATES: usize = 4;
const ARMOUR: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

#[derive(Debug)]
enum RawKey {
    Primary(PublicKey),
    Sub(PublicSubkey),
}

/// A key that may sign, or might once.
#[derive(Debug)]
pub struct RingKey {
    raw: RawKey,
    /// Upper-case hex.
    pub fingerprint: String,
    /// Seconds since the epoch, inclusive and exclusive.
    pub window: (i64, i64),
    /// When and why its owner withdrew it.
    pub revoked: Option<Revocation>,
    /// Who brought it.
    pub owner: Owner,
}

/// Whose packages a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// AWS's: it is in the catalog.
    Aws,
    /// A mirror of the user's own: a file named it.
    User,
}

/// The keys that may sign packages.
#[derive(Debug, Default)]
pub struct KeyRing {
    keys: Vec<RingKey>,
    /// Under whom programs for Windows are signed, and by whom.
    code: (Vec<CodeRoot>, String),
}

/// Why a certificate cannot join the ring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the keyring {0}")]
pub struct KeyRingError(String);

impl KeyRing {
    /// The embedded keys.
    pub fn embedded(catalog: &ssmbake_manifests::Catalog) -> Result<Self, KeyRingError> {
        let mut ring = Self {
            keys: Vec::new(),
            code: (catalog.code_roots().to_vec(), catalog.agent().publisher.clone()),
        };
        for key in catalog.signing_keys() {
            let body = key.public_key_packet_body();
            let header = PacketHeader::new_fixed(Tag::PublicKey, u32::try_from(body.len()).unwrap_or(0));
            let raw = PublicKey::try_from_reader(header, body.as_slice())
                .map_err(|e| KeyRingError(e.to_string()))?;
            ring.keys.push(RingKey {
                raw: RawKey::Primary(raw),
                fingerprint: key.fingerprint_hex(),
                window: (key.created, key.not_after),
                revoked: key.revoked,
                owner: Owner::Aws,
            });
        }
        Ok(ring)
    }

    /// Who signed a program for Windows, if that counts.
    pub fn judge_program(&self, program: &[u8]) -> Result<Publisher, VerifyError> {
        let (roots, publisher) = &self.code;
        authenticode::verify(program, publisher, roots)
    }

    /// What voids the signatures of that time by a key. The certificate of a key that is built in may bring its revocation.
    pub fn revocation(&self, fingerprint: &str, signed_at: i64) -> Option<Revocation> {
        let mut same = self.keys.iter().filter(|key| key.fingerprint == fingerprint);
        same.find_map(|key| key.revoked.filter(|revoked| revoked.covers(signed_at)))
    }

    /// Each key.
    pub fn keys(&self) -> &[RingKey] {
        &self.keys
    }

    /// Adds the certificates of a file, armoured or binary; returns their keys.
    pub fn add_certificates(&mut self, bytes: &[u8]) -> Result<&[RingKey], KeyRingError> {
        let refuse = |why: &str| Err(KeyRingError(why.to_owned()));
        if bytes.len() > RING_LIMIT {
            return refuse("is larger than 1 MiB");
        }
        let before = self.keys.len();
        match std::str::from_utf8(bytes) {
            Ok(text) if text.contains("-----BEGIN PGP PRIVATE KEY BLOCK-----") => {
                return refuse("holds a secret key; export the public one with `gpg --export --armor`");
            }
            Ok(text) if text.contains(ARMOUR) => {
                for block in text.split(ARMOUR).skip(1) {
                    let block = format!("{ARMOUR}{block}");
                    let found = SignedPublicKey::from_armor_many(block.as_bytes());
                    let (found, _) =
                        found.map_err(|error| KeyRingError(format!("cannot be read: {error}")))?;
                    self.add_all(found)?;
                }
            }
            _ => {
                let found = SignedPublicKey::from_bytes_many(bytes);
                let found = found.map_err(|error| KeyRingError(format!("cannot be read: {error}")))?;
                self.add_all(found)?;
            }
        }
        if self.keys.len() == before {
            return refuse("holds no OpenPGP certificate with a signing key");
        }
        Ok(&self.keys[before..])
    }

    fn add_all(
        &mut self,
        found: impl Iterator<Item = pgp::errors::Result<SignedPublicKey>>,
    ) -> Result<(), KeyRingError> {
        for certificate in found {
            let certificate =
                certificate.map_err(|error| KeyRingError(format!("cannot be read: {error}")))?;
            self.add_certificate(&certificate)?;
        }
        Ok(())
    }

    fn add_certificate(&mut self, certificate: &SignedPublicKey) -> Result<(), KeyRingError> {
        let primary = &certificate.primary_key;
        let name = fingerprint(primary);
        if primary.version() != KeyVersion::V4 {
            return Err(KeyRingError(format!(
                "holds the key {name}, which is none of version 4"
            )));
        }
        certificate
            .verify_bindings()
            .map_err(|e| KeyRingError(format!("holds the damaged certificate {name}: {e}")))?;
        let users = certificate.details.users.iter().flat_map(|user| &user.signatures);
        let selfs: Vec<&Signature> = users.chain(&certificate.details.direct_signatures).collect();
        // A name that was withdrawn takes the key with it: there is no telling for which of them somebody trusts it.
        let withdrawn = selfs
            .iter()
            .filter(|signature| signature.typ() == Some(SignatureType::CertRevocation));
        let revocations = certificate.details.revocation_signatures.iter();
        let revoked = strictest(revocations.chain(withdrawn.copied()));
        let newest = selfs
            .into_iter()
            .filter(|signature| signature.typ() != Some(SignatureType::CertRevocation))
            .max_by_key(|signature| signature.created().map(|at| at.as_secs()));
        // Only its own signature says how long a key is good and what for.
        let Some(newest) = newest else {
            return Err(KeyRingError(format!(
                "holds the key {name} without a self-signature"
            )));
        };
        let window = window(primary, Some(newest));
        // A certificate that says nothing about its use may sign.
        let flags = newest.key_flags();
        if flags.sign() || !flags.certify() {
            let key = RingKey {
                raw: RawKey::Primary(primary.clone()),
                fingerprint: name,
                window,
                revoked,
                owner: Owner::User,
            };
            self.push(key, primary)?;
        }
        for sub in &certificate.public_subkeys {
            self.add_subkey(sub, window, revoked)?;
        }
        Ok(())
    }

    fn add_subkey(
        &mut self,
        sub: &SignedPublicSubKey,
        outer: (i64, i64),
        of_primary: Option<Revocation>,
    ) -> Result<(), KeyRingError> {
        let (revocations, bindings): (Vec<&Signature>, Vec<&Signature>) = sub
            .signatures
            .iter()
            .partition(|one| one.typ() == Some(SignatureType::SubkeyRevocation));
        let newest = bindings
            .into_iter()
            .max_by_key(|signature| signature.created().map(|at| at.as_secs()));
        if !newest.is_some_and(|signature| signature.key_flags().sign()) {
            return Ok(());
        }
        let own = window(&sub.key, newest);
        let key = RingKey {
            raw: RawKey::Sub(sub.key.clone()),
            fingerprint: fingerprint(&sub.key),
            window: (own.0.max(outer.0), own.1.min(outer.1)),
            revoked: of_primary.or(strictest(revocations.into_iter())),
            owner: Owner::User,
        };
        self.push(key, &sub.key)
    }

    fn push(
        &mut self,
        ring_key: RingKey,
        key: &(impl KeyDetails + pgp::ser::Serialize),
    ) -> Result<(), KeyRingError> {
        // RSA: version, four bytes of time, algorithm, bit count of the modulus.
        let body = key.to_bytes().map_err(|error| KeyRingError(error.to_string()))?;
        if matches!(body.get(5), Some(1..=3)) {
            let bits = u16::from_be_bytes([
                body.get(6).copied().unwrap_or(0),
                body.get(7).copied().unwrap_or(0),
            ]);
            if bits < MIN_RSA_BITS {
                return Err(KeyRingError(format!(
                    "holds the key {} with only {bits} bits",
                    ring_key.fingerprint
                )));
            }
        }
        self.keys.push(ring_key);
        Ok(())
    }

    /// Judges the signatures in `signature` before a byte of the data is there. The check that comes back is fed the
    /// data as it arrives; one good signature suffices.
    pub fn begin(&self, signature: &[u8]) -> Result<Check<'_>, VerifyError> {
        let mut candidates = Vec::new();
        let mut first_error = None;
        for one in parse(signature)?.into_iter().take(CANDIDATES) {
            match self.judge(&one).and_then(|key| Candidate::new(key, one)) {
                Ok(candidate) => candidates.push(candidate),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        match first_error {
            Some(error) if candidates.is_empty() => Err(error),
            _ => Check::new(candidates),
        }
    }

    /// Everything that needs no look at the data.
    fn judge(&self, signature: &Signature) -> Result<&RingKey, VerifyError> {
        let malformed = |why: &str| VerifyError::Malformed(why.to_owned());
        let config = signature
            .config()
            .filter(|config| config.version() == SignatureVersion::V4)
            .ok_or_else(|| malformed("it is none of version 4"))?;
        if signature.typ() != Some(SignatureType::Binary) {
            return Err(malformed("it is no signature over a binary file"));
        }
        if !matches!(
            config.hash_alg,
            HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512
        ) {
            return Err(VerifyError::WeakDigest {
                algorithm: format!("{:?}", config.hash_alg),
            });
        }
        for subpacket in config
            .hashed_subpackets()
            .filter(|subpacket| subpacket.is_critical)
        {
            if matches!(
                subpacket.data,
                SubpacketData::Other(..) | SubpacketData::Experimental(..) | SubpacketData::Notation(_)
            ) {
                return Err(malformed("it holds a critical part that is not known"));
            }
        }
        let created = creation_time(config).ok_or_else(|| malformed("it does not say when it was made"))?;
        let key = self.issuer(signature)?;
        if let Some(revoked) = self.revocation(&key.fingerprint, created) {
            return Err(VerifyError::Revoked {
                fingerprint: key.fingerprint.clone(),
                created,
                revoked,
            });
        }
        let (from, until) = key.window;
        if created < from || created >= until {
            return Err(VerifyError::OutsideValidity {
                fingerprint: key.fingerprint.clone(),
                created,
                from,
                until,
            });
        }
        Ok(key)
    }

    /// The key that the signature names, by fingerprint or else by key id.
    fn issuer(&self, signature: &Signature) -> Result<&RingKey, VerifyError> {
        let named = |bytes: &[u8]| hex::encode(bytes).to_uppercase();
        let prints: Vec<String> = signature
            .issuer_fingerprint()
            .iter()
            .map(|print| named(print.as_bytes()))
            .collect();
        let ids: Vec<String> = signature
            .issuer_key_id()
            .iter()
            .map(|id| named(id.as_ref()))
            .collect();
        let is_issuer = |key: &&RingKey| {
            prints.contains(&key.fingerprint)
                || (prints.is_empty() && ids.iter().any(|id| key.fingerprint.ends_with(id)))
        };
        self.keys
            .iter()
            .find(is_issuer)
            .ok_or_else(|| VerifyError::UnknownKey {
                issuer: prints
                    .first()
                    .or(ids.first())
                    .cloned()
                    .unwrap_or_else(|| "of no name".to_owned()),
            })
    }
}

/// Only the hashed part counts: anybody can write the other. Seconds since the epoch.
fn creation_time(config: &SignatureConfig) -> Option<i64> {
    config
        .hashed_subpackets()
        .find_map(|subpacket| match subpacket.data {
            SubpacketData::SignatureCreationTime(at) => Some(i64::from(at.as_secs())),
            _ => None,
        })
}

/// Signatures of acceptable keys, or a digest, whose data is still to come.
pub struct Check<'ring> {
    candidates: Vec<Candidate<'ring>>,
    /// SHA-256 that the data must have.
    pin: Option<[u8; 32]>,
    /// Only where no candidate's hash is SHA-256 anyway.
    plain: Option<Hasher>,
}

type Hasher = Box<dyn DynDigest + Send>;

struct Candidate<'ring> {
    key: &'ring RingKey,
    signature: Signature,
    hasher: Hasher,
}

/// What a finished check has found.
#[derive(Debug)]
pub struct Checked {
    /// Who signed or pinned.
    pub voucher: Voucher,
    /// Plain SHA-256 of the data.
    pub sha256: [u8; 32],
}

impl<'ring> Check<'ring> {
    fn new(candidates: Vec<Candidate<'ring>>) -> Result<Self, VerifyError> {
        let has_sha256 = candidates.iter().any(Candidate::is_sha256);
        let plain = (!has_sha256).then(|| hasher(HashAlgorithm::Sha256)).transpose()?;
        Ok(Self {
            candidates,
            pin: None,
            plain,
        })
    }

    /// Without any signature: the data must have the SHA-256 that the user named.
    pub fn pinned(pin: [u8; 32]) -> Result<Self, VerifyError> {
        Ok(Self::new(Vec::new())?.and(Some(pin)))
    }

    /// The data must have this SHA-256 besides.
    #[must_use]
    pub fn and(mut self, pin: Option<[u8; 32]>) -> Self {
        self.pin = pin;
        self
    }

    fn hashers(&mut self) -> impl Iterator<Item = &mut Hasher> {
        self.candidates
            .iter_mut()
            .map(|candidate| &mut candidate.hasher)
            .chain(&mut self.plain)
    }

    /// The next bytes of the data.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hashers().for_each(|hasher| hasher.update(bytes));
    }

    /// The data begins anew.
    pub fn restart(&mut self) {
        self.hashers().for_each(|hasher| hasher.reset());
    }

    /// The verdict over all bytes so far.
    pub fn finish(self) -> Result<Checked, VerifyError> {
        let sha256 = self.sha256();
        if let Some(pin) = self.pin.filter(|pin| *pin != sha256) {
            return Err(VerifyError::OtherDigest {
                pinned: hex::encode(&pin),
                found: hex::encode(&sha256),
            });
        }
        if self.pin.is_some() && self.candidates.is_empty() {
            return Ok(Checked {
                voucher: Voucher::PinnedDigest,
                sha256,
            });
        }
        let mut first_error = None;
        for candidate in self.candidates {
            let Candidate {
                key,
                signature,
                hasher,
            } = candidate;
            if verify(&key.raw, &signature, hasher).is_some() {
                let voucher = Voucher::Signature(Vouched::new(key, &signature));
                return Ok(Checked { voucher, sha256 });
            }
            let fingerprint = key.fingerprint.clone();
            first_error = first_error.or(Some(VerifyError::BadSignature { fingerprint }));
        }
        Err(first_error.unwrap_or_else(|| VerifyError::Malformed("it is empty".to_owned())))
    }

    fn sha256(&self) -> [u8; 32] {
        let of_candidate = self.candidates.iter().find(|candidate| candidate.is_sha256());
        let hasher = self
            .plain
            .as_ref()
            .or(of_candidate.map(|candidate| &candidate.hasher));
        let mut digest = [0; 32];
        if let Some(hasher) = hasher {
            digest.copy_from_slice(&hasher.box_clone().finalize());
        }
        digest
    }
}

impl<'ring> Candidate<'ring> {
    fn new(key: &'ring RingKey, signature: Signature) -> Result<Self, VerifyError> {
        let nameless = || VerifyError::Malformed("it names no digest".to_owned());
        let algorithm = signature.hash_alg().ok_or_else(nameless)?;
        Ok(Self {
            key,
            signature,
            hasher: hasher(algorithm)?,
        })
    }

    fn is_sha256(&self) -> bool {
        self.signature.hash_alg() == Some(HashAlgorithm::Sha256)
    }
}

fn hasher(algorithm: HashAlgorithm) -> Result<Hasher, VerifyError> {
    algorithm
        .new_hasher()
        .map_err(|error| VerifyError::Malformed(error.to_string()))
}

impl Vouched {
    fn new(key: &RingKey, signature: &Signature) -> Self {
        Self {
            fingerprint: key.fingerprint.clone(),
            signed_at: signature.created().map_or(0, |at| i64::from(at.as_secs())),
            digest_algorithm: signature
                .hash_alg()
                .map(|hash| format!("{hash:?}").to_uppercase())
                .unwrap_or_default(),
        }
    }
}

/// RFC 9580, 5.2.4: after the data the hash covers the signature's own fields; then the key decides.
fn verify(key: &RawKey, signature: &Signature, mut hasher: Hasher) -> Option<()> {
    let config = signature.config()?;
    let length = config.hash_signature_data(&mut hasher).ok()?;
    hasher.update(&config.trailer(length).ok()?);
    let digest = hasher.finalize();
    if signature.signed_hash_value()?[..] != digest[..2] {
        return None;
    }
    let bytes = signature.signature()?;
    match key {
        RawKey::Primary(raw) => raw.verify(config.hash_alg, &digest, bytes),
        RawKey::Sub(raw) => raw.verify(config.hash_alg, &digest, bytes),
    }
    .ok()
}

/// All packets must be signatures, to the last byte.
fn parse(bytes: &[u8]) -> Result<Vec<Signature>, VerifyError> {
    let malformed = |why: String| VerifyError::Malformed(why);
    let mut binary = Vec::new();
    let bytes = if bytes.starts_with(b"-----BEGIN PGP SIGNATURE") {
        let mut dearmor = pgp::armor::Dearmor::new(bytes);
        dearmor
            .read_to_end(&mut binary)
            .map_err(|error| malformed(error.to_string()))?;
        binary.as_slice()
    } else {
        bytes
    };
    let mut signatures = Vec::new();
    let mut consumed = 0;
    for packet in PacketParser::new(bytes) {
        match packet.map_err(|error| malformed(error.to_string()))? {
            Packet::Signature(signature) => {
                consumed += pgp::packet::PacketTrait::write_len_with_header(&signature);
                signatures.push(signature);
            }
            _ => return Err(malformed("it holds something else than signatures".to_owned())),
        }
    }
    match signatures.len() {
        0 => Err(malformed("it is no OpenPGP signature".to_owned())),
        _ if consumed != bytes.len() => Err(malformed("bytes follow it".to_owned())),
        _ => Ok(signatures),
    }
}

fn fingerprint(key: &impl KeyDetails) -> String {
    hex::encode(key.fingerprint().as_bytes()).to_uppercase()
}

/// The revocation that voids the most: one that spares nothing, or else the earliest. Bindings were verified: all are the owner's.
fn strictest<'a>(revocations: impl Iterator<Item = &'a Signature>) -> Option<Revocation> {
    let read = |signature: &Signature| Revocation {
        at: signature.created().map_or(0, |at| i64::from(at.as_secs())),
        reason: match signature.revocation_reason_code() {
            Some(RevocationCode::KeySuperseded) => RevocationReason::Superseded,
            Some(RevocationCode::KeyRetired) => RevocationReason::Retired,
            Some(RevocationCode::KeyCompromised) => RevocationReason::Compromised,
            _ => RevocationReason::Unspecified,
        },
    };
    revocations
        .map(read)
        .min_by_key(|one| (!one.covers(i64::MIN), one.at))
}

fn window(key: &impl KeyDetails, binding: Option<&Signature>) -> (i64, i64) {
    let from = i64::from(key.created_at().as_secs());
    let lifetime = binding
        .and_then(Signature::key_expiration_time)
        .map(|after| i64::from(after.as_secs()));
    let until = lifetime
        .filter(|after| *after > 0)
        .map_or(i64::MAX, |after| from.saturating_add(after));
    (from, until)
}
