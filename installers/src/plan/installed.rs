//! Whether what is asked for is installed already.

use ssmbake_manifests::AgentVersion;

use super::{Downgrade, PlanError, Request, conflict};
use crate::packages::deb::version::{compare, upstream};
use crate::probe::{Facts, PackageFacts};
use crate::supply::lockfile::Signer;

/// Whether this very version is there and whole, from the package that is pinned if one is; an error when what is there
/// must not be replaced.
pub(super) fn is_there(
    version: AgentVersion,
    request: &Request,
    facts: &Facts,
    notes: &mut Vec<String>,
) -> Result<bool, PlanError> {
    let Some(package) = facts
        .agent
        .package
        .as_ref()
        .filter(|package| package.is_installed())
    else {
        return Ok(false);
    };
    let order = compare(upstream(&package.version), &version.to_string());
    if order.is_eq() && package.missing_file.is_none() {
        if is_pinned(request, package) {
            return Ok(true);
        }
        notes.push(format!(
            "{version} is installed, but from another package than the pinned one, or nobody knows from which: it is installed anew"
        ));
    }
    if package.want == "hold" {
        return Err(conflict(
            format!("amazon-ssm-agent {} is on hold", package.version),
            "release it with `apt-mark unhold amazon-ssm-agent` in the tree",
        ));
    }
    if order.is_gt() && request.downgrade == Downgrade::Refuse {
        return Err(conflict(
            format!(
                "amazon-ssm-agent {} is installed, which is newer than {version}",
                package.version
            ),
            "use --allow-downgrade if that is meant",
        ));
    }
    Ok(false)
}

/// Whether what is installed is from the pinned package: two packages of one version need not be the same.
fn is_pinned(request: &Request, package: &PackageFacts) -> bool {
    let Some(pin) = &request.sha256 else { return true };
    let placed = package.placed.as_ref().filter(|_| !package.is_changed);
    placed.is_some_and(|placed| {
        let is_signer = |wanted: &Signer| *wanted == Signer::of(&placed.voucher);
        placed.sha256 == *pin && request.signer.as_ref().is_none_or(is_signer)
    })
}
