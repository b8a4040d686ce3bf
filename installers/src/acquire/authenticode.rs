//! Authenticode: the signature inside of a Windows program, judged as Windows does, without Windows. The program's digest, the
//! signer's certificate up to a root of the catalog, its purpose, its name, and the time that a timestamp authority vouches for.
//! No clock: a signature was good when it was made, or it is not good.

use std::time::Duration;

use authenticode::{AttributeCertificateIterator, PeTrait, SPC_INDIRECT_DATA_OBJID, SpcIndirectDataContent};
use der::asn1::{AnyRef, GeneralizedTime, ObjectIdentifier, OctetStringRef};
use der::{Decode, Encode, Reader, SliceReader};
use object::read::pe::{PeFile32, PeFile64};
use ring::digest;
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use ssmbake_manifests::{AgentVersion, CodeRoot, hex};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::cms::{SignedData, Signer, skip};
use super::voucher::VerifyError;

const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
/// Microsoft's attribute with a timestamp of RFC 3161.
const TIMESTAMP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.3.3.1");
const TIMESTAMP_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
/// id-kp-codeSigning and id-kp-timeStamping, without tag and length.
const FOR_CODE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];
const FOR_TIME: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 8];
/// Bytes that fill a signature's place up to a multiple of eight.
const PADDING: usize = 7;

/// How certificates may be signed.
const ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    webpki::ring::RSA_PKCS1_2048_8192_SHA256,
    webpki::ring::RSA_PKCS1_2048_8192_SHA384,
    webpki::ring::RSA_PKCS1_2048_8192_SHA512,
    webpki::ring::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
    webpki::ring::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
    webpki::ring::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    webpki::ring::ECDSA_P256_SHA256,
    webpki::ring::ECDSA_P256_SHA384,
    webpki::ring::ECDSA_P384_SHA256,
    webpki::ring::ECDSA_P384_SHA384,
];

/// Who signed a program.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publisher {
    /// The subject's common name.
    pub name: String,
    /// SHA-256 of the certificate, hex.
    pub certificate: String,
    /// What the timestamp says, seconds since the epoch.
    pub signed_at: i64,
    /// `SHA256`, …
    pub digest_algorithm: String,
}

fn malformed(why: impl ToString) -> VerifyError {
    VerifyError::Malformed(why.to_string())
}

fn untrusted(what: &str, why: impl std::fmt::Display) -> VerifyError {
    VerifyError::Untrusted(format!("{what}: {why}"))
}

/// Who signed `program`, if it was `publisher`, under one of `roots`, at a time that somebody vouches for.
pub fn verify(program: &[u8], publisher: &str, roots: &[CodeRoot]) -> Result<Publisher, VerifyError> {
    let wide = PeFile64::parse(program);
    let narrow = PeFile32::parse(program);
    match (&wide, &narrow) {
        (Ok(file), _) => verify_pe(file, publisher, roots),
        (_, Ok(file)) => verify_pe(file, publisher, roots),
        (Err(error), Err(_)) => Err(malformed(format!("the file is no Windows program: {error}"))),
    }
}

fn verify_pe(file: &dyn PeTrait, publisher: &str, roots: &[CodeRoot]) -> Result<Publisher, VerifyError> {
    let signed = SignedData::read(signature_of(file)?).map_err(malformed)?;
    if signed.content_type != SPC_INDIRECT_DATA_OBJID {
        return Err(malformed("it is no signature over a program"));
    }
    let content = AnyRef::from_der(signed.content).map_err(malformed)?;
    let indirect = SpcIndirectDataContent::from_der(signed.content).map_err(malformed)?;
    let imprint = &indirect.message_digest;
    let mut hash = Hash::of(imprint.digest_algorithm.oid)?;
    authenticode::authenticode_digest(file, &mut hash).map_err(malformed)?;
    let anchors = anchors(roots)?;
    let anchors: Vec<TrustAnchor<'_>> = anchors
        .iter()
        .map(|der| anchor_from_trusted_cert(der).map_err(|error| untrusted("a root of the catalog", error)))
        .collect::<Result<_, _>>()?;
    let signer = signer(&signed, SPC_INDIRECT_DATA_OBJID, content.value())?;
    if hash.finish() != imprint.digest.as_bytes() {
        return Err(VerifyError::BadSignature {
            fingerprint: hex::encode(digest::digest(&digest::SHA256, signer.der).as_ref()),
        });
    }
    let time = timestamp(&signed.signer, &anchors)?;
    chain(&signed, signer.der, FOR_CODE, time, &anchors)
        .map_err(|error| untrusted("the signer's certificate", error))?;
    if signer.name != publisher {
        return Err(VerifyError::OtherPublisher {
            wanted: publisher.to_owned(),
            found: signer.name,
        });
    }
    Ok(Publisher {
        name: signer.name,
        certificate: hex::encode(digest::digest(&digest::SHA256, signer.der).as_ref()),
        signed_at: time,
        digest_algorithm: Hash::name(signed.signer.digest),
    })
}

/// The version that a program's resources tell: VS_FIXEDFILEINFO, product version.
pub fn version(program: &[u8]) -> Option<AgentVersion> {
    const MARK: [u8; 8] = [0xbd, 0x04, 0xef, 0xfe, 0, 0, 1, 0];
    let at = program.windows(MARK.len()).position(|window| window == MARK)?;
    let half = |from: usize| {
        let pair = program.get(at + from..at + from + 2)?;
        Some(u16::from_le_bytes([pair[0], pair[1]]))
    };
    let parts = [half(18)?, half(16)?, half(22)?, half(20)?];
    parts.map(|part| part.to_string()).join(".").parse().ok()
}

/// The one signature at the end of the program. What else a place for signatures may hold could be anything: nobody signed it.
fn signature_of(file: &dyn PeTrait) -> Result<&[u8], VerifyError> {
    let unsigned = || malformed("there is none");
    let mut found = AttributeCertificateIterator::new(file)
        .map_err(malformed)?
        .ok_or_else(unsigned)?;
    let first = found.next().ok_or_else(unsigned)?.map_err(malformed)?;
    if found.next().is_some() {
        return Err(malformed("there is more than one"));
    }
    let table = file.certificate_table_range().map_err(malformed)?;
    if table.is_none_or(|table| table.end != file.data().len()) {
        return Err(malformed("the file goes on behind it"));
    }
    let mut reader = SliceReader::new(first.data).map_err(malformed)?;
    let length = reader.tlv_bytes().map_err(malformed)?.len();
    let (signature, rest) = first
        .data
        .split_at_checked(length)
        .ok_or_else(|| malformed("it is cut short"))?;
    if rest.len() > PADDING || rest.iter().any(|byte| *byte != 0) {
        return Err(malformed("something is hidden behind it"));
    }
    Ok(signature)
}

struct SignerCertificate<'a> {
    der: &'a [u8],
    name: String,
}

/// The signer's certificate, whose key made the signature over the attributes, which name type and digest of the content.
fn signer<'a>(
    signed: &SignedData<'a>,
    content_type: ObjectIdentifier,
    content: &[u8],
) -> Result<SignerCertificate<'a>, VerifyError> {
    let info = &signed.signer;
    let mut hash = Hash::of(info.digest)?;
    hash.0.update(content);
    let told = info.signed(MESSAGE_DIGEST);
    let told = told.and_then(|any| any.decode_as::<OctetStringRef<'_>>().ok());
    if told.is_none_or(|told| told.as_bytes() != hash.finish()) {
        return Err(malformed("it is over another content"));
    }
    let kind = info.signed(CONTENT_TYPE);
    if kind.and_then(|any| any.decode_as::<ObjectIdentifier>().ok()) != Some(content_type) {
        return Err(malformed("it is over content of another type"));
    }
    let is_signer = |der: &&&[u8]| {
        x509_parser::parse_x509_certificate(der).is_ok_and(|(_, one)| {
            one.tbs_certificate.issuer.as_raw() == info.issuer
                && one.tbs_certificate.raw_serial() == info.serial
        })
    };
    let der = signed.certificates.iter().find(is_signer);
    let der = *der.ok_or_else(|| malformed("the signer's certificate is not with it"))?;
    let end_entity = CertificateDer::from(der);
    let end_entity =
        EndEntityCert::try_from(&end_entity).map_err(|error| untrusted("the signer's certificate", error))?;
    let is_good = Hash::algorithms(info.digest).iter().any(|algorithm| {
        end_entity
            .verify_signature(*algorithm, &info.message, info.signature)
            .is_ok()
    });
    if !is_good {
        return Err(VerifyError::BadSignature {
            fingerprint: hex::encode(digest::digest(&digest::SHA256, der).as_ref()),
        });
    }
    Ok(SignerCertificate {
        der,
        name: common_name(der).unwrap_or_default(),
    })
}

fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    Some(name.as_str().ok()?.to_owned())
}

/// Whether the certificate leads to a root, for this purpose, at this time.
fn chain(
    signed: &SignedData<'_>,
    end_entity: &[u8],
    purpose: &'static [u8],
    time: i64,
    anchors: &[TrustAnchor<'_>],
) -> Result<(), String> {
    let others = signed.certificates.iter().filter(|der| **der != end_entity);
    let intermediates: Vec<CertificateDer<'_>> = others.map(|der| CertificateDer::from(*der)).collect();
    let end_entity = CertificateDer::from(end_entity);
    let end_entity = EndEntityCert::try_from(&end_entity).map_err(|error| error.to_string())?;
    let seconds = u64::try_from(time).map_err(|error| error.to_string())?;
    end_entity
        .verify_for_usage(
            ALGORITHMS,
            anchors,
            &intermediates,
            UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            KeyUsage::required(purpose),
            None,
            None,
        )
        .map(drop)
        .map_err(|error| why(&error))
}

/// A verdict in words.
fn why(error: &webpki::Error) -> String {
    match error {
        webpki::Error::CertExpired { .. } => "it had ended by then".to_owned(),
        webpki::Error::CertNotValidYet { .. } => "it had not begun by then".to_owned(),
        webpki::Error::UnknownIssuer | webpki::Error::RequiredEkuNotFoundContext(_) => {
            "it leads to no root of the catalog for this purpose".to_owned()
        }
        other => other.to_string(),
    }
}

/// When the signature was there already, as a timestamp authority says, seconds since the epoch.
fn timestamp(info: &Signer<'_>, anchors: &[TrustAnchor<'_>]) -> Result<i64, VerifyError> {
    let token = info
        .unsigned(TIMESTAMP)
        .ok_or_else(|| untrusted("the time of signing", "nobody vouches for it (RFC 3161)"))?;
    let token = token.to_der().map_err(malformed)?;
    let signed = SignedData::read(&token).map_err(malformed)?;
    if signed.content_type != TIMESTAMP_INFO {
        return Err(malformed("its timestamp is none"));
    }
    let content = OctetStringRef::from_der(signed.content).map_err(malformed)?;
    let told = TimestampInfo::read(content.as_bytes()).map_err(malformed)?;
    let mut hash = Hash::of(told.algorithm)?;
    hash.0.update(info.signature);
    if hash.finish() != told.imprint {
        return Err(malformed("its timestamp is of another signature"));
    }
    let authority = signer(&signed, TIMESTAMP_INFO, content.as_bytes())?;
    chain(&signed, authority.der, FOR_TIME, told.time, anchors)
        .map_err(|error| untrusted("the timestamp's certificate", error))?;
    Ok(told.time)
}

/// TSTInfo of RFC 3161, as far as it is needed.
struct TimestampInfo {
    algorithm: ObjectIdentifier,
    imprint: Vec<u8>,
    time: i64,
}

impl TimestampInfo {
    fn read(bytes: &[u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(bytes)?;
        reader.sequence(|fields| {
            let _version: u8 = fields.decode()?;
            let _policy: ObjectIdentifier = fields.decode()?;
            let (algorithm, imprint) = fields.sequence(|imprint| {
                let algorithm = imprint.sequence(|algorithm| {
                    let oid: ObjectIdentifier = algorithm.decode()?;
                    skip(algorithm)?;
                    Ok(oid)
                })?;
                let digest: OctetStringRef<'_> = imprint.decode()?;
                Ok((algorithm, digest.as_bytes().to_vec()))
            })?;
            let _serial: AnyRef<'_> = fields.decode()?;
            let time: GeneralizedTime = fields.decode()?;
            skip(fields)?;
            let time = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
            Ok(Self {
                algorithm,
                imprint,
                time,
            })
        })
    }
}

fn anchors(roots: &[CodeRoot]) -> Result<Vec<CertificateDer<'static>>, VerifyError> {
    let mut anchors = Vec::new();
    for root in roots {
        let der = root.der();
        if digest::digest(&digest::SHA256, &der).as_ref() != root.sha256 {
            return Err(untrusted(
                &root.id,
                "its certificate is another than the catalog says",
            ));
        }
        anchors.push(CertificateDer::from(der));
    }
    Ok(anchors)
}

/// A digest that nobody can forge: SHA-256 or longer.
struct Hash(digest::Context);

impl Hash {
    fn of(oid: ObjectIdentifier) -> Result<Self, VerifyError> {
        let algorithm = match oid {
            SHA256 => &digest::SHA256,
            SHA384 => &digest::SHA384,
            SHA512 => &digest::SHA512,
            _ => {
                return Err(VerifyError::WeakDigest {
                    algorithm: Self::name(oid),
                });
            }
        };
        Ok(Self(digest::Context::new(algorithm)))
    }

    fn name(oid: ObjectIdentifier) -> String {
        match oid {
            SHA256 => "SHA256".to_owned(),
            SHA384 => "SHA384".to_owned(),
            SHA512 => "SHA512".to_owned(),
            other if other.to_string() == "1.3.14.3.2.26" => "SHA1".to_owned(),
            other => other.to_string(),
        }
    }

    fn finish(self) -> Vec<u8> {
        self.0.finish().as_ref().to_vec()
    }

    /// How a key may sign such a digest.
    fn algorithms(oid: ObjectIdentifier) -> Vec<&'static dyn SignatureVerificationAlgorithm> {
        match oid {
            SHA256 => vec![
                webpki::ring::RSA_PKCS1_2048_8192_SHA256,
                webpki::ring::ECDSA_P256_SHA256,
                webpki::ring::ECDSA_P384_SHA256,
            ],
            SHA384 => vec![
                webpki::ring::RSA_PKCS1_2048_8192_SHA384,
                webpki::ring::ECDSA_P256_SHA384,
                webpki::ring::ECDSA_P384_SHA384,
            ],
            SHA512 => vec![webpki::ring::RSA_PKCS1_2048_8192_SHA512],
            _ => Vec::new(),
        }
    }
}

impl ::digest::Update for Hash {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }
}
