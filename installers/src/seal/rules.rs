//! What the rules come to in a tree: which paths go, which are emptied or lose lines. Reads only.

use std::collections::BTreeSet;

use ssmbake_manifests::{Catalog, SealAction, SealProfile, SealRule};

use super::{Item, lines};
use crate::error::IoError;
use crate::probe::Facts;
use crate::root::{Kind, Last, Meta, Root, RootPath};
use crate::txn::{ChangeSet, Content, Perm, Want};

/// Of a file that loses lines; nobody has more keys.
const LINES_LIMIT: usize = 4 * 1024 * 1024;

/// What all rules come to.
#[derive(Default)]
pub(super) struct Sealed {
    pub(super) changes: ChangeSet,
    pub(super) secrets: BTreeSet<RootPath>,
    /// Files that another rule leaves in place, empty or without some lines.
    kept: BTreeSet<RootPath>,
    /// What links lead to that go.
    targets: Vec<(RootPath, Meta)>,
}

pub(super) fn look(
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
        if is_another_s(root, rule)? {
            continue;
        }
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

/// Whether what the rule names is somebody's own here.
fn is_another_s(root: &Root, rule: &SealRule) -> Result<bool, IoError> {
    for pattern in &rule.unless {
        for path in matches(root, pattern)? {
            let meta = root.meta_if_reached(&path, Last::Follow)?;
            if meta.is_some_and(|meta| meta.kind == Kind::File && meta.size > 0) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

impl Sealed {
    /// Asks for what `rule` says of `path`; the number of paths that change.
    fn add(&mut self, root: &Root, rule: &SealRule, path: &RootPath) -> Result<usize, IoError> {
        // A file in place of a directory on the way is as good as nothing there; only then is there a place to resolve.
        let Some(meta) = root.meta_if_reached(path, Last::Keep)? else {
            return Ok(0);
        };
        let mut count = match rule.action {
            SealAction::Remove => self.gone(root, rule, root.canonical(path, Last::Keep)?, &meta)?,
            // A link to a directory elsewhere in the tree is followed: /var/log may be one.
            SealAction::Empty => self.below(root, rule, path, Directories::Remove)?,
            SealAction::RemoveFiles => self.below(root, rule, path, Directories::Keep)?,
            SealAction::Truncate | SealAction::DropLines | SealAction::DropSections => {
                self.shorter(root, rule, path)?
            }
        };
        while let Some((place, meta)) = self.targets.pop() {
            count += self.gone(root, rule, place, &meta)?;
        }
        Ok(count)
    }

    /// The file stays, with less in it: the very file that programs find there, also through a link.
    fn shorter(&mut self, root: &Root, rule: &SealRule, path: &RootPath) -> Result<usize, IoError> {
        // Of one with sections there may be a rule for the whole.
        let stays = rule.action != SealAction::DropSections;
        if stays {
            self.kept.insert(root.canonical(path, Last::Keep)?);
        }
        let meta = root.meta_if_reached(path, Last::Follow)?;
        let Some(meta) = meta.filter(|meta| meta.kind == Kind::File && meta.size > 0) else {
            return Ok(0);
        };
        let place = root.canonical(path, Last::Follow)?;
        if stays {
            self.kept.insert(place.clone());
        }
        let mut new = Vec::new();
        if rule.pattern.is_some() {
            let old = root.read(&place, LINES_LIMIT)?.unwrap_or_default();
            new = lines::without(&old, rule);
            if new == old {
                return Ok(0);
            }
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

    /// What stands at the canonical `place` goes, with all below it; what it leads to is noted.
    fn gone(&mut self, root: &Root, rule: &SealRule, place: RootPath, meta: &Meta) -> Result<usize, IoError> {
        let count = self.absent(rule, place.clone());
        match meta.kind {
            Kind::Dir => Ok(count + self.below(root, rule, &place, Directories::Remove)?),
            Kind::Link if rule.follow && count > 0 => {
                self.targets.extend(target(root, &place, meta)?);
                Ok(count)
            }
            _ => Ok(count),
        }
    }

    fn absent(&mut self, rule: &SealRule, place: RootPath) -> usize {
        let is_absent = matches!(self.changes.get(&place), Some(Want::Absent));
        if is_absent || self.kept.contains(&place) {
            return 0;
        }
        if rule.secret {
            self.secrets.insert(place.clone());
        }
        self.changes.put_at(place, Want::Absent);
        1
    }

    /// However deep: what is too deep to be named is an error.
    fn below(
        &mut self,
        root: &Root,
        rule: &SealRule,
        top: &RootPath,
        directories: Directories,
    ) -> Result<usize, IoError> {
        let own = root.meta_if_reached(top, Last::Follow)?;
        let Some(own) = own.filter(|meta| meta.kind == Kind::Dir) else {
            return Ok(0);
        };
        let mut count = 0;
        let mut todo = vec![root.canonical(top, Last::Follow)?];
        while let Some(dir) = todo.pop() {
            for entry in root.read_dir(&dir)?.unwrap_or_default() {
                let place = named(&dir, &entry.name)?;
                match root.meta(&place, Last::Keep)? {
                    None => {}
                    // Another file system is mounted there: it is not the image's.
                    Some(meta) if meta.id.0 != own.id.0 => {}
                    Some(meta) if meta.kind == Kind::Dir => {
                        if directories == Directories::Remove {
                            count += self.absent(rule, place.clone());
                        }
                        todo.push(place);
                    }
                    Some(meta) => count += self.gone(root, rule, place, &meta)?,
                }
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

/// An entry of the canonical `dir`.
fn named(dir: &RootPath, name: &str) -> Result<RootPath, IoError> {
    dir.join(name)
        .map_err(|error| IoError::new("look below", dir, std::io::Error::other(error)))
}

/// The file or directory that the link at the canonical `place` leads to. Who may make links in a directory of their own
/// cannot have another's files removed, nor the directory that they live in, nor one at the top of the tree.
fn target(root: &Root, place: &RootPath, link: &Meta) -> Result<Option<(RootPath, Meta)>, IoError> {
    let Some(meta) = root.meta_if_reached(place, Last::Follow)? else {
        return Ok(None);
    };
    let there = root.canonical(place, Last::Follow)?;
    let owner = root
        .meta(&RootPath::top(), Last::Follow)?
        .map_or(0, |top| top.uid);
    let is_meant = [0, owner, meta.uid].contains(&link.uid);
    let is_apart = match meta.kind {
        Kind::File => true,
        Kind::Dir => there.components().count() > 1 && !place.is_below(&there),
        _ => false,
    };
    Ok((is_meant && is_apart).then_some((there, meta)))
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
            let is_dir = root
                .meta_if_reached(&dir, Last::Follow)?
                .is_some_and(|meta| meta.kind == Kind::Dir);
            if !is_dir {
                continue;
            }
            let entries = root.read_dir(&dir)?.unwrap_or_default();
            for entry in entries.iter().filter(|entry| is_match(part, &entry.name)) {
                next.push(named(&dir, &entry.name)?);
            }
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
}
