//! Apply: plan + verified package → changed tree and receipt. Decides nothing; all or nothing.

use std::path::PathBuf;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::acquire::Verified;
use crate::config;
use crate::config::proxy::Proxy;
use crate::error::IoError;
use crate::locks::{Locks, lock_database};
use crate::packages::{InstallError, Kept, Package, Registration, deb, rpm};
use crate::plan::{Plan, Step};
use crate::receipt::{self, PackageReceipt, Receipt};
use crate::root::{Last, Root, RootPath};
use crate::selinux::{self, Labels};
use crate::service::live::{self, Files, RefreshHold};
use crate::service::{Enablement, InstallChannel, online, systemd, upstart};
use crate::trust;
use crate::txn::{self, ChangeSet, Checkpoint, OnLink, TxnError, Want};
use ssmbake_manifests::ServiceManager;

/// As long as snapd's own hold of one snap.
const HOLD_SECONDS: i64 = 3600;
const CONFIG_LIMIT: usize = 1024 * 1024;

/// Why a plan was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The tree's own state is against it.
    #[error("{what}")]
    Conflict {
        /// What.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A package manager works on the database.
    #[error("`{path}` is held by a running package manager")]
    Locked {
        /// Its lock.
        path: RootPath,
    },
    /// All is installed, and the service manager of the running system did not do its part.
    #[error("all is installed, but the service was not started: {why}")]
    NotStarted {
        /// What it said.
        why: String,
    },
    /// The package does not fit.
    #[error(transparent)]
    Package(#[from] crate::packages::PackageError),
    /// Nothing was changed, or all was taken back.
    #[error(transparent)]
    Txn(#[from] TxnError),
    /// The tree could not be read.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl From<InstallError> for ApplyError {
    fn from(error: InstallError) -> Self {
        match error {
            InstallError::Conflict { what, hint } => Self::Conflict { what, hint },
            InstallError::Package(error) => Self::Package(error),
            InstallError::Io(error) => Self::Io(error),
        }
    }
}

pub(crate) fn conflict(what: impl Into<String>, hint: impl Into<String>) -> ApplyError {
    ApplyError::Conflict {
        what: what.into(),
        hint: hint.into(),
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Paths that changed; empty when the tree was as wanted.
    pub changed: Vec<RootPath>,
    /// Conffiles that were kept because the administrator had changed them.
    pub kept: Vec<Kept>,
    /// Everything done so far; none when this root was never changed by ssmbake.
    pub receipt: Option<Receipt>,
}

/// What the build machine contributes.
#[derive(Debug, Clone)]
pub struct Host {
    /// SOURCE_DATE_EPOCH, seconds.
    pub epoch: Option<i64>,
    /// The time now, seconds since the epoch.
    pub now: i64,
    /// For private files that go with the run.
    pub temp_dir: PathBuf,
}

/// Carries `plan` out, the live steps included.
pub fn apply(
    root: &Root,
    plan: &Plan,
    verified: Option<Verified>,
    host: &Host,
    checkpoint: &Checkpoint<'_>,
) -> Result<Outcome, ApplyError> {
    let hold = match plan.steps.contains(&Step::HoldRefresh) {
        true => Some(hold_refresh(host.now)?),
        false => None,
    };
    let outcome = change(root, plan, verified.as_ref(), host, checkpoint)?;
    // Its open files are the agent's programs by now, and what is open for writing cannot be started.
    drop(verified);
    let files = match outcome.changed.is_empty() {
        true => Files::AsBefore,
        false => Files::Changed,
    };
    for step in &plan.steps {
        match step {
            Step::ReloadManager { manager } => live::reload(*manager),
            Step::RegisterNow { manager } => live::register(*manager),
            Step::StartService { manager, channel } => live::start(*manager, *channel, files),
            _ => Ok(()),
        }
        .map_err(|error| ApplyError::NotStarted {
            why: error.to_string(),
        })?;
    }
    drop(hold);
    Ok(outcome)
}

fn hold_refresh(now: i64) -> Result<RefreshHold, ApplyError> {
    let refused = |why: String| {
        let hint =
            "does snapd run? `snap changes` says what it does; or use --channel package without the snap";
        conflict(
            format!("the refresh of the agent's snap cannot be held: {why}"),
            hint,
        )
    };
    let until = OffsetDateTime::from_unix_timestamp(now + HOLD_SECONDS)
        .map_err(|error| refused(error.to_string()))?
        .format(&Rfc3339)
        .map_err(|error| refused(error.to_string()))?;
    live::hold_refresh(&until).map_err(|error| refused(error.to_string()))
}

/// The steps that change files: all of them or none.
pub fn change(
    root: &Root,
    plan: &Plan,
    verified: Option<&Verified>,
    host: &Host,
    checkpoint: &Checkpoint<'_>,
) -> Result<Outcome, ApplyError> {
    let mut set = ChangeSet::default();
    let mut kept = Vec::new();
    let _locks = if plan.steps.is_empty() {
        Locks::default()
    } else {
        lock_database(root)?
    };
    for step in &plan.steps {
        kept.extend(expand(root, step, verified, host, &mut set)?);
    }
    let mut prepared = txn::prepare(root, set)?;
    let old = receipt::read(root)?;
    let package = verified.map(package_receipt);
    // The same files may be there from elsewhere; from now on it is known what they are.
    let is_news = package.is_some() && old.as_ref().and_then(|old| old.package.as_ref()) != package.as_ref();
    if prepared.is_empty() && !is_news {
        return Ok(Outcome {
            changed: Vec::new(),
            kept,
            receipt: old,
        });
    }
    let mut changed: Vec<RootPath> = prepared
        .changes()
        .iter()
        .map(|change| change.path.clone())
        .collect();
    if changed.is_empty() {
        changed.push(RootPath::fixed(receipt::PATH));
    }
    let mut record = ChangeSet::default();
    let receipt = receipt::record(root, prepared.changes(), package, &mut record)?;
    prepared.join(txn::prepare(root, record)?);
    for step in &plan.steps {
        if let Step::LabelFiles { policy } = step {
            prepared.label(&Labels::read(root, policy)?);
        }
    }
    txn::commit(root, &prepared, host.epoch, checkpoint)?;
    Ok(Outcome {
        changed,
        kept,
        receipt: Some(receipt),
    })
}

fn package_receipt(verified: &Verified) -> PackageReceipt {
    PackageReceipt {
        version: verified.package().version(),
        url: verified.url().to_owned(),
        sha256: verified.sha256(),
        voucher: verified.voucher().clone(),
    }
}

fn expand(
    root: &Root,
    step: &Step,
    verified: Option<&Verified>,
    host: &Host,
    set: &mut ChangeSet,
) -> Result<Vec<Kept>, ApplyError> {
    match step {
        Step::InstallPackage { registration, .. } => {
            return install_package(root, *registration, verified, host, set);
        }
        // The transaction does it for all steps together; the others follow it.
        Step::HoldRefresh
        | Step::LabelFiles { .. }
        | Step::ReloadManager { .. }
        | Step::RegisterNow { .. }
        | Step::StartService { .. } => {}
        Step::RequestRelabel => {
            let path = RootPath::fixed(selinux::RELABEL);
            if root.meta(&path, Last::Keep)?.is_none() {
                set.put(root, &path, OnLink::Refuse, Want::file(Vec::new(), 0o644))?;
            }
        }
        Step::RegisterAtFirstBoot { manager } => rpm::register::put_job(root, *manager, set)?,
        Step::ActivateAtFirstBoot {
            manager,
            first_boot,
            is_image,
        } => first_boot.put(root, *manager, *is_image, set)?,
        Step::EnableService {
            manager: ServiceManager::Systemd,
            channel,
            unit_dir,
        } => enable_unit(root, channel.unit(), unit_dir.as_deref(), set)?,
        Step::EnableService { .. } => expect_job(root, set)?,
        Step::TrustAnchors { store, anchors } => {
            trust::install(root, *store, anchors, set)?;
            let missing = trust::missing(root, anchors, set)?;
            if !missing.is_empty() {
                return Err(conflict(
                    format!("the agent would not find {} in this tree", missing.join(", ")),
                    "look at the links of the trust store: does the bundle lead to a file?",
                ));
            }
        }
        Step::WriteConfig { edits } => write_config(root, edits, set)?,
        Step::WaitForNetwork { channel } => {
            let want = Want::file(online::TEXT.as_bytes().to_vec(), 0o644);
            set.put(root, &online::place(*channel), OnLink::Refuse, want)?;
        }
        Step::WriteProxy {
            manager,
            channel,
            proxy,
        } => write_proxy(root, *manager, *channel, proxy, set)?,
    }
    Ok(Vec::new())
}

fn install_package(
    root: &Root,
    registration: Registration,
    verified: Option<&Verified>,
    host: &Host,
    set: &mut ChangeSet,
) -> Result<Vec<Kept>, ApplyError> {
    let verified = verified
        .ok_or_else(|| conflict("the plan installs a package and none was fetched", "run `apply`"))?;
    match verified.package() {
        Package::Deb(deb) => Ok(deb::install::install(root, deb, set)?),
        Package::Rpm(rpm) => Ok(rpm::install::install(root, rpm, registration, host, set)?),
        // No plan for a tree has one.
        Package::Exe(_) => Err(conflict(
            "a program for Windows installs itself",
            "run it on the machine",
        )),
    }
}

/// The plan has looked for masks; somebody may have masked it since.
fn enable_unit(
    root: &Root,
    unit: &str,
    unit_dir: Option<&str>,
    set: &mut ChangeSet,
) -> Result<(), ApplyError> {
    if let Enablement::Masked(path) = systemd::state(root, unit)? {
        return Err(conflict(
            format!("the service is masked by `{path}`"),
            "remove the mask first",
        ));
    }
    Ok(systemd::enable(root, unit, unit_dir, set)?)
}

/// A job with `start on` starts; the package brings it.
fn expect_job(root: &Root, set: &ChangeSet) -> Result<(), ApplyError> {
    match set.read(root, &RootPath::fixed(upstart::JOB), CONFIG_LIMIT)? {
        Some(_) => Ok(()),
        None => Err(conflict(
            format!("`{}` is missing", upstart::JOB),
            "this package does not support upstart",
        )),
    }
}

fn write_proxy(
    root: &Root,
    manager: ServiceManager,
    channel: InstallChannel,
    proxy: &Proxy,
    set: &mut ChangeSet,
) -> Result<(), ApplyError> {
    let place = config::proxy::place(manager, channel);
    let old = root.read(&place, CONFIG_LIMIT)?.unwrap_or_default();
    let text = proxy.merge(manager, &String::from_utf8_lossy(&old));
    // It may carry a password.
    set.put(root, &place, OnLink::Refuse, Want::file(text.into_bytes(), 0o600))?;
    Ok(())
}

fn write_config(root: &Root, edits: &[config::Edit], set: &mut ChangeSet) -> Result<(), ApplyError> {
    let path = RootPath::fixed(config::PATH);
    let old = root.read(&path, CONFIG_LIMIT)?;
    let unreadable =
        |error: config::json::JsonError| conflict(format!("`{path}`: {error}"), "repair or remove it");
    let text = old
        .as_deref()
        .map(config::json::check)
        .transpose()
        .map_err(unreadable)?;
    if let Some(new) = config::merge(text.as_deref(), edits).map_err(unreadable)? {
        set.edit(root, &path, new.into_bytes(), 0o600)?;
    }
    Ok(())
}
