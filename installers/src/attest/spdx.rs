//! SPDX 2.3, JSON: https://spdx.github.io/spdx-spec/v2.3/

use serde_json::{Value, json};

use super::{Subject, vouched};
use crate::error::IoError;
use crate::packages::PACKAGE;
use crate::receipt::PackageReceipt;
use crate::supply::lockfile::instant;

const IMAGE: &str = "SPDXRef-image";
const AGENT: &str = "SPDXRef-agent";

pub(super) fn render(
    subject: &Subject<'_>,
    sha1: &dyn Fn(&str) -> Result<Option<String>, IoError>,
) -> Result<Value, IoError> {
    let os = &subject.facts.os.value;
    // SPDX wants one of every document.
    let created = subject.time().unwrap_or_else(|| instant(0));
    let mut packages = vec![image(subject)];
    let relation = |from: &str, kind: &str, to: &str| json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to });
    let mut relations = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", IMAGE)];
    if let Some(package) = subject.package() {
        packages.push(agent(subject, package));
        relations.push(relation(IMAGE, "CONTAINS", AGENT));
    }
    let mut files = Vec::new();
    for (number, (path, sha256)) in subject.files().enumerate() {
        let id = format!("SPDXRef-file-{number}");
        // SPDX wants it of every file; one that is gone since is no file of the image.
        let Some(sha1) = sha1(path)? else { continue };
        files.push(json!({
            "SPDXID": id,
            "fileName": format!(".{path}"),
            "checksums": [
                { "algorithm": "SHA1", "checksumValue": sha1 },
                { "algorithm": "SHA256", "checksumValue": sha256 },
            ],
            "licenseConcluded": "NOASSERTION",
            "licenseInfoInFiles": ["NOASSERTION"],
            "copyrightText": "NOASSERTION",
        }));
        relations.push(relation("SPDXRef-DOCUMENT", "DESCRIBES", &id));
    }
    Ok(json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("{PACKAGE} in {} ({})", os.name, subject.facts.arch.value),
        "documentNamespace": format!("https://ssmbake.invalid/spdx/{}", subject.uuid()),
        "creationInfo": {
            "created": created,
            "creators": [format!("Tool: ssmbake-{}", subject.receipt.ssmbake)],
        },
        "packages": packages,
        "files": files,
        "relationships": relations,
    }))
}

fn image(subject: &Subject<'_>) -> Value {
    let os = &subject.facts.os.value;
    json!({
        "SPDXID": IMAGE,
        "name": os.name,
        "versionInfo": os.version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "primaryPackagePurpose": "OPERATING_SYSTEM",
    })
}

fn agent(subject: &Subject<'_>, package: &PackageReceipt) -> Value {
    json!({
        "SPDXID": AGENT,
        "name": PACKAGE,
        "versionInfo": package.version,
        "supplier": "Organization: Amazon Web Services",
        "downloadLocation": location(&package.url),
        "filesAnalyzed": false,
        "checksums": [{ "algorithm": "SHA256", "checksumValue": package.sha256 }],
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "Apache-2.0",
        "copyrightText": "NOASSERTION",
        "comment": format!("vouched for by {}", vouched(package)),
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": subject.purl(package),
        }],
    })
}

/// A bundle is no place that others can download from.
fn location(url: &str) -> &str {
    if url.starts_with("http") {
        url
    } else {
        "NOASSERTION"
    }
}
