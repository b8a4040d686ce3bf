//! Checks of the agent's configuration beyond what each value may be.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use ssmbake_manifests::{Catalog, ConfigDefault};

use super::{Finding, Found, Profile, fail, pass, warn};
use crate::probe::Facts;

const DENIED: &str = "Mgs.DeniedPortForwardingRemoteIPs";
/// The metadata service's addresses.
const METADATA: [&str; 2] = ["169.254.169.254", "fd00:ec2::254"];

pub(super) fn findings(facts: &Facts, catalog: &Catalog, profile: Profile) -> Vec<(&'static str, Found)> {
    // A file that cannot be read has failed already.
    let text = facts.config_text.as_deref().unwrap_or("{}");
    let sections: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    let get = |path: &str| {
        let (section, key) = path.split_once('.')?;
        let find = |map: &Map<String, Value>, name: &str| {
            let found = map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone())
        };
        find(find(&sections, section)?.as_object()?, key)
    };
    let order = get("Identity.ConsumptionOrder");
    let denied_addresses = get(DENIED);
    vec![
        ("SSMB060", Ok(twice(text))),
        ("SSMB061", Ok(unknown(&sections, catalog))),
        ("SSMB062", Ok(identities(order, facts, profile))),
        (
            "SSMB063",
            Ok(regions(get("Agent.Region"), get("Mgs.Region"), facts)),
        ),
        ("SSMB064", Ok(denied(denied_addresses, catalog))),
        ("SSMB065", Ok(domain(get("Agent.ServiceDomain")))),
    ]
}

/// Whether the image is for machines outside of EC2.
fn is_hybrid(facts: &Facts) -> bool {
    facts.agent.first_boot_sha256.is_some()
}

/// The names of an object in the order of the text, repeated ones included, each with what its value has.
struct Names<T>(Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Names<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = Names<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut names = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    names.push(entry);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(Reader(PhantomData))
    }
}

fn twice(text: &str) -> Finding {
    // What is no object of objects has failed SSMB007.
    let sections: Names<Names<IgnoredAny>> = serde_json::from_str(text).unwrap_or(Names(Vec::new()));
    let mut seen = BTreeSet::new();
    for (section, keys) in sections.0 {
        let inner = keys.0.into_iter().map(|(key, _)| format!("{section}.{key}"));
        for path in std::iter::once(section.clone()).chain(inner) {
            if !seen.insert(path.to_ascii_lowercase()) {
                return fail(
                    format!("`{path}` stands twice; the agent takes the last"),
                    "remove one of them",
                );
            }
        }
    }
    pass("each once")
}

fn unknown(sections: &Map<String, Value>, catalog: &Catalog) -> Finding {
    let is_known = |name: &str| {
        let mut keys = catalog.config_keys().iter();
        keys.any(|key| key.section_and_name().0.eq_ignore_ascii_case(name))
    };
    for (section, keys) in sections {
        if !keys.is_object() && !is_known(section) {
            return warn(
                format!("`{section}` is no section that this ssmbake knows"),
                "is it spelled as in AWS's documentation?",
            );
        }
        for key in keys.as_object().into_iter().flat_map(Map::keys) {
            let path = format!("{section}.{key}");
            if catalog.config_key(&path).is_none() {
                return warn(
                    format!("`{path}` is no key that this ssmbake knows"),
                    "is it spelled as in AWS's documentation?",
                );
            }
        }
    }
    pass("all of them")
}

fn identities(order: Option<Value>, facts: &Facts, profile: Profile) -> Finding {
    let words: Vec<&str> = order
        .iter()
        .flat_map(|order| order.as_array().into_iter().flatten())
        .filter_map(Value::as_str)
        .collect();
    if words.is_empty() {
        return pass("the agent's own");
    }
    let is_hybrid = profile == Profile::Hybrid || is_hybrid(facts);
    match (words.contains(&"OnPrem"), is_hybrid) {
        (true, false) if words.len() == 1 && profile == Profile::Ec2 => fail(
            "OnPrem alone: an instance of EC2 has no identity",
            "remove the key",
        ),
        (false, true) => fail(
            format!("{} leaves out OnPrem", words.join(", ")),
            "add OnPrem, or remove the key",
        ),
        (true, false) if words.len() == 1 => warn(
            "OnPrem alone: an instance of EC2 would have no identity",
            "remove the key, unless this image is for machines outside of EC2",
        ),
        _ => pass(words.join(", ")),
    }
}

fn regions(agent: Option<Value>, mgs: Option<Value>, facts: &Facts) -> Finding {
    let is_set = |value: &Option<Value>| {
        value
            .as_ref()
            .and_then(Value::as_str)
            .is_some_and(|text| !text.is_empty())
    };
    let name = match (is_set(&agent), is_set(&mgs)) {
        (true, _) => "Agent.Region",
        (_, true) => "Mgs.Region",
        _ => return pass("it comes from the machine"),
    };
    let fix = match is_hybrid(facts) {
        true => "remove it: the registration knows its region",
        false => "remove it, unless all machines of this image are in that region",
    };
    warn(format!("{name} is set"), fix)
}

fn denied(list: Option<Value>, catalog: &Catalog) -> Finding {
    let Some(Value::Array(list)) = list else {
        return pass("by the agent's own list");
    };
    let own = match catalog.config_key(DENIED).and_then(|key| key.default.as_ref()) {
        Some(ConfigDefault::List(own)) => own.as_slice(),
        _ => &[],
    };
    // The agent compares addresses, not texts.
    let address = |text: &str| text.parse::<IpAddr>().ok();
    let listed: Vec<IpAddr> = list.iter().filter_map(|one| address(one.as_str()?)).collect();
    let is_missing = |text: &&str| address(text).is_some_and(|address| !listed.contains(&address));
    let missing: Vec<&str> = own.iter().map(String::as_str).filter(is_missing).collect();
    let (says, fix) = (
        format!("the list lacks {}", missing.join(", ")),
        "add them, or remove the key",
    );
    match missing.iter().any(|address| METADATA.contains(address)) {
        true => fail(says, fix),
        false if missing.is_empty() => pass("by the list in the configuration"),
        false => warn(says, fix),
    }
}

fn domain(domain: Option<Value>) -> Finding {
    match domain
        .as_ref()
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
    {
        None => pass("the agent's own"),
        Some(text) => warn(
            format!("Agent.ServiceDomain is `{text}`"),
            "remove it, unless this is a partition that the agent does not know",
        ),
    }
}
