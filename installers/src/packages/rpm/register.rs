//! Registration at first boot, for databases that nothing here can write: the package waits in the image, and a job
//! tells the target's own rpm about it once.

use ssmbake_manifests::ServiceManager;

use super::archive::{RpmPackage, main_header};
use super::header::Header;
use crate::error::IoError;
use crate::packages::{InstallError, PackageError};
use crate::root::{Root, RootPath};
use crate::service::systemd;
use crate::txn::{ChangeSet, Content, OnLink, Perm, Want};

/// The package, until rpm knows of it.
pub const PACKAGE_FILE: &str = "/var/lib/ssmbake/register/amazon-ssm-agent.rpm";
/// What rpm is told, here or at first boot: the files are in place, only its database is to change.
pub(super) const FLAGS: [&str; 9] = [
    "-U",
    "--justdb",
    "--noscripts",
    "--notriggers",
    "--replacepkgs",
    "--oldpackage",
    // What it needs and what it meets was looked at in the tree; rpm would look at this machine.
    "--nodeps",
    "--ignorearch",
    "--ignoresize",
];
const SCRIPT: &str = "/var/lib/ssmbake/register/run";
/// The job for systemd.
pub const UNIT: &str = "ssmbake-register.service";
/// The job for upstart.
pub const JOB: &str = "/etc/init/ssmbake-register.conf";

const UNIT_TEXT: &str = "\
[Unit]
Description=Tell rpm about the installed amazon-ssm-agent package
ConditionPathExists=/var/lib/ssmbake/register/amazon-ssm-agent.rpm
After=local-fs.target

[Service]
Type=oneshot
ExecStart=/bin/sh /var/lib/ssmbake/register/run

[Install]
WantedBy=multi-user.target
";

const JOB_TEXT: &str = "\
description \"Tell rpm about the installed amazon-ssm-agent package\"
start on runlevel [2345]
task
exec /bin/sh /var/lib/ssmbake/register/run
";

/// The files are in place: rpm only writes its database. What did not work is tried again at the next boot.
const SCRIPT_TEXT: &str = "\
#!/bin/sh
set -e
dir=/var/lib/ssmbake/register
rpm -U --justdb --noscripts --notriggers --replacepkgs --oldpackage \"$dir/amazon-ssm-agent.rpm\"
rm -rf \"$dir\"
rm -f /etc/systemd/system/ssmbake-register.service /etc/systemd/system/multi-user.target.wants/ssmbake-register.service
rm -f /etc/init/ssmbake-register.conf
";

/// Adds the package and the script.
pub(super) fn put(root: &Root, package: &RpmPackage, set: &mut ChangeSet) -> Result<(), InstallError> {
    let want = Want::File {
        content: Content::Spool(package.whole.clone()),
        perm: Perm::root(0o600),
        mtime: None,
    };
    set.put(root, &RootPath::fixed(PACKAGE_FILE), OnLink::Refuse, want)?;
    let script = Want::file(SCRIPT_TEXT.as_bytes().to_vec(), 0o700);
    set.put(root, &RootPath::fixed(SCRIPT), OnLink::Refuse, script)?;
    Ok(())
}

/// Adds the job that runs the script at boot.
pub fn put_job(root: &Root, manager: ServiceManager, set: &mut ChangeSet) -> Result<(), IoError> {
    match manager {
        ServiceManager::Systemd => {
            let unit = RootPath::fixed("/etc/systemd/system/ssmbake-register.service");
            set.put(
                root,
                &unit,
                OnLink::Refuse,
                Want::file(UNIT_TEXT.as_bytes().to_vec(), 0o644),
            )?;
            systemd::enable(root, UNIT, None, set)
        }
        _ => {
            let job = Want::file(JOB_TEXT.as_bytes().to_vec(), 0o644);
            set.put(root, &RootPath::fixed(JOB), OnLink::Refuse, job)
                .map(drop)
        }
    }
}

/// The package that waits to be registered.
pub fn pending(root: &Root) -> Result<Option<Header>, PackageError> {
    match root.open_file(&RootPath::fixed(PACKAGE_FILE))? {
        Some(file) => main_header(&file).map(Some),
        None => Ok(None),
    }
}
