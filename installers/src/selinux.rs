//! SELinux labels for new files, from the target's own policy: what `restorecon` would set at the first boot.
//!
//! Reads `file_contexts` as libselinux does: patterns over whole paths, literal ones before patterns, later lines
//! before earlier ones. Writing the labels is the transaction's work.

use std::cell::OnceCell;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::error::IoError;
use crate::root::{Kind, Root, RootPath};

/// The attribute that carries a label.
pub const ATTRIBUTE: &str = "security.selinux";
/// Makes the first boot label everything.
pub const RELABEL: &str = "/.autorelabel";
const CONFIG: &str = "/etc/selinux/config";
const LIMIT: usize = 64 * 1024 * 1024;
/// What ends the literal beginning of a pattern.
const META: [char; 10] = ['.', '^', '$', '?', '*', '+', '|', '[', '(', '{'];

/// A tree's SELinux.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selinux {
    /// `enforcing` or `permissive`.
    pub mode: String,
    /// `targeted`, `minimum`, `mls`, …
    pub policy: String,
    /// Whether the policy says how files are labelled.
    pub has_contexts: bool,
}

/// What is switched on in `root`; none where SELinux is off or absent.
pub fn look(root: &Root) -> Result<Option<Selinux>, IoError> {
    let Some(bytes) = root.read(&RootPath::fixed(CONFIG), LIMIT)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    let value = |name: &str| {
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        let mut values = lines.filter_map(|line| line.split_once('=').filter(|(key, _)| key.trim() == name));
        values
            .next_back()
            .map(|(_, value)| value.trim().to_ascii_lowercase())
    };
    let mode = value("SELINUX").filter(|mode| mode == "enforcing" || mode == "permissive");
    let (Some(mode), Some(policy)) = (mode, value("SELINUXTYPE")) else {
        return Ok(None);
    };
    // It becomes part of a path.
    if policy.is_empty()
        || !policy
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    {
        return Ok(None);
    }
    let has_contexts = read(root, &policy, "")?.is_some_and(|text| !text.trim().is_empty());
    Ok(Some(Selinux {
        mode,
        policy,
        has_contexts,
    }))
}

fn read(root: &Root, policy: &str, ending: &str) -> Result<Option<String>, IoError> {
    let path = format!("/etc/selinux/{policy}/contexts/files/file_contexts{ending}");
    let Ok(path) = RootPath::new(&path) else {
        return Ok(None);
    };
    Ok(root
        .read(&path, LIMIT)?
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// One line of `file_contexts`.
#[derive(Debug)]
struct Line {
    pattern: String,
    /// Literal beginning, by which most lines are passed over.
    stem: String,
    is_literal: bool,
    kind: Option<Kind>,
    /// None: the path shall have no label of its own.
    label: Option<String>,
    regex: OnceCell<Option<Regex>>,
}

/// A policy's answers.
#[derive(Debug)]
pub struct Labels {
    lines: Vec<Line>,
    /// Other names of directories, in two rounds.
    aliases: [Vec<(String, String)>; 2],
}

impl Labels {
    /// The labels of `policy` in `root`.
    pub fn read(root: &Root, policy: &str) -> Result<Self, IoError> {
        let mut lines = Vec::new();
        for ending in ["", ".homedirs", ".local"] {
            let text = read(root, policy, ending)?.unwrap_or_default();
            lines.extend(text.lines().filter_map(parse));
        }
        // Literal paths win over patterns; the sort is stable.
        lines.sort_by_key(|line| line.is_literal);
        let alias = |ending| -> Result<Vec<_>, IoError> {
            let text = read(root, policy, ending)?.unwrap_or_default();
            Ok(text.lines().filter_map(parse_alias).collect())
        };
        Ok(Self {
            lines,
            aliases: [alias(".subs")?, alias(".subs_dist")?],
        })
    }

    /// The label of a new `kind` at `path`.
    pub fn of(&self, path: &RootPath, kind: Kind) -> Option<&str> {
        let mut name = path.as_str().to_owned();
        for round in &self.aliases {
            let found = round.iter().find_map(|(from, to)| {
                let rest = name.strip_prefix(from.as_str())?;
                (rest.is_empty() || rest.starts_with('/')).then(|| format!("{to}{rest}"))
            });
            name = found.unwrap_or(name);
        }
        let line = self.lines.iter().rev().find(|line| line.meets(&name, kind))?;
        line.label.as_deref()
    }
}

impl Line {
    fn meets(&self, name: &str, kind: Kind) -> bool {
        if self.kind.is_some_and(|own| own != kind) || !name.starts_with(&self.stem) {
            return false;
        }
        if self.is_literal {
            return self.stem == name;
        }
        let compile = || Regex::new(&format!("^(?s:{})$", self.pattern)).ok();
        self.regex
            .get_or_init(compile)
            .as_ref()
            .is_some_and(|regex| regex.is_match(name))
    }
}

fn parse(line: &str) -> Option<Line> {
    let mut fields = line.split_whitespace();
    let pattern = fields.next().filter(|pattern| pattern.starts_with('/'))?;
    let (kind, label) = match (fields.next()?, fields.next()) {
        (kind, Some(label)) => (Some(file_kind(kind)?), label),
        (label, None) => (None, label),
    };
    // A backslash before a sign stands for the sign: `/usr/bin/g\+\+` is a literal.
    let mut stem = String::new();
    let mut signs = pattern.chars().peekable();
    let mut is_literal = true;
    while let Some(sign) = signs.next() {
        let literal = match sign {
            '\\' => signs.next().filter(|next| !next.is_ascii_alphanumeric()),
            sign if META.contains(&sign) => None,
            sign => Some(sign),
        };
        let is_counted = matches!(signs.peek(), Some('?' | '*' | '{'));
        match literal {
            Some(literal) if !is_counted => stem.push(literal),
            _ => {
                is_literal = false;
                break;
            }
        }
    }
    // With an alternative outside brackets the beginning is not everybody's.
    if pattern.contains('|') && !pattern.contains('(') {
        stem.clear();
    }
    Some(Line {
        pattern: pattern.to_owned(),
        stem,
        is_literal,
        kind,
        label: (label != "<<none>>").then(|| label.to_owned()),
        regex: OnceCell::new(),
    })
}

fn file_kind(field: &str) -> Option<Kind> {
    Some(match field {
        "--" => Kind::File,
        "-d" => Kind::Dir,
        "-l" => Kind::Link,
        "-b" | "-c" | "-p" | "-s" => Kind::Other,
        _ => return None,
    })
}

fn parse_alias(line: &str) -> Option<(String, String)> {
    let mut fields = line.split_whitespace();
    let from = fields.next().filter(|from| from.starts_with('/'))?;
    Some((from.to_owned(), fields.next()?.to_owned()))
}
