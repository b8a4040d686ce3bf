//! A small tree for any system of the catalog, with the package database, service manager and trust store of its kind.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use ssmbake_installers::packages::rpm::database::Backend;
use ssmbake_manifests::{Arch, Family, Os, PackageFormat, TrustStore, catalog};

use crate::tree::MiniTree;

/// A tree that `detect` takes for `os` on `arch`.
pub fn tree_of(os: &Os, arch: Arch) -> MiniTree {
    let rule = &os.matches[0];
    let name = rule.names.first().map_or("", String::as_str);
    let (version, arch) = (rule.version.example(), arch.debian_name());
    let tree = match os.package {
        PackageFormat::Rpm => MiniTree::rpm_with(&rule.id, name, version, arch, backend(os)),
        _ => MiniTree::new(&rule.id, name, version, arch),
    };
    if let Some(marker) = rule.markers.first() {
        tree.put(marker, "x\n");
    }
    match os.trust {
        TrustStore::P11Kit => p11kit(&tree),
        TrustStore::El6 => el6(&tree),
        TrustStore::Suse => suse(&tree),
        TrustStore::Debian | TrustStore::Registry => {}
    }
    tree
}

/// The form of rpm's database that the release has.
fn backend(os: &Os) -> Backend {
    let (name, version) = os.id.rsplit_once('-').unwrap_or((&os.id, ""));
    let version: u32 = version.parse().unwrap_or(u32::MAX);
    match (os.family, name) {
        (Family::Suse, _) if version > 12 => Backend::Ndb,
        (Family::Suse, _) => Backend::Bdb,
        (_, "amazon-linux") if version < 2023 => Backend::Bdb,
        (Family::Rhel, _) if version < 9 => Backend::Bdb,
        _ => Backend::Sqlite,
    }
}

/// A certificate that every store holds already: Starfield Class 2.
fn there_already() -> (String, String) {
    let anchor = catalog()
        .anchors()
        .iter()
        .find(|anchor| anchor.id.contains("class-2"))
        .expect("anchor");
    let certificate = ssmbake_installers::trust::x509::Certificate::from_der(anchor.der());
    let pem = certificate.to_pem();
    (format!("# {}\n{pem}", certificate.label()), pem)
}

fn link(tree: &MiniTree, target: &str, path: &str) {
    let place = tree.path().join(path);
    fs::create_dir_all(place.parent().expect("parent")).expect("directory");
    if place.is_dir() {
        fs::remove_dir(&place).expect("empty directory");
    }
    symlink(target, place).expect("link");
}

fn mode(tree: &MiniTree, path: &str, mode: u32) {
    fs::set_permissions(tree.path().join(path), fs::Permissions::from_mode(mode)).expect("mode");
}

fn dir(tree: &MiniTree, path: &str) {
    fs::create_dir_all(tree.path().join(path)).expect("directory");
}

/// As `update-ca-trust` leaves it on EL 9: absolute links, extracts that nobody may write.
pub fn p11kit(tree: &MiniTree) {
    let (bundle, pem) = there_already();
    dir(tree, "etc/pki/ca-trust/source/anchors");
    dir(tree, "etc/pki/ca-trust/source/blocklist");
    tree.put("usr/share/pki/ca-trust-source/anchors/class-2.pem", &pem);
    let extracted = "etc/pki/ca-trust/extracted";
    for name in [
        "pem/tls-ca-bundle.pem",
        "pem/email-ca-bundle.pem",
        "pem/objsign-ca-bundle.pem",
    ] {
        tree.put(&format!("{extracted}/{name}"), &bundle);
        mode(tree, &format!("{extracted}/{name}"), 0o444);
    }
    for name in ["java/cacerts", "openssl/ca-bundle.trust.crt", "edk2/cacerts.bin"] {
        tree.put(&format!("{extracted}/{name}"), "of others");
    }
    let hashed = format!("{extracted}/pem/directory-hash");
    let label = "Starfield_Class_2_Certification_Authority.pem";
    tree.put(&format!("{hashed}/{label}"), &pem);
    mode(tree, &format!("{hashed}/{label}"), 0o444);
    for hash in ["f387163d.0", "23f4c490.0"] {
        link(tree, label, &format!("{hashed}/{hash}"));
    }
    mode(tree, &hashed, 0o555);
    link(
        tree,
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "etc/pki/tls/certs/ca-bundle.crt",
    );
    link(
        tree,
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "etc/pki/tls/cert.pem",
    );
    link(tree, "../pki/tls/certs", "etc/ssl/certs");
}

/// EL 6 before anybody enabled `update-ca-trust`.
pub fn el6(tree: &MiniTree) {
    tree.put("etc/pki/tls/certs/ca-bundle.crt", &there_already().0);
    dir(tree, "etc/pki/ca-trust/source/anchors");
    link(tree, "certs/ca-bundle.crt", "etc/pki/tls/cert.pem");
    link(tree, "../pki/tls/certs", "etc/ssl/certs");
}

/// SLES 15.
pub fn suse(tree: &MiniTree) {
    let (bundle, pem) = there_already();
    dir(tree, "etc/pki/trust/anchors");
    tree.put("usr/share/pki/trust/anchors/class-2.pem", &pem);
    tree.put("var/lib/ca-certificates/ca-bundle.pem", &bundle);
    mode(tree, "var/lib/ca-certificates/ca-bundle.pem", 0o444);
    tree.put("var/lib/ca-certificates/java-cacerts", "of others");
    dir(tree, "var/lib/ca-certificates/pem");
    mode(tree, "var/lib/ca-certificates/pem", 0o555);
    link(
        tree,
        "../../var/lib/ca-certificates/ca-bundle.pem",
        "etc/ssl/ca-bundle.pem",
    );
    link(tree, "../../var/lib/ca-certificates/pem", "etc/ssl/certs");
}
