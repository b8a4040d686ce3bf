//! CycloneDX 1.6, JSON: https://cyclonedx.org/docs/1.6/json/

use serde_json::{Value, json};

use super::{Subject, vouched};
use crate::packages::PACKAGE;

pub(super) fn render(subject: &Subject<'_>) -> Value {
    let os = &subject.facts.os.value;
    let mut components: Vec<Value> = Vec::new();
    let mut depends = Vec::new();
    if let Some(package) = subject.package() {
        let purl = subject.purl(package);
        depends.push(purl.clone());
        components.push(json!({
            "type": "application",
            "bom-ref": purl,
            "supplier": { "name": "Amazon Web Services" },
            "name": PACKAGE,
            "version": package.version,
            "hashes": [{ "alg": "SHA-256", "content": package.sha256 }],
            "licenses": [{ "license": { "id": "Apache-2.0" } }],
            "purl": purl,
            "externalReferences": [{ "type": "distribution", "url": package.url }],
            "properties": [{ "name": "ssmbake:vouched-by", "value": vouched(package) }],
        }));
    }
    for (path, sha256) in subject.files() {
        components.push(json!({
            "type": "file",
            "bom-ref": format!("file:{path}"),
            "name": path,
            "hashes": [{ "alg": "SHA-256", "content": sha256 }],
        }));
    }
    let root = format!("{}-{}", os.id, subject.facts.arch.value);
    let mut document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": format!("urn:uuid:{}", subject.uuid()),
        "version": 1,
        "metadata": {
            "tools": { "components": [{
                "type": "application",
                "name": "ssmbake",
                "version": subject.receipt.ssmbake,
            }] },
            "component": {
                "type": "operating-system",
                "bom-ref": root,
                "name": os.name,
                "version": os.version,
                "properties": [{ "name": "ssmbake:placed-sha256", "value": subject.digest() }],
            },
        },
        "components": components,
        "dependencies": [{ "ref": root, "dependsOn": depends }],
    });
    if let Some(time) = subject.time() {
        document["metadata"]["timestamp"] = time.into();
    }
    document
}
