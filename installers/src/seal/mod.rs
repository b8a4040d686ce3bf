//! Seal: what belongs to one machine leaves a tree of which many are made. All of it or nothing, and what is gone cannot be
//! read back: once there is no way back, old bytes are overwritten where they lie.

mod lines;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use ssmbake_manifests::{Catalog, SealAction, SealProfile, SealRule};

use crate::apply::{ApplyError, conflict};
use crate::audit::identity_path;
use crate::error::IoError;
use crate::packages::PACKAGE;
use crate::probe::Facts;
use crate::root::{Kind, Last, Root, RootPath};
use crate::service::live;
use crate::txn::{self, Change, Checkpoint, Prepared, Want};
use rules::look;

/// The version of the plan's JSON.
pub const SCHEMA: u32 = 1;
/// Who makes new SSH host keys at boot.
const KEY_MAKERS: [&str; 6] = [
    "/usr/bin/cloud-init",
    "/usr/lib/systemd/system/sshd-keygen@.service",
    "/usr/lib/systemd/system/sshd-keygen.service",
    "/usr/lib/systemd/system/sshdgenkeys.service",
    "/usr/sbin/sshd-gen-keys-start",
    "/etc/init.d/sshd",
];

/// Whether a registered machine may be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// It would lose its identity: refuse.
    Refuse,
    /// That is wanted.
    Seal,
}

/// One path of a rule that has something to seal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// `ssh-host-keys`.
    pub class: String,
    /// Where the rule begins.
    pub path: RootPath,
    /// What becomes of it.
    pub action: SealAction,
    /// Paths that change.
    pub count: usize,
    /// Why no copy may have it.
    pub why: String,
}

/// What will be sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealPlan {
    /// Version of this shape.
    pub schema: u32,
    /// How much.
    pub profile: SealProfile,
    /// In the order of the rules.
    pub items: Vec<Item>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Looks for all that `profile` seals. Reads only.
pub fn plan(
    root: &Root,
    facts: &Facts,
    catalog: &Catalog,
    profile: SealProfile,
) -> Result<SealPlan, IoError> {
    let (items, _) = look(root, facts, catalog, profile)?;
    let notes = notes(root, &items)?;
    Ok(SealPlan {
        schema: SCHEMA,
        profile,
        items,
        notes,
    })
}

/// Seals; the paths that changed, which is none the second time.
pub fn seal(
    root: &Root,
    facts: &Facts,
    catalog: &Catalog,
    plan: &SealPlan,
    registered: Registered,
    epoch: Option<i64>,
    checkpoint: &Checkpoint<'_>,
) -> Result<Vec<RootPath>, ApplyError> {
    if facts.environment.is_machine()
        && registered == Registered::Refuse
        && let Some(path) = identity_path(root)?
    {
        return Err(conflict(
            format!("this machine is registered: `{path}` exists"),
            "it would lose its identity; say --registered if an image is made of it",
        ));
    }
    let (manager, channel) = (facts.service_manager.value, facts.agent.channel);
    if facts.environment.is_live() && live::is_running(manager, channel) {
        // A running agent writes its identity anew.
        live::stop(manager, channel).map_err(|error| {
            conflict(
                format!("the agent runs and cannot be stopped: {error}"),
                format!("stop {PACKAGE} first"),
            )
        })?;
    }
    let (_, set) = look(root, facts, catalog, plan.profile)?;
    let secrets: BTreeSet<RootPath> = set.secrets;
    let mut prepared = txn::prepare(root, set.changes)?;
    prepared.wipe(|path| secrets.contains(path));
    prepared.expect_writers();
    let changed = prepared
        .changes()
        .iter()
        .map(|change| change.path.clone())
        .collect();
    txn::commit(root, &prepared, epoch, checkpoint)?;
    expect_gone(root, &prepared)?;
    Ok(changed)
}

/// A directory goes only when it is empty: what is in it nobody has sealed.
fn expect_gone(root: &Root, prepared: &Prepared) -> Result<(), ApplyError> {
    let gone = |change: &&Change| matches!(change.want, Want::Absent);
    for path in prepared.changes().iter().filter(gone).map(|change| &change.path) {
        if root
            .meta(path, Last::Keep)?
            .is_some_and(|meta| meta.kind == Kind::Dir)
        {
            return Err(conflict(
                format!("all else is sealed, but `{path}` is not empty"),
                "unmount what is mounted below it, stop what writes there, and seal again",
            ));
        }
    }
    Ok(())
}

fn notes(root: &Root, items: &[Item]) -> Result<Vec<String>, IoError> {
    let mut notes = Vec::new();
    let exists = |path: &'static str| {
        root.meta(&RootPath::fixed(path), Last::Follow)
            .map(|meta| meta.is_some())
    };
    if items.iter().any(|item| item.class == "ssh-host-keys") {
        let mut is_made = false;
        for maker in KEY_MAKERS {
            is_made |= exists(maker)?;
        }
        if !is_made {
            notes.push(
                "nothing in this tree makes new SSH host keys at boot: sshd will not start before `ssh-keygen -A` has run"
                    .to_owned(),
            );
        }
    }
    if exists("/etc/sudoers.d/ssm-agent-users")? {
        notes.push(
            "the user ssm-user and /etc/sudoers.d/ssm-agent-users stay: the agent makes them at the first session"
                .to_owned(),
        );
    }
    Ok(notes)
}

/// A rule of each class, and the first path that is left of it.
pub(crate) fn left<'c>(
    root: &Root,
    facts: &Facts,
    catalog: &'c Catalog,
) -> Result<Vec<(&'c SealRule, Option<Item>)>, IoError> {
    let (items, _) = look(root, facts, catalog, SealProfile::Image)?;
    let mut classes = BTreeMap::new();
    for rule in catalog.seal() {
        classes.entry(&rule.id).or_insert_with(|| {
            let found = items.iter().find(|item| item.class == rule.class);
            (rule, found.cloned())
        });
    }
    Ok(classes.into_values().collect())
}
