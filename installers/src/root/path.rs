//! `RootPath`: an absolute path inside a root. Not a host path, and no way to turn one into the other.

#[cfg(unix)]
use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

#[cfg(unix)]
use super::name::to_raw;
use super::name::{raw_len, show};

/// Linux's PATH_MAX and NAME_MAX; a longer path cannot be opened anyway.
const PATH_LIMIT: usize = 4095;
const NAME_LIMIT: usize = 255;

/// An absolute path inside the target root, without `.`, `..`, empty components or control bytes; see [`super::name`] for
/// names that are no UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RootPath(String);

/// Why a text is no `RootPath`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a path inside the root: {why}")]
pub struct PathError {
    text: String,
    why: &'static str,
}

impl RootPath {
    /// Parses an absolute path; a trailing slash is dropped.
    pub fn new(text: &str) -> Result<Self, PathError> {
        match fault(text) {
            Some(why) => Err(PathError {
                text: text.chars().take(120).collect(),
                why,
            }),
            None => Ok(Self(trim(text).to_owned())),
        }
    }

    /// A path that is written in our own source.
    pub fn fixed(text: &'static str) -> Self {
        debug_assert_eq!(fault(text), None, "{text}");
        Self(text.to_owned())
    }

    /// The root itself.
    pub fn top() -> Self {
        Self("/".to_owned())
    }

    /// This path and one more component.
    pub fn join(&self, name: &str) -> Result<Self, PathError> {
        let base = if self.0 == "/" { "" } else { &self.0 };
        if name.contains('/') || name.is_empty() {
            return Err(PathError {
                text: name.to_owned(),
                why: "a single name is needed",
            });
        }
        Self::new(&format!("{base}/{name}"))
    }

    /// The directory part; none for the root itself.
    pub fn parent(&self) -> Option<Self> {
        match self.0.rfind('/') {
            _ if self.0 == "/" => None,
            Some(0) => Some(Self::top()),
            Some(at) => Some(Self(self.0[..at].to_owned())),
            None => None,
        }
    }

    /// Whether it lies in the directory `dir`, at any depth.
    pub fn is_below(&self, dir: &Self) -> bool {
        let rest = self.0.strip_prefix(dir.0.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
    }

    /// The last component; empty for the root itself.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or("")
    }

    /// The components from the top down.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|part| !part.is_empty())
    }

    /// The text, beginning with `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As the kernel wants it relative to the root's descriptor.
    #[cfg(unix)]
    pub(super) fn relative(&self) -> Cow<'_, [u8]> {
        match self.0.trim_start_matches('/') {
            "" => to_raw("."),
            rest => to_raw(rest),
        }
    }

    /// The last component as the kernel knows it.
    #[cfg(unix)]
    pub(crate) fn raw_name(&self) -> Cow<'_, [u8]> {
        to_raw(self.name())
    }
}

fn trim(text: &str) -> &str {
    match text.trim_end_matches('/') {
        "" => "/",
        rest => rest,
    }
}

fn fault(text: &str) -> Option<&'static str> {
    if !text.starts_with('/') {
        return Some("it must begin with `/`");
    }
    if raw_len(text) > PATH_LIMIT {
        return Some("it is longer than 4095 bytes");
    }
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Some("it holds a control character");
    }
    let inner = trim(text).strip_prefix('/').unwrap_or("");
    if inner.is_empty() {
        return None;
    }
    inner.split('/').find_map(|part| match part {
        "" => Some("it has an empty component"),
        "." | ".." => Some("it has a `.` or `..` component"),
        part if raw_len(part) > NAME_LIMIT => Some("a component is longer than 255 bytes"),
        _ => None,
    })
}

impl fmt::Display for RootPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(&self.0, f)
    }
}

impl TryFrom<String> for RootPath {
    type Error = PathError;
    fn try_from(text: String) -> Result<Self, PathError> {
        Self::new(&text)
    }
}

impl From<RootPath> for String {
    fn from(path: RootPath) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_could_leave_the_root() {
        for text in [
            "", "etc", "/../etc", "/etc/..", "/a//b", "/a/./b", "/a\nb", "//a", "/a\0",
        ] {
            assert!(RootPath::new(text).is_err(), "{text:?}");
        }
        assert!(RootPath::new(&format!("/{}", "x".repeat(256))).is_err());
    }

    #[test]
    fn takes_paths_apart() {
        let path = RootPath::new("/etc/ssl/").expect("valid");
        assert_eq!(path.as_str(), "/etc/ssl");
        assert_eq!(path.name(), "ssl");
        assert_eq!(path.parent().map(|p| p.to_string()), Some("/etc".to_owned()));
        assert_eq!(
            RootPath::new("/etc").expect("valid").parent(),
            Some(RootPath::top())
        );
        assert_eq!(RootPath::top().parent(), None);
        let below = |one: &str, dir: &str| {
            RootPath::new(one)
                .expect(one)
                .is_below(&RootPath::new(dir).expect(dir))
        };
        assert!(below("/etc/ssl", "/etc") && below("/etc", "/") && below("/a/b/c", "/a"));
        assert!(!below("/etc", "/etc") && !below("/etcetera", "/etc") && !below("/", "/"));
        assert_eq!(RootPath::top().join("etc").expect("valid").as_str(), "/etc");
        assert!(path.join("..").is_err() && path.join("a/b").is_err());
    }
}
