//! Signing keys.

use sha1::{Digest, Sha1};
use ssmbake_manifests::catalog;

#[test]
fn a_fingerprint_is_that_of_its_figures() {
    for key in catalog().signing_keys() {
        let body = key.public_key_packet_body();
        let mut packet = vec![0x99];
        packet.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
        packet.extend_from_slice(&body);
        assert_eq!(Sha1::digest(&packet)[..], key.fingerprint);
        assert_eq!(key.modulus.len() * 8, key.bits as usize);
        assert!(
            key.modulus[0] & 0x80 != 0,
            "a shorter modulus than its length says"
        );
    }
}

#[test]
fn fingerprints_and_windows() {
    let found: Vec<(String, i64, i64)> = catalog()
        .signing_keys()
        .iter()
        .map(|key| (key.fingerprint_hex(), key.created, key.not_after))
        .collect();
    let expected = [
        (
            "8108A07A9EBE248E3F1C63F254F4F56E693ECA21",
            1_602_004_838,
            1_648_574_438,
        ),
        (
            "2BC7C7C267BBD505EAA491E6DD81A61756BAA549",
            1_647_384_575,
            1_693_954_175,
        ),
        (
            "DE92C7DA3E56E92331D62A36BC1F495C97DD04ED",
            1_693_262_466,
            1_739_832_066,
        ),
        (
            "4855A9E6833216D6A77D8FE451A8E050D0052E5D",
            1_737_569_966,
            1_784_139_566,
        ),
        (
            "1C5B395CBE5E74E2F1CA21592784DBF388D19D46",
            1_780_581_487,
            1_827_151_087,
        ),
    ]
    .map(|(fingerprint, created, not_after)| (fingerprint.to_owned(), created, not_after));
    assert_eq!(found, expected);
}

/// Consecutive windows overlap, so that there is no instant without a key to sign with.
#[test]
fn windows_follow_each_other() {
    for pair in catalog().signing_keys().windows(2) {
        assert!(pair[0].created < pair[1].created && pair[1].created < pair[0].not_after);
    }
    for key in catalog().signing_keys() {
        assert!(key.created < key.not_after && u32::try_from(key.created).is_ok());
    }
}
