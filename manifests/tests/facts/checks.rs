use ssmbake_manifests::catalog;

#[test]
fn every_check_is_explained_somewhere() {
    for check in catalog().checks() {
        assert!(check.link.starts_with("https://"), "{}: {}", check.id, check.link);
        assert!(
            !check
                .link
                .contains(|sign: char| sign.is_whitespace() || sign == '"'),
            "{}",
            check.id
        );
        assert!(!check.title.is_empty() && !check.why.is_empty(), "{}", check.id);
    }
}

#[test]
fn ids_are_unique_and_in_order() {
    let ids: Vec<&str> = catalog().checks().iter().map(|check| check.id.as_str()).collect();
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
}
