//! The rows of AWS's list of prerequisites that only the running machine can answer: access, service, endpoints, clock.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use ssmbake_manifests::{Catalog, HostVariant, Region, Service, ServiceManager};

use super::{Check, Finding, REGISTRATION, check, fail, pass, warn, windows};
use crate::config;
use crate::error::IoError;
use crate::probe::{Facts, fold};
use crate::reach::imds::{self, Metadata};
use crate::reach::{Answer, Outcome, Reach};
use crate::root::{Root, RootPath};
use crate::service::live;
use crate::tls::Trust;
#[cfg(not(windows))]
use crate::trust;

const WINDOWS_REGISTRATION: &str = "ProgramData/Amazon/SSM/InstanceData/registration";
const REGISTRATION_LIMIT: usize = 64 * 1024;
/// Beyond it AWS refuses signatures, seconds.
const SKEW_LIMIT: i64 = 300;
const CLOCK_FIX: &str = "switch a time service on: chrony, systemd-timesyncd; EC2 has one at 169.254.169.123";
/// Worth a look, seconds.
const SKEW_REMARK: i64 = 60;

/// Services, their checks, and whether the agent works without them.
const SERVICES: [(Service, &str, Need); 6] = [
    (Service::Ssm, "SSMB023", Need::Always),
    (Service::Ssmmessages, "SSMB024", Need::Always),
    (Service::Ec2messages, "SSMB025", Need::Optional),
    (Service::S3, "SSMB026", Need::Always),
    (Service::Kms, "SSMB027", Need::Optional),
    (Service::Logs, "SSMB028", Need::Optional),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Always,
    Optional,
}

/// What the caller adds.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The region that the user named.
    pub region: Option<Region>,
    /// Where the metadata service is.
    pub imds: String,
    /// A bucket that output goes to.
    pub output_bucket: Option<String>,
    /// For a name, a connection and an answer each.
    pub timeout: Duration,
    /// This machine's clock, seconds since 1970.
    pub now: i64,
}

/// The registration of a hybrid machine.
struct Registration {
    id: String,
    region: String,
}

/// Runs all of them, the endpoints at the same time.
pub fn audit(
    root: &Root,
    facts: &Facts,
    catalog: &Catalog,
    settings: &Settings,
) -> Result<Vec<Check>, IoError> {
    let reach = Reach {
        trust: machine_trust(root)?,
        proxy: match &facts.windows {
            Some(windows) => windows::in_force(windows),
            None => config::proxy::in_force(root, facts.service_manager.value, facts.agent.channel)?,
        },
        timeout: settings.timeout,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| IoError::new("start", "the network", error))?;
    let registration = registration(root, facts)?;
    let metadata = runtime.block_on(imds::ask(&settings.imds));
    let region = region(catalog, settings, registration.as_ref(), &metadata);
    let mut checks = vec![
        check(catalog, "SSMB020", region_finding(region.as_ref())),
        check(catalog, "SSMB021", access(registration.as_ref(), &metadata)),
        check(catalog, "SSMB022", running(facts)),
    ];
    let Some(region) = region.ok() else {
        return Ok(checks);
    };
    let own = Overrides::read(facts);
    let hosts: Vec<(usize, String)> = SERVICES
        .iter()
        .enumerate()
        .filter_map(|(index, (service, ..))| Some((index, own.host(*service, &region, catalog)?)))
        .collect();
    let asked = join_all(hosts.iter().map(|(_, host)| reach.ask(host)));
    let outcomes: Vec<Outcome> = runtime.block_on(asked);
    let by_index: BTreeMap<usize, (&String, &Outcome)> = hosts
        .iter()
        .zip(&outcomes)
        .map(|((index, host), outcome)| (*index, (host, outcome)))
        .collect();
    for (index, (_, id, need)) in SERVICES.into_iter().enumerate() {
        let finding = match by_index.get(&index) {
            Some((host, outcome)) => reached(host, outcome, need, trust_fix(facts)),
            None => pass(format!("{} has none", region.id)),
        };
        checks.push(check(catalog, id, finding));
    }
    checks.push(check(
        catalog,
        "SSMB029",
        clock(&outcomes, &metadata, settings.now),
    ));
    if let Some(bucket) = &settings.output_bucket {
        let s3 = own.host(Service::S3, &region, catalog).unwrap_or_default();
        let host = bucket_host(bucket, s3.trim_start_matches("https://"));
        let outcome = runtime.block_on(reach.ask(&host));
        let finding = bucket_finding(bucket, &host, &outcome, trust_fix(facts));
        checks.push(check(catalog, "SSMB030", finding));
    }
    Ok(checks)
}

/// What this machine trusts, as its agent will find out.
fn machine_trust(root: &Root) -> Result<Trust, IoError> {
    #[cfg(windows)]
    {
        let _ = root;
        Ok(Trust::OfWindows)
    }
    #[cfg(not(windows))]
    trust::certificates(root).map(Trust::Only)
}

fn registration(root: &Root, facts: &Facts) -> Result<Option<Registration>, IoError> {
    let path = match facts.windows {
        Some(_) => fold(root, WINDOWS_REGISTRATION)?,
        None => Some(RootPath::fixed(REGISTRATION)),
    };
    let bytes = path
        .map(|path| root.read(&path, REGISTRATION_LIMIT))
        .transpose()?;
    let Some(bytes) = bytes.flatten() else {
        return Ok(None);
    };
    let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let text = |key: &str| {
        value
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    Ok(Some(Registration {
        id: text("ManagedInstanceID"),
        region: text("Region"),
    }))
}

/// The agent's own order: registration before metadata; what the user names is asked first.
fn region(
    catalog: &Catalog,
    settings: &Settings,
    registration: Option<&Registration>,
    metadata: &Metadata,
) -> Result<Region, String> {
    if let Some(region) = &settings.region {
        return Ok(region.clone());
    }
    let id = match (registration, metadata) {
        (Some(registration), _) => registration.region.clone(),
        (
            None,
            Metadata::Instance {
                region: Some(region), ..
            },
        ) => region.clone(),
        (None, _) => return Err("nobody says which region this machine is in".to_owned()),
    };
    let found = catalog.regions().find(&id).map_err(|error| error.to_string())?;
    Ok(found.into_region())
}

fn region_finding(region: Result<&Region, &String>) -> Finding {
    match region {
        Ok(region) if region.known => pass(format!("{} ({})", region.id, region.description)),
        Ok(region) => warn(
            format!("{} is newer than this ssmbake, or none", region.id),
            "`ssmbake regions` lists those that are known",
        ),
        Err(why) => fail(why.clone(), "name it with --region"),
    }
}

fn access(registration: Option<&Registration>, metadata: &Metadata) -> Finding {
    let attach = "attach an instance profile (`ssmbake export --format cloudformation` makes one), or switch default host \
        management on";
    match (registration, metadata) {
        (Some(one), _) if one.id.starts_with("mi-") => {
            pass(format!("registered as {} in {}", one.id, one.region))
        }
        (Some(_), _) => fail(
            format!("`{REGISTRATION}` names no machine"),
            "register again: `amazon-ssm-agent -register` with a new activation",
        ),
        (
            None,
            Metadata::Instance {
                profile: Some(arn), ..
            },
        ) => pass(format!("by the instance profile {arn}")),
        (
            None,
            Metadata::Instance {
                has_identity: true, ..
            },
        ) => warn(
            "no instance profile: only a default host-management role of the account gives access",
            attach,
        ),
        (None, Metadata::Instance { .. }) => fail("no instance profile", attach),
        (None, Metadata::Refused(status)) => fail(
            format!("the metadata service gives no token (status {status})"),
            "switch it on: `aws ec2 modify-instance-metadata-options --http-endpoint enabled`",
        ),
        (None, Metadata::Silent(why)) => fail(
            format!("no registration, and no metadata service answers ({why})"),
            "outside of EC2 register the machine with an activation; in a container raise the hop limit",
        ),
    }
}

fn running(facts: &Facts) -> Finding {
    let (manager, channel) = (facts.service_manager.value, facts.agent.channel);
    match live::is_running(manager, channel) {
        true => pass("its service is active"),
        false if manager == ServiceManager::Scm => fail("it does not run", windows::START),
        false if manager == ServiceManager::Upstart => fail("it does not run", "`start amazon-ssm-agent`"),
        false => fail(
            "it does not run",
            format!(
                "`systemctl start {}`; `journalctl -u {}` says why it stopped",
                channel.unit(),
                channel.unit()
            ),
        ),
    }
}

/// Endpoints of the agent's configuration.
struct Overrides<'a> {
    text: Option<&'a str>,
}

impl<'a> Overrides<'a> {
    fn read(facts: &'a Facts) -> Self {
        Self {
            text: facts.config_text.as_deref(),
        }
    }

    fn host(&self, service: Service, region: &Region, catalog: &Catalog) -> Option<String> {
        let set = config::endpoint_key(service)
            .zip(self.text)
            .and_then(|(section, text)| config::json::get(text, section, "Endpoint"));
        match set
            .as_ref()
            .and_then(Value::as_str)
            .filter(|host| !host.is_empty())
        {
            Some(host) => Some(host.to_owned()),
            None => catalog.regions().host(region, service, HostVariant::Standard),
        }
    }
}

fn trust_fix(facts: &Facts) -> &'static str {
    match facts.windows {
        Some(_) => {
            "`certutil -addstore -f Root FILE` trusts AWS's roots, or the CA of a proxy that opens TLS"
        }
        None => "`ssmbake apply` installs AWS's roots; where a proxy opens TLS, trust its CA with --extra-ca",
    }
}

fn reached(host: &str, outcome: &Outcome, need: Need, trust_fix: &'static str) -> Finding {
    let (what, fix) = match outcome {
        Outcome::Answered(answer) => return pass(format!("{host} {}", way(answer))),
        Outcome::NoName(why) => (
            format!("{host} has no address: {why}"),
            "give the machine a resolver, or a VPC endpoint with private DNS",
        ),
        Outcome::NoConnection(why) => (
            format!("{host} takes no connection: {why}"),
            "let TCP 443 out (security group, network ACL, firewall), or make a VPC endpoint",
        ),
        Outcome::NoTls(why) => (format!("{host} is not trusted: {why}"), trust_fix),
        Outcome::NotNow(why) => (format!("{host}: by this machine's clock {why}"), CLOCK_FIX),
        Outcome::NoProxy(why) => (
            format!("the proxy does not lead to {host}: {why}"),
            "check the proxy's address, its rules and its password in the agent's service",
        ),
        Outcome::NoAnswer(why) => (
            format!("{host} takes connections and does not answer: {why}"),
            "look for a firewall that inspects TLS, and at the MTU",
        ),
    };
    match need {
        Need::Always => fail(what, fix),
        Need::Optional => warn(what, fix),
    }
}

fn way(answer: &Answer) -> String {
    let way = match answer.address {
        None => "through the proxy".to_owned(),
        Some(address) if answer.is_private() => format!("by a private address ({address}): a VPC endpoint"),
        Some(address) => format!("over the internet ({address})"),
    };
    format!("{way}, {} ms", answer.took.as_millis())
}

fn clock(outcomes: &[Outcome], metadata: &Metadata, now: i64) -> Finding {
    let dates = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Answered(answer) => answer.date,
        _ => None,
    });
    let of_instance = match metadata {
        Metadata::Instance { date, .. } => *date,
        Metadata::Silent(_) | Metadata::Refused(_) => None,
    };
    let skew = dates
        .chain(of_instance)
        .map(|date| now - date)
        .min_by_key(|skew| skew.abs());
    let is_far_off = |outcome: &&Outcome| matches!(outcome, Outcome::NotNow(_));
    let far = outcomes.iter().filter(is_far_off).count();
    // One server with an old certificate is that server's fault.
    if skew.is_none() && far > 1 && far == outcomes.iter().filter(|one| is_talk(one)).count() {
        return fail(
            "by this clock the certificates of all endpoints are not valid",
            CLOCK_FIX,
        );
    }
    let Some(skew) = skew else {
        return warn("nobody could be asked for the time", "see the endpoints above");
    };
    let says = match skew {
        0.. => format!("{skew} s ahead of AWS"),
        _ => format!("{} s behind AWS", -skew),
    };
    let fix = CLOCK_FIX;
    match skew.abs() {
        SKEW_LIMIT.. => fail(format!("{says}: AWS refuses the agent's signatures"), fix),
        SKEW_REMARK.. => warn(says, fix),
        _ => pass(says),
    }
}

/// A certificate's `*` is one label: a bucket with dots is asked for by path.
fn bucket_host(bucket: &str, s3: &str) -> String {
    match bucket.contains('.') {
        true => format!("{s3}/{bucket}"),
        false => format!("{bucket}.{s3}"),
    }
}

/// Whether it came as far as TLS.
fn is_talk(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Answered(_) | Outcome::NoTls(_) | Outcome::NotNow(_)
    )
}

fn bucket_finding(bucket: &str, host: &str, outcome: &Outcome, trust_fix: &'static str) -> Finding {
    match outcome {
        // Anybody else than its users is forbidden to look, which tells that it is there.
        Outcome::Answered(answer) if answer.status == 404 => {
            fail(format!("there is no bucket {bucket}"), "make it, or name another")
        }
        Outcome::Answered(answer) if answer.status == 301 => fail(
            format!("{bucket} is in another region"),
            "name a bucket of this region, or its own endpoint with --endpoint s3=HOST",
        ),
        other => reached(host, other, Need::Always, trust_fix),
    }
}
