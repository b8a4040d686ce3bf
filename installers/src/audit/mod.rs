//! Audit: is this tree ready for Systems Manager? Read-only, named checks, whoever built the image.

mod configuration;
mod files;
mod first_boot;
mod leftovers;
pub mod live;
mod windows;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use ssmbake_manifests::{AgentVersion, AnchorSet, Catalog, SealRule, ServiceManager, Severity, TrustAnchor};

use crate::activation::{self, REGISTRATION};
use crate::config;
use crate::error::IoError;
use crate::packages::PACKAGE;
use crate::packages::deb::version::upstream;
use crate::plan::no_agent;
use crate::probe::{ConfigFacts, Facts, WINDOWS_CONFIG};
use crate::receipt;
use crate::root::{Last, Root, RootPath};
use crate::seal::{self, Item};
use crate::service::{Enablement, InstallChannel};
use crate::supply::LockFile;
use crate::trust::AnchorState;

/// The version of the report's JSON.
pub const SCHEMA: u32 = 1;

/// Where the agent keeps what it is.
const STATE: &str = "/var/lib/amazon/ssm";

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Good.
    Pass,
    /// Works, but look at it.
    Warn,
    /// Not ready.
    Fail,
}

/// One check's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Stable: `SSMB001`.
    pub id: String,
    /// What is checked.
    pub title: String,
    /// What a failure means.
    pub severity: Severity,
    /// How it came out.
    pub verdict: Verdict,
    /// What was seen.
    pub detail: String,
    /// What to do; empty when all is well.
    pub fix: String,
    /// Whether the user lives with its failure.
    #[serde(default)]
    pub allowed: bool,
}

impl Check {
    /// Whether it counts as a failure.
    pub fn fails(&self) -> bool {
        self.verdict == Verdict::Fail && !self.allowed
    }
}

/// All results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Version of this shape.
    pub schema: u32,
    /// In order of their ids.
    pub checks: Vec<Check>,
}

impl Report {
    /// Lives with the failures of these checks.
    pub fn allow(&mut self, ids: &[String]) {
        for check in &mut self.checks {
            check.allowed = check.verdict == Verdict::Fail && ids.contains(&check.id);
        }
    }

    /// Whether any check failed.
    pub fn has_failures(&self) -> bool {
        self.checks.iter().any(Check::fails)
    }
}

struct Finding(Verdict, String, String);

/// What was found, or why nobody can say.
type Found = Result<Finding, IoError>;

fn pass(detail: impl Into<String>) -> Finding {
    Finding(Verdict::Pass, detail.into(), String::new())
}

fn warn(detail: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding(Verdict::Warn, detail.into(), fix.into())
}

fn fail(detail: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding(Verdict::Fail, detail.into(), fix.into())
}

/// For what a tree is to be good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// A machine or an image, as it is.
    Any,
    /// Instances of EC2.
    Ec2,
    /// Machines outside of EC2.
    Hybrid,
    /// An image of which many machines are made.
    Image,
}

/// Runs all checks. What one of them cannot read is its own finding: any user can make a file that nobody can read.
pub fn audit(root: &Root, facts: &Facts, catalog: &Catalog, profile: Profile) -> Report {
    let (named, seal) = match &facts.windows {
        Some(windows) => (
            windows::findings(root, facts, windows, catalog, profile),
            Vec::new(),
        ),
        None => (
            findings(root, facts, catalog, profile),
            match profile {
                Profile::Image => sealed(root, facts, catalog),
                _ => Vec::new(),
            },
        ),
    };
    let mut checks: Vec<Check> = named
        .into_iter()
        .map(|(id, found)| {
            let finding = found.unwrap_or_else(|error| unjudged(catalog, id, &error));
            check(catalog, id, finding)
        })
        .collect();
    checks.extend(seal);
    checks.sort_by(|one, other| one.id.cmp(&other.id));
    Report {
        schema: SCHEMA,
        checks,
    }
}

/// What nobody can judge nobody can vouch for.
fn unjudged(catalog: &Catalog, id: &str, error: &IoError) -> Finding {
    let verdict = match catalog.check(id).map(|facts| facts.severity) {
        Some(Severity::Medium | Severity::Low) => Verdict::Warn,
        _ => Verdict::Fail,
    };
    Finding(
        verdict,
        format!("cannot be judged: {error}"),
        format!(
            "look at `{}`, or run the audit as a user who can read it",
            error.path
        ),
    )
}

/// Of a tree of Linux.
fn findings(root: &Root, facts: &Facts, catalog: &Catalog, profile: Profile) -> Vec<(&'static str, Found)> {
    let mut named = vec![
        ("SSMB001", Ok(system(facts, catalog))),
        ("SSMB002", Ok(installed(facts))),
        ("SSMB003", Ok(channels(facts))),
        ("SSMB004", Ok(complete(facts))),
        ("SSMB005", Ok(version(facts, catalog))),
        ("SSMB006", Ok(enabled(facts))),
        ("SSMB007", Ok(config_readable(facts))),
        ("SSMB008", Ok(config_values(facts, catalog))),
        ("SSMB009", Ok(roots(facts, catalog))),
        ("SSMB010", identity(root, facts)),
        ("SSMB011", override_files(root)),
        ("SSMB012", database_at_rest(root, facts)),
        ("SSMB013", receipt_holds(root)),
        ("SSMB014", first_boot::finding(root, facts, profile)),
        ("SSMB015", Ok(clock(facts))),
    ];
    named.extend(configuration::findings(facts, catalog, profile));
    named.extend(files::findings(root, facts, catalog));
    named.extend(leftovers::findings(root, facts));
    named
}

/// Whether the agent is the very one that a lock names.
pub fn locked(root: &Root, facts: &Facts, catalog: &Catalog, lock: &LockFile) -> Result<Check, IoError> {
    let again = "run `ssmbake apply --lock` with this lock";
    let (id, arch) = (&facts.os.value.id, facts.arch.value);
    let installed = facts
        .agent
        .package
        .as_ref()
        .map(|package| upstream(&package.version));
    let placed = receipt::read(root)?.and_then(|receipt| receipt.package);
    let finding = match (lock.find(id, arch), installed) {
        (Err(error), _) => fail(error.to_string(), "make the lock anew with this system"),
        (Ok(locked), None) => fail(
            format!("{} is locked and nothing installed", locked.version),
            again,
        ),
        (Ok(locked), Some(version)) if version != locked.version.to_string() => fail(
            format!("{version} is installed, {} is locked", locked.version),
            again,
        ),
        (Ok(locked), Some(version)) => match placed {
            Some(package) if package.sha256 == locked.sha256 => pass(format!("{version}, {}", locked.sha256)),
            Some(package) => fail(
                format!(
                    "the package had the SHA-256 {}, {} is locked",
                    package.sha256, locked.sha256
                ),
                "find out where it came from",
            ),
            None => warn(
                format!("{version}, but nobody knows from which package"),
                "only what ssmbake installs is known by its digest",
            ),
        },
    };
    Ok(check(catalog, "SSMB085", finding))
}

/// A check for each class of what no copy may have.
fn sealed(root: &Root, facts: &Facts, catalog: &Catalog) -> Vec<Check> {
    let check_of = |(rule, item): (&SealRule, Option<Item>)| {
        let finding = match item {
            None => pass("nothing"),
            Some(item) => {
                let verdict = match rule.severity {
                    Severity::Low => Verdict::Warn,
                    _ => Verdict::Fail,
                };
                let detail = format!("`{}`, {} paths", item.path, item.count);
                Finding(verdict, detail, "run `ssmbake seal --profile image`".to_owned())
            }
        };
        check(catalog, &rule.id, finding)
    };
    match seal::left(root, facts, catalog) {
        Ok(left) => left.into_iter().map(check_of).collect(),
        Err(error) => {
            let ids: BTreeSet<&str> = catalog.seal().iter().map(|rule| rule.id.as_str()).collect();
            let unjudged = |id| check(catalog, id, unjudged(catalog, id, &error));
            ids.into_iter().map(unjudged).collect()
        }
    }
}

/// With the catalog's words; a test proves that it has some for every id.
fn check(catalog: &Catalog, id: &str, Finding(verdict, detail, fix): Finding) -> Check {
    let facts = catalog.check(id);
    Check {
        id: id.to_owned(),
        title: facts.map(|facts| facts.title.clone()).unwrap_or_default(),
        severity: facts.map_or(Severity::High, |facts| facts.severity),
        verdict,
        detail,
        fix,
        allowed: false,
    }
}

fn system(facts: &Facts, catalog: &Catalog) -> Finding {
    let os = catalog.os(&facts.os.value.id);
    if os.and_then(|os| os.package_folder(facts.arch.value)).is_none() {
        return fail(no_agent(facts), "use an image of another architecture");
    }
    pass(format!("{} ({})", facts.os.value.name, facts.arch.value))
}

fn installed(facts: &Facts) -> Finding {
    if let Some(why) = &facts.agent.package_unknown {
        return fail(
            why.clone(),
            "repair the database with `rpm --rebuilddb` in the tree",
        );
    }
    match (&facts.agent.package, &facts.agent.snap) {
        (Some(package), _) if package.is_installed() => {
            pass(format!("{} {}", package.format, package.version))
        }
        (_, Some(snap)) => pass(format!("snap `{}`", snap.path)),
        (Some(package), None) => fail(format!("dpkg says `{}`", package.state), "run `ssmbake apply`"),
        (None, None) => fail("there is no agent", "run `ssmbake apply`"),
    }
}

fn channels(facts: &Facts) -> Finding {
    let package = facts
        .agent
        .package
        .as_ref()
        .filter(|package| package.is_installed());
    match (package, &facts.agent.snap) {
        (Some(package), Some(snap)) => fail(
            format!("{} {} and snap `{}`", package.format, package.version, snap.path),
            "remove one of them",
        ),
        _ => pass("one channel at the most"),
    }
}

fn complete(facts: &Facts) -> Finding {
    match facts
        .agent
        .package
        .as_ref()
        .and_then(|package| package.missing_file.as_ref())
    {
        Some(path) => fail(
            format!("`{path}` is missing"),
            "run `ssmbake apply`, which installs it again",
        ),
        None => pass("nothing is missing"),
    }
}

fn version(facts: &Facts, catalog: &Catalog) -> Finding {
    let snap = facts.agent.snap.as_ref().and_then(|snap| snap.version.as_deref());
    let package = facts.agent.package.as_ref();
    let Some(told) = package.map(|package| upstream(&package.version)).or(snap) else {
        return pass("no version is told");
    };
    let floor = catalog.agent().floor;
    let last = catalog.os(&facts.os.value.id).and_then(|os| os.agent_max);
    match told.parse::<AgentVersion>() {
        Ok(version) if version < floor && last == Some(version) => warn(
            format!("{version} has known vulnerabilities and is the last that runs here"),
            "move to a newer system",
        ),
        Ok(version) if version < floor => fail(
            format!("{version} has known vulnerabilities"),
            format!("install {floor} or later"),
        ),
        Ok(version) => pass(format!("{version} is at or above {floor}")),
        Err(_) => warn(
            format!("`{told}` is no version of AWS's"),
            "check where it came from",
        ),
    }
}

fn enabled(facts: &Facts) -> Finding {
    match &facts.agent.enablement {
        Enablement::Enabled(path) => pass(format!("by `{path}`")),
        Enablement::Disabled => fail("the service is disabled", "run `ssmbake apply`"),
        Enablement::Masked(path) => fail(format!("masked by `{path}`"), "remove the mask"),
        Enablement::Missing if facts.agent.snap.as_ref().is_some_and(|snap| snap.is_seeded) => {
            pass("the snap brings its own service at first boot")
        }
        Enablement::Missing => fail("there is no service", "run `ssmbake apply`"),
    }
}

fn config_readable(facts: &Facts) -> Finding {
    match &facts.agent.config {
        ConfigFacts::Unread { why } => fail(
            format!("cannot be judged: {why}"),
            "make it a file that the agent can read, or remove it",
        ),
        ConfigFacts::Absent => pass("none, so defaults are used"),
        ConfigFacts::Valid { .. } => pass("valid"),
        ConfigFacts::Invalid { why } => fail(
            format!(
                "`{}`: {why}; the agent would stop and start for ever",
                if facts.windows.is_some() {
                    WINDOWS_CONFIG
                } else {
                    config::PATH
                }
            ),
            "repair or remove it",
        ),
    }
}

fn config_values(facts: &Facts, catalog: &Catalog) -> Finding {
    let Some(text) = &facts.config_text else {
        return pass("nothing is set");
    };
    for key in catalog.config_keys() {
        let (section, name) = key.section_and_name();
        let Some(value) = config::json::get(text, section, name) else {
            continue;
        };
        if let Err(error) = config::check_value(key, &value) {
            return fail(error.what, error.hint);
        }
    }
    pass("all known keys are good")
}

/// AWS's roots that every machine needs.
fn default_anchors(catalog: &Catalog) -> impl Iterator<Item = &TrustAnchor> {
    let anchors = catalog.anchors().iter();
    anchors.filter(|anchor| anchor.set == AnchorSet::Default)
}

/// The names of those that are not trusted.
fn missing_roots<'c>(facts: &Facts, catalog: &'c Catalog) -> Vec<&'c str> {
    let state = |id: &str| facts.trust.value.anchors.get(id);
    default_anchors(catalog)
        .filter(|anchor| state(&anchor.id) != Some(&AnchorState::Trusted))
        .map(|anchor| anchor.name.as_str())
        .collect()
}

fn roots(facts: &Facts, catalog: &Catalog) -> Finding {
    let missing = missing_roots(facts, catalog);
    if missing.is_empty() {
        return pass("all five");
    }
    let says = format!("not trusted: {}", missing.join(", "));
    match missing.len() == default_anchors(catalog).count() {
        true => fail(says, "run `ssmbake apply`"),
        false => warn(says, "run `ssmbake apply`, unless they are distrusted on purpose"),
    }
}

/// A baked registration or vault gives every clone one identity; a machine that nobody bakes has its own.
fn identity(root: &Root, facts: &Facts) -> Found {
    let is_machine = facts.environment.is_machine();
    Ok(match identity_path(root)? {
        None => pass("none found"),
        Some(path) if is_machine => warn(
            format!("`{path}` exists, as it should on a machine that is registered"),
            "remove it before an image is made of this machine",
        ),
        Some(path) => fail(
            format!("`{path}` exists"),
            "remove it before the image is published",
        ),
    })
}

pub(crate) fn identity_path(root: &Root) -> Result<Option<String>, IoError> {
    for path in [
        REGISTRATION,
        "/var/lib/amazon/ssm/Vault",
        activation::STAMP,
        activation::STATUS,
    ] {
        if root.meta(&RootPath::fixed(path), Last::Keep)?.is_some() {
            return Ok(Some(path.to_owned()));
        }
    }
    let dir = RootPath::fixed(STATE);
    let entries = root.read_dir(&dir)?.unwrap_or_default();
    let instance = entries
        .iter()
        .find(|entry| entry.name.starts_with("i-") || entry.name.starts_with("mi-"));
    Ok(instance.map(|entry| format!("{dir}/{}", entry.name)))
}

fn clock(facts: &Facts) -> Finding {
    match &facts.clock {
        Some(program) => pass(format!("`{program}`")),
        None => warn(
            "neither chrony, systemd-timesyncd nor ntpd is there and enabled",
            "install and enable one: AWS refuses a machine that is five minutes off",
        ),
    }
}

fn override_files(root: &Root) -> Found {
    for place in [InstallChannel::Package, InstallChannel::Snap]
        .map(|channel| config::proxy::place(ServiceManager::Systemd, channel))
    {
        let Some(dir) = place.parent() else { continue };
        let entries = root.read_dir(&dir)?.unwrap_or_default();
        if let Some(entry) = entries.iter().find(|entry| !entry.name.ends_with(".conf")) {
            return Ok(warn(
                format!("systemd ignores `{dir}/{}`", entry.name),
                "rename it so that it ends in .conf",
            ));
        }
    }
    Ok(pass("nothing is ignored"))
}

fn database_at_rest(root: &Root, facts: &Facts) -> Found {
    if let Some(package) = facts
        .agent
        .package
        .as_ref()
        .filter(|package| package.state == "unregistered")
    {
        return Ok(warn(
            format!("rpm learns of {} {} at first boot", PACKAGE, package.version),
            "boot once, or leave it to the machines that boot the image",
        ));
    }
    let updates = root
        .read_dir(&RootPath::fixed("/var/lib/dpkg/updates"))?
        .unwrap_or_default();
    Ok(match updates.is_empty() {
        true => pass("no work is left"),
        false => fail(
            "dpkg was interrupted",
            "run `dpkg --configure --pending` in the tree",
        ),
    })
}

fn receipt_holds(root: &Root) -> Found {
    let Some(receipt) = receipt::read(root)? else {
        return Ok(pass("ssmbake has not changed this tree"));
    };
    if let Some(path) = receipt::changed_program(root, &receipt)? {
        return Ok(warn(
            format!("`{path}` was changed since"),
            "check who changed it",
        ));
    }
    Ok(pass("unchanged"))
}
