//! Which install channel a plan is for. Package and snap must not both be there: both would run.

use super::{ChannelChoice, PlanError, VersionSpec, conflict};
use crate::probe::{Facts, Place};
use crate::service::InstallChannel;

/// The channel, or why the one that is asked for cannot be had.
pub(super) fn choose(
    choice: ChannelChoice,
    version: VersionSpec,
    facts: &Facts,
) -> Result<InstallChannel, PlanError> {
    let Some(snap) = &facts.agent.snap else {
        return match choice {
            ChannelChoice::Auto | ChannelChoice::Package => Ok(InstallChannel::Package),
            ChannelChoice::Snap => Err(conflict(
                "the agent is not installed as a snap",
                "install it with `snap install amazon-ssm-agent --classic` on the running system, or use --channel package",
            )),
        };
    };
    if let Some(package) = &facts.agent.package {
        return Err(conflict(
            format!(
                "the agent is there as {} {} and as a snap (`{}`)",
                package.format, package.version, snap.path
            ),
            "remove one of them: both would run",
        ));
    }
    // Only a running snapd says and does what a snap needs.
    let is_usable = !snap.is_seeded && facts.environment.place.value == Place::Live;
    if choice == ChannelChoice::Package || !is_usable {
        let state = if snap.is_seeded {
            "will be installed at first boot"
        } else {
            "is installed"
        };
        return Err(conflict(
            format!(
                "the agent {state} as a snap (`{}`); snap and package must not both be there",
                snap.path
            ),
            "remove the snap from the image, or leave the package out: on the running system `apply` configures the snap",
        ));
    }
    if let VersionSpec::Exact(version) = version {
        return Err(conflict(
            format!("the agent is a snap, and snapd chooses its version, not {version}"),
            "leave out --version, or remove the snap and use --channel package",
        ));
    }
    Ok(InstallChannel::Snap)
}

#[cfg(test)]
mod tests {
    use ssmbake_manifests::{Arch, catalog};

    use super::*;
    use crate::probe::SnapFacts;

    #[test]
    fn a_running_snap_is_taken_and_any_other_is_a_conflict() {
        let catalog = catalog();
        let os = catalog.os("ubuntu-24.04").expect("known");
        let facts = |seeded: Option<bool>, place: Place| {
            let mut facts = Facts::untouched(os, Arch::Amd64);
            facts.environment.place.value = place;
            facts.agent.snap = seeded.map(|is_seeded| SnapFacts {
                version: None,
                path: "/snap/amazon-ssm-agent".to_owned(),
                is_seeded,
            });
            facts
        };
        let (snap, package) = (Some(InstallChannel::Snap), Some(InstallChannel::Package));
        let (auto, by_package, by_snap) = (ChannelChoice::Auto, ChannelChoice::Package, ChannelChoice::Snap);
        for (seeded, place, choice, expected) in [
            (None, Place::Live, auto, package),
            (None, Place::Live, by_snap, None),
            (None, Place::OfflineRoot, by_package, package),
            (Some(false), Place::Live, auto, snap),
            (Some(false), Place::Live, by_snap, snap),
            (Some(false), Place::Live, by_package, None),
            (Some(false), Place::Chroot, auto, None),
            (Some(true), Place::Live, by_snap, None),
            (Some(true), Place::OfflineRoot, auto, None),
        ] {
            let chosen = choose(choice, VersionSpec::Latest, &facts(seeded, place)).ok();
            assert_eq!(chosen, expected, "{seeded:?} {place:?} {choice:?}");
        }
        let exact = VersionSpec::Exact("3.3.1957.0".parse().expect("version"));
        assert!(choose(auto, exact, &facts(Some(false), Place::Live)).is_err());
        assert_eq!(choose(auto, exact, &facts(None, Place::Live)).ok(), package);
    }
}
