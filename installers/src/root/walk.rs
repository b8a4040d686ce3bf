//! Resolves a path component by component, as a process chrooted in the root would see it.
//!
//! The walker serves every kernel and is the only one that knows the canonical place of a path whose
//! tail does not exist yet; `openat2` answers the plain reads where the kernel has it.

use std::collections::VecDeque;
use std::io;

use super::platform::{Dir, too_many_links};
use super::{Kind, Meta, RootPath};

/// Linux's own limit on links in one path.
const HOPS: usize = 40;

/// What to do when the last component is a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    /// Go on to what it points at, inside the root.
    Follow,
    /// Stay at the link itself.
    Keep,
}

/// Where a path really is.
#[derive(Debug)]
pub(super) struct Located {
    /// The deepest directory that exists.
    pub(super) dir: Dir,
    /// The canonical path: no component but the last is a link.
    pub(super) path: RootPath,
    /// What stands there; none when it does not exist.
    pub(super) meta: Option<Meta>,
    /// The name to use with `dir`; none for the root itself, or when a directory on the way is missing.
    pub(super) name: Option<String>,
}

/// Directories from the root down to where the walk stands. `..` pops, so it cannot leave the root even
/// when somebody moves a directory meanwhile.
struct Stack {
    dirs: Vec<Dir>,
    names: Vec<String>,
}

impl Stack {
    fn top(&self) -> &Dir {
        // The first, the root, is never popped.
        &self.dirs[self.dirs.len() - 1]
    }

    fn pop(&mut self) {
        if self.names.pop().is_some() {
            self.dirs.pop();
        }
    }

    fn clear(&mut self) {
        self.dirs.truncate(1);
        self.names.clear();
    }
}

/// Walks `path` from `root`.
pub(super) fn walk(root: &Dir, path: &RootPath, last: Last) -> io::Result<Located> {
    let mut todo: VecDeque<String> = path.components().map(str::to_owned).collect();
    let mut stack = Stack {
        dirs: vec![root.try_clone()?],
        names: Vec::new(),
    };
    let mut hops = 0;
    while let Some(part) = todo.pop_front() {
        match part.as_str() {
            "" | "." => continue,
            ".." => {
                stack.pop();
                continue;
            }
            _ => {}
        }
        let Some(meta) = stack.top().meta(&part)? else {
            return absent(stack, part, todo);
        };
        match meta.kind {
            Kind::Link if !(todo.is_empty() && last == Last::Keep) => {
                hops += 1;
                if hops > HOPS {
                    return Err(too_many_links());
                }
                enter_link(&mut stack, &part, &mut todo)?;
            }
            Kind::Dir => {
                let dir = stack.top().enter(&part)?;
                stack.dirs.push(dir);
                stack.names.push(part);
            }
            _ if todo.is_empty() => return found(stack, part, Some(meta)),
            _ => return Err(io::ErrorKind::NotADirectory.into()),
        }
    }
    at_directory(stack)
}

fn enter_link(stack: &mut Stack, name: &str, todo: &mut VecDeque<String>) -> io::Result<()> {
    let target = stack.top().read_link(name)?;
    if target.starts_with('/') {
        stack.clear();
    }
    for part in target.split('/').rev() {
        todo.push_front(part.to_owned());
    }
    Ok(())
}

fn canonical(names: &[String]) -> io::Result<RootPath> {
    RootPath::new(&format!("/{}", names.join("/")))
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn found(mut stack: Stack, name: String, meta: Option<Meta>) -> io::Result<Located> {
    let mut names = std::mem::take(&mut stack.names);
    names.push(name.clone());
    let dir = stack.top().try_clone()?;
    Ok(Located {
        dir,
        path: canonical(&names)?,
        meta,
        name: Some(name),
    })
}

/// The walk ended on a directory: it is named by its parent, so that it can be changed as well as read.
fn at_directory(mut stack: Stack) -> io::Result<Located> {
    let path = canonical(&stack.names)?;
    let meta = Some(stack.top().own_meta()?);
    let name = stack.names.last().cloned();
    stack.pop();
    Ok(Located {
        dir: stack.top().try_clone()?,
        path,
        meta,
        name,
    })
}

fn absent(stack: Stack, part: String, todo: VecDeque<String>) -> io::Result<Located> {
    if todo.iter().any(|part| part == "..") {
        return Err(io::ErrorKind::NotFound.into());
    }
    let rest: Vec<String> = todo
        .into_iter()
        .filter(|part| !part.is_empty() && part != ".")
        .collect();
    if rest.is_empty() {
        return found(stack, part, None);
    }
    let mut names = stack.names.clone();
    names.push(part);
    names.extend(rest);
    Ok(Located {
        dir: stack.top().try_clone()?,
        path: canonical(&names)?,
        meta: None,
        name: None,
    })
}
