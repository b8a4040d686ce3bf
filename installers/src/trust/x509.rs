//! Certificates as trust stores see them: PEM blocks, DER digests, OpenSSL subject hashes.

use md5::Md5;
use sha1::{Digest, Sha1};
use x509_parser::asn1_rs::{Any, Class, Header, Tag, ToDer};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::digest::sha256_hex;

/// One certificate, DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
}

/// Why bytes are no certificate that may become a trust anchor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Neither PEM nor DER, or damaged.
    #[error("it holds no readable X.509 certificate")]
    Unreadable,
    /// An end-entity certificate.
    #[error("`{0}` is not a CA certificate")]
    NotCa(String),
    /// A key got into the file.
    #[error("it holds a private key")]
    PrivateKey,
}

impl Certificate {
    /// All certificates of a CA file, PEM (one or several) or DER.
    pub fn read_ca_file(bytes: &[u8]) -> Result<Vec<Self>, CertificateError> {
        if bytes.windows(12).any(|window| window == b"PRIVATE KEY-") {
            return Err(CertificateError::PrivateKey);
        }
        let is_pem = bytes.windows(11).any(|window| window == b"-----BEGIN ");
        let found = if is_pem {
            pem_blocks(bytes)
        } else {
            vec![Self { der: bytes.to_vec() }]
        };
        if found.is_empty() {
            return Err(CertificateError::Unreadable);
        }
        for certificate in &found {
            certificate.check_ca()?;
        }
        Ok(found)
    }

    /// From the embedded catalog, which is tested.
    pub fn from_der(der: Vec<u8>) -> Self {
        Self { der }
    }

    /// The DER bytes.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of the DER, hex: the identity by which stores are compared.
    pub fn sha256(&self) -> String {
        sha256_hex(&self.der)
    }

    /// When it expires, seconds since the epoch; none where it cannot be read.
    pub fn not_after(&self) -> Option<i64> {
        let (_, certificate) = X509Certificate::from_der(&self.der).ok()?;
        Some(certificate.validity().not_after.timestamp())
    }

    /// PEM with 64-column lines, as every trust store writes it.
    pub fn to_pem(&self) -> String {
        let text = base64(&self.der);
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        for line in text.as_bytes().chunks(64) {
            pem.push_str(&String::from_utf8_lossy(line));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }

    /// The subject's common name, else its organisational unit, else its organisation.
    pub fn label(&self) -> String {
        let Ok((_, certificate)) = X509Certificate::from_der(&self.der) else {
            return String::new();
        };
        let subject = certificate.subject();
        let first = subject.iter_common_name().next();
        let first = first.or_else(|| subject.iter_organizational_unit().next());
        let first = first.or_else(|| subject.iter_organization().next());
        first
            .and_then(|value| value.as_str().ok())
            .unwrap_or("")
            .to_owned()
    }

    /// OpenSSL's `X509_NAME_hash` since 1.0.0, eight hex digits; none when the subject cannot be read.
    pub fn subject_hash(&self) -> Option<String> {
        let (_, certificate) = X509Certificate::from_der(&self.der).ok()?;
        let mut canonical = Vec::new();
        for rdn in certificate.subject().iter_rdn() {
            let mut attributes = Vec::new();
            for attribute in rdn.iter() {
                let oid = attribute.attr_type().to_der_vec().ok()?;
                let value = canonical_value(attribute.attr_value())?;
                attributes.push(der(Tag::Sequence, true, [oid, value].concat())?);
            }
            attributes.sort();
            canonical.extend(der(Tag::Set, true, attributes.concat())?);
        }
        let digest: [u8; 20] = Sha1::digest(&canonical).into();
        Some(format!(
            "{:08x}",
            u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
        ))
    }

    /// The hash of OpenSSL 0.9.8: over the subject as it stands.
    pub fn old_subject_hash(&self) -> Option<String> {
        let (_, certificate) = X509Certificate::from_der(&self.der).ok()?;
        let digest: [u8; 16] = Md5::digest(certificate.subject().as_raw()).into();
        Some(format!(
            "{:08x}",
            u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
        ))
    }

    fn check_ca(&self) -> Result<(), CertificateError> {
        let Ok((rest, certificate)) = X509Certificate::from_der(&self.der) else {
            return Err(CertificateError::Unreadable);
        };
        if !rest.is_empty() {
            return Err(CertificateError::Unreadable);
        }
        // Version 1 roots have no extensions at all, and are roots when they signed themselves.
        let is_ca = match certificate.basic_constraints() {
            Ok(Some(constraints)) => constraints.value.ca,
            Ok(None) => certificate.issuer() == certificate.subject(),
            Err(_) => false,
        };
        if is_ca {
            Ok(())
        } else {
            Err(CertificateError::NotCa(self.label()))
        }
    }
}

/// The certificates of a PEM bundle, whatever stands between them. Damaged blocks are passed over, as OpenSSL and Go
/// do.
pub fn pem_blocks(bytes: &[u8]) -> Vec<Certificate> {
    let blocks = Pem::iter_from_buffer(bytes).filter_map(Result::ok);
    let certificates = blocks.filter(|pem| pem.label == "CERTIFICATE" || pem.label == "X509 CERTIFICATE");
    certificates
        .map(|pem| Certificate { der: pem.contents })
        .collect()
}

fn der(tag: Tag, constructed: bool, content: Vec<u8>) -> Option<Vec<u8>> {
    let length = x509_parser::asn1_rs::Length::Definite(content.len());
    let header = Header::new(Class::Universal, constructed, tag, length);
    let mut bytes = header.to_der_vec().ok()?;
    bytes.extend(content);
    Some(bytes)
}

/// String types become lower-case, blank-collapsed UTF8String; other types stay as they are.
fn canonical_value(value: &Any<'_>) -> Option<Vec<u8>> {
    let text = match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::VisibleString => {
            String::from_utf8_lossy(value.data).into_owned()
        }
        Tag::T61String => value.data.iter().map(|byte| char::from(*byte)).collect(),
        Tag::BmpString => {
            let units: Vec<u16> = value
                .data
                .chunks_exact(2)
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                .collect();
            String::from_utf16_lossy(&units)
        }
        Tag::UniversalString => {
            let quads = value
                .data
                .chunks_exact(4)
                .map(|quad| u32::from_be_bytes([quad[0], quad[1], quad[2], quad[3]]));
            quads
                .map(|code| char::from_u32(code).unwrap_or('\u{fffd}'))
                .collect()
        }
        _ => return value.to_der_vec().ok(),
    };
    let is_blank = |sign: char| matches!(sign, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c');
    let words: Vec<&str> = text.split(is_blank).filter(|word| !word.is_empty()).collect();
    der(
        Tag::Utf8String,
        false,
        words.join(" ").to_ascii_lowercase().into_bytes(),
    )
}

fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for position in 0..4 {
            let sign = SIGNS[(word >> (18 - 6 * position)) as usize & 63];
            text.push(if position > chunk.len() {
                '='
            } else {
                char::from(sign)
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_and_pem_of_the_catalog_are_reproduced() {
        for anchor in ssmbake_manifests::catalog().anchors() {
            let certificate = Certificate::from_der(anchor.der());
            assert_eq!(
                certificate.subject_hash().as_deref(),
                Some(anchor.subject_hash.as_str()),
                "{}",
                anchor.id
            );
            assert_eq!(
                certificate.sha256(),
                ssmbake_manifests::hex::encode(&anchor.sha256),
                "{}",
                anchor.id
            );
            assert_eq!(
                pem_blocks(certificate.to_pem().as_bytes()),
                std::slice::from_ref(&certificate)
            );
            assert_eq!(
                Certificate::read_ca_file(certificate.to_pem().as_bytes()),
                Ok(vec![certificate.clone()])
            );
            assert_eq!(
                Certificate::read_ca_file(certificate.der()),
                Ok(vec![certificate])
            );
        }
    }

    #[test]
    fn refuses_what_is_no_anchor() {
        let key = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert_eq!(Certificate::read_ca_file(key), Err(CertificateError::PrivateKey));
        for junk in [
            b"".as_slice(),
            b"hello",
            b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n",
        ] {
            assert_eq!(Certificate::read_ca_file(junk), Err(CertificateError::Unreadable));
        }
        let key = rcgen::KeyPair::generate().expect("key");
        let leaf = rcgen::CertificateParams::new(vec!["leaf".to_owned()]).expect("params");
        let mut leaf_params = leaf;
        leaf_params.is_ca = rcgen::IsCa::ExplicitNoCa;
        let leaf = leaf_params.self_signed(&key).expect("cert");
        assert!(matches!(
            Certificate::read_ca_file(leaf.pem().as_bytes()),
            Err(CertificateError::NotCa(_))
        ));
    }
}
