//! Dependencies of an rpm against what a tree has.

use std::cmp::Ordering;

use super::header::Header;
use super::tag::{self, sense};
use super::version::compare_evr;

/// Features of rpm itself that packages may ask for and the engine has: it reads those payloads and headers.
const FEATURES: [&str; 14] = [
    "CompressedFileNames",
    "PayloadFilesHavePrefix",
    "FileDigests",
    "LargeFiles",
    "PayloadIsBzip2",
    "PayloadIsLzma",
    "PayloadIsXz",
    "PayloadIsZstd",
    "PartialHardlinkSets",
    "VersionedDependencies",
    "ScriptletInterpreterArgs",
    "BuiltinLuaScripts",
    "TildeInVersions",
    "CaretInVersions",
];

/// One dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependency<'a> {
    /// A package, a capability or, with a slash first, a file.
    pub name: &'a str,
    /// See [`sense`].
    pub flags: u32,
    /// `[EPOCH:]VERSION[-RELEASE]`; empty for any.
    pub version: &'a str,
}

impl std::fmt::Display for Dependency<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)?;
        if self.flags & sense::ANY == 0 || self.version.is_empty() {
            return Ok(());
        }
        let signs = [(sense::LESS, '<'), (sense::GREATER, '>'), (sense::EQUAL, '=')];
        let signs: String = signs
            .iter()
            .filter(|(bit, _)| self.flags & bit != 0)
            .map(|(_, sign)| sign)
            .collect();
        write!(f, " {signs} {}", self.version)
    }
}

/// The dependencies of a header in three parallel tags.
pub fn read(header: &Header, names: u32, flags: u32, versions: u32) -> Vec<Dependency<'_>> {
    let (flags, versions) = (header.numbers(flags), header.strings(versions));
    let names = header.strings(names).into_iter().enumerate();
    names
        .map(|(index, name)| Dependency {
            name,
            flags: flags.get(index).copied().unwrap_or(0),
            version: versions.get(index).copied().unwrap_or(""),
        })
        .collect()
}

/// What the package needs of the tree: not of rpm, and not of itself.
pub fn needs(header: &Header) -> Result<Vec<Dependency<'_>>, String> {
    let all = read(
        header,
        tag::REQUIRE_NAME,
        tag::REQUIRE_FLAGS,
        tag::REQUIRE_VERSION,
    );
    let own = provides(header);
    let mut needs = Vec::new();
    for need in all {
        let feature = need
            .name
            .strip_prefix("rpmlib(")
            .and_then(|rest| rest.strip_suffix(')'));
        match feature {
            Some(feature) if FEATURES.contains(&feature) => {}
            Some(_) => return Err(format!("it needs {need}, which this engine does not have")),
            None if need.flags & sense::CONFIG != 0 => {}
            None if own.iter().any(|one| meets(one, &need)) => {}
            None => needs.push(need),
        }
    }
    Ok(needs)
}

/// What a header provides, its own name among it.
pub fn provides(header: &Header) -> Vec<Dependency<'_>> {
    read(
        header,
        tag::PROVIDE_NAME,
        tag::PROVIDE_FLAGS,
        tag::PROVIDE_VERSION,
    )
}

/// Whether `one` of a package meets `need`: their ranges of versions overlap.
pub fn meets(one: &Dependency<'_>, need: &Dependency<'_>) -> bool {
    if one.name != need.name {
        return false;
    }
    let is_any = |side: &Dependency<'_>| side.flags & sense::ANY == 0 || side.version.is_empty();
    if is_any(one) || is_any(need) {
        return true;
    }
    let both = |bit| one.flags & bit != 0 && need.flags & bit != 0;
    match compare_evr(one.version, need.version) {
        Ordering::Less => one.flags & sense::GREATER != 0 || need.flags & sense::LESS != 0,
        Ordering::Greater => one.flags & sense::LESS != 0 || need.flags & sense::GREATER != 0,
        Ordering::Equal => both(sense::EQUAL) || both(sense::LESS) || both(sense::GREATER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_overlap_as_rpm_says() {
        let one = |flags, version| Dependency {
            name: "a",
            flags,
            version,
        };
        let cases = [
            (one(0, ""), one(sense::GREATER, "9"), true),
            (
                one(sense::EQUAL, "2-1"),
                one(sense::GREATER | sense::EQUAL, "2"),
                true,
            ),
            (one(sense::EQUAL, "2-1"), one(sense::GREATER, "2-1"), false),
            (
                one(sense::EQUAL, "1"),
                one(sense::GREATER | sense::EQUAL, "2"),
                false,
            ),
            (one(sense::EQUAL, "1"), one(sense::LESS, "2"), true),
            (one(sense::EQUAL, "1:1"), one(sense::LESS, "2"), false),
        ];
        for (have, need, wanted) in cases {
            assert_eq!(meets(&have, &need), wanted, "{have} {need}");
        }
        assert!(!meets(
            &Dependency {
                name: "b",
                flags: 0,
                version: ""
            },
            &one(0, "")
        ));
    }
}
