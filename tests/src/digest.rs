//! Digests of whole trees, to compare them before and after.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

/// What counts as equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// Modification times count.
    Count,
    /// They do not.
    Ignored,
}

/// Relative path → everything that is to be compared, as text.
pub type Tree = BTreeMap<String, String>;

/// The digest of a tree; extended attributes included.
pub fn tree(root: &Path, times: Times) -> Tree {
    let mut found = Tree::new();
    collect(root, root, times, &mut found);
    found
}

fn collect(root: &Path, dir: &Path, times: Times, found: &mut Tree) {
    for entry in std::fs::read_dir(dir).expect("readable") {
        let path = entry.expect("entry").path();
        let meta = path.symlink_metadata().expect("metadata");
        let name = path
            .strip_prefix(root)
            .expect("below")
            .to_string_lossy()
            .into_owned();
        let content = match meta.file_type() {
            kind if kind.is_symlink() => std::fs::read_link(&path)
                .expect("link")
                .to_string_lossy()
                .into_owned(),
            kind if kind.is_file() => format!("{:x?}", Sha256::digest(std::fs::read(&path).expect("file"))),
            kind => format!("{kind:?}"),
        };
        let time = if times == Times::Count {
            format!("{}.{:09}", meta.mtime(), meta.mtime_nsec())
        } else {
            String::new()
        };
        let line = format!(
            "{:o} {}:{} {} {time} {content}{}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.nlink(),
            xattrs(&path)
        );
        found.insert(name, line);
        if meta.is_dir() {
            collect(root, &path, times, found);
        }
    }
}

fn xattrs(path: &Path) -> String {
    let mut names = vec![0_u8; 4096];
    let used = rustix::fs::llistxattr(path, &mut names).unwrap_or(0);
    names[..used]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0_u8; 4096];
            let size = rustix::fs::lgetxattr(path, name, &mut value).unwrap_or(0);
            format!(" {}={:x?}", String::from_utf8_lossy(name), &value[..size])
        })
        .collect()
}

/// The paths that differ, with `-`, `+` or `~`.
pub fn diff(before: &Tree, after: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, old) in before {
        match after.get(path) {
            None => lines.push(format!("- {path}")),
            Some(new) if new != old => lines.push(format!("~ {path}")),
            Some(_) => {}
        }
    }
    lines.extend(
        after
            .keys()
            .filter(|path| !before.contains_key(*path))
            .map(|path| format!("+ {path}")),
    );
    lines.sort();
    lines
}
