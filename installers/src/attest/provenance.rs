//! An in-toto Statement 1 with SLSA provenance 1: https://slsa.dev/spec/v1.0/provenance

use serde_json::{Value, json};

use super::{Subject, vouched};
use crate::packages::PACKAGE;
use crate::packages::deb::version::upstream;
use crate::probe::Place;

/// What `apply` does, as a kind of build: the package as the receipt has it, the rest of the parameters as the request has them.
pub const BUILD_TYPE: &str = "https://ssmbake.invalid/apply/v1";

pub(super) fn render(subject: &Subject<'_>) -> Value {
    let (os, request) = (&subject.facts.os.value, subject.request);
    let mut materials = Vec::new();
    // What was installed, perhaps by another run than this one: what this one asked for says nothing of it.
    let package = subject.package();
    if let Some(package) = package {
        materials.push(json!({
            "name": PACKAGE,
            "uri": package.url,
            "digest": { "sha256": package.sha256 },
            "annotations": { "vouched-by": vouched(package), "version": package.version },
        }));
    }
    let anchors: Vec<Value> = request
        .extra_anchors
        .iter()
        .map(|anchor| json!({ "name": anchor.label, "digest": { "sha256": anchor.sha256 } }))
        .collect();
    materials.extend(anchors);
    let place = match subject.facts.environment.place.value {
        Place::OfflineRoot => "offline-root",
        Place::Chroot => "chroot",
        Place::Container => "container",
        Place::Live => "live",
    };
    let metadata = match subject.time() {
        Some(time) => json!({ "startedOn": time, "finishedOn": time }),
        None => json!({}),
    };
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{
            "name": format!("{} {} with {PACKAGE}", os.id, subject.facts.arch.value),
            "digest": { "sha256": subject.digest() },
        }],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "system": os.id,
                    "architecture": subject.facts.arch.value,
                    "version": package.map(|package| upstream(&package.version)),
                    "source": package.map(|package| &package.url),
                    "target": request.target,
                    "settings": request.settings.iter().map(|edit| format!("{}.{}={}", edit.section, edit.key, edit.value)).collect::<Vec<_>>(),
                },
                "internalParameters": { "place": place },
                "resolvedDependencies": materials,
            },
            "runDetails": {
                "builder": {
                    "id": "https://ssmbake.invalid/builder",
                    "version": { "ssmbake": subject.receipt.ssmbake },
                },
                "metadata": metadata,
            },
        },
    })
}
