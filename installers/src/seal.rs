//! Seal: what belongs to one machine leaves a tree of which many are made. All of it or nothing, and what is gone cannot be
//! read back: once there is no way back, old bytes are overwritten where they lie.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde::{Deserialize, Serialize};
use ssmbake_manifests::{Catalog, SealAction, SealProfile, SealRule};

use crate::apply::{ApplyError, conflict};
use crate::audit::identity_path;
use crate::error::IoError;
use crate::packages::PACKAGE;
use crate::probe::Facts;
use crate::root::{Kind, Last, Root, RootPath};
use crate::service::live;
use crate::txn::{self, ChangeSet, Checkpoint, Content, Perm, Want};

/// The version of the plan's JSON.
pub const SCHEMA: u32 = 1;
const LINES_LIMIT: usize = 4 * 1024 * 1024;
/// Directories in directories, at the most.
const DEPTH: usize = 64;
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
    let changed = prepared
        .changes()
        .iter()
        .map(|change| change.path.clone())
        .collect();
    txn::commit(root, &prepared, epoch, checkpoint)?;
    Ok(changed)
}

/// What all rules come to.
#[derive(Default)]
struct Sealed {
    changes: ChangeSet,
    secrets: BTreeSet<RootPath>,
    /// Files that another rule leaves in place, empty or without some lines.
    kept: BTreeSet<RootPath>,
}

fn look(
    root: &Root,
    facts: &Facts,
    catalog: &Catalog,
    profile: SealProfile,
) -> Result<(Vec<Item>, Sealed), IoError> {
    let is_live = facts.environment.is_live();
    let (mut items, mut sealed) = (Vec::new(), Sealed::default());
    let rules = catalog
        .seal()
        .iter()
        .filter(|rule| rule.profile <= profile && (rule.live || !is_live));
    for rule in rules {
        for pattern in &rule.paths {
            for path in matches(root, pattern)? {
                let count = sealed.add(root, rule, &path)?;
                if count > 0 {
                    items.push(Item {
                        class: rule.class.clone(),
                        path,
                        action: rule.action,
                        count,
                        why: rule.why.clone(),
                    });
                }
            }
        }
    }
    Ok((items, sealed))
}

impl Sealed {
    /// Asks for what `rule` says of `path`; the number of paths that change.
    fn add(&mut self, root: &Root, rule: &SealRule, path: &RootPath) -> Result<usize, IoError> {
        // A file in place of a directory on the way is as good as nothing there; only then is there a place to resolve.
        let Some(meta) = root.meta(path, Last::Keep)? else {
            return Ok(0);
        };
        let place = root.canonical(path, Last::Keep)?;
        let is_dir = meta.kind == Kind::Dir;
        match rule.action {
            SealAction::Remove if !is_dir => Ok(self.absent(rule, place)),
            SealAction::Remove => {
                let below = self.below(root, rule, &place, Directories::Remove, DEPTH)?;
                Ok(below + self.absent(rule, place))
            }
            // A link to a directory elsewhere in the tree is followed: /var/log may be one.
            SealAction::Empty | SealAction::RemoveFiles => {
                let directories = match rule.action {
                    SealAction::Empty => Directories::Remove,
                    _ => Directories::Keep,
                };
                let place = root.canonical(path, Last::Follow)?;
                self.below(root, rule, &place, directories, DEPTH)
            }
            SealAction::Truncate | SealAction::DropLines => {
                self.kept.insert(place.clone());
                let Some(old) = root.read_if_file(&place, LINES_LIMIT.max(meta.size as usize))? else {
                    return Ok(0);
                };
                let new = match &rule.pattern {
                    Some(pattern) => without_lines(&old, pattern),
                    None => Vec::new(),
                };
                if new == old {
                    return Ok(0);
                }
                self.secrets.insert(place.clone());
                let want = Want::File {
                    content: Content::Bytes(new),
                    perm: Perm::like(&meta),
                    mtime: None,
                };
                self.changes.put_at(place, want);
                Ok(1)
            }
        }
    }

    fn absent(&mut self, rule: &SealRule, place: RootPath) -> usize {
        if self.kept.contains(&place) || self.changes.get(&place).is_some() {
            return 0;
        }
        if rule.secret {
            self.secrets.insert(place.clone());
        }
        self.changes.put_at(place, Want::Absent);
        1
    }

    fn below(
        &mut self,
        root: &Root,
        rule: &SealRule,
        dir: &RootPath,
        directories: Directories,
        depth: usize,
    ) -> Result<usize, IoError> {
        let Some(own) = root
            .meta(dir, Last::Follow)?
            .filter(|meta| meta.kind == Kind::Dir && depth > 0)
        else {
            return Ok(0);
        };
        let mut count = 0;
        for entry in root.read_dir(dir)?.unwrap_or_default() {
            // `dir` is canonical, so this is.
            let Ok(place) = dir.join(&entry.name) else {
                continue;
            };
            match root.meta(&place, Last::Keep)? {
                None => {}
                // Another file system is mounted there: it is not the image's.
                Some(meta) if meta.id.0 != own.id.0 => {}
                Some(meta) if meta.kind == Kind::Dir => {
                    count += self.below(root, rule, &place, directories, depth - 1)?;
                    if directories == Directories::Remove {
                        count += self.absent(rule, place);
                    }
                }
                Some(_) => count += self.absent(rule, place),
            }
        }
        Ok(count)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Directories {
    Remove,
    Keep,
}

/// The text without the lines that `pattern` matches.
fn without_lines(text: &[u8], pattern: &str) -> Vec<u8> {
    // Patterns are the catalog's, and a test compiles them.
    let Ok(pattern) = Regex::new(pattern) else {
        return text.to_vec();
    };
    let text = String::from_utf8_lossy(text);
    text.split_inclusive('\n')
        .filter(|line| !pattern.is_match(line.trim_end()))
        .collect::<String>()
        .into_bytes()
}

/// The paths of the tree that `pattern` names.
fn matches(root: &Root, pattern: &str) -> Result<Vec<RootPath>, IoError> {
    let mut found = vec![RootPath::top()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for dir in found {
            if !part.contains('*') {
                next.extend(dir.join(part));
                continue;
            }
            let entries = root.read_dir(&dir)?.unwrap_or_default();
            let names = entries.iter().filter(|entry| is_match(part, &entry.name));
            next.extend(names.filter_map(|entry| dir.join(&entry.name).ok()));
        }
        found = next;
    }
    Ok(found)
}

/// As a shell matches: `*` is any text, and a leading dot is only matched by a dot.
fn is_match(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let parts: Vec<&str> = pattern.split('*').collect();
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else {
        return false;
    };
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    for part in &parts[1..parts.len() - 1] {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_a_shell_s() {
        for (pattern, name, matches) in [
            ("ssh_host_*_key", "ssh_host_rsa_key", true),
            ("ssh_host_*_key", "ssh_host_rsa_key.pub", false),
            ("*", ".hidden", false),
            (".*history", ".bash_history", true),
            ("*.lease*", "dhclient.leases", true),
            ("a*a", "a", false),
            ("*.deb", "x.deb", true),
        ] {
            assert_eq!(is_match(pattern, name), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn only_packer_s_key_goes() {
        let keys = "ssh-rsa AAA me@home\nssh-rsa BBB packer_6123abcd-0000-1111-2222-333344445555\n";
        let pattern = ssmbake_manifests::catalog()
            .seal()
            .iter()
            .find_map(|rule| rule.pattern.clone())
            .expect("a pattern");
        assert_eq!(without_lines(keys.as_bytes(), &pattern), b"ssh-rsa AAA me@home\n");
    }
}
