//! Checks of files: who may change what runs as root, and what the build left.

use serde_json::Value;
use ssmbake_manifests::{AgentVersion, Arch, Catalog, PackageFormat};

use super::{Finding, Found, STATE, fail, pass, warn};
use crate::config;
use crate::config::proxy;
use crate::error::IoError;
use crate::packages::PACKAGE;
use crate::packages::deb::version::upstream;
use crate::probe::{Facts, of_program};
use crate::root::{Kind, Last, Meta, Root, RootPath};
use crate::selinux::{self, Labels};
use crate::service::environment;
use crate::txn;

const TEXT_LIMIT: usize = 1024 * 1024;
/// The agent's own programs, of all packages.
const PROGRAMS: [&str; 6] = [
    "/usr/bin/amazon-ssm-agent",
    "/usr/bin/ssm-agent-worker",
    "/usr/bin/ssm-cli",
    "/usr/bin/ssm-document-worker",
    "/usr/bin/ssm-session-logger",
    "/usr/bin/ssm-session-worker",
];
const SNAPD_STATE: &str = "/var/lib/snapd/state.json";
const SNAPD_STATE_LIMIT: usize = 64 * 1024 * 1024;
/// snapd stores `forever` as a time three hundred years ahead.
const SNAPD_NEVER: &str = "2200";
pub(super) fn findings(root: &Root, facts: &Facts, catalog: &Catalog) -> Vec<(&'static str, Found)> {
    let configuration = [config::PATH, "/etc/amazon/ssm/seelog.xml", "/etc/amazon/ssm"];
    let environment = || environment::read(root, facts.service_manager.value, facts.agent.channel);
    vec![
        ("SSMB066", only_root(root, &configuration)),
        ("SSMB067", only_root(root, &PROGRAMS)),
        ("SSMB068", unit_owner(root, facts)),
        ("SSMB069", architecture(root, facts)),
        (
            "SSMB070",
            environment().map(|settings| no_proxy(proxy::chosen(settings).as_ref())),
        ),
        ("SSMB071", environment().map(|settings| password(&settings))),
        ("SSMB072", environment().map(|settings| bypassed(&settings))),
        ("SSMB075", commands(root, facts)),
        ("SSMB077", Ok(hold(facts))),
        ("SSMB080", relabel(root)),
        ("SSMB081", only_root(root, &[STATE, "/var/lib/amazon"])),
        ("SSMB082", Ok(kernel(facts, catalog))),
        ("SSMB083", labels(root, facts)),
        ("SSMB084", refresh(root, facts)),
        ("SSMB086", settled(root)),
    ]
}

/// A file's text; none where there is no file. Links that lead in a circle are none.
pub(super) fn text(root: &Root, path: &RootPath) -> Result<Option<String>, IoError> {
    match root.read_if_file(path, TEXT_LIMIT) {
        Ok(bytes) => Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.is_loop() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is wrong with the first of `paths` that has a fault. One that cannot be read does not hide another's.
pub(super) fn first<'p>(
    paths: impl IntoIterator<Item = &'p RootPath>,
    mut fault: impl FnMut(&RootPath) -> Result<Option<Finding>, IoError>,
) -> Result<Option<Finding>, IoError> {
    let mut unread = None;
    for path in paths {
        match fault(path) {
            Ok(None) => {}
            Ok(found) => return Ok(found),
            Err(error) => unread = unread.or(Some(error)),
        }
    }
    unread.map_or(Ok(None), Err)
}

/// Owned by root, and nobody else may write.
fn only_root(root: &Root, paths: &[&'static str]) -> Found {
    let paths: Vec<RootPath> = paths.iter().map(|path| RootPath::fixed(path)).collect();
    let fault = first(&paths, |path| writable(root, path))?;
    Ok(fault.unwrap_or_else(|| pass("nobody else can")))
}

/// Who else may write the file, or put another in its place: its directories count as well.
fn writable(root: &Root, path: &RootPath) -> Result<Option<Finding>, IoError> {
    let place = match root.canonical(path, Last::Follow) {
        Err(error) if error.is_loop() => return Ok(None),
        other => other?,
    };
    if root.meta(&place, Last::Keep)?.is_none() {
        return Ok(None);
    }
    let owner = owner(root)?;
    let mut next = Some(place);
    while let Some(place) = next {
        let meta = root.meta(&place, Last::Keep)?;
        if let Some(fault) = meta.and_then(|meta| fault_of(&place, &meta, owner)) {
            return Ok(Some(fault));
        }
        next = place.parent();
    }
    Ok(None)
}

fn fault_of(path: &RootPath, meta: &Meta, owner: u32) -> Option<Finding> {
    let fix = format!("`chown root:root {path}; chmod go-w {path}`");
    match (meta.uid, meta.mode & 0o022) {
        (uid, 0) if uid == 0 || uid == owner => None,
        (uid, _) if uid == 0 || uid == owner => {
            Some(fail(format!("`{path}` has mode {:04o}", meta.mode), fix))
        }
        (uid, _) => Some(fail(format!("`{path}` belongs to user {uid}"), fix)),
    }
}

/// A tree that a user unpacked is that user's as a whole, and root's are the numbers in it that will be root's. To root
/// the owners are what they are.
fn owner(root: &Root) -> Result<u32, IoError> {
    #[cfg(unix)]
    if rustix::process::geteuid().is_root() {
        return Ok(0);
    }
    let top = root.meta(&RootPath::top(), Last::Follow)?;
    Ok(top.map_or(0, |top| top.uid))
}

/// The agent's unit and drop-ins, or its job and override.
fn unit_files(root: &Root, facts: &Facts) -> Result<Vec<RootPath>, IoError> {
    environment::files(root, facts.service_manager.value, facts.agent.channel)
}

fn unit_owner(root: &Root, facts: &Facts) -> Found {
    let fault = first(&unit_files(root, facts)?, |path| writable(root, path))?;
    Ok(fault.unwrap_or_else(|| pass("nobody else can")))
}

fn architecture(root: &Root, facts: &Facts) -> Found {
    for program in PROGRAMS {
        let Some(found) = of_program(root, program)? else {
            continue;
        };
        // Go's programs for ARM do not say that they use the FPU.
        let fits = found == facts.arch.value || (found, facts.arch.value) == (Arch::Armel, Arch::Armhf);
        if !fits {
            return Ok(fail(
                format!("`{program}` is for {found}, the system for {}", facts.arch.value),
                "remove the package and run `ssmbake apply`",
            ));
        }
    }
    Ok(pass(facts.arch.value.to_string()))
}

pub(super) fn no_proxy(proxy: Option<&(String, String)>) -> Finding {
    let Some((_, hosts)) = proxy else {
        return pass("there is no proxy");
    };
    let covers = |host: &str| matches!(host.trim(), "169.254.169.254" | "169.254.0.0/16" | "*");
    match hosts.split(',').any(covers) {
        true => pass("169.254.169.254 is in no_proxy"),
        false => fail(
            "no_proxy lacks 169.254.169.254",
            "run `ssmbake apply` with --proxy, which adds it",
        ),
    }
}

pub(super) fn password(environment: &[(String, String)]) -> Finding {
    let told = |(name, value): &&(String, String)| name.ends_with("_proxy") && has_password(value);
    match environment.iter().find(told) {
        Some((name, _)) => warn(
            format!("{name} has a password, which the agent logs"),
            "let the proxy know this machine by its address instead",
        ),
        None => pass("none"),
    }
}

/// `scheme://user:password@host`.
pub(super) fn has_password(text: &str) -> bool {
    let after = text.split("://").skip(1);
    let mut authorities = after.filter_map(|rest| rest.split(['/', '"', ' ']).next());
    authorities.any(|authority| {
        authority
            .rsplit_once('@')
            .is_some_and(|(user, _)| user.contains(':'))
    })
}

pub(super) fn bypassed(environment: &[(String, String)]) -> Finding {
    let has = |wanted: &str| {
        environment
            .iter()
            .any(|(name, value)| name == wanted && !value.is_empty())
    };
    match has("http_proxy") && !has("https_proxy") {
        true => fail(
            "http_proxy is set and https_proxy is not",
            "run `ssmbake apply` with --proxy, which sets both",
        ),
        false => pass("nothing is bypassed"),
    }
}

fn commands(root: &Root, facts: &Facts) -> Found {
    let sets_command = |path: &RootPath| {
        let text = text(root, path)?.unwrap_or_default();
        let mut lines = text.lines().map(str::trim_start);
        let found =
            path.as_str().starts_with("/etc/systemd/") && lines.any(|line| line.starts_with("ExecStart="));
        let remark = || {
            warn(
                format!("`{path}` sets ExecStart"),
                "remove it, unless it is on purpose",
            )
        };
        Ok(found.then(remark))
    };
    let found = first(&unit_files(root, facts)?, sets_command)?;
    Ok(found.unwrap_or_else(|| pass("it does")))
}

fn hold(facts: &Facts) -> Finding {
    match &facts.agent.package {
        Some(package) if package.want == "hold" => {
            warn("it is on hold", format!("`apt-mark unhold {PACKAGE}`"))
        }
        _ => pass("it may"),
    }
}

/// A hold for good; those for hours or months end by themselves.
fn refresh(root: &Root, facts: &Facts) -> Found {
    if facts.agent.snap.is_none() {
        return Ok(pass("it is no snap"));
    }
    let bytes = root.read_if_file(&RootPath::fixed(SNAPD_STATE), SNAPD_STATE_LIMIT)?;
    // A state that is none is snapd's to mend.
    let state: Value = serde_json::from_slice(&bytes.unwrap_or_default()).unwrap_or_default();
    let all = state.pointer("/data/config/core/refresh/hold");
    let own = state.pointer("/data/snaps-hold/amazon-ssm-agent/system/hold-until");
    let is_for_good = |hold: Option<&Value>| {
        hold.and_then(Value::as_str)
            .is_some_and(|text| text == "forever" || text >= SNAPD_NEVER)
    };
    Ok(match (is_for_good(all), is_for_good(own)) {
        (true, _) => warn(
            "refreshes of all snaps are held for good",
            "`snap set system refresh.hold=` lifts it",
        ),
        (_, true) => warn(
            "its refreshes are held for good",
            "`snap refresh --unhold amazon-ssm-agent` lifts it",
        ),
        _ => pass("nobody holds it back for good"),
    })
}

/// What else is found in a tree that is half changed may be of before or of after.
fn settled(root: &Root) -> Found {
    Ok(match txn::is_pending(root)? {
        false => pass("none"),
        true => fail(
            "a change is under way or was interrupted",
            "run `ssmbake apply`, `seal` or `revert`, which finish it, and audit again",
        ),
    })
}

fn relabel(root: &Root) -> Found {
    Ok(match root.meta(&RootPath::fixed("/.autorelabel"), Last::Keep)? {
        None => pass("none"),
        Some(_) => warn(
            "`/.autorelabel` exists",
            "give the first boot minutes, or label the tree now: `setfiles`, or --selinux label",
        ),
    })
}

fn labels(root: &Root, facts: &Facts) -> Found {
    let Some(selinux) = &facts.selinux else {
        return Ok(pass("SELinux is not in use"));
    };
    if root
        .meta(&RootPath::fixed(selinux::RELABEL), Last::Keep)?
        .is_some()
    {
        return Ok(pass("the first boot sets them"));
    }
    let policy = Labels::read(root, &selinux.policy)?;
    let mut paths: Vec<RootPath> = PROGRAMS
        .into_iter()
        .chain([config::PATH])
        .map(RootPath::fixed)
        .collect();
    paths.extend(unit_files(root, facts)?);
    let fault = first(&paths, |path| {
        let meta = root.meta(path, Last::Follow)?;
        if meta.is_none_or(|meta| meta.kind != Kind::File) {
            return Ok(None);
        }
        let label = root.attribute(path, selinux::ATTRIBUTE)?;
        let place = root.canonical(path, Last::Follow)?;
        let what = match (label, policy.of(&place, Kind::File)) {
            (None, _) => format!("`{path}` has none"),
            (Some(label), Some(wanted)) if kind_of(&label) != kind_of(wanted) => {
                format!("`{path}` has `{label}`, the policy says `{wanted}`")
            }
            _ => return Ok(None),
        };
        let fix = "run `ssmbake apply --selinux relabel`";
        Ok(Some(match selinux.mode.as_str() {
            "enforcing" => fail(what, fix),
            _ => warn(what, fix),
        }))
    })?;
    Ok(fault.unwrap_or_else(|| pass("all as the policy says")))
}

/// The type in a label: it is what `restorecon` compares.
fn kind_of(label: &str) -> &str {
    label.split(':').nth(2).unwrap_or(label)
}

fn kernel(facts: &Facts, catalog: &Catalog) -> Finding {
    let last = catalog.os(&facts.os.value.id).and_then(|os| os.agent_max);
    let installed = facts
        .agent
        .package
        .as_ref()
        .filter(|package| package.format != PackageFormat::Exe)
        .and_then(|package| upstream(&package.version).parse::<AgentVersion>().ok());
    match (installed, last) {
        (Some(installed), Some(last)) if installed > last => fail(
            format!("{installed} does not run on {}", facts.os.value.name),
            format!("install {last}: `ssmbake apply --version {last} --allow-downgrade`"),
        ),
        _ => pass("it does"),
    }
}
