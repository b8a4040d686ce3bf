//! Keys of the agent's configuration.

use std::collections::BTreeSet;

use ssmbake_manifests::{ConfigDefault, ConfigKey, ConfigKind, catalog};

fn key(path: &str) -> &'static ConfigKey {
    catalog()
        .config_key(path)
        .unwrap_or_else(|| panic!("no key {path}"))
}

#[test]
fn every_documented_key_is_there() {
    let documented = "
        Profile: ShareCreds ShareProfile KeyAutoRotateDays
        Mds: Endpoint CommandWorkersLimit CommandWorkerBufferLimit StopTimeoutMillis CommandRetryLimit
        Ssm: Endpoint HealthFrequencyMinutes AssociationFrequencyMinutes AssociationLogsRetentionDurationHours RunCommandLogsRetentionDurationHours SessionLogsDestination PluginLocalOutputCleanup OrchestrationDirectoryCleanup CredentialRetryMaxSleepSeconds SessionHandshakeTimeoutSeconds
        Mgs: Region Endpoint SessionWorkersLimit SessionWorkerBufferLimit DeniedPortForwardingRemoteIPs
        Agent: Region ServiceDomain SelfUpdate SelfUpdateScheduleDay TelemetryMetricsToCloudWatch TelemetryMetricsToSSM LongRunningWorkerMonitorIntervalSeconds AuditExpirationDay ForceFileIPC ContainerMode UseDualStackEndpoint
        S3: Endpoint
        Kms: Endpoint
        Identity: ConsumptionOrder Ec2SystemInfoDetectionResponse CustomIdentities";
    let mut paths = BTreeSet::new();
    for line in documented.trim().lines() {
        let (section, names) = line.trim().split_once(':').unwrap();
        paths.extend(names.split_whitespace().map(|name| format!("{section}.{name}")));
    }
    let found: Vec<String> = catalog()
        .config_keys()
        .iter()
        .map(|key| key.path.clone())
        .collect();
    assert_eq!(found.iter().cloned().collect::<BTreeSet<_>>(), paths);
    assert_eq!(found.len(), paths.len(), "a key occurs twice");
}

#[test]
fn ranges_and_defaults() {
    for (path, min, max, default) in [
        ("Profile.KeyAutoRotateDays", Some(0), Some(365), 0),
        ("Mds.CommandWorkersLimit", Some(1), None, 5),
        ("Mds.CommandWorkerBufferLimit", Some(1), None, 5),
        ("Mds.StopTimeoutMillis", Some(10_000), Some(1_000_000), 20_000),
        ("Mds.CommandRetryLimit", Some(1), Some(100), 15),
        ("Ssm.HealthFrequencyMinutes", Some(5), Some(60), 5),
        ("Ssm.AssociationFrequencyMinutes", Some(5), Some(60), 10),
        ("Ssm.AssociationLogsRetentionDurationHours", Some(8), None, 24),
        ("Ssm.RunCommandLogsRetentionDurationHours", Some(8), None, 336),
        ("Ssm.CredentialRetryMaxSleepSeconds", Some(60), Some(1800), 1800),
        ("Ssm.SessionHandshakeTimeoutSeconds", Some(1), Some(60), 15),
        ("Mgs.SessionWorkersLimit", None, None, 1000),
        ("Mgs.SessionWorkerBufferLimit", None, None, 1),
        ("Agent.SelfUpdateScheduleDay", Some(1), Some(7), 7),
        (
            "Agent.LongRunningWorkerMonitorIntervalSeconds",
            Some(30),
            Some(1800),
            60,
        ),
        ("Agent.AuditExpirationDay", Some(3), Some(30), 7),
    ] {
        assert_eq!(key(path).kind, ConfigKind::Integer { min, max }, "{path}");
        assert_eq!(key(path).default, Some(ConfigDefault::Integer(default)), "{path}");
    }
    for (path, default) in [
        ("Profile.ShareCreds", true),
        ("Agent.SelfUpdate", false),
        ("Agent.TelemetryMetricsToCloudWatch", false),
        ("Agent.TelemetryMetricsToSSM", true),
        ("Agent.ContainerMode", false),
    ] {
        assert_eq!(
            (&key(path).kind, &key(path).default),
            (&ConfigKind::Bool, &Some(ConfigDefault::Bool(default)))
        );
    }
}

#[test]
fn a_default_is_a_value_of_its_kind() {
    for key in catalog().config_keys() {
        let fits = match (&key.kind, &key.default) {
            (_, None) => true,
            (ConfigKind::Bool, Some(ConfigDefault::Bool(_))) => true,
            (ConfigKind::Integer { min, max }, Some(ConfigDefault::Integer(value))) => {
                min.is_none_or(|min| min <= *value) && max.is_none_or(|max| *value <= max)
            }
            (ConfigKind::Choice { values }, Some(ConfigDefault::Text(word))) => values.contains(word),
            (ConfigKind::ChoiceList { values }, Some(ConfigDefault::List(words))) => {
                words.iter().all(|word| values.contains(word))
            }
            // The deny-list: the agent compares addresses.
            (ConfigKind::TextList, Some(ConfigDefault::List(words))) => {
                words.iter().all(|word| word.parse::<std::net::IpAddr>().is_ok())
            }
            (ConfigKind::Objects, Some(ConfigDefault::List(words))) => words.is_empty(),
            _ => false,
        };
        assert!(fits, "{}", key.path);
    }
}

#[test]
fn the_traps_have_their_own_kinds() {
    assert_eq!(key("Mgs.Endpoint").kind, ConfigKind::BareEndpoint);
    assert_eq!(key("Mds.Endpoint").kind, ConfigKind::Endpoint);
    assert_eq!(key("Agent.Region").kind, ConfigKind::Region);
    assert_eq!(
        key("Mgs.DeniedPortForwardingRemoteIPs").kind,
        ConfigKind::TextList
    );
    assert!(key("Agent.Region").note.is_some() && key("Mgs.Endpoint").note.is_some());
}

#[test]
fn paths_compare_as_in_the_agent() {
    assert_eq!(
        key("ssm.healthfrequencyminutes").section_and_name(),
        ("Ssm", "HealthFrequencyMinutes")
    );
    assert_eq!(catalog().config_key("Ssm.Nope"), None);
    assert!(
        catalog()
            .config_keys()
            .iter()
            .all(|key| key.path.split('.').count() == 2)
    );
}
