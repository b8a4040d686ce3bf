//! Turns a verified package and a tree into the changes that install it: payload, configuration files, database.
//!
//! Scriptlets stay in the header for later use and are never run; their known effects are steps of their own.

use std::collections::{BTreeMap, BTreeSet};

use super::archive::{FileInfo, RpmPackage, files};
use super::database::{Database, DatabaseError, Installed};
use super::fate::{Fate, Nature, Present, Situation, judge};
use super::header::Header;
use super::payload::Hash;
use super::program::{self, Program};
use super::register;
use super::relation::{self, Dependency, meets};
use super::tag::{self, file_flag};
use crate::apply::Host;
use crate::error::IoError;
use crate::packages::unpack::{Member, MemberKind};
use crate::packages::{InstallError, Kept, PACKAGE, PackageError, Registration, conflict};
use crate::root::{Kind, Last, Root, RootPath};
use crate::txn::{ChangeSet, Content, OnLink, Perm, Want};

const CONFIG_LIMIT: usize = 16 * 1024 * 1024;
const NAMES_LIMIT: usize = 16 * 1024 * 1024;
const KIND: u32 = 0o170_000;
const DIR: u32 = 0o040_000;

impl From<DatabaseError> for InstallError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Io(error) => Self::Io(error),
            DatabaseError::Damaged { .. } => {
                conflict(error.to_string(), "repair it with `rpm --rebuilddb` in the tree")
            }
            DatabaseError::Unclean { .. } => conflict(
                error.to_string(),
                "let `rpm -q rpm` run in the tree once, as root: it takes them over",
            ),
        }
    }
}

/// Adds to `set` what installing `package` takes.
pub fn install(
    root: &Root,
    package: &RpmPackage,
    registration: Registration,
    host: &Host,
    set: &mut ChangeSet,
) -> Result<Vec<Kept>, InstallError> {
    let database = Database::find(root)?
        .ok_or_else(|| conflict("the tree has no rpm database", "is the tree complete?"))?;
    let (mut old, others): (Vec<_>, Vec<_>) = database
        .all(root)?
        .into_iter()
        .partition(|one| one.header.string(tag::NAME) == Some(PACKAGE));
    if old.len() > 1 {
        return Err(conflict(
            format!("the database holds {PACKAGE} {} times", old.len()),
            "remove all but one with `rpm -e` in the tree",
        ));
    }
    let old = old.pop();
    check_relations(root, package, &others)?;
    check_ownership(package, &others)?;
    let mut work = Work {
        root,
        package,
        old_files: old
            .as_ref()
            .map(|old| files(&old.header))
            .transpose()?
            .unwrap_or_default(),
        old_algorithm: old.as_ref().and_then(|old| digest_algorithm(&old.header)),
        owners: Owners::read(root)?,
        set,
        kept: Vec::new(),
    };
    for member in &package.members {
        work.put(member)?;
    }
    work.remove_leftovers()?;
    let kept = work.kept;
    match registration {
        Registration::Native => put_record(root, &database, package, old.as_ref(), install_time(host), set)?,
        Registration::HostRpm => {
            program::register(root, &database, package, Program::Host, &host.temp_dir, set)?
        }
        Registration::TargetRpm => {
            program::register(root, &database, package, Program::Target, &host.temp_dir, set)?
        }
        Registration::FirstBoot => register::put(root, package, set)?,
    }
    Ok(kept)
}

/// What the database calls the time of installation: 32 bits, and 1970 is no time.
fn install_time(host: &Host) -> u32 {
    u32::try_from(host.epoch.unwrap_or(host.now).max(1)).unwrap_or(u32::MAX)
}

fn digest_algorithm(header: &Header) -> Option<u32> {
    header.numbers(tag::FILE_DIGEST_ALGO).first().copied()
}

fn check_relations(root: &Root, package: &RpmPackage, others: &[Installed]) -> Result<(), InstallError> {
    let needs = relation::needs(&package.header).map_err(PackageError::Malformed)?;
    for need in needs {
        let is_file = match RootPath::new(need.name) {
            Ok(path) => root.meta(&path, Last::Follow)?.is_some(),
            Err(_) => false,
        };
        if !is_file && !others.iter().any(|other| provides(&other.header, &need)) {
            return Err(conflict(
                format!("the package needs `{need}`, which the tree does not have"),
                format!("install {} in the tree first", need.name),
            ));
        }
    }
    let against = |header| {
        relation::read(
            header,
            tag::CONFLICT_NAME,
            tag::CONFLICT_FLAGS,
            tag::CONFLICT_VERSION,
        )
    };
    let replaced = relation::read(
        &package.header,
        tag::OBSOLETE_NAME,
        tag::OBSOLETE_FLAGS,
        tag::OBSOLETE_VERSION,
    );
    for other in others {
        let ours = against(&package.header)
            .iter()
            .chain(&replaced)
            .any(|one| provides(&other.header, one));
        let theirs = against(&other.header)
            .iter()
            .any(|one| provides(&package.header, one));
        if ours || theirs {
            let name = other.header.string(tag::NAME).unwrap_or_default();
            return Err(conflict(
                format!("the package cannot be beside `{name}`"),
                format!("remove {name} first"),
            ));
        }
    }
    Ok(())
}

fn provides(header: &Header, need: &Dependency<'_>) -> bool {
    relation::provides(header).iter().any(|one| meets(one, need))
}

/// A file of another package is not ours to overwrite, unless both ship the same.
fn check_ownership(package: &RpmPackage, others: &[Installed]) -> Result<(), InstallError> {
    let names: BTreeSet<&str> = package.files.keys().map(RootPath::name).collect();
    for other in others {
        if !other
            .header
            .strings(tag::BASE_NAMES)
            .iter()
            .any(|name| names.contains(name))
        {
            continue;
        }
        // A record that rpm itself wrote; one that cannot be read says nothing about our paths.
        let Ok(theirs) = files(&other.header) else {
            continue;
        };
        for (path, info) in &package.files {
            let Some(their) = theirs.get(path) else { continue };
            let is_shared = info.mode & KIND == DIR && their.mode & KIND == DIR;
            let is_same = (info.mode, &info.digest, &info.link) == (their.mode, &their.digest, &their.link);
            if !is_shared && !is_same && !their.is_ghost() {
                let owner = other.header.string(tag::NAME).unwrap_or_default();
                return Err(conflict(
                    format!("`{path}` belongs to the package `{owner}`"),
                    format!("remove the package {owner} first"),
                ));
            }
        }
    }
    Ok(())
}

/// One installation.
struct Work<'a> {
    root: &'a Root,
    package: &'a RpmPackage,
    old_files: BTreeMap<RootPath, FileInfo>,
    old_algorithm: Option<u32>,
    owners: Owners,
    set: &'a mut ChangeSet,
    kept: Vec<Kept>,
}

impl Work<'_> {
    fn put(&mut self, member: &Member) -> Result<(), InstallError> {
        let Some(info) = self.package.files.get(&member.path) else {
            return Ok(());
        };
        let perm = Perm {
            mode: member.mode,
            uid: self.owners.user(&info.user)?,
            gid: self.owners.group(&info.group)?,
        };
        let mtime = Some(member.mtime);
        let want = match &member.kind {
            // One that exists, be it through a link such as `/lib -> usr/lib`, stays as it is.
            MemberKind::Dir if self.root.meta(&member.path, Last::Follow)?.is_some() => return Ok(()),
            MemberKind::Dir => Want::Dir { perm, mtime },
            MemberKind::Link(target) => Want::Link {
                target: target.clone(),
                mtime,
            },
            MemberKind::HardLink(to) => Want::HardLink {
                to: self.root.canonical(to, Last::Keep)?,
            },
            MemberKind::File { slice, .. } => Want::File {
                content: Content::Spool(slice.clone()),
                perm,
                mtime: Some((member.mtime, 0)),
            },
        };
        let is_file = matches!(want, Want::File { .. });
        match if is_file {
            self.fate(&member.path, info)?
        } else {
            Fate::Install
        } {
            Fate::Keep => {}
            Fate::Install => {
                self.set.put(self.root, &member.path, OnLink::Replace, want)?;
            }
            Fate::Offer => {
                let offered = self.set.put(
                    self.root,
                    &beside(&member.path, ".rpmnew")?,
                    OnLink::Replace,
                    want,
                )?;
                self.kept.push(Kept {
                    path: member.path.clone(),
                    offered,
                });
            }
            Fate::Save(ending) => {
                self.save(&member.path, ending)?;
                self.set.put(self.root, &member.path, OnLink::Replace, want)?;
            }
        }
        Ok(())
    }

    fn fate(&self, path: &RootPath, info: &FileInfo) -> Result<Fate, InstallError> {
        let old = self.old_files.get(path);
        if !info.is_config() && !old.is_some_and(FileInfo::is_config) {
            return Ok(Fate::Install);
        }
        let ships_same = old.is_some_and(|old| {
            old.digest == info.digest && self.old_algorithm == digest_algorithm(&self.package.header)
        });
        Ok(judge(Situation {
            new: nature(info),
            old: old.map(nature),
            present: self.present(path, info, old)?,
            ships_same,
        }))
    }

    fn present(
        &self,
        path: &RootPath,
        new: &FileInfo,
        old: Option<&FileInfo>,
    ) -> Result<Present, InstallError> {
        match self.root.meta(path, Last::Keep)?.map(|meta| meta.kind) {
            None => return Ok(Present::Absent),
            Some(Kind::File) => {}
            Some(_) => return Ok(Present::Changed),
        }
        let bytes = self.root.read(path, CONFIG_LIMIT)?.unwrap_or_default();
        let digest = |algorithm| -> Result<String, PackageError> {
            let mut hash = Hash::new(algorithm)?;
            hash.update(&bytes);
            Ok(hash.finish())
        };
        if digest(digest_algorithm(&self.package.header))? == new.digest {
            return Ok(Present::AsNew);
        }
        match old {
            Some(old) if digest(self.old_algorithm)? == old.digest => Ok(Present::AsOld),
            _ => Ok(Present::Changed),
        }
    }

    /// Copies what is at `path` to a name beside it.
    fn save(&mut self, path: &RootPath, ending: &str) -> Result<(), InstallError> {
        let saved = beside(path, ending)?;
        let Some(meta) = self.root.meta(path, Last::Keep)? else {
            return Ok(());
        };
        let want = match meta.kind {
            Kind::Link => Want::link(self.root.read_link(path)?.unwrap_or_default()),
            _ => Want::File {
                content: Content::Bytes(self.root.read(path, CONFIG_LIMIT)?.unwrap_or_default()),
                perm: Perm::like(&meta),
                mtime: Some((meta.mtime, meta.mtime_nsec)),
            },
        };
        let saved = self.set.put(self.root, &saved, OnLink::Replace, want)?;
        self.kept.push(Kept {
            path: saved,
            offered: path.clone(),
        });
        Ok(())
    }

    /// Files of the earlier version that the new one does not have go, changed configuration to `.rpmsave`;
    /// directories stay, as they may hold what the agent wrote.
    fn remove_leftovers(&mut self) -> Result<(), InstallError> {
        let old_files = std::mem::take(&mut self.old_files);
        for (path, old) in &old_files {
            if self.package.files.contains_key(path) || old.mode & KIND == DIR || old.is_ghost() {
                continue;
            }
            let place = self.root.canonical(path, Last::Keep)?;
            // On a merged /usr one file may have two names, and a new member may stand there.
            let is_needed = self.set.get(&place).is_some();
            let meta = self.root.meta(&place, Last::Keep)?;
            if is_needed || meta.is_none_or(|meta| meta.kind == Kind::Dir) {
                continue;
            }
            if old.is_config()
                && self.present(path, old, Some(old))? == Present::Changed
                && !self.is_old(path, old)?
            {
                self.save(path, ".rpmsave")?;
            }
            self.set.put(self.root, &place, OnLink::Replace, Want::Absent)?;
        }
        Ok(())
    }

    fn is_old(&self, path: &RootPath, old: &FileInfo) -> Result<bool, InstallError> {
        Ok(matches!(self.root.read_link(path)?, Some(text) if text == old.link))
    }
}

fn nature(info: &FileInfo) -> Nature {
    match (info.is_config(), info.flags & file_flag::NO_REPLACE != 0) {
        (false, _) => Nature::Plain,
        (true, false) => Nature::Config,
        (true, true) => Nature::ConfigNoReplace,
    }
}

fn beside(path: &RootPath, ending: &str) -> Result<RootPath, PackageError> {
    RootPath::new(&format!("{path}{ending}")).map_err(|error| PackageError::Malformed(error.to_string()))
}

/// The tree's own numbers of users and groups.
struct Owners {
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
}

impl Owners {
    fn read(root: &Root) -> Result<Self, IoError> {
        Ok(Self {
            users: numbers(root, "/etc/passwd")?,
            groups: numbers(root, "/etc/group")?,
        })
    }

    fn user(&self, name: &str) -> Result<u32, InstallError> {
        number(&self.users, name, "user")
    }

    fn group(&self, name: &str) -> Result<u32, InstallError> {
        number(&self.groups, name, "group")
    }
}

/// rpm would give the file to root and say so; a tree that lacks an owner is not as the package expects.
fn number(known: &BTreeMap<String, u32>, name: &str, what: &str) -> Result<u32, InstallError> {
    match (name, known.get(name)) {
        ("root", _) => Ok(0),
        (_, Some(number)) => Ok(*number),
        (_, None) => Err(conflict(
            format!("the package has files of the {what} `{name}`, which the tree does not have"),
            format!("add the {what} to the tree first"),
        )),
    }
}

fn numbers(root: &Root, file: &'static str) -> Result<BTreeMap<String, u32>, IoError> {
    let bytes = root
        .read(&RootPath::fixed(file), NAMES_LIMIT)?
        .unwrap_or_default();
    let entry = |line: &str| {
        let mut fields = line.split(':');
        Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
    };
    Ok(String::from_utf8_lossy(&bytes)
        .lines()
        .filter_map(entry)
        .collect())
}

fn put_record(
    root: &Root,
    database: &Database,
    package: &RpmPackage,
    old: Option<&Installed>,
    at: u32,
    set: &mut ChangeSet,
) -> Result<(), InstallError> {
    // The very same package: its record is right as it is.
    let digest = package.signature.string(tag::SHA1_HEADER);
    if digest.is_some() && old.and_then(|old| old.header.string(tag::SHA1_HEADER)) == digest {
        return Ok(());
    }
    // What rpm calls the color of a machine that runs 32-bit programs, too.
    let color = if package.header.string(tag::ARCH) == Some("x86_64") {
        3
    } else {
        0
    };
    let record = Header::parse(&package.header.installed(&package.signature, at, color));
    let record = record.map_err(PackageError::Malformed)?;
    let remove: Vec<u32> = old.map(|old| old.number).into_iter().collect();
    let bytes = database.replaced(root, &remove, Some(&record))?;
    Ok(set.edit(root, &database.path(), bytes, 0o644)?)
}
