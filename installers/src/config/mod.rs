//! The agent's configuration: typed edits, endpoint rules, proxies. [`json`] edits the file, [`proxy`] the service.

pub mod json;
pub mod proxy;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use ssmbake_manifests::{Catalog, ConfigKind, Service};

/// Where the agent looks for its configuration on Linux.
pub const PATH: &str = "/etc/amazon/ssm/amazon-ssm-agent.json";

/// One key to set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// `Ssm`.
    pub section: String,
    /// `Endpoint`.
    pub key: String,
    /// Its value.
    pub value: Value,
}

/// A setting that the agent would ignore, misread or stumble over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct SettingError {
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub hint: String,
}

fn wrong(what: impl Into<String>, hint: impl Into<String>) -> SettingError {
    SettingError {
        what: what.into(),
        hint: hint.into(),
    }
}

/// Parses `Section.Key=VALUE` by the catalog's type of the key. A key that the catalog does not know is taken as JSON,
/// else as a string, with a warning: newer agents have more keys.
pub fn parse_set(text: &str, catalog: &Catalog) -> Result<(Edit, Option<String>), SettingError> {
    let usage = "write Section.Key=VALUE, for example Agent.SelfUpdate=true";
    let (path, raw) = text
        .split_once('=')
        .ok_or_else(|| wrong(format!("`{text}` has no `=`"), usage))?;
    let known = catalog.config_key(path);
    let full = known.map_or(path, |known| known.path.as_str());
    let (section, key) = full
        .split_once('.')
        .ok_or_else(|| wrong(format!("`{path}` has no section"), usage))?;
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !is_name(section) || !is_name(key) {
        return Err(wrong(format!("`{path}` is no configuration key"), usage));
    }
    let (value, warning) = match known {
        Some(known) => (typed(&known.kind, full, raw)?, None),
        None => {
            let value = serde_json::from_str(raw).unwrap_or_else(|_| Value::String(raw.to_owned()));
            (
                value,
                Some(format!(
                    "`{path}` is no key that this ssmbake knows; it is written as given"
                )),
            )
        }
    };
    Ok((
        Edit {
            section: section.to_owned(),
            key: key.to_owned(),
            value,
        },
        warning,
    ))
}

fn typed(kind: &ConfigKind, path: &str, raw: &str) -> Result<Value, SettingError> {
    let not_one_of = |values: &[String]| {
        wrong(
            format!("`{raw}` is no value of {path}"),
            format!("use one of: {}", values.join(", ")),
        )
    };
    let words = || {
        raw.split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    match kind {
        ConfigKind::Bool => match raw {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(wrong(
                format!("`{raw}` is no value of {path}"),
                "use true or false",
            )),
        },
        ConfigKind::Integer { min, max } => {
            let number: Option<i64> = raw.parse().ok();
            let fits =
                |number: &i64| min.is_none_or(|min| *number >= min) && max.is_none_or(|max| *number <= max);
            let bounds = format!(
                "use a number{}{}",
                min.map(|min| format!(" from {min}")).unwrap_or_default(),
                max.map(|max| format!(" up to {max}")).unwrap_or_default()
            );
            // Out of range means the default to the agent, without a word.
            number
                .filter(fits)
                .map(Value::from)
                .ok_or_else(|| wrong(format!("`{raw}` is no value of {path}"), bounds))
        }
        ConfigKind::Choice { values } if !values.iter().any(|value| value == raw) => Err(not_one_of(values)),
        ConfigKind::ChoiceList { values } => match words() {
            chosen if !chosen.is_empty() && chosen.iter().all(|word| values.contains(word)) => {
                Ok(Value::from(chosen))
            }
            // One wrong word corrupts the agent's own default order.
            _ => Err(not_one_of(values)),
        },
        ConfigKind::Endpoint => check_endpoint(raw).map(|()| Value::from(raw)),
        ConfigKind::BareEndpoint => check_bare_endpoint(raw, path).map(|()| Value::from(raw)),
        ConfigKind::TextList => Ok(Value::from(words())),
        ConfigKind::Objects => match serde_json::from_str(raw) {
            Ok(value @ Value::Array(_)) => Ok(value),
            _ => Err(wrong(
                format!("{path} takes a JSON array of objects"),
                "quote it for the shell: '[{…}]'",
            )),
        },
        ConfigKind::Region if raw.is_empty() => Err(wrong(format!("{path} is empty"), "name a region")),
        ConfigKind::Choice { .. } | ConfigKind::Text | ConfigKind::Region => Ok(Value::from(raw)),
    }
}

/// The key that holds a service's endpoint. The agent has none for the log service.
/// The section whose `Endpoint` is of `service`.
pub(crate) fn endpoint_key(service: Service) -> Option<&'static str> {
    match service {
        Service::Ssm => Some("Ssm"),
        Service::Ec2messages => Some("Mds"),
        Service::Ssmmessages => Some("Mgs"),
        Service::S3 => Some("S3"),
        Service::Kms => Some("Kms"),
        Service::Logs => None,
    }
}

/// Parses `SERVICE=HOST`, for VPC endpoints.
pub fn parse_endpoint(text: &str) -> Result<Edit, SettingError> {
    let usage = "write SERVICE=HOST, for example ssm=vpce-0123.ssm.eu-west-1.vpce.amazonaws.com";
    let (name, host) = text
        .split_once('=')
        .ok_or_else(|| wrong(format!("`{text}` has no `=`"), usage))?;
    let service: Service = name.parse().map_err(|error| wrong(format!("{error}"), usage))?;
    endpoint(service, host)
}

/// The edit that points the agent's `service` at `host`.
pub fn endpoint(service: Service, host: &str) -> Result<Edit, SettingError> {
    let section = endpoint_key(service).ok_or_else(|| {
        wrong(
            format!("the agent has no setting for the {service} endpoint"),
            "use private DNS for it instead",
        )
    })?;
    match service {
        Service::Ssmmessages => check_bare_endpoint(host, "Mgs.Endpoint")?,
        _ => check_endpoint(host)?,
    }
    Ok(Edit {
        section: section.to_owned(),
        key: "Endpoint".to_owned(),
        value: Value::from(host),
    })
}

fn check_endpoint(text: &str) -> Result<(), SettingError> {
    let host = text
        .strip_prefix("https://")
        .unwrap_or(text)
        .trim_end_matches('/');
    let (host, port) = host.split_once(':').unwrap_or((host, "443"));
    let is_label = |label: &str| {
        let plain = label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        plain && !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-')
    };
    if host.len() > 253 || port.parse::<u16>().is_err() || !host.split('.').all(is_label) {
        return Err(wrong(
            format!("`{text}` is neither a host name nor an https URL"),
            "give a host name, or https://HOST",
        ));
    }
    Ok(())
}

/// `host:443` gives the agent an empty host and `10.0.0.1:443` is ignored, both without a word.
fn check_bare_endpoint(text: &str, path: &str) -> Result<(), SettingError> {
    check_endpoint(text)?;
    if text.strip_prefix("https://").unwrap_or(text).contains(':') {
        return Err(wrong(
            format!("the agent loses the host of `{text}` in {path} without a word"),
            "give the host name alone, or https://HOST without a port",
        ));
    }
    Ok(())
}

/// The first known section or key whose value is of a type that the agent stops at; null is as good as absent.
pub fn mistyped(text: &str, catalog: &Catalog) -> Option<String> {
    let sections: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    for (name, value) in sections.iter().filter(|(_, value)| !value.is_null()) {
        let known = catalog.config_keys().iter();
        let known = known.filter(|key| key.section_and_name().0.eq_ignore_ascii_case(name));
        for key in known {
            let Some(members) = value.as_object() else {
                return Some(format!("`{name}` is not an object"));
            };
            let is_named = |name: &str| key.section_and_name().1.eq_ignore_ascii_case(name);
            let mut own = members.iter().filter(|(name, _)| is_named(name));
            if let Some((_, value)) = own.find(|(_, value)| !is_of_type(&key.kind, value)) {
                return Some(format!("{} is of the wrong type: {value}", key.path));
            }
        }
    }
    None
}

fn is_of_type(kind: &ConfigKind, value: &Value) -> bool {
    let all = |is_one: fn(&Value) -> bool| {
        let items = value.as_array();
        items.is_some_and(|items| items.iter().all(|item| item.is_null() || is_one(item)))
    };
    value.is_null()
        || match kind {
            ConfigKind::Bool => value.is_boolean(),
            ConfigKind::Integer { .. } => value.is_i64(),
            ConfigKind::TextList | ConfigKind::ChoiceList { .. } => all(Value::is_string),
            ConfigKind::Objects => all(Value::is_object),
            ConfigKind::Choice { .. }
            | ConfigKind::Text
            | ConfigKind::Region
            | ConfigKind::Endpoint
            | ConfigKind::BareEndpoint => value.is_string(),
        }
}

/// Whether the agent takes a value that a file already has.
pub fn check_value(key: &ssmbake_manifests::ConfigKey, value: &Value) -> Result<(), SettingError> {
    let mismatch = || {
        wrong(
            format!("{} is of the wrong type: {value}", key.path),
            "the agent would not start",
        )
    };
    let raw = match (&key.kind, value) {
        (_, Value::Null) => return Ok(()),
        (ConfigKind::Bool, Value::Bool(_)) => return Ok(()),
        (ConfigKind::Integer { .. }, Value::Number(number)) => number.to_string(),
        (ConfigKind::TextList | ConfigKind::ChoiceList { .. }, Value::Array(items)) => {
            let words: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            words.ok_or_else(mismatch)?.join(",")
        }
        (ConfigKind::Objects, Value::Array(_)) => return Ok(()),
        (ConfigKind::Bool | ConfigKind::Integer { .. } | ConfigKind::Objects, _) => return Err(mismatch()),
        (ConfigKind::TextList | ConfigKind::ChoiceList { .. }, _) => return Err(mismatch()),
        // An empty string is the default of every text key.
        (_, Value::String(text)) if text.is_empty() => return Ok(()),
        (_, Value::String(text)) => text.clone(),
        _ => return Err(mismatch()),
    };
    typed(&key.kind, &key.path, &raw).map(drop)
}

/// The text with all edits made; `none` when there is nothing to change.
pub fn merge(old: Option<&str>, edits: &[Edit]) -> Result<Option<String>, json::JsonError> {
    let mut text = old.unwrap_or("{\n}\n").to_owned();
    for edit in edits {
        text = json::set(&text, &edit.section, &edit.key, &edit.value)?;
    }
    Ok((!edits.is_empty() && old != Some(text.as_str())).then_some(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_are_typed_and_bounded() {
        let catalog = ssmbake_manifests::catalog();
        let good = [
            ("Agent.SelfUpdate=true", json!(true)),
            ("ssm.healthfrequencyminutes=60", json!(60)),
            ("Identity.ConsumptionOrder=OnPrem,EC2", json!(["OnPrem", "EC2"])),
            ("Mgs.Endpoint=https://host.example", json!("https://host.example")),
        ];
        for (text, value) in good {
            let (edit, warning) = parse_set(text, catalog).expect(text);
            assert_eq!((edit.value, warning), (value, None), "{text}");
        }
        let bad = [
            "Agent.SelfUpdate",
            "Agent.SelfUpdate=yes",
            "SelfUpdate=true",
            "Ssm.HealthFrequencyMinutes=61",
            "Ssm.HealthFrequencyMinutes=x",
            "Ssm.SessionLogsDestination=Disk",
            "Identity.ConsumptionOrder=onprem,EC2",
            "Mgs.Endpoint=host:443",
            "Ssm.Endpoint=http://host",
            "../x.y=1",
        ];
        for text in bad {
            assert!(parse_set(text, catalog).is_err(), "{text}");
        }
        let (edit, warning) = parse_set("Agent.Brandnew=7", catalog).expect("unknown is allowed");
        assert!(warning.is_some() && edit.value == json!(7));
    }

    #[test]
    fn endpoints_know_the_traps() {
        let vpce = "ssm=vpce-1a2b.ssm.eu-west-1.vpce.amazonaws.com";
        assert_eq!(
            parse_endpoint(vpce).map(|edit| edit.section),
            Ok("Ssm".to_owned())
        );
        assert_eq!(
            parse_endpoint("ec2messages=h.example").map(|edit| edit.section),
            Ok("Mds".to_owned())
        );
        for text in [
            "ssmmessages=host:443",
            "ssmmessages=10.0.0.1:443",
            "logs=h",
            "ssm=",
            "ssm=a b",
            "nope=h",
            "ssm",
        ] {
            assert!(parse_endpoint(text).is_err(), "{text}");
        }
    }
}
