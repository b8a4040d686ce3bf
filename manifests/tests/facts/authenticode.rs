use sha2::{Digest, Sha256};
use ssmbake_manifests::catalog;

#[test]
fn roots_for_programs_are_what_they_say() {
    let roots = catalog().code_roots();
    assert!(roots.len() >= 3);
    for root in roots {
        let der = root.der();
        assert_eq!(Sha256::digest(&der)[..], root.sha256, "{}", root.id);
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).expect("certificate");
        let name = certificate.subject().iter_common_name().next().expect("name");
        assert_eq!(name.as_str().expect("text"), root.name);
        assert!(certificate.is_ca(), "{}", root.id);
    }
}

#[test]
fn a_document_of_the_catalog_reads_as_the_catalog() {
    let document = catalog().own_document();
    let read = ssmbake_manifests::Document::parse(document.render().as_bytes()).expect("document");
    assert_eq!(read, document);
    let other = ssmbake_manifests::Catalog::of(read).expect("catalog");
    assert_eq!(other.oses(), catalog().oses());
    assert_eq!(other.signing_keys(), catalog().signing_keys());
    assert_eq!(other.anchors(), catalog().anchors());
    assert_eq!(other.checks(), catalog().checks());
}
