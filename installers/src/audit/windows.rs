//! Checks of Windows trees and machines: what the registry and a few files say.

use ssmbake_manifests::Catalog;

use super::files::{bypassed, no_proxy, password};
use super::{
    Finding, Found, Profile, complete, config_readable, config_values, configuration, fail, missing_roots,
    pass, system, version, warn,
};
use crate::config::proxy;
use crate::error::IoError;
use crate::probe::{Facts, WINDOWS_STATE, WindowsFacts, fold};
use crate::root::Root;
use crate::service::Enablement;

/// Windows' own word for a setup that is done.
const COMPLETE: &str = "IMAGE_STATE_COMPLETE";
/// Of an image that sysprep has made ready for its first boot.
const SEALED: [&str; 2] = [
    "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE",
    "IMAGE_STATE_SPECIALIZE_RESEAL_TO_OOBE",
];
/// Below the agent's state: who the machine is.
const IDENTITY: [&str; 2] = ["InstanceData", "Vault"];
/// Below it: what a life leaves.
const TRACES: [&str; 6] = [
    "Logs",
    "Download",
    "Update",
    "LocalCommands",
    "Session",
    "runtimeconfig",
];
const INSTALL: &str =
    "run AWS's AmazonSSMAgentSetup.exe /quiet; `ssmbake export --format autounattend` does so";

pub(super) fn findings(
    root: &Root,
    facts: &Facts,
    windows: &WindowsFacts,
    catalog: &Catalog,
    profile: Profile,
) -> Vec<(&'static str, Found)> {
    let settings: Vec<(String, String)> = settings(windows);
    let set_proxy = "set https_proxy and no_proxy in the value `Environment` of the service's key";
    let mut found = vec![
        ("SSMB001", Ok(system(facts, catalog))),
        ("SSMB002", Ok(installed(facts))),
        (
            "SSMB004",
            Ok(with_fix(complete(facts), "install the agent again")),
        ),
        ("SSMB005", Ok(version(facts, catalog))),
        ("SSMB006", Ok(enabled(facts))),
        ("SSMB007", Ok(config_readable(facts))),
        ("SSMB008", Ok(config_values(facts, catalog))),
        ("SSMB009", Ok(roots(facts, catalog))),
        ("SSMB010", identity(root, facts)),
        ("SSMB016", Ok(image_state(windows, facts))),
        ("SSMB017", Ok(powershell(windows))),
        ("SSMB018", Ok(launch_agent(windows, facts))),
        (
            "SSMB070",
            Ok(with_fix(no_proxy(in_force(windows).as_ref()), set_proxy)),
        ),
        (
            "SSMB071",
            Ok(with_fix(
                password(&settings),
                "let the proxy know this machine by its address",
            )),
        ),
        ("SSMB072", Ok(with_fix(bypassed(&settings), set_proxy))),
    ];
    found.extend(configuration::findings(facts, catalog, profile));
    if profile == Profile::Image {
        found.push(("SSMB019", traces(root)));
    }
    found
}

/// The same with Windows' way to mend it.
fn with_fix(Finding(verdict, detail, fix): Finding, own: &str) -> Finding {
    let fix = if fix.is_empty() { fix } else { own.to_owned() };
    Finding(verdict, detail, fix)
}

/// The service's environment by name, lower-case.
fn settings(windows: &WindowsFacts) -> Vec<(String, String)> {
    let pairs = windows.service_environment.iter();
    pairs
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect()
}

/// The agent's proxy and its exceptions.
pub(super) fn in_force(windows: &WindowsFacts) -> Option<(String, String)> {
    proxy::chosen(settings(windows))
}

fn installed(facts: &Facts) -> Finding {
    match &facts.agent.package {
        Some(package) => pass(format!("version {}", package.version)),
        None => fail("there is no agent", INSTALL),
    }
}

fn enabled(facts: &Facts) -> Finding {
    match &facts.agent.enablement {
        Enablement::Enabled(path) => pass(format!("by `{path}`")),
        Enablement::Missing => fail("there is no service", INSTALL),
        Enablement::Disabled | Enablement::Masked(_) => fail(
            "the service does not start by itself",
            "`sc config AmazonSSMAgent start= auto`",
        ),
    }
}

fn roots(facts: &Facts, catalog: &Catalog) -> Finding {
    match missing_roots(facts, catalog) {
        missing if missing.is_empty() => pass("all five"),
        missing => warn(
            format!("not in the store: {}", missing.join(", ")),
            "Windows fetches them when it can reach Windows Update; where it cannot, `certutil -addstore -f Root FILE`",
        ),
    }
}

fn identity(root: &Root, facts: &Facts) -> Result<Finding, IoError> {
    let Some(path) = first_filled(root, &IDENTITY)? else {
        return Ok(pass("none found"));
    };
    Ok(match facts.environment.is_machine() {
        true => warn(
            format!("`{path}` is not empty, as on any machine that is registered"),
            "empty it before an image is made of this machine",
        ),
        false => fail(
            format!("`{path}` is not empty"),
            "empty it before the image is published",
        ),
    })
}

fn traces(root: &Root) -> Result<Finding, IoError> {
    Ok(match first_filled(root, &TRACES)? {
        None => pass("nothing"),
        Some(path) => fail(
            format!("`{path}` is not empty"),
            "stop the service and empty it before sysprep",
        ),
    })
}

/// The first of these directories of the agent's state that holds anything.
fn first_filled(root: &Root, names: &[&str]) -> Result<Option<String>, IoError> {
    for name in names {
        let Some(path) = fold(root, &format!("{WINDOWS_STATE}/{name}"))? else {
            continue;
        };
        if root.read_dir(&path)?.is_some_and(|entries| !entries.is_empty()) {
            return Ok(Some(path.to_string()));
        }
    }
    Ok(None)
}

fn image_state(windows: &WindowsFacts, facts: &Facts) -> Finding {
    let Some(state) = &windows.image_state else {
        return pass("Windows says nothing, and the agent does not wait");
    };
    let will_finish = !facts.environment.is_machine() && SEALED.contains(&state.as_str());
    match state == COMPLETE || will_finish {
        true => pass(state.clone()),
        false => fail(
            format!("ImageState is {state}"),
            "let Windows' setup end: the agent does not start before; look at `C:\\Windows\\Panther\\setuperr.log`",
        ),
    }
}

fn powershell(windows: &WindowsFacts) -> Finding {
    let fix = "install Windows Management Framework 3.0 or later";
    let Some(text) = &windows.powershell else {
        return fail("there is none", fix);
    };
    match text.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
        Some(3..) => pass(text.clone()),
        _ => fail(format!("it is {text}"), fix),
    }
}

fn launch_agent(windows: &WindowsFacts, facts: &Facts) -> Finding {
    let is_old = windows.launch_agent.as_deref() == Some("EC2Config");
    match (is_old, &facts.agent.package) {
        (true, None) => fail(
            "only EC2Config, whose own agent is of 2016 or before, is there",
            INSTALL,
        ),
        (true, Some(_)) => pass("EC2Config, with the agent beside it"),
        (false, _) => pass(windows.launch_agent.clone().unwrap_or_else(|| "none".to_owned())),
    }
}

/// What starts it, and what says why it stopped.
pub(super) const START: &str =
    "`sc start AmazonSSMAgent`; `C:\\ProgramData\\Amazon\\SSM\\Logs` says why it stopped";
