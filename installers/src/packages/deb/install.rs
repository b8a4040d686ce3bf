//! Turns a verified package and a tree into the changes that install it: payload, conffiles, database.
//!
//! Maintainer scripts are put in place for later use and never run; their known effects are steps of their own.

use std::collections::{BTreeMap, BTreeSet};

use md5::{Digest, Md5};

use super::archive::DebPackage;
use super::conffile::{Situation, Verdict, judge};
use super::database::{self, Conffile, Record, StatusDb};
use super::relation;
use crate::packages::unpack::{Member, MemberKind};
use crate::packages::{InstallError, Kept, PACKAGE, PackageError, conflict};
use crate::root::{Last, Root, RootPath};
use crate::txn::{ChangeSet, Content, OnLink, Perm, Want};
use ssmbake_manifests::hex;

const SMALL_FILE: usize = 16 * 1024 * 1024;

/// Adds to `set` what installing `package` takes.
pub fn install(root: &Root, package: &DebPackage, set: &mut ChangeSet) -> Result<Vec<Kept>, InstallError> {
    let status = root.read(&RootPath::fixed(database::STATUS), database::STATUS_LIMIT)?;
    let status = status.ok_or_else(|| {
        conflict(
            format!("`{}` is missing", database::STATUS),
            "the tree has no dpkg database: is it complete?",
        )
    })?;
    let db = StatusDb::parse(&status).map_err(|why| {
        conflict(
            format!("`{}` is damaged: {why}", database::STATUS),
            "repair it, status-old beside it may help",
        )
    })?;
    check_relations(package, &db)?;
    check_overrides(root, package)?;
    let old = db.find(PACKAGE);
    let own_paths = owned_paths(root)?;
    check_ownership(root, package, &own_paths)?;
    let kept = put_payload(root, package, old.as_ref(), set)?;
    remove_leftovers(root, package, old.as_ref(), &own_paths, set)?;
    put_info_files(root, package, set)?;
    let stanza = stanza(package, old.as_ref())?;
    let new_status = db.with(PACKAGE, &stanza);
    if new_status != status {
        set.edit(root, &RootPath::fixed(database::STATUS), new_status, 0o644)?;
        set.edit(root, &RootPath::fixed(database::STATUS_OLD), status, 0o644)?;
    }
    Ok(kept)
}

fn check_relations(package: &DebPackage, db: &StatusDb<'_>) -> Result<(), InstallError> {
    for field in ["Pre-Depends", "Depends"] {
        if let Some(group) = package
            .control
            .get(field)
            .and_then(|value| relation::first_unmet(value, db))
        {
            return Err(conflict(
                format!("the package needs `{group}`, which the tree does not have"),
                format!(
                    "install {} in the tree first",
                    group.split([' ', '|', ':']).next().unwrap_or(group)
                ),
            ));
        }
    }
    for field in ["Conflicts", "Breaks"] {
        if let Some(name) = package
            .control
            .get(field)
            .and_then(|value| relation::first_met(value, PACKAGE, db))
        {
            return Err(conflict(
                format!("the package cannot be beside `{name}`"),
                format!("remove {name} first"),
            ));
        }
    }
    Ok(())
}

/// Diversions and stat overrides of the agent's files are rare and change where or how dpkg would write them.
fn check_overrides(root: &Root, package: &DebPackage) -> Result<(), InstallError> {
    for name in ["diversions", "statoverride"] {
        let path = format!("{}/{name}", database::DIR);
        let Ok(place) = RootPath::new(&path) else { continue };
        let Some(bytes) = root.read(&place, SMALL_FILE)? else {
            continue;
        };
        let text = String::from_utf8_lossy(&bytes);
        let named = text.lines().map(|line| line.rsplit(' ').next().unwrap_or(line));
        if let Some(hit) = named
            .filter(|path| path.starts_with('/'))
            .find(|path| package.member(path).is_some())
        {
            return Err(conflict(
                format!("`{path}` has an entry for `{hit}`"),
                "remove it with dpkg-divert or dpkg-statoverride, or install with the package manager",
            ));
        }
    }
    Ok(())
}

/// The paths that the installed agent package owns.
fn owned_paths(root: &Root) -> Result<BTreeSet<String>, InstallError> {
    let list = info_path(root, PACKAGE, "list")?;
    let bytes = root.read(&list, SMALL_FILE)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes)
        .lines()
        .filter(|line| *line != "/.")
        .map(str::to_owned)
        .collect())
}

/// A file that is there already and belongs to another package is not ours to overwrite.
fn check_ownership(root: &Root, package: &DebPackage, own: &BTreeSet<String>) -> Result<(), InstallError> {
    let is_dir = |member: &Member| matches!(member.kind, MemberKind::Dir);
    let mut suspects = BTreeSet::new();
    for member in package.members.iter().filter(|member| !is_dir(member)) {
        if !own.contains(member.path.as_str()) && root.meta(&member.path, Last::Keep)?.is_some() {
            suspects.insert(member.path.as_str());
        }
    }
    if suspects.is_empty() {
        return Ok(());
    }
    let info = RootPath::fixed(database::INFO);
    for entry in root.read_dir(&info)?.unwrap_or_default() {
        let Some(owner) = entry.name.strip_suffix(".list").filter(|owner| *owner != PACKAGE) else {
            continue;
        };
        let Ok(path) = info.join(&entry.name) else {
            continue;
        };
        let Some(bytes) = root.read(&path, SMALL_FILE)? else {
            continue;
        };
        if let Some(hit) = String::from_utf8_lossy(&bytes)
            .lines()
            .find(|line| suspects.contains(line))
        {
            let hint = format!("remove the package {owner} or the file first");
            return Err(conflict(
                format!("`{hit}` belongs to the package `{owner}`"),
                hint,
            ));
        }
    }
    Ok(())
}

// dpkg's path-exclude is not looked at: dpkg compares it with a member's name from the second byte on, so that it never
// meets the names of AWS's package, which lack the `./`.
fn put_payload(
    root: &Root,
    package: &DebPackage,
    old: Option<&Record>,
    set: &mut ChangeSet,
) -> Result<Vec<Kept>, InstallError> {
    let mut kept = Vec::new();
    for member in &package.members {
        let perm = Perm {
            mode: member.mode,
            uid: member.uid,
            gid: member.gid,
        };
        match &member.kind {
            MemberKind::Dir => put_dir(root, member, perm, set)?,
            MemberKind::Link(target) => {
                let want = Want::Link {
                    target: target.clone(),
                    mtime: Some(member.mtime),
                };
                set.put(root, &member.path, OnLink::Replace, want)?;
            }
            MemberKind::HardLink(to) => {
                let to = root.canonical(to, Last::Keep)?;
                set.put(root, &member.path, OnLink::Replace, Want::HardLink { to })?;
            }
            MemberKind::File { slice, digest } => {
                let content = Content::Spool(slice.clone());
                let want = Want::File {
                    content,
                    perm,
                    mtime: Some((member.mtime, 0)),
                };
                if package.conffiles.iter().any(|path| path == member.path.as_str()) {
                    kept.extend(put_conffile(root, member, &hex::encode(digest), want, old, set)?);
                } else {
                    set.put(root, &member.path, OnLink::Replace, want)?;
                }
            }
        }
    }
    Ok(kept)
}

/// A directory that exists, be it through a link such as `/lib -> usr/lib`, stays as it is.
fn put_dir(root: &Root, member: &Member, perm: Perm, set: &mut ChangeSet) -> Result<(), InstallError> {
    if root.meta(&member.path, Last::Follow)?.is_none() {
        let want = Want::Dir {
            perm,
            mtime: Some(member.mtime),
        };
        set.put(root, &member.path, OnLink::Follow, want)?;
    }
    Ok(())
}

fn put_conffile(
    root: &Root,
    member: &Member,
    shipped_now: &str,
    want: Want,
    old: Option<&Record>,
    set: &mut ChangeSet,
) -> Result<Option<Kept>, InstallError> {
    let recorded = old.and_then(|old| {
        old.conffiles
            .iter()
            .find(|file| file.path == member.path.as_str())
    });
    let present = root
        .read(&member.path, SMALL_FILE)?
        .map(|bytes| hex::encode(&Md5::digest(bytes)));
    // dpkg's word for "no version was ever shipped" says nothing about the file that is there.
    let shipped_before = recorded
        .map(|file| file.digest.as_str())
        .filter(|digest| *digest != "newconffile");
    match judge(Situation {
        shipped_before,
        present: present.as_deref(),
        shipped_now,
    }) {
        Verdict::Keep => Ok(None),
        Verdict::Install => {
            set.put(root, &member.path, OnLink::Follow, want)?;
            Ok(None)
        }
        Verdict::KeepAndOffer => {
            let beside = RootPath::new(&format!("{}.dpkg-dist", member.path));
            let beside = beside.map_err(|error| PackageError::Malformed(error.to_string()))?;
            let offered = set.put(root, &beside, OnLink::Replace, want)?;
            Ok(Some(Kept {
                path: member.path.clone(),
                offered,
            }))
        }
    }
}

/// Files of the earlier version that the new one does not have go; directories when they are empty; conffiles stay.
fn remove_leftovers(
    root: &Root,
    package: &DebPackage,
    old: Option<&Record>,
    own: &BTreeSet<String>,
    set: &mut ChangeSet,
) -> Result<(), InstallError> {
    let is_conffile = |path: &str| old.is_some_and(|old| old.conffiles.iter().any(|file| file.path == path));
    for text in own
        .iter()
        .filter(|path| package.member(path).is_none() && !is_conffile(path))
    {
        let Ok(path) = RootPath::new(text) else { continue };
        let place = root.canonical(&path, Last::Keep)?;
        // On a merged /usr one file may have two names, and a new member may stand there.
        let is_needed = set.get(&place).is_some();
        let is_file = root
            .meta(&place, Last::Keep)?
            .is_some_and(|meta| meta.kind != crate::root::Kind::Dir);
        if is_file && !is_needed {
            set.put(root, &place, OnLink::Replace, Want::Absent)?;
        }
    }
    Ok(())
}

/// `info/NAME.EXT`; packages with `Multi-Arch: same` carry their architecture in the name.
fn info_path(root: &Root, name: &str, extension: &str) -> Result<RootPath, InstallError> {
    let path = RootPath::new(&format!("{}/{name}.{extension}", database::INFO));
    let path = path.map_err(|error| PackageError::Malformed(error.to_string()))?;
    Ok(root.canonical(&path, Last::Keep)?)
}

fn put_info_files(root: &Root, package: &DebPackage, set: &mut ChangeSet) -> Result<(), InstallError> {
    let is_same = package
        .control
        .get("Multi-Arch")
        .is_some_and(|value| value.eq_ignore_ascii_case("same"));
    let name = match is_same {
        true => format!("{PACKAGE}:{}", package.control.need("Architecture")?),
        false => PACKAGE.to_owned(),
    };
    let mut files: BTreeMap<String, (Vec<u8>, u32)> = package.control_files.clone();
    files.insert("list".to_owned(), (list(package).into_bytes(), 0o644));
    files
        .entry("md5sums".to_owned())
        .or_insert_with(|| (md5sums(package).into_bytes(), 0o644));
    // A script that the new version does not have must not run at its removal.
    let info = RootPath::fixed(database::INFO);
    for entry in root.read_dir(&info)?.unwrap_or_default() {
        let Some(extension) = entry.name.strip_prefix(&format!("{name}.")) else {
            continue;
        };
        if !files.contains_key(extension) {
            set.put(
                root,
                &info_path(root, &name, extension)?,
                OnLink::Replace,
                Want::Absent,
            )?;
        }
    }
    for (extension, (bytes, mode)) in files {
        let want = Want::file(bytes, mode);
        set.put(root, &info_path(root, &name, &extension)?, OnLink::Replace, want)?;
    }
    Ok(())
}

fn list(package: &DebPackage) -> String {
    let mut text = String::from(if package.has_root { "/.\n" } else { "" });
    for member in &package.members {
        text.push_str(member.path.as_str());
        text.push('\n');
    }
    text
}

fn md5sums(package: &DebPackage) -> String {
    let mut text = String::new();
    for member in &package.members {
        if let MemberKind::File { digest, .. } = &member.kind {
            text.push_str(&format!(
                "{}  {}\n",
                hex::encode(digest),
                member.path.as_str().trim_start_matches('/')
            ));
        }
    }
    text
}

fn stanza(package: &DebPackage, old: Option<&Record>) -> Result<String, InstallError> {
    let mut paragraph = package.control.clone();
    paragraph.set("Status", "install ok installed");
    let mut conffiles: Vec<Conffile> = package
        .conffiles
        .iter()
        .map(|path| shipped(package, path))
        .collect();
    let earlier = old.map(|old| old.conffiles.as_slice()).unwrap_or_default();
    let dropped = earlier
        .iter()
        .filter(|file| !package.conffiles.contains(&file.path));
    conffiles.extend(dropped.map(|file| Conffile {
        obsolete: true,
        ..file.clone()
    }));
    let lines: String = conffiles
        .iter()
        .map(|file| {
            format!(
                "\n {} {}{}",
                file.path,
                file.digest,
                if file.obsolete { " obsolete" } else { "" }
            )
        })
        .collect();
    paragraph.set("Conffiles", lines);
    Ok(paragraph.to_status())
}

fn shipped(package: &DebPackage, path: &str) -> Conffile {
    let digest = match package.member(path).map(|member| &member.kind) {
        Some(MemberKind::File { digest, .. }) => hex::encode(digest),
        // The agent's package names two files that it does not ship; this is dpkg's word for them.
        _ => "newconffile".to_owned(),
    };
    Conffile {
        path: path.to_owned(),
        digest,
        obsolete: false,
    }
}
