//! TLS roots.

use sha1::Sha1;
use sha2::{Digest, Sha256};
use ssmbake_manifests::{AnchorSet, catalog};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::hex;

const EXPECTED: [(&str, &str, &str, &str); 6] = [
    (
        "amazon-root-ca-1",
        "8ecde6884f3d87b1125ba31ac3fcb13d7016de7f57cc904fe1cb97c6ae98196e",
        "ce5e74ef",
        "fd08c599",
    ),
    (
        "amazon-root-ca-2",
        "1ba5b2aa8c65401a82960118f80bec4f62304d83cec4713a19c39c011ea46db4",
        "6d41d539",
        "fb5fa911",
    ),
    (
        "amazon-root-ca-3",
        "18ce6cfe7bf14e60b2e347b8dfe868cb31d02ebb3ada271569f50343b46db3a4",
        "8cb5ee0f",
        "7a7c655d",
    ),
    (
        "amazon-root-ca-4",
        "e35d28419ed02025cfa69038cd623962458da5c695fbdea3c22b0bfb25897092",
        "de6d66f3",
        "d41b5e2a",
    ),
    (
        "starfield-services-root-ca-g2",
        "568d6905a2c88708a4b3025190edcfedb1974a606a13c6e5290fcb2ae63edab5",
        "09789157",
        "10531352",
    ),
    (
        "starfield-class-2-ca",
        "1465fa205397b876faa6f0a9958e5590e40fcc7faa4fb7c2c8677521fb5fb658",
        "f387163d",
        "23f4c490",
    ),
];

#[test]
fn the_six_are_these() {
    let found: Vec<_> = catalog()
        .anchors()
        .iter()
        .map(|a| {
            (
                a.id.clone(),
                hex(Sha256::digest(a.der())),
                a.subject_hash.clone(),
                a.subject_hash_old.clone(),
            )
        })
        .collect();
    let expected = EXPECTED.map(|(id, sha256, new, old)| (id.into(), sha256.into(), new.into(), old.into()));
    assert_eq!(found, expected);
}

#[test]
fn figures_are_those_of_the_certificate() {
    for anchor in catalog().anchors() {
        let der = anchor.der();
        assert_eq!(Sha256::digest(&der)[..], anchor.sha256, "{}", anchor.id);
        assert_eq!(Sha1::digest(&der)[..], anchor.sha1, "{}", anchor.id);
        let (rest, certificate) = X509Certificate::from_der(&der).unwrap();
        assert!(rest.is_empty());
        assert_eq!(
            Sha256::digest(certificate.public_key().raw)[..],
            anchor.spki_sha256,
            "{}",
            anchor.id
        );
        assert_eq!(certificate.issuer().as_raw(), certificate.subject().as_raw());
        assert_eq!(hex(certificate.raw_serial()), anchor.serial);
        let subject = certificate.subject();
        let name = subject
            .iter_common_name()
            .chain(subject.iter_organizational_unit())
            .next()
            .unwrap();
        assert_eq!(name.as_str().unwrap(), anchor.name);
        assert_eq!(
            instant(certificate.validity().not_before.timestamp()),
            anchor.not_before
        );
        assert_eq!(
            instant(certificate.validity().not_after.timestamp()),
            anchor.not_after
        );
        assert_eq!(subject_hash(&certificate), anchor.subject_hash, "{}", anchor.id);
    }
}

fn instant(seconds: i64) -> String {
    let time = x509_parser::time::ASN1Time::from_timestamp(seconds)
        .unwrap()
        .to_datetime();
    let (date, clock) = (time.date(), time.time());
    format!(
        "{date}T{:02}:{:02}:{:02}Z",
        clock.hour(),
        clock.minute(),
        clock.second()
    )
}

/// OpenSSL's X509_NAME_hash. All six subjects are ASCII in one-attribute RDNs below 128 bytes, which saves the general
/// encoder: a value becomes a UTF8String, lower-case, blanks collapsed.
fn subject_hash(certificate: &X509Certificate<'_>) -> String {
    let mut canonical = Vec::new();
    for attribute in certificate.subject().iter_attributes() {
        let value = attribute
            .as_str()
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .to_ascii_lowercase();
        let mut pair = tlv(0x06, attribute.attr_type().as_bytes());
        pair.extend(tlv(0x0c, value.as_bytes()));
        canonical.extend(tlv(0x31, &tlv(0x30, &pair)));
    }
    let mut first: [u8; 4] = Sha1::digest(&canonical)[..4].try_into().unwrap();
    first.reverse();
    hex(first)
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    assert!(content.len() < 128);
    [&[tag, content.len() as u8], content].concat()
}

#[test]
fn pem_can_be_appended_to_a_bundle() {
    for anchor in catalog().anchors() {
        assert!(
            anchor.pem.starts_with("-----BEGIN CERTIFICATE-----\n"),
            "{}",
            anchor.id
        );
        assert!(
            anchor.pem.ends_with("\n-----END CERTIFICATE-----\n"),
            "{}",
            anchor.id
        );
        assert_eq!(
            anchor.pem.matches("BEGIN").count(),
            1,
            "update-ca-certificates takes one certificate a file"
        );
        assert!(
            anchor.pem.lines().all(|line| line.len() <= 64) && !anchor.pem.contains('\r'),
            "{}",
            anchor.id
        );
    }
}

#[test]
fn only_the_distrusted_one_is_legacy() {
    let legacy: Vec<&str> = catalog()
        .anchors()
        .iter()
        .filter(|a| a.set == AnchorSet::Legacy)
        .map(|a| a.id.as_str())
        .collect();
    assert_eq!(legacy, ["starfield-class-2-ca"]);
}

#[test]
fn debian_file_stems() {
    let stems: Vec<&str> = catalog()
        .anchors()
        .iter()
        .map(|anchor| anchor.file_stem.as_str())
        .collect();
    assert_eq!(stems[0], "Amazon_Root_CA_1");
    assert_eq!(
        stems[4..],
        [
            "Starfield_Services_Root_Certificate_Authority_-_G2",
            "Starfield_Class_2_CA"
        ]
    );
}
