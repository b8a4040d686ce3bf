//! Whether the job of ours registers a machine at its first boot.

use ssmbake_manifests::ServiceManager;

use super::{Finding, Found, Profile, REGISTRATION, fail, pass, warn};
use crate::activation::{self, Source};
use crate::probe::Facts;
use crate::root::{Last, Root, RootPath};
use crate::service::{Enablement, systemd};

/// Whether the job of ours will run, and on a machine, what came of it.
pub(super) fn finding(root: &Root, facts: &Facts, profile: Profile) -> Found {
    let Some(sources) = activation::sources(root)? else {
        let is_registered = facts.environment.is_machine()
            && root.meta(&RootPath::fixed(REGISTRATION), Last::Keep)?.is_some();
        return Ok(match profile == Profile::Hybrid && !is_registered {
            true => fail(
                "nothing registers this machine",
                "run `ssmbake apply --target hybrid --activation-source auto`",
            ),
            false => pass("nobody asked for it"),
        });
    };
    if profile == Profile::Ec2 {
        return Ok(fail(
            format!(
                "`{}` registers instances of EC2 as machines elsewhere",
                activation::SCRIPT
            ),
            "make the image without --activation-source",
        ));
    }
    let state = match facts.service_manager.value {
        ServiceManager::Systemd => systemd::state(root, activation::UNIT)?,
        _ => match root.meta(&RootPath::fixed(activation::JOB), Last::Follow)? {
            Some(_) => Enablement::Enabled(RootPath::fixed(activation::JOB)),
            None => Enablement::Missing,
        },
    };
    if !matches!(state, Enablement::Enabled(_)) {
        return Ok(fail(
            format!("`{}` does not start", activation::UNIT),
            "run `ssmbake apply` again with --activation-source",
        ));
    }
    if !facts.environment.is_machine() {
        for source in &sources {
            if let Source::File(path) = source
                && root.meta(path, Last::Follow)?.is_some()
            {
                return Ok(fail(
                    format!("`{path}` is in the image: every machine would use the same activation"),
                    "remove it, and put it there when a machine is made",
                ));
            }
        }
        let names: Vec<String> = sources.iter().map(Source::to_string).collect();
        return Ok(pass(format!("from {}", names.join(", "))));
    }
    Ok(match activation::status(root)? {
        Some(status) => registered(status),
        None => warn(
            "it has not run yet",
            format!("`systemctl start {}`", activation::UNIT),
        ),
    })
}

/// What the job reports on a machine.
fn registered(status: activation::Status) -> Finding {
    match status.state.as_str() {
        "registered" if status.why.is_empty() => pass(format!("as {}", status.managed_instance)),
        "registered" => warn(
            format!("as {}, but {}", status.managed_instance, status.why),
            "do so",
        ),
        "waiting" => warn(status.why, "give this machine an activation and boot it again"),
        _ => fail(
            format!("{}, after {} attempts", status.why, status.attempts),
            "`aws ssm describe-activations`: is it expired or used up? Mend it and boot again",
        ),
    }
}
