//! Which packages a set of systems and architectures needs: many systems share one.

use std::collections::BTreeMap;

use ssmbake_manifests::{AgentVersion, Arch, Os, PackageFormat};

/// One package and the systems that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The version: the one asked for, or the last that runs there.
    pub version: AgentVersion,
    /// The bucket's folder.
    pub folder: String,
    /// The package's format.
    pub format: PackageFormat,
    /// Its architecture.
    pub arch: Arch,
    /// Ids of the catalog's, in order.
    pub systems: Vec<String>,
}

/// The packages of `version` for each of `oses` on each of `archs` that it has, ordered by folder and version.
pub fn select(oses: &[&Os], archs: &[Arch], version: AgentVersion) -> Vec<Target> {
    let mut targets: BTreeMap<(String, AgentVersion), Target> = BTreeMap::new();
    for os in oses {
        for arch in archs {
            let Some(folder) = os.package_folder(*arch) else {
                continue;
            };
            let version = os.agent_max.map_or(version, |max| max.min(version));
            let target = targets
                .entry((folder.to_owned(), version))
                .or_insert_with(|| Target {
                    version,
                    folder: folder.to_owned(),
                    format: os.package,
                    arch: *arch,
                    systems: Vec::new(),
                });
            target.systems.push(os.id.clone());
        }
    }
    let mut targets: Vec<Target> = targets.into_values().collect();
    for target in &mut targets {
        target.systems.sort();
        target.systems.dedup();
    }
    targets
}
