//! A small tree for any system of the catalog, with the package database, service manager and trust store of its kind.

use ssmbake_manifests::{Arch, Os, PackageFormat};

use crate::tree::MiniTree;

/// A tree that `detect` takes for `os` on `arch`.
pub fn tree_of(os: &Os, arch: Arch) -> MiniTree {
    let rule = &os.matches[0];
    let name = rule.names.first().map_or("", String::as_str);
    let (version, arch) = (rule.version.example(), arch.debian_name());
    let tree = match os.package {
        PackageFormat::Rpm => MiniTree::rpm(&rule.id, name, version, arch),
        _ => MiniTree::new(&rule.id, name, version, arch),
    };
    if let Some(marker) = rule.markers.first() {
        tree.put(marker, "x\n");
    }
    tree
}
