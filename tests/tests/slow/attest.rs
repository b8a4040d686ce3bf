//! Bills of materials and provenance, judged by the validators of their own projects. Needs what scripts/setup installs.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use ssmbake_tests::mirror::Mirror;
use ssmbake_tests::tree::MiniTree;
use ssmbake_tests::world::{V1, apply, deb, mirror, world};
use ssmbake_tests::{must, sha256, tool};

/// Applies to `tree`, and the three documents.
fn documents(tree: &Path, mirror: &Mirror, dir: &Path, epoch: Option<&str>) -> [Value; 3] {
    let names = ["image.cdx.json", "image.spdx.json", "image.slsa.json"];
    let mut command = apply(tree, mirror, V1);
    command.arg("--sbom").arg(dir.join(names[0]));
    command.arg("--sbom").arg(dir.join(names[1]));
    command.arg("--provenance").arg(dir.join(names[2]));
    if let Some(epoch) = epoch {
        command.env("SOURCE_DATE_EPOCH", epoch);
    }
    must(&mut command);
    names.map(|name| serde_json::from_slice(&fs::read(dir.join(name)).expect("document")).expect("JSON"))
}

fn python(program: &str, file: &Path) {
    must(Command::new(tool("python")).args(["-c", program]).arg(file));
}

#[test]
fn their_own_validators_accept_them() {
    let (tree, dir) = (MiniTree::debian(), tempfile::tempdir().expect("directory"));
    let [cyclonedx, spdx, statement] = documents(tree.path(), &mirror(), dir.path(), None);
    python(
        "import sys\n\
         from cyclonedx.validation.json import JsonStrictValidator\n\
         from cyclonedx.schema import SchemaVersion\n\
         found = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())\n\
         assert found is None, found",
        &dir.path().join("image.cdx.json"),
    );
    // lib4sbom carries the schema as SPDX publishes it.
    python(
        "import json, pathlib, sys\n\
         import jsonschema, lib4sbom\n\
         schema = pathlib.Path(lib4sbom.__file__).parent / 'schemas/spdx/2.3-schema.json'\n\
         schema = json.loads(schema.read_text())\n\
         assert schema['title'] == 'SPDX 2.3'\n\
         document = json.load(open(sys.argv[1]))\n\
         jsonschema.validate(document, schema, format_checker=jsonschema.FormatChecker())\n\
         del document['files'][0]['checksums']\n\
         document['packages'][0]['downloadLocation'] = 1\n\
         assert not jsonschema.Draft7Validator(schema).is_valid(document)",
        &dir.path().join("image.spdx.json"),
    );
    // The validator takes no host without a dot.
    let server = dir.path().join("image.spdx.json");
    let text = fs::read_to_string(&server).expect("document");
    fs::write(
        &server,
        text.replace("http://localhost:", "http://server.example:"),
    )
    .expect("document");
    python(
        "import sys\n\
         from spdx_tools.spdx.parser.parse_anything import parse_file\n\
         from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document\n\
         found = validate_full_spdx_document(parse_file(sys.argv[1]))\n\
         assert not found, found",
        &dir.path().join("image.spdx.json"),
    );
    // What Packer's hcp-sbom looks at before it uploads one.
    assert_eq!(
        (&cyclonedx["bomFormat"], &cyclonedx["specVersion"]),
        (&"CycloneDX".into(), &"1.6".into())
    );
    assert_eq!(
        (&spdx["spdxVersion"], &spdx["SPDXID"]),
        (&"SPDX-2.3".into(), &"SPDXRef-DOCUMENT".into())
    );

    // What was placed, whence, by which key, and into what.
    let package = fs::read(deb(V1)).expect("package");
    let (digest, key) = (sha256(&package), world().signer.fingerprint());
    for document in [&cyclonedx, &spdx, &statement] {
        let text = document.to_string();
        for part in [
            digest.as_str(),
            &key,
            "amazon-ssm-agent",
            "/3.3.1957.0/debian_amd64/amazon-ssm-agent.deb",
        ] {
            assert!(text.contains(part), "{part}: {document:#}");
        }
    }
    let agent = &cyclonedx["components"][0];
    assert_eq!(
        agent["purl"],
        "pkg:deb/debian/amazon-ssm-agent@3.3.1957.0-1?arch=amd64"
    );
    let program = fs::read(tree.path().join("usr/bin/amazon-ssm-agent")).expect("program");
    let components = cyclonedx["components"].as_array().expect("components");
    let listed = components
        .iter()
        .find(|one| one["name"] == "/usr/bin/amazon-ssm-agent");
    assert_eq!(listed.expect("file")["hashes"][0]["content"], sha256(&program));
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    let placed = &statement["subject"][0]["digest"]["sha256"];
    assert_eq!(
        &cyclonedx["metadata"]["component"]["properties"][0]["value"],
        placed
    );
    assert_eq!(
        statement["predicate"]["buildDefinition"]["externalParameters"]["version"],
        V1
    );
}

#[test]
fn the_same_tree_gives_the_same_documents() {
    let (one, dir) = (MiniTree::debian(), tempfile::tempdir().expect("directory"));
    let other = one.copy();
    let server = mirror();
    let mut first = documents(one.path(), &server, dir.path(), Some("1700000000"));
    let again = documents(one.path(), &server, dir.path(), Some("1700000000"));
    assert_eq!(first, again);
    let second = documents(other.path(), &server, dir.path(), Some("1700000000"));
    assert_eq!(first, second);
    assert_eq!(first[0]["metadata"]["timestamp"], "2023-11-14T22:13:20Z");
    // Another file, another digest.
    let text = first[2]["subject"][0]["digest"]["sha256"].take();
    let third = MiniTree::debian();
    let mut command = apply(third.path(), &mirror(), V1);
    command.args(["--set", "Agent.SelfUpdate=true", "--provenance"]);
    must(command.arg(dir.path().join("third")));
    let third: Value =
        serde_json::from_slice(&fs::read(dir.path().join("third")).expect("file")).expect("JSON");
    assert_ne!(third["subject"][0]["digest"]["sha256"], text);
}
