//! Checks of files: who may change what runs as root, and what the build left.

use serde_json::Value;
use ssmbake_manifests::{AgentVersion, Arch, Catalog, PackageFormat, ServiceManager};

use super::{Finding, STATE, fail, pass, warn};
use crate::config;
use crate::config::proxy;
use crate::error::IoError;
use crate::packages::PACKAGE;
use crate::packages::deb::version::upstream;
use crate::probe::{Facts, of_program};
use crate::root::{Kind, Last, Root, RootPath};
use crate::selinux;
use crate::service::{systemd, upstart};
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
/// Where a build's proxy stays.
const PROXIES: [&str; 8] = [
    "/etc/environment",
    "/etc/yum.conf",
    "/etc/dnf/dnf.conf",
    "/etc/sysconfig/proxy",
    "/etc/wgetrc",
    "/root/.curlrc",
    "/root/.wgetrc",
    "/root/.gitconfig",
];
const PROXY_DIRS: [&str; 3] = ["/etc/apt/apt.conf.d", "/etc/profile.d", "/etc/zypp"];
/// Where an activation stays that was not meant to.
const ACTIVATIONS: [&str; 8] = [
    "/etc/default/grub",
    "/boot/grub/grub.cfg",
    "/boot/grub2/grub.cfg",
    "/etc/kernel/cmdline",
    "/etc/environment",
    "/var/lib/cloud/seed/nocloud/user-data",
    "/var/lib/cloud/seed/nocloud-net/user-data",
    "/ssm-activation",
];
const SNAPD_STATE: &str = "/var/lib/snapd/state.json";
const SNAPD_STATE_LIMIT: usize = 64 * 1024 * 1024;
/// snapd stores `forever` as a time three hundred years ahead.
const SNAPD_NEVER: &str = "2200";
const IMAGE_BUILDER: &str = "/tmp/imagebuilder_service/ssm_installed";
const SUDOERS: &str = "/etc/sudoers.d/ssm-agent-users";

pub(super) fn findings(
    root: &Root,
    facts: &Facts,
    catalog: &Catalog,
) -> Result<Vec<(&'static str, Finding)>, IoError> {
    let configuration = [config::PATH, "/etc/amazon/ssm/seelog.xml", "/etc/amazon/ssm"];
    let units = unit_files(root, facts)?;
    let environment = environment(root, facts, &units)?;
    let proxy = proxy::in_force(root, facts.service_manager.value, facts.agent.channel)?;
    Ok(vec![
        ("SSMB066", only_root(root, &configuration)?),
        ("SSMB067", only_root(root, &PROGRAMS)?),
        ("SSMB068", unit_owner(root, &units)?),
        ("SSMB069", architecture(root, facts)?),
        ("SSMB070", no_proxy(proxy.as_ref())),
        ("SSMB071", password(&environment)),
        ("SSMB072", bypassed(&environment)),
        ("SSMB073", build_proxies(root)?),
        ("SSMB074", activations(root, facts)?),
        ("SSMB075", commands(root, &units)?),
        ("SSMB076", fixed_addresses(root)?),
        ("SSMB077", hold(facts)),
        ("SSMB078", sessions(root, facts)?),
        ("SSMB079", image_builder(root)?),
        ("SSMB080", relabel(root)?),
        ("SSMB081", only_root(root, &[STATE, "/var/lib/amazon"])?),
        ("SSMB082", kernel(facts, catalog)),
        ("SSMB083", labels(root, facts, &units)?),
        ("SSMB084", refresh(root, facts)?),
        ("SSMB086", settled(root)?),
    ])
}

/// Owned by root, and nobody else may write.
fn only_root(root: &Root, paths: &[&str]) -> Result<Finding, IoError> {
    for path in paths.iter().filter_map(|path| RootPath::new(path).ok()) {
        if let Some(finding) = writable(root, &path)? {
            return Ok(finding);
        }
    }
    Ok(pass("nobody else can"))
}

fn writable(root: &Root, path: &RootPath) -> Result<Option<Finding>, IoError> {
    let Some(meta) = root.meta(path, Last::Follow)? else {
        return Ok(None);
    };
    // A tree that a user unpacked is that user's as a whole; root's are the numbers in it that will be root's.
    let owner = root
        .meta(&RootPath::top(), Last::Follow)?
        .map_or(0, |top| top.uid);
    let fix = format!("`chown root:root {path}; chmod go-w {path}`");
    Ok(match (meta.uid, meta.mode & 0o022) {
        (0, 0) => None,
        (uid, 0) if uid == owner => None,
        (uid, _) if uid == 0 || uid == owner => {
            Some(fail(format!("`{path}` has mode {:04o}", meta.mode), fix))
        }
        (uid, _) => Some(fail(format!("`{path}` belongs to user {uid}"), fix)),
    })
}

/// The agent's unit and drop-ins, or its job and override.
fn unit_files(root: &Root, facts: &Facts) -> Result<Vec<RootPath>, IoError> {
    if facts.service_manager.value != ServiceManager::Systemd {
        return Ok(vec![
            RootPath::fixed(upstart::JOB),
            RootPath::fixed(upstart::OVERRIDE),
        ]);
    }
    let unit = facts.agent.channel.unit();
    let mut files: Vec<RootPath> = systemd::find(root, unit)?.into_iter().collect();
    for base in ["/etc/systemd/system", "/usr/lib/systemd/system"] {
        let Ok(dir) = RootPath::new(&format!("{base}/{unit}.d")) else {
            continue;
        };
        let entries = root.read_dir(&dir)?.unwrap_or_default();
        let conf = entries.iter().filter(|entry| entry.name.ends_with(".conf"));
        files.extend(conf.filter_map(|entry| dir.join(&entry.name).ok()));
    }
    Ok(files)
}

fn unit_owner(root: &Root, units: &[RootPath]) -> Result<Finding, IoError> {
    for path in units {
        if let Some(finding) = writable(root, path)? {
            return Ok(finding);
        }
    }
    Ok(pass("nobody else can"))
}

fn architecture(root: &Root, facts: &Facts) -> Result<Finding, IoError> {
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

/// The settings of the agent's environment by name, lower-case.
fn environment(root: &Root, facts: &Facts, units: &[RootPath]) -> Result<Vec<(String, String)>, IoError> {
    let manager = facts.service_manager.value;
    let mut settings = Vec::new();
    for path in units {
        let bytes = root.read_if_file(path, TEXT_LIMIT)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        settings.extend(text.lines().filter_map(|line| proxy::setting(manager, line)));
    }
    Ok(settings)
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
fn has_password(text: &str) -> bool {
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

fn build_proxies(root: &Root) -> Result<Finding, IoError> {
    let mut paths: Vec<RootPath> = PROXIES.into_iter().map(RootPath::fixed).collect();
    for dir in PROXY_DIRS.into_iter().map(RootPath::fixed) {
        let entries = root.read_dir(&dir)?.unwrap_or_default();
        paths.extend(entries.iter().filter_map(|entry| dir.join(&entry.name).ok()));
    }
    for path in paths {
        let bytes = root.read_if_file(&path, TEXT_LIMIT)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let is_active =
            |line: &&str| !line.trim_start().starts_with(['#', ';']) && !line.trim_start().starts_with("//");
        let hit = |line: &str| line.to_ascii_lowercase().contains("proxy") && has_password(line);
        if text.lines().filter(is_active).any(hit) {
            return Ok(fail(
                format!("`{path}` has one"),
                "remove it before the image is published",
            ));
        }
    }
    Ok(pass("none"))
}

fn activations(root: &Root, facts: &Facts) -> Result<Finding, IoError> {
    if facts.environment.is_machine() {
        return Ok(pass("this is no image"));
    }
    for path in ACTIVATIONS.into_iter().map(RootPath::fixed) {
        let bytes = root.read_if_file(&path, TEXT_LIMIT)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        if ["ssm-activation:", "ssm-activation=", "ActivationCode"]
            .iter()
            .any(|mark| text.contains(mark))
        {
            return Ok(fail(
                format!("`{path}` has one"),
                "remove it, and give it to each machine; `aws ssm delete-activation` takes back this one",
            ));
        }
    }
    Ok(pass("none"))
}

fn commands(root: &Root, units: &[RootPath]) -> Result<Finding, IoError> {
    for path in units {
        let is_admin = path.as_str().starts_with("/etc/systemd/");
        let bytes = root.read_if_file(path, TEXT_LIMIT)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        if is_admin
            && text
                .lines()
                .any(|line| line.trim_start().starts_with("ExecStart="))
        {
            return Ok(warn(
                format!("`{path}` sets ExecStart"),
                "remove it, unless it is on purpose",
            ));
        }
    }
    Ok(pass("it does"))
}

fn fixed_addresses(root: &Root) -> Result<Finding, IoError> {
    let bytes = root
        .read_if_file(&RootPath::fixed("/etc/hosts"), TEXT_LIMIT)?
        .unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let names = text
        .lines()
        .filter_map(|line| line.split('#').next())
        .flat_map(|line| line.split_whitespace().skip(1));
    let mut fixed = names.filter(|name| {
        [".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu"]
            .iter()
            .any(|end| name.ends_with(end))
    });
    Ok(match fixed.next() {
        None => pass("none in /etc/hosts"),
        Some(name) => warn(
            format!("/etc/hosts has {name}"),
            "remove it; for a VPC endpoint use its own name with --endpoint, or private DNS",
        ),
    })
}

fn hold(facts: &Facts) -> Finding {
    match &facts.agent.package {
        Some(package) if package.want == "hold" => {
            warn("it is on hold", format!("`apt-mark unhold {PACKAGE}`"))
        }
        _ => pass("it may"),
    }
}

fn sessions(root: &Root, facts: &Facts) -> Result<Finding, IoError> {
    let exists = root.meta(&RootPath::fixed(SUDOERS), Last::Keep)?.is_some();
    Ok(match exists && !facts.environment.is_machine() {
        true => warn(
            format!("`{SUDOERS}` exists"),
            "remove it and the user ssm-user before the image is published",
        ),
        false => pass("no trace of one"),
    })
}

fn image_builder(root: &Root) -> Result<Finding, IoError> {
    Ok(match root.meta(&RootPath::fixed(IMAGE_BUILDER), Last::Keep)? {
        None => pass("it did not install it"),
        Some(_) => warn(
            format!("`{IMAGE_BUILDER}` exists"),
            "install the agent in a component of the recipe: Image Builder leaves that one",
        ),
    })
}

/// A hold for good; those for hours or months end by themselves.
fn refresh(root: &Root, facts: &Facts) -> Result<Finding, IoError> {
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
fn settled(root: &Root) -> Result<Finding, IoError> {
    Ok(match txn::is_pending(root)? {
        false => pass("none"),
        true => fail(
            "a change is under way or was interrupted",
            "run `ssmbake apply`, `seal` or `revert`, which finish it, and audit again",
        ),
    })
}

fn relabel(root: &Root) -> Result<Finding, IoError> {
    Ok(match root.meta(&RootPath::fixed("/.autorelabel"), Last::Keep)? {
        None => pass("none"),
        Some(_) => warn(
            "`/.autorelabel` exists",
            "give the first boot minutes, or label the tree now: `setfiles`, or --selinux label",
        ),
    })
}

fn labels(root: &Root, facts: &Facts, units: &[RootPath]) -> Result<Finding, IoError> {
    let Some(selinux) = &facts.selinux else {
        return Ok(pass("SELinux is not in use"));
    };
    if root
        .meta(&RootPath::fixed(selinux::RELABEL), Last::Keep)?
        .is_some()
    {
        return Ok(pass("the first boot sets them"));
    }
    let own = PROGRAMS.into_iter().chain([config::PATH]).map(RootPath::fixed);
    for path in own.chain(units.iter().cloned()) {
        let is_file = root
            .meta(&path, Last::Follow)?
            .is_some_and(|meta| meta.kind == Kind::File);
        if is_file && root.attribute(&path, selinux::ATTRIBUTE)?.is_none() {
            let (what, fix) = (
                format!("`{path}` has none"),
                "run `ssmbake apply --selinux relabel`",
            );
            return Ok(match selinux.mode.as_str() {
                "enforcing" => fail(what, fix),
                _ => warn(what, fix),
            });
        }
    }
    Ok(pass("all have one"))
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
