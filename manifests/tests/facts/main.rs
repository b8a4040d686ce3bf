//! Every embedded fact: it parses, it is consistent, and the figures that matter are those typed here a second time.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; clippy.toml's exemption covers the test functions only"
)]

mod agent;
mod authenticode;
mod checks;
mod config_keys;
mod keys;
mod os;
mod regions;
mod seal;
mod trust;

/// Hexadecimal digits, lower-case.
fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_manifest_parses() {
    let catalog = ssmbake_manifests::catalog();
    assert_eq!(catalog.oses().len(), 68);
    assert!(!catalog.regions().all().is_empty());
    assert!(!catalog.agent().advisories.is_empty());
    assert_eq!(catalog.anchors().len(), 6);
    assert_eq!(catalog.signing_keys().len(), 5);
    assert!(!catalog.config_keys().is_empty());
    assert!(!catalog.seal().is_empty());
}
