use std::collections::BTreeMap;

use ssmbake_manifests::{SealAction, SealProfile, catalog};

#[test]
fn every_class_has_one_check_and_one_profile() {
    let mut classes = BTreeMap::new();
    for rule in catalog().seal() {
        let seen = classes.entry(&rule.class).or_insert((&rule.id, rule.profile));
        assert_eq!(*seen, (&rule.id, rule.profile), "{}", rule.class);
    }
    let mut ids: Vec<_> = classes.values().map(|(id, _)| id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), classes.len());
}

#[test]
fn rules_are_whole() {
    for rule in catalog().seal() {
        assert!(!rule.why.is_empty() && !rule.paths.is_empty(), "{}", rule.class);
        assert_eq!(
            rule.pattern.is_some(),
            matches!(rule.action, SealAction::DropLines | SealAction::DropSections),
            "{}",
            rule.class
        );
        for path in rule.paths.iter().chain(&rule.unless) {
            assert!(path.starts_with('/') && !path.contains(".."), "{path}");
        }
    }
}

#[test]
fn the_agent_s_identity_goes_with_the_agent_s_profile() {
    let rule = catalog()
        .seal()
        .iter()
        .find(|rule| rule.paths.iter().any(|path| path == "/var/lib/amazon/ssm"))
        .unwrap();
    assert_eq!(
        (rule.profile, rule.action),
        (SealProfile::Agent, SealAction::Empty)
    );
}
