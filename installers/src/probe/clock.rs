//! Who keeps the clock right: AWS refuses requests that are five minutes off.

use crate::error::IoError;
use crate::root::{Last, Root, RootPath};
use crate::service::{Enablement, systemd};

/// Programs and the units that start them, by whichever name.
const PROGRAMS: [(&str, &[&str]); 10] = [
    ("/usr/sbin/chronyd", CHRONY),
    ("/sbin/chronyd", CHRONY),
    ("/usr/lib/systemd/systemd-timesyncd", TIMESYNCD),
    ("/lib/systemd/systemd-timesyncd", TIMESYNCD),
    ("/usr/sbin/ntpd", NTP),
    ("/sbin/ntpd", NTP),
    ("/usr/sbin/ntpsec", &["ntpsec.service"]),
    ("/usr/sbin/openntpd", &["openntpd.service"]),
    // The clocks of hypervisors' guests are set from outside.
    (
        "/usr/bin/vmtoolsd",
        &["open-vm-tools.service", "vmtoolsd.service"],
    ),
    (
        "/usr/sbin/VBoxService",
        &["virtualbox-guest-utils.service", "vboxservice.service"],
    ),
];
const CHRONY: &[&str] = &["chronyd.service", "chrony.service"];
const TIMESYNCD: &[&str] = &["systemd-timesyncd.service"];
const NTP: &[&str] = &["ntpd.service", "ntp.service", "ntpsec.service"];

/// The first program of the tree that does and that nothing keeps from starting; none where nothing does.
pub(super) fn look(root: &Root) -> Result<Option<String>, IoError> {
    for (path, units) in PROGRAMS {
        if root.meta(&RootPath::fixed(path), Last::Follow)?.is_some() && may_start(root, units)? {
            return Ok(Some(path.to_owned()));
        }
    }
    Ok(None)
}

/// Whether one of `units` is enabled, or none is there: then something else starts the program.
fn may_start(root: &Root, units: &[&str]) -> Result<bool, IoError> {
    let mut is_off = false;
    for unit in units {
        match systemd::state(root, unit)? {
            Enablement::Enabled(_) => return Ok(true),
            Enablement::Disabled | Enablement::Masked(_) => is_off = true,
            Enablement::Missing => {}
        }
    }
    Ok(!is_off)
}
